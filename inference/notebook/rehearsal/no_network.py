"""Refuse connections to other machines; for where no network namespace can be made.

Copied into the environment that is rehearsed, and imported by each of its Pythons.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Any

_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex
_getaddrinfo = socket.getaddrinfo


def _refused(host: object) -> bool:
    try:
        return not ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return host not in ("localhost", "", None)


def _check(host: object) -> None:
    if _refused(host):
        raise OSError(errno.ENETUNREACH, "Network is unreachable")


def connect(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6):
        _check(address[0])
    _connect(self, address)


def connect_ex(self: socket.socket, address: Any) -> int:
    if self.family in (socket.AF_INET, socket.AF_INET6) and _refused(address[0]):
        return errno.ENETUNREACH
    return _connect_ex(self, address)


def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    if _refused(name):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _getaddrinfo(host, *arguments, **options)


for name, guard in {"connect": connect, "connect_ex": connect_ex}.items():
    setattr(socket.socket, name, guard)
socket.getaddrinfo = getaddrinfo

"""What a user can get wrong, as exceptions that say how to fix it.

A program prints such an exception as one message and exits with code 2; anything else that
escapes is a fault of the kit and keeps its traceback.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

# A full disk has three faces: no blocks left, quota reached, file size limit reached.
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_OTHER_KIND: dict[type[OSError], str] = {
    IsADirectoryError: "this is a folder, not a file",
    NotADirectoryError: "a part of this path is a file, not a folder",
    FileExistsError: "a file exists where a folder should be created",
}


class KitError(Exception):
    """A fault the user can fix.

    Parameters
    ----------
    what : what is wrong, in the user's words.
    where : file, row, column or key.
    expected : what valid input looks like.
    cure : what to do next.
    """

    def __init__(self, what: str, *, where: str | Path = "", expected: str = "", cure: str = "") -> None:
        self.what, self.where, self.expected, self.cure = what, str(where), expected, cure
        lines = [f"{self.where}: {what}" if self.where else what]
        if expected:
            lines.append(f"  expected: {expected}")
        if cure:
            lines.append(f"  do this:  {cure}")
        super().__init__("\n".join(lines))


def show_size(size: float) -> str:
    """Bytes in human-readable form, in powers of 1000."""
    if size >= 1e8:
        return f"{size / 1e9:.2f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e5 or size == 0 else f"{size / 1e3:.1f} kB"


class InputError(KitError):
    """A file the user gave cannot be read as what it should be."""


class ArtifactError(KitError):
    """Something the kit wrote is damaged, incomplete, or belongs to other inputs."""


class ConfigError(KitError):
    """A setting or a flag has a value that cannot work."""


class CheckpointError(KitError):
    """A model cannot be found, or is not what its name promises."""


class LimitError(KitError):
    """A stage would need more memory, disk or time than it was given."""


def run_program(main: Callable[[], int]) -> int:
    """Run a program's ``main``; turn what the user can fix into one message and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows a question mark instead of a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        with _terminate_as_interrupted():
            return main()
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt as stop:
        print(
            "interrupted: only complete files were written. Rerun the same command: builds, contexts, "
            "submissions and training runs resume where they stopped.",
            file=sys.stderr,
        )
        return EXIT_TERMINATED if isinstance(stop, _Terminated) else EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone; point stdout at nothing so that exit stays silent.
        sys.stdout = None
        return 0
    except OSError as error:
        print(f"error: {as_fault(error)}", file=sys.stderr)
    return EXIT_USER_ERROR


class _Terminated(KeyboardInterrupt):
    """SIGTERM, by which schedulers and ``kill`` end a program."""


@contextmanager
def _terminate_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end a program as Ctrl-C does: partial work is removed, and a message says so."""

    def terminate(number: int, frame: object) -> None:
        raise _Terminated

    before = signal.getsignal(signal.SIGTERM)
    # A program started to ignore it keeps ignoring it; among several processes, the launcher reports.
    alone = "RANK" not in os.environ and threading.current_thread() is threading.main_thread()
    if before is not signal.SIG_DFL or not alone:
        yield
        return
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def as_fault(error: OSError) -> KitError:
    """The user's view of a failing file system; an OSError without an errno is re-raised as is."""
    where = error.filename or ""
    if error.errno in FULL_DISK:
        return LimitError(
            "the disk is full",
            where=where,
            cure="free some space or write to another disk, and rerun the same command: builds and the "
            "contexts stage resume from their files next to OUT; no incomplete file has its final name",
        )
    if isinstance(error, PermissionError):
        return InputError("no permission to read or write here", where=where, cure="choose another path")
    if isinstance(error, FileNotFoundError):
        return InputError("no such file or folder", where=where, cure="check the spelling of the path")
    for kind, what in _OTHER_KIND.items():
        if isinstance(error, kind):
            return InputError(what, where=where, cure="check the spelling of the path, or choose another")
    if error.errno == errno.ELOOP:
        return InputError("this link leads back to itself", where=where, cure="pass the file itself")
    if error.errno is None:
        raise error
    return InputError(
        f"the system refused this: {error.strerror}",
        where=where,
        cure="choose another path, or check the disk",
    )

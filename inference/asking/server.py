"""A page of this machine alone: Python's own server, on 127.0.0.1, behind an address that cannot be guessed.

Another machine cannot connect. A site that is open in the same browser does not know the address; one whose
name is made to point here (DNS rebinding) sends its own name as Host, and is refused.
"""

from __future__ import annotations

import secrets
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from inference.asking.page import Typed, ask_page
from inference.asking.session import Answer, Session
from inference.asking.typed import from_words
from kaggle_rag.config import Solution
from kaggle_rag.rankers.resources import Resources
from kaggle_rag.runtime.errors import InputError, KitError

_HERE = "127.0.0.1"
_FORM = "application/x-www-form-urlencoded"
# Bytes of a question with its options, and seconds to send them.
_MOST, _PATIENCE = 1_000_000, 30
# The page's own policy names its style; a header can forbid frames too.
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'", "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}  # fmt: skip


def serve(solution: Solution, port: int) -> None:
    """Open the models, print the address, and answer until Ctrl-C.

    Raises
    ------
    InputError : the port is none, or taken.
    """
    with _server(port) as server, Session(Resources.open(solution)) as session:
        server.session = session
        print(f"open {server.address} in a browser of this machine; Ctrl-C ends it", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended", file=sys.stderr)


def _server(port: int) -> AskServer:
    try:
        return AskServer(port)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"the port {port} cannot be opened: {error}", where="--port",
            expected="a free one, 1024 to 65535", cure="leave --port out, and one is chosen",
        ) from None  # fmt: skip


class AskServer(ThreadingHTTPServer):
    """Answers one question at a time, whatever the number of connections."""

    daemon_threads = True
    session: Session

    def __init__(self, port: int = 0) -> None:
        self.token = secrets.token_urlsafe(24)
        self._worker = ThreadPoolExecutor(1)
        super().__init__((_HERE, port), _Handler)

    @property
    def address(self) -> str:
        return f"http://{_HERE}:{self.server_port}/{self.token}/"

    @property
    def hosts(self) -> set[str]:
        """What a browser calls this server that was given its address."""
        return {f"{name}:{self.server_port}" for name in (_HERE, "localhost")}

    def answer(self, prompt: str, options: list[str]) -> Answer:
        return self._worker.submit(lambda: self.session.answer(from_words(prompt, options))).result()

    def server_close(self) -> None:
        super().server_close()
        self._worker.shutdown(cancel_futures=True)


class _Handler(BaseHTTPRequestHandler):
    server: AskServer
    timeout = _PATIENCE
    server_version, sys_version = "kaggle-rag", ""

    def do_GET(self) -> None:
        if self._admitted():
            self._send(HTTPStatus.OK, ask_page(Typed()))

    def do_POST(self) -> None:
        if self._admitted() and (typed := self._typed()) is not None:
            self._send(*self._answered(typed))

    def _typed(self) -> Typed | None:
        """What the form holds; ``None`` if what was sent is none, which is told."""
        size = self.headers.get("Content-Length", "")
        if self.headers.get_content_type() != _FORM or not (size.isascii() and size.isdecimal()):
            self.send_error(HTTPStatus.BAD_REQUEST, "not a form")
            return None
        if int(size) > _MOST:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {_MOST:,} bytes")
            return None
        sent = parse_qs(self.rfile.read(int(size)).decode("utf-8", "replace"), keep_blank_values=True)
        return Typed(*(sent.get(name, [""])[0].replace("\r\n", "\n") for name in Typed._fields))

    def _answered(self, typed: Typed) -> tuple[HTTPStatus, str]:
        options = [line.strip() for line in typed.options.splitlines() if line.strip()]
        try:
            return HTTPStatus.OK, ask_page(typed, answer=self.server.answer(typed.prompt, options))
        except InputError as error:
            return HTTPStatus.BAD_REQUEST, ask_page(typed, fault=str(error))
        except KitError as error:
            return HTTPStatus.INTERNAL_SERVER_ERROR, ask_page(typed, fault=str(error))
        except Exception:
            # The page outlives a fault of the kit, which its terminal shows in full.
            traceback.print_exc()
            fault = "this question could not be answered; the terminal says why"
            return HTTPStatus.INTERNAL_SERVER_ERROR, ask_page(typed, fault=fault)

    def _admitted(self) -> bool:
        """Whether the request was made with the address, by its page; it is refused otherwise."""
        origin = self.headers.get("Origin")
        hosts = {self.headers.get("Host"), *([urlsplit(origin).netloc] if origin else [])}
        if not hosts <= self.server.hosts:
            self.send_error(HTTPStatus.FORBIDDEN, "another site's request")
            return False
        path = urlsplit(self.path).path
        if not secrets.compare_digest(path.encode(), f"/{self.server.token}/".encode()):
            self.send_error(HTTPStatus.NOT_FOUND, "no such page: use the whole address that was printed")
            return False
        return True

    def _send(self, status: HTTPStatus, page: str) -> None:
        content = page.encode("utf-8", "replace")
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing: a log of requests would hold the address."""

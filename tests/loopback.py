"""A small HTTP server on the loopback interface, for tests of what asks somebody over HTTP."""

import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What is answered. A body that comes in pieces is sent as they come, and ends with the connection."""

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    kind: str = "application/json"

    @classmethod
    def json(cls, value: object, status: int = 200) -> "Reply":
        return cls(json.dumps(value).encode(), status)


@contextmanager
def serving(answer: Callable[[Asked], Reply], *, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A running server; its URL. Each request is answered in a thread of its own.

    Args:
        port: 0: any that is free.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            reply = answer(Asked(self.command, self.path, self.headers, self.rfile.read(length)))
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            if isinstance(reply.body, bytes):
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)
                return
            self.send_header("Connection", "close")
            self.end_headers()
            for piece in reply.body:
                self.wfile.write(piece)
                self.wfile.flush()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            # Who asks may hang up, or not trust the certificate.
            if not isinstance(sys.exc_info()[1], OSError):
                super().handle_error(request, client_address)

    with Server(("127.0.0.1", port), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()

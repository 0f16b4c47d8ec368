"""An OpenAI-compatible server on the loopback interface: says what it is told to, and keeps what it was asked."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


class Provider(ThreadingHTTPServer):
    """A chat model.

    Attributes:
        reply: what it says; streamed word by word.
        status: other than 200: an error.
        delay_s: before it says anything, unless `hurry` is set.
        breaks_after: pieces of a stream after which the connection breaks.
        asked: the requests.
    """

    daemon_threads = True
    reply = "Refunds take 14 days [1]."
    status, delay_s = 200, 0.0
    breaks_after: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.hurry = Event()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_: object) -> None:
        pass  # callers hang up: they are told to


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.hurry.wait(self.server.delay_s)
        if self.server.status != 200:
            message = f"told so: {body['messages'][-1]['content']}"
            self._send(self.server.status, "application/json", json.dumps({"error": {"message": message}}))
        elif body.get("stream"):
            self._stream(body)
        else:
            message = {"role": "assistant", "content": self.server.reply}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._send(200, "application/json", json.dumps(self._answer(body, choice, "chat.completion")))

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        words = self.server.reply.split(" ")
        pieces = [{"role": "assistant", "content": ""}] + [
            {"content": word if at == 0 else f" {word}"} for at, word in enumerate(words)
        ]
        for at, delta in enumerate(pieces):
            if at == self.server.breaks_after:
                self.wfile.write(b"data: {")
                return
            self._event(
                self._answer(body, {"index": 0, "delta": delta, "finish_reason": None}, "chat.completion.chunk")
            )
        self._event(self._answer(body, {"index": 0, "delta": {}, "finish_reason": "stop"}, "chat.completion.chunk"))
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, answer: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(answer).encode() + b"\n\n")
        self.wfile.flush()

    def _answer(self, body: dict[str, Any], choice: dict[str, Any], kind: str) -> dict[str, Any]:
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return {"id": "1", "object": kind, "created": 1, "model": body["model"], "choices": [choice], "usage": usage}

    def _send(self, status: int, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def provider() -> Iterator[Provider]:
    """A running one."""
    with Provider() as held:
        thread = Thread(target=held.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield held
        held.hurry.set()
        held.shutdown()
        thread.join()

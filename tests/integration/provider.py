"""An OpenAI-compatible server on the loopback interface: says what it is told to, and keeps what it was asked."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from tests.loopback import Asked, Reply, serving


@dataclass
class Provider:
    """A chat model.

    Attributes:
        base: where it is.
        reply: what it says; streamed word by word.
        status: other than 200: an error.
        delay_s: before it says anything, unless `hurry` is set.
        breaks_after: pieces of a stream after which the connection breaks.
        asked: the requests.
    """

    base: str = ""
    reply: str = "Refunds take 14 days [1]."
    status: int = 200
    delay_s: float = 0.0
    breaks_after: int | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    hurry: Event = field(default_factory=Event)

    def answer(self, asked: Asked) -> Reply:
        body = asked.json()
        self.asked.append(body)
        self.hurry.wait(self.delay_s)
        if self.status != 200:
            return Reply.json({"error": {"message": f"told so: {body['messages'][-1]['content']}"}}, self.status)
        if body.get("stream"):
            return Reply(self._stream(body), kind="text/event-stream")
        message = {"role": "assistant", "content": self.reply}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return Reply.json(_said(body, choice, "chat.completion"))

    def _stream(self, body: dict[str, Any]) -> Iterator[bytes]:
        words = self.reply.split(" ")
        pieces = [{"role": "assistant", "content": ""}] + [
            {"content": word if at == 0 else f" {word}"} for at, word in enumerate(words)
        ]
        for at, delta in enumerate(pieces):
            if at == self.breaks_after:
                yield b"data: {"
                return
            yield _event(_said(body, {"index": 0, "delta": delta, "finish_reason": None}, "chat.completion.chunk"))
        yield _event(_said(body, {"index": 0, "delta": {}, "finish_reason": "stop"}, "chat.completion.chunk"))
        yield b"data: [DONE]\n\n"


def _event(answer: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(answer).encode() + b"\n\n"


def _said(body: dict[str, Any], choice: dict[str, Any], kind: str) -> dict[str, Any]:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {"id": "1", "object": kind, "created": 1, "model": body["model"], "choices": [choice], "usage": usage}


@contextmanager
def provider() -> Iterator[Provider]:
    """A running one."""
    held = Provider()
    with serving(held.answer) as url:
        held.base = f"{url}/v1"
        yield held
        held.hurry.set()

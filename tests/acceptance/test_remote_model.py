"""A product under a remote model, and `ask` by a remote language model: litellm over real HTTP to a server here."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.conftest import Command
from tests.conftest import SIMPLE_CONTRACT

from tidegate.database import connect

needs_litellm = pytest.mark.skipif(find_spec("litellm") is None, reason="the extra llm is not installed")
DIMENSION = 8


class Provider(BaseHTTPRequestHandler):
    """Speaks as much of OpenAI's protocol as is asked of it."""

    calls: "list[tuple[str, dict[str, Any]]]" = []  # noqa: RUF012
    reply = "Refunds take 14 days [1], they say [9]."

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.calls.append((self.path, body))
        if self.path.endswith("/embeddings"):
            texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
            data = [
                {
                    "object": "embedding",
                    "index": at,
                    "embedding": [float("refund" in text), 1.0] + [0.0] * (DIMENSION - 2),
                }
                for at, text in enumerate(texts)
            ]
            answer: dict[str, Any] = {
                "object": "list",
                "data": data,
                "model": body["model"],
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            }
        else:
            message = {"role": "assistant", "content": self.reply}
            if body.get("stream"):
                self._stream(body["model"], message)
                return
            answer = {
                "id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }  # fmt: skip
        payload = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _stream(self, model: str, message: dict[str, str]) -> None:
        choices = [
            {"index": 0, "delta": message, "finish_reason": None},
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        ]
        events = [
            {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
            for choice in choices
        ]
        payload = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[str]:
    Provider.calls.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


@needs_litellm
def test_apply_and_ask(tmp_path: Path, bare: str, provider: str) -> None:
    keys = {"TIDEGATE_API_BASE": provider, "OPENAI_API_KEY": "sk-for-tests-only"}
    command = Command(tmp_path, bare, keys)
    (tmp_path / "note.odcs.yaml").write_text(SIMPLE_CONTRACT.replace("local/all-minilm-l6-v2", "openai/test-embedding"))
    command.ok("init")
    command.ok("apply", "note.odcs.yaml", timeout=300)
    assert [path for path, _ in Provider.calls] == ["/v1/embeddings"]
    with connect(bare) as admin:
        admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'refunds')")
        admin.execute("CREATE ROLE accept_remote; GRANT note_reader TO accept_remote")
        try:
            admin.execute("INSERT INTO tidegate.principal_attribute VALUES ('accept_remote', 'regions', '{EU}')")
            admin.execute(
                "SET ROLE tidegate_worker; INSERT INTO rag_team.note "
                "(id, region, chunk_no, content, content_hash, embedding, position, contract_version) VALUES "
                "(1, 'EU', 0, 'A refund takes 14 days.', '', '[1,1,0,0,0,0,0,0]', '{0/1,0/1}', '1.0.0'); RESET ROLE"
            )
            done = command.ok(
                "ask",
                "how long does a refund take",
                "--as",
                "accept_remote",
                "--llm",
                "openai/test-chat",
                "--json",
                timeout=300,
            )
            answer = json.loads(done.out)
            assert answer["text"] == "Refunds take 14 days [1], they say ."
            assert [hit["key"] for hit in answer["citations"]] == [{"id": 1}]
            assert answer["model"] == "openai/test-chat"
            assert "sk-for-tests" not in done.out + done.err
            path, body = Provider.calls[-1]
            assert path == "/v1/chat/completions"
            assert body["model"] == "test-chat"
            assert "A refund takes 14 days." in body["messages"][-1]["content"]
            streamed = command.ok(
                "ask", "how long does a refund take", "--as", "accept_remote", "--llm", "openai/test-chat", "--stream",
                timeout=300,
            )  # fmt: skip
            assert Provider.calls[-1][1]["stream"] is True
            assert streamed.out.splitlines()[0] == "Refunds take 14 days [1], they say ."
            assert streamed.out.splitlines()[1].startswith("  [1] team.note[1]: A refund")
            stale = command("ask", "x", "--as", "accept_remote", "--fresh-within", "1s")
            assert (stale.code, "has no watermark yet" in stale.err) == (1, True)
        finally:
            admin.execute("RESET ROLE; DROP OWNED BY accept_remote; DROP ROLE accept_remote")

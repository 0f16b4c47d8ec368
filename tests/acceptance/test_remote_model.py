"""A product under a remote model, and `ask` by a remote language model: litellm over real HTTP to a server here."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.conftest import Command
from tests.conftest import SIMPLE_CONTRACT
from tests.loopback import Asked, Reply, serving

from tidegate.database import connect

needs_litellm = pytest.mark.skipif(find_spec("litellm") is None, reason="the extra llm is not installed")
DIMENSION = 8


class Provider:
    """Speaks as much of OpenAI's protocol as is asked of it."""

    calls: "list[tuple[str, dict[str, Any]]]" = []  # noqa: RUF012
    reply = "Refunds take 14 days [1], they say [9]."

    @classmethod
    def answer(cls, asked: Asked) -> Reply:
        body = asked.json()
        cls.calls.append((asked.path, body))
        if asked.path.endswith("/embeddings"):
            texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
            data = [
                {
                    "object": "embedding",
                    "index": at,
                    "embedding": [float("refund" in text), 1.0] + [0.0] * (DIMENSION - 2),
                }
                for at, text in enumerate(texts)
            ]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            return Reply.json({"object": "list", "data": data, "model": body["model"], "usage": usage})
        message = {"role": "assistant", "content": cls.reply}
        if body.get("stream"):
            return cls._stream(body["model"], message)
        return Reply.json(
            {
                "id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )  # fmt: skip

    @staticmethod
    def _stream(model: str, message: dict[str, str]) -> Reply:
        choices = [
            {"index": 0, "delta": message, "finish_reason": None},
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        ]
        events = [
            {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
            for choice in choices
        ]
        payload = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        return Reply(payload.encode(), kind="text/event-stream")


@pytest.fixture
def provider() -> Iterator[str]:
    Provider.calls.clear()
    with serving(lambda asked: Provider.answer(asked)) as url:  # noqa: PLW0108 -- a test puts another in its place
        yield f"{url}/v1"


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

"""Remote models, through the real litellm, against an OpenAI-compatible server on the loopback interface."""

import importlib.util
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide

from tidegate.index.embedding.embedder import EmbedderUnavailable, TextRefused
from tidegate.index.embedding.litellm_model import LitellmModel
from tidegate.index.embedding.price import price_per_token
from tidegate.index.embedding.registry import Embedders
from tidegate.settings import Settings

if importlib.util.find_spec("litellm") is None:
    pytest.skip("litellm is not installed", allow_module_level=True)
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]


class Server(ThreadingHTTPServer):
    """Embeds a text as (its length, 1, 0, 0). `status`, `delay_s`, `short`: faults it is told to have."""

    daemon_threads = True
    status, delay_s, short = 200, 0.0, False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.batches: list[list[str]] = []
        self.over = Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.batches.append(body["input"])
        self.server.over.wait(self.server.delay_s)
        rows = [
            {"object": "embedding", "index": index, "embedding": [float(len(text)), 1.0, 0.0, 0.0]}
            for index, text in enumerate(body["input"])
        ]
        answer: dict[str, Any] = {
            "object": "list", "model": "test", "data": rows[::-1][self.server.short :],
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }  # fmt: skip
        if self.server.status != 200:
            answer = {"error": {"message": f"told so: {body['input']}", "type": "error", "code": None}}
        data = json.dumps(answer).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with Server() as held:
        thread = Thread(target=held.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield held
        held.over.set()
        held.shutdown()
        thread.join()


def base(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/v1"


def test_batches_and_their_order(server: Server) -> None:
    model = LitellmModel("openai/test", base(server), 10, 3)
    texts = ["a" * n for n in range(1, 8)]
    vectors = model.embed(texts)
    assert [len(batch) for batch in server.batches] == [3, 3, 1]
    assert vectors.shape == (7, 4)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.allclose(vectors[:, 0] / vectors[:, 1], range(1, 8))
    assert model.dimension == 4


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, EmbedderUnavailable),
        (500, EmbedderUnavailable),
        (503, EmbedderUnavailable),
        (401, EmbedderUnavailable),
        (400, TextRefused),
        (422, TextRefused),
    ],
)
def test_a_status_is_told_once_and_without_the_text(server: Server, status: int, error: type[Exception]) -> None:
    server.status = status
    with pytest.raises(error) as caught:
        LitellmModel("openai/test", base(server), 10, 3).embed(["SECRET text"])
    assert "SECRET" not in str(caught.value)
    assert str(status) in str(caught.value)
    assert len(server.batches) == 1


def test_slow_wrong_or_absent_servers_are_unavailable(server: Server) -> None:
    server.short = True
    with pytest.raises(EmbedderUnavailable, match="1 vectors for 2 texts"):
        LitellmModel("openai/test", base(server), 10, 3).embed(["a", "b"])
    server.short, server.delay_s = False, 100.0
    began = time.monotonic()
    with pytest.raises(EmbedderUnavailable):
        LitellmModel("openai/test", base(server), 0.3, 3).embed(["a"])
    assert time.monotonic() - began < 40
    with pytest.raises(EmbedderUnavailable):
        LitellmModel("openai/test", "http://127.0.0.1:9/v1", 1, 3).embed(["a"])


def test_the_whole_way(tide: Tide, server: Server) -> None:
    tide.settings = tide.settings.model_copy(update={"api_base": base(server)})
    tide.embedders = Embedders(Settings(api_base=base(server), _env_file=None))
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'before')")
    tide.apply(SIMPLE_CONTRACT.replace("local/all-minilm-l6-v2", "openai/test"))
    tide.run()
    tide.live("team.note")
    tide.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'after ' || n FROM generate_series(2, 9) n")
    tide.caught_up()
    assert tide.one("SELECT count(*) FROM rag_team.note WHERE vector_dims(embedding) = 4") == 9


def test_prices_are_litellms() -> None:
    assert price_per_token("openai/text-embedding-3-small") == pytest.approx(2e-8)
    assert price_per_token("openai/nobody-knows-this") is None

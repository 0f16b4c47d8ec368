"""Remote models, through the real litellm, against an OpenAI-compatible server on the loopback interface."""

import importlib.util
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event

import numpy as np
import pytest
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide
from tests.loopback import Asked, Reply, serving

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


@dataclass
class Server:
    """Embeds a text as (its length, 1, 0, 0). `status`, `delay_s`, `short`: faults it is told to have."""

    base: str = ""
    status: int = 200
    delay_s: float = 0.0
    short: bool = False
    batches: list[list[str]] = field(default_factory=list)
    over: Event = field(default_factory=Event)

    def answer(self, asked: Asked) -> Reply:
        texts = asked.json()["input"]
        self.batches.append(texts)
        self.over.wait(self.delay_s)
        if self.status != 200:
            return Reply.json({"error": {"message": f"told so: {texts}", "type": "error", "code": None}}, self.status)
        rows = [
            {"object": "embedding", "index": index, "embedding": [float(len(text)), 1.0, 0.0, 0.0]}
            for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return Reply.json({"object": "list", "model": "test", "data": rows[::-1][self.short :], "usage": usage})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    held = Server()
    with serving(held.answer) as url:
        held.base = f"{url}/v1"
        yield held
        held.over.set()


def test_batches_and_their_order(server: Server) -> None:
    model = LitellmModel("openai/test", server.base, 10, 3)
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
        LitellmModel("openai/test", server.base, 10, 3).embed(["SECRET text"])
    assert "SECRET" not in str(caught.value)
    assert str(status) in str(caught.value)
    assert len(server.batches) == 1


def test_slow_wrong_or_absent_servers_are_unavailable(server: Server) -> None:
    server.short = True
    with pytest.raises(EmbedderUnavailable, match="1 vectors for 2 texts"):
        LitellmModel("openai/test", server.base, 10, 3).embed(["a", "b"])
    server.short, server.delay_s = False, 100.0
    began = time.monotonic()
    with pytest.raises(EmbedderUnavailable):
        LitellmModel("openai/test", server.base, 0.3, 3).embed(["a"])
    assert time.monotonic() - began < 40
    with pytest.raises(EmbedderUnavailable):
        LitellmModel("openai/test", "http://127.0.0.1:9/v1", 1, 3).embed(["a"])


def test_the_whole_way(tide: Tide, server: Server) -> None:
    tide.settings = tide.settings.model_copy(update={"api_base": server.base})
    tide.embedders = Embedders(Settings(api_base=server.base, _env_file=None))
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

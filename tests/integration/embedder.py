"""Embedders that count, or fail when told to: the real local model behind them."""

import time
from collections.abc import Sequence

from tidegate.index.embedding.embedder import Embedder, EmbedderUnavailable, Splitter, TextRefused, Vectors
from tidegate.index.embedding.registry import Embedders
from tidegate.settings import Settings


class WatchedModel:
    """The embedder `inner` under the name `model`.

    Attributes:
        texts: all texts that it was asked for.
        away: whether it answers nothing.
        refused: texts with this in them are refused.
        delay_s: how long it takes, beside the real one's time.
    """

    def __init__(self, inner: Embedder, model: str):
        self._inner = inner
        self.model = model
        self.max_tokens = inner.max_tokens
        self.ruler = inner.ruler
        self.texts: list[str] = []
        self.calls = 0
        self.away = False
        self.refused: str | None = None
        self.delay_s = 0.0

    @property
    def dimension(self) -> int:
        return self._inner.dimension

    def prepare(self) -> None:
        self._inner.prepare()

    def splitter(self, *sizes: int | None) -> Splitter:
        return self._inner.splitter(*sizes)  # type: ignore[arg-type]

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.calls += 1
        self.texts += texts
        time.sleep(self.delay_s)
        if self.away:
            raise EmbedderUnavailable(f'model "{self.model}" does not answer: told so')
        if self.refused is not None and any(self.refused in text for text in texts):
            raise TextRefused(f'model "{self.model}" refuses a text: told so')
        return self._inner.embed(texts)

    embed_bulk = embed


class WatchedModels(Embedders):
    """A registry in which every model is the local one, watched."""

    def __init__(self, inner: Embedder):
        super().__init__(Settings(_env_file=None))
        self._inner = inner
        self._watched: dict[str, WatchedModel] = {}

    def of(self, model: str) -> WatchedModel:
        return self._watched.setdefault(model, WatchedModel(self._inner, model))

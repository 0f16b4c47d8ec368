"""A model whose vectors cost nothing, with faults: slow, away, or refusing a text."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tidegate.index.embedding.embedder import Embedder, EmbedderUnavailable, TextRefused, Vectors
from tidegate.index.embedding.registry import Embedders
from tidegate.settings import Settings

POISON = "poison"
"""A text with this word is refused."""


class QuickModel:
    """What is cut into chunks is cut by the real model's splitter."""

    def __init__(self, inner: Embedder):
        self.inner = inner
        self.model, self.max_tokens, self.dimension = inner.model, inner.max_tokens, inner.dimension
        self.splitter = inner.splitter
        self.away = False
        self.delay_s = 0.0

    def prepare(self) -> None:
        """There is nothing to load."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        time.sleep(self.delay_s)
        if self.away:
            raise EmbedderUnavailable("told to be away")
        if any(POISON in text for text in texts):
            raise TextRefused("a text is refused")
        return np.ones((len(texts), self.dimension), dtype=np.float32)

    embed_bulk = embed


class QuickModels(Embedders):
    """A registry in which every model is this one."""

    def __init__(self, model: QuickModel):
        super().__init__(Settings(_env_file=None))
        self._model = model

    def of(self, model: str) -> Any:
        return self._model

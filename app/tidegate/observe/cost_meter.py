"""Counts what embedding costs and what it would cost without tidegate's savings."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

FIGURES = (
    "changes", "coalesced", "deletes", "backfilled", "unchanged", "indexed", "chunks_reused", "cache_hits", "texts",
    "tokens", "naive_texts", "naive_tokens",
)  # fmt: skip
"""Columns of tidegate.cost_bucket:

changes: of rows, not from a backfill; `coalesced` of them were replaced by a newer one of their row while they waited.
backfilled: rows that a backfill read.
unchanged: rows whose text is as indexed: only carried columns changed, or nothing.
indexed: rows with a new text. Their chunks are chunks_reused (stored already), cache_hits, or texts (embedded).
tokens: of the texts, as the model's tokenizer counts.
naive_…: what embedding every chunk of every changed row takes; its tokens are estimated from the characters.
"""

TOKENS_PER_CHARACTER = 0.25
Where = tuple[str, str]
"""Product and model."""


class CostMeter:
    """Gathers figures in memory; the worker writes them to `tidegate.cost_bucket` once a second. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Where, Counter[str]] = defaultdict(Counter)
        self._texts: dict[Where, tuple[Callable[[str], int], list[str]]] = {}
        self._rates: dict[Where, float] = {}

    def add(self, where: Where, *, naive_characters: int = 0, **figures: int) -> None:
        """Adds to figures of FIGURES; `naive_characters` become naive_tokens."""
        with self._lock:
            counts = self._counts[where]
            counts.update(figures)
            counts["naive_tokens"] += round(naive_characters * self._rate(where))

    def embedded(self, where: Where, texts: Sequence[str], count: Callable[[str], int]) -> None:
        """Texts that a model was paid for; counted later, where nothing waits for it."""
        with self._lock:
            self._counts[where]["texts"] += len(texts)
            self._texts.setdefault(where, (count, []))[1].extend(texts)

    def estimate(self, where: Where, characters: int) -> int:
        """Tokens of so many characters, by what was counted of the product before."""
        with self._lock:
            return round(characters * self._rate(where))

    def drain(self) -> Mapping[str, Sequence[Any]] | None:
        """The parameters of the query `cost_add`, and a meter at zero; None when nothing was added."""
        with self._lock:
            counts, self._counts = self._counts, defaultdict(Counter)
            counted, self._texts = self._texts, {}
        for where, (count, texts) in counted.items():
            tokens = sum(map(count, texts))
            counts[where]["tokens"] += tokens
            with self._lock:
                # The newest texts tell most, but a few of them not all.
                rate, characters = self._rate(where), sum(map(len, texts))
                self._rates[where] = (tokens + 2000 * rate) / (characters + 2000)
        if not counts:
            return None
        columns: dict[str, list[Any]] = {"product": [w[0] for w in counts], "model": [w[1] for w in counts]}
        return columns | {name: [figures[name] for figures in counts.values()] for name in FIGURES}

    def _rate(self, where: Where) -> float:
        return self._rates.get(where, TOKENS_PER_CHARACTER)

"""How much of the true answer was found, and how good the order is."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tidegate.index.embedding.embedder import Vectors

_BLOCK = 50_000
_TIE = 1e-6
"""Cosine similarities that differ by less are the same: float32 sums differ by as much."""


class Truth:
    """The exact answer to each query for somebody who sees some of the rows, by brute force.

    Args:
        vectors: of all rows, `(rows, dimension)` of length 1.
        visible: which rows count, `(rows,)`.
        queries: `(queries, dimension)` of length 1.
    """

    def __init__(self, vectors: Vectors, visible: NDArray[np.bool_], queries: Vectors, k: int):
        self._vectors, self._visible, self._queries, self.k = vectors, visible, queries, k
        self.wanted = int(min(k, visible.sum()))
        """Rows that a query must find."""
        best = np.full((len(queries), 0), 0, dtype=np.float32)
        for first in range(0, len(vectors), _BLOCK):
            block = vectors[first : first + _BLOCK][visible[first : first + _BLOCK]]
            best = np.concatenate([best, queries @ block.T], axis=1)
            if best.shape[1] > self.wanted:
                best = -np.partition(-best, self.wanted - 1, axis=1)[:, : self.wanted]
        self._least = best.min(axis=1) if self.wanted else np.zeros(len(queries), dtype=np.float32)

    def recall(self, query: int, found: Sequence[int]) -> float:
        """The share of the true k nearest among the rows found; rows as near as the k-th count as true.

        Raises:
            ValueError: a row was found that is not visible.
        """
        if not self.wanted:
            return 1.0
        rows = np.unique(np.asarray(found[: self.k], dtype=np.int64))
        if not self._visible[rows].all():
            raise ValueError(f"row {rows[~self._visible[rows]][0]} was found by somebody who may not see it")
        near = self._vectors[rows] @ self._queries[query] >= self._least[query] - _TIE
        return min(int(near.sum()), self.wanted) / self.wanted


def ndcg(ranked: Sequence[str], gains: Mapping[str, float], k: int = 10) -> float:
    """nDCG@k: gains discounted by log2(rank + 1), over those of the best order there is; 0 where nothing is relevant.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002, with linear gains.
    """
    best = _discounted(sorted(gains.values(), reverse=True)[:k])
    return _discounted([gains.get(key, 0.0) for key in ranked[:k]]) / best if best > 0 else 0.0


def _discounted(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(place + 2) for place, gain in enumerate(gains)))

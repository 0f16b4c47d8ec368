"""Vectors that were had before, by model and the hash of the text: in Postgres, shared by products and workers."""

import threading
from collections.abc import Iterable, Mapping
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from tidegate.database import Connection
from tidegate.sql import queries

Vector = NDArray[np.float32]
_PENDING_MOST = 20_000


class EmbeddingCache:
    """Looks vectors up, and keeps new ones in memory until housekeeping writes them. Thread-safe.

    It knows hashes and vectors, no texts. What comes to it are chunks of documents, and no document shows a
    restricted or masked column, so nothing of those is in here either.

    Args:
        limit_mb: of the table; 0: nothing is kept and nothing found.
        days: after which an unused vector goes.
    """

    def __init__(self, limit_mb: int, days: int):
        self._limit, self._days = limit_mb * 2**20, days
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, bytes], Vector] = {}
        self._used: set[tuple[str, bytes]] = set()
        self._static = queries("cost")

    def find(self, connection: Connection, model: str, hashes: Iterable[bytes], dimension: int) -> dict[bytes, Vector]:
        """The vectors that are known, by hash."""
        if not self._limit:
            return {}
        wanted = set(hashes)
        with self._lock:
            found = {each: v for each in wanted if (v := self._pending.get((model, each))) is not None}
        missing = list(wanted - found.keys())
        if missing:
            rows = connection.execute(self._static["cache_find"], {"model": model, "hashes": missing}, binary=True)
            for digest, vector, stale in rows.fetchall():
                if len(vector) == 4 * dimension:
                    found[bytes(digest)] = np.frombuffer(vector, dtype="<f4")
                    if stale:
                        with self._lock:
                            self._used.add((model, bytes(digest)))
        return found

    def put(self, model: str, vectors: Mapping[bytes, Vector]) -> None:
        """Keeps vectors; while the database is away for long, only so many."""
        if not self._limit:
            return
        with self._lock:
            if len(self._pending) < _PENDING_MOST:
                self._pending.update({(model, digest): vector for digest, vector in vectors.items()})

    def write(self, connection: Connection) -> None:
        """Writes what was put since the last time, and what was used."""
        with self._lock:
            pending, used = dict(self._pending), self._used
            self._used = set()
        if pending:
            connection.execute(
                self._static["cache_add"],
                {
                    "models": [model for model, _ in pending],
                    "hashes": [digest for _, digest in pending],
                    "vectors": [vector.astype("<f4").tobytes() for vector in pending.values()],
                },
            )
            with self._lock:
                for key in pending:
                    self._pending.pop(key, None)
        if used:
            models, hashes = zip(*used, strict=True)
            connection.execute(self._static["cache_used"], {"models": list(models), "hashes": list(hashes)})

    def trim(self, connection: Connection) -> None:
        """Removes what is too old, and the longest unused of what is too much."""
        connection.execute(self._static["cache_expire"], {"age": timedelta(days=self._days if self._limit else 0)})
        connection.execute(self._static["cache_shrink"], {"bytes": self._limit})

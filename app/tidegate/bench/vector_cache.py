"""Vectors of texts on disk, so that a benchmark embeds a text once on a machine and not in every run."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tidegate.index.embedding.embedder import Embedder, Vectors

_BATCH = 500
_DIGEST = 32


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/tidegate/bench`, else `~/.cache/tidegate/bench`."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "tidegate" / "bench"


class VectorCache:
    """The vectors of one model in a folder: a file of digests (sha256 of the text) and one of vectors, in step.

    Both are only ever appended to; what a killed run left unequal is cut off.
    """

    def __init__(self, folder: Path, embedder: Embedder):
        self._embedder = embedder
        folder.mkdir(parents=True, exist_ok=True)
        name = embedder.model.replace("/", "_")
        self._digests, self._vectors = folder / f"{name}.sha256", folder / f"{name}.f32"

    def embed(self, texts: Sequence[str], move: Callable[[int | None], None]) -> Vectors:
        """The vectors of the texts, `(n, dimension) float32`; embeds those that the cache lacks.

        Args:
            move: told how many are there.
        """
        digests = [hashlib.sha256(text.encode()).digest() for text in texts]
        known = self._known()
        missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in known}
        move(len(texts) - len(missing))
        pending = list(missing.items())
        for first in range(0, len(pending), _BATCH):
            batch = pending[first : first + _BATCH]
            vectors = self._embedder.embed_bulk([text for _, text in batch])
            with self._vectors.open("ab") as file:
                file.write(vectors.astype(np.float32).tobytes())
            with self._digests.open("ab") as file:
                file.write(b"".join(digest for digest, _ in batch))
            move(len(texts) - len(pending) + first + len(batch))
        places = self._known()
        stored = np.fromfile(self._vectors, dtype=np.float32).reshape(-1, self._embedder.dimension)
        return stored[[places[digest] for digest in digests]]

    def _known(self) -> dict[bytes, int]:
        """Digest → place; cuts both files to what both have."""
        size = 4 * self._embedder.dimension
        sizes = [path.stat().st_size if path.exists() else 0 for path in (self._digests, self._vectors)]
        count = min(sizes[0] // _DIGEST, sizes[1] // size)
        for path, length in ((self._digests, count * _DIGEST), (self._vectors, count * size)):
            if path.exists():
                os.truncate(path, length)
        raw = self._digests.read_bytes() if self._digests.exists() else b""
        return {raw[place * _DIGEST : (place + 1) * _DIGEST]: place for place in range(count)}

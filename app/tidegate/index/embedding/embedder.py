"""What the index needs of an embedding model."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import TerminalError, TransientError

Vectors = NDArray[np.float32]


class EmbedderUnavailable(TransientError):
    """The embedding model does not answer now."""


class TextRefused(TerminalError):
    """The embedding model refuses this text, and will again."""


class ModelUnknown(TerminalError):
    """There is no such embedding model."""


class Splitter(Protocol):
    """Cuts a document into chunks."""

    def chunks(self, document: str) -> list[str]:
        """The chunks in order; none for a document without text."""

    def tokens(self, text: str) -> int:
        """How many of the model's tokens the text has; an estimate where its tokenizer is not known."""


class Embedder(Protocol):
    """An embedding model. Thread-safe.

    Attributes:
        model: its name in contracts, `provider/name`.
        max_tokens: tokens of a text that it reads; None where that is not known.
        ruler: names what counts its tokens: two models with the same one cut every text alike. None: not known.
    """

    model: str
    max_tokens: int | None

    @property
    def ruler(self) -> str | None: ...

    @property
    def dimension(self) -> int:
        """Length of its vectors. May ask the model once.

        Raises:
            EmbedderUnavailable: a remote model could not be asked.
        """

    def prepare(self) -> None:
        """Loads what the first call would have to load. Asks no remote model."""

    def splitter(self, tokens: int, overlap: int, minimum: int | None = None, target: int | None = None) -> Splitter:
        """Cuts into chunks of at most `tokens` of this model's tokens; see index/chunking.py, ChunkSize."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, `(n, dimension) float32`, as soon as can be.

        Raises:
            EmbedderUnavailable: it may answer later.
            TextRefused: at least one of the texts never will be embedded.
        """

    def embed_bulk(self, texts: Sequence[str]) -> Vectors:
        """The same vectors, for throughput and behind `embed` where they compete."""

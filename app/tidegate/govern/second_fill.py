"""What a second index is filled from: the chunks of the first, where that gives the same, else the source."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from tidegate.contract.embedding import Embedding
from tidegate.govern.beside import Index
from tidegate.index.embedding.embedder import Embedder, ModelUnknown


def from_source(
    first: Index, wanted: Embedding, embedder: Embedder, embedder_of: Callable[[str], Embedder] | None
) -> str | None:
    """Why a new second index must be filled from the source; None: the chunks of the first are what it needs.

    They are, where the contract says the same of the document and of its chunks, and where both models' tokens are
    counted by the same tokenizer: then either model has the same texts to embed. A model that reads fewer tokens than
    chunks may have is refused anyway.

    Args:
        embedder: of the second index.
        embedder_of: gives the first's; None: nobody knows.
    """
    return next(_reasons(first, wanted, embedder, embedder_of), None)


def _reasons(
    first: Index, wanted: Embedding, embedder: Embedder, embedder_of: Callable[[str], Embedder] | None
) -> Iterator[str]:
    old = first.embedding
    if replace(old, model=wanted.model, language=wanted.language) != wanted:
        yield "the contract changes the document or its chunks, too"
    ruler = embedder.ruler if embedder_of is not None else None
    if ruler is None or embedder_of is None:
        yield f"how {wanted.model} counts tokens is not known"
        return
    try:
        other = embedder_of(old.model).ruler
    except ModelUnknown:
        other = None
    if other != ruler:
        yield f"{old.model} and {wanted.model} count tokens differently, so chunks would be cut at other places"

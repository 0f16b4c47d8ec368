"""Rows to documents: the text that is cut, embedded and shown."""

import hashlib
import re
from collections.abc import Mapping

from tidegate.contract.embedding import Embedding
from tidegate.errors import TerminalError

PART = re.compile(r"\{\{|\}\}|\{([a-z_][a-z0-9_]*)\}")
"""A part of a template that is not text: an escaped brace, or a column."""


class DocumentTooLong(TerminalError):
    """A row's document is longer than what is indexed."""


def document(embedding: Embedding, values: Mapping[str, str | None], max_chars: int) -> str:
    """The document of a row.

    Columns: those with text, a blank line between them. Template: its text with the values in place, NULL as
    nothing; a row whose columns are all NULL or blank has no document.

    Args:
        values: column → text as Postgres writes it.

    Raises:
        DocumentTooLong: over `max_chars`.
    """
    filled = [text for name in embedding.document_columns if (text := values[name]) and not text.isspace()]
    if embedding.template is None:
        text = "\n\n".join(filled)
    elif filled:
        text = PART.sub(lambda part: _fill(part, values), embedding.template)
    else:
        text = ""
    if len(text) > max_chars:
        raise DocumentTooLong(
            f"the document has {len(text):,} characters, {max_chars:,} are indexed; shorten it, or raise "
            "TIDEGATE_MAX_DOCUMENT_CHARS and retry"
        )
    return text


def _fill(part: re.Match[str], values: Mapping[str, str | None]) -> str:
    if part[1] is None:
        return part[0][0]
    return values[part[1]] or ""


def document_hash(embedding: Embedding, text: str, model: str | None = None) -> bytes:
    """Identifies what was indexed for a row: the document, how it was cut, and the model.

    Args:
        model: the one to be named, where that is not the embedding's (Product.hash_model).
    """
    return hashlib.sha256(hash_prefix(embedding, model) + text.encode("utf-8", "surrogatepass")).digest()


def hash_prefix(embedding: Embedding, model: str | None = None) -> bytes:
    """What of a document's hash is not its text: the model, and how it is cut."""
    settings = f"{model or embedding.model}\x00{embedding.chunk_tokens}\x00{embedding.chunk_overlap}\x00"
    if embedding.chunk_min is not None or embedding.chunk_target is not None:
        settings += f"{embedding.chunk_min}\x00{embedding.chunk_target}\x00"
    return settings.encode()

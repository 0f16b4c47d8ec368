"""What becomes of an item, as a row to be written."""

from datetime import timedelta
from typing import Any

from tidegate.index.embedding.embedder import EmbedderUnavailable, TextRefused
from tidegate.index.item import Item
from tidegate.index.product import Violation
from tidegate.index.source_reader import SourceAway
from tidegate.index.write import Kind, Reason, RowWrite

RETRY_PARKED = timedelta(seconds=30)


def row_write(kind: Kind, item: Item, **fields: Any) -> RowWrite:
    """The write of the item's row, at its event's position."""
    assert item.key is not None
    return RowWrite(
        kind=kind,
        key=item.key,
        key_values=item.key_values,
        position=item.event.position,
        committed_at=item.event.committed_at,
        **fields,
    )


def parked(item: Item, error: Exception, *, kind: str | None = None, retry_in: timedelta | None = None) -> RowWrite:
    """The row with its dead letter, of the kind that the error is of."""
    if kind is None:
        if isinstance(error, Violation):
            kind = "violation"
        elif isinstance(error, (EmbedderUnavailable, TextRefused)):
            kind = "embedding"
        elif isinstance(error, SourceAway):
            kind = "source"
        else:
            kind = "document"
    return row_write(Kind.PARK, item, reason=Reason(kind, str(error), retry_in))

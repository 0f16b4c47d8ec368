"""A row of a second index as the first has it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tidegate.capture.position import Position


@dataclass(frozen=True, slots=True)
class CopiedRow:
    """What is taken over of a row.

    Attributes:
        key: as the ledger has it.
        hash: of its document.
        texts: of its chunks, in order; None: the first does not have them, the row is to be read from its source.
        carried: what stands beside each of them, masked as it is there.
        clear: the values of masked columns that some role may read, by column.
    """

    key: str
    position: Position
    committed_at: datetime | None
    hash: bytes | None
    texts: tuple[str, ...] | None
    carried: tuple[str | None, ...]
    clear: Mapping[str, str | None]

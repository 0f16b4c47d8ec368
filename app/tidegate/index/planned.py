"""A row whose document is new: its chunks, and which of them the index has already."""

from dataclasses import dataclass, field

from tidegate.capture.position import Position
from tidegate.index.chunk_diff import Kept
from tidegate.index.item import Item
from tidegate.index.product import Values
from tidegate.index.vector_source import Wanted


@dataclass(slots=True)
class Planned:
    """A row whose document is new.

    Attributes:
        base: the ledger's position of what is stored of the row; None: nothing is.
        kept: the stored chunks that stay, by their new number; they need no vector.
        carried: see RowWrite.
    """

    item: Item
    values: Values
    hash: bytes
    chunks: list[Wanted]
    characters: int
    base: Position | None
    kept: Kept = field(default_factory=dict)
    carried: tuple[str | None, ...] | None = None

    @property
    def wanted(self) -> list[Wanted]:
        """The chunks whose vectors are to be had."""
        return [chunk for number, chunk in enumerate(self.chunks) if number not in self.kept]

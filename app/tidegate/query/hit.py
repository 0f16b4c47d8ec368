"""What a search finds."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Hit:
    """The best chunk of a source row.

    Attributes:
        key: the row's key columns.
        distance: cosine distance, 0 (same direction) to 2; None where only words were compared.
        committed_at: when the change that is shown was committed. Of a row that a backfill, a repair or a retried dead
            letter read from the source: when it was read, since Postgres does not keep when rows were committed.
        consistency: `strict` (checked against the live row) or `eventual`.
        score: how well it fits, the higher the better.
    """

    product: str
    key: Mapping[str, Any]
    chunk_no: int
    content: str
    distance: float | None
    committed_at: datetime | None
    indexed_at: datetime
    contract_version: str
    consistency: str
    score: float

    @property
    def citation(self) -> str:
        """Product and key in one word: `support.ticket[42]`."""
        return f"{self.product}[{','.join(str(value) for value in self.key.values())}]"

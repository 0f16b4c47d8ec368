"""The indexes of products, and the models under which they are."""

from dataclasses import dataclass
from datetime import datetime

from tidegate.database import Connection
from tidegate.sql import queries


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """One index.

    Attributes:
        wanted: whether its model is the contract's.
        rows, chunks: in the index; `parked` rows are not.
        as_of: everything committed before this moment is in it; None: nothing is known.
        served_until: of one that was searched before.
        built_from: `source`, or `chunks`: those of the index that was searched then.
    """

    model: str
    dimension: int
    wanted: bool
    state: str
    state_reason: str | None
    rows: int
    chunks: int
    parked: int
    as_of: datetime | None
    served_until: datetime | None
    built_from: str


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The index of a product that is searched, and the second one beside it, if there is one."""

    product: str
    searched: IndexStatus
    second: IndexStatus | None

    @property
    def lag_s(self) -> float | None:
        """How far the second index is behind the first, in seconds; None: there is none, or it is not known."""
        if self.second is None or self.second.as_of is None or self.searched.as_of is None:
            return None
        return max(0.0, (self.searched.as_of - self.second.as_of).total_seconds())


def model_status(connection: Connection, product: str | None = None) -> list[ModelStatus]:
    """Of the product, or of all."""
    found: dict[str, dict[bool, IndexStatus]] = {}
    for name, model, dimension, second, *rest in connection.execute(queries("model")["status"], {"product": product}):
        found.setdefault(name, {})[second] = IndexStatus(model, dimension, *rest)
    return [ModelStatus(name, each[False], each.get(True)) for name, each in found.items()]

"""The two indexes of a product: the one that is searched, and the one beside it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tidegate.contract.contract import Contract
from tidegate.database import Connection
from tidegate.errors import TidegateError
from tidegate.govern.named import require_published
from tidegate.sql import queries

Direction = Literal["switch", "rollback"]


class NoSecondIndex(TidegateError):
    """There is no second index, or none that searches may go to in this direction."""


@dataclass(frozen=True, slots=True)
class PairedIndex:
    """One of them, as the catalog has it."""

    product_id: int
    name: str
    contract: Contract
    state: str
    wanted: bool
    served_until: datetime | None
    source: str
    version: str

    @property
    def model(self) -> str:
        return self.contract.embedding.model


def index_pair(connection: Connection, product: str, direction: Direction | None) -> tuple[PairedIndex, PairedIndex]:
    """The searched one first.

    Raises:
        UnknownName: there is no such product.
        NoSecondIndex: there are no two, or not such as can be switched in this direction.
    """
    require_published(connection, product)
    rows = connection.execute(queries("model")["pair"], {"product": product}).fetchall()
    indexes = [PairedIndex(row[0], row[1], Contract.from_spec(row[2]), *row[3:]) for row in rows]
    if len(indexes) == 1:
        raise NoSecondIndex(
            f"{product} has one index, with {indexes[0].model}, and none beside it; "
            "a contract with another model builds one when it is applied"
        )
    now, then = indexes
    if direction == "switch" and not then.wanted:
        raise NoSecondIndex(
            f'{product} is with the model of its contract, {now.model}; back: "tidegate model rollback"'
        )
    if direction == "rollback" and then.served_until is None:
        raise NoSecondIndex(
            f'the index of {product} with {then.model} was never searched; "tidegate model switch" lets it be, '
            '"tidegate model drop" removes it'
        )
    return now, then

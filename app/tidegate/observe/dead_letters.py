"""Parked rows: to list, to try again, to drop."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tidegate.database import Connection
from tidegate.errors import UnknownName
from tidegate.sql import queries


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A parked row. `key` is its key as JSON; its contents are kept nowhere. `retry_at`: when it is tried next."""

    id: int
    product: str
    key: str
    kind: str
    reason: str
    attempts: int
    first_at: datetime
    last_at: datetime
    retry_at: datetime | None


def list_dead_letters(connection: Connection, product: str | None = None) -> list[DeadLetter]:
    """All, or those of a product, oldest first."""
    rows = connection.execute(queries("status")["dead_letters"], {"product": product}).fetchall()
    return [DeadLetter(*row) for row in rows]


def retry_dead_letters(connection: Connection, product: str | None, ids: Sequence[int] | None) -> int:
    """Lets the worker read these rows from the source and index them again; returns how many.

    Raises:
        UnknownName: one of the numbers is none (of the product); nothing was done.
    """
    return _change(connection, "dead_letters_retry", product, ids)


def drop_dead_letters(connection: Connection, product: str | None, ids: Sequence[int] | None) -> int:
    """Forgets them: the rows stay unsearchable until they change again; returns how many.

    Raises:
        UnknownName: one of the numbers is none (of the product); nothing was done.
    """
    return _change(connection, "dead_letters_drop", product, ids)


def _change(connection: Connection, name: str, product: str | None, ids: Sequence[int] | None) -> int:
    parameters = {"product": product, "ids": None if ids is None else list(ids)}
    if absent := connection.execute(queries("status")["dead_letters_absent"], parameters).fetchall():
        numbers = ", ".join(str(row[0]) for row in absent)
        of = f" of {product}" if product else ""
        raise UnknownName(f'there is no dead letter {numbers}{of}; "tidegate dead-letters list" has those that are')
    return connection.execute(queries("status")[name], parameters).rowcount

"""The published versions of a product: who published which, when, and what it changed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import class_row

from tidegate.database import Connection
from tidegate.errors import UnknownName
from tidegate.sql import queries


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """`change_class` is None for the first; `changes` are like `Change.as_json`."""

    product: str
    version: str
    applied_at: datetime
    applied_by: str
    change_class: str | None
    changes: list[dict[str, Any]]
    in_force: bool


def product_history(connection: Connection, product: str) -> list[PublishedVersion]:
    """The versions, newest first.

    Raises:
        UnknownName: nothing was ever published under the name.
    """
    with connection.cursor(row_factory=class_row(PublishedVersion)) as cursor:
        found = cursor.execute(queries("history")["versions"], {"product": product}).fetchall()
    if not found:
        _unknown(connection, product)
    return found


def version_text(connection: Connection, product: str, version: str) -> str:
    """The contract as it was published.

    Raises:
        UnknownName: there is no such version.
    """
    row = connection.execute(queries("history")["version_text"], {"product": product, "version": version}).fetchone()
    if row is None:
        versions = [each.version for each in product_history(connection, product)]
        raise UnknownName(f"{product} has no version {version}; there are: {', '.join(versions)}")
    text: str = row[0]
    return text


def _unknown(connection: Connection, product: str) -> None:
    known = [row[0] for row in connection.execute(queries("history")["products"])]
    raise UnknownName(f"{product} was never published here; there are: {', '.join(known) or 'none'}")

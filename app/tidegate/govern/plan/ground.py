"""What a plan stands on: the index's database, the one that the rows come from, and the setting."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.capture.stream import HOME
from tidegate.database import Connection
from tidegate.govern.plan.setting import Setting
from tidegate.sql import queries

_CHUNK_COLUMNS = frozenset(
    {
        "chunk_no",
        "content",
        "content_hash",
        "embedding",
        "codes",
        "position",
        "committed_at",
        "indexed_at",
        "contract_version",
    }
)


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a contract is to be put in force; answers with the named queries of `sql/govern.sql`.

    Attributes:
        connection: on the index's database.
        there: on the database `source` that the rows come from; the same where that is the index's own.
    """

    connection: Connection
    there: Connection
    setting: Setting
    source: str = HOME

    @property
    def local(self) -> bool:
        """Whether the rows are in the index's own database."""
        return self.source == HOME

    def one(self, name: str, **parameters: Any) -> Sequence[Any] | None:
        """The first row of the query on the index's database."""
        return self.connection.execute(queries("govern")[name], parameters).fetchone()

    def required(self, name: str, **parameters: Any) -> Sequence[Any]:
        """The same, of a query that always has one."""
        row = self.one(name, **parameters)
        assert row is not None
        return row

    def rows(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of it."""
        return self.connection.execute(queries("govern")[name], parameters).fetchall()

    def at_source(self, name: str, **parameters: Any) -> Sequence[Any] | None:
        """The first row of the query on the database that the rows come from."""
        return self.there.execute(queries("govern")[name], parameters).fetchone()

    def source_columns(self, oid: int) -> dict[str, str]:
        """The columns of the table that the rows come from, with their types."""
        rows = self.there.execute(queries("govern")["source_columns"], {"oid": oid})
        return {row[0]: row[1] for row in rows}

    def carried_columns(self, oid: int) -> dict[str, str]:
        """The columns of a chunk table that come from the rows, with their types."""
        return {row[0]: row[1] for row in self.rows("source_columns", oid=oid) if row[0] not in _CHUNK_COLUMNS}

    def policies(self, oid: int) -> dict[str, str | None]:
        """The policies on a chunk table, with their comments."""
        return {row[0]: row[1] for row in self.rows("policies", oid=oid)}


def without_size(type_name: str) -> str:
    """A type as Postgres writes it, without its size."""
    return re.sub(r"\([^)]*\)", "", type_name)

"""Source databases on other servers than the index: what is prepared there, and what a contract changes there.

A plan of such a contract runs in three transactions, in this order: what the workers may read and the publication, at
the source; then everything of the index; then, at the source, what is read no longer, and a beat that tells the
workers. Whatever ends it in between, the next plan compares both databases again and does what is left: a table in the
publication that is no product yet is passed over; a privilege that is left too long reads nothing that was secret.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

from tidegate.capture.source import Source
from tidegate.contract.contract import Contract
from tidegate.database import Connection
from tidegate.errors import TidegateError
from tidegate.govern.control_schema import ServerUnfit, server_lacks
from tidegate.govern.publication import joins
from tidegate.sql import queries, script

Statement = sql.Composed


class SourceUnprepared(TidegateError):
    """A source database lacks what tidegate needs there."""


def prepare_source(connection: Connection, source: Source) -> None:
    """Brings a source database up to date: roles, heartbeat, signals, publication. Safe to repeat.

    Raises:
        ServerUnfit: it cannot be read by logical replication, or has an index of its own, or another index reads it.
    """
    lacks = server_lacks(connection)
    if lacks:
        raise ServerUnfit(f'source "{source.name}" ({place(connection)}): {"; ".join(lacks)}')
    try:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('tidegate.init', 0))")
            connection.execute(script("source"))
            claim(connection, source)
    except psycopg.errors.RaiseException as error:
        raise ServerUnfit(
            f'source "{source.name}": {error.diag.message_primary}. {error.diag.message_hint or ""}'.strip()
        ) from None


def claim(connection: Connection, source: Source) -> None:
    """Writes down that this index reads the source.

    Raises:
        ServerUnfit: another index does.
    """
    other = connection.execute(queries("remote")["read_by"], {"slot": source.slot}).fetchone()
    if other is not None:
        raise ServerUnfit(
            f'source "{source.name}" ({place(connection)}) is read by another index, with the slot "{other[0]}"; '
            "signals and heartbeats cannot serve two. Where that index is gone, drop its slot there "
            "and empty tidegate.read_by"
        )


def require_prepared(connection: Connection, name: str) -> None:
    """Raises SourceUnprepared unless `prepare_source` was run on it."""
    if connection.execute("SELECT to_regclass('tidegate.read_by') IS NULL").fetchone() == (True,):
        raise SourceUnprepared(
            f'source "{name}" ({place(connection)}) is not prepared; run "tidegate init --source {name}"'
        )


def place(connection: Connection) -> str:
    """Where a database is, as messages name it."""
    return f"{connection.info.host}:{connection.info.port}/{connection.info.dbname}"


@dataclass(frozen=True, slots=True)
class SourceSteps:
    """What a contract changes in its source database.

    Attributes:
        before, after: the transaction of the index.
        joins: the table joins the publication, so what changed before it did must be read.
    """

    before: tuple[Statement, ...]
    after: tuple[Statement, ...]
    summary: tuple[str, ...]
    joins: bool


def source_steps(connection: Connection, contract: Contract, name: str, also: Contract | None = None) -> SourceSteps:
    """Compares the contract with its source database: privileges of the worker, the publication.

    Args:
        also: the product's second index, which may need other columns.
    """
    static = queries("remote")
    source = contract.source
    table = sql.Identifier(source.schema, source.table)
    where: Mapping[str, object] = {"schema": source.schema, "table": source.table}
    row = connection.execute(static["table_state"], where).fetchone()
    assert row is not None
    usage, readable, granted = row
    needed = [column.name for column in contract.read_columns]
    needed += [column.name for column in (also.read_columns if also else ()) if column.name not in needed]
    before: list[Statement] = []
    summary: list[str] = []
    if not usage:
        before.append(sql.SQL("GRANT USAGE ON SCHEMA {} TO tidegate_worker").format(sql.Identifier(source.schema)))
    missing = [column for column in needed if column not in readable]
    if missing:
        before.append(sql.SQL("GRANT SELECT ({}) ON {} TO tidegate_worker").format(_names(missing), table))
        summary.append(f"lets the worker read {', '.join(missing)} of {source.schema}.{source.table} on {name}")
    joining = list(joins(connection, source.schema, source.table))
    if joining:
        before += joining
        summary.append(f"adds {source.schema}.{source.table} to the publication on {name}")
    gone = sorted(set(granted) - set(needed))
    after: list[Statement] = []
    if gone:
        after.append(sql.SQL("REVOKE SELECT ({}) ON {} FROM tidegate_worker").format(_names(gone), table))
        summary.append(f"takes {', '.join(gone)} of {source.schema}.{source.table} on {name} from the worker")
    return SourceSteps(tuple(before), tuple(after), tuple(summary), joins=bool(joining))


def remote_problems(contract: Contract, name: str, row_security: bool) -> Iterator[str]:
    """What a contract cannot have where its rows are on another server."""
    if contract.memberships:
        named = ", ".join(f"member({membership.name})" for membership in contract.memberships)
        yield (
            f"its rows come from {name}, and {named} would have to be asked of that server at each search; keep "
            "the membership as a table of the index's database that a product there publishes, or as an attribute"
        )
    if row_security:
        yield (
            f"{contract.source.schema}.{contract.source.table} on {name} has row-level security, whose policies would "
            f"run with the worker's rights; run ALTER TABLE {contract.source.schema}.{contract.source.table} "
            "DISABLE ROW LEVEL SECURITY there, or keep the rows in a table without"
        )


def _names(columns: list[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, columns))

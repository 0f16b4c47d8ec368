"""What the index has for rows of a source: the ledger's entry, and the chunks as they really are."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from tidegate.database import Connection
from tidegate.govern.clear_table import VALUE, clear_table
from tidegate.index.product import Product
from tidegate.observe.source_rows import Key, ledger_key


@dataclass(frozen=True, slots=True)
class IndexRow:
    """What is there for a row; nothing of it need be.

    Attributes:
        position, state, hash, counted: the ledger's; None where it does not know the row. `counted`: its chunks.
        parked: whether a dead letter says why the row is not indexed.
        chunks: that are there.
        sound: numbered without a gap, of one version, with the text that their hash is of.
        carried, clear: a column's values, each once; more than one is wrong whatever the source has.
    """

    position: str | None
    state: str | None
    hash: bytes | None
    counted: int
    parked: bool
    chunks: int
    sound: bool
    carried: tuple[tuple[str | None, ...], ...]
    clear: tuple[tuple[str | None, ...], ...]


class IndexRows:
    """Reads one product's index.

    Args:
        connection: as the worker, in autocommit mode.
    """

    def __init__(self, connection: Connection, product: Product):
        self._connection, self._product = connection, product
        contract = product.contract
        self._types = [contract.column_types[name] for name in product.key_names]
        self._names = [sql.Identifier(name) for name in product.key_names]
        self._places = [sql.Identifier(f"key_{number}") for number, _ in enumerate(self._names)]
        self._lookup = self._statement()

    def of(self, keys: Sequence[Key]) -> dict[Key, IndexRow]:
        """What is there for each of the keys."""
        if not keys:
            return {}
        columns = [list(column) for column in zip(*keys, strict=True)]
        ledger_keys = [ledger_key(self._product, key) for key in keys]
        parameters = [*columns, ledger_keys, list(range(len(keys))), self._product.product_id]
        carried = len(self._product.contract.carried_columns)
        found = {}
        for row in self._connection.execute(self._lookup, parameters):
            values = tuple(tuple(column) for column in row[8:])
            found[keys[row[0]]] = IndexRow(
                position=row[1],
                state=row[2],
                hash=None if row[3] is None else bytes(row[3]),
                counted=row[4] or 0,
                parked=row[5],
                chunks=row[6],
                sound=row[7],
                carried=values[:carried],
                clear=values[carried:],
            )
        return found

    def page(self, after: Key | None, limit: int) -> list[Key]:
        """The next keys that have chunks, in their order, at most `limit`."""
        key = sql.SQL(", ").join(sql.SQL("c.{}").format(name) for name in self._names)
        casts = sql.SQL(", ").join(sql.SQL("%s::{}").format(sql.SQL(type_)) for type_ in self._types)
        statement = sql.SQL(
            "SELECT {texts} FROM (SELECT DISTINCT {key} FROM {table} AS c {where}ORDER BY {key} LIMIT %s) AS c"
        ).format(
            texts=sql.SQL(", ").join(sql.SQL("c.{}::text").format(name) for name in self._names),
            key=key,
            table=self._product.chunk_table,
            where=sql.SQL("WHERE ({}) > ({}) ").format(key, casts) if after is not None else sql.SQL(""),
        )
        return [tuple(row) for row in self._connection.execute(statement, [*(after or ()), limit])]

    def _statement(self) -> sql.Composed:
        contract = self._product.contract
        match = sql.SQL(" AND ").join(
            sql.SQL("c.{} = n.{}").format(name, place) for name, place in zip(self._names, self._places, strict=True)
        )
        carried = [
            sql.SQL("array_agg(DISTINCT c.{}::text)").format(sql.Identifier(column.name))
            for column in contract.carried_columns
        ]
        clear = [
            sql.SQL("ARRAY(SELECT c.{}::text FROM {} AS c WHERE {})").format(
                sql.Identifier(VALUE), clear_table(contract, column), match
            )
            for column in contract.revealed_columns
        ]
        values = [sql.SQL("coalesce(t.{}, '{{}}')").format(sql.Identifier(f"v{i}")) for i, _ in enumerate(carried)]
        return sql.SQL(
            "SELECT n.place, l.position::text, l.state, l.document_hash, l.chunks, d.key IS NOT NULL, t.chunks, "
            "t.sound, {values} "
            "FROM unnest({arrays}, %s::text[], %s::int[]) AS n ({places}, ledger_key, place) "
            "LEFT JOIN tidegate.ledger AS l ON l.product_id = %s AND l.key = n.ledger_key "
            "LEFT JOIN tidegate.dead_letter AS d "
            "ON d.product_id = l.product_id AND d.key = l.key AND d.kind <> 'repair' "
            "CROSS JOIN LATERAL (SELECT count(*) AS chunks, "
            "count(*) = 0 OR count(DISTINCT c.position) = 1 AND max(c.chunk_no) = count(*) - 1 "
            "AND bool_and(c.content_hash = sha256(convert_to(c.content, 'UTF8'))) AS sound, {carried} "
            "FROM {table} AS c WHERE {match}) AS t"
        ).format(
            values=sql.SQL(", ").join([*values, *clear]),
            arrays=sql.SQL(", ").join(sql.SQL("%s::text[]::{}[]").format(sql.SQL(type_)) for type_ in self._types),
            places=sql.SQL(", ").join(self._places),
            carried=sql.SQL(", ").join(
                sql.SQL("{} AS {}").format(value, sql.Identifier(f"v{i}")) for i, value in enumerate(carried)
            ),
            table=self._product.chunk_table,
            match=match,
        )

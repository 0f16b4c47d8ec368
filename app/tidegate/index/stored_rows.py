"""Rows as an index has them: what a second index under another model can be filled from."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from tidegate.capture.position import Position
from tidegate.govern.clear_table import VALUE, clear_table
from tidegate.index.copied_row import CopiedRow
from tidegate.index.product import Product
from tidegate.sql import queries


class StoredRows:
    """Reads the first index of a product, for the second.

    A row and its chunks are of one version, since one statement reads both and one transaction wrote them.
    """

    def __init__(self, first: Product, second: Product):
        self._ids = {"first": first.product_id, "second": second.product_id}
        contract = first.contract
        self._carried = [column.name for column in contract.carried_columns]
        self._revealed = [column.name for column in contract.revealed_columns]
        types = contract.column_types
        match = sql.SQL(" AND ").join(
            sql.SQL("c.{} = (l.key::jsonb ->> {})::{}").format(
                sql.Identifier(name), sql.Literal(name), sql.SQL(types[name])
            )
            for name in first.key_names
        )
        carried = sql.SQL(", ").join(sql.SQL("c.{}::text").format(sql.Identifier(name)) for name in self._carried)
        clear = [
            sql.SQL(", ARRAY(SELECT c.{}::text FROM {} AS c WHERE {})").format(
                sql.Identifier(VALUE), clear_table(contract, column), match
            )
            for column in contract.revealed_columns
        ]
        self._statement = sql.SQL(
            "WITH l AS MATERIALIZED ({page}) "
            "SELECT l.key, l.position::text, l.state, l.document_hash, t.sound AND t.chunks = l.chunks, t.texts, "
            "t.committed_at, t.carried{clear} FROM l "
            "CROSS JOIN LATERAL (SELECT count(*) AS chunks, "
            "count(*) = 0 OR bool_and(c.position = l.position) "
            "AND bool_and(c.content_hash = sha256(convert_to(c.content, 'UTF8'))) "
            "AND max(c.chunk_no) = count(*) - 1 AND count(DISTINCT ARRAY[{carried}]) = 1 AS sound, "
            "array_agg(c.content ORDER BY c.chunk_no) AS texts, max(c.committed_at) AS committed_at, "
            "(array_agg(ARRAY[{carried}]))[1:1] AS carried FROM {table} AS c WHERE {match}) AS t ORDER BY l.key"
        ).format(
            page=sql.SQL(queries("beside")["copied_page"]),
            clear=sql.SQL("").join(clear),
            carried=carried,
            table=first.chunk_table,
            match=match,
        )

    def page(self, connection: psycopg.Connection[Any], after: str, through: str, limit: int) -> list[CopiedRow]:
        """The next rows, by key, that the second index does not have yet, at most `limit`.

        Args:
            after: a key as the ledger has it; "" begins.
            through: an LSN; what changed after it is left out.
        """
        parameters = {**self._ids, "after": after, "through": through, "rows": limit}
        return [self._row(row) for row in connection.execute(self._statement, parameters)]

    def _row(self, row: Sequence[Any]) -> CopiedRow:
        key, position, state, digest, sound, texts, committed_at, carried, *clear = row
        whole = state == "indexed" and sound and (not texts or all(clear))
        return CopiedRow(
            key=key,
            position=Position.of(position),
            committed_at=committed_at,
            hash=None if digest is None else bytes(digest),
            texts=tuple(texts or ()) if whole else None,
            carried=tuple(carried[0]) if carried else (),
            clear={name: values[0] for name, values in zip(self._revealed, clear, strict=True) if values},
        )

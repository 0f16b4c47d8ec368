"""What is to be written for a row, and the one transaction that writes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import psycopg
from pgvector import Vector
from psycopg import sql

from tidegate.capture.position import Position, lsn_text
from tidegate.index.chunk_diff import Kept, renumbering
from tidegate.index.clear_values import ClearWriter
from tidegate.index.embedding.embedder import Vectors
from tidegate.index.embedding_cache import Vector as Embedding
from tidegate.index.product import Product, Values
from tidegate.sql import queries


class Kind(StrEnum):
    """What becomes of a row's chunks."""

    INDEX = "index"
    """They are replaced; those whose text is in the new version stay, under their new number."""
    CARRY = "carry"
    """They stay; the columns beside them change."""
    DELETE = "delete"
    WAIT = "wait"
    """Those whose text is gone go, too; the new ones that need no embedding come. A dead letter says why."""
    PARK = "park"
    """They go, and a dead letter says why."""


class Overtaken(Exception):
    """Another writer changed a row between the look at the ledger and the write."""


class Moved(Exception):
    """The index is in another schema than the writer thinks: it changed places with the other. None: dropped."""

    def __init__(self, product_id: int, schema: str | None):
        super().__init__(product_id, schema)
        self.product_id, self.schema = product_id, schema


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a row is parked. `retry_in`: after this time the worker tries again by itself; None: only when told."""

    kind: str
    text: str
    retry_in: timedelta | None = None


@dataclass(frozen=True, slots=True)
class RowWrite:
    """The write of one row.

    Attributes:
        key: the row's key in its written form (Product.key_text).
        values: the needed columns; empty for DELETE and PARK.
        chunks: texts; for INDEX only. `vectors` has those of the texts that are not `kept`, in their order.
        kept: the stored chunks that stay, by their new number; they are those of the ledger position `base`.
        left_out: numbers of chunks that are not written, for WAIT.
        chunk_count: chunks that the row has after the write.
        characters: of its document.
        carried: what stands beside its chunks, where that is known as it is stored; None: it follows from `values`.
    """

    kind: Kind
    key: str
    key_values: tuple[str, ...]
    position: Position
    committed_at: datetime | None
    values: Values = field(default_factory=dict)
    document_hash: bytes | None = None
    chunks: Sequence[str] = ()
    vectors: Vectors | Sequence[Embedding] | None = None
    kept: Kept = field(default_factory=dict)
    base: Position | None = None
    left_out: frozenset[int] = frozenset()
    chunk_count: int = 0
    characters: int = 0
    reason: Reason | None = None
    carried: tuple[str | None, ...] | None = None


_LEDGER_STATES = {
    Kind.INDEX: "indexed",
    Kind.CARRY: "indexed",
    Kind.DELETE: "deleted",
    Kind.WAIT: "waiting",
    Kind.PARK: "parked",
}


class ChunkWriter:
    """Writes the rows of one product: ledger first, then what the ledger let through.

    The caller holds the transaction. No row is ever half written: its chunks are replaced in it.
    """

    def __init__(self, product: Product):
        self._product = product
        self._static = queries("worker")
        contract = product.contract
        self._carried = [column.name for column in contract.carried_columns]
        types = {column.name: column.carried_type for column in contract.carried_columns}
        self._clear = ClearWriter(product)
        casts = {name: sql.SQL("%s::{}").format(sql.SQL(types[name])) for name in self._carried}
        match = sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), casts[name]) for name in product.key_names
        )
        table = product.chunk_table
        self._delete = sql.SQL("DELETE FROM {} WHERE {}").format(table, match)
        self._delete_all = sql.SQL("DELETE FROM {} WHERE position < %s::pg_lsn[]").format(table)
        self._insert = sql.SQL(
            "INSERT INTO {table} ({carried}, chunk_no, content, content_hash, embedding, "
            "position, committed_at, contract_version) "
            "VALUES ({values}, %s, %s, sha256(convert_to(%s, 'UTF8')), %s, %s::pg_lsn[], %s, %s)"
        ).format(
            table=table,
            carried=sql.SQL(", ").join(map(sql.Identifier, self._carried)),
            values=sql.SQL(", ").join(casts[name] for name in self._carried),
        )
        self._carry = sql.SQL(
            "UPDATE {table} SET ({carried}, position, committed_at, indexed_at, contract_version) = "
            "ROW ({values}, %s::pg_lsn[], %s, clock_timestamp(), %s) WHERE {match}"
        ).format(
            table=table,
            carried=sql.SQL(", ").join(map(sql.Identifier, self._carried)),
            values=sql.SQL(", ").join(casts[name] for name in self._carried),
            match=match,
        )
        self._carry_some = self._carry + sql.SQL(" AND chunk_no = ANY (%s)")
        self._delete_others = self._delete + sql.SQL(" AND chunk_no <> ALL (%s)")
        self._move = sql.SQL(
            "UPDATE {table} SET ({carried}, position, committed_at, indexed_at, contract_version, chunk_no) = "
            "ROW ({values}, %s::pg_lsn[], %s, clock_timestamp(), %s, %s) WHERE {match} AND chunk_no = %s"
        ).format(
            table=table,
            carried=sql.SQL(", ").join(map(sql.Identifier, self._carried)),
            values=sql.SQL(", ").join(casts[name] for name in self._carried),
            match=match,
        )

    def write(self, cursor: psycopg.Cursor[Any], rows: Sequence[RowWrite]) -> set[str]:
        """Writes the rows that the ledger lets through and returns their keys.

        Args:
            rows: at most one a key.

        Raises:
            Overtaken: a row that keeps its chunks has others by now; the transaction must be given up.
            Moved: the index is not where it was; likewise.
        """
        product_id = self._product.product_id
        rows = sorted(rows, key=lambda row: row.key)
        cursor.execute(self._static["share_product"], {"product_id": product_id})
        place = self._ask_place(cursor)
        if any(row.kind is Kind.CARRY or row.kept for row in rows):
            keys = [row.key for row in rows]
            cursor.execute(self._static["ledger_lock"], {"product_id": product_id, "keys": keys})
            found = {key: (hash_, at) for key, hash_, state, at in cursor.fetchall() if state in ("indexed", "waiting")}
            if any(_overtaken(row, *found.get(row.key, (None, None))) for row in rows):
                raise Overtaken
        cursor.execute(
            self._static["ledger_advance"],
            {
                "product_id": product_id,
                "keys": [row.key for row in rows],
                "after_commits": [lsn_text(row.position.after_commit) for row in rows],
                "changes": [lsn_text(row.position.change) for row in rows],
                "hashes": [row.document_hash for row in rows],
                "chunks": [row.chunk_count for row in rows],
                "states": [_LEDGER_STATES[row.kind] for row in rows],
            },
        )
        won = {row[0] for row in cursor.fetchall()}
        self._require_place(place)
        winners = [row for row in rows if row.key in won]
        if not winners:
            return won
        removed = [row.key_values for row in winners if row.kind is not Kind.CARRY and not row.kept]
        if removed:
            cursor.executemany(self._delete, removed)
        for row in winners:
            if row.kept:
                self._keep(cursor, row)
        inserts = [
            parameters for row in winners if row.kind in (Kind.INDEX, Kind.WAIT) for parameters in self._inserts(row)
        ]
        if inserts:
            cursor.executemany(self._insert, inserts)
        carries = [self._carry_parameters(row) for row in winners if row.kind is Kind.CARRY and row.chunk_count]
        if carries:
            cursor.executemany(self._carry, carries)
        shown = [(row.key_values, row.values, row.position) for row in winners if row.chunk_count]
        self._clear.write(cursor, removed, shown)
        cleared = [row.key for row in winners if row.reason is None]
        if cleared:
            cursor.execute(self._static["dead_letters_clear"], {"product_id": product_id, "keys": cleared})
        for row in winners:
            if row.reason is not None:
                cursor.execute(self._static["dead_letter_add"], self._letter(row, row.reason))
        return won

    def truncate(self, cursor: psycopg.Cursor[Any], position: Position) -> None:
        """Removes everything that is older than the truncate, and fences what is still on its way."""
        parameters = {"product_id": self._product.product_id, "position": position.text()}
        cursor.execute(self._static["own_product"], parameters)
        self._require_place(self._ask_place(cursor))
        for name in ("truncate_mark", "truncate_ledger", "truncate_dead_letters"):
            cursor.execute(self._static[name], parameters)
        cursor.execute(self._delete_all, [position.text()])
        self._clear.truncate(cursor, position)

    def _keep(self, cursor: psycopg.Cursor[Any], row: RowWrite) -> None:
        """Removes the row's chunks that do not stay, and brings the others to their new numbers and values."""
        cursor.execute(self._delete_others, [*row.key_values, list(row.kept.values())])
        values = self._carry_parameters(row)
        before, key = values[: -len(row.key_values)], row.key_values
        moves = [(*before, to, *key, at) for at, to in renumbering(row.kept)]
        if moves:
            cursor.executemany(self._move, moves)
        # Where the number stays and the carried columns do, too, no index entry changes (HOT).
        same = [new for new, old in row.kept.items() if new == old]
        if same:
            cursor.execute(self._carry_some, [*values, same])

    def _ask_place(self, cursor: psycopg.Cursor[Any]) -> psycopg.Cursor[Any]:
        """Asks where the index is, once nobody can move it any more: a switch has the product alone."""
        place: psycopg.Cursor[Any] = cursor.connection.cursor()
        return place.execute(self._static["product_place"], {"product_id": self._product.product_id})

    def _require_place(self, place: psycopg.Cursor[Any]) -> None:
        row = place.fetchone()
        if row is None or row[0] != self._product.contract.chunk_schema:
            raise Moved(self._product.product_id, row and row[0])

    def _inserts(self, row: RowWrite) -> list[tuple[Any, ...]]:
        carried = self._carried_of(row)
        version = self._product.contract.version
        fresh = [
            (number, text)
            for number, text in enumerate(row.chunks)
            if number not in row.kept and number not in row.left_out
        ]
        return [
            (*carried, number, text, text, Vector(vector), row.position.text(), row.committed_at, version)
            for (number, text), vector in zip(fresh, () if row.vectors is None else row.vectors, strict=True)
        ]

    def _carry_parameters(self, row: RowWrite) -> tuple[Any, ...]:
        carried = self._carried_of(row)
        version = self._product.contract.version
        return (*carried, row.position.text(), row.committed_at, version, *row.key_values)

    def _carried_of(self, row: RowWrite) -> tuple[str | None, ...]:
        return self._product.carried_values(row.values) if row.carried is None else row.carried

    def _letter(self, row: RowWrite, reason: Reason) -> Mapping[str, Any]:
        return {
            "product_id": self._product.product_id,
            "key": row.key,
            "position": row.position.text(),
            "kind": reason.kind,
            "reason": reason.text,
            "retry_in": reason.retry_in,
        }


def _overtaken(row: RowWrite, document_hash: bytes | None, position: str | None) -> bool:
    """Whether the row's chunks are others than those that it counts on."""
    if row.kind is Kind.CARRY:
        return document_hash != row.document_hash
    return bool(row.kept) and (position is None or Position.of(position) != row.base)

"""A batch's rows written in one transaction, of however many products, and counted."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, assert_never

import psycopg
from psycopg.rows import TupleRow

from tidegate.index.chunk_diff import StoredChunks
from tidegate.index.item import Item, by_product
from tidegate.index.item_write import parked
from tidegate.index.product import Product, Violation
from tidegate.index.write import ChunkWriter, Kind, RowWrite
from tidegate.observe.cost_meter import CostMeter
from tidegate.sql import queries

log = logging.getLogger(__name__)

Connection = psycopg.Connection[TupleRow]


class BatchWriter:
    """Writes rows with their watermarks.

    Args:
        searchable: told of each product's live rows when they are searchable, for the freshness figures.
    """

    def __init__(self, meter: CostMeter, searchable: Callable[[Product, Sequence[RowWrite], datetime], None]):
        self._meter, self._searchable = meter, searchable
        self._writers: dict[int, tuple[Product, ChunkWriter, StoredChunks]] = {}
        self._static = queries("worker")

    def write(
        self,
        connection: Connection,
        rows: Sequence[tuple[Item, RowWrite]],
        watermarks: Sequence[Mapping[str, Any]],
    ) -> None:
        """Writes the rows in one transaction; where one of them cannot be written, each in its own."""
        if not rows and not watermarks:
            return
        try:
            self._transaction(connection, rows, watermarks)
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            if len(rows) > 1:
                for row in rows:
                    self.write(connection, [row], ())
                self.write(connection, [], watermarks)
            elif rows and rows[0][1].kind is not Kind.PARK:
                item, _ = rows[0]
                reason = Violation(f"Postgres refuses the row: {_refusal(error)}")
                self._transaction(connection, [(item, parked(item, reason, kind="write"))], watermarks)
            else:
                raise

    def _transaction(
        self,
        connection: Connection,
        rows: Sequence[tuple[Item, RowWrite]],
        watermarks: Sequence[Mapping[str, Any]],
    ) -> None:
        live: list[tuple[Product, list[RowWrite]]] = []
        # Three round trips: up to the ledger's answer, what follows from it, the commit.
        with connection.pipeline(), connection.transaction(), connection.cursor() as cursor:
            for product, items in by_product([item for item, _ in rows]):
                of_product = {id(item) for item in items}
                writes = [row for item, row in rows if id(item) in of_product]
                won = self._writer(product).write(cursor, writes)
                live.append(
                    (
                        product,
                        [
                            row
                            for item, row in rows
                            if id(item) in of_product and row.key in won and not item.event.backfill and not item.retry
                        ],
                    )
                )
            for watermark in watermarks:
                cursor.execute(self._static["watermark_move"], watermark)
            # Its answer comes after all others': what Postgres refused is raised here, before the commit.
            moment = cursor.execute(self._static["now"]).fetchone()
        assert moment is not None
        for product, written in live:
            if written:
                self._searchable(product, written, moment[0])
        for item, row in rows:
            self._account(item, row)
        log.debug("committed", extra={"rows": len(rows)})

    def _account(self, item: Item, row: RowWrite) -> None:
        """Counts what the row cost and saved, once it is written."""
        events = 0 if item.retry else max(1, len(item.numbers))
        figures = {"backfilled": 1} if item.event.backfill else {"changes": events, "coalesced": max(0, events - 1)}
        naive = 1 if item.event.backfill else max(1, events)
        match row.kind:
            case Kind.DELETE:
                figures["deletes"] = 1
                naive = 0
            case Kind.CARRY:
                figures["unchanged"] = 1
            case Kind.INDEX:
                figures |= {"indexed": 1, "chunks_reused": len(row.kept)}
            case Kind.PARK | Kind.WAIT:
                naive = 0  # counted when it is indexed
            case _:
                assert_never(row.kind)
        figures["naive_texts"] = naive * row.chunk_count
        self._meter.add(item.product.cost_place, naive_characters=naive * row.characters, **figures)

    def truncate(self, connection: Connection, product: Product, item: Item) -> None:
        """Removes what is older than the truncate."""
        with connection.transaction(), connection.cursor() as cursor:
            self._writer(product).truncate(cursor, item.event.position)
        log.info("truncated", extra={"product": product.contract.product})

    def stored(self, product: Product) -> StoredChunks:
        """What is in the product's index."""
        return self._tools(product)[2]

    def _writer(self, product: Product) -> ChunkWriter:
        return self._tools(product)[1]

    def _tools(self, product: Product) -> tuple[Product, ChunkWriter, StoredChunks]:
        held = self._writers.get(product.product_id)
        if held is None or held[0] is not product:
            self._writers[product.product_id] = held = (product, ChunkWriter(product), StoredChunks(product))
        return held


def _refusal(error: psycopg.Error) -> str:
    """What Postgres said, without the values that it quotes."""
    primary = (error.diag.message_primary or "").split(":")[0]
    return f"{type(error).__name__} ({error.sqlstate or 'no SQLSTATE'}): {primary or 'the value cannot be sent'}"

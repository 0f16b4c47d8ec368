"""Events of one embedding model to written rows: decide, embed, write. No network call inside a transaction."""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from tidegate.capture.change_event import Operation
from tidegate.index.batch_writer import BatchWriter
from tidegate.index.budget import Budgets
from tidegate.index.chunk_diff import match
from tidegate.index.decision import Decided, Decision
from tidegate.index.embedding.embedder import Embedder
from tidegate.index.embedding_cache import EmbeddingCache
from tidegate.index.item import Item, by_product
from tidegate.index.planned import Planned
from tidegate.index.planned_embedding import PlannedEmbedding
from tidegate.index.product import Product
from tidegate.index.source_reader import SourceReader
from tidegate.index.vector_source import VectorSource
from tidegate.index.write import Moved, Overtaken, RowWrite
from tidegate.observe.cost_meter import CostMeter

log = logging.getLogger(__name__)

Connection = psycopg.Connection[TupleRow]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch: finished, to be tried again later, too long to be embedded among live changes, and not
    begun, since others should not wait for it."""

    finished: list[Item]
    again: list[Item]
    bulk: list[Item]
    back: list[Item] = field(default_factory=list)


class Indexer:
    """Processes batches of items of one model on one connection.

    Args:
        bulk: embed for throughput, behind the live changes.
        reader: reads rows from their source, wherever that is.
        cache: where vectors are looked up and kept; None: nowhere.
        meter: counts what it costs; None: nobody asks.
        budgets: says what may be embedded today; None: all.
        searchable: told of each product's live rows when they are searchable, for the freshness figures.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        bulk: bool,
        max_document_chars: int,
        attempts: int,
        reader: SourceReader | None = None,
        searchable: Callable[[Product, Sequence[RowWrite], datetime], None],
        cache: EmbeddingCache | None = None,
        meter: CostMeter | None = None,
        budgets: Budgets | None = None,
    ):
        self._bulk = bulk
        self._reader = reader or SourceReader({})
        meter = meter or CostMeter()
        self._source = VectorSource(embedder, cache or EmbeddingCache(0, 1), meter, bulk=bulk)
        self._decision = Decision(self._reader, bulk=bulk, max_document_chars=max_document_chars, attempts=attempts)
        self._embedding = PlannedEmbedding(self._source, meter, budgets or Budgets(), bulk=bulk, attempts=attempts)
        self._writer = BatchWriter(meter, searchable)

    def close(self) -> None:
        """Closes its connections to sources on other servers."""
        self._reader.close()

    def process(
        self,
        connection: Connection,
        items: Sequence[Item],
        watermarks: Sequence[Mapping[str, Any]] = (),
        others_wait: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        """Embeds and writes the items: at most one a row, truncates before the rows that came after them.

        What needs no embedding (deletes, unchanged documents) is written first and never waits for a model.

        Args:
            watermarks: moved in the last transaction, if every item got finished.
            others_wait: asked between slices; where it says yes, the slices that are left are given back.

        Raises:
            psycopg.OperationalError: the database is away; nothing is lost, the batch can be repeated.
        """
        gone: list[Item] = []
        while True:
            try:
                outcome = self._process(connection, items, watermarks, others_wait)
            except Overtaken:
                # What was written meanwhile, of these items too, now stands in the ledger.
                log.debug("overtaken", extra={"rows": len(items)})
            except Moved as moved:
                own = [item for item in items if item.product.product_id == moved.product_id]
                if moved.schema is None:
                    gone += own
                    items = [item for item in items if item.product.product_id != moved.product_id]
                for item in own:
                    item.product = item.product.at(moved.schema or item.product.contract.chunk_schema)
            else:
                return replace(outcome, finished=[*outcome.finished, *gone])

    def _process(
        self,
        connection: Connection,
        items: Sequence[Item],
        watermarks: Sequence[Mapping[str, Any]],
        others_wait: Callable[[], bool],
    ) -> Outcome:
        decided = Decided()
        for product, rows in by_product(items):
            for item in rows:
                if item.event.operation is Operation.TRUNCATE:
                    self._writer.truncate(connection, product, item)
            keyed = [item for item in rows if item.key is not None]
            self._decision.of(connection, product, keyed, decided)
        ready, planned, bulk, again = decided.ready, decided.planned, decided.bulk, decided.again
        if planned:
            self._writer.write(connection, ready, ())
            ready = []
            self._keep_what_stays(connection, planned)
            planned, waits = self._embedding.begin(connection, planned, bulk)
            self._writer.write(connection, waits, ())
        back: list[Item] = []
        parts = list(self._embedding.slices(planned))
        with contextlib.closing(self._embedding.embedded(parts, again)) as slices:
            for number, embedded in enumerate(slices, 1):
                if number == len(parts):
                    ready = embedded
                    break
                self._writer.write(connection, embedded, ())
                if not self._bulk and others_wait():
                    back = [plan.item for part in parts[number:] for plan in part]
                    break
        self._writer.write(connection, ready, () if again or bulk or back else watermarks)
        unfinished = {id(item) for item in (*again, *bulk, *back)}
        return Outcome([item for item in items if id(item) not in unfinished], again, bulk, back)

    def _keep_what_stays(self, connection: Connection, planned: Sequence[Planned]) -> None:
        """Finds the chunks that are in the index already, so that only the others are embedded."""
        for product in {plan.item.product.product_id: plan.item.product for plan in planned}.values():
            changed = [p for p in planned if p.item.product is product and p.base is not None]
            if not changed:
                continue
            stored = self._writer.stored(product).of(connection, [plan.item.key_values for plan in changed])
            for plan, chunks in zip(changed, stored, strict=True):
                plan.kept = match(chunks, [chunk.hash for chunk in plan.chunks])

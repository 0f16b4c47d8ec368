"""Events of one embedding model to written rows: decide, embed, write. No network call inside a transaction."""

import contextlib
import json
import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

import psycopg
from psycopg.rows import TupleRow

from tidegate.capture.change_event import ChangeEvent, Operation
from tidegate.capture.position import Position
from tidegate.errors import TerminalError
from tidegate.index.budget import Budgets, tomorrow
from tidegate.index.chunk_diff import Kept, StoredChunks, match, text_hash
from tidegate.index.document import document, document_hash
from tidegate.index.embedding.embedder import Embedder, EmbedderUnavailable, TextRefused
from tidegate.index.embedding_cache import EmbeddingCache
from tidegate.index.product import Product, Values, Violation
from tidegate.index.source_reader import SourceAway, SourceReader
from tidegate.index.turns import in_turns
from tidegate.index.vector_source import VectorSource, Wanted
from tidegate.index.write import ChunkWriter, Kind, Moved, Overtaken, Reason, RowWrite
from tidegate.observe.cost_meter import CostMeter
from tidegate.sql import queries

log = logging.getLogger(__name__)

Connection = psycopg.Connection[TupleRow]
RETRY_PARKED = timedelta(seconds=30)
LIVE_DOCUMENT_CHARS = 16_000
LIVE_DIFF_CHARS = 200_000
LIVE_SLICE_CHUNKS = 16
BULK_SLICE_CHUNKS = 64
LIVE_SLICE_CHARS = 4_000
BULK_SLICE_CHARS = 64_000


@dataclass(slots=True)
class Item:
    """The newest waiting event of a row, with the numbers of all events that it stands for.

    `key` is None for a truncate. `attempts` counts embeddings of it that failed for the moment. `retry`: not an
    event but a parked row that is tried again; what the source holds now decides. `cut`: its document's hash and
    chunks, where it was taken before and put back.
    """

    product: Product
    key: str | None
    event: ChangeEvent
    numbers: list[int]
    attempts: int = 0
    retry: bool = False
    cut: tuple[bytes, list[Wanted]] | None = None


@dataclass(slots=True)
class Planned:
    """A row whose document is new.

    Attributes:
        base: the ledger's position of what is stored of the row; None: nothing is.
        kept: the stored chunks that stay, by their new number; they need no vector.
    """

    item: Item
    values: Values
    hash: bytes
    chunks: list[Wanted]
    characters: int
    base: Position | None
    kept: Kept = field(default_factory=dict)

    @property
    def wanted(self) -> list[Wanted]:
        """The chunks whose vectors are to be had."""
        return [chunk for number, chunk in enumerate(self.chunks) if number not in self.kept]


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
        self._meter = meter or CostMeter()
        self._budgets = budgets or Budgets()
        self._source = VectorSource(embedder, cache or EmbeddingCache(0, 1), self._meter, bulk=bulk)
        # Live rows become searchable slice by slice, so that the first need not wait for the last.
        self._slice_chunks = BULK_SLICE_CHUNKS if bulk else LIVE_SLICE_CHUNKS
        self._slice_characters = BULK_SLICE_CHARS if bulk else LIVE_SLICE_CHARS
        self._max_document_chars = max_document_chars
        self._attempts = attempts
        self._reader = reader or SourceReader({})
        self._searchable = searchable
        self._writers: dict[int, tuple[Product, ChunkWriter, StoredChunks]] = {}
        self._static = queries("worker")

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
        ready: list[tuple[Item, RowWrite]] = []
        planned: list[Planned] = []
        bulk: list[Item] = []
        again: list[Item] = []
        for product, rows in _by_product(items):
            for item in rows:
                if item.event.operation is Operation.TRUNCATE:
                    self._truncate(connection, product, item)
            keyed = [item for item in rows if item.key is not None]
            self._decide(connection, product, keyed, ready, planned, bulk, again)
        if planned:
            self._write(connection, ready, ())
            ready = []
            self._keep_what_stays(connection, planned)
            planned, waits = self._begin(connection, planned, bulk)
            self._write(connection, waits, ())
        back: list[Item] = []
        parts = list(self._slices(planned))
        with contextlib.closing(self._embedded_slices(parts, again)) as slices:
            for number, embedded in enumerate(slices, 1):
                if number == len(parts):
                    ready = embedded
                    break
                self._write(connection, embedded, ())
                if not self._bulk and others_wait():
                    back = [plan.item for part in parts[number:] for plan in part]
                    break
        self._write(connection, ready, () if again or bulk or back else watermarks)
        unfinished = {id(item) for item in (*again, *bulk, *back)}
        return Outcome([item for item in items if id(item) not in unfinished], again, bulk, back)

    def _decide(
        self,
        connection: Connection,
        product: Product,
        items: Sequence[Item],
        ready: list[tuple[Item, RowWrite]],
        planned: list[Planned],
        bulk: list[Item],
        again: list[Item],
    ) -> None:
        """Sorts a product's items: nothing to do, ready to write, or to be embedded first."""
        known = self._known(connection, product, [item.key for item in items if item.key is not None])
        fresh = [item for item in items if not _is_old(item, known)]
        unread: list[Item] = []
        for item in fresh:
            try:
                if item.retry:
                    unread.append(item)
                elif item.event.operation is Operation.DELETE:
                    ready.append((item, _row(Kind.DELETE, item)))
                else:
                    values = product.values(item.event)
                    if values is None:
                        unread.append(item)
                    else:
                        self._plan(item, values, known, ready, planned, bulk)
            except TerminalError as error:
                ready.append((item, _parked(item, error)))
        if not unread:
            return
        try:
            rows = self._reader.read(connection, product, [item.key for item in unread if item.key is not None])
        except SourceAway as away:
            for item in unread:
                if not self._try_again(item, again):
                    ready.append((item, _parked(item, away, retry_in=RETRY_PARKED)))
            return
        except Violation as violation:
            ready.extend((item, _parked(item, violation)) for item in unread)
            return
        for item in unread:
            assert item.key is not None
            if item.key not in rows:
                # Deleted since. That event is on its way, but what the index has is older than this one, whose change
                # (of who may see the row, perhaps) must not be missing when the watermark has passed it.
                ready.append((item, _row(Kind.DELETE, item)))
                continue
            try:
                self._plan(item, rows[item.key], known, ready, planned, bulk)
            except TerminalError as error:
                ready.append((item, _parked(item, error)))

    def _keep_what_stays(self, connection: Connection, planned: Sequence[Planned]) -> None:
        """Finds the chunks that are in the index already, so that only the others are embedded."""
        for product in {plan.item.product.product_id: plan.item.product for plan in planned}.values():
            changed = [p for p in planned if p.item.product is product and p.base is not None]
            if not changed:
                continue
            stored = self._stored(product).of(connection, [_key_values(plan.item) for plan in changed])
            for plan, chunks in zip(changed, stored, strict=True):
                plan.kept = match(chunks, [chunk.hash for chunk in plan.chunks])

    def _begin(
        self, connection: Connection, planned: list[Planned], bulk: list[Item]
    ) -> tuple[list[Planned], list[tuple[Item, RowWrite]]]:
        """Looks up what is cached: what is to be embedded now, and the writes of what waits for tomorrow's budget.

        What has too much to be embedded for a live change goes to `bulk`.
        """
        self._source.begin(connection, [wanted for plan in planned for wanted in plan.wanted])
        now: list[Planned] = []
        waits: list[tuple[Item, RowWrite]] = []
        for plan in planned:
            product = plan.item.product
            missing = sum(len(wanted.text) for wanted in self._source.missing(plan.wanted))
            if not self._bulk and missing > LIVE_DOCUMENT_CHARS:
                bulk.append(plan.item)
            elif missing and not self._budgets.take(product, self._meter.estimate(product.cost_place, missing)):
                waits.append((plan.item, self._waiting(plan)))
            else:
                now.append(plan)
        return now if self._bulk else in_turns(now, lambda plan: plan.item.product), waits

    def _waiting(self, plan: Planned) -> RowWrite:
        """The row as far as it needs no embedding: what is searchable of it is of its new version, and only that."""
        left_out = frozenset(
            number
            for number, chunk in enumerate(plan.chunks)
            if number not in plan.kept and not self._source.knows(chunk)
        )
        return _row(
            Kind.WAIT,
            plan.item,
            values=plan.values,
            chunks=[chunk.text for chunk in plan.chunks],
            vectors=self._source.vectors([wanted for wanted in plan.wanted if self._source.knows(wanted)]),
            kept=plan.kept,
            base=plan.base,
            left_out=left_out,
            chunk_count=len(plan.chunks) - len(left_out),
            reason=Reason("budget", "its new text waits for tomorrow's budget of the product", tomorrow()),
        )

    def _known(
        self, connection: Connection, product: Product, keys: Sequence[str]
    ) -> dict[str, tuple[Position, bytes | None, str, int]]:
        if not keys:
            return {}
        rows = connection.execute(
            self._static["ledger_lookup"], {"product_id": product.product_id, "keys": list(keys)}
        ).fetchall()
        return {row[0]: (Position.of(row[1]), row[2], row[3], row[4]) for row in rows}

    def _plan(
        self,
        item: Item,
        values: Values,
        known: Mapping[str, tuple[Position, bytes | None, str, int]],
        ready: list[tuple[Item, RowWrite]],
        planned: list[Planned],
        bulk: list[Item],
    ) -> None:
        product = item.product
        assert item.key is not None
        text = document(product.contract.embedding, values, self._max_document_chars)
        digest = document_hash(product.contract.embedding, text)
        entry = known.get(item.key)
        if entry is not None and entry[1] == digest and entry[2] == "indexed":
            row = _row(
                Kind.CARRY, item, values=values, document_hash=digest, chunk_count=entry[3], characters=len(text)
            )
            ready.append((item, row))
            return
        base = entry[0] if entry is not None and entry[2] in ("indexed", "waiting") and entry[3] else None
        # Of a long document that is indexed already, an edit may be short.
        if not self._bulk and len(text) > (LIVE_DOCUMENT_CHARS if base is None else LIVE_DIFF_CHARS):
            bulk.append(item)
            return
        if item.cut is None or item.cut[0] != digest:
            chunks = [Wanted(product, text_hash(chunk), chunk) for chunk in product.splitter.chunks(text)]
            item.cut = (digest, chunks)
        chunks = item.cut[1]
        if chunks:
            planned.append(Planned(item, values, digest, chunks, len(text), base))
        else:
            ready.append((item, _row(Kind.INDEX, item, values=values, document_hash=digest)))

    def _slices(self, planned: Sequence[Planned]) -> Iterator[list[Planned]]:
        """The rows in groups of about so many chunks that the model is asked for, or characters of them."""
        part: list[Planned] = []
        chunks = characters = 0
        for plan in planned:
            missing = self._source.missing(plan.wanted)
            part.append(plan)
            chunks += len(missing)
            characters += sum(len(wanted.text) for wanted in missing)
            if chunks >= self._slice_chunks or characters >= self._slice_characters:
                yield part
                part, chunks, characters = [], 0, 0
        if part:
            yield part

    def _embedded_slices(
        self, parts: Sequence[Sequence[Planned]], again: list[Item]
    ) -> Generator[list[tuple[Item, RowWrite]], None, None]:
        """The slices' rows with their vectors; in bulk the next slice is embedded while one is written."""
        if not self._bulk:
            yield from (self._embedded(part, again) for part in parts)
            return
        with ThreadPoolExecutor(1, "embed-ahead") as ahead:
            coming = [ahead.submit(self._embedded, part, again) for part in parts[:1]]
            for part in parts[1:]:
                rows = coming.pop().result()
                coming.append(ahead.submit(self._embedded, part, again))
                yield rows
            yield from (last.result() for last in coming)

    def _embedded(self, planned: Sequence[Planned], again: list[Item]) -> list[tuple[Item, RowWrite]]:
        """The planned rows with their vectors; rows whose model does not answer go to `again`, or are parked."""
        if not planned:
            return []
        try:
            vectors = self._source.vectors([wanted for plan in planned for wanted in plan.wanted])
        except EmbedderUnavailable as error:
            return [
                (plan.item, _parked(plan.item, error, retry_in=RETRY_PARKED))
                for plan in planned
                if not self._try_again(plan.item, again)
            ]
        except TextRefused as error:
            if len(planned) == 1:
                return [(planned[0].item, _parked(planned[0].item, error))]
            # One of them is to blame: find it, so that it stops only itself.
            middle = len(planned) // 2
            return [*self._embedded(planned[:middle], again), *self._embedded(planned[middle:], again)]
        rows = []
        start = 0
        for plan in planned:
            end = start + len(plan.wanted)
            row = _row(
                Kind.INDEX,
                plan.item,
                values=plan.values,
                document_hash=plan.hash,
                chunks=[chunk.text for chunk in plan.chunks],
                vectors=vectors[start:end],
                kept=plan.kept,
                base=plan.base,
                chunk_count=len(plan.chunks),
                characters=plan.characters,
            )
            rows.append((plan.item, row))
            start = end
        return rows

    def _try_again(self, item: Item, again: list[Item]) -> bool:
        item.attempts += 1
        if item.retry or item.attempts >= self._attempts:
            return False
        again.append(item)
        return True

    def _write(
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
                    self._write(connection, [row], ())
                self._write(connection, [], watermarks)
            elif rows and rows[0][1].kind is not Kind.PARK:
                item, _ = rows[0]
                reason = Violation(f"Postgres refuses the row: {_refusal(error)}")
                self._transaction(connection, [(item, _parked(item, reason, kind="write"))], watermarks)
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
            for product, items in _by_product([item for item, _ in rows]):
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

    def _truncate(self, connection: Connection, product: Product, item: Item) -> None:
        with connection.transaction(), connection.cursor() as cursor:
            self._writer(product).truncate(cursor, item.event.position)
        log.info("truncated", extra={"product": product.contract.product})

    def _writer(self, product: Product) -> ChunkWriter:
        return self._tools(product)[1]

    def _stored(self, product: Product) -> StoredChunks:
        return self._tools(product)[2]

    def _tools(self, product: Product) -> tuple[Product, ChunkWriter, StoredChunks]:
        held = self._writers.get(product.product_id)
        if held is None or held[0] is not product:
            self._writers[product.product_id] = held = (product, ChunkWriter(product), StoredChunks(product))
        return held


def _by_product(items: Sequence[Item]) -> list[tuple[Product, list[Item]]]:
    groups: dict[int, tuple[Product, list[Item]]] = {}
    for item in items:
        groups.setdefault(item.product.product_id, (item.product, []))[1].append(item)
    # In one order for all workers, so that none waits for another in a circle.
    return [groups[product_id] for product_id in sorted(groups)]


def _is_old(item: Item, known: Mapping[str, tuple[Position, bytes | None, str, int]]) -> bool:
    entry = known.get(item.key or "")
    if entry is None:
        return False
    position, _, state, _ = entry
    match state:
        case "parked" | "waiting":
            return item.event.position < position
        case "indexed" | "deleted":
            return item.event.position <= position
        case other:
            raise AssertionError(f"ledger state {other}")


def _row(kind: Kind, item: Item, **fields: Any) -> RowWrite:
    assert item.key is not None
    return RowWrite(
        kind=kind,
        key=item.key,
        key_values=_key_values(item),
        position=item.event.position,
        committed_at=item.event.committed_at,
        **fields,
    )


def _key_values(item: Item) -> tuple[str, ...]:
    assert item.event.key is not None
    return tuple(str(item.event.key[name]) for name in item.product.key_names)


def _parked(item: Item, error: Exception, *, kind: str | None = None, retry_in: timedelta | None = None) -> RowWrite:
    if kind is None:
        if isinstance(error, Violation):
            kind = "violation"
        elif isinstance(error, (EmbedderUnavailable, TextRefused)):
            kind = "embedding"
        elif isinstance(error, SourceAway):
            kind = "source"
        else:
            kind = "document"
    return _row(Kind.PARK, item, reason=Reason(kind, str(error), retry_in))


def _refusal(error: psycopg.Error) -> str:
    """What Postgres said, without the values that it quotes."""
    primary = (error.diag.message_primary or "").split(":")[0]
    return f"{type(error).__name__} ({error.sqlstate or 'no SQLSTATE'}): {primary or 'the value cannot be sent'}"


def parked_event(product: Product, key: str, position: str) -> ChangeEvent:
    """A stand-in event for a parked row: its key and position; the values are read from the source."""
    source = product.contract.source
    return ChangeEvent(
        schema=source.schema,
        table=source.table,
        operation=Operation.UPSERT,
        key=json.loads(key),
        row=None,
        position=Position.of(position),
        committed_at=datetime.now(UTC),
    )

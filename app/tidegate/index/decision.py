"""What is to be done for each item: nothing, a write that needs no model, or an embedding first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
from psycopg.rows import TupleRow

from tidegate.capture.change_event import Operation
from tidegate.capture.position import Position
from tidegate.errors import TerminalError
from tidegate.index.chunk_diff import text_hash
from tidegate.index.copied_row import CopiedRow
from tidegate.index.document import document, document_hash
from tidegate.index.item import Item
from tidegate.index.item_write import RETRY_PARKED, parked, row_write
from tidegate.index.planned import Planned
from tidegate.index.product import Product, Values, Violation
from tidegate.index.source_reader import SourceAway, SourceReader
from tidegate.index.vector_source import Wanted
from tidegate.index.write import Kind, Reason, RowWrite
from tidegate.sql import queries

LIVE_DOCUMENT_CHARS = 16_000
LIVE_DIFF_CHARS = 200_000
NOW = timedelta(0)

Connection = psycopg.Connection[TupleRow]
Known = Mapping[str, tuple[Position, bytes | None, str, int]]
"""What the ledger says of rows: position, document hash, state, number of chunks."""


@dataclass(slots=True)
class Decided:
    """What is decided so far.

    Attributes:
        ready: to be written as it stands.
        planned: to be embedded first.
        bulk: too long to be embedded among live changes.
        again: cannot be read for the moment.
    """

    ready: list[tuple[Item, RowWrite]] = field(default_factory=list)
    planned: list[Planned] = field(default_factory=list)
    bulk: list[Item] = field(default_factory=list)
    again: list[Item] = field(default_factory=list)


class Decision:
    """Compares items with the ledger, and reads their rows where the event does not say enough.

    Args:
        bulk: long documents are taken, too.
        attempts: of reading a row, until it is parked.
    """

    def __init__(self, reader: SourceReader, *, bulk: bool, max_document_chars: int, attempts: int):
        self._reader = reader
        self._bulk = bulk
        self._max_document_chars = max_document_chars
        self._attempts = attempts
        self._static = queries("worker")

    def of(self, connection: Connection, product: Product, items: Sequence[Item], decided: Decided) -> None:
        """Sorts a product's items: nothing to do, ready to write, or to be embedded first."""
        known = self._known(connection, product, [item.key for item in items if item.key is not None])
        fresh = [item for item in items if not _is_old(item, known)]
        unread: list[Item] = []
        for item in fresh:
            try:
                if item.copied is not None:
                    _copy(item, item.copied, decided)
                elif item.retry:
                    unread.append(item)
                elif item.event.operation is Operation.DELETE:
                    decided.ready.append((item, row_write(Kind.DELETE, item)))
                else:
                    values = product.values(item.event)
                    if values is None:
                        unread.append(item)
                    else:
                        self._plan(item, values, known, decided)
            except TerminalError as error:
                decided.ready.append((item, parked(item, error)))
        if not unread:
            return
        try:
            rows = self._reader.read(connection, product, [item.key for item in unread if item.key is not None])
        except SourceAway as away:
            for item in unread:
                if not item.try_again(self._attempts, decided.again, away):
                    decided.ready.append((item, parked(item, away, retry_in=RETRY_PARKED)))
            return
        except Violation as violation:
            decided.ready.extend((item, parked(item, violation)) for item in unread)
            return
        for item in unread:
            assert item.key is not None
            if item.key not in rows:
                # Deleted since. That event is on its way, but what the index has is older than this one, whose change
                # (of who may see the row, perhaps) must not be missing when the watermark has passed it.
                decided.ready.append((item, row_write(Kind.DELETE, item)))
                continue
            try:
                self._plan(item, rows[item.key], known, decided)
            except TerminalError as error:
                decided.ready.append((item, parked(item, error)))

    def _known(self, connection: Connection, product: Product, keys: Sequence[str]) -> Known:
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
        known: Known,
        decided: Decided,
    ) -> None:
        product = item.product
        assert item.key is not None
        text = document(product.contract.embedding, values, self._max_document_chars)
        digest = document_hash(product.contract.embedding, text, product.hash_model)
        entry = known.get(item.key)
        if entry is not None and entry[1] == digest and entry[2] == "indexed":
            row = row_write(
                Kind.CARRY, item, values=values, document_hash=digest, chunk_count=entry[3], characters=len(text)
            )
            decided.ready.append((item, row))
            return
        base = entry[0] if entry is not None and entry[2] in ("indexed", "waiting") and entry[3] else None
        # Of a long document that is indexed already, an edit may be short.
        if not self._bulk and len(text) > (LIVE_DOCUMENT_CHARS if base is None else LIVE_DIFF_CHARS):
            decided.bulk.append(item)
            return
        if item.cut is None or item.cut[0] != digest:
            chunks = [Wanted(product, text_hash(chunk), chunk) for chunk in product.splitter.chunks(text)]
            item.cut = (digest, chunks)
        chunks = item.cut[1]
        if chunks:
            decided.planned.append(Planned(item, values, digest, chunks, len(text), base))
        else:
            decided.ready.append((item, row_write(Kind.INDEX, item, values=values, document_hash=digest)))


def _copy(item: Item, row: CopiedRow, decided: Decided) -> None:
    """A row of the first index: its chunks are embedded as they are."""
    if row.texts is None:
        # As a parked row it is read by its key, and embedded or parked under this model for its own reasons.
        why = Reason("source", "the index that is searched does not have its chunks; it is read from the source", NOW)
        decided.ready.append((item, row_write(Kind.PARK, item, reason=why)))
    elif row.texts:
        chunks = [Wanted(item.product, text_hash(text), text) for text in row.texts]
        characters = sum(map(len, row.texts))
        assert row.hash is not None
        decided.planned.append(Planned(item, row.clear, row.hash, chunks, characters, None, carried=row.carried))
    else:
        decided.ready.append((item, row_write(Kind.INDEX, item, document_hash=row.hash, carried=())))


def _is_old(item: Item, known: Known) -> bool:
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

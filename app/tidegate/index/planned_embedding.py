"""The vectors of planned rows, slice by slice, within the budgets."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
from psycopg.rows import TupleRow

from tidegate.index.budget import Budgets, tomorrow
from tidegate.index.decision import LIVE_DOCUMENT_CHARS
from tidegate.index.embedding.embedder import EmbedderUnavailable, TextRefused
from tidegate.index.item import Item
from tidegate.index.item_write import RETRY_PARKED, parked, row_write
from tidegate.index.planned import Planned
from tidegate.index.turns import in_turns
from tidegate.index.vector_source import VectorSource
from tidegate.index.write import Kind, Reason, RowWrite
from tidegate.observe.cost_meter import CostMeter

LIVE_SLICE_CHUNKS = 16
BULK_SLICE_CHUNKS = 64
LIVE_SLICE_CHARS = 4_000
BULK_SLICE_CHARS = 64_000

Connection = psycopg.Connection[TupleRow]


class PlannedEmbedding:
    """Embeds planned rows, and says what of them waits.

    Args:
        bulk: embed for throughput, behind the live changes.
        attempts: of embedding a row, until it is parked.
    """

    def __init__(self, source: VectorSource, meter: CostMeter, budgets: Budgets, *, bulk: bool, attempts: int):
        self._source, self._meter, self._budgets = source, meter, budgets
        self._bulk, self._attempts = bulk, attempts
        # Live rows become searchable slice by slice, so that the first need not wait for the last.
        self._slice_chunks = BULK_SLICE_CHUNKS if bulk else LIVE_SLICE_CHUNKS
        self._slice_characters = BULK_SLICE_CHARS if bulk else LIVE_SLICE_CHARS

    def begin(
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
                # A row that is copied waits where it is: the copy comes back to it.
                if plan.item.copied is None:
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
        return row_write(
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

    def slices(self, planned: Sequence[Planned]) -> Iterator[list[Planned]]:
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

    def embedded(
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
                (plan.item, parked(plan.item, error, retry_in=RETRY_PARKED))
                for plan in planned
                if not plan.item.try_again(self._attempts, again, error)
            ]
        except TextRefused as error:
            if len(planned) == 1:
                return [(planned[0].item, parked(planned[0].item, error))]
            # One of them is to blame: find it, so that it stops only itself.
            middle = len(planned) // 2
            return [*self._embedded(planned[:middle], again), *self._embedded(planned[middle:], again)]
        rows = []
        start = 0
        for plan in planned:
            end = start + len(plan.wanted)
            row = row_write(
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
                carried=plan.carried,
            )
            rows.append((plan.item, row))
            start = end
        return rows

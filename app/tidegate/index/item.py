"""What the lanes queue: a row's newest event, and the numbers of all events that it stands for."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tidegate.capture.change_event import ChangeEvent, Operation
from tidegate.capture.position import Position
from tidegate.index.copied_row import CopiedRow
from tidegate.index.product import Product
from tidegate.index.vector_source import Wanted


@dataclass(slots=True)
class Item:
    """The newest waiting event of a row, with the numbers of all events that it stands for.

    Attributes:
        key: None for a truncate.
        attempts: embeddings of it that failed for the moment; `trouble` says why the last one did.
        retry: not an event but a parked row that is tried again; what the source holds now decides.
        copied: not an event but a row as the product's first index has it.
        cut: its document's hash and chunks, where it was taken before and put back.
    """

    product: Product
    key: str | None
    event: ChangeEvent
    numbers: list[int]
    attempts: int = 0
    retry: bool = False
    copied: CopiedRow | None = None
    cut: tuple[bytes, list[Wanted]] | None = None
    trouble: str | None = None

    @property
    def key_values(self) -> tuple[str, ...]:
        """Its key's values as Postgres reads them, in the order of the key."""
        assert self.event.key is not None
        return tuple(str(self.event.key[name]) for name in self.product.key_names)

    def try_again(self, most: int, again: "list[Item]", trouble: Exception | None = None) -> bool:
        """Counts an attempt and puts the item to `again`; False: these were `most`, or nobody waits for it. A row that
        is copied waits where it is, however long."""
        self.attempts += 1
        self.trouble = None if trouble is None else str(trouble)
        if self.retry or (self.attempts >= most and self.copied is None):
            return False
        again.append(self)
        return True


def by_product(items: Sequence[Item]) -> list[tuple[Product, list[Item]]]:
    """The items by their products, in one order for all workers: none waits for another in a circle."""
    groups: dict[int, tuple[Product, list[Item]]] = {}
    for item in items:
        groups.setdefault(item.product.product_id, (item.product, []))[1].append(item)
    return [groups[product_id] for product_id in sorted(groups)]


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


def copied_item(product: Product, row: CopiedRow) -> Item:
    """A row of the product's first index, to be written into this, its second, at the position that it has there."""
    source = product.contract.source
    event = ChangeEvent(
        schema=source.schema,
        table=source.table,
        operation=Operation.UPSERT,
        key=json.loads(row.key),
        row=None,
        position=row.position,
        committed_at=row.committed_at or datetime.now(UTC),
        backfill=True,
    )
    return Item(product, row.key, event, [], copied=row)

"""Whose rows come next, and what is put back."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tidegate.capture.change_event import ChangeEvent, Operation
from tidegate.capture.position import Lsn, Position
from tidegate.index import waiting
from tidegate.index.item import Item
from tidegate.index.turns import in_turns


def product(product_id: int, ms: float | None = None) -> Any:
    latency = None if ms is None else SimpleNamespace(ms=ms)
    return SimpleNamespace(product_id=product_id, contract=SimpleNamespace(latency=latency))


def item(of: Any, key: int, at: int = 1, operation: Operation = Operation.UPSERT) -> Item:
    position = Position(Lsn(at), Lsn(at))
    return Item(of, str(key), ChangeEvent("s", "t", operation, {"id": key}, {}, position, datetime.now(UTC)), [at])


def queue(*items: Item) -> dict[waiting.Key, Item]:
    return {(each.product.product_id, each.key): each for each in items}


FLOOD, CALM, SLOW = product(1, 200), product(2, 100), product(3)


def test_the_tightest_sla_begins_each_turn_and_rows_keep_their_order():
    rows = [(SLOW, 1), (FLOOD, 1), (FLOOD, 2), (FLOOD, 3), (CALM, 1), (CALM, 2)]
    assert in_turns(rows, lambda row: row[0]) == [
        (CALM, 1), (FLOOD, 1), (SLOW, 1), (CALM, 2), (FLOOD, 2), (FLOOD, 3),
    ]  # fmt: skip


def test_a_flood_leaves_room_in_the_next_batch():
    waits = queue(*(item(FLOOD, n) for n in range(1000)), item(CALM, 1), item(SLOW, 1))
    taken = waiting.take(waits, 512)
    assert len(taken) == waiting.SHARED_BATCH
    assert [each.product for each in taken[:3]] == [CALM, FLOOD, SLOW]
    assert len(waits) == 1002 - len(taken)
    # Alone, it has large batches, in its order.
    taken = waiting.take(waits, 512)
    assert [each.key for each in taken] == [str(n) for n in range(126, 126 + 512)]


def test_deletes_wait_for_no_model():
    waits = queue(*(item(FLOOD, n) for n in range(1000)), item(FLOOD, 5000, 9, Operation.DELETE))
    assert waiting.others_wait(waits, [item(FLOOD, 1)])
    assert waiting.take(waits, 512)[0].key == "5000"
    assert not waiting.others_wait(waits, [item(FLOOD, 1)])
    assert waiting.others_wait(waits, [item(CALM, 1)])


@pytest.mark.parametrize("newer", [True, False])
def test_what_is_put_back_is_in_front_unless_a_newer_event_stands_for_it(newer: bool):
    back, meanwhile = item(FLOOD, 1, at=5), item(FLOOD, 1, at=7 if newer else 3)
    waits = waiting.put_back(queue(item(CALM, 9), meanwhile), [back, item(FLOOD, 2, at=6)])
    first, second, third = waits.values()
    assert first is (meanwhile if newer else back)
    assert sorted(first.numbers) == sorted({5, 7 if newer else 3})
    assert (second.key, third.key) == ("2", "9")

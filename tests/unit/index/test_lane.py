"""A lane promises nothing of what it has not written, however it is stopped."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tidegate.capture.change_event import ChangeEvent, Operation
from tidegate.capture.position import Lsn, Position
from tidegate.capture.stream import EMBEDDED
from tidegate.index import pause
from tidegate.index.indexer import Outcome
from tidegate.index.item import Item
from tidegate.index.lane import Lane
from tidegate.index.lane_queue import LaneQueue, Mark

PRODUCT: Any = SimpleNamespace(product_id=1, contract=SimpleNamespace(latency=None))
MARK = Mark(Lsn(9), None)


class FakeIndexer:
    """Its model does not answer, or takes as long as it is told."""

    def __init__(self) -> None:
        self.promised: list[Any] = []
        self.tried = 0
        self.away = True
        self.answers = threading.Event()

    def process(self, _: Any, items: Sequence[Item], watermarks: Sequence[Any], __: Callable[[], bool]) -> Outcome:
        again: list[Item] = []
        self.tried += len(items)
        if not self.away:
            self.answers.wait(20)
            self.promised += watermarks
            return Outcome([*items], [], [])
        for item in items:
            item.try_again(1_000, again)
        if not items:
            self.promised += watermarks
        return Outcome([], again, [])

    def close(self) -> None:
        pass


def item(key: int, *, backfill: bool = False) -> Item:
    position = Position(Lsn(key), Lsn(key))
    event = ChangeEvent("s", "t", Operation.UPSERT, {"id": key}, {}, position, datetime.now(UTC), backfill=backfill)
    return Item(PRODUCT, str(key), event, [key])


class Held:
    """A lane whose model is away."""

    def __init__(self) -> None:
        self.live, self.bulk = FakeIndexer(), FakeIndexer()
        self.scanned: list[Any] = []
        self.finished: list[int] = []
        connection: Any = SimpleNamespace(closed=False, close=lambda: None)
        self.lane = Lane(
            "m",
            live=self.live,  # type: ignore[arg-type]
            bulk=self.bulk,  # type: ignore[arg-type]
            connect=lambda: connection,
            acknowledgements=SimpleNamespace(finish=self.finished.extend),  # type: ignore[arg-type]
            suspend=lambda *_: True,
            scanned=lambda product, backfill: self.scanned.append((product, backfill)),
        )
        self.lane.start()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_what_is_dropped_at_a_stop_is_not_promised():
    held = Held()
    held.live.away = False
    held.lane.queue.put([item(1)])
    until(lambda: held.live.tried)
    held.lane.queue.put([item(2)])
    held.lane.queue.mark(EMBEDDED, MARK)
    held.lane.queue.stop()
    held.live.answers.set()
    held.lane.stop()
    assert (held.live.promised, held.finished) == ([], [1])


def test_a_mark_that_comes_after_a_stop_is_not_promised():
    """Behind rows that were not put any more, or of a batch of which some was given back."""
    queue = LaneQueue()
    queue.stop()
    queue.mark(EMBEDDED, MARK)
    assert queue.take_live() == ([], {})


def test_a_backfill_is_not_done_because_the_lane_is_stopped():
    held = Held()
    held.lane.queue.put([item(1, backfill=True)])
    until(lambda: held.bulk.tried)
    held.lane.queue.put_scanned(2, PRODUCT, 1)
    until(lambda: not held.lane.queue.bulk_waiting)
    held.lane.stop()
    assert (held.scanned, held.finished) == ([], [])


def test_a_backfill_is_not_done_while_one_of_its_rows_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pause, "FIRST_S", 0.0)
    queue = LaneQueue()
    row = item(1, backfill=True)
    row.attempts = 1
    queue.settle([], [row], [])
    assert not queue.waits_again(SimpleNamespace(product_id=2))  # type: ignore[arg-type]
    assert queue.waits_again(PRODUCT)
    assert queue.take_live()[0] == [row]
    assert queue.waits_again(PRODUCT)
    queue.settle([row], [], [])
    queue.rest("live")
    assert not queue.waits_again(PRODUCT)


def test_what_a_drain_gives_up_still_holds_the_mark():
    queue = LaneQueue()
    queue.settle([], [], [item(1)])
    queue.mark(EMBEDDED, MARK)
    queue.drain(0)
    for key in range(2, 200):  # one of them would get the identity of the row that is gone
        queue.settle([item(key)], [], [])
    assert queue.take_live() == ([], {})

"""Acknowledging many partitions: each by itself, and nothing of one that was given away."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.capture.partitioning import CATALOG_BEATS, HEARTBEATS, TABLE_FIELD, marks, partition_of
from tidegate.capture.partitions import PartitionAcknowledgements, Place
from tidegate.capture.position import Lsn
from tidegate.capture.stream import Stream

A, B = Stream("", 0), Stream("", 1)


def test_each_partition_has_a_run_of_its_own() -> None:
    held = PartitionAcknowledgements()
    held.assign(A)
    held.assign(B)
    a = [held.open(A) for _ in range(2)]
    b = held.open(B)
    held.batch(A, Place(10, Lsn(1)))
    held.batch(B, Place(20, None))
    held.finish([b, a[1]])
    assert held.acknowledgeable() == {B: Place(20, None)}
    assert held.outstanding([A, B]) == 1
    held.finish([a[0]])
    assert held.acknowledgeable() == {A: Place(10, Lsn(1))}


def test_what_is_finished_of_a_partition_that_went_and_came_back_counts_for_nothing() -> None:
    held = PartitionAcknowledgements()
    held.assign(A)
    old = held.open(A)
    held.batch(A, Place(10, None))
    held.revoke(A)
    assert held.gone([old])
    held.assign(A)
    new = held.open(A)
    held.batch(A, Place(11, None))
    held.finish([old])
    assert held.acknowledgeable() == {}
    assert not held.gone([old, new])
    held.finish([new])
    assert held.acknowledgeable() == {A: Place(11, None)}


@given(st.integers(1, 48), st.text("abc_.", min_size=1, max_size=12))
def test_marks_reach_every_partition_once(partitions: int, prefix: str) -> None:
    found = marks(prefix, partitions)
    table = f"{prefix}.tidegate.heartbeat"
    for numbers, allowed in ((found.heartbeats, HEARTBEATS), (found.catalog_beats, CATALOG_BEATS)):
        assert all(number in allowed for number in numbers)
        keys = [{"heartbeat_id": number, TABLE_FIELD: table} for number in numbers]
        assert [partition_of(key, partitions) for key in keys] == list(range(partitions))
    keys = [{"prefix": name, TABLE_FIELD: f"{prefix}.message"} for name in found.prefixes]
    assert [partition_of(key, partitions) for key in keys] == list(range(partitions))

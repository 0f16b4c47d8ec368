"""The histogram's buckets: 5 % wide, closed above, none lost."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.observe.freshness import GROWTH, FreshnessHistogram, bucket

NOON = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("milliseconds", "number"), [(0, 0), (-5, 0), (0.2, 0), (1, 0), (1.0001, 1), (1.05, 1), (1.06, 2), (1e9, 425)]
)
def test_edges(milliseconds: float, number: int):
    assert bucket(milliseconds) == number


@pytest.mark.parametrize("number", range(0, 400, 7))
def test_an_upper_edge_belongs_to_its_bucket(number: int):
    edge = GROWTH**number
    assert bucket(edge) == number
    assert bucket(edge * 1.001) == number + 1


@given(st.floats(1, 1e10))
def test_a_time_is_at_most_5_percent_below_its_bucket(milliseconds: float):
    number = bucket(milliseconds)
    assert GROWTH ** (number - 1) * (1 - 1e-6) <= milliseconds <= GROWTH**number * (1 + 1e-6)


def test_counts_by_product_minute_and_bucket():
    histogram = FreshnessHistogram()
    assert histogram.drain() is None
    histogram.add(1, [NOON - timedelta(milliseconds=10)] * 3, NOON)
    histogram.add(2, [NOON - timedelta(milliseconds=10)], NOON)
    histogram.add(1, [NOON], NOON + timedelta(seconds=40))
    drained = histogram.drain()
    assert drained is not None
    rows = set(zip(*(drained[name] for name in ("product_ids", "minutes", "buckets", "events")), strict=True))
    minute = NOON.replace(second=0)
    assert rows == {
        (1, minute, bucket(10), 3),
        (2, minute, bucket(10), 1),
        (1, minute + timedelta(minutes=1), bucket(40_000), 1),
    }
    assert histogram.drain() is None


def test_a_clock_that_ran_backwards_counts_as_at_once():
    histogram = FreshnessHistogram()
    histogram.add(1, [NOON + timedelta(seconds=1)], NOON)
    drained = histogram.drain()
    assert drained is not None
    assert drained["buckets"] == [0]

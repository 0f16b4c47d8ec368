"""Whatever order events finish in, an offset is given out only when all before it is done."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from tidegate.capture.acknowledgement import Acknowledgements


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """Sizes of batches, and the events' numbers in the groups in which they finish."""
    sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=8))
    order = draw(st.permutations(range(sum(sizes))))
    groups, at = [], 0
    while at < len(order):
        size = draw(st.integers(1, 4))
        groups.append(list(order[at : at + size]))
        at += size
    return sizes, groups


@given(runs())
def test_only_unbroken_prefixes_are_acknowledged(run: tuple[list[int], list[list[int]]]):
    sizes, groups = run
    held = Acknowledgements[int]()
    ends, total = [], 0
    for batch, size in enumerate(sizes):
        assert [held.open() for _ in range(size)] == list(range(total, total + size))
        total += size
        ends.append(total)
        held.batch(batch)
    finished: set[int] = set()
    given_out = -1
    for group in [[], *groups]:
        held.finish(group)
        finished |= set(group)
        offset = held.acknowledgeable()
        done = [batch for batch, end in enumerate(ends) if set(range(end)) <= finished]
        expected = max(done, default=-1)
        assert offset == (expected if expected > given_out else None)
        given_out = max(given_out, -1 if offset is None else offset)
        assert held.outstanding == total - len(finished)
        assert held.acknowledgeable() is None
    assert given_out == len(sizes) - 1


def test_waiting_ends_when_the_finished_batch_is_taken():
    held = Acknowledgements[str]()
    held.finish([held.open()])
    held.batch("a")
    assert not held.wait_until_acknowledged(0.01)
    taker = threading.Timer(0.02, held.acknowledgeable)
    taker.start()
    assert held.wait_until_acknowledged(5)
    taker.join()


def test_a_batch_with_unfinished_events_is_not_waited_for():
    held = Acknowledgements[str]()
    held.open()
    held.batch("a")
    assert held.wait_until_acknowledged(0)
    assert held.acknowledgeable() is None

"""Whatever order events finish in, an offset is given out only when all before it is done."""

import threading
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tidegate.capture.acknowledgement import Acknowledgements, Shares


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


@given(st.lists(st.sets(st.sampled_from("abc"), min_size=1), min_size=1, max_size=6), st.randoms())
def test_an_event_that_goes_several_ways_is_finished_on_the_last(ways: list[set[str]], random: Random):
    held = Acknowledgements[int]()
    shares = Shares(held)
    for number, names in enumerate(ways):
        assert held.open() == number
        held.batch(number)
        shares.split(number, names)
    steps = [(number, name) for number, names in enumerate(ways) for name in names]
    random.shuffle(steps)
    left = [set(names) for names in ways]
    for number, name in steps:
        for _ in range(2 if len(left[number]) > 1 else 1):  # said twice on a way, it is still open on the others
            shares.way(name).finish([number])
        left[number].discard(name)
        assert held.outstanding == sum(1 for names in left if names)


def test_what_is_no_longer_waited_for_is_forgotten():
    held = Acknowledgements[int]()
    shares = Shares(held)
    held.open()
    shares.split(0, "ab")
    shares.forget(lambda numbers: list(numbers) == [0])
    shares.way("a").finish([0])
    assert held.outstanding == 0

"""Which chunks stay, and how they come to their new numbers."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.index.chunk_diff import match, renumbering, text_hash


def test_equal_texts_are_matched_wherever_they_stand_and_each_once():
    a, b, c = (text_hash(text) for text in "abc")
    assert match([(0, a), (1, b), (2, a)], [c, a, b, a, a]) == {1: 0, 2: 1, 3: 2}
    assert match([], [a]) == {}
    assert match([(0, a)], []) == {}


@given(st.permutations(range(8)), st.sets(st.integers(0, 7)), st.integers(0, 6))
def test_no_two_chunks_have_one_number_at_any_step(order: list[int], gone: set[int], shift: int):
    stored = {number: number for number in range(8) if number not in gone}  # number now → number at first
    kept = {order[number] + shift: number for number in stored}
    for at, to in renumbering(kept):
        assert to not in stored
        stored[to] = stored.pop(at)
    assert stored == kept


def test_an_insertion_moves_each_chunk_once():
    kept = {number + 1: number for number in range(50)}
    assert renumbering(kept) == [(number, number + 1) for number in reversed(range(50))]

"""What of a language model's reply is shown, whatever pieces it comes in."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.query.citing import Citing


def shown(*pieces: str, sources: int = 3) -> tuple[str, Citing]:
    citing = Citing(sources)
    return "".join([citing.feed(piece) for piece in pieces] + [citing.end()]), citing


@pytest.mark.parametrize(
    ("reply", "text", "cited"),
    [
        ("A [1].", "A [1].", [1]),
        ("A [3], then B [1] and [3].", "A [1], then B [2] and [1].", [3, 1]),
        ("A [2][9].", "A [1].", [2]),
        ("A [2, 9, 3].", "A [1][2].", [2, 3]),
        ("A [1,2].", "A [1][2].", [1, 2]),
        ("A [0] [2] [4] [-1] [x].", "A  [1]  [-1] [x].", [2]),
        ("  A [1].\n\n", "A [1].", [1]),
        ("A [1] and a[", "A [1] and a[", [1]),
        ("A [1] if b < c", "A [1] if b < c", [1]),
    ],
)
def test_citations_are_renumbered_and_invented_ones_dropped(reply: str, text: str, cited: list[int]):
    got, citing = shown(reply)
    assert (got, citing.cited) == (text, cited)


@pytest.mark.parametrize("reply", ["Just trust me.", "It is so [7].", "", "[999999999999999999999]", "[1", "a <not"])
def test_nothing_is_shown_without_a_citation(reply: str):
    got, citing = shown(*reply)
    assert (got, citing.cited) == ("", [])


@pytest.mark.parametrize(
    ("reply", "text", "missing"),
    [
        ("A [1]. <not_found>the price</not_found>", "A [1].", ["the price"]),
        ("A [1].\n<not_found>the\nprice</not_found>\n<NOT_FOUND>b</NOT_FOUND>", "A [1].", ["the price", "b"]),
        ("<not_found>b</not_found>A [1].", "A [1].", ["b"]),
        ("A [1]. <not_found>cut of", "A [1].", ["cut of"]),
        ("A [1]. <not_found> </not_found>", "A [1].", []),
        ("<not_found>all</not_found>", "", ["all"]),
        ("A [1] <not_found>x [2]</not_found>", "A [1]", ["x [2]"]),
    ],
)
def test_what_was_not_found_is_taken_out(reply: str, text: str, missing: list[str]):
    for pieces in ([reply], list(reply)):
        got, citing = shown(*pieces)
        assert (got, citing.not_found) == (text, missing)


def test_text_flows_from_the_first_citation_on():
    citing = Citing(2)
    assert citing.feed("Refunds ") == ""
    assert citing.feed("take 14 days [2") == ""
    assert citing.feed("]. ") == "Refunds take 14 days [1]."
    assert citing.feed("They are") == " They are"


FRAGMENTS = st.sampled_from(
    ["[1]", "[2, 3]", "[9]", "[", "]", "<", "<not_found>", "</not_found>", "</", "word", " ", "\n", "1", ", ", "İ", "é"]
)


@given(st.lists(FRAGMENTS, max_size=14).map("".join), st.lists(st.integers(0, 60), max_size=6))
def test_how_a_reply_is_cut_makes_no_difference(reply: str, cuts: list[int]):
    ends = sorted({min(cut, len(reply)) for cut in cuts} | {0, len(reply)})
    pieces = [reply[a:b] for a, b in pairwise(ends)]
    whole, one = shown(reply)
    parts, other = shown(*pieces)
    assert (parts, other.cited, other.not_found) == (whole, one.cited, one.not_found)
    assert whole == whole.strip()

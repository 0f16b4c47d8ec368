"""Chunks under the local model's own tokenizer: never too long, and nothing lost but blanks."""

import functools
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.index.chunking import TokenSplitter
from tidegate.index.embedding.local_model import _tokenizer

TEXTS = (
    "A sentence. " * 400,
    "word " * 1500,
    "x" * 20_000,
    "naïve café 日本語 " * 300,
    "👩‍👩‍👧‍👦🇪🇺" * 400,
    "\n\n".join(f"Paragraph {n}. It has two sentences, and some-hyphens_and/paths." for n in range(200)),
    "a\tb\r\nc " * 500,
    "." * 5000,
)


@functools.cache
def tokenizer():
    return _tokenizer(truncate=False)


def count(text: str) -> int:
    return len(tokenizer().encode(text, add_special_tokens=False).ids)


def solid(text: str) -> str:
    return re.sub(r"\s+", "", text)


def check(text: str, tokens: int) -> list[str]:
    chunks = TokenSplitter(tokenizer(), tokens).chunks(text)
    assert all(count(chunk) <= tokens for chunk in chunks)
    assert all(chunk == chunk.strip() and chunk for chunk in chunks)
    assert solid("".join(chunks)) == solid(text)
    return chunks


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:12]))
@pytest.mark.parametrize("tokens", [16, 200, 254])
def test_bound_and_completeness(text: str, tokens: int):
    assert (len(check(text, tokens)) > 1) == (count(text) > tokens)


def test_what_the_tokenizer_takes_for_one_unknown_word_is_one_chunk():
    """WordPiece gives up on words of more than 100 characters: a single token, whatever their length."""
    assert count("x" * 20_000) == 1
    assert check("x" * 20_000, 16) == ["x" * 20_000]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400), st.integers(8, 60))
def test_bound_and_completeness_of_any_text(text: str, tokens: int):
    check(text, tokens)


def test_a_short_text_is_one_chunk_and_blanks_are_none():
    splitter = TokenSplitter(tokenizer(), 200)
    assert splitter.chunks("  short text\n") == ["short text"]
    for blank in ("", " ", "\n\t \u2003"):
        assert splitter.chunks(blank) == []


def test_paragraphs_are_kept_together_where_they_fit():
    one, two = "First paragraph of some words.", "Second paragraph of some words."
    assert TokenSplitter(tokenizer(), 8).chunks(f"{one}\n\n{two}") == [one, two]


def test_the_same_text_is_cut_the_same():
    splitter = TokenSplitter(tokenizer(), 30)
    assert splitter.chunks(TEXTS[5]) == splitter.chunks(TEXTS[5])


def test_overlap_repeats_the_end_of_the_chunk_before():
    text = " ".join(f"w{number}" for number in range(300))
    chunks = TokenSplitter(tokenizer(), 40, overlap=10).chunks(text)
    assert all(count(chunk) <= 40 for chunk in chunks)
    for before, after in itertools.pairwise(chunks):
        assert before.split()[-1] in after.split()
    assert set(" ".join(chunks).split()) == set(text.split())


def test_a_function_that_counts_serves_as_well():
    chunks = TokenSplitter(lambda text: len(text.split()), 5).chunks("one two three four five six seven")
    assert all(len(chunk.split()) <= 5 for chunk in chunks)
    assert " ".join(chunks) == "one two three four five six seven"

"""Chunks under the local model's own tokenizer: never too long, nothing lost but blanks, an edit moves little."""

import functools
import itertools
import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.bench.texts import Texts
from tidegate.index.borders import borders
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


WORDS = st.sampled_from(
    ["alpha", "beta,", "gamma.", "Delta", "(see 4.2)", "日本語の文。", "```", "# Head", "- item", "\n", "\n\n", "  "]
)


def numbered(words: list[str]) -> str:
    """The words, each with a number at its end, so that every stretch of the text is only once in it."""
    return " ".join(re.sub(r"(?<=\w)(?=\W*$)", f"n{number}", word) for number, word in enumerate(words))


@settings(max_examples=80, deadline=None)
@given(st.lists(WORDS, max_size=300).map(numbered), st.integers(16, 60), st.data())
def test_cover_order_and_bounds_with_every_setting(text: str, tokens: int, data: st.DataObject):
    """In order, nothing lost, nothing twice, never too long; with an overlap each chunk begins earlier, never later."""
    minimum = data.draw(st.none() | st.integers(1, tokens // 2))
    target = data.draw(st.none() | st.integers(tokens // 2, tokens))
    overlap = data.draw(st.integers(0, (tokens - 1) // 2))
    for overlap_ in (0, overlap):
        chunks = TokenSplitter(tokenizer(), tokens, overlap_, minimum, target).chunks(text)
        assert all(0 < count(chunk) <= tokens for chunk in chunks if solid(chunk))
        if not overlap_:
            assert solid("".join(chunks)) == solid(text)
        at = end = 0
        for chunk in chunks:
            # Fences have no number: of several the last that leaves nothing out.
            places = [place.start() for place in re.finditer(f"(?={re.escape(chunk)})", text)]
            fit = [place for place in places if place >= at and solid(text[end:place]) == ""]
            assert fit
            found = fit[-1]
            at = found + 1 if overlap_ else found + len(chunk)
            end = max(end, found + len(chunk))
        assert solid(text[end:]) == ""


def long_text(seed: int, paragraphs: int) -> list[list[str]]:
    """Paragraphs of sentences, about 50 chunks in 45 of them."""
    made = Texts(seed, (6, 10))
    return [re.split(r"(?<=\.) ", made.next().description) for _ in range(paragraphs)]


def written(paragraphs: list[list[str]]) -> str:
    return "\n\n".join(" ".join(sentences) for sentences in paragraphs if sentences)


@pytest.mark.parametrize("counted", [False, True], ids=["tokenizer", "function"])
def test_an_edited_sentence_changes_the_chunks_around_it_and_no_others(counted: bool):
    splitter = TokenSplitter(count if counted else tokenizer(), 160)
    choice = random.Random(7)
    new = []
    for seed in range(1 if counted else 2):
        paragraphs = long_text(seed, 55)
        chunks = Counter(splitter.chunks(written(paragraphs)))
        assert sum(chunks.values()) >= 50
        for edit in range(30):
            changed = [list(sentences) for sentences in paragraphs]
            paragraph = choice.choice(changed)
            at = choice.randrange(len(paragraph))
            match edit % 3:
                case 0:
                    paragraph[at] = f"A sentence, number {edit}, that says something else altogether."
                case 1:
                    paragraph.insert(at, f"A sentence, number {edit}, that was not there before.")
                case _:
                    del paragraph[at]
            new.append(sum((Counter(splitter.chunks(written(changed))) - chunks).values()))
    assert sum(new) / len(new) <= 1.5
    assert sum(each <= 2 for each in new) >= 0.95 * len(new)
    assert max(new) <= 6


def test_chunks_beyond_two_edits_are_the_same():
    """What a whole new beginning and a new end leave untouched: the splitter is in step again soon."""
    paragraphs = long_text(3, 45)
    splitter = TokenSplitter(tokenizer(), 160)
    before = splitter.chunks(written(paragraphs))
    after = splitter.chunks(written([["Something new before everything else."], *paragraphs, ["And after it."]]))
    assert len(set(after) - set(before)) <= 5


def test_sizes_have_a_floor_and_a_mean():
    text = written(long_text(5, 60))
    for minimum, target in ((60, 120), (100, 150), (20, 60)):
        sizes = [count(chunk) for chunk in TokenSplitter(tokenizer(), 200, 0, minimum, target).chunks(text)]
        assert min(sizes[:-1]) >= minimum
        assert abs(sum(sizes) / len(sizes) - target) <= 0.2 * target


def test_markdown_is_cut_before_headings_and_code_is_kept_together():
    code = "```python\n" + "\n".join(f"value_{number} = compute({number})" for number in range(6)) + "\n```"
    section = "## Part {0}\n\nIt is about part {0}. One more sentence stands here.\n\n" + code
    text = "\n\n".join(section.format(number) for number in range(8))
    chunks = TokenSplitter(tokenizer(), 150).chunks(text)
    assert len(chunks) > 4
    assert all(chunk.startswith("## Part") and chunk.endswith("```") for chunk in chunks)
    # Too long for a chunk, it is cut between lines.
    long = "Before.\n\n```\n" + "\n".join(f"line_{number} = {number}" for number in range(100)) + "\n```\n\nAfter."
    for chunk in TokenSplitter(tokenizer(), 60).chunks(long):
        assert all(re.fullmatch(r"line_\d+ = \d+|```|Before\.|After\.|", line) for line in chunk.split("\n"))


def test_code_is_cut_between_lines_and_sentences_without_blanks_between_them():
    code = "\n\n".join(f"def f{n}(x):\n    y = x + {n}\n    return y * {n}" for n in range(40))
    assert all(chunk.startswith("def f") for chunk in check(code, 80))
    text = "".join(f"これは{n}番目の文です。" for n in range(200))
    assert all(chunk.endswith("。") for chunk in check(text, 60))


def test_sentences_end_where_they_do():
    text = 'Ask Dr. Who, e.g. by 3.5 p.m. on Monday. "He knows!" Why? 1. One. 他知道。谁？ Ende.'
    cuts = [0, *(border.at for border in borders(text)), len(text)]
    assert [text[start:end].strip() for start, end in itertools.pairwise(cuts)] == [
        "Ask Dr. Who, e.g. by 3.5 p.m. on Monday.", '"He knows!"', "Why?", "1.", "One.", "他知道。", "谁？", "Ende.",
    ]  # fmt: skip


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

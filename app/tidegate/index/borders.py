"""Where a text may be cut, and how good each place is: headings, blank lines, sentences, lines, words, characters."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

CHARACTER, WORD, TOGETHER, LINE, SENTENCE, BLOCK, HEADING = 0, 10, 20, 30, 40, 50, 60
"""Levels; a higher one is a better place. TOGETHER: lines of fenced code, what follows a heading: cut only where the
whole does not fit. A heading of level n has HEADING + 6 - n."""

_SEEN = 40
_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"\s{0,3}(#{1,6})\s+\S")
_LIST_ITEM = re.compile(r"\s*(?:[-*+•‣–]|\d{1,4}[.)]|\(?[a-z][.)])\s+\S")
_LINE = re.compile(r"[^\n]*\n?")
_SENTENCE_END = re.compile(r"[.!?…‼⁇]+[\"'”’»)\]]*\s+(?=\S)|[。！？｡．]+[」』”’）】]*\s*(?=\S)|[।؟۔]+\s+(?=\S)")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[])(?:[A-Za-z]|e\.g|i\.e|etc|vs|cf|al|approx|ca|Dr|Mr|Mrs|Ms|Prof|St|No|Nr|Fig|Eq|Sec|Vol|Jan|Feb|Mar|"
    r"Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|bzw|z\.B|usw)\.$"
)
_ITEM_NUMBER = re.compile(r"(?:^|\n)\s*\d{1,4}\.$")
_WORD = re.compile(r"\s+(?=\S)")


@dataclass(frozen=True, slots=True)
class Border:
    """A place before the character `at`, with its level."""

    at: int
    level: int


def borders(text: str) -> list[Border]:
    """All places down to lines, in order, the beginning of the text not among them.

    Prose, Markdown, code and scripts without blanks all go through this; nothing says which of them a text is.
    """
    found: dict[int, int] = {}
    prose: list[tuple[int, int]] = []  # runs of lines in which sentences are looked for
    fence: str | None = None
    blank = opened = after_heading = after_fence = False
    indent_before = 0
    for start, line in _lines(text):
        stripped = line.strip()
        if not stripped:
            blank = fence is None or blank
            continue
        begin = start + len(line) - len(line.lstrip())
        indent = begin - start
        mark = _FENCE.match(line)
        heading = _HEADING.match(line) if fence is None else None
        closing = fence is not None and mark is not None and mark[1].startswith(fence) and stripped == mark[1]
        if closing or opened:
            level = WORD
        elif fence is not None:
            level = TOGETHER + (1 if indent < indent_before else 0)
        elif after_heading:
            level = TOGETHER
        elif heading:
            level = HEADING + 6 - len(heading[1])
        elif blank or after_fence or mark:
            level = BLOCK
        elif _LIST_ITEM.match(line):
            level = SENTENCE
        else:
            level = LINE + (1 if indent < indent_before else 0)
        if begin:
            found[begin] = level
        after_fence, opened = closing, fence is None and mark is not None
        if closing:
            fence = None
        elif fence is None and mark:
            fence = mark[1]
        elif fence is None and not heading:
            if prose and not blank and prose[-1][1] == start:
                prose[-1] = (prose[-1][0], start + len(line))
            else:
                prose.append((start, start + len(line)))
        after_heading = heading is not None
        blank = False
        indent_before = indent
    for start, end in prose:
        for at in _sentences(text, start, end):
            found[at] = max(found.get(at, SENTENCE), SENTENCE) if found.get(at) != TOGETHER else TOGETHER
    return [Border(at, found[at]) for at in sorted(found) if at < len(text)]


def words(text: str, start: int, end: int) -> list[int]:
    """Where words begin, between `start` and `end`."""
    return [match.end() for match in _WORD.finditer(text, start, end) if start < match.end() < end]


def rank(text: str, at: int) -> bytes:
    """What decides between places of one level: a hash of the text that follows, so that an edit elsewhere moves
    nothing."""
    return blake2b(text[at : at + _SEEN].encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for match in _LINE.finditer(text):
        if match[0]:
            yield match.start(), match[0]


def _sentences(text: str, start: int, end: int) -> Iterator[int]:
    for match in _SENTENCE_END.finditer(text, start, end):
        at = match.end()
        if at >= end:
            continue
        if match[0][0] == "." and match[0].rstrip() == ".":
            if text[at].islower():
                continue
            before = text[max(start, match.start() - 12) : match.start() + 1]
            if _ABBREVIATION.search(before) or _ITEM_NUMBER.search(before):
                continue
        yield at

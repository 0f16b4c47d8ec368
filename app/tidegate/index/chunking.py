"""Documents to chunks whose borders the text itself decides, so that an edit moves only the borders beside it."""

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tidegate.index.borders import CHARACTER, LINE, TOGETHER, WORD, Border, borders, rank, words

_TIERS = (LINE, TOGETHER, WORD, CHARACTER)


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """Sizes in tokens of the model.

    Attributes:
        tokens: no chunk has more, its overlap included.
        overlap: so much of the text before a chunk is repeated at its beginning, at most, in whole sentences where
            they fit.
        minimum: a chunk has fewer only where a paragraph, sentence or block of code would be torn, or at the end.
        target: what a chunk has on average, where the text leaves a choice.
    """

    tokens: int
    overlap: int = 0
    minimum: int | None = None
    target: int | None = None

    def window(self) -> tuple[int, int, int]:
        """(least, most, limit): a border is looked for between `least` and `most`, else up to `limit`."""
        limit = self.tokens - self.overlap
        least = min(limit // 4 if self.minimum is None else self.minimum, max(1, limit - 1))
        if self.target is None:
            return least, limit, limit
        return least, min(limit, max(2 * self.target - least, least + 1)), limit


class TokenSplitter:
    """Cuts between sentences, paragraphs and headings; inside them only what is too long.

    From the beginning of a chunk on, the next border is the best place in a window of sizes; of equally good places
    the one whose following text has the smallest hash. Two versions of a text agree on such a place soon after an
    edit, and from there on on all others: the chunks beyond are the same.

    Args:
        tokenizer: a `tokenizers.Tokenizer`, or a function that counts the tokens of a text.
    """

    def __init__(
        self, tokenizer: Any, tokens: int, overlap: int = 0, minimum: int | None = None, target: int | None = None
    ):
        self._size = ChunkSize(tokens, overlap, minimum, target)
        self._ruler: Ruler = _Counted(tokenizer) if callable(tokenizer) else _Tokenized(tokenizer)

    def tokens(self, text: str) -> int:
        """How many tokens the text has."""
        return self._ruler.count(text)

    def chunks(self, document: str) -> list[str]:
        """The chunks in order, without blanks around them; none for a document without text."""
        text = document.strip()
        if not text:
            return []
        most = self._size.tokens
        # No tokenizer makes more tokens than bytes, so such a text is one chunk without being counted.
        if len(text) <= most and len(text.encode("utf-8", "surrogatepass")) <= most:
            return [text]
        if not self._ruler.exact and self._ruler.count(text) <= most:
            return [text]
        cut = _Cut(text, self._size, self._ruler)
        return [text] if self._ruler.exact and cut.all <= most else cut.chunks()


class Ruler(Protocol):
    """Counts tokens. `exact`: what stands between two words has as many tokens as the difference of their measures."""

    exact: bool

    def count(self, text: str) -> int: ...

    def measure(self, text: str) -> Callable[[Sequence[int]], list[int]]:
        """A function from places in the text to the tokens before each; the places ascend."""


class _Tokenized:
    """Counts with a `tokenizers.Tokenizer`: one pass over a text tells the tokens before every place."""

    exact = True

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def measure(self, text: str) -> Callable[[Sequence[int]], list[int]]:
        starts = [start for start, _ in self._tokenizer.encode(text, add_special_tokens=False).offsets]
        return lambda places: [bisect.bisect_left(starts, place) for place in places]


class _Counted:
    """Counts with a function; what stands between two places is counted by itself, which errs on the high side."""

    exact = False

    def __init__(self, count: Callable[[str], int]):
        self._count = count

    def count(self, text: str) -> int:
        return self._count(text)

    def measure(self, text: str) -> Callable[[Sequence[int]], list[int]]:
        def before(places: Sequence[int]) -> list[int]:
            counts, total, last = [], 0, places[0] if places else 0
            for place in places:
                total += self.count(text[last:place]) if place > last else 0
                counts.append(total)
                last = place
            return counts

        return before


class _Cut:
    """One text being cut."""

    def __init__(self, text: str, size: ChunkSize, ruler: Ruler):
        self._text, self._size, self._ruler = text, size, ruler
        self._least, self._most, self._limit = size.window()
        self._measure = ruler.measure(text)
        self._places = [Border(0, 100), *borders(text), Border(len(text), 100)]
        self._before = self._measure([place.at for place in self._places])
        self.all = self._before[-1]
        self._refine()

    def chunks(self) -> list[str]:
        """See TokenSplitter.chunks."""
        found = []
        before, start, last = 0, 0, len(self._places) - 1
        while start < last:
            end = self._end(start)
            text = self._text[self._beginning(before, start, end) : self._places[end].at].strip()
            if text:
                found.append(text)
            before, start = start, end
        return found

    def _refine(self) -> None:
        """Adds words, and where these are too long characters, between places too far from each other."""
        for level, inner in ((WORD, words), (CHARACTER, lambda _, start, end: list(range(start + 1, end)))):
            places: list[Border] = []
            before: list[int] = []
            for index, (place, count) in enumerate(zip(self._places, self._before, strict=True)):
                if index and count - self._before[index - 1] > self._limit:
                    start = self._places[index - 1].at
                    inside = inner(self._text, start, place.at)
                    counts = self._inside(start, inside, place.at, count - self._before[index - 1], level)
                    places += [Border(at, level) for at in inside]
                    before += [self._before[index - 1] + each for each in counts]
                places.append(place)
                before.append(count)
            self._places, self._before = places, before

    def _inside(self, start: int, inside: Sequence[int], end: int, tokens: int, level: int) -> list[int]:
        """The tokens between `start` and each place inside; estimated for characters, of which there are many."""
        if level == CHARACTER and not self._ruler.exact:
            return [-(-tokens * (at - start) // (end - start)) for at in inside]
        counts = self._measure([start, *inside])
        return [count - counts[0] for count in counts[1:]]

    def _end(self, start: int) -> int:
        """The place at which the chunk that begins at place `start` ends."""
        last = len(self._places) - 1
        begin, limit = self._before[start], self._limit
        while True:
            rest = self._before[last] - begin
            end = last if rest <= limit else self._choose(start, limit)
            excess = self._excess(start, end)
            if excess <= 0 or end == start + 1:
                return end
            limit = min(self._before[end] - begin - 1, limit - excess)

    def _excess(self, start: int, end: int) -> int:
        """Tokens over the limit. Counted again only where the sum of parts may be wrong."""
        if self._ruler.exact and CHARACTER not in (self._places[start].level, self._places[end].level):
            return 0
        text = self._text[self._places[start].at : self._places[end].at].strip()
        return self._ruler.count(text) - self._limit

    def _choose(self, start: int, limit: int) -> int:
        begin, places = self._before[start], self._places
        after = bisect.bisect_right(self._before, begin + limit, lo=start + 1)
        candidates = range(start + 1, max(after, start + 2))
        most = min(self._most, limit)
        # The end of the text gets no crumb, where that can be had.
        rest = self._before[-1] - begin
        if self._least <= rest - self._least < most:
            most = rest - self._least
        for tier in _TIERS:
            fit = [index for index in candidates if places[index].level >= tier]
            window = [index for index in fit if self._least <= self._before[index] - begin <= most]
            if window:
                best = max(places[index].level for index in window)
                # Where the same text follows several places, the last of them: fewer, longer chunks.
                return min(
                    (index for index in window if places[index].level == best),
                    key=lambda index: (rank(self._text, places[index].at), -index),
                )
            beyond = [index for index in fit if self._before[index] - begin > most]
            if beyond:
                return beyond[0]
            if fit:
                return fit[-1]
        return start + 1

    def _beginning(self, before: int, start: int, end: int) -> int:
        """Where the text of the chunk from `start` to `end` begins: in the one from `before`, whose end it repeats."""
        overlap, begin = self._size.overlap, self._places[start].at
        if not overlap or not begin:
            return begin
        least = self._before[start] - overlap
        first = max(bisect.bisect_left(self._before, least), before + 1)
        repeated = [place.at for place in self._places[first:start]]
        if not repeated:
            # The last sentence alone is too long: as many of its last words as fit.
            inside = words(self._text, max(self._places[before].at, begin - 12 * overlap), begin)
            counts = self._measure([*inside, begin])
            repeated = [at for at, count in zip(inside, counts, strict=False) if counts[-1] - count <= overlap]
        for at in repeated:
            if self._ruler.count(self._text[at : self._places[end].at].strip()) <= self._size.tokens:
                return at
        return begin

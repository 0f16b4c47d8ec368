"""A language model's reply as it comes: citations renumbered, invented ones dropped, what was not found taken out."""

import re

_GROUP = re.compile(r"\[(\d+(?:\s*[,;]\s*\d+)*)\]")
_MISSING = re.compile(r"<not_found>(.*?)</not_found>", re.DOTALL | re.IGNORECASE)
_OPEN_GROUP = re.compile(r"\[[\d\s,;]{0,100}$")
_OPEN_TAG = re.compile(r"<not_found>|<(?:n(?:o(?:t(?:_(?:f(?:o(?:u(?:n(?:d)?)?)?)?)?)?)?)?)?$", re.IGNORECASE)
"""The tag, or what may become it."""
_MOST_MISSING = 20


class Citing:
    """Takes a reply piece by piece and gives the text that may be shown, nothing before the first citation.

    Attributes:
        cited: numbers of the sources that are cited, in the order of their new numbers.
        not_found: parts of the question that the model says the sources do not answer.
    """

    def __init__(self, sources: int):
        self._sources = sources
        self._held = ""
        self._shown = ""  # but not given yet: nothing is cited so far, or it is the text's last white space
        self._began = False
        self.cited: list[int] = []
        self.not_found: list[str] = []

    def feed(self, piece: str) -> str:
        """What can be shown now, after this piece."""
        self._held += piece
        self._take_missing()
        ready = self._ready()
        self._held, part = self._held[ready:], self._held[:ready]
        return self._show(part)

    def end(self) -> str:
        """What is left to show. Nothing, where nothing was cited."""
        self._take_missing()
        tag = _OPEN_TAG.search(self._held)
        if tag is not None and tag[0].endswith(">"):  # never closed
            self._miss(self._held[tag.end() :])
            self._held = self._held[: tag.start()]
        text = self._show(self._held)
        self._held = ""
        return text

    def _take_missing(self) -> None:
        for found in _MISSING.finditer(self._held):
            self._miss(found[1])
        self._held = _MISSING.sub("", self._held)

    def _miss(self, part: str) -> None:
        part = " ".join(part.split())
        if part and part not in self.not_found and len(self.not_found) < _MOST_MISSING:
            self.not_found.append(part)

    def _ready(self) -> int:
        """Up to where the text can be shown: not into a citation or a tag that is still coming."""
        tag = _OPEN_TAG.search(self._held)
        ready = len(self._held) if tag is None else tag.start()
        if group := _OPEN_GROUP.search(self._held):
            ready = min(ready, group.start())
        return ready

    def _show(self, part: str) -> str:
        self._shown += _GROUP.sub(self._renumbered, part)
        if not self.cited:
            return ""
        if not self._began:
            self._shown = self._shown.lstrip()
        text = self._shown.rstrip()
        self._shown = self._shown[len(text) :]
        self._began = self._began or bool(text)
        return text

    def _renumbered(self, group: re.Match[str]) -> str:
        """`[2, 9]` to `[1]`, where 2 is the first that is cited and 9 is invented."""
        places = []
        for number in map(int, re.findall(r"\d+", group[1][:1000])):
            if 1 <= number <= self._sources:
                if number not in self.cited:
                    self.cited.append(number)
                places.append(self.cited.index(number) + 1)
        return "".join(f"[{place}]" for place in places)

"""Versions of contracts: semantic, ordered, and how far one is from another."""

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import total_ordering
from typing import Self

from tidegate.errors import UsageError

_VERSION = re.compile(
    r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)
MAX_PRE = 32
"""Characters after the hyphen."""


class Bump(IntEnum):
    """How much a version must move. NONE: nothing changed."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """`major.minor.patch`, with `pre` what follows a hyphen ("" in a release). Ordered as semver.org, 11, says."""

    major: int
    minor: int
    patch: int
    pre: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises UsageError: `text` is no version."""
        found = _VERSION.fullmatch(text)
        if found is None or not is_version(text):
            raise UsageError(f"{text!r} is not a version; write 1.0.0 or 1.2.3-rc.1")
        return cls(int(found[1]), int(found[2]), int(found[3]), found[4] or "")

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" + (f"-{self.pre}" if self.pre else "")

    def __lt__(self, other: "Version") -> bool:
        if self.core != other.core:
            return self.core < other.core
        if not self.pre or not other.pre:
            return bool(self.pre) and not other.pre
        return _precedence(self.pre) < _precedence(other.pre)

    @property
    def core(self) -> tuple[int, int, int]:
        """Without what follows the hyphen."""
        return self.major, self.minor, self.patch

    def after(self, bump: Bump) -> "Version":
        """The smallest release that is `bump` further. Of a pre-release it may be its own release."""
        if bump is Bump.NONE:
            return self
        if self.pre and self._announced() >= bump:
            return Version(*self.core)
        match bump:
            case Bump.MAJOR:
                return Version(self.major + 1, 0, 0)
            case Bump.MINOR:
                return Version(self.major, self.minor + 1, 0)
            case _:
                return Version(self.major, self.minor, self.patch + 1)

    def bump_to(self, newer: "Version") -> Bump:
        """How far `newer` is. A pre-release has announced its release: 2.0.0-rc.1 → 2.0.0-rc.2 and → 2.0.0
        are as far as 1.4.2 → 2.0.0. NONE where `newer` is not newer."""
        if newer <= self:
            return Bump.NONE
        if newer.core == self.core:
            return self._announced()
        if newer.major != self.major:
            return Bump.MAJOR
        return Bump.MINOR if newer.minor != self.minor else Bump.PATCH

    def _announced(self) -> Bump:
        if self.patch:
            return Bump.PATCH
        return Bump.MINOR if self.minor else Bump.MAJOR


def is_version(text: str) -> bool:
    """Whether `text` is a version."""
    found = _VERSION.fullmatch(text)
    return found is not None and len(found[4] or "") <= MAX_PRE


def _precedence(pre: str) -> list[tuple[int, int, str]]:
    """Numbers by value, before words; words by their bytes."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in pre.split(".")]

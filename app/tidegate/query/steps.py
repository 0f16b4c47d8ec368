"""What a call does, as steps that do no I/O themselves: each asks for an effect and is given its result.

Steps are generators, written once. Who drives them (`tidegate.query.run`) blocks or awaits.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from psycopg import sql

T = TypeVar("T")
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Fetch:
    """One statement, run as whoever asks, in a transaction of its own. Its result: the rows."""

    query: sql.SQL | sql.Composed
    params: Mapping[str, Any] | Sequence[Any] | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """Something that blocks and needs no database: a model. Its result: what it returns."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the answer's text, for whoever reads along. It has no result."""

    text: str


Effect: TypeAlias = Fetch | Work | Piece
Steps: TypeAlias = Generator[Effect, Any, T]


def fetch(query: sql.SQL | sql.Composed, params: Mapping[str, Any] | Sequence[Any] | None = None) -> Steps[list[Row]]:
    """The rows of a statement."""
    rows: list[Row] = yield Fetch(query, params)
    return rows


def work(function: Callable[[], T]) -> Steps[T]:
    """What a function returns that may block."""
    result: T = yield Work(function)
    return result


class Progress(Generic[T]):
    """Steps under way: the effect that is due, and at the end what came of them."""

    def __init__(self, steps: Steps[T]):
        self._steps = steps
        self._resume: Callable[[], Effect] | None = partial(next, steps)
        self._result: list[T] = []

    def due(self) -> Effect | None:
        """The next effect; None when the steps are done. Raises what the steps raise."""
        if self._resume is None:
            return None
        resume, self._resume = self._resume, None
        try:
            return resume()
        except StopIteration as done:
            self._result.append(done.value)
            return None

    def give(self, result: Any) -> None:
        """The result of the effect that was due."""
        self._resume = partial(self._steps.send, result)

    def fail(self, error: Exception) -> None:
        """The effect that was due came to this instead."""
        self._resume = partial(self._steps.throw, error)

    def close(self) -> None:
        """Gives up what is left of the steps."""
        self._resume = None
        self._steps.close()

    @property
    def done(self) -> bool:
        return bool(self._result)

    @property
    def result(self) -> T:
        """What the steps returned; only when they are done."""
        return self._result[0]

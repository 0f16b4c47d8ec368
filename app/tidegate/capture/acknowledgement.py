"""Which events are finished, and how far the stream may be acknowledged."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Finishes(Protocol):
    """Is told which events are finished: all that who indexes them need know of acknowledging."""

    def finish(self, numbers: Iterable[int]) -> None:
        """These events are written, parked or without meaning."""


class Shares:
    """Finishes events that go several ways: each is finished when it is on all of them.

    Most events go one way and are only passed on.
    """

    def __init__(self, finishes: Finishes):
        self._finishes = finishes
        self._lock = threading.Lock()
        self._ways: dict[int, set[str]] = {}

    def split(self, number: int, ways: Iterable[str]) -> None:
        """The event goes these ways. Call before any of them can finish it."""
        wanted = set(ways)
        if len(wanted) > 1:
            with self._lock:
                self._ways[number] = wanted

    def way(self, name: str) -> Finishes:
        """Where it is told what is finished on this way."""
        return _Way(self, name)

    def finish(self, numbers: Iterable[int], way: str) -> None:
        """These events are finished on the way."""
        with self._lock:
            done = [number for number in numbers if self._last(number, way)]
        self._finishes.finish(done)

    def forget(self, gone: Callable[[Iterable[int]], bool]) -> None:
        """Nobody waits for these any more."""
        with self._lock:
            for number in [number for number in self._ways if gone([number])]:
                del self._ways[number]

    def _last(self, number: int, way: str) -> bool:
        open_ = self._ways.get(number)
        if open_ is None:
            return True
        open_.discard(way)
        if open_:
            return False
        del self._ways[number]
        return True


class _Way:
    def __init__(self, shares: Shares, name: str):
        self._shares, self._name = shares, name

    def finish(self, numbers: Iterable[int]) -> None:
        self._shares.finish(numbers, self._name)


class Acknowledgements(Generic[T]):
    """Numbers the events of the stream and tells how far all of them are finished.

    Events finish out of order (live ones overtake backfilled ones). An offset says "everything before is
    done", so it may only follow the unbroken run of finished events from the start.
    """

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._next = 0
        self._low = 0
        self._finished: set[int] = set()
        self._batches: deque[tuple[int, T]] = deque()

    def open(self) -> int:
        """A number for the next event of the stream."""
        with self._lock:
            number = self._next
            self._next += 1
            return number

    def batch(self, offset: T) -> None:
        """All events numbered so far came with batches up to this one, which ends at `offset`."""
        with self._lock:
            self._batches.append((self._next, offset))

    def finish(self, numbers: Iterable[int]) -> None:
        """These events are written, parked or without meaning."""
        with self._lock:
            self._finished.update(numbers)
            while self._low in self._finished:
                self._finished.remove(self._low)
                self._low += 1
            self._lock.notify_all()

    def acknowledgeable(self) -> T | None:
        """The offset of the last batch that is finished with all before it; each is given once."""
        offset = None
        with self._lock:
            while self._batches and self._batches[0][0] <= self._low:
                offset = self._batches.popleft()[1]
            self._lock.notify_all()
        return offset

    @property
    def outstanding(self) -> int:
        """How many events are numbered and not finished."""
        with self._lock:
            return self._next - self._low - len(self._finished)

    def wait_until_acknowledged(self, timeout: float) -> bool:
        """Waits until no finished batch is left to be acknowledged; False when `timeout` seconds are up before."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._batches or self._batches[0][0] > self._low, timeout)

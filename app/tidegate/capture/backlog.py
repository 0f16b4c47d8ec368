"""What was polled and waits for the receiver."""

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidegate.capture.change_event import StreamEvent
from tidegate.capture.engine import Receiver
from tidegate.capture.stream import Stream


class StreamReceiver(Receiver, Protocol):
    """A receiver of many streams."""

    def forget(self, stream: Stream, gone: Callable[[Iterable[int]], bool]) -> None:
        """Drops what waits of a stream that another worker has now."""


@dataclass(frozen=True, slots=True)
class _Batch:
    stream: Stream
    events: Sequence[tuple[int, StreamEvent]]


@dataclass(frozen=True, slots=True)
class _Gone:
    stream: Stream


class Backlog:
    """Batches in the order in which they were polled, taken to the receiver by a thread of its own."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[_Batch | _Gone | None] = queue.SimpleQueue()
        self._waiting = 0
        self._counted = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many events the receiver has not taken yet."""
        with self._counted:
            return self._waiting

    def put(self, stream: Stream, events: Sequence[tuple[int, StreamEvent]]) -> None:
        """A batch of the stream's events, each with its number."""
        with self._counted:
            self._waiting += len(events)
        self._queue.put(_Batch(stream, events))

    def forget(self, stream: Stream) -> None:
        """The stream is another worker's. Behind its batches that still wait: none of them is received after it is
        forgotten."""
        self._queue.put(_Gone(stream))

    def end(self) -> None:
        """`deliver` returns when it has come here."""
        self._queue.put(None)

    def deliver(self, receiver: StreamReceiver, gone: Callable[[Iterable[int]], bool]) -> None:
        """Takes what waits to the receiver, until the end; raises what the receiver raises."""
        while True:
            work = self._queue.get()
            match work:
                case None:
                    return
                case _Gone(stream):
                    receiver.forget(stream, gone)
                case _Batch(stream, events):
                    receiver.receive(events, stream)
                    with self._counted:
                        self._waiting -= len(events)

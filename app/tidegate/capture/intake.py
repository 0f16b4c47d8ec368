"""Records on their way to becoming events: in order, and once more later where a schema cannot be had now."""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.backoff import Backoff
from tidegate.capture.change_event import StreamEvent
from tidegate.capture.holding import Held
from tidegate.capture.record import Records
from tidegate.capture.schema_registry import RegistryAway
from tidegate.capture.stream import Stream

log = logging.getLogger(__name__)

_FIRST_S, _MOST_S = 0.5, 15.0


@dataclass
class Intake:
    """The batches that a consumer has polled. While the schema registry is away they wait, and all that comes behind
    them; the consumer keeps its membership.

    Attributes:
        trouble: why the first of them waits; None: it does not.
    """

    records: Records
    trouble: str | None = None
    _batches: deque[tuple[Held, Sequence[Any]]] = field(default_factory=deque)
    _again: float = 0.0
    _pauses: Backoff = field(default_factory=lambda: Backoff(_FIRST_S, _MOST_S))

    @property
    def waits(self) -> bool:
        """Whether something does."""
        return bool(self._batches)

    def add(self, held: Held, batch: Sequence[Any]) -> None:
        """Records of a partition, behind those that are there."""
        self._batches.append((held, batch))

    def drop(self, stream: Stream) -> None:
        """The stream is another worker's now."""
        self._batches = deque(waiting for waiting in self._batches if waiting[0].stream != stream)
        if not self._batches:
            self.trouble = None

    def take(self) -> Iterator[tuple[Held, Sequence[Any], list[StreamEvent]]]:
        """The batches that can be decoded now, each with the events of its records."""
        while self._batches and time.monotonic() >= self._again:
            held, batch = self._batches[0]
            try:
                found = [self.records.event(record, held.stream.source) for record in batch]
            except RegistryAway as error:
                self.trouble = str(error)
                log.warning("schema registry fails", extra={"reason": self.trouble, "retry_s": self._pauses.seconds})
                self._again = time.monotonic() + self._pauses.next()
                return
            self.trouble = None
            self._pauses.reset()
            self._batches.popleft()
            yield held, batch, [event for event in found if event is not None]

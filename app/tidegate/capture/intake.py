"""Records on their way to becoming events: in order, and once more later where a schema cannot be had now."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.capture.change_event import StreamEvent
from tidegate.capture.holding import Held
from tidegate.capture.record import Records
from tidegate.capture.schema_registry import RegistryAway
from tidegate.capture.schema_requests import SchemaAwaited
from tidegate.capture.stream import Stream


@dataclass(eq=False)
class _Batch:
    """Records of a partition; `events` are those of the first of them, as far as they could be decoded."""

    held: Held
    records: Sequence[Any]
    events: list[StreamEvent | None] = field(default_factory=list)


@dataclass
class Intake:
    """The batches that a consumer has polled. Where the schema registry has not given a schema, a partition's records
    wait, and all that comes behind them in it; others go on, and the consumer keeps its membership.

    Attributes:
        trouble: why the first of them waits; None: none does, or the registry has only just been asked.
    """

    records: Records
    trouble: str | None = None
    _batches: deque[_Batch] = field(default_factory=deque)

    def waits(self, stream: Stream) -> bool:
        """Whether records of the partition do."""
        return any(batch.held.stream == stream for batch in self._batches)

    def add(self, held: Held, batch: Sequence[Any]) -> None:
        """Records of a partition, behind those that are there."""
        self._batches.append(_Batch(held, batch))

    def drop(self, stream: Stream) -> None:
        """The stream is another worker's now."""
        self._batches = deque(batch for batch in self._batches if batch.held.stream != stream)
        if not self._batches:
            self.trouble = None

    def take(self) -> Iterator[tuple[Held, Sequence[Any], list[StreamEvent]]]:
        """The batches that can be decoded now, each with the events of its records."""
        self.trouble = None
        waiting: set[Stream] = set()
        for batch in list(self._batches):
            if batch.held.stream in waiting:
                continue
            try:
                for record in batch.records[len(batch.events) :]:
                    batch.events.append(self.records.event(record, batch.held.stream.source))
            except RegistryAway as error:
                waiting.add(batch.held.stream)
                if not isinstance(error, SchemaAwaited):
                    self.trouble = self.trouble or str(error)
                continue
            self._batches.remove(batch)
            yield batch.held, batch.records, [event for event in batch.events if event is not None]

"""The partitions that a worker has, and how far each is finished and committed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tidegate.capture.partitions import PartitionAcknowledgements
from tidegate.capture.position import Lsn
from tidegate.capture.stream import Stream


@dataclass
class Held:
    """A partition that this worker has."""

    topic_partition: Any
    stream: Stream
    committed: int | None = None
    finished: Lsn | None = None
    seen: Lsn | None = None


class Holding:
    """The partitions that this worker has: one acknowledgement each."""

    def __init__(self, acknowledgements: PartitionAcknowledgements):
        self._acknowledgements = acknowledgements
        self._held: dict[Stream, Held] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def get(self, stream: Stream) -> Held | None:
        """The stream's partition; None: another worker has it."""
        return self._held.get(stream)

    def all(self) -> list[Held]:
        """What it has at this moment."""
        return list(self._held.values())

    def take(self, held: Held) -> None:
        """The partition is this worker's from now on."""
        self._acknowledgements.assign(held.stream)
        self._held[held.stream] = held

    def give_up(self, stream: Stream) -> bool:
        """The partition is this worker's no more; False: it was not."""
        if self._held.pop(stream, None) is None:
            return False
        self._acknowledgements.revoke(stream)
        return True

    def finished(self) -> list[Stream]:
        """Notes how far each is finished, and returns which of them have moved."""
        moved = []
        for stream, place in self._acknowledgements.acknowledgeable().items():
            held = self._held.get(stream)
            if held is not None:
                if held.committed != place.offset:
                    moved.append(stream)
                held.committed, held.finished = place.offset, place.lsn
        return moved

    def offsets(self, streams: Iterable[Stream] | None = None) -> dict[Any, Any]:
        """Topic partition → offset, as kafka-python commits it, of those of the streams (None: of all) of which
        something is finished."""
        from kafka.structs import OffsetAndMetadata

        offsets = {}
        for stream in list(self._held) if streams is None else streams:
            held = self._held.get(stream)
            if held is not None and held.committed is not None:
                offsets[held.topic_partition] = OffsetAndMetadata(held.committed, "", -1)
        return offsets

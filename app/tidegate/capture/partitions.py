"""Acknowledgements of many streams at once: each has its own unbroken run."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from tidegate.capture.acknowledgement import Acknowledgements
from tidegate.capture.position import Lsn
from tidegate.capture.stream import Stream

_SLOT_BITS = 24
_SLOT_MASK = (1 << _SLOT_BITS) - 1


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a partition: everything before `offset`. `lsn`: of the last live change among it."""

    offset: int
    lsn: Lsn | None


class PartitionAcknowledgements:
    """Numbers the events of the partitions that this worker has, and tells how far each is finished.

    A partition that was given away and comes back is a new one: what is still finished of the old belongs to
    nobody, and no offset follows from it. Every offset that is given out was finished by this worker.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[int, Acknowledgements[Place]] = {}
        self._slot_of: dict[Stream, int] = {}
        self._assigned = 0

    def assign(self, stream: Stream) -> None:
        """The stream is this worker's from now on."""
        with self._lock:
            self._drop(stream)
            self._slot_of[stream] = self._assigned
            self._slots[self._assigned] = Acknowledgements()
            self._assigned += 1

    def revoke(self, stream: Stream) -> None:
        """The stream is not this worker's any more."""
        with self._lock:
            self._drop(stream)

    def open(self, stream: Stream) -> int:
        """A number for the stream's next event."""
        slot = self._slot_of[stream]
        return (self._slots[slot].open() << _SLOT_BITS) | slot

    def batch(self, stream: Stream, place: Place) -> None:
        """All events of the stream numbered so far are before this place."""
        self._slots[self._slot_of[stream]].batch(place)

    def finish(self, numbers: Iterable[int]) -> None:
        """These events are written, parked or without meaning."""
        of_slot: dict[int, list[int]] = {}
        for number in numbers:
            of_slot.setdefault(number & _SLOT_MASK, []).append(number >> _SLOT_BITS)
        for slot, own in of_slot.items():
            held = self._slots.get(slot)
            if held is not None:
                held.finish(own)

    def acknowledgeable(self) -> dict[Stream, Place]:
        """Per stream, the place up to which everything is finished, where it has moved."""
        places = {}
        with self._lock:
            for stream, slot in self._slot_of.items():
                place = self._slots[slot].acknowledgeable()
                if place is not None:
                    places[stream] = place
        return places

    def gone(self, numbers: Iterable[int]) -> bool:
        """Whether all these events are of streams that are not this worker's any more."""
        return all(number & _SLOT_MASK not in self._slots for number in numbers)

    def outstanding(self, streams: Iterable[Stream]) -> int:
        """How many events of these streams are numbered and not finished."""
        with self._lock:
            slots = [self._slot_of[stream] for stream in streams if stream in self._slot_of]
            return sum(self._slots[slot].outstanding for slot in slots)

    def _drop(self, stream: Stream) -> None:
        slot = self._slot_of.pop(stream, None)
        if slot is not None:
            del self._slots[slot]

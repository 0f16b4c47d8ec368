"""What a consumer group decides about a member's partitions."""

import queue
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

Decision = tuple[Literal["assigned", "revoked", "lost"], set[Any]]


class Rebalance:
    """The group's decisions of one membership, made during a poll and to be settled after it.

    Args:
        revoking: called within the poll that takes partitions away: the last moment to commit their offsets.
    """

    def __init__(self, revoking: Callable[[set[Any]], None]):
        self._revoking = revoking
        self._decisions: queue.SimpleQueue[Decision] = queue.SimpleQueue()

    def decisions(self) -> Iterator[Decision]:
        """Those not settled yet, in their order, with the topic partitions that they are about."""
        while True:
            try:
                yield self._decisions.get_nowait()
            except queue.Empty:
                return

    def listener(self) -> Any:
        """To be given to kafka-python with the subscription."""
        from kafka import ConsumerRebalanceListener

        decide, revoking = self._decisions.put, self._revoking

        class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
            def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
                decide(("assigned", set(assigned)))

            def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
                partitions = set(revoked)
                revoking(partitions)
                decide(("revoked", partitions))

            def on_partitions_lost(self, lost: Iterable[Any]) -> None:
                # Another has them already; nothing may be committed.
                decide(("lost", set(lost)))

        return Listener()

"""Kafka's side of a worker: a member of the consumer group that takes its partitions' events to a receiver."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tidegate.backoff import Backoff
from tidegate.capture.backlog import Backlog, StreamReceiver
from tidegate.capture.change_event import ChangeEvent, StreamEvent
from tidegate.capture.holding import Held, Holding
from tidegate.capture.intake import Intake
from tidegate.capture.kafka_client import consumer as kafka_consumer
from tidegate.capture.kafka_client import is_fatal, make_topics, mend_join, reason
from tidegate.capture.partitions import PartitionAcknowledgements, Place
from tidegate.capture.position import Lsn
from tidegate.capture.rebalance import Rebalance
from tidegate.capture.record import Records
from tidegate.capture.silence import Silence
from tidegate.capture.source import Source
from tidegate.capture.stream import Stream
from tidegate.errors import TidegateError
from tidegate.settings import Settings

log = logging.getLogger(__name__)

POLL_MS = 100
COMMIT_S = 0.2
BACKLOG_HIGH = 2_000
BACKLOG_LOW = 500
_REVOKE_PATIENCE_S = 1.0
_RETRY_FIRST_S, _RETRY_MOST_S = 0.5, 15.0


class ConsumerStopped(TidegateError):
    """The Kafka consumer cannot go on."""


@dataclass
class GroupConsumer:
    """Two threads. One polls, and so keeps the membership: it hands over what comes, commits what is finished,
    and pauses the partitions while too much waits. The other takes it to the receiver, which may block as long
    as it must (a slow model, a database that is away).

    The order of work: the receiver writes to Postgres, finishes the events' numbers, and only then is the offset
    of the unbroken run committed. When a partition is taken away, what is in hand gets a second to finish; what
    is finished then is committed, the rest is dropped, and who has the partition next reads it again. The ledger
    makes it harmless if both write.

    Args:
        lost: told of a source some of whose changes the topic has no longer (retention): only reading its tables
            again brings them back. Called until it returns without an error.
        records: what makes events of Kafka's records.
    """

    settings: Settings
    group: str
    client_id: str
    sources: Mapping[str, Source]
    receiver: StreamReceiver
    acknowledgements: PartitionAcknowledgements
    lost: Callable[[str], None]
    records: Records
    _consumer: Any = None
    _silence: Silence = field(default_factory=Silence)
    _backlog: Backlog = field(default_factory=Backlog)
    _paused: bool = False
    _stopping: threading.Event = field(default_factory=threading.Event)
    _draining: threading.Event = field(default_factory=threading.Event)
    _failure: BaseException | None = None
    _threads: list[threading.Thread] = field(default_factory=list)
    _last_commit: float = 0.0
    _counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._holding = Holding(self.acknowledgements)
        self._rebalance = Rebalance(self._finish)
        self._intake = Intake(self.records)

    def start(self) -> None:
        """Joins the group; returns at once. A broker that is away is waited for."""
        self._stream_of = {source.topic: name for name, source in self.sources.items()}
        self._silence = Silence()
        for name, work in (("kafka", self._poll_until_stopped), ("receive", self._deliver)):
            thread = threading.Thread(target=work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def drain(self) -> None:
        """Takes no more records; the membership stays until `stop`."""
        self._draining.set()

    def stop(self, timeout: float = 15.0) -> None:
        """Commits what is finished, leaves the group, ends the threads."""
        self._draining.set()
        self._stopping.set()
        self._backlog.end()
        for thread in self._threads:
            thread.join(timeout)

    def failure(self) -> ConsumerStopped | None:
        """Why it stopped by itself, if it did."""
        if self._failure is None:
            return None
        return ConsumerStopped(f"the Kafka consumer stopped: {type(self._failure).__name__}: {self._failure}")

    @property
    def trouble(self) -> tuple[str, datetime] | None:
        """What keeps changes from coming, and since when; None: nothing does."""
        return self._silence.trouble

    @property
    def counts(self) -> dict[str, int]:
        """How many partitions each source has."""
        return dict(self._counts)

    def held(self) -> list[tuple[Held, int | None]]:
        """The partitions that it has, each with the offset of its end."""
        found = []
        for held in self._holding.all():
            try:
                end = self._consumer.highwater(held.topic_partition)
            except Exception:  # the partition is being taken away at this moment
                end = None
            found.append((held, end))
        return found

    def _poll_until_stopped(self) -> None:
        pauses = Backoff(_RETRY_FIRST_S, _RETRY_MOST_S)
        while not self._stopping.is_set():
            try:
                if self._consumer is None:
                    self._join()
                self._turn()
                pauses.reset()
            except Exception as error:  # kafka-python's own, and whatever a broker that is away leads to
                if is_fatal(error):
                    self._failure = error
                    break
                self._silence.because(reason(error))
                log.warning("Kafka fails", extra={"reason": reason(error), "retry_s": pauses.seconds})
                # From the start: records of this turn may be lost to it, and come again to the next membership.
                self._leave()
                pauses.wait(self._stopping)
        self._leave()

    def _join(self) -> None:
        make_topics(self.settings, self._stream_of)
        self._rebalance = Rebalance(self._finish)
        consumer = kafka_consumer(self.settings.kafka, self.group, self.client_id)
        self._consumer, self._paused = consumer, False
        consumer.subscribe(topics=sorted(self._stream_of), listener=self._rebalance.listener())

    def _turn(self) -> None:
        records = self._consumer.poll(timeout_ms=POLL_MS, max_records=BACKLOG_HIGH)
        mend_join(self._consumer)
        self._settle()
        for topic_partition, batch in records.items():
            held = self._holding.get(self._stream(topic_partition))
            if held is not None:
                self._intake.add(held, batch)
        came = bool(records)
        for held, batch, events in self._intake.take():
            self._hand_over(held, batch, events)
            came = True
        if self._intake.trouble is not None:
            self._silence.because(self._intake.trouble)
        elif came:
            self._silence.broken()
        self._commit()
        self._regulate()
        self._look()

    def _stream(self, topic_partition: Any) -> Stream:
        return Stream(self._stream_of[topic_partition.topic], topic_partition.partition)

    def _hand_over(self, held: Held, records: Sequence[Any], decoded: Sequence[StreamEvent]) -> None:
        stream = held.stream
        events: list[tuple[int, StreamEvent]] = []
        for event in decoded:
            events.append((self.acknowledgements.open(stream), event))
            if isinstance(event, ChangeEvent) and not event.backfill:
                held.seen = max(held.seen or Lsn(0), event.position.change)
        self.acknowledgements.batch(stream, Place(records[-1].offset + 1, held.seen))
        if events:
            self._backlog.put(stream, events)

    def _settle(self) -> None:
        """Takes and gives up partitions as the group has decided during the poll."""
        for decision, partitions in self._rebalance.decisions():
            if decision == "assigned":
                self._take(partitions)
            else:
                for topic_partition in partitions:
                    self._give_up(self._stream(topic_partition))

    def _take(self, partitions: set[Any]) -> None:
        begins = self._consumer.beginning_offsets(sorted(partitions))
        lost = set()
        for topic_partition in sorted(partitions):
            stream = self._stream(topic_partition)
            committed = self._consumer.committed(topic_partition)
            begin = begins[topic_partition]
            if begin > (committed or 0):
                lost.add(stream.source)
                log.error(
                    "the topic has not all changes any more, all rows are read again",
                    extra={"topic": topic_partition.topic, "partition": stream.partition, "begins_at": begin},
                )
            self._holding.take(Held(topic_partition, stream, committed))
            self._counts[stream.source] = len(self._consumer.partitions_for_topic(topic_partition.topic))
        for source in lost:
            self.lost(source)
        log.info("partitions taken", extra={"partitions": [tp.partition for tp in sorted(partitions)]})

    def _give_up(self, stream: Stream) -> None:
        self._intake.drop(stream)
        if self._holding.give_up(stream):
            self._backlog.forget(stream)

    def _finish(self, partitions: set[Any]) -> None:
        """While the group takes these away: finishes what is in hand, commits it; the rest goes after the poll."""
        streams = [self._stream(topic_partition) for topic_partition in partitions]
        deadline = time.monotonic() + _REVOKE_PATIENCE_S
        while self.acknowledgements.outstanding(streams) and time.monotonic() < deadline:
            time.sleep(0.005)
        self._holding.finished()
        offsets = self._holding.offsets(streams)
        if offsets:
            self._consumer.commit_async(offsets)
        log.info("partitions given up", extra={"partitions": sorted(tp.partition for tp in partitions)})

    def _commit(self, *, now: bool = False) -> None:
        if not now and time.monotonic() < self._last_commit + COMMIT_S:
            return
        moved = self._holding.finished()
        offsets = self._holding.offsets(None if now else moved)
        if not offsets:
            return
        self._last_commit = time.monotonic()
        if now:
            self._consumer.commit(offsets, timeout_ms=5_000)
        else:
            # One that fails is made good by the next; a member that was expelled must not commit.
            self._consumer.commit_async(offsets, callback=_committed)

    def _regulate(self) -> None:
        """Pauses all partitions while much waits, and those whose records wait for a schema; polling goes on, and with
        it the membership."""
        waiting = self._backlog.waiting
        much = waiting >= BACKLOG_LOW if self._paused else waiting > BACKLOG_HIGH
        self._paused = self._draining.is_set() or much
        for held in self._holding.all():
            stop = self._paused or self._intake.waits(held.stream)
            if stop != (held.topic_partition in self._consumer.paused()):
                (self._consumer.pause if stop else self._consumer.resume)(held.topic_partition)

    def _look(self) -> None:
        """After a silence (heartbeats come every second), asks whether Kafka is away, or who writes to it."""
        if self._paused or self._intake.trouble or not self._holding or not self._silence.to_be_looked_at():
            return
        try:
            self._consumer.end_offsets([held.topic_partition for held in self._holding.all()], timeout_ms=1_000)
        except Exception as error:  # see _poll_until_stopped
            self._silence.because(f"Kafka does not answer ({type(error).__name__})")
        else:
            self._silence.because("no heartbeat comes: the connector does not run, or its database is away")

    def _leave(self) -> None:
        if self._consumer is None:
            return
        try:
            self._commit(now=True)
        except Exception as error:  # what is not committed comes again
            log.warning("the last offsets are not committed", extra={"reason": f"{type(error).__name__}: {error}"})
        for held in self._holding.all():
            self._give_up(held.stream)
        try:
            self._consumer.close(autocommit=False, timeout_ms=5_000)
        except Exception as error:  # the broker is away: the group will miss this member by itself
            log.warning("did not leave the group", extra={"reason": f"{type(error).__name__}: {error}"})
        self._consumer = None

    def _deliver(self) -> None:
        try:
            self._backlog.deliver(self.receiver, self.acknowledgements.gone)
        except BaseException as error:
            self._failure = error
            raise


def _committed(_: object, answer: object) -> None:
    if isinstance(answer, Exception):
        log.info("offsets not committed, they come again", extra={"reason": f"{type(answer).__name__}: {answer}"})

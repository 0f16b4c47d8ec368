"""Kafka's side of a worker: a member of the consumer group that takes its partitions' events to a receiver."""

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from tidegate.capture.change_event import ChangeEvent, StreamEvent, TableScanned, Undecodable, UndecodableEvent, decode
from tidegate.capture.engine import Receiver
from tidegate.capture.kafka_client import KafkaUnfit, make_topics, mend_join, reason
from tidegate.capture.kafka_client import consumer as kafka_consumer
from tidegate.capture.partitioning import TABLE_FIELD
from tidegate.capture.partitions import PartitionAcknowledgements, Place
from tidegate.capture.position import Lsn
from tidegate.capture.source import Source
from tidegate.capture.stream import Stream
from tidegate.errors import TidegateError, UsageError
from tidegate.settings import Settings

log = logging.getLogger(__name__)

POLL_MS = 100
COMMIT_S = 0.2
BACKLOG_HIGH = 2_000
BACKLOG_LOW = 500
_REVOKE_PATIENCE_S = 1.0
_SILENCE_S = 5.0
_LOOK_S = 2.0
_RETRY_FIRST_S, _RETRY_MOST_S = 0.5, 15.0


class ConsumerStopped(TidegateError):
    """The Kafka consumer cannot go on."""


class StreamReceiver(Receiver, Protocol):
    """A receiver of many streams."""

    def forget(self, stream: Stream, gone: Callable[[Iterable[int]], bool]) -> None:
        """Drops what waits of a stream that another worker has now."""


@dataclass
class Held:
    """A partition that this worker has."""

    topic_partition: Any
    stream: Stream
    committed: int | None = None
    finished: Lsn | None = None
    seen: Lsn | None = None


@dataclass(frozen=True, slots=True)
class _Batch:
    stream: Stream
    events: Sequence[tuple[int, StreamEvent]]


@dataclass(frozen=True, slots=True)
class _Gone:
    stream: Stream


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
    """

    settings: Settings
    group: str
    client_id: str
    sources: Mapping[str, Source]
    receiver: StreamReceiver
    acknowledgements: PartitionAcknowledgements
    lost: Callable[[str], None]
    _consumer: Any = None
    _held: dict[Stream, Held] = field(default_factory=dict)
    _changes: "queue.SimpleQueue[tuple[str, set[Any]]]" = field(default_factory=queue.SimpleQueue)
    _backlog: "queue.SimpleQueue[_Batch | _Gone | None]" = field(default_factory=queue.SimpleQueue)
    _waiting: int = 0
    _counted: threading.Lock = field(default_factory=threading.Lock)
    _paused: bool = False
    _stopping: threading.Event = field(default_factory=threading.Event)
    _draining: threading.Event = field(default_factory=threading.Event)
    _failure: BaseException | None = None
    _trouble: tuple[str, datetime] | None = None
    _threads: list[threading.Thread] = field(default_factory=list)
    _last_record: float = 0.0
    _last_commit: float = 0.0
    _last_look: float = 0.0
    _counts: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        """Joins the group; returns at once. A broker that is away is waited for."""
        self._stream_of = {source.topic: name for name, source in self.sources.items()}
        self._last_record = time.monotonic()
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
        self._backlog.put(None)
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
        return self._trouble

    @property
    def counts(self) -> dict[str, int]:
        """How many partitions each source has."""
        return dict(self._counts)

    def held(self) -> list[tuple[Held, int | None]]:
        """The partitions that it has, each with the offset of its end."""
        found = []
        for held in list(self._held.values()):
            try:
                end = self._consumer.highwater(held.topic_partition)
            except Exception:  # the partition is being taken away at this moment
                end = None
            found.append((held, end))
        return found

    # --- polling

    def _poll_until_stopped(self) -> None:
        pause = _RETRY_FIRST_S
        while not self._stopping.is_set():
            try:
                if self._consumer is None:
                    self._join()
                self._turn()
                pause = _RETRY_FIRST_S
            except Exception as error:  # kafka-python's own, and whatever a broker that is away leads to
                if _is_fatal(error):
                    self._failure = error
                    break
                self._say(reason(error))
                log.warning("Kafka fails", extra={"reason": reason(error), "retry_s": pause})
                # From the start: records of this turn may be lost to it, and come again to the next membership.
                self._leave()
                self._stopping.wait(pause)
                pause = min(pause * 2, _RETRY_MOST_S)
        self._leave()

    def _join(self) -> None:
        make_topics(self.settings, self._stream_of)
        self._changes = queue.SimpleQueue()
        consumer = kafka_consumer(self.settings.kafka, self.group, self.client_id)
        self._consumer, self._paused = consumer, False
        consumer.subscribe(topics=sorted(self._stream_of), listener=_listener(self))

    def _turn(self) -> None:
        records = self._consumer.poll(timeout_ms=POLL_MS, max_records=BACKLOG_HIGH)
        mend_join(self._consumer)
        self._settle_changes()
        for topic_partition, batch in records.items():
            held = self._held.get(self._stream(topic_partition))
            if held is not None:
                self._hand_over(held, batch)
        if records:
            self._last_record = time.monotonic()
            self._trouble = None
        self._commit()
        self._regulate()
        self._look()

    def _stream(self, topic_partition: Any) -> Stream:
        return Stream(self._stream_of[topic_partition.topic], topic_partition.partition)

    def _hand_over(self, held: Held, records: Sequence[Any]) -> None:
        stream = held.stream
        events: list[tuple[int, StreamEvent]] = []
        for record in records:
            event = _event(record, stream.source)
            if event is None:
                continue
            events.append((self.acknowledgements.open(stream), event))
            if isinstance(event, ChangeEvent) and not event.backfill:
                held.seen = max(held.seen or Lsn(0), event.position.change)
        self.acknowledgements.batch(stream, Place(records[-1].offset + 1, held.seen))
        if events:
            with self._counted:
                self._waiting += len(events)
            self._backlog.put(_Batch(stream, events))

    def _settle_changes(self) -> None:
        """Takes and gives up partitions as the group has decided during the poll."""
        while True:
            try:
                kind, partitions = self._changes.get_nowait()
            except queue.Empty:
                return
            if kind == "assigned":
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
            self.acknowledgements.assign(stream)
            self._held[stream] = Held(topic_partition, stream, committed)
            self._counts[stream.source] = len(self._consumer.partitions_for_topic(topic_partition.topic))
        for source in lost:
            self.lost(source)
        if self._paused or self._draining.is_set():
            self._consumer.pause(*partitions)
        log.info("partitions taken", extra={"partitions": [tp.partition for tp in sorted(partitions)]})

    def _give_up(self, stream: Stream) -> None:
        if self._held.pop(stream, None) is not None:
            self.acknowledgements.revoke(stream)
            # Behind its batches that still wait: none of them is received after it is forgotten.
            self._backlog.put(_Gone(stream))

    def revoked(self, partitions: set[Any]) -> None:
        """Called while the group decides: finishes what is in hand, commits it; the rest is dropped after the poll."""
        streams = [self._stream(topic_partition) for topic_partition in partitions]
        deadline = time.monotonic() + _REVOKE_PATIENCE_S
        while self.acknowledgements.outstanding(streams) and time.monotonic() < deadline:
            time.sleep(0.005)
        self._note_finished()
        offsets = self._offsets(streams)
        if offsets:
            self._consumer.commit_async(offsets)
        self._changes.put(("revoked", partitions))
        log.info("partitions given up", extra={"partitions": sorted(tp.partition for tp in partitions)})

    def _note_finished(self) -> None:
        for stream, place in self.acknowledgements.acknowledgeable().items():
            held = self._held.get(stream)
            if held is not None:
                held.committed, held.finished = place.offset, place.lsn

    def _offsets(self, streams: Iterable[Stream]) -> dict[Any, Any]:
        from kafka.structs import OffsetAndMetadata

        return {
            self._held[stream].topic_partition: OffsetAndMetadata(self._held[stream].committed, "", -1)
            for stream in streams
            if stream in self._held and self._held[stream].committed is not None
        }

    def _commit(self, *, now: bool = False) -> None:
        if not now and time.monotonic() < self._last_commit + COMMIT_S:
            return
        before = {stream: held.committed for stream, held in self._held.items()}
        self._note_finished()
        offsets = self._offsets(
            stream for stream, held in self._held.items() if now or held.committed != before[stream]
        )
        if not offsets:
            return
        self._last_commit = time.monotonic()
        if now:
            self._consumer.commit(offsets, timeout_ms=5_000)
        else:
            # One that fails is made good by the next; a member that was expelled must not commit.
            self._consumer.commit_async(offsets, callback=_committed)

    def _regulate(self) -> None:
        """Pauses the partitions while much waits; polling goes on, and with it the membership."""
        with self._counted:
            waiting = self._waiting
        stop = self._draining.is_set() or waiting > BACKLOG_HIGH
        partitions = [held.topic_partition for held in self._held.values()]
        if not self._paused and stop:
            self._consumer.pause(*partitions)
            self._paused = True
        elif self._paused and not self._draining.is_set() and waiting < BACKLOG_LOW:
            self._consumer.resume(*partitions)
            self._paused = False

    def _look(self) -> None:
        """After a silence (heartbeats come every second), asks whether Kafka is away, or who writes to it."""
        now = time.monotonic()
        if now < max(self._last_record + _SILENCE_S, self._last_look + _LOOK_S) or self._paused:
            return
        self._last_look = now
        if not self._held:
            return
        try:
            self._consumer.end_offsets([held.topic_partition for held in self._held.values()], timeout_ms=1_000)
        except Exception as error:  # see _poll_until_stopped
            self._say(f"Kafka does not answer ({type(error).__name__})")
        else:
            self._say("no heartbeat comes: the connector does not run, or its database is away")

    def _say(self, trouble: str) -> None:
        if self._trouble is None:
            age = time.monotonic() - self._last_record
            self._trouble = (trouble, datetime.fromtimestamp(time.time() - age, UTC))
            log.warning("no changes come", extra={"reason": trouble})
        else:
            self._trouble = (trouble, self._trouble[1])

    def _leave(self) -> None:
        if self._consumer is None:
            return
        try:
            self._commit(now=True)
        except Exception as error:  # what is not committed comes again
            log.warning("the last offsets are not committed", extra={"reason": f"{type(error).__name__}: {error}"})
        for stream in list(self._held):
            self._give_up(stream)
        try:
            self._consumer.close(autocommit=False, timeout_ms=5_000)
        except Exception as error:  # the broker is away: the group will miss this member by itself
            log.warning("did not leave the group", extra={"reason": f"{type(error).__name__}: {error}"})
        self._consumer = None

    # --- delivering

    def _deliver(self) -> None:
        while True:
            work = self._backlog.get()
            match work:
                case None:
                    return
                case _Gone(stream):
                    self.receiver.forget(stream, self.acknowledgements.gone)
                case _Batch(stream, events):
                    try:
                        self.receiver.receive(events, stream)
                    except BaseException as error:
                        self._failure = error
                        raise
                    with self._counted:
                        self._waiting -= len(events)


def _listener(consumer: GroupConsumer) -> Any:
    from kafka import ConsumerRebalanceListener

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
        def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
            consumer._changes.put(("assigned", set(assigned)))

        def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
            consumer.revoked(set(revoked))

        def on_partitions_lost(self, lost: Iterable[Any]) -> None:
            # Another has them already; nothing may be committed.
            consumer._changes.put(("lost", set(lost)))

    return Listener()


def _event(record: Any, source: str) -> StreamEvent | None:
    try:
        event = decode(_text(record.key), _text(record.value))
    except (UndecodableEvent, UnicodeDecodeError) as error:
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        reason = str(error) if isinstance(error, UndecodableEvent) else "not UTF-8"
        return Undecodable(json.dumps(place), reason)
    if isinstance(event, ChangeEvent):
        key = event.key
        if key is not None and TABLE_FIELD in key:
            key = {name: value for name, value in key.items() if name != TABLE_FIELD}
        return replace(event, key=key, source=source)
    return replace(event, source=source) if isinstance(event, TableScanned) else event


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _is_fatal(error: Exception) -> bool:
    from kafka import errors

    fatal = (errors.KafkaConfigurationError, errors.AuthorizationError, errors.SaslAuthenticationFailedError)
    return isinstance(error, (UsageError, KafkaUnfit, *fatal))


def _committed(_: object, answer: object) -> None:
    if isinstance(answer, Exception):
        log.info("offsets not committed, they come again", extra={"reason": f"{type(answer).__name__}: {answer}"})

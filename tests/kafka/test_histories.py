"""Random histories over Kafka with two real workers: index = f(source), and every read can be explained.

Both workers are members of the group and are killed (-9), ended, paused and started again, so that partitions move;
Connect's task is restarted, Connect killed; changes come again, late and in any order, and whole stretches of them when
the group's offsets are set back. The model is slow, away, or refuses a text.

A short version by default; `TIDEGATE_HISTORIES=60` is a longer one.
"""

import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.histories.history import PATIENCE_S, Failures, histories, run_histories
from tests.histories.model import QuickModel, QuickModels
from tests.histories.page import CONTRACT, Pages
from tests.histories.process_history import HELD_S, Processes, ProcessHistory
from tests.histories.program import Faults, Program
from tests.kafka.cluster import Cluster
from tests.kafka.conftest import PARTITIONS, KafkaTide
from tidegate.capture.source import group, sources
from tidegate.capture.stream import HOME
from tidegate.index.embedding.local_model import MODEL

HISTORIES = histories(2)
LATE = 25
"""Changes of a history that come once more, in any order, when all of it is indexed."""


class Topic:
    """What Connect has written, and a way to write it again."""

    def __init__(self, bootstrap_servers: str, name: str, group_id: str):
        from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

        self._name, self._group = name, group_id
        self._partitions = [TopicPartition(name, number) for number in range(PARTITIONS)]
        self._consumer = KafkaConsumer(bootstrap_servers=bootstrap_servers)
        self._consumer.assign(self._partitions)
        self._producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
        self._admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
        self._begin: dict[Any, int] = {}

    def begin(self) -> None:
        """A history begins."""
        self._begin = self._consumer.end_offsets(self._partitions)

    def changes(self) -> list[Any]:
        """The records of the history's changes up to now."""
        ends = self._consumer.end_offsets(self._partitions)
        for partition in self._partitions:
            self._consumer.seek(partition, self._begin[partition])
        found: list[Any] = []
        while any(self._consumer.position(partition) < ends[partition] for partition in self._partitions):
            for records in self._consumer.poll(timeout_ms=100).values():
                found += [record for record in records if record.value and b'"schema":"team"' in record.value]
        return found

    def send(self, records: list[Any]) -> None:
        """These come again, in this order."""
        for record in records:
            self._producer.send(self._name, key=record.key, value=record.value, partition=record.partition)
        self._producer.flush()

    def set_back(self, share: float) -> None:
        """The group reads this share of what it has read of the history again. It must have no members, or soon."""
        from kafka.structs import OffsetAndMetadata

        deadline = time.monotonic() + PATIENCE_S
        while True:
            (committed,) = self._admin.list_group_offsets({self._group: self._partitions}).values()
            offsets = {
                partition: OffsetAndMetadata(
                    at.offset - round(max(at.offset - self._begin[partition], 0) * share), "", -1
                )
                for partition, at in committed.items()
                if at.offset >= 0
            }
            answer = self._admin.alter_group_offsets(self._group, offsets)
            if all(error.__name__ == "NoError" for error in answer.values()):
                return
            assert time.monotonic() < deadline, answer
            time.sleep(0.2)

    def close(self) -> None:
        for client in (self._consumer, self._producer, self._admin):
            client.close()


@dataclass
class Streamed(Processes):
    """With what stands between the database and its workers."""

    cluster: Cluster = field(kw_only=True)
    tide: KafkaTide = field(kw_only=True)
    topic: Topic = field(kw_only=True)
    histories: int = 0


class Histories(ProcessHistory):
    """See the module."""

    held: Streamed

    def __init__(self, failures: Failures, held: Streamed):
        held.topic.begin()
        super().__init__(failures, held)

    @rule(start=st.floats(0, 1), count=st.integers(1, 12), mixed=st.booleans(), seed=st.integers(0, 999))
    def again(self, start: float, count: int, mixed: bool, seed: int) -> None:
        """Some changes come again: in their order or not, long after what followed them."""
        records = self.held.topic.changes()
        some = records[round(start * len(records)) :][:count]
        if mixed:
            random.Random(seed).shuffle(some)
        self.note("again", [(record.partition, record.offset) for record in some])
        self.held.topic.send(some)

    @rule(share=st.floats(0, 1))
    def set_back(self, share: float) -> None:
        self.note("offsets set back", share)
        for number, program in enumerate(self.held.running):
            if program is not None:
                program.end(PATIENCE_S)
            self.held.running[number] = None
        self.held.topic.set_back(share)
        self.held.start_all()

    @rule(killed=st.sampled_from([False] * 4 + [True]))
    def restart_engine(self, killed: bool) -> None:
        """Connect's task, or all of Connect; what it had not noted comes again."""
        self.note("Connect killed" if killed else "task restarted")
        if killed:
            self.held.cluster.restart_connect(signal.SIGKILL)
        else:
            self.held.tide.connectors().restart(60)

    def disturb(self) -> None:
        self.held.histories += 1
        if self.held.histories % 2 == 0:
            self.hold_up()
        else:
            super().disturb()

    def hold_up(self) -> None:
        """A worker stands still while it embeds, until the other has its partitions and all changes, and newer ones;
        then it goes on with what it had in hand."""
        number, program = self.embedding()
        self.note("held up", number)
        with program.paused():
            self.held.faults.tell()
            self.pages.transaction([("delete", 1), ("again", 2), ("all",)])
            self.held.caught_up()
        time.sleep(HELD_S)

    def last(self) -> None:
        records = self.held.topic.changes()
        random.Random(len(self.pages.log)).shuffle(records)
        self.held.topic.send(records[:LATE])


@pytest.fixture
def held(tide: KafkaTide, kafka: Cluster, tmp_path: Path) -> Iterator[Streamed]:
    faults = Faults(tmp_path / "faults")
    tide.embedders = QuickModels(QuickModel(tide.embedders.of(MODEL)))
    pages = Pages(tide.admin)
    pages.create()
    tide.apply(CONTRACT)
    tide.connectors().apply(60)
    home = sources(tide.settings, tide.dsn, tide.admin.info.dbname)[HOME]

    def start() -> Program:
        environment = {
            **kafka.env,
            "TIDEGATE_KAFKA__PARTITIONS": str(PARTITIONS),
            # Until then, a killed worker's partitions are nobody's.
            "TIDEGATE_KAFKA__SESSION_TIMEOUT_MS": "5000",
            "TIDEGATE_KAFKA__HEARTBEAT_INTERVAL_MS": "500",
            "TIDEGATE_EMBEDDING_ATTEMPTS": "10000",
        }
        command = ("tests.histories.launch", str(faults.file), "worker")
        return Program(tide.dsn, environment, tmp_path / "log", *command)

    first = start()  # it makes the topic, where Connect has not yet
    topic = Topic(kafka.bootstrap_servers, home.topic, group(tide.settings, home))
    made = Streamed(tide.dsn, pages, faults, start, [first, None], cluster=kafka, tide=tide, topic=topic)
    yield made
    made.close()
    topic.close()


@pytest.mark.timeout(600 + 120 * HISTORIES)
def test_two_workers_lose_nothing_under_any_history(held: Streamed) -> None:
    run_histories(lambda failures: Histories(failures, held), HISTORIES, 12)
    assert held.deeds

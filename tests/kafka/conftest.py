"""A Kafka cluster a session, from Maven Central's jars, and tidegate on it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide, wait_until
from tests.kafka.cluster import Cluster, cluster, lack
from tests.kafka.registry import Registry
from tests.kafka.registry import registry as run_registry
from tidegate.connectors import Connectors
from tidegate.database import Connection
from tidegate.group_pipeline import GroupPipeline
from tidegate.index.embedding.registry import Embedders
from tidegate.settings import ConnectSettings, KafkaSettings, Settings

PARTITIONS = 3
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where Kafka cannot run, its tests say so in one line each, and the session goes on."""
    missing = lack()
    if missing is None:
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"Kafka's tests need a Docker engine, or java and mvn: {missing}"))


@pytest.fixture(scope="session")
def kafka() -> Iterator[Cluster]:
    """The session's broker and Connect."""
    with cluster(quick=True) as running:
        yield running


@pytest.fixture(scope="session")
def registry(kafka: Cluster) -> Iterator[Registry]:
    """The session's schema registry; started when the first test asks for it."""
    with run_registry() as running:
        yield running


@pytest.fixture
def settings(kafka: Cluster) -> Settings:
    return Settings(
        heartbeat_ms=200,
        kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, partitions=PARTITIONS),
        connect=ConnectSettings(url=kafka.connect_url),
        _env_file=None,
    )


@dataclass
class KafkaTide(Tide):
    """A test's database whose changes come through Kafka."""

    workers: list[GroupPipeline] = field(default_factory=list)

    def connectors(self) -> Connectors:
        return Connectors(self.admin, self.settings)

    def worker(self) -> GroupPipeline:
        """Starts a worker. Stopped at the end of the test."""
        started = GroupPipeline(self.dsn, self.settings, self.embedders)
        started.start()
        self.workers.append(started)
        return started

    def streaming(self, worker: GroupPipeline) -> None:
        wait_until(lambda: worker.streaming or worker.failure(), 30, "the worker streams")
        assert worker.failure() is None

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()
        self.workers.clear()
        self.connectors().delete()

    def notes(self) -> None:
        """Publishes team.note, connects, starts a worker, and waits until all of it is live."""
        self.admin.execute(SIMPLE_TABLE)
        self.apply(SIMPLE_CONTRACT)
        self.connectors().apply(60)
        self.streaming(self.worker())
        self.live("team.note")


@pytest.fixture
def tide(dsn: str, admin: Connection, embedders: Embedders, settings: Settings) -> Iterator[KafkaTide]:
    held = KafkaTide(dsn, admin, embedders, settings)
    yield held
    held.stop()

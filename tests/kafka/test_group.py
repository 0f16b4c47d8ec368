"""Workers that come and go: partitions are shared, nothing is lost, offsets follow what is written."""

import json

from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, wait_until
from tests.integration.embedder import WatchedModels
from tests.kafka.cluster import Cluster
from tests.kafka.conftest import PARTITIONS, KafkaTide
from tidegate.capture.source import sources
from tidegate.capture.stream import HOME
from tidegate.group_pipeline import GroupPipeline
from tidegate.index.embedding.local_model import MODEL
from tidegate.observe.dead_letters import list_dead_letters
from tidegate.observe.fleet import fleet_status
from tidegate.settings import KafkaSettings

DIFFERING = (
    "SELECT count(*) FROM team.note s FULL JOIN rag_team.note c ON c.id = s.id WHERE s.title IS DISTINCT FROM c.content"
)


def shares(worker: GroupPipeline) -> int:
    return len(worker._consumer.held())


def no_lag_is_left(tide: KafkaTide) -> None:
    """Waits until the offsets of all that is in the topic now are committed; heartbeats go on coming."""
    ends = {p.partition: (p.committed_offset or 0) + (p.lag or 0) for p in fleet_status(tide.admin).partitions}

    def committed() -> bool:
        found = {p.partition: p.committed_offset or 0 for p in fleet_status(tide.admin).partitions}
        return all(found.get(partition, -1) >= end for partition, end in ends.items())

    wait_until(committed, 20, "no lag is left")


def first_rows(kafka: Cluster, topic: str, mark: bytes) -> dict[int, int]:
    """Partition → offset of the first record whose value has the mark in it."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
    ends = consumer.end_offsets(consumer.assignment())
    found: dict[int, int] = {}

    def read() -> bool:
        for batch in consumer.poll(500).values():
            for record in batch:
                if record.value and mark in record.value:
                    found.setdefault(record.partition, record.offset)
        return all(consumer.position(partition) >= end for partition, end in ends.items())

    wait_until(read, 20, "the topic is read")
    consumer.close()
    return found


def test_workers_share_the_partitions_and_pass_them_on(tide: KafkaTide) -> None:
    tide.notes()
    (first,) = tide.workers
    second = tide.worker()
    wait_until(lambda: shares(first) and shares(second), 30, "both have partitions")
    wait_until(lambda: shares(first) + shares(second) == PARTITIONS, 30, "every partition has one worker")
    tide.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'note ' || n FROM generate_series(1, 300) n")
    tide.caught_up()
    assert tide.one(DIFFERING) == 0
    named = {first.name, second.name}
    wait_until(lambda: {part.worker for part in fleet_status(tide.admin).partitions} == named, 10, "both report")

    tide.admin.execute("UPDATE team.note SET title = title || '!'")
    assert first.stop()
    tide.workers.remove(first)
    wait_until(lambda: shares(second) == PARTITIONS, 30, "the second has all")
    tide.caught_up()
    assert tide.one(DIFFERING) == 0
    wait_until(
        lambda: [worker.worker for worker in fleet_status(tide.admin).workers] == [second.name], 10, "one is left"
    )
    no_lag_is_left(tide)


def test_a_slow_model_pauses_partitions_and_keeps_the_membership(tide: KafkaTide, kafka: Cluster) -> None:
    """What waits stays in Kafka: no offset is committed before its row is written."""
    models = WatchedModels(tide.embedders.of(MODEL))
    tide.embedders = models
    tide.notes()
    (worker,) = tide.workers
    tide.caught_up()
    model = models.of(MODEL)
    model.away = True
    tide.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'note ' || n FROM generate_series(1, 60) n")
    wait_until(lambda: len(model.texts) >= 60, 30, "all were tried")
    # Heartbeats come all the time; those before the first row of a partition may be committed, and no more.
    first = first_rows(kafka, sources(tide.settings, tide.dsn, tide.admin.info.dbname)[HOME].topic, b'"note ')
    assert len(first) == PARTITIONS
    assert all((held.committed or 0) <= first[held.topic_partition.partition] for held, _ in worker._consumer.held())
    assert tide.one("SELECT count(*) FROM rag_team.note") == 0
    model.away = False
    tide.caught_up(60)
    assert tide.one(DIFFERING) == 0
    assert shares(worker) == PARTITIONS


def test_a_poison_message_is_parked_and_its_partition_goes_on(tide: KafkaTide, kafka: Cluster) -> None:
    from kafka import KafkaProducer

    tide.notes()
    topic = sources(tide.settings, tide.dsn, tide.admin.info.dbname)[HOME].topic
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    sent = [
        producer.send(topic, value=b'{"op": "u", "source"', key=b"{}", partition=partition)
        for partition in range(PARTITIONS)
    ]
    sent.append(producer.send(topic, value=b"\xff\xfe", key=b"{}", partition=0))
    poison = {done.partition: done.offset for done in (one.get(20) for one in sent)}
    producer.close()
    tide.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'note ' || n FROM generate_series(1, 30) n")
    tide.caught_up()
    assert tide.one(DIFFERING) == 0
    letters = list_dead_letters(tide.admin)
    assert [letter.kind for letter in letters] == ["undecodable"] * (PARTITIONS + 1)
    assert {json.loads(letter.key)["topic"] for letter in letters} == {topic}
    assert not any("source" in letter.reason for letter in letters)
    wait_until(
        lambda: all((p.committed_offset or 0) > poison[p.partition] for p in fleet_status(tide.admin).partitions),
        20,
        "its offset is committed",
    )


def test_a_backfill_is_done_when_all_partitions_have_it(tide: KafkaTide) -> None:
    """Rows read by Debezium come by all partitions; chunks without a row (deletes that no stream has) go at its end."""
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'old ' || n FROM generate_series(1, 700) n")
    tide.apply(SIMPLE_CONTRACT)
    tide.connectors().apply(60)
    tide.worker()
    tide.worker()
    tide.live("team.note", 120)
    assert tide.one(DIFFERING) == 0
    wait_until(lambda: tide.one("SELECT count(*) FROM tidegate.scan") == 0, 10, "the scan is settled")


def test_a_changed_contract_reaches_all_workers(tide: KafkaTide) -> None:
    tide.notes()
    tide.streaming(tide.worker())
    wait_until(lambda: all(shares(worker) for worker in tide.workers), 30, "both have partitions")
    tide.admin.execute("INSERT INTO team.note (id, title, body) SELECT n, 't ' || n, 'b' FROM generate_series(1, 20) n")
    tide.caught_up()
    tide.apply(SIMPLE_CONTRACT.replace("columns: [title, body]", "columns: [title]").replace("1.0.0", "1.1.0"))
    tide.admin.execute("UPDATE team.note SET title = title || '!'")
    tide.caught_up()
    assert tide.one("SELECT count(*) FROM rag_team.note WHERE strpos(content, 'b') > 0") == 0


def test_a_topic_grows_under_its_workers(tide: KafkaTide, kafka: Cluster) -> None:
    """Rows move to other partitions, and those have heartbeats and watermarks too."""
    from kafka import KafkaAdminClient

    tide.settings.kafka = KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers, partitions=PARTITIONS, metadata_max_age_ms=500
    )
    tide.notes()
    tide.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'note ' || n FROM generate_series(1, 40) n")
    tide.caught_up()
    topic = sources(tide.settings, tide.dsn, tide.admin.info.dbname)[HOME].topic
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    admin.create_partitions({topic: 2 * PARTITIONS})
    admin.close()
    (worker,) = tide.workers
    wait_until(lambda: shares(worker) == 2 * PARTITIONS, 60, "the worker has the new ones")
    wait_until(lambda: tide.one("SELECT partitions FROM tidegate.stream") == 2 * PARTITIONS, 20, "all are known")
    # Connect's producer learns of them within its metadata's age; until then they are silent, and hold as_of back.
    tide.connectors().restart(60)
    tide.admin.execute("UPDATE team.note SET title = title || '!' WHERE id > 20")
    tide.admin.execute("DELETE FROM team.note WHERE id <= 5")
    tide.caught_up(60)
    assert tide.one(DIFFERING) == 0
    assert tide.one("SELECT count(*) FROM tidegate.watermark") == 2 * PARTITIONS

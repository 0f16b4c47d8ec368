"""What a user is told when Kafka or Connect is away, and what becomes of changes that are large or lost."""

import urllib.request

from tests.conftest import wait_until
from tests.kafka.cluster import Cluster
from tests.kafka.conftest import PARTITIONS, KafkaTide
from tidegate.capture.source import sources
from tidegate.capture.stream import HOME
from tidegate.observe.dead_letters import list_dead_letters
from tidegate.observe.fleet import fleet_status
from tidegate.observe.metrics import serve

NOTES = "SELECT id, content FROM rag_team.note ORDER BY id"


def trouble(tide: KafkaTide) -> str:
    return "".join(worker.trouble or "" for worker in fleet_status(tide.admin).alive)


def test_a_broker_or_a_connect_that_is_away_is_named_and_waited_for(tide: KafkaTide, kafka: Cluster) -> None:
    tide.notes()
    kafka.broker.stop()
    try:
        wait_until(lambda: "Kafka" in trouble(tide), 40, "the worker says that Kafka is away")
        (worker,) = fleet_status(tide.admin).alive
        assert worker.trouble_since is not None
        tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'one')")
    finally:
        kafka.broker.start()
        kafka.await_broker()
    wait_until(lambda: tide.rows(NOTES) == [(1, "one")], 90, "the change of meanwhile is in the index")
    wait_until(lambda: not trouble(tide), 20, "it is over")

    kafka.connect.stop()
    try:
        wait_until(lambda: "connector" in trouble(tide), 40, "the worker says that nobody writes")
        tide.admin.execute("UPDATE team.note SET title = 'two'")
    finally:
        kafka.connect.start()
        kafka.await_connect()
    wait_until(lambda: tide.rows(NOTES) == [(1, "two")], 90, "the change of meanwhile is in the index")
    wait_until(lambda: not trouble(tide), 20, "it is over")


def test_a_large_row_passes_and_is_parked(tide: KafkaTide) -> None:
    """Three megabytes: more than Kafka's default, and more than is indexed. The others go on."""
    tide.notes()
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, repeat('long ', 600000)), (2, 'short')")
    tide.caught_up()
    assert tide.rows(NOTES) == [(2, "short")]
    (letter,) = list_dead_letters(tide.admin)
    assert letter.kind == "document"


def test_changes_that_the_topic_has_lost_are_read_again(tide: KafkaTide, kafka: Cluster) -> None:
    """Retention went over a worker that was away for too long: neither a missing row nor a ghost stays."""
    from kafka import KafkaAdminClient, TopicPartition

    tide.notes()
    tide.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'note ' || n FROM generate_series(1, 30) n")
    tide.caught_up()
    (worker,) = tide.workers
    worker.stop()
    tide.workers.clear()
    tide.admin.execute("DELETE FROM team.note WHERE id <= 10")
    tide.admin.execute("UPDATE team.note SET title = 'changed' WHERE id > 20")
    flushed = "SELECT bool_and(confirmed_flush_lsn >= %s::pg_lsn) FROM pg_replication_slots WHERE database = current_database()"
    here = tide.one("SELECT pg_current_wal_lsn()::text")
    wait_until(lambda: tide.one(flushed, here), 30, "Connect has written the changes")
    topic = sources(tide.settings, tide.dsn, tide.admin.info.dbname)[HOME].topic
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    admin.delete_records({TopicPartition(topic, number): -1 for number in range(PARTITIONS)})
    admin.close()
    tide.worker()
    expected = [(n, f"note {n}" if n <= 20 else "changed") for n in range(11, 31)]
    wait_until(lambda: tide.rows(NOTES) == expected, 60, "index = source")
    tide.live("team.note")


def test_metrics_and_status_show_lag_by_partition(tide: KafkaTide) -> None:
    tide.notes()
    tide.caught_up()
    wait_until(lambda: len(fleet_status(tide.admin).partitions) == PARTITIONS, 20, "all partitions are reported")
    port = serve(tide.dsn, "127.0.0.1", 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    (worker,) = tide.workers
    for partition in range(PARTITIONS):
        assert f'tidegate_partition_lag{{partition="{partition}",source="",worker="{worker.name}"}}' in text
    assert "tidegate_up 1.0" in text
    assert 'tidegate_as_of_seconds{product="team.note"}' in text

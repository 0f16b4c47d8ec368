"""`tidegate connect`, and `apply` with Connect: idempotent, explained, and no secret column in a topic."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, wait_until
from tests.kafka.cluster import Cluster
from tests.kafka.conftest import PARTITIONS, KafkaTide
from tidegate.capture.connect import ConnectAway, ConnectorFailed
from tidegate.capture.source import sources
from tidegate.capture.stream import HOME
from tidegate.observe.fleet import fleet_status
from tidegate.settings import KafkaSettings


def tidegate(tide: KafkaTide, kafka: Cluster, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **kafka.env, "TIDEGATE_DSN": tide.dsn, "TIDEGATE_KAFKA__PARTITIONS": "3"}
    command = [sys.executable, "-m", "tidegate.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_apply_status_restart_delete(tide: KafkaTide, kafka: Cluster) -> None:
    absent = tidegate(tide, kafka, "connect", "status")
    assert absent.returncode == 1
    assert "not there" in absent.stdout

    planned = tidegate(tide, kafka, "connect", "apply", "--dry-run")
    assert "to be created" in planned.stdout
    made = tidegate(tide, kafka, "connect", "apply")
    assert made.returncode == 0, made.stderr
    assert "created" in made.stdout
    assert "+ publication.name = tidegate" in made.stdout
    assert "********" in made.stdout
    assert "nothing to do" in tidegate(tide, kafka, "connect", "apply").stdout
    assert tidegate(tide, kafka, "connect", "status").returncode == 0

    tide.settings.heartbeat_ms = 333
    (change,) = tide.connectors().apply(60)
    assert [each.name for each in change.differences] == ["heartbeat.interval.ms"]

    assert tidegate(tide, kafka, "connect", "restart").returncode == 0
    assert tidegate(tide, kafka, "connect", "delete").returncode == 0
    assert "there was none" in tidegate(tide, kafka, "connect", "delete").stderr


def test_a_failed_task_is_explained(tide: KafkaTide) -> None:
    tide.settings.connect.properties = {"publication.name": "no_such_publication"}
    with pytest.raises(
        ConnectorFailed, match=r'connector "tidegate_test_\d+" failed: ConnectException: Publication autocreation'
    ):
        tide.connectors().apply(60)


def test_connect_away_is_said(tide: KafkaTide) -> None:
    tide.settings.connect.url = "http://127.0.0.1:9"
    with pytest.raises(ConnectAway, match=r"http://127\.0\.0\.1:9 does not answer"):
        tide.connectors().states()
    tide.settings.connect.url = None
    tide.stop = lambda: None  # type: ignore[method-assign]


def test_a_connector_that_was_deleted_goes_on_where_it_was(tide: KafkaTide) -> None:
    tide.notes()
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'one')")
    tide.caught_up()
    tide.connectors().delete()
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (2, 'two')")
    tide.admin.execute("DELETE FROM team.note WHERE id = 1")
    tide.connectors().apply(60)
    tide.caught_up()
    assert tide.rows("SELECT id, content FROM rag_team.note") == [(2, "two")]


def test_apply_leaves_secret_columns_out_before_the_table_joins(
    tide: KafkaTide, kafka: Cluster, tmp_path: Path
) -> None:
    """No record of the topic ever holds one, whatever is written at the moment of the apply."""
    from kafka import KafkaConsumer, TopicPartition

    tide.admin.execute(SIMPLE_TABLE)
    contract = tmp_path / "note.odcs.yaml"
    contract.write_text(SIMPLE_CONTRACT)
    assert "classification: restricted" in SIMPLE_CONTRACT
    applied = tidegate(tide, kafka, "apply", "--yes", str(contract))
    assert applied.returncode == 0, applied.stderr
    tide.admin.execute("INSERT INTO team.note (id, title, secret) VALUES (1, 'open', 'HUSH-HUSH')")
    tide.worker()
    tide.live("team.note")
    tide.caught_up()
    assert tide.rows("SELECT id, content FROM rag_team.note") == [(1, "open")]

    topic = sources(tide.settings, tide.dsn, tide.admin.info.dbname)[HOME].topic
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, number) for number in range(3)])
    ends = consumer.end_offsets(consumer.assignment())
    values: list[bytes] = []

    def read() -> bool:
        values.extend(r.value for batch in consumer.poll(500).values() for r in batch if r.value)
        return all(consumer.position(partition) >= end for partition, end in ends.items())

    wait_until(read, 20, "the topic is read")
    consumer.close()
    assert any(b'"open"' in value for value in values)
    assert not any(b"HUSH-HUSH" in value for value in values)
    assert all("secret" not in (json.loads(value).get("after") or {}) for value in values)


def test_sasl_and_tls(tide: KafkaTide, kafka: Cluster) -> None:
    """The same broker by SCRAM over TLS, with settings only; a wrong password is said."""
    tide.settings.kafka = KafkaSettings(partitions=PARTITIONS, **kafka.secure)  # type: ignore[arg-type]
    tide.notes()
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'one')")
    tide.caught_up()
    assert tide.rows("SELECT id, content FROM rag_team.note") == [(1, "one")]

    # kafka-python tries for as long as the bootstrap may take, and only then says so.
    refused = kafka.secure | {"sasl_plain_password": "wrong", "bootstrap_timeout_ms": 1_500}
    tide.settings.kafka = KafkaSettings(partitions=PARTITIONS, **refused)  # type: ignore[arg-type]
    tide.workers.pop().stop()
    tide.worker()

    def trouble() -> str:
        return "".join(worker.trouble or "" for worker in fleet_status(tide.admin).alive)

    wait_until(lambda: "refuses TLS or credentials" in trouble(), 30, "the worker says so")

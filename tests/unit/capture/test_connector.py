"""The connector's configuration, what of it is shown, and what of a failure."""

import re
from pathlib import Path

import pytest

from tidegate.capture.connect import explain
from tidegate.capture.connector import connector_config, differences
from tidegate.capture.engine import EngineConfig
from tidegate.capture.kafka_client import consumer
from tidegate.capture.source import Source
from tidegate.errors import UsageError
from tidegate.settings import ConnectSettings, KafkaSettings, Settings

SOURCE = Source("", "host=db port=5433 user=u password=hunter2 dbname=crm", "tidegate_crm", "tidegate_crm")


def settings(**options: object) -> Settings:
    return Settings(_env_file=None, **options)  # type: ignore[arg-type]


def test_engine_and_connector_read_a_source_alike() -> None:
    """What decides what an event looks like is the same; only where it runs and where it writes to differs."""
    connector = connector_config(SOURCE, settings(), ["crm.person.email"])
    engine = EngineConfig(SOURCE.dsn, SOURCE.slot, 5, 1000, 320, ("crm.person.email",)).properties()
    own = {"name", "topic.prefix", "message.prefix.include.list", "notification.sink.topic.name"}
    own |= {"heartbeat.action.query"}
    shared = {name for name in engine if not name.startswith("offset.")} - own
    assert {name: connector[name] for name in shared} == {name: engine[name] for name in shared}
    assert connector["column.exclude.list"] == r"crm\.person\.email"


def test_a_difference_is_shown_without_secrets() -> None:
    wanted = connector_config(SOURCE, settings())
    there = {**wanted, "name": "tidegate_crm", "database.password": "old", "tasks.max": "2", "odd": "1"}
    assert [str(each) for each in differences(there, wanted)] == [
        "~ database.password: ******** → ********", "- odd = 1", "~ tasks.max: 2 → 1",
    ]  # fmt: skip
    assert "hunter2" not in "".join(str(each) for each in differences({}, wanted))
    assert differences({**wanted, "name": "tidegate_crm"}, wanted) == []


def test_properties_of_the_user_come_last() -> None:
    own = ConnectSettings(properties={"database.password": "${file:/secrets:pw}", "tasks.max": "1"})
    assert connector_config(SOURCE, settings(connect=own))["database.password"] == "${file:/secrets:pw}"


def test_the_cause_of_a_trace_in_a_line() -> None:
    trace = (
        "org.apache.kafka.connect.errors.ConnectException: Tolerance exceeded\n\tat a.B.c(B.java:1)\n"
        'Caused by: org.postgresql.util.PSQLException: FATAL: password authentication failed for user "u"\n\tat x.Y.z\n'
    )
    assert explain(trace) == 'PSQLException: FATAL: password authentication failed for user "u"'


@pytest.mark.parametrize(
    ("option", "value"),
    [("group_id", "x"), ("no_such_option", "1"), ("check_crcs", "maybe"), ("max_poll_records", "many")],
)
def test_an_option_that_kafka_python_cannot_take_is_named(option: str, value: str) -> None:
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:1", **{option: value})
    with pytest.raises(UsageError, match=f"TIDEGATE_KAFKA__{option.upper()}"):
        consumer(kafka, "group", "client")


def test_nested_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "a:1,b:2")
    monkeypatch.setenv("TIDEGATE_KAFKA__SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("TIDEGATE_CONNECT__PROPERTIES", '{"tasks.max": "1"}')
    found = settings()
    assert found.kafka.bootstrap_servers == "a:1,b:2"
    assert found.kafka.client_options() == {"sasl_mechanism": "SCRAM-SHA-512"}
    assert found.connect.properties == {"tasks.max": "1"}


def test_tests_and_compose_file_have_the_same_versions() -> None:
    root = Path(__file__).parents[3]
    pom, compose = (root / "tests/kafka/pom.xml").read_text(), (root / "docker/compose.yaml").read_text()
    for tag, image in (("kafka", "apache/kafka"), ("debezium", "quay.io/debezium/connect")):
        version = re.search(f"<{tag}>(.+)</{tag}>", pom)
        assert version is not None
        assert f"image: {image}:{version[1]}\n" in compose

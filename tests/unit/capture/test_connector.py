"""The connector's configuration, what of it is shown, and what of a failure."""

import re
from pathlib import Path

import pytest

from tidegate.capture.connect import explain
from tidegate.capture.connector import connector_config, differences
from tidegate.capture.converter import reading_url
from tidegate.capture.engine import EngineConfig
from tidegate.capture.kafka_client import consumer
from tidegate.capture.partitioning import TABLE_FIELD, marks, partition_of
from tidegate.capture.source import Source
from tidegate.errors import UsageError
from tidegate.settings import ConnectSettings, KafkaSettings, RegistrySettings, Settings

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


def values(**registry: str) -> dict[str, str]:
    """The properties of an Avro connector that one with JSON has not, or has otherwise."""
    avro = settings(kafka=KafkaSettings(value_format="avro"), registry=RegistrySettings(**registry))
    plain = connector_config(SOURCE, settings())
    return {name: value for name, value in connector_config(SOURCE, avro).items() if plain.get(name) != value}


NAMES = {
    "field.name.adjustment.mode": "avro_unicode", "schema.name.adjustment.mode": "avro",
    "transforms.route.schema.name.adjustment.mode": "avro",
}  # fmt: skip


@pytest.mark.parametrize("version", ["v2", "v3/"])
def test_avro_by_apicurio(version: str) -> None:
    found = values(url=f"http://r:8080/apis/registry/{version}", user="u", password="pw")
    assert found == NAMES | {
        "value.converter": "io.apicurio.registry.utils.converter.AvroConverter",
        "value.converter.apicurio.registry.url": f"http://r:8080/apis/registry/{version}".rstrip("/"),
        "value.converter.apicurio.registry.auto-register": "true",
        "value.converter.apicurio.registry.headers.enabled": "false",
        "value.converter.apicurio.registry.as-confluent": "true",
        "value.converter.apicurio.registry.use-id": "contentId",
        "value.converter.apicurio.auth.username": "u",
        "value.converter.apicurio.auth.password": "pw",
        "value.converter.apicurio.registry.auth.username": "u",
        "value.converter.apicurio.registry.auth.password": "pw",
    }
    reading = reading_url(RegistrySettings(url=f"http://r:8080/apis/registry/{version}"))
    assert reading == "http://r:8080/apis/ccompat/v7"


def test_avro_by_a_confluent_registry() -> None:
    own = {
        "value.converter": "io.confluent.connect.avro.AvroConverter",
        "value.converter.schema.registry.url": "https://r:8081",
        "value.converter.ignore.default.for.nullables": "true",
    }
    assert values(url="https://r:8081/") == NAMES | own
    assert reading_url(RegistrySettings(url="https://r:8081/")) == "https://r:8081"
    found = values(url="https://r:8081", user="u", password="pw")
    assert found["value.converter.basic.auth.user.info"] == "u:pw"
    assert found["value.converter.basic.auth.credentials.source"] == "USER_INFO"
    assert values(url="https://r:8081", token="t")["value.converter.bearer.auth.token"] == "t"


@pytest.mark.parametrize("url", ["http://r/apis/registry/v2", "http://r"])
@pytest.mark.parametrize("credentials", [{"user": "u", "password": "hunter3"}, {"token": "hunter3"}])
def test_credentials_of_a_registry_are_not_shown(url: str, credentials: dict[str, str]) -> None:
    avro = settings(kafka=KafkaSettings(value_format="avro"), registry=RegistrySettings(url=url, **credentials))
    wanted = connector_config(SOURCE, avro)
    assert "hunter3" in "".join(wanted.values())
    assert "hunter3" not in "".join(str(each) for each in differences({}, wanted))


def test_heartbeats_of_escaped_keys_reach_every_partition() -> None:
    for escape, column in ((False, "heartbeat_id"), (True, "heartbeat_u005fid")):
        found = marks("p", 6, escape=escape)
        keys = [{column: number, TABLE_FIELD: "p.tidegate.heartbeat"} for number in found.heartbeats]
        assert [partition_of(key, 6) for key in keys] == list(range(6))

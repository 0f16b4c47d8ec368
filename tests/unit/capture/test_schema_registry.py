"""A schema registry's answers, and records whose values need one."""

import base64
import contextlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.conftest import wait_until
from tests.kafka.certificate import certificate
from tests.loopback import Asked, Reply, serving

from tidegate.capture import avro, schema_requests
from tidegate.capture.change_event import ChangeEvent, Undecodable
from tidegate.capture.holding import Held
from tidegate.capture.intake import Intake
from tidegate.capture.record import Records
from tidegate.capture.schema_registry import RegisteredSchema, RegistryAway, SchemaRegistry, SchemaUnknown
from tidegate.capture.stream import Stream
from tidegate.errors import UsageError
from tidegate.settings import KafkaSettings, RegistrySettings, Settings

BEAT = RegisteredSchema("AVRO", '{"type": "record", "name": "Beat", "fields": []}')
"""Of values without meaning, in no bytes."""
EVENT = {
    "op": "d", "after": None, "source": {"schema": "s", "table": "t", "sequence": '["1","2"]', "ts_us": 1},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry of a test answers at once, however busy the machine is."""
    monkeypatch.setattr(schema_requests, "_AT_ONCE_S", 60.0)


@contextlib.contextmanager
def answering(status: int, body: object, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[Any]]]:
    """A server that always answers so; what it was asked."""
    asked: list[Any] = []

    def answer(request: Asked) -> Reply:
        asked.append((request.path, request.headers.get("Authorization")))
        return Reply(body, status) if isinstance(body, bytes) else Reply.json(body, status)

    with serving(answer, tls=tls) as url:
        yield url, asked


def test_a_schema_by_id() -> None:
    with answering(200, {"schema": '"int"', "references": []}) as (url, asked):
        assert SchemaRegistry(url, RegistrySettings()).schema(7) == RegisteredSchema("AVRO", '"int"')
        assert asked == [("/schemas/ids/7", None)]


def test_credentials_are_sent() -> None:
    with answering(200, {"schema": "message M {}", "schemaType": "PROTOBUF"}) as (url, asked):
        SchemaRegistry(url, RegistrySettings(user="u", password="p:w")).schema(7)
        SchemaRegistry(url, RegistrySettings(token="abc")).schema(7)
        basic = "Basic " + base64.b64encode(b"u:p:w").decode()
        assert [header for _, header in asked] == [basic, "Bearer abc"]


def test_a_certificate_of_an_authority_of_ones_own(tmp_path: Path) -> None:
    cafile = str(certificate(tmp_path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "broker.pem")
    with answering(200, {"schema": '"int"'}, context) as (url, _):
        assert SchemaRegistry(url, RegistrySettings(cafile=cafile)).schema(7).text == '"int"'
        with pytest.raises(RegistryAway, match="CERTIFICATE_VERIFY_FAILED"):
            SchemaRegistry(url, RegistrySettings()).schema(7)


def test_only_a_plain_no_means_that_there_is_no_schema() -> None:
    """All else may be a registry that is not ready, or the wrong address: the records wait."""
    with (
        answering(404, {"error_code": 40403, "message": "Schema not found"}) as (url, _),
        pytest.raises(SchemaUnknown, match="has no schema 7"),
    ):
        SchemaRegistry(url, RegistrySettings()).schema(7)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"<html>"),
        (404, {"error_code": 404}),
        (401, {}),
        (500, {"error_code": 50001}),
        (200, b"{"),
        (200, {"id": 7}),
        (200, []),
    ],
)
def test_other_answers_are_waited_for(status: int, body: object) -> None:
    with answering(status, body) as (url, _), pytest.raises(RegistryAway, match=f"registry at {url} does not answer"):
        SchemaRegistry(url, RegistrySettings()).schema(7)


def test_nobody_there() -> None:
    with pytest.raises(RegistryAway, match="refused"):
        SchemaRegistry("http://127.0.0.1:9", RegistrySettings()).schema(7)


class Shelf(SchemaRegistry):
    """Schemas of a test, in place of a registry's."""

    def __init__(self, *answers: RegisteredSchema | Exception):
        self.answers, self.asked = list(answers), []  # type: ignore[var-annotated]

    def schema(self, number: int) -> RegisteredSchema:
        self.asked.append(number)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def record(value: bytes | None, key: bytes | None = b'{"a_u005fb": 1}', *, sent: float = 0.0) -> Any:
    return SimpleNamespace(topic="t", partition=0, offset=5, key=key, value=value, timestamp=int(sent * 1000))


GARBLED = Records(None).event(record(b"{"), "")


def of_schema(number: int, payload: bytes = b"") -> bytes:
    return b"\x00" + number.to_bytes(4, "big") + payload


def test_what_a_value_begins_with_says_its_format() -> None:
    """So that the format can be changed, and changed back, with records of both in the topic."""
    records = Records(Shelf(BEAT))
    json_event = records.event(record(json.dumps(EVENT).encode()), "")
    assert isinstance(json_event, ChangeEvent)
    assert json_event.key == {"a_u005fb": 1}
    assert records.event(record(of_schema(1)), "") is None
    assert records.event(record(None), "") is None


def test_keys_are_unescaped_where_values_are_not_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.capture.record.avro_reader", lambda _: lambda _: EVENT)
    found = Records(Shelf(BEAT)).event(record(of_schema(1)), "crm")
    assert isinstance(found, ChangeEvent)
    assert (found.key, found.source) == ({"a_b": 1}, "crm")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\x00", "ends before"), (of_schema(1, b"x"), "not of its Avro schema"), (b"\xff\xfe", "not UTF-8"), (b"{", "not in Debezium's format"),
    ],
)  # fmt: skip
def test_poison_has_its_place(value: bytes, reason: str) -> None:
    found = Records(Shelf(BEAT)).event(record(value), "")
    assert isinstance(found, Undecodable)
    assert json.loads(found.place) == {"topic": "t", "partition": 0, "offset": 5}
    assert reason in found.reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (SchemaUnknown("no schema 3"), "no schema 3"), (RegisteredSchema("JSON", "{}"), "schema 3 is JSON"),
        (RegisteredSchema("AVRO", '"x.Y"', ("x.Y",)), "refers to others"), (RegisteredSchema("AVRO", "{"), "no Avro schema"),
    ],
)  # fmt: skip
def test_a_schema_that_does_not_help(answer: RegisteredSchema | Exception, reason: str) -> None:
    found = Records(Shelf(answer)).event(record(of_schema(3)), "")
    assert isinstance(found, Undecodable)
    assert reason in found.reason


def test_without_a_registry() -> None:
    found = Records(None).event(record(of_schema(3)), "")
    assert isinstance(found, Undecodable)
    assert "TIDEGATE_REGISTRY__URL" in found.reason


def test_a_schema_is_asked_for_once_and_the_last_used_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.capture.record._SCHEMAS", 2)
    shelf = Shelf(BEAT)
    records = Records(shelf)
    for number in (1, 2, 1, 3, 1, 2):
        records.event(record(of_schema(number)), "")
    assert shelf.asked == [1, 2, 3, 2]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the pauses between requests go by."""
    now = [100.0]
    monkeypatch.setattr(schema_requests, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def streams(count: int) -> list[Held]:
    return [Held(None, Stream("", number)) for number in range(count)]


def taken(intake: Intake) -> list[tuple[Held, list[Any]]]:
    return [(held, events) for held, _, events in intake.take()]


def test_a_partitions_records_wait_in_order_while_the_registry_is_away(clock: list[float]) -> None:
    shelf = Shelf(RegistryAway("away"), BEAT)
    intake = Intake(Records(shelf))
    first, second, third = streams(3)
    for held in (first, second):
        intake.add(held, [record(b"{"), record(of_schema(1)), record(None), record(b"{")])
        intake.add(held, [record(b"{")])
    intake.add(third, [record(b"{")])
    assert taken(intake) == [(third, [GARBLED])], "others go on"
    assert intake.trouble == "away"
    assert [intake.waits(held.stream) for held in (first, second, third)] == [True, True, False]
    clock[0] += 0.4
    assert taken(intake) == []
    assert shelf.asked == [1], "not before its time"
    intake.drop(second.stream)
    clock[0] += 0.2
    assert taken(intake) == [(first, [GARBLED, GARBLED]), (first, [GARBLED])]
    assert (intake.trouble, intake.waits(first.stream)) == (None, False)
    assert shelf.asked == [1, 1]


def test_who_needs_another_schema_does_not_wait_for_a_slow_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_requests, "_AT_ONCE_S", 0.01)
    answers = {1: threading.Event(), 2: threading.Event()}

    class Slow(Shelf):
        def schema(self, number: int) -> RegisteredSchema:
            answers[number].wait(60)
            return super().schema(number)

    shelf = Slow(BEAT)
    intake = Intake(Records(shelf))
    first, second = streams(2)
    intake.add(first, [record(of_schema(1)), record(b"{")])
    intake.add(second, [record(of_schema(2)), record(b"{")])
    assert taken(intake) == []
    assert intake.trouble is None, "it may be but a moment"
    answers[2].set()
    wait_until(lambda: taken(intake) == [(second, [GARBLED])], 60, "the second goes on")
    answers[1].set()
    wait_until(lambda: taken(intake) == [(first, [GARBLED])], 60, "the first goes on")
    assert sorted(shelf.asked) == [1, 2], "each is asked for once"


def test_a_schema_that_the_registry_has_not_heard_of_yet_is_waited_for(clock: list[float]) -> None:
    """A replica of the registry may lag behind: a new record is no dead letter for that, and an old one is."""
    shelf = Shelf(SchemaUnknown("no schema 3"), SchemaUnknown("no schema 3"), BEAT)
    intake = Intake(Records(shelf))
    (held,) = streams(1)
    intake.add(held, [record(of_schema(3), sent=time.time() + 20), record(b"{")])
    for _ in range(2):
        assert taken(intake) == []
        assert intake.trouble == "no schema 3; it may come yet"
        clock[0] += 1.1
    assert taken(intake) == [(held, [GARBLED])]
    assert shelf.asked == [3, 3, 3]
    for sent in (time.time() - 60, time.time() + 3600):
        records = Records(Shelf(SchemaUnknown("no schema 3")), lag_s=30)
        assert isinstance(records.event(record(of_schema(3), sent=sent), ""), Undecodable)


def settings(**options: Any) -> Settings:
    return Settings(_env_file=None, **options)


@pytest.mark.parametrize(
    ("registry", "message"),
    [
        ({}, "TIDEGATE_REGISTRY__URL"), ({"url": "registry:8081"}, "must begin with http"), ({"url": "http://u:pw@r"}, "has credentials in it"),
        ({"url": "http://r", "user": "u", "token": "t"}, "takes one"), ({"url": "https://r", "cafile": "/no/such"}, "no file"),
    ],
)  # fmt: skip
def test_wrong_settings_are_said_at_the_start(registry: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Records.of(settings(kafka=KafkaSettings(value_format="avro"), registry=RegistrySettings(**registry)))


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fastavro", None)
    registry = RegistrySettings(url="http://r")
    with pytest.raises(UsageError, match=r"pip install 'tidegate\[registry\]'"):
        Records.of(settings(kafka=KafkaSettings(value_format="avro"), registry=registry))
    Records.of(settings(registry=registry))
    assert avro.double_text(1.0) == "1.0"

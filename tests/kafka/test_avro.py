"""Values in Avro, by a real schema registry and its converter in Connect: the same events, the same index."""

import contextlib
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, wait_until
from tests.integration.offer import offer
from tests.kafka.cluster import Cluster, free_port
from tests.kafka.conftest import PARTITIONS, KafkaTide
from tests.kafka.registry import Registry
from tests.loopback import Asked, Reply, serving
from tidegate.capture.change_event import UNAVAILABLE, ChangeEvent
from tidegate.capture.converter import reading_url
from tidegate.capture.record import Records
from tidegate.capture.schema_requests import SchemaAwaited
from tidegate.capture.source import sources
from tidegate.capture.stream import HOME
from tidegate.observe.dead_letters import list_dead_letters
from tidegate.observe.fleet import fleet_status

COLUMNS = {
    "item_id": "integer", "words": "text", "flag": "boolean", "number": "numeric(12,3)", "free": "numeric", "big": "bigint",
    "small": "smallint", "real4": "real", "real8": "double precision", "day": "date", "moment": "timestamptz",
    "wall": "timestamp", "clock": "time", "doc": "jsonb", "raw": "bytea", "ident": "uuid", "tags": "text[]",
    "numbers": "integer[]", "floats": "double precision[]", "state": "team.state",
    "told": "text", "amount": "numeric", "yes": "boolean",
}  # fmt: skip
DEFAULTS = {"told": "'open'", "amount": "1.50", "yes": "true"}
TABLE = (
    "CREATE SCHEMA team; CREATE TYPE team.state AS ENUM ('new', 'done'); CREATE TABLE team.item ("
    + ", ".join(f"{n} {t}" + (f" DEFAULT {DEFAULTS[n]}" if n in DEFAULTS else "") for n, t in COLUMNS.items())
    # What no contract has, and formats with names of their own make different.
    + ', "my Größe" text, bits bit(10), spot point, near vector(3), few sparsevec(5), PRIMARY KEY (item_id))'
)
FULL = """
    (1, 'Grüße 🌊 "x"', true, 1.5, 12345678901234567890.123456789, 9223372036854775807, -32768, 0.1, 1e10, '2026-02-03',
     '2026-02-03 04:05:06.789012+02', '2026-02-03 04:05:06.1', '04:05:06.789', '{"b": [1, 2.50, null]}', '\\x00ff',
     '5b2d6c1e-0000-4000-8000-000000000001', '{a,NULL,"b,c"}', '{1,NULL}', '{0.5,1e-7}', 'done',
     'told', 2, false, 'x', B'1010101010', '(1,2.5)', '[1,0.1,-3]', '{1:0.1,3:2}/5'),
    (2, '', false, 'NaN', 'Infinity', -1, 0, 1e-10, 'Infinity', 'infinity', 'infinity', '-infinity', '00:00', 'null', '\\x', NULL,
     '{}', '{}', '{}', NULL, 'open', 1.50, true, NULL, NULL, NULL, NULL, NULL),
    (3, NULL, NULL, NULL, NULL, NULL, NULL, 'NaN', 123456.789, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{}', '{}', '{}', NULL,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
"""
pytestmark = pytest.mark.timeout(600)
"""The first of these tests may have to fetch a registry, and waits until it is up."""
NOTES = "SELECT id, content FROM rag_team.note ORDER BY id, chunk_no"


def avro(tide: KafkaTide, registry: Registry) -> None:
    tide.settings.kafka.value_format = "avro"
    tide.settings.registry.url = registry.url


def topic(tide: KafkaTide) -> str:
    return sources(tide.settings, tide.dsn, tide.admin.info.dbname)[HOME].topic


def events(tide: KafkaTide, wanted: set[int]) -> dict[int, ChangeEvent]:
    """The topic's last events of team.item with these keys."""
    from kafka import KafkaConsumer, TopicPartition

    records = Records.of(tide.settings)
    consumer = KafkaConsumer(
        bootstrap_servers=tide.settings.kafka.bootstrap_servers, group_id=None, enable_auto_commit=False
    )
    consumer.assign([TopicPartition(topic(tide), number) for number in range(PARTITIONS)])
    consumer.seek_to_beginning()
    found: dict[int, ChangeEvent] = {}

    def complete() -> bool:
        for batch in consumer.poll(timeout_ms=500).values():
            for record in batch:
                try:
                    event = records.event(record, HOME)
                except SchemaAwaited:
                    consumer.seek(TopicPartition(record.topic, record.partition), record.offset)
                    break
                if isinstance(event, ChangeEvent) and event.table == "item":
                    assert event.key is not None
                    found[event.key["item_id"]] = event
        return wanted <= found.keys()

    try:
        wait_until(complete, 30, f"events of {wanted}")
    finally:
        consumer.close()
    return found


def test_rows_of_all_types_are_the_same_in_json_and_in_avro(tide: KafkaTide, registry: Registry) -> None:
    """One table, the format switched in the middle of the stream: both are in the topic, and nobody can tell them apart
    but by a NULL where the column has a DEFAULT: there the row is read from its table."""
    run = tide.admin.execute
    run(TABLE)
    run("SET timezone = 'UTC'")
    names = [name for name in COLUMNS if name != "item_id"]
    carried = ["number", "moment", "told", "amount", "yes"]
    template = "|" + "|".join(f"{{{name}}}" for name in names) + "|"
    tide.apply(offer("team.item", COLUMNS, key=["item_id"], carried=carried, template=template))
    tide.connectors().apply(60)
    tide.streaming(tide.worker())
    tide.live("team.item")
    run(f"INSERT INTO team.item VALUES {FULL}")
    tide.caught_up()

    for worker in tide.workers:
        worker.stop()
    tide.workers.clear()
    avro(tide, registry)
    (change,) = tide.connectors().apply(60)
    assert "value.converter" in {each.name for each in change.differences}
    tide.streaming(tide.worker())
    run(
        "INSERT INTO team.item SELECT (jsonb_populate_record(i, jsonb_build_object('item_id', item_id + 10))).* FROM team.item i"
    )
    tide.caught_up()

    found = events(tide, {1, 2, 3, 11, 12, 13})
    doubtful = {(2, "told"), (2, "amount"), (2, "yes"), (3, "told"), (3, "amount"), (3, "yes")}
    for number in (1, 2, 3):
        there, here = found[number].row, found[number + 10].row
        assert there is not None
        assert here is not None
        assert list(there) == list(here)
        differing = {
            name: (there[name], here[name])
            for name in there
            if name != "item_id" and (number, name) not in doubtful and there[name] != here[name]
        }
        assert differing == {}
        assert {name for name in here if here[name] == UNAVAILABLE} == {n for r, n in doubtful if r == number}
    assert [found[3].row[name] for name in DEFAULTS] == [None, None, None]  # type: ignore[index]
    assert list_dead_letters(tide.admin) == []
    texts = ", ".join(f"{name}::text" for name in carried)  # Python has no infinity of timestamps
    indexed = tide.rows(f"SELECT content, {texts} FROM rag_team.item ORDER BY item_id")
    assert len(indexed) == 6
    assert indexed[:3] == indexed[3:]
    assert tide.rows("SELECT told, amount, yes FROM rag_team.item WHERE item_id = 13") == [(None, None, None)]


@dataclass
class Front:
    """What stands before a registry: may be away, and counts what is asked for."""

    registry: Registry
    port: int = field(default_factory=free_port)
    asked: "Counter[str]" = field(default_factory=Counter)
    written: int = 0

    @property
    def url(self) -> str:
        there = urlsplit(self.registry.url)
        return there._replace(netloc=f"127.0.0.1:{self.port}").geturl()

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        with serving(self.forward, port=self.port):
            yield

    def forward(self, asked: Asked) -> Reply:
        if asked.method == "GET":
            self.asked[asked.path] += 1
        headers = {n: v for n, v in asked.headers.items() if n.lower().startswith(("x-", "content-t", "accept"))}
        behind = f"http://{urlsplit(self.registry.url).netloc}"
        request = urllib.request.Request(
            behind + asked.path, method=asked.method, headers=headers, data=asked.body or None
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                reply = Reply(answer.read(), answer.status, answer.headers["Content-Type"])
        except urllib.error.HTTPError as error:
            reply = Reply(error.read(), error.code, error.headers["Content-Type"])
            error.close()
        self.written += asked.method == "POST"
        return reply


def test_changes_wait_for_a_registry_that_is_away_and_poison_is_parked(
    tide: KafkaTide, kafka: Cluster, registry: Registry
) -> None:
    from kafka import KafkaProducer

    front = Front(registry)
    avro(tide, registry)
    tide.settings.registry.url, tide.settings.registry.lag_s = front.url, 5.0
    tide.admin.execute(SIMPLE_TABLE)
    tide.apply(SIMPLE_CONTRACT)
    with front.open():
        tide.connectors().apply(60)
        wait_until(lambda: front.written, 20, "the first schemas are registered")
    tide.worker()

    def trouble() -> str:
        return "".join(worker.trouble or "" for worker in fleet_status(tide.admin).alive)

    reading = reading_url(tide.settings.registry)
    wait_until(lambda: f"the schema registry at {reading} does not answer" in trouble(), 40, "it is named")
    (alive,) = fleet_status(tide.admin).alive
    assert alive.trouble_since is not None
    tide.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'note ' || n FROM generate_series(1, 20) n")
    with front.open():
        tide.live("team.note")
        tide.caught_up()
        assert len(tide.rows(NOTES)) == 20
        wait_until(lambda: not trouble(), 20, "it is over")

        producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
        unknown, cut = b"\x00\x7f\xff\xff\xffabc", b"\x00\x00\x00\x00\x01\x02"
        for value in (unknown, cut, b"\x00\x00"):
            producer.send(topic(tide), key=b'{"id":1}', value=value, partition=0)
        producer.flush()
        producer.close()
        wait_until(lambda: len(list_dead_letters(tide.admin)) == 3, 60, "three dead letters")
        reasons = sorted(letter.reason for letter in list_dead_letters(tide.admin))
        assert [reason.split(":")[0].split(" at ")[0] for reason in reasons] == [
            "the schema registry", "the value ends before its schema's id does", "the value is not of its Avro schema",
        ]  # fmt: skip
        assert "has no schema 2147483647" in reasons[0]

        run = tide.admin.execute
        run("UPDATE team.note SET title = 'zwei', price = 2.50 WHERE id = 2")
        run("DELETE FROM team.note WHERE id > 4")
        run("UPDATE team.note SET id = 30 WHERE id = 1")
        tide.caught_up()
        assert tide.rows(NOTES) == [(2, "zwei"), (3, "note 3"), (4, "note 4"), (30, "note 1")]
        with tide.admin.transaction():
            run("TRUNCATE team.note")
            run("INSERT INTO team.note (id, title) VALUES (1, 'after')")
        tide.caught_up()
    # Connect needs it for a new schema. Its task fails without, and is started again when it is there.
    run("ALTER TABLE team.note ADD more text; INSERT INTO team.note (id, title, more) VALUES (2, 'more', 'x')")
    wait_until(lambda: "cannot convert values" in trouble(), 40, "the connector is named")
    assert tide.rows(NOTES) == [(1, "after")]
    with front.open():
        wait_until(
            lambda: tide.rows(NOTES) == [(1, "after"), (2, "more")], 60, "the change of meanwhile is in the index"
        )
        tide.caught_up()
        wait_until(lambda: not trouble(), 30, "it is over")
        assert len(list_dead_letters(tide.admin)) == 3
        as_of = "SELECT as_of FROM tidegate.freshness WHERE product = 'team.note'"
        before = tide.one(as_of)
        wait_until(lambda: tide.one(as_of) > before, 20, "heartbeats reach every partition by their escaped keys")
        tide.stop()
    ids = f"{urlsplit(reading).path}/schemas/ids/"
    known = {path: times for path, times in front.asked.items() if path.startswith(ids) and "2147483647" not in path}
    assert len(known) > 3
    assert set(known.values()) == {1}, "a schema is asked for once"

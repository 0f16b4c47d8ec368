"""From events to chunks: what is embedded, what the ledger lets through, what is parked, what is suspended."""

import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.pq import TransactionStatus
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide, wait_until
from tests.integration.embedder import WatchedModel, WatchedModels
from tests.integration.offer import offer

from tidegate.capture.change_event import ChangeEvent, Operation
from tidegate.capture.position import Lsn, Position
from tidegate.database import Connection, connect, register_vectors
from tidegate.index.embedding.local_model import MODEL
from tidegate.index.indexer import Indexer, Outcome
from tidegate.index.item import Item
from tidegate.index.mend import mend
from tidegate.index.product import Product, published
from tidegate.index.purge import purge
from tidegate.observe.dead_letters import drop_dead_letters, list_dead_letters, retry_dead_letters

NOTES = "SELECT id, content FROM rag_team.note ORDER BY id, chunk_no"
OTHER = "other/model"


@pytest.fixture
def models(tide: Tide) -> WatchedModels:
    """The registry of this test's database: all models are the local one, watched."""
    tide.embedders = watched = WatchedModels(tide.embedders.of(MODEL))
    return watched


@pytest.fixture
def notes(tide: Tide, models: WatchedModels) -> WatchedModel:
    """Product team.note, live; its model."""
    tide.admin.execute(SIMPLE_TABLE)
    tide.apply(SIMPLE_CONTRACT)
    tide.run()
    tide.live("team.note")
    return models.of(MODEL)


def test_a_reader_never_sees_a_mixture(tide: Tide, notes: WatchedModel) -> None:
    """Each version has its own number of chunks, and its number in each of them."""
    body = "repeat(repeat('v' || %s || ' ', 90) || E'\\n\\n', 1 + %s %% 3)"
    tide.admin.execute(f"INSERT INTO team.note (id, title, body) VALUES (1, 'v0', {body})", [0, 0])
    tide.caught_up()
    seen: set[tuple[Any, ...]] = set()
    reads = 0
    done = threading.Event()

    def read() -> None:
        nonlocal reads
        with connect(tide.dsn) as connection:
            while not done.is_set():
                seen.add(tuple(connection.execute("SELECT chunk_no, content FROM rag_team.note ORDER BY 1").fetchall()))
                reads += 1

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(1, 7):
        tide.admin.execute(f"UPDATE team.note SET title = %s, body = {body} WHERE id = 1", [f"v{turn}", turn, turn])
        tide.caught_up()
        begun = reads
        wait_until(lambda begun=begun: reads >= begun + 2, 10, "a read that began after it")  # type: ignore[misc]
    done.set()
    reader.join()
    assert len(seen) >= 6
    for chunks in seen:
        versions = {word for _, text in chunks for word in text.split()}
        assert len(versions) == 1, versions
        assert [number for number, _ in chunks] == list(range(len(chunks)))
        assert sum(len(text.split()) for _, text in chunks) == 1 + 90 * (1 + int(versions.pop()[1:]) % 3)


def test_what_did_not_change_is_not_embedded(tide: Tide, notes: WatchedModel) -> None:
    run = tide.admin.execute
    run("INSERT INTO team.note (id, title, region, price) VALUES (1, 'one', 'EU', 1), (2, 'two', 'EU', NULL)")
    tide.caught_up()
    calls = notes.calls
    run("UPDATE team.note SET title = title")
    run("UPDATE team.note SET region = 'US', price = 7 WHERE id = 1")
    run("UPDATE team.note SET secret = 'not published'")
    tide.caught_up()
    assert notes.calls == calls
    assert tide.rows("SELECT id, content, region, price::text FROM rag_team.note ORDER BY 1") == [
        (1, "one", "US", "7.00"), (2, "two", "EU", None),
    ]  # fmt: skip
    tide.admin.execute("UPDATE tidegate.product SET state = 'pending'")
    tide.live("team.note")
    assert notes.calls == calls


def test_dead_letters_are_listed_retried_and_dropped(tide: Tide, notes: WatchedModel) -> None:
    run = tide.admin.execute
    run("INSERT INTO team.note (id, title) VALUES (1, 'fine'), (2, 'fine'), (3, 'fine')")
    tide.caught_up()
    notes.refused = "POISON"
    with tide.admin.transaction():
        run("UPDATE team.note SET title = 'fine ' || id")
        run("UPDATE team.note SET title = 'POISON' WHERE id > 1")
        run("INSERT INTO team.note (id, title) VALUES (4, 'fine 4')")
    tide.caught_up()
    assert tide.rows(NOTES) == [(1, "fine 1"), (4, "fine 4")]
    letters = list_dead_letters(tide.admin, "team.note")
    assert [(letter.key, letter.kind) for letter in letters] == [('{"id":2}', "embedding"), ('{"id":3}', "embedding")]
    assert all("POISON" not in letter.reason for letter in letters)

    # Tried again, it is refused again; told to, and mended, it is not.
    assert retry_dead_letters(tide.admin, "team.note", [letters[0].id]) == 1
    wait_until(lambda: list_dead_letters(tide.admin)[0].attempts == 2, 10, "a second attempt")
    notes.refused = None
    assert retry_dead_letters(tide.admin, None, [letters[0].id]) == 1
    wait_until(lambda: len(list_dead_letters(tide.admin)) == 1, 10, "the retried row is indexed")
    assert tide.rows(NOTES) == [(1, "fine 1"), (2, "POISON"), (4, "fine 4")]
    assert drop_dead_letters(tide.admin, None, None) == 1
    assert list_dead_letters(tide.admin) == []
    run("UPDATE team.note SET title = 'good again' WHERE id = 3")
    tide.caught_up()
    assert tide.rows(NOTES) == [(1, "fine 1"), (2, "POISON"), (3, "good again"), (4, "fine 4")]


def test_a_model_that_is_away_stops_only_what_needs_it(tide: Tide, models: WatchedModels) -> None:
    tide.settings = tide.settings.model_copy(update={"embedding_attempts": 3})
    run = tide.admin.execute
    run(SIMPLE_TABLE)
    run("CREATE TABLE team.item (id int PRIMARY KEY, title text)")
    tide.apply(SIMPLE_CONTRACT)
    tide.apply(offer("team.item", {"id": "integer", "title": "text"}, embed=["title"], model=OTHER))
    tide.run()
    tide.live("team.note")
    tide.live("team.item")
    run("INSERT INTO team.note (id, title) VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    tide.caught_up()

    models.of(MODEL).away = True
    run("UPDATE team.note SET title = 'changed' WHERE id = 1")
    run("DELETE FROM team.note WHERE id = 2")
    run("UPDATE team.note SET region = 'US' WHERE id = 3")
    run("INSERT INTO team.item VALUES (1, 'the other model')")
    assert tide.one("SELECT tidegate.wait_for(pg_current_wal_insert_lsn(), '60s', ARRAY['team.item'])")
    assert tide.rows("SELECT content FROM rag_team.item") == [("the other model",)]
    wait_until(lambda: len(tide.rows("SELECT FROM rag_team.note WHERE id = 2")) == 0, 5, "the delete is applied")
    wait_until(lambda: tide.one("SELECT region FROM rag_team.note WHERE id = 3") == "US", 5, "the carried column is")
    # The watermark does not pass what is not indexed, until it is parked.
    wait_until(lambda: len(list_dead_letters(tide.admin)) == 1, 15, "the row is parked")
    (letter,) = list_dead_letters(tide.admin)
    assert (letter.key, letter.kind, letter.retry_at is not None) == ('{"id":1}', "embedding", True)
    tide.caught_up()
    assert [row[0] for row in tide.rows(NOTES)] == [3]

    models.of(MODEL).away = False
    retry_dead_letters(tide.admin, None, None)
    wait_until(lambda: list_dead_letters(tide.admin) == [], 10, "no dead letters")
    tide.caught_up()
    assert tide.rows(NOTES) == [(1, "changed"), (3, "three")]


def test_a_truncate_while_a_long_document_waits(tide: Tide, notes: WatchedModel) -> None:
    """What the truncate removes from the queue must not hold the watermark for ever."""
    run = tide.admin.execute
    run(
        "INSERT INTO team.note (id, title, body) SELECT n, 'long', repeat('word ' || n || ' ', 2400) FROM generate_series(1, 1) n"
    )
    run("TRUNCATE team.note")
    run("INSERT INTO team.note (id, title) VALUES (1, 'short')")
    tide.caught_up()
    assert tide.rows(NOTES) == [(1, "short")]


def test_freshness_moves_on_an_idle_database(tide: Tide, notes: WatchedModel) -> None:
    tide.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'x' || n FROM generate_series(1, 20) n")
    tide.caught_up()
    figures = "SELECT changes, p50_ms, p99_ms, within_sla, as_of, watermark FROM tidegate.freshness WHERE product = 'team.note'"
    wait_until(lambda: tide.rows(figures)[0][0] >= 20, 5, "the figures are written")
    ((changes, p50, p99, _, as_of, lsn),) = tide.rows(figures)
    assert changes == 20
    assert 0 < p50 <= p99
    assert as_of.tzinfo is not None
    wait_until(
        lambda: tide.rows(figures)[0][4] > as_of and tide.rows(figures)[0][5] != lsn, 5, "it moves by heartbeats"
    )
    wait_until(lambda: datetime.now(UTC) - tide.rows(figures)[0][4] < timedelta(seconds=5), 5, "it is of now")


def test_wait_for(tide: Tide, notes: WatchedModel) -> None:
    here = "pg_current_wal_insert_lsn()"
    assert tide.one(f"SELECT tidegate.wait_for({here}, '10s')") is True
    assert tide.one(f"SELECT tidegate.wait_for({here} + 1000000000, '100ms')") is False
    with (
        pytest.raises(psycopg.errors.RaiseException, match="needs READ COMMITTED: a repeatable read"),
        tide.admin.transaction(),
    ):
        tide.admin.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        tide.admin.execute(f"SELECT tidegate.wait_for({here})")
    with pytest.raises(psycopg.Error, match='"team.none" is not published'):
        tide.admin.execute(f"SELECT tidegate.wait_for({here}, '1s', ARRAY['team.none'])")
    tide.stop()
    assert tide.one(f"SELECT tidegate.wait_for({here} , '100ms')") is False


def test_a_product_without_its_table_is_suspended_alone(tide: Tide, models: WatchedModels) -> None:
    run = tide.admin.execute
    run(SIMPLE_TABLE)
    run("CREATE TABLE team.item (id int PRIMARY KEY, title text)")
    tide.apply(SIMPLE_CONTRACT)
    tide.apply(offer("team.item", {"id": "integer", "title": "text"}, embed=["title"]))
    tide.run()
    tide.live("team.note")
    tide.live("team.item")
    run("INSERT INTO team.item VALUES (1, 'x')")
    tide.caught_up()
    run("DROP TABLE rag_team.item")
    with tide.admin.transaction():
        run("INSERT INTO team.item VALUES (2, 'nowhere')")
        run("INSERT INTO team.note (id, title) VALUES (1, 'goes on')")
    state = "SELECT state FROM tidegate.product WHERE product = %s"
    wait_until(lambda: tide.one(state, "team.item") == "suspended", 20, "team.item is suspended")
    assert "item" in tide.one("SELECT state_reason FROM tidegate.product WHERE product = 'team.item'")
    run("INSERT INTO team.item VALUES (3, 'nowhere')")
    run("INSERT INTO team.note (id, title) VALUES (2, 'and on')")
    tide.caught_up()
    assert tide.rows(NOTES) == [(1, "goes on"), (2, "and on")]
    assert tide.one(state, "team.note") == "live"


class Bench:
    """An indexer on a real database, driven with hand-made events."""

    def __init__(self, connection: Connection, product: Product):
        self.connection, self.product = connection, product
        self.indexer = Indexer(
            product.embedder, bulk=False, max_document_chars=10_000, attempts=2, searchable=lambda *_: None
        )

    def item(self, operation: Operation, at: tuple[int, int], id_: int = 1, **columns: Any) -> Item:
        row = {"id": id_, "title": None, "body": None, "region": "EU", "price": None, **columns}
        truncate = operation is Operation.TRUNCATE
        event = ChangeEvent(
            "team", "note", operation, None if truncate else {"id": id_}, row if operation is Operation.UPSERT else None,
            Position(Lsn(at[0]), Lsn(at[1])), datetime.now(UTC),
        )  # fmt: skip
        return Item(self.product, None if truncate else f'{{"id":{id_}}}', event, [])

    def upsert(self, title: str, at: tuple[int, int], **columns: Any) -> Outcome:
        return self.indexer.process(self.connection, [self.item(Operation.UPSERT, at, title=title, **columns)])

    def delete(self, at: tuple[int, int]) -> Outcome:
        return self.indexer.process(self.connection, [self.item(Operation.DELETE, at)])

    def truncate(self, at: tuple[int, int]) -> Outcome:
        return self.indexer.process(self.connection, [self.item(Operation.TRUNCATE, at)])

    def contents(self) -> list[tuple[Any, ...]]:
        return self.connection.execute("SELECT content, region FROM rag_team.note ORDER BY id, chunk_no").fetchall()


@pytest.fixture
def bench(tide: Tide, models: WatchedModels) -> Any:
    tide.admin.execute(SIMPLE_TABLE)
    tide.apply(SIMPLE_CONTRACT)
    with connect(tide.dsn, role="tidegate_worker") as connection:
        register_vectors(connection)
        yield Bench(connection, published(connection, models)["", "team", "note"])


def test_repeated_and_older_events_change_nothing(bench: Bench) -> None:
    bench.upsert("first", (100, 110))
    bench.upsert("second", (200, 210))
    for title, at in (("first", (100, 110)), ("second again", (200, 210)), ("between", (150, 999))):
        bench.upsert(title, at)
        assert bench.contents() == [("second", "EU")]
    bench.delete((150, 150))
    assert bench.contents() == [("second", "EU")]
    # Written before and committed after: the smaller LSN is the newer change.
    bench.upsert("committed last", (300, 50))
    assert bench.contents() == [("committed last", "EU")]
    bench.delete((400, 410))
    for at in ((200, 210), (400, 405), (400, 410)):
        bench.upsert("late", at)
        assert bench.contents() == []
    bench.upsert("anew", (400, 420))
    assert bench.contents() == [("anew", "EU")]


def test_the_ledger_decides_in_the_transaction(bench: Bench) -> None:
    """What overtakes a batch while it is embedded wins, though the batch looked before."""
    model = bench.product.embedder
    assert isinstance(model, WatchedModel)
    bench.indexer._source._embed = lambda texts: overtaken(bench, model, texts)
    bench.upsert("slow", (100, 110))
    assert bench.contents() == [("overtook", "EU")]


def overtaken(bench: Bench, model: WatchedModel, texts: Any) -> np.ndarray:
    bench.indexer._source._embed = model.embed
    bench.upsert("overtook", (200, 210))
    return model.embed(texts)


def test_a_carried_update_does_not_keep_the_wrong_chunks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its look at the ledger and its write another loop wrote another document."""
    bench.upsert("first", (100, 110))
    known = bench.indexer._decision._known

    def look_then_lose_time(*arguments: Any) -> Any:
        found = known(*arguments)
        monkeypatch.undo()
        bench.upsert("second", (200, 210))
        return found

    monkeypatch.setattr(bench.indexer._decision, "_known", look_then_lose_time)
    bench.upsert("first", (300, 310), region="US")
    assert bench.contents() == [("first", "US")]


def test_a_truncate_fences_what_comes_late(bench: Bench) -> None:
    bench.upsert("old", (100, 110))
    bench.truncate((200, 210))
    assert bench.contents() == []
    bench.upsert("late", (150, 160))
    bench.upsert("late, same transaction", (200, 205))
    assert bench.contents() == []
    bench.upsert("after", (200, 215))
    bench.truncate((200, 210))
    assert bench.contents() == [("after", "EU")]


def test_an_index_that_changed_places_is_written_where_it_is(bench: Bench, admin: Connection) -> None:
    """The worker hears of a switch a moment later; what it holds must not go into the other index."""
    bench.upsert("before", (100, 110))
    with admin.transaction():
        admin.execute("CREATE SCHEMA beside_team; GRANT USAGE ON SCHEMA beside_team TO tidegate_worker")
        admin.execute("ALTER TABLE rag_team.note SET SCHEMA beside_team")
        admin.execute("CREATE TABLE rag_team.note (LIKE beside_team.note INCLUDING ALL)")
        admin.execute("GRANT ALL ON rag_team.note TO tidegate_worker")
        admin.execute("UPDATE tidegate.product SET chunk_schema = 'beside_team'")
    outcome = bench.upsert("after", (200, 210))
    assert len(outcome.finished) == 1
    assert bench.contents() == []
    moved = "SELECT content FROM beside_team.note"
    assert bench.connection.execute(moved).fetchall() == [("after",)]
    bench.truncate((300, 310))
    assert bench.connection.execute(moved).fetchall() == []


def test_what_waits_for_an_index_that_was_dropped_is_finished(bench: Bench, admin: Connection) -> None:
    admin.execute("DELETE FROM tidegate.product")
    for outcome in (bench.upsert("late", (100, 110)), bench.truncate((200, 210)), bench.delete((300, 310))):
        assert len(outcome.finished) == 1
    assert bench.contents() == []


class TestChunkDiff:
    """Only texts that are new are embedded; what stays keeps its vector, its values follow the row."""

    THINGS = ("crane", "lathe", "press", "forge", "drill", "kiln")
    PLACES = ("gate", "stairs", "window", "office", "ramp", "lift", "tank", "shelf", "store", "door")
    SENTENCES = tuple(
        f"The {thing} number {number} is kept in hall {number * 7 % 40}, beside the {place}."
        for number, (thing, place) in enumerate(itertools.product(THINGS, PLACES))
    )

    @pytest.fixture
    def bench(self, tide: Tide, models: WatchedModels) -> Iterator["Bench"]:
        tide.admin.execute(SIMPLE_TABLE)
        tide.apply(SIMPLE_CONTRACT.replace("tokens: 200", "tokens: 90"))
        with connect(tide.dsn) as connection:
            register_vectors(connection)
            (product,) = published(connection, models).values()
            yield Bench(connection, product)

    def chunks(self, bench: "Bench") -> list[tuple[Any, ...]]:
        return bench.connection.execute(
            "SELECT chunk_no, content, embedding::text, region, position::text FROM rag_team.note ORDER BY 1"
        ).fetchall()

    def body(self, sentences: Sequence[str]) -> dict[str, str]:
        return {"body": " ".join(sentences)}

    def test_an_edit_embeds_only_what_is_new(self, bench: "Bench") -> None:
        model = bench.product.embedder
        assert isinstance(model, WatchedModel)
        bench.upsert("halls", (1, 1), **self.body(self.SENTENCES))
        before = self.chunks(bench)
        assert len(before) > 10
        versions = [
            [*self.SENTENCES[:30], "Something altogether different stands here.", *self.SENTENCES[31:]],
            ["A beginning that was not there.", *self.SENTENCES],
            self.SENTENCES[:10] + self.SENTENCES[14:],
            self.SENTENCES[30:] + self.SENTENCES[:30],
            self.SENTENCES[:20] * 2 + self.SENTENCES,
        ]
        for turn, sentences in enumerate(versions, 2):
            model.texts.clear()
            before = self.chunks(bench)
            stored = {content: vector for _, content, vector, *_ in before}
            bench.upsert("halls", (turn, turn), region=f"R{turn}", **self.body(sentences))
            after = self.chunks(bench)
            expected = bench.product.splitter.chunks("halls\n\n" + " ".join(sentences))
            assert [row[:2] for row in after] == list(enumerate(expected))
            assert {(row[3], row[4]) for row in after} == {(f"R{turn}", f"{{0/{turn},0/{turn}}}")}
            new = Counter(expected) - Counter(content for _, content, *_ in before)
            assert sorted(model.texts) == sorted(new)  # each once
            assert len(model.texts) <= (8 if turn < 6 else 14)
            assert all(vector == stored[content] for _, content, vector, *_ in after if content in stored)

    def test_chunks_that_another_writer_replaced_are_not_counted_on(self, bench: "Bench", tide: Tide) -> None:
        """Between the look and the write the row became another; the batch begins again with what is there now."""
        bench.upsert("halls", (1, 1), **self.body(self.SENTENCES))
        model = bench.product.embedder
        assert isinstance(model, WatchedModel)
        embed = model.embed

        with connect(tide.dsn) as other:
            register_vectors(other)

            def overtaking(texts: list[str]) -> Any:
                model.embed = embed  # type: ignore[method-assign]
                Bench(other, bench.product).upsert("halls", (2, 2), **self.body(self.SENTENCES[40:]))
                return embed(texts)

            model.embed = overtaking  # type: ignore[method-assign]
            late = Bench(bench.connection, bench.product)
            late.upsert("halls", (3, 3), **self.body(self.SENTENCES[:50]))
        expected = bench.product.splitter.chunks("halls\n\n" + " ".join(self.SENTENCES[:50]))
        assert [row[:2] for row in self.chunks(bench)] == list(enumerate(expected))


def test_the_ledger_forgets_deleted_keys_and_still_lets_nothing_late_back_in(bench: Bench) -> None:
    run, at_once = bench.connection.execute, timedelta(0)

    def keys() -> list[int]:
        return sorted(json.loads(row[0])["id"] for row in run("SELECT key FROM tidegate.ledger").fetchall())

    def put(id_: int, operation: Operation, at: tuple[int, int]) -> None:
        bench.indexer.process(bench.connection, [bench.item(operation, at, id_, title=f"row {id_}")])

    for id_ in (1, 2, 3):
        put(id_, Operation.UPSERT, (100, 100 + id_))
    put(1, Operation.DELETE, (200, 210))
    put(2, Operation.DELETE, (300, 310))
    run("UPDATE tidegate.product SET state = 'backfilling'")
    run(
        "INSERT INTO tidegate.watermark (lane, lsn, as_of) VALUES (%s, '0/1', clock_timestamp())", [bench.product.model]
    )
    assert purge(bench.connection, bench.product, at_once) == 0, "rows of a backfill may be older than the deletes"
    run("UPDATE tidegate.product SET state = 'live'")
    assert purge(bench.connection, bench.product) == 0, "not yet"
    run("UPDATE tidegate.ledger SET written_at = written_at - interval '1 hour' WHERE key = '{\"id\":1}'")
    assert purge(bench.connection, bench.product) == 1
    assert keys() == [2, 3]
    put(1, Operation.UPSERT, (100, 101))
    put(1, Operation.UPSERT, (200, 209))
    put(1, Operation.DELETE, (200, 210))
    assert keys() == [2, 3]
    assert bench.contents() == [("row 3", "EU")]
    put(3, Operation.UPSERT, (150, 150))
    put(1, Operation.UPSERT, (200, 220))
    assert keys() == [1, 2, 3], "what is later, and what is known, goes through"

    run("UPDATE tidegate.watermark SET as_of = clock_timestamp()")
    assert purge(bench.connection, bench.product, at_once) == 1
    put(2, Operation.UPSERT, (300, 305))
    put(4, Operation.UPSERT, (290, 295))
    assert keys() == [1, 3]
    put(2, Operation.UPSERT, (400, 410))
    assert keys() == [1, 2, 3]


def test_no_transaction_is_open_while_rows_are_embedded(bench: Bench) -> None:
    """A model that takes its time holds no lock, and no old version of any row."""
    model = bench.product.embedder
    assert isinstance(model, WatchedModel)
    seen: list[TransactionStatus] = []

    def look(texts: Any) -> np.ndarray:
        seen.append(bench.connection.info.transaction_status)
        return model.embed(texts)

    bench.indexer._source._embed = look
    bench.upsert("first", (100, 110))
    bench.upsert("second", (200, 210), region="US")
    run, parameters = bench.connection.execute, {"key": '{"id":1}'}
    run("UPDATE tidegate.ledger SET document_hash = 'wrong' WHERE key = %(key)s", parameters)
    mend(bench.connection, bench.product, bench.indexer, {'{"id":1}': "{0/C8,0/D2}"})
    assert seen == [TransactionStatus.IDLE] * len(seen)
    assert len(seen) >= 2

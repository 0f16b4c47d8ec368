"""No text is embedded twice, and what was saved is counted."""

from collections.abc import Iterator

import numpy as np
import pytest
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide, wait_until
from tests.integration.embedder import WatchedModel, WatchedModels
from tests.integration.offer import offer

from tidegate.database import Connection, connect
from tidegate.index.chunk_diff import text_hash
from tidegate.index.embedding.local_model import MODEL
from tidegate.index.embedding_cache import EmbeddingCache
from tidegate.observe.cost import ProductCost, costs

CACHED = "SELECT count(*) FROM tidegate.embedding_cache"


@pytest.fixture
def models(tide: Tide) -> WatchedModels:
    tide.embedders = watched = WatchedModels(tide.embedders.of(MODEL))
    return watched


@pytest.fixture
def notes(tide: Tide, models: WatchedModels) -> WatchedModel:
    """Products team.note and team.item, live, under one model; the model."""
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute("CREATE TABLE team.item (id int PRIMARY KEY, title text)")
    tide.apply(SIMPLE_CONTRACT)
    tide.apply(offer("team.item", {"id": "integer", "title": "text"}, embed=["title"]))
    tide.run()
    tide.live("team.note")
    tide.live("team.item")
    return models.of(MODEL)


def figures(tide: Tide, product: str) -> ProductCost:
    """The product's figures; a worker that stops writes the last of them."""
    tide.caught_up()
    tide.stop()
    (cost,) = costs(tide.admin, product=product)
    return cost


def test_figures_of_changes_of_each_kind(tide: Tide, notes: WatchedModel) -> None:
    run = tide.admin.execute
    long = " ".join(f"Sentence number {n} says what happened on day {n}." for n in range(400))
    run("INSERT INTO team.note (id, title, body) VALUES (1, 'long', %s)", [long])
    run("INSERT INTO team.note (id, title) SELECT n, 'note ' || n FROM generate_series(2, 9) n")
    tide.caught_up()
    chunks = tide.one("SELECT count(*) FROM rag_team.note WHERE id = 1")
    run("UPDATE team.note SET region = 'US'")
    tide.caught_up()
    run("UPDATE team.note SET body = replace(body, 'day 200.', 'another day.') WHERE id = 1")
    run("DELETE FROM team.note WHERE id = 9")
    cost = figures(tide, "team.note")
    assert (cost.changes, cost.deletes, cost.unchanged, cost.indexed) == (9 + 9 + 1 + 1, 1, 9, 10)
    assert cost.coalesced == 0
    assert cost.texts == len(notes.texts) - sum(text == "ready" for text in notes.texts)
    assert chunks + 8 < cost.texts <= chunks + 8 + 2
    assert cost.chunks_reused + cost.texts + cost.cache_hits == chunks + 8 + tide.one(
        "SELECT count(*) FROM rag_team.note WHERE id = 1"
    )
    # The inserts, the update of all rows (each whole), the edit.
    assert 3 * chunks + 2 * 8 - 2 <= cost.naive_texts <= 3 * chunks + 2 * 8 + 2
    count = notes.splitter(200, 0).tokens
    assert cost.tokens == sum(count(text) for text in notes.texts if text != "ready")
    assert cost.naive_tokens > 2 * cost.tokens


def test_many_changes_of_a_waiting_row_cost_one_embedding(tide: Tide, notes: WatchedModel) -> None:
    notes.texts.clear()
    notes.delay_s = 1.5  # whatever the engine's batches: when the first is embedded, the others are there
    with tide.admin.transaction():
        tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'version 0')")
        for version in range(1, 60):
            tide.admin.execute("UPDATE team.note SET title = %s WHERE id = 1", [f"version {version}"])
    cost = figures(tide, "team.note")
    assert tide.rows("SELECT content FROM rag_team.note") == [("version 59",)]
    # One transaction may come in two batches of the engine, not in many.
    assert len(notes.texts) <= 2
    assert (cost.changes, cost.naive_texts) == (60, 60)
    assert cost.coalesced >= 58


def test_a_text_that_is_known_under_the_model_is_not_sent_again(tide: Tide, notes: WatchedModel) -> None:
    run = tide.admin.execute
    run("INSERT INTO team.note (id, title) VALUES (1, 'the same words')")
    tide.caught_up()
    wait_until(lambda: tide.one(CACHED) == 1, 5, "it is cached")
    (vector,) = tide.rows("SELECT embedding::text FROM rag_team.note")
    notes.texts.clear()
    run("INSERT INTO team.item VALUES (1, 'the same words')")
    run("UPDATE team.note SET title = 'others' WHERE id = 1")
    tide.caught_up()
    run("UPDATE team.note SET title = 'the same words' WHERE id = 1")
    with tide.admin.transaction():
        run("INSERT INTO team.item SELECT n, 'once for all' FROM generate_series(2, 40) n")
    tide.caught_up()
    assert sorted(notes.texts) == ["once for all", "others"]
    assert tide.rows("SELECT embedding::text FROM rag_team.note") == [vector]
    assert tide.rows("SELECT embedding::text FROM rag_team.item WHERE id = 1") == [vector]
    assert figures(tide, "team.item").cache_hits == 39
    # Neither the texts nor anything but hashes and numbers is in it.
    columns = "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'tidegate.embedding_cache'::regclass AND attnum > 0"
    assert tide.one(columns) == "model text_hash vector used_at"


def test_restricted_and_masked_values_leave_nothing_in_the_cache(tide: Tide, notes: WatchedModel) -> None:
    tide.admin.execute("INSERT INTO team.note (id, title, secret) VALUES (1, 'open', 'closed')")
    tide.caught_up()
    wait_until(lambda: tide.one(CACHED) == 1, 5, "it is cached")
    hashes = {bytes(row[0]) for row in tide.rows("SELECT text_hash FROM tidegate.embedding_cache")}
    assert hashes == {text_hash("open")}


class TestBounds:
    @pytest.fixture
    def worker(self, dsn: str) -> Iterator[Connection]:
        with connect(dsn, role="tidegate_worker") as connection:
            yield connection

    def filled(self, worker: Connection, cache: EmbeddingCache, count: int) -> None:
        for number in range(count):
            cache.put("m", {text_hash(str(number)): np.full(384, number, dtype=np.float32)})
        cache.write(worker)

    def test_the_longest_unused_go(self, worker: Connection, admin: Connection) -> None:
        cache = EmbeddingCache(1, 30)
        self.filled(worker, cache, 1000)  # 1.6 MB
        admin.execute("UPDATE tidegate.embedding_cache SET used_at = used_at - interval '2 hours'")
        used = [text_hash(str(number)) for number in range(100)]
        found = cache.find(worker, "m", [*used, text_hash("none")], 384)
        assert found.keys() == set(used)
        assert all((found[digest] == number).all() for number, digest in enumerate(used))
        cache.write(worker)
        cache.trim(worker)
        left = {bytes(row[0]) for row in admin.execute("SELECT text_hash FROM tidegate.embedding_cache")}
        assert left >= set(used)
        assert 500 < len(left) < 700
        cache.trim(worker)
        assert admin.execute(CACHED).fetchone() == (len(left),)

    def test_the_old_go_and_nothing_is_kept_where_it_is_off(self, worker: Connection, admin: Connection) -> None:
        cache = EmbeddingCache(10, 7)
        self.filled(worker, cache, 10)
        admin.execute(
            "UPDATE tidegate.embedding_cache SET used_at = used_at - interval '8 days' WHERE text_hash < '\\x80'"
        )
        cache.trim(worker)
        left = admin.execute("SELECT min(text_hash) >= '\\x80', count(*) FROM tidegate.embedding_cache").fetchone()
        assert left is not None
        assert left[0]
        off = EmbeddingCache(0, 7)
        off.put("m", {b"x": np.zeros(3, dtype=np.float32)})
        off.write(worker)
        assert off.find(worker, "m", [b"x", text_hash("9")], 384) == {}
        assert admin.execute(CACHED).fetchone() == (left[1],)
        off.trim(worker)
        assert admin.execute(CACHED).fetchone() == (0,)

    def test_a_vector_of_another_length_is_none(self, worker: Connection) -> None:
        cache = EmbeddingCache(1, 1)
        self.filled(worker, cache, 1)
        assert cache.find(worker, "m", [text_hash("0")], 768) == {}
        assert cache.find(worker, "other", [text_hash("0")], 384) == {}

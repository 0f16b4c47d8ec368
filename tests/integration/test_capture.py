"""Every kind of change, from its commit to the chunk table, through real Postgres and real Debezium."""

import time
import uuid
from collections.abc import Callable

import pytest
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide
from tests.integration.embedder import WatchedModels
from tests.integration.offer import offer

from tidegate.database import connect
from tidegate.index.embedding.local_model import MODEL
from tidegate.observe.dead_letters import list_dead_letters

NOTES = "SELECT id, content FROM rag_team.note ORDER BY id, chunk_no"


def start_notes(tide: Tide) -> None:
    tide.admin.execute(SIMPLE_TABLE)
    tide.apply(SIMPLE_CONTRACT)
    tide.run()
    tide.live("team.note")


def no_dead_letters(tide: Tide) -> None:
    assert list_dead_letters(tide.admin) == []


def test_each_kind_of_change(tide: Tide) -> None:
    start_notes(tide)
    run = tide.admin.execute

    run("INSERT INTO team.note (id, title) VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    run("INSERT INTO team.note (id, title, body) VALUES (4, 'four', 'the fourth')")
    tide.caught_up()
    assert tide.rows(NOTES) == [(1, "one"), (2, "two"), (3, "three"), (4, "four\n\nthe fourth")]

    run("UPDATE team.note SET title = 'zwei', price = 2.50 WHERE id = 2")
    run("DELETE FROM team.note WHERE id = 3")
    tide.caught_up()
    assert tide.rows("SELECT id, content, price::text FROM rag_team.note ORDER BY id") == [
        (1, "one", None),
        (2, "zwei", "2.50"),
        (4, "four\n\nthe fourth", None),
    ]

    # A key change is a delete with its tombstone and a create; the old key must not stay.
    run("UPDATE team.note SET id = 30 WHERE id = 1")
    run("INSERT INTO team.note (id, title) VALUES (3, 'three again')")
    tide.caught_up()
    assert [row[0] for row in tide.rows(NOTES)] == [2, 3, 4, 30]

    # Deleted, inserted again, changed: one transaction.
    with tide.admin.transaction():
        run("DELETE FROM team.note WHERE id = 2")
        run("INSERT INTO team.note (id, title) VALUES (2, 'new two')")
        run("UPDATE team.note SET title = title || '!' WHERE id IN (2, 3)")
        run("UPDATE team.note SET id = 5 WHERE id = 4")
    tide.caught_up()
    assert tide.rows(NOTES) == [
        (2, "new two!"), (3, "three again!"), (5, "four\n\nthe fourth"), (30, "one"),
    ]  # fmt: skip

    # Keys swapped through a third.
    with tide.admin.transaction():
        run("UPDATE team.note SET id = -1 WHERE id = 2")
        run("UPDATE team.note SET id = 2 WHERE id = 3")
        run("UPDATE team.note SET id = 3 WHERE id = -1")
    with tide.admin.transaction(force_rollback=True):
        run("INSERT INTO team.note (id, title) VALUES (99, 'never')")
        run("DELETE FROM team.note WHERE id = 5")
    tide.caught_up()
    assert tide.rows(NOTES) == [
        (2, "three again!"), (3, "new two!"), (5, "four\n\nthe fourth"), (30, "one"),
    ]  # fmt: skip

    with tide.admin.transaction():
        run("INSERT INTO team.note (id, title) VALUES (6, 'before the truncate')")
        run("TRUNCATE team.note")
        run("INSERT INTO team.note (id, title) VALUES (2, 'after the truncate')")
    run("INSERT INTO team.note (id, title) VALUES (3, 'later')")
    tide.caught_up()
    assert tide.rows(NOTES) == [(2, "after the truncate"), (3, "later")]
    run("TRUNCATE team.note")
    tide.caught_up()
    assert tide.rows(NOTES) == []
    no_dead_letters(tide)


def test_interleaved_transactions(tide: Tide) -> None:
    start_notes(tide)
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'old'), (2, 'old')")
    with connect(tide.dsn) as first, connect(tide.dsn) as second:
        with first.transaction():
            first.execute("UPDATE team.note SET title = 'by first' WHERE id = 1")
            with second.transaction():
                second.execute("UPDATE team.note SET title = 'by second' WHERE id = 2")
            tide.caught_up()
            assert tide.rows(NOTES) == [(1, "old"), (2, "by second")]
            # What first wrote has the smaller LSN, and comes later.
            first.execute("UPDATE team.note SET title = title || ', then by first' WHERE id = 2")
        tide.caught_up()
    assert tide.rows(NOTES) == [(1, "by first"), (2, "by second, then by first")]


def test_a_backfilled_row_is_of_the_moment_when_it_was_read(tide: Tide) -> None:
    """And a change of the moment of its commit."""
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'from before')")
    tide.apply(SIMPLE_CONTRACT)
    before = tide.one("SELECT clock_timestamp()")
    tide.run()
    tide.live("team.note")
    read = tide.one("SELECT clock_timestamp()")
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (2, 'new')")
    committed = tide.one("SELECT clock_timestamp()")
    tide.caught_up()
    moments = dict(tide.rows("SELECT id, committed_at FROM rag_team.note"))
    assert before < moments[1] < read < moments[2] < committed


def test_transaction_open_across_a_backfill(tide: Tide) -> None:
    """Its changes have smaller LSNs than the backfilled rows, and must win."""
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'old' FROM generate_series(1, 20) n")
    tide.apply(SIMPLE_CONTRACT)
    with connect(tide.dsn) as other:
        with other.transaction():
            other.execute("UPDATE team.note SET title = 'changed' WHERE id = 1")
            other.execute("DELETE FROM team.note WHERE id = 2")
            # Creating a slot waits for open transactions, so it must be there before this one: it is the first
            # that the stream brings. The pipeline starts while it is open.
            other.execute("SELECT 1")
            tide_started = start_in_thread(tide)
        tide_started()
        tide.live("team.note")
        with other.transaction():
            other.execute("UPDATE team.note SET title = 'changed twice' WHERE id = 3")
            other.execute("DELETE FROM team.note WHERE id = 4")
            tide.admin.execute("UPDATE tidegate.product SET state = 'pending'")
            tide.live("team.note")
            assert tide.one("SELECT count(*) FROM rag_team.note WHERE id IN (3, 4)") == 2
        tide.caught_up()
    texts = dict(tide.rows(NOTES))
    assert 2 not in texts
    assert 4 not in texts
    assert (texts[1], texts[3], texts[5]) == ("changed", "changed twice", "old")
    assert len(texts) == 18


def start_in_thread(tide: Tide) -> Callable[[], None]:
    """Starts a pipeline aside, and gives a function that waits for it."""
    import threading

    thread = threading.Thread(target=tide.run)
    thread.start()
    return thread.join


TOASTED = {
    "tags": ("text[]", "array_agg('tag' || n)"),
    "numbers": ("integer[]", "array_agg(n)"),
    "longs": ("bigint[]", "array_agg(n)"),
    "amounts": ("numeric[]", "array_agg(n + 0.50)"),
    "doc": ("jsonb", "jsonb_agg(n + 0.50)"),
    "raw": ("bytea", "convert_to(repeat('y', 400), 'UTF8')"),
    "ids": ("uuid[]", "array_agg(gen_random_uuid())"),
    "days": ("date[]", "array_agg(date '2020-01-01' + n)"),
    "moments": ("timestamptz[]", "array_agg(timestamptz '2020-01-01' + n * interval '1 day')"),
    "flags": ("boolean[]", "array_agg(n % 2 = 0) || array_fill(true, ARRAY[300])"),
    "amount": ("numeric", "repeat('123456789', 100)::numeric"),
    "body": ("text", "repeat('body ', 80)"),
}
"""Column → type and a value that Postgres keeps out of line, of every type that Debezium treats in its own way."""


def test_unchanged_toast(tide: Tide) -> None:
    """Debezium does not know an unchanged out-of-line value; it must neither be embedded nor lost."""
    run = tide.admin.execute
    run("CREATE SCHEMA team")
    types = {
        "id": "integer",
        "title": "text",
        **{name: type_ for name, (type_, _) in TOASTED.items()},
        "touched": "integer",
    }
    run(f"CREATE TABLE team.big ({', '.join(f'{name} {type_}' for name, type_ in types.items())}, PRIMARY KEY (id))")
    # The filler cannot leave the row, so that even short values must.
    run("ALTER TABLE team.big ADD filler text NOT NULL DEFAULT repeat('x', 1900), SET (toast_tuple_target = 128)")
    run("ALTER TABLE team.big ALTER filler SET STORAGE PLAIN")
    template = " ".join(f"{{{name}}}" for name in ["title", *TOASTED])
    arrays = [name for name, (type_, _) in TOASTED.items() if type_.endswith("[]")]
    tide.apply(offer("team.big", types, carried=["touched", *arrays], template=template, tokens=254))
    tide.run()
    tide.live("team.big")
    for number, (name, (_, value)) in enumerate(TOASTED.items()):
        run(f"ALTER TABLE team.big ALTER {name} SET STORAGE EXTERNAL")
        run(
            f"INSERT INTO team.big (id, title, {name}, touched) SELECT {number}, 'head', {value}, 0 FROM generate_series(1, 80) n LIMIT 1"
        )
    tide.caught_up(60)
    carried = ", ".join(f"(SELECT {name} FROM team.big WHERE id = c.id) IS NOT DISTINCT FROM {name}" for name in arrays)
    texts = tide.rows("SELECT id, chunk_no, content FROM rag_team.big ORDER BY 1, 2")
    assert tide.rows(f"SELECT DISTINCT {carried} FROM rag_team.big c") == [(True,) * len(arrays)]

    run("UPDATE team.big SET touched = 1")
    tide.caught_up(60)
    assert tide.rows("SELECT id, chunk_no, content FROM rag_team.big ORDER BY 1, 2") == texts
    assert tide.rows(f"SELECT DISTINCT touched, {carried} FROM rag_team.big c") == [(1, *(True,) * len(arrays))]

    run("UPDATE team.big SET title = 'new head' WHERE id >= %s", [len(TOASTED) - 4])
    tide.caught_up(60)
    changed = tide.rows(
        "SELECT id, string_agg(content, '' ORDER BY chunk_no) FROM rag_team.big WHERE id >= %s GROUP BY id",
        len(TOASTED) - 4,
    )
    assert all(text.startswith("new head") and "unavailable" not in text for _, text in changed)
    assert tide.rows(f"SELECT DISTINCT {carried} FROM rag_team.big c") == [(True,) * len(arrays)]
    no_dead_letters(tide)


def test_columns_come_and_go(tide: Tide, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anybody looks at the table: the look at sources, once a second, would suspend the product."""
    monkeypatch.setattr("tidegate.index.house.source_troubles", lambda *_: {})
    start_notes(tide)
    run = tide.admin.execute
    run("INSERT INTO team.note (id, title, body) VALUES (1, 'a', 'b'), (2, 'c', 'd')")
    run("ALTER TABLE team.note ADD COLUMN extra text DEFAULT 'ignored'")
    run("INSERT INTO team.note (id, title, extra) VALUES (3, 'e', 'not for the index')")
    tide.caught_up()
    assert tide.rows(NOTES) == [(1, "a\n\nb"), (2, "c\n\nd"), (3, "e")]
    no_dead_letters(tide)

    run("ALTER TABLE team.note DROP COLUMN body")
    run("UPDATE team.note SET title = 'x' WHERE id = 1")
    run("DELETE FROM team.note WHERE id = 2")
    tide.caught_up()
    (letter,) = list_dead_letters(tide.admin)
    assert (letter.product, letter.key, letter.kind) == ("team.note", '{"id":1}', "violation")
    assert "body" in letter.reason
    assert "missing in the source" in letter.reason
    assert tide.rows(NOTES) == [(3, "e")]

    run("ALTER TABLE team.note ADD COLUMN body text")
    run("UPDATE team.note SET title = 'y' WHERE id = 1")
    tide.caught_up()
    assert tide.rows(NOTES) == [(1, "y"), (3, "e")]
    no_dead_letters(tide)


def test_keys_of_all_sorts(tide: Tide) -> None:
    run = tide.admin.execute
    run("CREATE SCHEMA team")
    run("CREATE TABLE team.pair (tenant text, number int, title text, PRIMARY KEY (number, tenant))")
    run("CREATE TABLE team.thing (id uuid PRIMARY KEY, title text)")
    run("CREATE TABLE team.word (id text PRIMARY KEY, title text)")
    pair = {"tenant": "text", "number": "integer", "title": "text"}
    tide.apply(offer("team.pair", pair, key=["number", "tenant"], embed=["title"]))
    tide.apply(offer("team.thing", {"id": "uuid", "title": "text"}, embed=["title"]))
    tide.apply(offer("team.word", {"id": "text", "title": "text"}, embed=["title"]))
    words = [
        "",
        " ",
        'quote"s',
        "it's",
        "a,b",
        "{x}",
        "NULL",
        "back\\slash",
        "Grüße 🌊",
        "new\nline",
        "%s %(a)s",
        "\x01",
        "true",
    ]
    run("INSERT INTO team.pair VALUES ('a', 1, 'a1'), ('b', 1, 'b1'), ('a', 2, 'a2')")
    run("INSERT INTO team.word VALUES ('from before', 'x')")
    tide.run()
    for product in ("team.pair", "team.thing", "team.word"):
        tide.live(product)
    run("UPDATE team.pair SET title = 'a1 new' WHERE (tenant, number) = ('a', 1)")
    run("UPDATE team.pair SET tenant = 'c' WHERE (tenant, number) = ('a', 2)")
    run("DELETE FROM team.pair WHERE tenant = 'b'")
    thing = uuid.uuid4()
    run("INSERT INTO team.thing VALUES (%s, 'first'), (gen_random_uuid(), 'second')", [thing])
    run("UPDATE team.thing SET title = 'changed' WHERE id = %s", [thing])
    for word in words:
        run("INSERT INTO team.word VALUES (%s, 'old')", [word])
    run("UPDATE team.word SET title = 'new'")
    tide.caught_up()
    assert tide.rows("SELECT number, tenant, content FROM rag_team.pair ORDER BY 1, 2") == [
        (1, "a", "a1 new"),
        (2, "c", "a2"),
    ]
    assert set(tide.rows("SELECT id::text, content FROM rag_team.thing")) == set(
        tide.rows("SELECT id::text, title FROM team.thing")
    )
    assert set(tide.rows("SELECT id, content FROM rag_team.word")) == {
        (word, "new") for word in [*words, "from before"]
    }
    run("DELETE FROM team.word")
    run("DELETE FROM team.thing WHERE id = %s", [thing])
    tide.caught_up()
    assert tide.rows("SELECT id FROM rag_team.word") == []
    assert tide.rows("SELECT content FROM rag_team.thing") == [("second",)]
    no_dead_letters(tide)


def test_table_added_live_while_its_rows_change(tide: Tide) -> None:
    """Without a restart; what changes during the backfill is newer than what the backfill read."""
    start_notes(tide)
    run = tide.admin.execute
    run("CREATE TABLE team.item (id int PRIMARY KEY, title text)")
    run("INSERT INTO team.item SELECT n, 'old ' || n FROM generate_series(1, 400) n")
    tide.apply(offer("team.item", {"id": "integer", "title": "text"}, embed=["title"]))
    turn = 0
    while tide.one("SELECT state FROM tidegate.product WHERE product = 'team.item'") != "live":
        turn += 1
        run("UPDATE team.item SET title = 'new ' || id || ' ' || %s WHERE id %% 50 = %s", [turn, turn % 50])
        run("DELETE FROM team.item WHERE id = %s", [turn * 7])
        run("UPDATE team.item SET id = id + 10000 WHERE id = %s", [turn * 11 + 3])
        run("INSERT INTO team.item VALUES (%s, 'added')", [-turn])
        time.sleep(0.02)
    assert turn > 5
    tide.caught_up()
    run("INSERT INTO team.note (id, title) VALUES (1, 'the other product')")
    tide.caught_up()
    assert tide.rows(NOTES) == [(1, "the other product")]
    same_index(tide, "team.item", "title")
    no_dead_letters(tide)


def same_index(tide: Tide, product: str, document: str) -> None:
    """The index is f(source), for rows of one chunk with a key `id`."""
    differing = tide.rows(
        f"SELECT s.id, s.{document}, c.id, c.content FROM {product} s FULL JOIN rag_{product} c ON c.id = s.id "
        f"WHERE s.{document} IS DISTINCT FROM c.content LIMIT 5"
    )
    assert differing == []


@pytest.mark.parametrize("rows", [0, 3])
def test_a_table_made_since_the_engine_started_is_read_too(tide: Tide, rows: int) -> None:
    """Debezium knows it neither from its start nor from a change."""
    run = tide.admin.execute
    start_notes(tide)
    run("CREATE TABLE team.item (id int PRIMARY KEY, title text)")
    run("INSERT INTO team.item SELECT n, 'item ' || n FROM generate_series(1, %s) n", [rows])
    tide.apply(offer("team.item", {"id": "integer", "title": "text"}, embed=["title"]))
    tide.live("team.item")
    assert tide.rows("SELECT id, content FROM rag_team.item ORDER BY id") == [
        (n, f"item {n}") for n in range(1, rows + 1)
    ]
    run("INSERT INTO team.item VALUES (9, 'later')")
    tide.caught_up()
    assert tide.one("SELECT content FROM rag_team.item WHERE id = 9") == "later"


def test_row_updated_thousands_of_times_in_a_transaction(tide: Tide) -> None:
    """The last state is indexed; what lies between is embedded seldom."""
    models = WatchedModels(tide.embedders.of(MODEL))
    tide.embedders = models
    start_notes(tide)
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'start'), (2, 'other')")
    tide.caught_up()
    before = len(models.of(MODEL).texts)
    # More cost Postgres itself quadratic time.
    tide.admin.execute(
        "DO $$ BEGIN FOR n IN 1..8000 LOOP UPDATE team.note SET title = 'turn ' || n WHERE id = 1; END LOOP; END $$"
    )
    tide.admin.execute("UPDATE team.note SET title = 'other, later' WHERE id = 2")
    tide.caught_up(60)
    assert tide.rows(NOTES) == [(1, "turn 8000"), (2, "other, later")]
    assert len(models.of(MODEL).texts) - before < 100


def test_a_document_too_long_is_parked_alone(tide: Tide) -> None:
    start_notes(tide)
    run = tide.admin.execute
    run("INSERT INTO team.note (id, title) VALUES (1, 'short'), (2, 'fine')")
    tide.caught_up()
    run("UPDATE team.note SET body = repeat('0123456789', 1000000) WHERE id = 1")
    run("UPDATE team.note SET title = 'still fine' WHERE id = 2")
    tide.caught_up()
    assert tide.rows(NOTES) == [(2, "still fine")]
    (letter,) = list_dead_letters(tide.admin)
    assert (letter.key, letter.kind, letter.retry_at) == ('{"id":1}', "document", None)
    assert "10,000,007 characters" in letter.reason
    # Carried columns alone, the document still too long (and out of line): it stays parked.
    run("UPDATE team.note SET region = 'US' WHERE id = 1")
    tide.caught_up()
    assert [row[0] for row in tide.rows(NOTES)] == [2]
    assert len(list_dead_letters(tide.admin)) == 1
    run("UPDATE team.note SET body = 'shortened' WHERE id = 1")
    tide.caught_up()
    assert tide.rows(NOTES) == [(1, "short\n\nshortened"), (2, "still fine")]
    no_dead_letters(tide)


def test_a_table_of_200_columns(tide: Tide) -> None:
    names = [f"c{n}" for n in range(199)]
    tide.admin.execute("CREATE SCHEMA team")
    tide.admin.execute(f"CREATE TABLE team.wide (id int PRIMARY KEY, {', '.join(f'{name} text' for name in names)})")
    columns = {"id": "integer", **dict.fromkeys(names, "text")}
    tide.apply(offer("team.wide", columns, carried=names[:20], embed=names))
    tide.run()
    tide.live("team.wide")
    tide.admin.execute(f"INSERT INTO team.wide VALUES (1, {', '.join(['%s'] * 199)})", [f"v{n}" for n in range(199)])
    tide.caught_up()
    text = "\n\n".join(row[0] for row in tide.rows("SELECT content FROM rag_team.wide ORDER BY chunk_no"))
    assert text.split() == [f"v{n}" for n in range(199)]
    assert tide.rows("SELECT DISTINCT c0, c19 FROM rag_team.wide") == [("v0", "v19")]

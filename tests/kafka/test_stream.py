"""Changes of every kind through Debezium on Connect, Kafka, and workers that share the partitions."""

from tests.conftest import wait_until
from tests.integration.offer import offer
from tests.kafka.conftest import PARTITIONS, KafkaTide
from tidegate.observe.dead_letters import list_dead_letters

NOTES = "SELECT id, content FROM rag_team.note ORDER BY id, chunk_no"


def test_each_kind_of_change(tide: KafkaTide) -> None:
    tide.notes()
    run = tide.admin.execute
    run("INSERT INTO team.note (id, title) SELECT n, 'note ' || n FROM generate_series(1, 20) n")
    tide.caught_up()
    assert len(tide.rows(NOTES)) == 20

    run("UPDATE team.note SET title = 'zwei', price = 2.50 WHERE id = 2")
    run("DELETE FROM team.note WHERE id > 4")
    run("UPDATE team.note SET id = 30 WHERE id = 1")
    with tide.admin.transaction():
        run("DELETE FROM team.note WHERE id = 3")
        run("INSERT INTO team.note (id, title) VALUES (3, 'new three')")
    tide.caught_up()
    assert tide.rows(NOTES) == [(2, "zwei"), (3, "new three"), (4, "note 4"), (30, "note 1")]

    with tide.admin.transaction():
        run("INSERT INTO team.note (id, title) VALUES (6, 'before the truncate')")
        run("TRUNCATE team.note")
        run("INSERT INTO team.note (id, title) SELECT n, 'after' FROM generate_series(1, 5) n")
    tide.caught_up()
    assert tide.rows(NOTES) == [(n, "after") for n in range(1, 6)]
    assert list_dead_letters(tide.admin) == []


def test_a_table_made_since_connect_started_is_read_too(tide: KafkaTide) -> None:
    tide.notes()
    tide.caught_up()
    run = tide.admin.execute
    run("CREATE TABLE team.item (id int PRIMARY KEY, title text)")
    run("INSERT INTO team.item SELECT n, 'item ' || n FROM generate_series(1, 3) n")
    tide.apply(offer("team.item", {"id": "integer", "title": "text"}, embed=["title"]))
    tide.live("team.item")
    assert tide.rows("SELECT id FROM rag_team.item ORDER BY id") == [(1,), (2,), (3,)]


def test_heartbeats_reach_every_partition(tide: KafkaTide) -> None:
    """An idle partition holds nothing back: as_of moves on without a change."""
    tide.notes()
    as_of = "SELECT as_of FROM tidegate.freshness WHERE product = 'team.note'"
    tide.caught_up()
    parts = tide.rows("SELECT partition FROM tidegate.watermark ORDER BY 1")
    assert parts == [(n,) for n in range(PARTITIONS)]
    before = tide.one(as_of)
    wait_until(lambda: tide.one(as_of) > before, 20, "it moves by heartbeats")

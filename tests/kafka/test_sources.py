"""Rows on another server than the index: a second Postgres, a connector of its own, the same worker."""

from collections.abc import Iterator

import psycopg
import pytest
from rich.console import Console

from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, SLOW, wait_until
from tests.disposable import disposable_server
from tests.integration.test_model_change import OTHER, TwoModels
from tests.kafka.conftest import KafkaTide
from tests.remote import CRM, CUSTOMER, Away, planned, publish, source_database
from tidegate.capture.slot import recover_slot
from tidegate.govern.drift import find_drift
from tidegate.govern.model_switch import switch
from tidegate.govern.principals import set_attributes
from tidegate.index.embedding.local_model import MODEL
from tidegate.observe.dead_letters import list_dead_letters
from tidegate.observe.fleet import fleet_status
from tidegate.observe.verify_all import verify_all

INDEXED = "SELECT id, content FROM rag_sales.customer ORDER BY id"


@pytest.fixture(scope="module")
def other_server() -> Iterator[str]:
    """A superuser's DSN on a second server."""
    with disposable_server() as server:
        yield server.dsn


@pytest.fixture
def away(other_server: str, tide: KafkaTide) -> Iterator[Away]:
    with source_database(other_server, tide) as held:
        yield held
        tide.stop()
        wait_until(lambda: idle(held), 20, "Connect has left the slot")
        held.admin.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def idle(away: Away) -> bool:
    return away.admin.execute("SELECT count(*) FROM pg_replication_slots WHERE active").fetchone() == (0,)


def caught_up(tide: KafkaTide, away: Away, timeout: float = 30) -> None:
    """Waits until what was committed at the source is in the index."""
    row = away.admin.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    wait = "SELECT tidegate.wait_for(%s::pg_lsn, make_interval(secs => %s), '{sales.customer}')"
    assert tide.one(wait, row[0], timeout * SLOW), "the index did not catch up with the source"


def running(tide: KafkaTide) -> None:
    tide.connectors().apply(60)
    tide.streaming(tide.worker())
    tide.live("sales.customer")


def test_rows_of_two_servers_in_one_index(tide: KafkaTide, away: Away) -> None:
    """One worker, two connectors; changes, large values, deletes and truncates of the other server; both searchable."""
    away.admin.execute(
        "INSERT INTO sales.customer (id, title) SELECT n, 'customer ' || n FROM generate_series(1, 40) n"
    )
    tide.admin.execute(SIMPLE_TABLE)
    tide.apply(SIMPLE_CONTRACT)
    plan = publish(tide, CUSTOMER)
    assert [step.source for step in plan.steps].count(CRM) >= 3
    assert planned(tide, CUSTOMER).steps == ()
    running(tide)
    tide.live("team.note")
    assert len(tide.rows(INDEXED)) == 40

    run = away.admin.execute
    # Stored out of line: an update of another column does not bring it along, so it is read from the other server.
    run("ALTER TABLE sales.customer ALTER body SET STORAGE EXTERNAL")
    run("INSERT INTO sales.customer (id, title, body) VALUES (50, 'long', repeat('word ', 900))")
    run("UPDATE sales.customer SET title = 'changed' WHERE id = 50")
    run("DELETE FROM sales.customer WHERE id BETWEEN 3 AND 40")
    run("UPDATE sales.customer SET region = 'US' WHERE id = 2")
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'a note')")
    caught_up(tide, away)
    tide.caught_up()
    found = dict(tide.rows("SELECT id, content FROM rag_sales.customer WHERE chunk_no = 0"))
    assert found.keys() == {1, 2, 50}
    assert found[50].startswith("changed")
    assert tide.one("SELECT region FROM rag_sales.customer WHERE id = 2") == "US"
    assert tide.rows("SELECT content FROM rag_team.note") == [("a note",)]
    assert list_dead_letters(tide.admin) == []

    # Strict is eventual where the rows are elsewhere, and each hit says what it is.
    vector = tide.one("SELECT embedding::text FROM rag_team.note")
    set_attributes(tide.admin, "note_reader", {"regions": ["EU"]})
    with tide.admin.transaction():
        tide.admin.execute("SET LOCAL ROLE note_reader")
        hits = tide.rows("SELECT product, key, consistency FROM tidegate.search(%s::public.vector)", vector)
    assert sorted(hits, key=str) == [
        ("sales.customer", {"id": 1}, "eventual"),
        ("sales.customer", {"id": 50}, "eventual"),
        ("team.note", {"id": 1}, "strict"),
    ]

    explained = tide.one("SELECT tidegate.explain_access('note_reader', 'sales.customer', '{\"id\": 2}')")
    assert (explained["sees"], explained["index"]["found"]) == (False, True)
    assert any('in another database, "crm"' in reason for reason in explained["because"])
    seen = tide.rows(
        "SELECT role FROM tidegate.who_can_see('sales.customer', '{\"id\": 1}') WHERE how = 'rule' AND finds"
    )
    assert ("note_reader",) in seen
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="which cannot be asked from here"):
        tide.one("SELECT tidegate.explain_access('note_reader', 'sales.customer', NULL)")

    # verify compares both servers, and repairs from the other one.
    tide.admin.execute("UPDATE rag_sales.customer SET content = 'forged' WHERE id = 2")
    tide.admin.execute("UPDATE rag_sales.customer SET region = 'XX' WHERE id = 1")
    tide.admin.execute("UPDATE rag_sales.customer SET id = 60 WHERE id = 50")
    options = {"repair": True, "anew": True, "rows_per_s": 10_000.0, "patience_s": 90.0, "console": Console(quiet=True)}
    (verified,) = verify_all(tide.dsn, tide.settings, "sales.customer", **options)
    assert {(finding.key["id"], finding.problem) for finding in verified.findings} == {
        (2, "stale"),
        (1, "carried"),
        (50, "missing"),
        (60, "ghost"),
    }
    assert verified.ok
    assert tide.rows("SELECT id, region FROM rag_sales.customer WHERE id < 3 ORDER BY id") == [(1, "EU"), (2, "US")]

    run("TRUNCATE sales.customer")
    caught_up(tide, away)
    assert tide.rows(INDEXED) == []
    status = {source.source: source for source in fleet_status(tide.admin).sources}
    assert status.keys() == {"", CRM}
    assert status[CRM].as_of is not None
    assert status[CRM].trouble is None
    assert [finding for finding in find_drift(tide.admin, tide.settings.sources) if finding.level != "info"] == []


def test_a_second_index_is_filled_from_the_first_without_asking_the_other_server(tide: KafkaTide, away: Away) -> None:
    """Two workers; of the source only the place of its WAL is asked. Changes go to both indexes meanwhile."""
    tide.embedders = models = TwoModels(tide.embedders.of(MODEL))
    run = away.admin.execute
    run("INSERT INTO sales.customer (id, title) SELECT n, 'customer ' || n FROM generate_series(1, 300) n")
    publish(tide, CUSTOMER)
    running(tide)
    tide.streaming(tide.worker())
    caught_up(tide, away)

    def reads() -> int:
        run("SELECT pg_stat_clear_snapshot()")
        counted = (
            "SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'customer'"
        )
        (count,) = run(counted).fetchone() or (0,)
        return int(count)

    def clients() -> int:
        (count,) = run(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type IN ('client backend', 'walsender')"
        ).fetchone() or (0,)
        return int(count)

    models.of(OTHER).delay_s = 0.05
    tide.stop()
    wait_until(lambda: clients() == 0, 20, "what sessions have read is counted: by their end")
    plan = publish(tide, CUSTOMER.replace(MODEL, OTHER))
    assert (plan.copies, plan.backfill) == (True, False)
    signals = run("SELECT count(*) FROM tidegate.signal").fetchone()
    before = reads()
    tide.connectors().apply(60)
    tide.streaming(tide.worker())
    wait_until(lambda: tide.one("SELECT count(*) FROM beside_sales.customer") > 0, 60, "a part is copied")
    run("UPDATE sales.customer SET title = 'changed ' || id WHERE id % 10 = 0")
    run("DELETE FROM sales.customer WHERE id % 10 = 1")
    run("UPDATE sales.customer SET region = 'US' WHERE id % 10 = 2")
    models.of(OTHER).delay_s = 0.0
    wait_until(
        lambda: (
            tide.rows("SELECT state, built_from FROM tidegate.product WHERE beside IS NOT NULL") == [("live", "chunks")]
        ),
        90,
        "the second index is live",
    )
    assert reads() - before <= 3, "but by the changes themselves"
    assert run("SELECT count(*) FROM tidegate.signal").fetchone() == signals

    def same() -> bool:
        columns = "id, region, content, position::text"
        return tide.rows(f"SELECT {columns} FROM rag_sales.customer ORDER BY id") == tide.rows(
            f"SELECT {columns} FROM beside_sales.customer ORDER BY id"
        )

    caught_up(tide, away)
    wait_until(same, 30, "both have the same")
    assert tide.one("SELECT count(*) FROM beside_sales.customer") == 270
    switch(tide.admin, "sales.customer", wait_s=120)
    options = {
        "repair": False,
        "anew": True,
        "rows_per_s": 10_000.0,
        "patience_s": 90.0,
        "console": Console(quiet=True),
    }
    assert all(one.ok for one in verify_all(tide.dsn, tide.settings, "sales.customer", **options))


def test_changes_that_no_stream_has_are_made_good(tide: KafkaTide, away: Away) -> None:
    """Deletes that no stream delivered: the slot was lost, or the table was out of the publication."""
    away.admin.execute(
        "INSERT INTO sales.customer (id, title) SELECT n, 'customer ' || n FROM generate_series(1, 20) n"
    )
    publish(tide, CUSTOMER)
    running(tide)
    tide.connectors().delete()
    wait_until(lambda: idle(away), 20, "Connect has left the slot")
    away.admin.execute("DELETE FROM sales.customer WHERE id <= 5")
    recover_slot(tide.admin, away.source.slot, CRM, away.admin)
    tide.connectors().apply(60)
    tide.live("sales.customer")
    assert [row[0] for row in tide.rows(INDEXED)] == list(range(6, 21))

    # Out of the publication: suspended, found by drift, and back with the next apply.
    away.admin.execute("ALTER PUBLICATION tidegate DROP TABLE sales.customer")
    state = "SELECT state FROM tidegate.product"
    wait_until(lambda: tide.one(state) == "suspended", 20, "the worker has seen it")
    assert "no longer in the publication" in tide.one("SELECT state_reason FROM tidegate.product")
    (found,) = [each for each in find_drift(tide.admin, tide.settings.sources) if each.level == "error"]
    assert found.code == "not_captured"
    away.admin.execute("DELETE FROM sales.customer WHERE id > 6")
    publish(tide, CUSTOMER)
    tide.live("sales.customer")
    assert tide.rows(INDEXED) == [(6, "customer 6")]


def test_a_source_that_is_away_holds_nothing_else_up(tide: KafkaTide, away: Away) -> None:
    """Its rows that must be read there wait, and are parked; its trouble stands in the status; the rest goes on."""
    tide.settings.embedding_attempts = 2
    tide.admin.execute(SIMPLE_TABLE)
    tide.apply(SIMPLE_CONTRACT)
    away.admin.execute("ALTER TABLE sales.customer ALTER body SET STORAGE EXTERNAL")
    away.admin.execute("INSERT INTO sales.customer (id, title, body) VALUES (1, 'long', repeat('word ', 900))")
    publish(tide, CUSTOMER)
    running(tide)
    tide.live("team.note")
    # The worker's login goes; Debezium's stays.
    away.admin.execute("ALTER ROLE tidegate_worker RENAME TO gone_worker")
    try:
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate worker'"
        away.admin.execute(kill)
        away.admin.execute("UPDATE sales.customer SET title = 'changed'")
        tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'a note')")
        tide.caught_up()
        assert tide.rows("SELECT content FROM rag_team.note") == [("a note",)]

        def trouble() -> str:
            return "".join(source.trouble or "" for source in fleet_status(tide.admin).sources)

        wait_until(lambda: "tidegate_worker" in trouble(), 20, "its trouble is said")
        wait_until(lambda: list_dead_letters(tide.admin), 20, "the row is parked")
        assert [letter.kind for letter in list_dead_letters(tide.admin)] == ["source"]
    finally:
        away.admin.execute("ALTER ROLE gone_worker RENAME TO tidegate_worker")
    wait_until(lambda: not list_dead_letters(tide.admin), 60, "it is tried again")
    assert tide.one("SELECT content FROM rag_sales.customer WHERE chunk_no = 0").startswith("changed")
    wait_until(lambda: not trouble(), 20, "it is over")

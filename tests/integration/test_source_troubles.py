"""Sources that are altered under a running pipeline: what was done is named, that product alone is suspended, searches
say so, and the command that the message names brings it back."""

import psycopg
import pytest
from tests.conftest import Tide, wait_until
from tests.integration.offer import offer

from tidegate.capture.slot import SlotMissing, default_slot, recover_slot
from tidegate.database import connect
from tidegate.govern.control_schema import initialise
from tidegate.index.embedding.registry import Embedders
from tidegate.local import postgres
from tidegate.settings import Settings

COLUMNS = {"id": "integer", "title": "text", "rank": "integer"}
TROUBLES = {
    "dropped": (
        "DROP TABLE team.dropped",
        "table team.dropped was dropped or renamed",
        "CREATE TABLE team.dropped (id int PRIMARY KEY, title text, rank int); INSERT INTO team.dropped VALUES (1, 'anew', 1)",
    ),
    "renamed": (
        "ALTER TABLE team.renamed RENAME TO other",
        "table team.renamed was dropped or renamed",
        "ALTER TABLE team.other RENAME TO renamed",
    ),
    "swapped": (
        "ALTER TABLE team.swapped RENAME TO swapped_before; CREATE TABLE team.swapped (LIKE team.swapped_before INCLUDING ALL)",
        "table team.swapped is no longer in the publication",
        "",
    ),
    "taken": (
        "ALTER PUBLICATION tidegate DROP TABLE team.taken",
        "table team.taken is no longer in the publication",
        "",
    ),
    "filtered": (
        "ALTER PUBLICATION tidegate DROP TABLE team.filtered; ALTER PUBLICATION tidegate ADD TABLE team.filtered WHERE (id > 1)",
        "the publication leaves out rows of team.filtered",
        "",
    ),
    "cut": (
        "ALTER PUBLICATION tidegate DROP TABLE team.cut; ALTER PUBLICATION tidegate ADD TABLE team.cut (id, title)",
        "the publication leaves out column rank of team.cut",
        "",
    ),
    "nameless": (
        "ALTER TABLE team.nameless REPLICA IDENTITY NOTHING",
        "team.nameless has NOTHING as its REPLICA IDENTITY, so updates and deletes do not name their row; "
        "run ALTER TABLE team.nameless REPLICA IDENTITY DEFAULT",
        "ALTER TABLE team.nameless REPLICA IDENTITY DEFAULT",
    ),
    "misnamed": (
        "ALTER TABLE team.misnamed ALTER rank SET NOT NULL; CREATE UNIQUE INDEX misnamed_rank ON team.misnamed (rank); "
        "ALTER TABLE team.misnamed REPLICA IDENTITY USING INDEX misnamed_rank",
        "team.misnamed has another index than the primary key as its REPLICA IDENTITY",
        "ALTER TABLE team.misnamed REPLICA IDENTITY DEFAULT",
    ),
    "keyless": (
        "ALTER TABLE team.keyless DROP CONSTRAINT keyless_pkey",
        "team.keyless has no primary key any more; the contract says (id)",
        "ALTER TABLE team.keyless ADD PRIMARY KEY (id)",
    ),
    "retyped": (
        "ALTER TABLE team.retyped ALTER rank TYPE text",
        "column rank is text in team.retyped, the contract says integer",
        "ALTER TABLE team.retyped ALTER rank TYPE integer USING rank::integer",
    ),
    "lacking": (
        "ALTER TABLE team.lacking DROP COLUMN title",
        "contract column title is missing in team.lacking; restore it, or apply a contract without it",
        "ALTER TABLE team.lacking ADD COLUMN title text; UPDATE team.lacking SET title = 'restored'",
    ),
}  # fmt: skip
"""Product → what is done to its table, what is said of it, what mends it before `apply` (which may need no help)."""


def contract(name: str) -> str:
    return offer(f"team.{name}", COLUMNS, carried=["rank"], embed=["title"])


def reason(tide: Tide, name: str) -> str:
    return str(tide.one("SELECT state_reason FROM tidegate.product WHERE product = %s", f"team.{name}"))


def suspended(tide: Tide) -> set[str]:
    rows = tide.rows("SELECT product FROM tidegate.product WHERE state = 'suspended'")
    return {row[0].removeprefix("team.") for row in rows}


def same(tide: Tide, name: str) -> None:
    differing = tide.rows(
        f"SELECT * FROM team.{name} s FULL JOIN rag_team.{name} c USING (id) WHERE (s.title, s.rank) IS DISTINCT FROM (c.content, c.rank)"
    )
    assert differing == [], name
    assert tide.one(f"SELECT count(*) FROM team.{name}") > 0


def search(tide: Tide, products: str) -> int:
    return len(
        tide.rows("SELECT * FROM tidegate.search(array_fill(1.0, ARRAY[384])::vector, 99, products => %s)", products)
    )


@pytest.fixture
def sea(tide: Tide) -> Tide:
    """All products of TROUBLES, and one that nothing is done to, live."""
    tide.admin.execute("CREATE SCHEMA team")
    for name in ("calm", *TROUBLES):
        tide.admin.execute(f"CREATE TABLE team.{name} (id int PRIMARY KEY, title text, rank int)")
        tide.admin.execute(f"INSERT INTO team.{name} SELECT n, 'title ' || n, n FROM generate_series(1, 3) n")
        tide.apply(contract(name))
    tide.run()
    for name in ("calm", *TROUBLES):
        tide.live(f"team.{name}")
    return tide


def test_each_trouble_is_named_stops_its_product_alone_and_is_mended_by_apply(sea: Tide) -> None:
    for done, _, _ in TROUBLES.values():
        sea.admin.execute(done)
    wait_until(lambda: suspended(sea) == set(TROUBLES), 20, "all of them are suspended, and only they")
    for name, (_, said, _) in TROUBLES.items():
        assert reason(sea, name).startswith(said), name
        assert '"tidegate apply" its contract again' in reason(sea, name)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
            search(sea, f"{{team.{name}}}")
        assert f'product "team.{name}" is suspended: {said}' in str(refused.value)
    sea.admin.execute("UPDATE team.calm SET title = 'goes on' WHERE id = 1")
    assert sea.one("SELECT tidegate.wait_for(pg_current_wal_insert_lsn(), '120s', '{team.calm}')")
    same(sea, "calm")
    assert search(sea, "{team.calm}") == 3

    # What is changed meanwhile is read when it is applied again, and what is gone leaves the index.
    for name, (_, _, mend) in TROUBLES.items():
        sea.admin.execute(mend or "SELECT")
        sea.admin.execute(f"INSERT INTO team.{name} (id, title, rank) VALUES (9, 'meanwhile', 9)")
        if name not in ("nameless", "misnamed", "keyless"):
            sea.admin.execute(f"DELETE FROM team.{name} WHERE id = 2")
        sea.apply(contract(name))
    for name in TROUBLES:
        sea.live(f"team.{name}")
    sea.caught_up()
    for name in TROUBLES:
        same(sea, name)
    sea.admin.execute("".join(f"UPDATE team.{name} SET title = 'later', rank = rank + 20; " for name in TROUBLES))
    sea.caught_up()
    for name in TROUBLES:
        same(sea, name)
    assert suspended(sea) == set()
    assert sea.one("SELECT count(*) FROM tidegate.dead_letter") == 0


def test_a_source_that_may_not_be_read_any_more_holds_up_no_other(tide: Tide) -> None:
    """Found at the end of a backfill, behind which those of other products wait."""
    tide.admin.execute("CREATE SCHEMA team")
    for name in ("one", "two"):
        tide.admin.execute(f"CREATE TABLE team.{name} (id int PRIMARY KEY, title text, rank int)")
        tide.admin.execute(f"INSERT INTO team.{name} VALUES (1, 'title', 1)")
        tide.apply(contract(name))
    tide.run()
    tide.live("team.one")
    tide.live("team.two")
    tide.admin.execute("REVOKE ALL ON team.one FROM tidegate_worker")
    tide.admin.execute("REVOKE SELECT (id, title, rank) ON team.one FROM tidegate_worker")
    tide.admin.execute("UPDATE tidegate.product SET state = 'pending'")
    tide.live("team.two")
    wait_until(lambda: suspended(tide) == {"one"}, 30, "the other is suspended")
    assert reason(tide, "one").startswith("InsufficientPrivilege: permission denied for table one")
    tide.apply(contract("one"))
    tide.live("team.one")


def test_a_publication_that_leaves_changes_out_or_is_dropped(tide: Tide) -> None:
    tide.admin.execute("CREATE SCHEMA team")
    for name in ("one", "two"):
        tide.admin.execute(f"CREATE TABLE team.{name} (id int PRIMARY KEY, title text, rank int)")
        tide.admin.execute(f"INSERT INTO team.{name} VALUES (1, 'title', 1), (2, 'title', 2)")
        tide.apply(contract(name))
    tide.run()
    tide.live("team.two")
    for done, said in (
        (
            "ALTER PUBLICATION tidegate SET (publish = 'insert, update')",
            'the publication "tidegate" leaves changes out',
        ),
        ("DROP PUBLICATION tidegate", 'the publication "tidegate" was dropped'),
    ):
        tide.live("team.one")
        tide.admin.execute(done)
        wait_until(lambda: suspended(tide) == {"one", "two"}, 20, "both are suspended")
        assert reason(tide, "one").startswith(said)
        tide.admin.execute(
            "DELETE FROM team.one WHERE id = 1; INSERT INTO team.one VALUES (1, 'again', 1), (3, 'more', 3)"
        )
        tide.admin.execute("DELETE FROM team.two WHERE id = 2")
        for name in ("one", "two"):
            tide.apply(contract(name))
        # Where the engine stopped because of it, `tidegate run` starts another.
        if tide.pipelines[0].failure() is not None:
            tide.stop()
            tide.run()
        for name in ("one", "two"):
            tide.live(f"team.{name}")
            same(tide, name)
        tide.admin.execute("DELETE FROM team.one WHERE id = 3")
        tide.caught_up()
        same(tide, "one")


def test_a_slot_whose_wal_is_gone_suspends_its_products_until_it_is_recovered(embedders: Embedders) -> None:
    """With the server's own limit; and again with a slot that somebody dropped."""
    kept = {**postgres.DISPOSABLE, "max_slot_wal_keep_size": "1MB"}
    with postgres.temporary(kept) as server, connect(server.dsn) as admin:
        initialise(admin)
        tide = Tide(server.dsn, admin, embedders, Settings(heartbeat_ms=200, _env_file=None))
        admin.execute("CREATE SCHEMA team; CREATE TABLE team.one (id int PRIMARY KEY, title text, rank int)")
        admin.execute("INSERT INTO team.one VALUES (1, 'title', 1), (2, 'title', 2)")
        tide.apply(contract("one"))
        slot = default_slot("postgres")
        try:
            tide.run()
            tide.live("team.one")
            for lose, said in ((_remove_wal, "was invalidated"), (_drop_slot, "is gone")):
                tide.stop()
                lose(admin, slot)
                admin.execute("DELETE FROM team.one WHERE id = 2; UPDATE team.one SET title = title || ' changed'")
                with pytest.raises(SlotMissing, match=said):
                    tide.run()
                assert reason(tide, "one").startswith(f'replication slot "{slot}" {said}')
                with pytest.raises(
                    psycopg.errors.ObjectNotInPrerequisiteState, match=f"is suspended: replication slot .* {said}"
                ):
                    search(tide, "{team.one}")
                assert "tidegate recover-slot" in reason(tide, "one")
                recover_slot(admin, slot)
                tide.run()
                tide.live("team.one")
                same(tide, "one")
                assert tide.one("SELECT state_reason FROM tidegate.product") is None
                admin.execute("INSERT INTO team.one VALUES (2, 'afterwards', 2)")
                tide.caught_up()
                same(tide, "one")
        finally:
            tide.stop()


def _remove_wal(admin: psycopg.Connection, slot: str) -> None:
    state = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s"
    for _ in range(20):
        admin.execute("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000)), pg_switch_wal()")
        admin.execute("CHECKPOINT")
        if admin.execute(state, [slot]).fetchone() == ("lost",):
            return
    raise AssertionError("the server kept its WAL")


def _drop_slot(admin: psycopg.Connection, slot: str) -> None:
    admin.execute("SELECT pg_drop_replication_slot(%s)", [slot])

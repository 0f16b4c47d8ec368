"""Whoever owns a source table may change it after it was published; their code must not run with tidegate's rights."""

import contextlib

import psycopg
import pytest
from psycopg import sql
from tests.security.conftest import ALLOW, World, contract, found
from tests.security.weaken import Weakening, attack, breach

from tidegate.capture.stream import HOME
from tidegate.database import Connection, connect
from tidegate.index.embedding.registry import Embedders
from tidegate.index.product import Violation, published

UNGUARDED = Weakening(
    "unguarded",
    patches=(("tidegate.govern.plan.index_plan.guards", lambda *_: ()),),
)
SPY = """
    GRANT USAGE ON SCHEMA {schema} TO PUBLIC;
    CREATE FUNCTION {schema}.spy() RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN RAISE NOTICE 'ran as %', current_user; RETURN true; END $$;
"""


def _swap_for_a_view(owner: Connection) -> None:
    owner.execute(
        "ALTER TABLE team.note RENAME TO note_behind;"
        "CREATE VIEW team.note AS SELECT * FROM team.note_behind WHERE team.spy();"
        "GRANT SELECT ON team.note TO PUBLIC"
    )


def _add_row_security(owner: Connection) -> None:
    owner.execute(
        "ALTER TABLE team.note ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON team.note FOR SELECT USING (team.spy())"
    )


SWAPS = pytest.mark.parametrize("swap", [_swap_for_a_view, _add_row_security])


@pytest.fixture
def note(world: World) -> World:
    world.publish(contract(ALLOW))
    world.note(1)
    owner = world.role("owner")
    name = sql.Identifier(owner)
    world.admin.execute(sql.SQL("ALTER SCHEMA team OWNER TO {0}; ALTER TABLE team.note OWNER TO {0}").format(name))
    session = world.login(owner)
    session.execute(SPY.format(schema="team"))  # type: ignore[arg-type]
    world.owner = session  # type: ignore[attr-defined]
    return world


@attack(UNGUARDED)
@SWAPS
def test_the_live_check_runs_no_code_of_theirs(note: World, swap: object) -> None:
    reader = note.login(note.role("reader", "note_reader", regions=["EU"]))
    assert found(reader) == {1}
    swap(note.owner)  # type: ignore[operator, attr-defined]
    told: list[str] = []
    reader.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    with contextlib.suppress(psycopg.Error):
        found(reader)
    breach(bool(told), f"code of the source's owner: {told}")


@attack(UNGUARDED)
@SWAPS
def test_the_worker_runs_no_code_of_theirs(note: World, swap: object, embedders: Embedders) -> None:
    swap(note.owner)  # type: ignore[operator, attr-defined]
    told: list[str] = []
    with connect(note.tide.dsn, role="tidegate_worker") as worker:
        worker.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        product = published(worker, embedders)[HOME, "team", "note"]
        with contextlib.suppress(Violation, psycopg.Error):
            product.read(worker, ['{"id":1}'])
    breach(bool(told), f"code of the source's owner: {told}")


def test_row_security_that_was_there_when_it_was_applied_is_kept(world: World) -> None:
    world.admin.execute(
        "ALTER TABLE team.note ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY tidegate_reads ON team.note FOR SELECT TO tidegate_worker, tidegate_owner USING (true)"
    )
    world.publish(contract(ALLOW))
    world.note(1)
    assert found(world.login(world.role("reader", "note_reader", regions=["EU"]))) == {1}

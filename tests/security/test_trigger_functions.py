"""Trigger functions run with the rights of the tables' owner: nobody puts them on a table of her own."""

from typing import LiteralString, cast

import psycopg
import pytest
from psycopg import sql
from tests.security.conftest import World, ids

from tidegate.database import Connection

_ATTACK = (
    "CREATE TYPE pg_temp.evil AS (a text)",
    """CREATE FUNCTION pg_temp.run(pg_temp.evil) RETURNS text LANGUAGE plpgsql AS $$
       BEGIN
           EXECUTE 'ALTER TABLE rag_team.note DISABLE ROW LEVEL SECURITY';
           RETURN 'x';
       END $$""",
    "CREATE CAST (pg_temp.evil AS text) WITH FUNCTION pg_temp.run(pg_temp.evil) AS IMPLICIT",
    "CREATE TEMP TABLE mine (id int, chunk_no int, content pg_temp.evil)",
)


_TRIGGERS = ["keep_words('english', 'id')", "audit_change('principal', 'id')"]


def _attacker(world: World, name: str) -> Connection:
    attacker = world.login(name)
    for statement in _ATTACK:
        attacker.execute(statement)
    return attacker


def _trigger(call: str) -> LiteralString:
    return cast(LiteralString, f"CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION tidegate.{call}")


@pytest.mark.parametrize("call", _TRIGGERS)
def test_readers_cannot_name_them(published: World, call: str) -> None:
    attacker = _attacker(published, published.role("mallory", "note_reader", regions=["EU"]))
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for function"):
        attacker.execute(_trigger(call))


@pytest.mark.parametrize("call", _TRIGGERS)
def test_a_trigger_from_before_the_right_was_taken_runs_nothing(published: World, call: str) -> None:
    name = published.role("mallory", "note_reader", regions=["EU"])
    # As it was in an earlier release.
    published.admin.execute(
        sql.SQL("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tidegate TO {}").format(sql.Identifier(name))
    )
    attacker = _attacker(published, name)
    attacker.execute(_trigger(call))
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only"):
        attacker.execute("INSERT INTO mine VALUES (1, 0, ROW('x'))")
    assert ids(attacker) == {1}


def test_none_is_for_readers(published: World) -> None:
    open_ = published.admin.execute(
        "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'tidegate'::regnamespace "
        "AND p.prorettype = 'trigger'::regtype AND has_function_privilege('tidegate_reader', p.oid, 'EXECUTE')"
    ).fetchall()
    assert open_ == []

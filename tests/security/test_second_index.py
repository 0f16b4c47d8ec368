"""The index beside the one that is searched shows nobody more, before the two change places and after."""

import json
from collections.abc import Iterator

import psycopg
import pytest
from tests.conftest import Tide, wait_until
from tests.integration.embedder import WatchedModels
from tests.security.conftest import World
from tests.security.test_masks import CLEAR, EMAIL, TABLE, Masked, masked_contract

from tidegate.govern.drift import find_drift
from tidegate.govern.index_pair import Direction
from tidegate.govern.model_switch import switch
from tidegate.index.embedding.local_model import MODEL

OTHER = "other/model"


def drifted(tide: Tide) -> list[str]:
    return [f"{f.code} {f.object} {f.sentence}" for f in find_drift(tide.admin) if f.level != "info"]


def shown(masked: Masked, role: str, schema: str) -> dict[str, object]:
    """What plain SQL shows the role of an index and its side tables."""
    seen: dict[str, object] = {}
    with psycopg.connect(masked.world.dsn(role), autocommit=True) as connection:
        for table in ("note", *CLEAR):
            columns = "id, email, pay, salary" if table == "note" else "id, clear_value"
            try:
                seen[table] = connection.execute(f"SELECT {columns} FROM {schema}.{table} ORDER BY id").fetchall()  # type: ignore[arg-type]
            except psycopg.errors.InsufficientPrivilege:
                seen[table] = None
    return seen


@pytest.fixture
def both(tide: Tide) -> Iterator[Masked]:
    """team.note with masked columns and two indexes, both with all rows."""
    tide.embedders = WatchedModels(tide.embedders.of(MODEL))
    tide.admin.execute(TABLE)
    world = World(tide)
    world.publish(masked_contract())
    made = Masked(world)
    made.insert(1)
    made.insert(2, "US")
    tide.run()
    tide.live("team.note")
    world.publish(masked_contract().replace(MODEL, OTHER))
    tide.live(f"team.note@{OTHER}")
    made.insert(3)
    wait_until(lambda: tide.one("SELECT count(*) FROM beside_team.note") == 3, 20, "both have the third row")
    tide.caught_up()
    yield made
    tide.stop()
    world.close()


def test_each_role_sees_the_same_of_both(both: Masked) -> None:
    tide = both.tide
    nobody = both.world.role("nobody")
    directions: tuple[Direction, ...] = ("switch", "rollback")
    for direction in directions:
        for role in (both.reader, both.legal, nobody):
            searched, second = shown(both, role, "rag_team"), shown(both, role, "beside_team")
            assert searched == second, role
        assert set(shown(both, nobody, "beside_team").values()) == {None}
        of_reader, of_legal = shown(both, both.reader, "beside_team"), shown(both, both.legal, "beside_team")
        assert [row[0] for row in of_reader["note"]] == [1, 3]  # type: ignore[attr-defined]
        assert of_reader["note_clear_email"] is None
        assert of_legal["note_clear_email"] == [(1, f"1{EMAIL}"), (3, f"3{EMAIL}")]
        assert "\n".join(drifted(tide)) == ""
        switch(tide.admin, "team.note", direction)


def test_only_the_one_that_is_searched_is_offered(both: Masked) -> None:
    vector = json.dumps([1.0] + [0.0] * 383)
    with psycopg.connect(both.world.dsn(both.reader), autocommit=True) as reader:
        assert reader.execute("SELECT product, model FROM tidegate.products").fetchall() == [("team.note", MODEL)]
        assert reader.execute("SELECT product FROM tidegate.freshness").fetchall() == [("team.note",)]
        assert {row[0] for row in reader.execute("SELECT chunk_schema FROM tidegate.lineage")} == {"rag_team"}
        search = "SELECT count(*) FROM tidegate.search(vectors => %s::jsonb, products => %s)"
        assert reader.execute(search, [f'{{"{MODEL}": {vector}}}', ["team.note"]]).fetchone() == (2,)
        with pytest.raises(psycopg.errors.UndefinedObject, match="not published, or not offered"):
            reader.execute(search, [f'{{"{OTHER}": {vector}}}', [f"team.note@{OTHER}"]])
        for statement in (
            "INSERT INTO beside_team.note (id) VALUES (9)",
            "DELETE FROM beside_team.note",
            "CREATE TABLE beside_team.mine (id int)",
            "UPDATE tidegate.product SET beside = NULL",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement)  # type: ignore[arg-type]


def test_a_rule_that_narrows_while_it_is_built_holds_for_both_at_once(both: Masked) -> None:
    narrower = {"id": "none", "effect": "deny", "when": "row.id = 1"}
    allow = {"id": "readers", "effect": "allow", "to": ["note_reader"], "when": "row.region in user.regions"}
    both.world.publish(masked_contract(allow, narrower).replace(MODEL, OTHER))
    for schema in ("rag_team", "beside_team"):
        assert [row[0] for row in shown(both, both.reader, schema)["note"]] == [3]  # type: ignore[attr-defined]
        assert shown(both, both.legal, schema)["note_clear_email"] == [(3, f"3{EMAIL}")]
    assert drifted(both.tide) == []


def test_what_is_bent_at_the_second_index_is_found(both: Masked) -> None:
    admin = both.tide.admin
    admin.execute("ALTER POLICY tidegate_allow_readers ON beside_team.note USING (true)")
    admin.execute(f"GRANT SELECT ON beside_team.note TO {both.world.role('drifter')}")  # type: ignore[arg-type]
    admin.execute("ALTER TABLE beside_team.note NO FORCE ROW LEVEL SECURITY")
    found = {line.split()[0] for line in drifted(both.tide)}
    assert found == {"policy_changed", "grant_extra", "rls_not_forced"}

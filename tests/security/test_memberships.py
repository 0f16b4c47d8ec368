"""`member(NAME)`: few rows compared, many looked up; nothing of others, nothing malformed, no index unnamed."""

from typing import Any
from unittest.mock import patch

import psycopg
import pytest
import yaml
from tests.security.conftest import World, contract, found, ids

from tidegate.govern import membership_function
from tidegate.govern.plan import ContractUnfit, Plan

MEMBERS = {"id": "assigned", "effect": "allow", "to": ["note_reader"], "when": "member(assigned)"}
UNLESS = {"id": "mine", "effect": "deny", "when": "not member(assigned)"}


def offered(*rules: dict[str, Any], **parts: Any) -> str:
    document = yaml.safe_load(contract(*rules, **parts))
    for extra in document["schema"][0]["customProperties"]:
        if extra["property"] == "rowAccess":
            extra["value"]["memberships"] = [
                {"name": "assigned", "table": "assigned", "column": "note_id", "row": "id", "principal": "who"}
            ]
    return yaml.safe_dump(document, sort_keys=False)


def assigned(world: World, columns: str = "who text, note_id bigint") -> None:
    world.admin.execute(f"CREATE TABLE team.assigned ({columns})")


@pytest.mark.parametrize("rule", [MEMBERS, UNLESS])
def test_few_and_many_memberships_show_the_same(world: World, rule: dict[str, Any]) -> None:
    assigned(world)
    everyone = {"id": "all", "effect": "allow", "to": ["note_reader"]}
    with patch.object(membership_function, "MANY", 3):
        world.publish(offered(rule if rule is MEMBERS else everyone, *([rule] if rule is UNLESS else [])))
    for number in range(1, 9):
        world.note(number)
    alice, bob = world.role("alice", "note_reader"), world.role("bob", "note_reader")
    reader = world.login(alice)
    many = "SELECT rag_team.member_note_assigned_many()"
    assert ids(reader) == set()
    for count in (1, 3, 4, 7):
        world.admin.execute("TRUNCATE team.assigned; INSERT INTO team.assigned VALUES (NULL, 8)")
        world.admin.execute("INSERT INTO team.assigned SELECT %s, n FROM generate_series(1, %s) n", [alice, count])
        world.admin.execute("INSERT INTO team.assigned VALUES (%s, NULL), (%s, 8)", [alice, bob])
        assert reader.execute(many).fetchone() == (count > 3,)
        assert ids(reader) == found(reader) == set(range(1, count + 1))
        assert ids(world.login(bob)) == {8}
    # What readers may call tells them nothing of others.
    assert reader.execute("SELECT rag_team.member_note_assigned_has(8)").fetchone() == (False,)
    assert reader.execute("SELECT rag_team.member_note_assigned_has(NULL)").fetchone() == (None,)
    none = world.login(world.role("none", "note_reader"))
    assert none.execute("SELECT rag_team.member_note_assigned_has(NULL)").fetchone() == (False,)
    for call in ("_of('x')", "_many_of('x')", "_has_of('x', 8)"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(f"SELECT rag_team.member_note_assigned{call}")  # type: ignore[arg-type]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute("SELECT * FROM team.assigned")


def test_the_missing_index_is_named(world: World) -> None:
    assigned(world)
    index = 'CREATE INDEX ON "team"."assigned" ("who", "note_id")'
    hints = [line for line in world.publish(offered(MEMBERS)).summary if index in line]
    assert len(hints) == 1
    assert hints[0].startswith("member(assigned) reads all of team.assigned")
    world.admin.execute("CREATE INDEX partial ON team.assigned (who, note_id) WHERE note_id > 0")
    world.admin.execute("CREATE INDEX alone ON team.assigned (who)")
    assert index in "".join(world.publish(offered(MEMBERS)).summary)
    world.admin.execute(index)  # type: ignore[arg-type]
    assert "INDEX" not in "".join(world.publish(offered(MEMBERS)).summary)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("who text, note_id text", "is text, which does not compare with column id (bigint)"),
        ("who int, note_id bigint", "must hold the names of principals"),
        ("who text, other bigint", "no column note_id in team.assigned; there are: who, other"),
        (None, "table team.assigned does not exist"),
    ],
)
def test_a_membership_that_cannot_work_is_refused(world: World, columns: str | None, message: str) -> None:
    if columns:
        assigned(world, columns)
    with pytest.raises(ContractUnfit) as refusal:
        world.publish(offered(MEMBERS))
    assert message in str(refusal.value)


def test_a_wider_value_than_the_rows_raises_nothing(world: World) -> None:
    assigned(world, "who varchar(80), note_id bigint")
    world.admin.execute("ALTER TABLE team.note ALTER id TYPE int")
    world.publish(offered(MEMBERS).replace("physicalType: bigint", "physicalType: int"))
    alice = world.role("alice", "note_reader")
    world.note(1)
    world.admin.execute("INSERT INTO team.assigned VALUES (%s, 1), (%s, 4000000000)", [alice, alice])
    assert ids(world.login(alice)) == {1}


def policy_steps(plan: Plan) -> str:
    texts = [step.statement.as_string(None) for step in plan.steps]
    return ";".join(text for text in texts if text.split()[1] == "POLICY")


def test_policies_change_in_place(world: World) -> None:
    """ALTER POLICY: the policy stays the same object, and a rule that only changes is never dropped."""
    allow = {"id": "readers", "effect": "allow", "to": ["note_reader"], "when": "row.region in user.regions"}
    guard = {"id": "guard", "effect": "require", "when": "row.region = 'EU'"}
    world.publish(contract(allow, guard))
    oids = dict(world.tide.rows("SELECT polname, oid FROM pg_policy WHERE polrelid = 'rag_team.note'::regclass"))
    allow |= {"to": ["note_reader", "note_other"], "when": "row.region is not null"}
    plan = world.publish(contract(allow, guard | {"when": "row.region = 'US'"}, version="2.0.0"))
    assert policy_steps(plan).count("ALTER POLICY") == 3  # both, and what the owner sees
    assert "DROP POLICY" not in policy_steps(plan)
    assert "CREATE POLICY" not in policy_steps(plan)
    kept = world.tide.rows(
        "SELECT polname, oid, obj_description(oid, 'pg_policy') FROM pg_policy WHERE polrelid = 'rag_team.note'::regclass"
    )
    assert {name: oid for name, oid, _ in kept} == oids
    assert all(
        " 2.0.0 " in mark for name, _, mark in kept if name in ("tidegate_allow_readers", "tidegate_require_guard")
    )
    world.note(1, region="EU")
    world.note(2, region="US")
    assert ids(world.login(world.role("reader", "note_reader"))) == {2}
    # Added: restrictive first. Removed: restrictive last.
    more = (
        {"id": "more", "effect": "allow", "to": ["note_reader"]},
        {"id": "less", "effect": "deny", "when": "row.region = 'EU'"},
    )
    text = policy_steps(world.publish(contract(allow, *more, version="3.0.0")))
    assert text.index('CREATE POLICY "tidegate_deny_less"') < text.index('CREATE POLICY "tidegate_allow_more"')
    assert text.index('CREATE POLICY "tidegate_allow_more"') < text.index('DROP POLICY "tidegate_require_guard"')
    text = policy_steps(world.publish(contract(guard, version="4.0.0")))
    assert text.index('DROP POLICY "tidegate_allow_more"') < text.index('CREATE POLICY "tidegate_require_guard"')
    assert text.index('CREATE POLICY "tidegate_require_guard"') < text.index('DROP POLICY "tidegate_deny_less"')
    # One that somebody made the other kind cannot be altered: it is made anew.
    world.publish(contract(allow, guard, version="5.0.0"))
    mark = world.tide.one(
        "SELECT obj_description(oid, 'pg_policy') FROM pg_policy WHERE polname = 'tidegate_require_guard'"
    )
    world.admin.execute("DROP POLICY tidegate_require_guard ON rag_team.note")
    world.admin.execute("CREATE POLICY tidegate_require_guard ON rag_team.note FOR SELECT USING (true)")
    world.admin.execute(f"COMMENT ON POLICY tidegate_require_guard ON rag_team.note IS '{mark}x'")
    text = policy_steps(world.publish(contract(allow, guard | {"when": "row.region = 'US'"}, version="6.0.0")))
    assert text.index('DROP POLICY "tidegate_require_guard"') < text.index('CREATE POLICY "tidegate_require_guard"')

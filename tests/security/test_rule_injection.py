"""Rules that try to be more than rules: quotes, semicolons, comments, Unicode, names too long; NULL in every column."""

from typing import Any

import pytest
import yaml
from psycopg import sql
from tests.security.conftest import World, contract, ids
from tests.security.weaken import Weakening, attack, breach

from tidegate.contract.finding import ContractErrors

HOSTILE = (
    "EU' OR true --",
    "EU'); DROP TABLE team.note; --",
    "EU'/* */",
    '"EU" OR "1"="1',
    "$$ OR true; $$",
    "$tidegate$",
    "%s %(x)s {0} {}",
    "\\' OR true --",
    "E'\\\\'",
    "EU\u2028\u202e\u00a0;❤",
)


def quoted(text: str) -> str:
    return "row.region = '" + text.replace("'", "''") + "'"


UNQUOTED = Weakening(
    "literals_are_pasted",
    patches=(("tidegate.govern.compiler._literal", lambda literal, citext: sql.SQL(f"'{literal.value}'")),),
)


def guarded(text: str) -> list[dict[str, Any]]:
    return [
        {"id": "one", "effect": "allow", "to": ["note_reader"], "when": quoted(text)},
        {"id": "two", "effect": "deny", "when": quoted(text + "x")},
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_literal_is_one_value_in_policy_live_check_and_catalog(world: World, text: str) -> None:
    world.publish(contract(*guarded(text)))
    world.note(1, region="EU")
    world.note(2, region=text)
    world.note(3, region=text + "x")
    reader = world.login(world.role("reader", "note_reader"))
    assert ids(reader) == {2}
    live = "SELECT array_agg(n) FROM generate_series(1, 3) n WHERE rag_team.note_live(n)"
    assert reader.execute(live).fetchone() == ([2],)
    (stored,) = world.tide.rows("SELECT condition FROM tidegate.rule WHERE place = 1")[0]
    condition = sql.SQL("".join(stored))
    shown = world.admin.execute(sql.SQL("SELECT id FROM team.note t WHERE {}").format(condition)).fetchall()
    assert shown == [(2,)]


@attack(UNQUOTED)
def test_a_text_cannot_end_its_literal(world: World) -> None:
    """The simplest injection, seen succeeding where literals are pasted into the statement."""
    world.publish(contract({"id": "one", "effect": "allow", "to": ["note_reader"], "when": quoted("x' OR 'a'='a")}))
    world.note(1, region="EU")
    breach(ids(world.login(world.role("reader", "note_reader"))) != set(), "a literal opened the table")


@pytest.mark.parametrize("role", ['note"; DROP ROLE x', "public", "pg_read_all_data", "tidegate_worker", "Ä", "r" * 64])
def test_a_role_is_a_plain_name(world: World, role: str) -> None:
    with pytest.raises(ContractErrors, match="cannot be used as a role"):
        world.publish(contract({"id": "one", "effect": "allow", "to": [role]}))


@pytest.mark.parametrize("name", ['a"b', "a;b", "a--b", "é", "c" * 64, "A"])
def test_a_column_is_a_plain_name(world: World, name: str) -> None:
    document = yaml.safe_load(contract())
    document["schema"][0]["properties"].append({"name": name, "physicalType": "text"})
    with pytest.raises(ContractErrors, match="cannot be a column"):
        world.publish(yaml.safe_dump(document, allow_unicode=True))


@pytest.mark.parametrize(
    "when", ["row.region = 'a'; select 1", "row.region = 'a' -- x", "row.region = 'a' /* */", 'row."x"']
)
def test_a_rule_is_only_of_its_grammar(world: World, when: str) -> None:
    with pytest.raises(ContractErrors):
        world.publish(contract({"id": "one", "effect": "allow", "to": ["note_reader"], "when": when}))


def test_rules_of_63_bytes_that_begin_alike_are_both_in_force(world: World) -> None:
    readers = {"id": "all", "effect": "allow", "to": ["note_reader"]}
    guards = [{"id": "g" * 62 + end, "effect": "require", "when": f"row.region != '{end}'"} for end in ("a", "b")]
    world.publish(contract(readers, *guards))
    for number, region in enumerate(("a", "b", "c"), 1):
        world.note(number, region=region)
    assert ids(world.login(world.role("reader", "note_reader"))) == {3}


NULL_PASSES = Weakening(
    "null_passes",
    published=(
        "ALTER POLICY tidegate_deny_hidden ON rag_team.note USING (NOT coalesce(price > 5, false))",
        "ALTER POLICY tidegate_require_guard ON rag_team.note USING (coalesce(price <> 5, true))",
    ),
)


@attack(NULL_PASSES)
def test_null_hides_in_every_effect(world: World) -> None:
    world.publish(
        contract(
            {"id": "all", "effect": "allow", "to": ["note_reader"]},
            {"id": "hidden", "effect": "deny", "when": "row.price > 5"},
            {"id": "guard", "effect": "require", "when": "row.price != 5"},
        )
    )
    world.note(1, price=1)
    world.note(2, price=None)
    seen = ids(world.login(world.role("reader", "note_reader")))
    assert 1 in seen
    breach(2 in seen, "a row shows whose column is NULL")

"""The mechanism itself: a weakening of each kind opens what it says, and is noticed where it does nothing."""

import pytest
from psycopg import sql
from tests.security.conftest import ALLOW, World, contract, ids
from tests.security.weaken import Breach, Edit, Weakening, attack, breach, refused

from tidegate.database import Connection

EVERYBODY_HAS_EVERY_ROLE = Weakening(
    "every_role", edits=(Edit("tidegate.acts_as(text)", "tidegate.acts_as_of(", "true OR tidegate.acts_as_of("),)
)
RULES_ASK_NO_ROLE = Weakening(
    "no_role_asked",
    patches=(("tidegate.govern.policies._acts_as", lambda roles, asker: sql.Composed([sql.SQL("true")])),),
)
POLICY_FOR_ALL = Weakening(
    "foreign_policy", published=("CREATE POLICY foreign_one ON rag_team.note FOR SELECT TO PUBLIC USING (true)",)
)
ATTRIBUTES_READABLE = Weakening(
    "attributes_readable", control=("GRANT SELECT ON tidegate.principal_attribute TO tidegate_reader",)
)


def _reader_of_another_role(world: World) -> Connection:
    """May select from the table, but the rule is for somebody else."""
    world.publish(contract({**ALLOW, "when": "row.region = 'EU'"}))
    world.note(1)
    role = world.role("reader", "tidegate_reader")
    world.admin.execute(
        "GRANT USAGE ON SCHEMA rag_team TO tidegate_reader; GRANT SELECT ON rag_team.note TO tidegate_reader;"
        "ALTER POLICY tidegate_allow_readers ON rag_team.note TO tidegate_reader"
    )
    return world.login(role)


@attack(EVERYBODY_HAS_EVERY_ROLE, RULES_ASK_NO_ROLE, POLICY_FOR_ALL)
def test_a_policy_asks_for_the_role_itself(world: World) -> None:
    breach(ids(_reader_of_another_role(world)) != set(), "rows of a rule for another role")


@attack(ATTRIBUTES_READABLE)
def test_attributes_are_private(published: World) -> None:
    reader = published.login(published.role("reader", "note_reader"))
    with refused(Exception):
        reader.execute("SELECT * FROM tidegate.principal_attribute")


def test_a_weakening_of_nothing_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Weakening("nothing", edits=(Edit("tidegate.principal()", "no such text", ""),))
    with pytest.raises(AssertionError, match="has no text"):
        nothing.prepare(world.admin, monkeypatch)


def test_refused_is_a_breach_where_nothing_is_raised() -> None:
    with pytest.raises(Breach), refused(ValueError):
        pass
    with refused(ValueError):
        raise ValueError
    with pytest.raises(KeyError), refused(ValueError):
        raise KeyError

"""What a changed rule does to readers: proved to narrow, or taken to widen."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.security.test_rules_property import CONTRACT, ROLES, ROW_VALUES, TYPES, UUIDS

from tidegate.contract.change import ChangeClass
from tidegate.contract.contract import Contract
from tidegate.contract.evaluator import visible
from tidegate.contract.implication import implies
from tidegate.contract.membership import Membership
from tidegate.contract.rule import Rule, read_rule
from tidegate.contract.rule_diff import rule_changes
from tidegate.contract.version import Bump

SEARCHES = int(os.environ.get("TIDEGATE_DIFF_CASES", "400"))
BOTH = AGENT, LAWYER = ROLES[:2]
NOW = datetime(2026, 1, 31, tzinfo=UTC)


def rule(id: str, effect: str, when: str = "", to: tuple[str, ...] = ()) -> Rule:
    return read_rule(id, effect, to, when, columns=TYPES, memberships={"assigned": "id"})  # type: ignore[arg-type]


def ruled(*rules: Rule) -> Contract:
    return replace(CONTRACT, rules=rules)


def condition(text: str):
    return rule("r", "require", text).when if text else None


NARROWER = [
    ("row.region = 'eu' and row.flag", "row.region = 'eu'"),
    ("row.region = 'eu'", ""),
    ("row.region = 'eu'", "row.region in ['us', 'eu']"),
    ("row.region in ['us', 'eu']", "row.region in ['eu', 'a', 'us']"),
    ("row.region = 'eu'", "row.region = 'eu' or row.flag"),
    ("row.small <= 1", "row.small <= 2"),
    ("row.small < 2", "row.small <= 2"),
    ("row.small = 1", "row.small <= 2"),
    ("row.small = 1", "row.small >= 1"),
    ("row.small = 1", "row.small != 2"),
    ("row.small < 1", "row.small != 1"),
    ("1.5 < row.price", "row.price > 1"),
    ("row.at >= now() - '30 days'", "row.at >= now() - '90 days'"),
    ("row.at >= now() - '3 months'", "row.at >= now() - '1 year'"),
    ("row.at >= now() - '27 days'", "row.at >= now() - '1 month'"),
    ("row.at > '2026-02-01'", "row.at > '2026-01-31T23:00:00Z'"),
    ("row.day = '2026-02-01'", "row.day > '2026-01-31'"),
    ("row.small <= user.bigint and row.flag", "user.bigint >= row.small"),
    ("row.small < user.bigint", "row.small <= user.bigint"),
    ("row.region in user.text", "row.region is not null"),
    ("row.region < 'a'", "row.region < 'b'"),
    ("member(assigned)", "row.id is not null"),
    ("row.flag and not row.flag", "row.flag = true"),
]
SAME = [
    ("row.flag", "row.flag = true"),
    ("not row.flag", "row.flag != true"),
    ("not (row.region is null)", "row.region is not null"),
    ("not (row.flag or row.small > 1)", "row.small <= 1 and row.flag = false"),
    ("row.region in ['a', 'b']", "row.region = 'b' or row.region = 'a'"),
    ("not (row.region in ['a', 'b'])", "row.region != 'b' and row.region != 'a'"),
    ("row.small = 1", "1 = row.small"),
    ("row.price = 1", "row.price = 1.0"),
    ("row.at = '2026-01-31'", "row.at = '2026-01-31T00:00:00Z'"),
    ("not (not row.flag)", "row.flag"),
    ("row.tenant = '00000000-0000-0000-0000-00000000000a'", "row.tenant = '00000000-0000-0000-0000-00000000000A'"),
]
UNPROVED = [
    ("row.region = 'eu'", "row.region = 'us'"),
    ("row.region != 'eu'", "row.region != 'us'"),
    ("row.small <= 2", "row.small <= 1"),
    ("row.small <= 1", "row.small < 1"),
    ("row.small <= 1", "row.small != 1"),
    ("row.small >= 1", "row.small <= 2"),
    ("row.at >= now() - '31 days'", "row.at >= now() - '1 month'"),
    ("row.at >= now() - '90 days'", "row.at >= now() - '30 days'"),
    ("row.region is not null", "row.region in user.text"),
    ("not (row.region in user.text)", "row.region is not null"),
    ("not member(assigned)", "row.id is not null"),
    ("row.region = 'a'", "row.region != 'A'"),  # a column's collation may take them for equal
    ("row.region = 'a'", "row.region <= 'b'"),
    ("row.at >= now() - '28 days'", "row.at > now() - '1 month'"),  # the same, in March
    ("not (row.region is null)", "row.region is null"),
    ("row.flag or row.small = 1", "row.flag"),
    ("", "row.flag"),
]


@pytest.mark.parametrize(("premise", "conclusion"), [*NARROWER, *SAME, *[(b, a) for a, b in SAME]])
def test_proved(premise: str, conclusion: str) -> None:
    assert implies(condition(premise), condition(conclusion))


@pytest.mark.parametrize(("premise", "conclusion"), UNPROVED)
def test_not_proved(premise: str, conclusion: str) -> None:
    assert not implies(condition(premise), condition(conclusion))


def test_a_long_list_with_a_value_less_is_proved_in_no_time() -> None:
    values = [f"'{n:04}'" for n in range(900)]
    assert implies(
        condition(f"row.region in [{', '.join(values[:-1])}]"), condition(f"row.region in [{', '.join(values)}]")
    )
    assert not implies(
        condition(f"row.region in [{', '.join(values)}]"), condition(f"row.region in [{', '.join(values[:-1])}]")
    )


ALLOW = rule("a", "allow", "row.flag", (AGENT,))
CHANGES = [
    # old, new, class, bump, of which rule
    ([ALLOW], [rule("a", "allow", "row.flag and row.small = 1", (AGENT,))], "NARROWS", Bump.MINOR),
    ([ALLOW], [rule("a", "allow", "", (AGENT,))], "WIDENS", Bump.MAJOR),
    ([ALLOW], [rule("a", "allow", "row.flag", (AGENT, LAWYER))], "WIDENS", Bump.MAJOR),
    ([rule("a", "allow", "row.flag", BOTH)], [ALLOW], "NARROWS", Bump.MINOR),
    ([ALLOW], [], "NARROWS", Bump.MINOR),
    ([], [ALLOW], "WIDENS", Bump.MAJOR),
    ([ALLOW], [rule("a", "allow", "row.flag = true", (AGENT,))], "SAFE", Bump.PATCH),
    ([ALLOW], [rule("b", "allow", "row.flag", (AGENT,))], "SAFE", Bump.PATCH),
    ([ALLOW], [ALLOW, rule("b", "allow", "row.flag and row.small = 1", (AGENT,))], "SAFE", Bump.PATCH),
    ([rule("q", "require", "row.small <= 2")], [rule("q", "require", "row.small <= 1")], "NARROWS", Bump.MINOR),
    ([rule("q", "require", "row.small <= 2")], [rule("q", "require", "row.small <= 3")], "WIDENS", Bump.MAJOR),
    ([rule("q", "require", "row.flag")], [], "WIDENS", Bump.MAJOR),
    ([], [rule("q", "require", "row.flag")], "NARROWS", Bump.MINOR),
    ([rule("q", "require", "row.flag"), rule("p", "require", "row.small = 1")], [rule("q", "require", "row.flag and row.small = 1")], "SAFE", Bump.PATCH),
    ([rule("d", "deny", "row.flag")], [rule("d", "deny", "row.flag or row.small = 1")], "NARROWS", Bump.MINOR),
    ([rule("d", "deny", "row.flag")], [rule("d", "deny", "row.flag and row.small = 1")], "WIDENS", Bump.MAJOR),
    ([rule("d", "deny", "row.flag")], [rule("d", "deny", "row.flag", (AGENT,))], "WIDENS", Bump.MAJOR),
    ([rule("d", "deny", "row.flag", (AGENT,))], [rule("d", "deny", "row.flag")], "NARROWS", Bump.MINOR),
    ([rule("d", "deny", "row.flag", (AGENT,))], [rule("d", "deny", "row.flag", BOTH)], "NARROWS", Bump.MINOR),
    ([rule("d", "deny", "row.flag", BOTH)], [rule("d", "deny", "row.flag", (AGENT,))], "WIDENS", Bump.MAJOR),
    ([rule("d", "deny", "row.flag", BOTH)], [rule("d", "deny", "row.flag", (AGENT,)), rule("e", "deny", "row.flag", (LAWYER,))], "SAFE", Bump.PATCH),
    ([rule("d", "deny", "row.flag")], [rule("d", "require", "not row.flag")], "SAFE", Bump.PATCH),
    ([rule("d", "deny", "row.flag", (AGENT,))], [rule("d", "allow", "row.flag", (AGENT,))], "WIDENS", Bump.MAJOR),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "kind", "bump"), CHANGES, ids=range(len(CHANGES)))
def test_changes(old: list[Rule], new: list[Rule], kind: str, bump: Bump) -> None:
    found = list(rule_changes(ruled(*old), ruled(*new)))
    order = list(ChangeClass)
    gravest = max(found, key=lambda change: order.index(change.kind))
    assert (gravest.kind, gravest.bump) == (kind, bump), found


def test_a_membership_by_another_table_widens() -> None:
    old = ruled(rule("m", "allow", "member(assigned)", (AGENT,)))
    other = Membership("assigned", "tgp_domain", "other", "thing_id", "id", "username")
    found = list(rule_changes(old, replace(old, memberships=(other,))))
    assert {change.kind for change in found} == {ChangeClass.WIDENS}
    assert not list(rule_changes(old, old))


ATOMS = [
    *(f"row.small {op} {n}" for op in ("=", "!=", "<", "<=", ">", ">=") for n in (0, 1, "1.5", "user.bigint")),
    *(f"row.region {op} {v}" for op in ("=", "!=", "<", ">=") for v in ("'eu'", "'a'", "user.text")),
    *(f"row.ratio {op} {v}" for op in ("=", "<", ">=") for v in ("0.1", "1.5")),
    *(f"row.at {op} {v}" for op in ("<", ">=") for v in ("now()", "now() - '90 days'", "now() - '3 months'", "'2026-01-31'")),
    *(f"row.day {op} '2026-01-31'" for op in ("=", "!=", "<", ">=")),
    *("row.region in ['eu', 'a']", "row.region in ['eu']", "row.region in user.text", "row.pad = 'eu'", "row.tenant = user.uuid"),
    *("row.flag", "row.flag = false", "row.region is null", "row.small is not null", "row.small < row.id", "member(assigned)"),
]  # fmt: skip
"""Few enough that two of them often have to do with each other."""


def condition_of(draw: st.DrawFn) -> str:
    first, second, third = (draw(st.sampled_from(ATOMS)) for _ in range(3))
    shapes = (first, f"not ({first})", f"{first} and {second}", f"{first} or {second}", f"not ({first} and {second})")
    return draw(
        st.sampled_from((*shapes, f"({first} or {second}) and {third}", f"({first}) or ({second} and {third})"))
    )


Text = tuple[str, tuple[str, ...], str]


@st.composite
def two_versions(draw: st.DrawFn) -> tuple[tuple[Text, ...], tuple[Text, ...]]:
    """Rules and changed ones; most changes are small, so that many can be proved."""
    roles = st.sampled_from([(AGENT,), (LAWYER,), BOTH])
    old, new = [], []
    for effect in ("allow", *draw(st.lists(st.sampled_from(["allow", "require", "deny"]), max_size=2))):
        to = () if effect == "require" else draw(roles)
        when, other = condition_of(draw), draw(st.sampled_from(ATOMS))
        old.append((effect, to, when))
        change = draw(st.sampled_from(["none", "and", "or", "to", "other", "gone"]))
        if change in ("and", "or"):
            when = f"({when}) {change} {other}"
        elif change == "to" and effect != "require":
            to = draw(roles)
        elif change == "other":
            when = other
        if change != "gone":
            new.append((effect, to, when))
    return tuple(old), tuple(new)


def worlds(random: Random):
    """A row and one who asks: her roles, attributes, memberships."""
    row = {name: random.choice((None, *pool)) for name, pool in ROW_VALUES.items()} | {"id": random.randint(0, 2)}
    roles = random.choice([(), (AGENT,), (LAWYER,), BOTH])
    attributes = {
        "bigint": random.choice([["1"], ["0"], ["2"], ["x"], []]),
        "text": random.choice([["eu"], ["a", "eu"], [], ["B"]]),
        "uuid": random.choice([[UUIDS[0]], [UUIDS[1].upper()], []]),
    }
    held = {name: values for name, values in attributes.items() if random.random() < 0.9}
    return {name: _value(value) for name, value in row.items()}, roles, held, {"assigned": {1}}


proved: list[bool] = []


@pytest.mark.timeout(600 + SEARCHES)
@settings(max_examples=SEARCHES, suppress_health_check=[HealthCheck.too_slow])
@given(versions=two_versions(), seed=st.integers(0, 2**32))
def test_what_is_not_widening_shows_no_row_that_was_hidden(versions, seed: int) -> None:
    old, new = (
        [rule(f"r{n}", effect, when, to) for n, (effect, to, when) in enumerate(version)] for version in versions
    )
    found = list(rule_changes(ruled(*old), ruled(*new)))
    proved.append(bool(found) and all(change.kind in (ChangeClass.SAFE, ChangeClass.NARROWS) for change in found))
    if not all(change.kind in (ChangeClass.SAFE, ChangeClass.NARROWS) for change in found):
        return
    safe = all(change.kind is ChangeClass.SAFE for change in found)
    random = Random(seed)
    for _ in range(60):
        row, roles, attributes, members = worlds(random)
        before = visible(old, row, roles, attributes, NOW, members)
        after = visible(new, row, roles, attributes, NOW, members)
        assert before or not after, (found, row)
        assert not safe or before == after, (found, row)


def test_and_many_of_them_were_proved() -> None:
    """Else the property above would say little. Runs after it, in the order of the file."""
    assert not proved or sum(proved) > len(proved) / 20


def _value(value: object) -> object:
    """As psycopg loads it."""
    if isinstance(value, timedelta):
        return NOW + value
    return UUID(value) if value in UUIDS else value

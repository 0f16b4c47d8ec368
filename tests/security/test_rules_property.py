"""Random rules, rows and principals: what the compiled policies let through is what the evaluator says.

`TIDEGATE_PROPERTY_CASES` sets the number of examples.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from tidegate.contract.contract import Column, Contract, Source
from tidegate.contract.embedding import Embedding
from tidegate.contract.evaluator import visible
from tidegate.contract.family import ORDERED, TEMPORAL, Family, family
from tidegate.contract.membership import Membership
from tidegate.contract.rule import read_rule
from tidegate.govern.asker import NamedRole
from tidegate.govern.membership_function import membership_functions
from tidegate.govern.policies import policies, row_visible
from tidegate.govern.rule_catalog import compiled_rules

CASES = int(os.environ.get("TIDEGATE_PROPERTY_CASES", "150"))
PERSON = "tgp_person"
ROLES = ("tgp_agent", "tgp_lawyer", "tgp_" + "r" * 59)
LONG = "z" * 63
LONG_TWIN = "z" * 62 + "y"
TYPES = {
    **{
        "id": "bigint",
        LONG: "text",
        LONG_TWIN: "varchar(40)",
        "small": "smallint",
        "price": "numeric(10,2)",
        "ratio": "real",
    },
    **{"score": "double precision", "flag": "boolean", "tenant": "uuid", "region": "text"},
    **{"code": "varchar(3)", "pad": "char(4)", "mood": "tgp_domain.mood"},
    **{"at": "timestamptz", "at2": "timestamp", "day": "date"},
}
UUIDS = ("00000000-0000-0000-0000-00000000000a", "ffffffff-ffff-4fff-8fff-ffffffffffff")
INSTANTS = ("2026-01-31 00:00:00+00:00", "2026-01-30 22:00:00-05:00", "2026-02-01T00:00:00", "2026-01-31")
HOSTILE = ("'; drop table x; --", "/* a */ -- b", '"', "{eu,us}", "$$ or true", "%s", "\u2028\u202e❤")
POOLS: dict[Family, tuple[str, ...]] = {
    Family.TEXT: ("", "a", "B", "eu", "us", "é", "it's", "\\", *HOSTILE),
    Family.OTHER: ("calm", "cross", "CALM"),
    Family.INTEGER: ("-1", "0", "1", "2", "70000", "9223372036854775807"),
    Family.NUMERIC: ("-1", "0", "0.1", "1.5", "2", "2.50", "70000"),
    Family.BOOLEAN: ("true", "false"),
    Family.UUID: (*UUIDS, UUIDS[1].upper()),
    Family.TIMESTAMPTZ: INSTANTS,
    Family.DATE: ("2026-01-30", "2026-01-31", "2026-02-01"),
}
MALFORMED = {
    Family.INTEGER: ("x", "1.5", "99999999999999999999", ""),
    Family.NUMERIC: ("x", "1,5", ""),
    Family.BOOLEAN: ("perhaps", ""),
    Family.UUID: ("x", UUIDS[0] + "0"),
    Family.TIMESTAMPTZ: ("2026-13-01", "x"),
    Family.DATE: ("2026-02-30", "x"),
}
ROW_VALUES: dict[str, tuple[object, ...]] = {
    "small": (-1, 0, 1, 2),
    "price": tuple(map(Decimal, ("-1", "0", "1.50", "2.5", "70000"))),
    "ratio": (-1.0, 0.0, 0.1, 1.5, float("nan")),
    "score": (0.1, 1.5, 2.0, float("inf")),
    "flag": (True, False),
    "tenant": UUIDS,
    "region": POOLS[Family.TEXT],
    LONG: ("eu", "us", *HOSTILE),
    LONG_TWIN: ("eu", "us", *HOSTILE),
    "code": ("", "a", "eu", "us"),
    "pad": ("", "a", "eu", "us"),
    "mood": ("calm", "cross"),
    "at": (
        datetime(2026, 1, 31, tzinfo=UTC),
        datetime(2026, 2, 1, tzinfo=UTC),
        datetime(2026, 1, 31, 3, tzinfo=UTC),
        timedelta(days=-90),
        timedelta(0),
        timedelta(hours=1),
    ),
    "at2": (datetime(2026, 1, 31), datetime(2026, 2, 1), timedelta(days=-90), timedelta(0)),
    "day": (date(2026, 1, 30), date(2026, 1, 31), date(2026, 2, 1)),
}
ATTRIBUTE_FAMILIES = {
    Family.OTHER: Family.TEXT,
    Family.TIMESTAMP: Family.TIMESTAMPTZ,
}
ZONES = ("UTC", "Pacific/Kiritimati", "America/New_York")
DATE_STYLES = ("ISO, MDY", "German, DMY")


@dataclass(frozen=True)
class Case:
    rules: tuple[tuple[str, tuple[str, ...], str], ...]  # effect, to, when
    rows: tuple[dict[str, object], ...]
    roles: frozenset[str]
    attributes: dict[str, list[str]]
    memberships: frozenset[int]
    zone: str
    date_style: str
    many: bool = False  # memberships are looked up
    glass: str | None = None  # an emergency grant: active, expired, ended, of another product


def _attribute(kind: Family) -> str:
    return f"user.{ATTRIBUTE_FAMILIES.get(kind, kind).value}"


def _literal(text: str, kind: Family) -> str:
    if kind in (Family.INTEGER, Family.NUMERIC, Family.BOOLEAN):
        return text
    return "'" + text.replace("'", "''") + "'"


@st.composite
def atoms(draw: st.DrawFn, effect: str) -> str:
    name = draw(st.sampled_from(list(TYPES)))
    kind = family(TYPES[name])
    pool = POOLS[ATTRIBUTE_FAMILIES.get(kind, kind) if kind is Family.TIMESTAMP else kind]
    ops = ["=", "!=", "<", "<=", ">", ">="] if kind in ORDERED else ["=", "!="]
    op, literal = draw(st.sampled_from(ops)), _literal(draw(st.sampled_from(pool)), kind)
    listed = ", ".join(_literal(text, kind) for text in draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3)))
    choices = [
        f"row.{name} {op} {literal}",
        f"{literal} {op} row.{name}",
        f"row.{name} {op} {_attribute(kind)}",
        f"{_attribute(kind)} {op} row.{name}",
        f"row.{name} in {_attribute(kind)}",
        f"row.{name} in [{listed}]",
        f"row.{name} is null",
        f"row.{name} is not null",
        *["member(assigned)"] * 3,
    ]
    if kind is Family.BOOLEAN:
        choices += [f"row.{name}"] * 3
    if kind in TEMPORAL:
        offset = draw(st.sampled_from(["", " - '90 days'", " + '1 hour'", " - '3 months'", " - '1 year'"]))
        choices += [f"row.{name} {op} now(){offset}"] * 4
    if name == "small":
        choices += [
            "row.small < row.id",
            "row.price >= row.small",
            "row.ratio != row.price",
            "row.at < row.at2",
        ]
    if effect != "deny":
        choices += [
            "user.bigint >= 1",
            "'eu' in user.text",
            "user.text in ['eu', 'a']",
            "user.timestamptz < now()",
        ]
    return draw(st.sampled_from(choices))


@st.composite
def conditions(draw: st.DrawFn, effect: str, depth: int = 2) -> str:
    shape = draw(st.sampled_from(["atom", "atom", "and", "or", "not"])) if depth else "atom"
    if shape == "atom":
        return draw(atoms(effect))
    inner = conditions(effect, depth - 1)
    if shape == "not":
        return f"not ({draw(inner)})"
    return f"({draw(inner)}) {shape} ({draw(inner)})"


@st.composite
def cases(draw: st.DrawFn) -> Case:
    some_roles = st.lists(st.sampled_from(ROLES), min_size=1, unique=True).map(tuple)
    rules = []
    for effect in ["allow", *draw(st.lists(st.sampled_from(["allow", "require", "deny"]), max_size=3))]:
        to = () if effect == "require" else draw(some_roles if effect == "allow" else st.just(()) | some_roles)
        when = draw(st.just("") | conditions(effect)) if effect == "allow" else draw(conditions(effect))
        rules.append((effect, to, when))
    row = st.fixed_dictionaries({name: st.none() | st.sampled_from(pool) for name, pool in ROW_VALUES.items()})
    attributes = {}
    for kind in (kind for kind in POOLS if kind is not Family.OTHER):
        one = st.sampled_from(POOLS[kind])
        many = one | st.sampled_from(MALFORMED[kind]) if kind in MALFORMED else one
        attributes[kind.value] = draw(st.none() | one.map(lambda value: [value]) | st.lists(many, max_size=3))
    return Case(
        rules=tuple(rules),
        rows=tuple(draw(st.lists(row, min_size=1, max_size=6))),
        roles=frozenset(draw(st.just(ROLES) | st.lists(st.sampled_from(ROLES), unique=True))),
        attributes={name: values for name, values in attributes.items() if values is not None},
        memberships=frozenset(draw(st.lists(st.integers(-1, 3), max_size=4))),
        zone=draw(st.sampled_from(ZONES)),
        date_style=draw(st.sampled_from(DATE_STYLES)),
        many=draw(st.booleans()),
        glass=draw(st.sampled_from([*[None] * 8, "active", "expired", "ended", "elsewhere"])),
    )


CONTRACT = Contract(
    product="tgp_domain.thing",
    domain="tgp_domain",
    version="1.0.0",
    status="active",
    team=None,
    owners=(),
    source=Source(None, None, "tgp_domain", "thing"),
    columns=tuple(
        Column(name, type_, 1 if name == "id" else None, False, None, False, None) for name, type_ in TYPES.items()
    ),
    embedding=Embedding(("region",), None, 200, 0, "local/none"),
    rules=(),
    memberships=(Membership("assigned", "tgp_domain", "assignment", "thing_id", "small", "username"),),
    latency=None,
    roles=ROLES,
    path="",
    text="",
)
SOURCE, CHUNKS = sql.Identifier("tgp_domain", "thing"), sql.Identifier("rag_tgp_domain", "thing")


@contextmanager
def undone(connection: psycopg.Connection) -> Iterator[None]:
    """What is done inside is rolled back at the end."""
    with connection.transaction(force_rollback=True):
        yield


@pytest.fixture
def world(admin: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """Roles, a source table and a chunk table with row-level security, gone after the test."""
    with undone(admin):
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(type_)) for name, type_ in TYPES.items()
        )
        admin.execute("SET LOCAL TimeZone = 'UTC'; SET LOCAL client_min_messages = warning")
        for role in ROLES:
            admin.execute(f"CREATE ROLE {role}")
        admin.execute(f"CREATE ROLE {PERSON} IN ROLE tidegate_reader")
        admin.execute("CREATE SCHEMA tgp_domain; CREATE SCHEMA rag_tgp_domain")
        admin.execute("CREATE TYPE tgp_domain.mood AS ENUM ('calm', 'cross')")
        admin.execute("CREATE TABLE tgp_domain.assignment (thing_id int, username text)")
        for table in (SOURCE, CHUNKS):
            admin.execute(sql.SQL("CREATE TABLE {} ({})").format(table, columns))
            admin.execute(sql.SQL("GRANT SELECT, DELETE ON {} TO PUBLIC").format(table))
        admin.execute("GRANT USAGE ON SCHEMA tgp_domain, rag_tgp_domain TO PUBLIC")
        admin.execute(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(CHUNKS))
        admin.execute(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(CHUNKS))
        admin.execute(
            sql.SQL("CREATE POLICY worker ON {} FOR ALL TO tidegate_worker USING (true) WITH CHECK (true)").format(
                CHUNKS
            )
        )
        yield admin


def contract_of(case: Case) -> Contract:
    rules = tuple(
        read_rule(
            "r" * (62 if number % 2 else 1) + str(number),
            effect,
            to,
            when,
            columns=TYPES,
            memberships={"assigned": "small"},
        )
        for number, (effect, to, when) in enumerate(case.rules)
    )
    return replace(CONTRACT, rules=rules)


def set_up(world: psycopg.Connection, case: Case, contract: Contract) -> datetime:
    """Rows, policies, the person's roles and attributes; returns the transaction's now."""
    now: datetime = world.execute("SELECT now()").fetchone()[0]
    placeholders = sql.SQL(", ").join(sql.Placeholder() * len(TYPES))
    for number, row in enumerate(case.rows, start=1):
        values = [number, *(row[name] for name in list(TYPES)[1:])]
        at, at2 = list(TYPES).index("at"), list(TYPES).index("at2")
        if isinstance(values[at], timedelta):
            values[at] = now + values[at]
        if isinstance(values[at2], timedelta):
            values[at2] = (now + values[at2]).replace(tzinfo=None)
        for table in (SOURCE, CHUNKS):
            world.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(table, placeholders), values)
    with patch("tidegate.govern.membership_function.MANY", 0 if case.many else 3000):
        world.execute(membership_functions(contract, contract.memberships[0]))
    for policy in policies(contract):
        world.execute(policy.create(CHUNKS))
        world.execute(policy.mark(CHUNKS))
    for role in case.roles:
        world.execute(f"GRANT {role} TO {PERSON}")
    for name, values in case.attributes.items():
        world.execute(
            "INSERT INTO tidegate.principal_attribute (principal, attribute, attribute_values) VALUES (%s, %s, %s)",
            (PERSON, name, values),
        )
    for key in case.memberships:
        world.execute("INSERT INTO tgp_domain.assignment VALUES (%s, %s)", (key, PERSON))
    world.execute("INSERT INTO tgp_domain.assignment VALUES (NULL, %s), (1, 'somebody_else')", (PERSON,))
    if case.glass is not None:
        world.execute(f"GRANT tidegate_emergency TO {PERSON}")
        world.execute(
            "INSERT INTO tidegate.break_glass (principal, role_oid, products, reason, granted_at, expires_at, ended_at) "
            "SELECT %s, %s::regrole, %s, 'a test', now() - interval '1 hour', now() + %s, %s",
            (
                *(PERSON, PERSON, ["tgp_domain.other"] if case.glass == "elsewhere" else ["tgp_domain.thing"]),
                *(timedelta(minutes=-1 if case.glass == "expired" else 60), now if case.glass == "ended" else None),
            ),
        )
    return now


def ids(world: psycopg.Connection, query: sql.Composable) -> set[int]:
    return {row[0] for row in world.execute(query)}


@pytest.mark.timeout(600 + CASES)
@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=cases())
def test_what_rls_lets_through_is_what_the_evaluator_says(world: psycopg.Connection, case: Case) -> None:
    contract = contract_of(case)
    with undone(world):
        now = set_up(world, case, contract)
        cursor = world.execute(sql.SQL("SELECT * FROM {}").format(SOURCE))
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, values, strict=True)) for values in cursor]
        members = {"assigned": case.memberships}
        expected = {
            row["id"]
            for row in rows
            if case.glass == "active" or visible(contract.rules, row, case.roles, case.attributes, now, members)
        }
        assert contract == Contract.from_spec(contract.to_spec())

        world.execute(f"SET LOCAL ROLE {PERSON}")
        # Whatever a caller may set changes nothing.
        world.execute("SELECT set_config('TimeZone', %s, true)", (case.zone,))
        world.execute("SELECT set_config('DateStyle', %s, true)", (case.date_style,))
        by_policy = ids(world, sql.SQL("SELECT id FROM {}").format(CHUNKS))
        assert by_policy == expected, "row-level security"
        live = row_visible(contract, sql.Identifier("s"))
        found = ids(world, sql.SQL("SELECT s.id FROM {} s WHERE {}").format(SOURCE, live))
        assert found == expected, "the condition on the source row"
        world.execute("RESET ROLE")
        named = row_visible(contract, sql.Identifier("s"), NamedRole(PERSON))
        asked = ids(world, sql.SQL("SELECT s.id FROM {} s WHERE {}").format(SOURCE, named))
        assert asked == expected, "the condition that an administrator asks about a role"
        filled = sql.SQL("SELECT t.id FROM {} t WHERE {}").format(SOURCE, narrowed(world, case, contract))
        assert case.glass == "active" or ids(world, filled) == expected, "the stored conditions, filled in"


def narrowed(world: psycopg.Connection, case: Case, contract: Contract) -> sql.Composed:
    """The rules' stored conditions with the person's values in their places, put together as a search does."""
    allowed, needed = [sql.SQL("false")], [sql.SQL("true")]
    for rule, stored in zip(contract.rules, compiled_rules(contract), strict=True):
        condition = sql.SQL("({})").format(filled(world, json.loads(json.dumps(stored["condition"])), case.many))
        has_role = bool(case.roles & set(stored["roles"]))
        if rule.effect == "allow":
            allowed += [condition] if has_role else []
        elif rule.effect == "require":
            needed.append(condition)
        elif has_role or not rule.to:
            needed.append(sql.SQL("({} IS FALSE)").format(condition))
    return sql.SQL("coalesce(({}) AND {}, false)").format(sql.SQL(" OR ").join(allowed), sql.SQL(" AND ").join(needed))


def filled(world: psycopg.Connection, condition: list[Any], lookup: bool) -> sql.Composed:
    parts: list[sql.Composable] = []
    for piece in condition:
        if isinstance(piece, str):
            parts.append(sql.SQL(piece))
        elif "attribute" in piece:
            asked = sql.SQL("SELECT v::text, pg_typeof(v)::text FROM (SELECT {}({}, {}) AS v) AS q").format(
                sql.Identifier("tidegate", piece["function"] + "_of"),
                sql.Literal(PERSON),
                sql.Literal(piece["attribute"]),
            )
            value, type_ = world.execute(asked).fetchone() or (None, "text")
            parts.append(sql.SQL("({}::{})").format(sql.Literal(value), sql.SQL(type_)))
        elif lookup:
            parts.append(sql.SQL(f"{piece['has_of']}({{}}, {piece['column']})").format(sql.Literal(PERSON)))
        else:
            member = sql.SQL(f"SELECT {piece['of']}({{}})::text").format(sql.Literal(PERSON))
            (values,) = world.execute(member).fetchone() or (None,)
            parts.append(sql.SQL(f"{piece['column']} = ANY ({{}}::{piece['type']}[])").format(sql.Literal(values)))
    return sql.Composed(parts)


@pytest.mark.timeout(600 + CASES)
@settings(max_examples=max(CASES // 10, 5), deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_the_worker_reads_and_deletes_whatever_the_rules_are(world: psycopg.Connection, case: Case) -> None:
    with undone(world):
        set_up(world, case, contract_of(case))
        world.execute("SET LOCAL ROLE tidegate_worker")
        everything = set(range(1, len(case.rows) + 1))
        assert ids(world, sql.SQL("SELECT id FROM {}").format(CHUNKS)) == everything
        assert ids(world, sql.SQL("DELETE FROM {} WHERE id > 0 RETURNING id").format(CHUNKS)) == everything
        world.execute("RESET ROLE")


NOTHING = dict.fromkeys(ROW_VALUES)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    ("when", "at"),
    [
        ("row.at <= user.timestamptz", datetime(2026, 1, 31, 3, tzinfo=UTC)),  # after midnight in UTC only
        ("row.at >= user.timestamptz", datetime(2026, 1, 30, 22, tzinfo=UTC)),
        ("row.at <= '2026-01-31'", datetime(2026, 1, 31, 3, tzinfo=UTC)),
        ("row.at2 > now()", timedelta(hours=-1)),
        ("row.at2 < now() - '1 day'", timedelta(hours=-23)),
    ],
)
def test_a_callers_time_zone_moves_nothing(world: psycopg.Connection, when: str, at: object, zone: str) -> None:
    column = "at2" if "at2" in when else "at"
    case = Case(
        rules=(("allow", ROLES[:1], when),),
        rows=({**NOTHING, column: at},),
        roles=frozenset(ROLES),
        attributes={"timestamptz": ["2026-01-31T00:00:00"]},
        memberships=frozenset(),
        zone=zone,
        date_style="ISO, MDY",
    )
    with undone(world):
        set_up(world, case, contract_of(case))
        world.execute(f"SET LOCAL ROLE {PERSON}")
        world.execute("SELECT set_config('TimeZone', %s, true)", (zone,))
        assert ids(world, sql.SQL("SELECT id FROM {}").format(CHUNKS)) == set()
        world.execute("RESET ROLE")

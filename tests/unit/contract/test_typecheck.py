"""The type check: what compares with what, and what a rule must speak of."""

from decimal import Decimal

import pytest

from tidegate.contract.expression import Column, Compare, In, Literal, Member, UserAttribute
from tidegate.contract.family import Family, family, physical_type
from tidegate.contract.grammar import parse
from tidegate.contract.operand import RuleTypeError
from tidegate.contract.typecheck import check

COLUMNS = {
    "id": "bigint", "small": "smallint", "price": "numeric(10,2)", "ratio": "real", "flag": "boolean",
    "other_flag": "boolean", "tenant": "uuid", "region": "text", "code": "varchar(3)", "mail": "citext",
    "at": "timestamptz", "at2": "timestamp(3) without time zone", "day": "date", "mood": "support.mood",
    "tags": "text[]", "blob": "jsonb",
}  # fmt: skip


def typed(text, effect="require"):
    return check(parse(text), COLUMNS, effect=effect, memberships={"assigned": "id"})


@pytest.mark.parametrize(
    "text",
    [
        "row.id = 5 and row.small < row.id and row.price >= 1.5 and row.id < 2.5 and row.ratio > 0",
        "row.region < 'm' and row.region != row.code and row.code in ['a', 'b']",
        "row.mail = 'A@b.c' and row.mail in user.mails and row.mood = 'calm' and row.mood in ['cross']",
        "row.flag and row.flag = true and row.flag != row.other_flag and row.flag = user.ok",
        "row.tenant = '00000000-0000-0000-0000-00000000000A' and row.tenant in user.tenants",
        "row.at > now() - '90 days' and row.at2 <= now() and row.day = now() and row.at < row.at2",
        "row.at > '2026-01-31' and row.at2 > '2026-01-31T10:00:00+02:00' and row.day >= '2026-01-31'",
        "row.tags is null or row.blob is not null",
        "user.clearance >= 3 and 'eu' in user.regions and user.tier in ['a', 'b'] and user.until > now()",
        "member(assigned)",
    ],
)
def test_passes(text):
    typed(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row.nope = 1", "there is no column nope"),
        ("row.regoin = 'x'", "did you mean row.region"),
        ("row.id = 'x'", "cannot be compared with 'x'"),
        ("row.id = true", "cannot be compared with true"),
        ("row.flag = 1", "cannot be compared with 1"),
        ("row.id = 9223372036854775808", "cannot be compared"),
        ("row.region = 1", "cannot be compared"),
        ("row.region = row.id", "cannot be compared"),
        ("row.tenant = 'x'", "cannot be compared"),
        ("row.tenant = row.region", "cannot be compared"),
        ("row.day = '2026-02-30'", "cannot be compared"),
        ("row.day = '2026-01-31T00:00'", "cannot be compared"),
        ("row.at = 'yesterday'", "cannot be compared"),
        ("row.at = 'infinity'", "cannot be compared"),
        ("row.at = '0001-01-01T00:00+14:00'", "cannot be compared"),
        ("row.day = row.at", "cannot be compared"),
        ("row.id > now()", "cannot be compared with now"),
        ("row.mail = row.region", "cannot be compared"),
        ("row.tenant < user.tenant", "has no order"),
        ("row.flag >= false", "has no order"),
        ("row.mood > 'calm'", "has no order"),
        ("row.mail > 'a'", "has no order"),
        ("row.region in ['a', 1]", "cannot be compared with 1"),
        ("row.tags = 'x'", "cannot be compared"),
        ("row.blob = 'x'", "cannot be compared"),
        ("row.region", "only a boolean column"),
        ("user.a = user.b", "must speak of the row"),
        ("1 = 1", "must speak of the row"),
        ("now() > '2026-01-01'", "must speak of the row"),
        ("user.a in user.b", "must speak of the row"),
        ("1 in [1]", "must speak of the row"),
        ("now() in user.times", "must speak of the row"),
        ("user.a in ['x', 1]", "mixes types"),
        ("member(nobody)", "not declared"),
    ],
)
def test_refuses(text, message):
    with pytest.raises(RuleTypeError, match=message):
        typed(text)


def test_an_unknown_column_lists_the_columns_there_are():
    with pytest.raises(RuleTypeError) as caught:
        typed("row.nope")
    assert caught.value.allowed == tuple(COLUMNS)


@pytest.mark.parametrize("text", ["user.clearance < 3", "'x' in user.groups", "user.a in ['x']"])
def test_deny_must_speak_of_the_row(text):
    typed(text, "require")
    typed(text, "allow")
    with pytest.raises(RuleTypeError, match="speak of the row"):
        typed(text, "deny")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("row.small <= user.x", Family.INTEGER), ("row.price = user.x", Family.NUMERIC),
        ("row.tenant = user.x", Family.UUID), ("user.x != row.flag", Family.BOOLEAN),
        ("row.at2 < user.x", Family.TIMESTAMPTZ), ("row.day < user.x", Family.DATE),
        ("row.mood = user.x", Family.TEXT), ("row.code = user.x", Family.TEXT),
        ("row.mail = user.x", Family.CITEXT),
        ("user.x >= 3", Family.INTEGER), ("user.x >= 3.5", Family.NUMERIC), ("user.x = true", Family.BOOLEAN),
        ("user.x > now()", Family.TIMESTAMPTZ), ("user.x in [1, 2.5]", Family.NUMERIC),
    ],
)  # fmt: skip
def test_an_attribute_takes_the_type_of_the_other_side(text, wanted):
    tree = typed(text)
    sides = (tree.operand,) if isinstance(tree, In) else (tree.left, tree.right)
    assert UserAttribute("x", wanted) in sides


def test_nodes_carry_their_types():
    assert typed("row.region in user.regions") == In(
        Column("region", "text"), UserAttribute("regions", Family.TEXT, many=True)
    )
    assert typed("row.id < 2.5") == Compare("<", Column("id", "bigint"), Literal(Decimal("2.5"), Family.NUMERIC))
    assert typed("member(assigned)") == Member("assigned", Column("id", "bigint"))


@pytest.mark.parametrize(
    "name",
    [
        *(
            "bigint",
            "VARCHAR(20)",
            "numeric(10, 2)",
            "double precision",
            "timestamp(3) with time zone",
            "text[]",
        ),
        *("support.mood", "character  varying(5)", "timestamptz(6)"),
    ],
)
def test_physical_types_that_may_be_cast_to(name):
    assert physical_type(physical_type(name)) == physical_type(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "bigint; drop table x",
        "text)",
        "text--",
        "int primary key",
        "a.b.c",
        '"Mood"',
        "text[][]",
        "bigserial",
        "numeric(10,2,3)",
        "text collate x",
        "int/**/",
        "ｔext",
        "numeric(a)",
        "x" * 200,
        "text default now()",
        "int'",
    ],
)
def test_physical_types_that_may_not(name):
    with pytest.raises(ValueError):
        physical_type(name)


def test_families():
    assert family("pg_catalog.int4") is Family.INTEGER
    assert family("public.citext") is Family.CITEXT
    assert family("timestamp(3) with time zone") is Family.TIMESTAMPTZ
    assert family("numeric(10,2)[]") is Family.UNSUPPORTED

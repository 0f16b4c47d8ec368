"""The grammar: what it reads, what it refuses and where, and that no text gets through it as SQL."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_strategies import expressions

from tidegate.contract.expression import (
    And,
    BoolColumn,
    Column,
    Compare,
    In,
    IsNull,
    Literal,
    Member,
    Not,
    Now,
    Offset,
    Or,
    UserAttribute,
    render,
)
from tidegate.contract.grammar import MAX_DEPTH, parse
from tidegate.contract.tokens import MAX_LENGTH, RuleSyntaxError

A, B, C = (BoolColumn(Column(name)) for name in "abc")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("row.a", A),
        ("row.a or row.b and row.c", Or((A, And((B, C))))),
        ("(row.a or row.b) and not row.c", And((Or((A, B)), Not(C)))),
        ("row.a and row.b and row.c", And((A, B, C))),
        ("((row.a))", A),
        ("not (not row.a)", Not(Not(A))),
        ("row.tenant_id = user.tenant", Compare("=", Column("tenant_id"), UserAttribute("tenant"))),
        ("row.x!='it''s'", Compare("!=", Column("x"), Literal("it's"))),
        ("row.x = ''", Compare("=", Column("x"), Literal(""))),
        ("row.x >= -3", Compare(">=", Column("x"), Literal(-3))),
        ("row.x < 1.50", Compare("<", Column("x"), Literal(Decimal("1.50")))),
        ("row.x = true", Compare("=", Column("x"), Literal(True))),
        ("user.clearance >= 3", Compare(">=", UserAttribute("clearance"), Literal(3))),
        ("row.x in user.xs", In(Column("x"), UserAttribute("xs"))),
        ("row.x in ['a', 'b']", In(Column("x"), (Literal("a"), Literal("b")))),
        ("row.x is null", IsNull(Column("x"))),
        ("row.x is not null", IsNull(Column("x"), negated=True)),
        ("member(assigned)", Member("assigned")),
        ("row.at > now() - '90 days'", Compare(">", Column("at"), Now(Offset(-1, 90, "day")))),
        ("row.at <= now()\n  + '1 hour'", Compare("<=", Column("at"), Now(Offset(1, 1, "hour")))),
        ("now() > row.at", Compare(">", Now(), Column("at"))),
        ("row.and = row.null", Compare("=", Column("and"), Column("null"))),
        ("row." + "x" * 63, BoolColumn(Column("x" * 63))),
    ],
)
def test_reads(text, tree):
    assert parse(text) == tree
    assert repr(parse(render(tree))) == repr(tree)  # repr tells True from 1 and 1.5 from 1.50


@pytest.mark.parametrize(
    ("text", "position", "token", "expected"),
    [
        ("", 0, "", "row.COLUMN"),
        ("row.a and", 9, "", "row.COLUMN"),
        ("row.a row.b", 6, "row.b", "the end of the rule"),
        ("(row.a", 6, "", '")"'),
        ("row.a)", 5, ")", "the end of the rule"),
        ("row.a AND row.b", 6, "A", "lower-case keyword"),
        ("region = 'eu'", 0, "region", "row.region"),
        ("not not row.a", 4, "not", "row.COLUMN"),
        ("user.a", 6, "", '"in" or one of'),
        ("row.a in ()", 9, "(", "user.ATTRIBUTE or a list"),
        ("row.a in []", 10, "]", "a literal"),
        ("row.a in ['x',]", 14, "]", "a literal"),
        ("row.a in ['x' 'y']", 14, "'y'", '","'),
        ("row.a in [row.b]", 10, "row.b", "a literal"),
        ("row.a is true", 9, "true", '"null"'),
        ("row.a == 1", 6, "==", '"="'),
        ("row.a <> 1", 6, "<>", '"!="'),
        ("row.a = 1 && row.b", 10, "&&", '"and"'),
        ("row.a = 1 || row.b", 10, "||", '"or"'),
        ("row.a = 'x", 8, "'x", "a closing '"),
        ("row.a = now() - '90 parsecs'", 16, "'90 parsecs'", "'90 days'"),
        ("row.a = now() - 90", 16, "90", "'90 days'"),
        ("row.a = now( - )", 13, "-", '")"'),
        ("row.a like 'x%'", 6, "like", "the end of the rule"),
        ("member(a.b)", 8, ".", "an operator"),
        ("member(row.a)", 7, "row.a", "the name of a membership"),
        ("lower(row.a) = 'x'", 0, "lower", "row.COLUMN"),
        ("row.a = 1e5", 8, "1e", "a whole number"),
        ("row.a = 0x10", 8, "0x", "a whole number"),
        ("row.a = " + "9" * 39, 8, "9" * 39, "38 digits"),
        ("row.a.b", 5, ".", "an operator"),
        ("row.", 4, "", "a lower-case name"),
        ("row.Tenant = 1", 4, "T", "a lower-case name"),
        ("row." + "x" * 64, 0, "x" * 64, "63 bytes"),
        ("user." + "x" * 64 + " = row.a", 0, "x" * 64, "63 bytes"),
        ("member(" + "x" * 64 + ")", 7, "x" * 64, "63 bytes"),
    ],
)
def test_refuses_with_position(text, position, token, expected):
    with pytest.raises(RuleSyntaxError) as caught:
        parse(text)
    assert (caught.value.position, caught.value.token) == (position, token)
    assert expected in caught.value.expected
    assert str(caught.value).startswith(f"at character {position + 1}: ")


@pytest.mark.parametrize(
    "text",
    [
        "row.a; drop table x",
        "row.a -- comment",
        "row.a /* comment */",
        'row."a" = 1',
        'row.a = "x"',
        "row.a = $$x$$",
        "row.a = E'\\''",
        "row.a = 'x'::regclass",
        "row.a = (select 1)",
        "row.a = current_user",
        "row.a = current_setting('x')",
        "row.a = 'x' || 'y'",
        "row.a = 'x\x00'",
        "row.a = 'x\ny'",
        "row.a = '\ud800'",
        "row.ａ = 1",
        "row.a\u00a0= 1",
        "row.a = ＇x＇",
        "row.a = ١",
        "row.a\u202e = 1",
        "rоw.a = 1",  # a Cyrillic о
        "row.a = 1 union select 2",
        "true",
        "1 = ",
    ],
)
def test_refuses_what_could_be_sql(text):
    with pytest.raises(RuleSyntaxError):
        parse(text)


def test_quotes_backslashes_and_unicode_stay_inside_their_string():
    tree = parse("row.a = '''; drop table x; -- \\'''")
    assert tree == Compare("=", Column("a"), Literal("'; drop table x; -- \\'"))
    assert parse("row.a = 'Zürich 東京 ❤'") == Compare("=", Column("a"), Literal("Zürich 東京 ❤"))


@pytest.mark.parametrize("text", ["not " * 10_000 + "row.a", "(" * 10_000 + "row.a" + ")" * 10_000, "(" * 3_000])
def test_depth_and_length_are_bounded(text):
    with pytest.raises(RuleSyntaxError):
        parse(text)


def test_bounds_are_where_they_say():
    assert parse("(" * MAX_DEPTH + "row.a" + ")" * MAX_DEPTH) == A
    with pytest.raises(RuleSyntaxError, match="at most 40 parentheses"):
        parse("(" * (MAX_DEPTH + 1) + "row.a" + ")" * (MAX_DEPTH + 1))
    assert parse("row.a".ljust(MAX_LENGTH)) == A
    with pytest.raises(RuleSyntaxError, match="too long"):
        parse("row.a".ljust(MAX_LENGTH + 1))


@given(expressions)
def test_rendering_and_parsing_is_the_identity(tree):
    assert repr(parse(render(tree))) == repr(tree)


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(["row.a", "user.b", "and", "or", "not", "(", ")", "in", "[", "]", ",", "'x'", "1", "now", "-"])
        | st.sampled_from(["is", "null", "=", "<", "member", "m", "'", ";", "--", "\\", "\x00", "ü"]),
        max_size=12,
    ).map(" ".join)
)
def test_any_text_parses_or_says_where_it_fails(text):
    error = None
    try:
        tree = parse(text)
    except RuleSyntaxError as caught:
        error = caught
    if error is None:
        assert parse(render(tree)) == tree
    else:
        assert 0 <= error.position <= len(text)
        assert error.expected

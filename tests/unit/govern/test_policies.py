"""The SQL that access rules become, as text: a reviewer reads it, so a test does too."""

from dataclasses import replace
from pathlib import Path

import pytest
from psycopg import sql

from tidegate.contract.grammar import parse
from tidegate.contract.membership import Membership
from tidegate.contract.odcs import load_contract
from tidegate.contract.rule import read_rule
from tidegate.contract.typecheck import check
from tidegate.govern.asker import NamedRole, Open, pieces
from tidegate.govern.compiler import compile_expression
from tidegate.govern.membership_function import membership_functions
from tidegate.govern.policies import policies, row_visible

EXAMPLE = load_contract(Path(__file__).parents[1] / "contract/data/support.ticket.odcs.yaml")
GLASS = "(SELECT tidegate.breaks_glass('support.ticket'))"
WORKER = f"(SELECT current_user = 'tidegate_worker') OR {GLASS} OR "
TYPES = {
    **{"id": "bigint", "flag": "boolean", "tenant": "uuid", "region": "text", "code": "varchar(3)"},
    **{"pad": "char(4)", "mail": "public.citext", "mood": "support.mood", "at": "timestamptz"},
    **{"at2": "timestamp", "day": "date", "ratio": "real", "tags": "text[]"},
}


def compiled(text, row=None, **more):
    return compile_expression(check(parse(text), TYPES, memberships={"assigned": "id"}), row, **more).as_string(None)


def test_policies_of_the_example():
    assert [(policy.name, policy.kind, policy.to, policy.using.as_string(None)) for policy in policies(EXAMPLE)] == [
        (
            "tidegate_require_tenant",
            "restrictive",
            (),
            WORKER + """("tenant_id" = (SELECT "tidegate"."attribute_uuid"('tenant')))""",
        ),
        (
            "tidegate_require_clearance",
            "restrictive",
            (),
            WORKER + """("level" <= (SELECT "tidegate"."attribute_bigint"('clearance')))""",
        ),
        (
            "tidegate_allow_region",
            "permissive",
            ("support_agent", "tidegate_gateway"),
            "((SELECT tidegate.acts_as('support_agent')) AND "
            """("region" = ANY (((SELECT "tidegate"."attribute_texts"('regions')))::text[])))""",
        ),
        (
            "tidegate_allow_legal",
            "permissive",
            ("legal_reviewer", "tidegate_gateway"),
            "(SELECT tidegate.acts_as('legal_reviewer'))",
        ),
        (
            "tidegate_deny_hold",
            "restrictive",
            (),
            WORKER + """NOT ((SELECT tidegate.acts_as('support_agent'))) OR ("legal_hold") IS FALSE""",
        ),
        ("tidegate_break_glass", "permissive", ("tidegate_emergency",), GLASS),
        # What definer functions see of the chunks: what the session's caller sees.
        ("tidegate_owner", "permissive", ("tidegate_owner",), row_visible(EXAMPLE).as_string(None)),
    ]


def test_statements_of_a_policy():
    tenant, *_, legal, _, _, _ = policies(EXAMPLE)
    table = sql.Identifier("rag_support", "ticket")
    assert tenant.create(table).as_string(None) == (
        'CREATE POLICY "tidegate_require_tenant" ON "rag_support"."ticket" AS RESTRICTIVE '
        "FOR SELECT TO PUBLIC "
        f"""USING ({WORKER}("tenant_id" = (SELECT "tidegate"."attribute_uuid"('tenant'))))"""
    )
    assert 'FOR SELECT TO "legal_reviewer", "tidegate_gateway" USING' in legal.create(table).as_string(None)
    assert legal.alter(table).as_string(None) == (
        'ALTER POLICY "tidegate_allow_legal" ON "rag_support"."ticket" TO "legal_reviewer", "tidegate_gateway" '
        "USING ((SELECT tidegate.acts_as('legal_reviewer')))"
    )
    assert (
        tenant.alter(table)
        .as_string(None)
        .startswith('ALTER POLICY "tidegate_require_tenant" ON "rag_support"."ticket" TO PUBLIC USING (')
    )
    mark = tenant.mark(table).as_string(None)
    assert mark.startswith('COMMENT ON POLICY "tidegate_require_tenant" ON "rag_support"."ticket" IS \'tidegate ')
    assert "support.ticket 1.0.0 rule=tenant sha256=" in mark


def test_the_condition_on_the_source_row():
    assert row_visible(EXAMPLE, sql.Identifier("s")).as_string(None) == (
        f"({GLASS} OR coalesce((((SELECT tidegate.acts_as('support_agent')) AND "
        """("s"."region" = ANY (((SELECT "tidegate"."attribute_texts"('regions')))::text[]))) """
        "OR (SELECT tidegate.acts_as('legal_reviewer'))) "
        """AND ("s"."tenant_id" = (SELECT "tidegate"."attribute_uuid"('tenant'))) """
        """AND ("s"."level" <= (SELECT "tidegate"."attribute_bigint"('clearance'))) """
        'AND (NOT ((SELECT tidegate.acts_as(\'support_agent\'))) OR ("s"."legal_hold") IS FALSE), false))'
    )


def test_no_allow_rule_shows_nothing():
    only_require = replace(EXAMPLE, rules=tuple(rule for rule in EXAMPLE.rules if rule.effect == "require"))
    assert row_visible(only_require).as_string(None) == GLASS
    permissive = {policy.to: policy for policy in policies(only_require) if policy.kind == "permissive"}
    assert list(permissive) == [("tidegate_emergency",), ("tidegate_owner",)]
    assert {policy.using.as_string(None) for policy in permissive.values()} == {GLASS}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("row.flag or row.id = 1 and not row.id = 2", '"flag" OR ("id" = 1 AND (NOT ("id" = 2)))'),
        ("(row.flag or row.id = 1) and row.id != 2", '("flag" OR "id" = 1) AND "id" <> 2'),
        ("row.tags is null and row.id is not null", '"tags" IS NULL AND "id" IS NOT NULL'),
        ("row.region in ['eu', 'it''s']", """"region" IN ('eu', 'it''s')"""),
        ("row.region < 'm'", """"region" COLLATE "C" < 'm'"""),
        ("row.mood = 'calm'", """"mood"::text = 'calm'"""),
        ("row.pad = 'x'", """"pad"::text = 'x'"""),
        ("row.code = 'x'", """"code" = 'x'"""),
        ("row.ratio in [1, 0.5]", '"ratio"::double precision IN (1, 0.5)'),
        ("row.mail = 'A@b.c'", """"mail" = 'A@b.c'::public.citext"""),
        (
            "row.mail in user.m",
            """"mail" = ANY (((SELECT "tidegate"."attribute_texts"('m')))::public.citext[])""",
        ),
        ("row.mail = user.m", """"mail" = (SELECT "tidegate"."attribute_text"('m'))::public.citext"""),
        ("row.tenant in user.t", """"tenant" = ANY (((SELECT "tidegate"."attribute_uuids"('t')))::uuid[])"""),
        ("row.at >= now()", '"at" >= now()'),
        (
            "row.at >= now() - '90 days'",
            """"at" >= (((now() AT TIME ZONE 'UTC') - '90 day'::interval) AT TIME ZONE 'UTC')""",
        ),
        ("row.at2 <= now()", """("at2" AT TIME ZONE 'UTC') <= now()"""),
        ("row.day <= now()", """("day"::timestamp AT TIME ZONE 'UTC') <= now()"""),
        ("row.day <= '2026-01-31'", """"day" <= '2026-01-31'::date"""),
        ("row.at < '2026-01-31T10:00+02:00'", """"at" < '2026-01-31 08:00:00+00:00'::timestamptz"""),
        ("row.at < '2026-01-31'", """"at" < '2026-01-31 00:00:00+00:00'::timestamptz"""),
        (
            "'eu' in user.regions",
            """'eu' = ANY (((SELECT "tidegate"."attribute_texts"('regions')))::text[])""",
        ),
        ("user.c >= 3", """(SELECT "tidegate"."attribute_bigint"('c')) >= 3"""),
    ],
)
def test_expressions(text, expected):
    assert compiled(text) == expected


@pytest.mark.parametrize("value", ["'; drop table x; --", "\\", "\\'", "$$", "%s %(x)s {} {0}", "é\u2028❤", '"'])
def test_a_literal_stays_one_literal(value):
    text = compiled("row.region = '" + value.replace("'", "''") + "'")
    head, _, literal = text.partition(" = ")
    assert head == '"region"'
    assert literal.strip().removeprefix("E").startswith("'")
    inside = literal.strip().removeprefix("E")[1:-1].replace("\\\\", "\\")
    assert "'" not in inside.replace("''", "")
    assert inside.replace("''", "'") == value


def test_another_asker_can_stand_in_for_the_caller():
    assert compiled("row.region in user.t", asker=NamedRole("al'ice")) == (
        """"region" = ANY (((SELECT "tidegate"."attribute_texts_of"('al''ice', 't')))::text[])"""
    )


def test_an_unchecked_expression_is_not_compiled():
    with pytest.raises(ValueError, match="type check"):
        compile_expression(parse("row.id = user.x"))


def with_members():
    membership = Membership("assigned", "support", "assignment", "ticket_id", "id", "username")
    rule = read_rule(
        "mine",
        "allow",
        ["support_agent"],
        "member(assigned)",
        columns=EXAMPLE.column_types,
        memberships={"assigned": "id"},
    )
    return replace(EXAMPLE, memberships=(membership,), rules=(rule,)), membership


def test_memberships():
    contract, membership = with_members()
    assert policies(contract)[0].using.as_string(None) == (
        "((SELECT tidegate.acts_as('support_agent')) AND "
        '(CASE WHEN (SELECT "rag_support"."member_ticket_assigned_many"()) '
        'THEN "rag_support"."member_ticket_assigned_has"("id") '
        'ELSE "id" = ANY ((SELECT "rag_support"."member_ticket_assigned"())::bigint[]) END))'
    )
    assert row_visible(contract, sql.Identifier("s"), NamedRole("alice")).as_string(None) == (
        "((SELECT tidegate.breaks_glass_of('alice', 'support.ticket')) OR "
        "coalesce((((SELECT tidegate.acts_as_of('alice', 'support_agent')) AND "
        """(CASE WHEN (SELECT "rag_support"."member_ticket_assigned_many_of"('alice')) """
        """THEN "rag_support"."member_ticket_assigned_has_of"('alice', "s"."id") """
        """ELSE "s"."id" = ANY ((SELECT "rag_support"."member_ticket_assigned_of"('alice'))::bigint[]) END))), false))"""
    )
    made = membership_functions(contract, membership).as_string(None)
    assert made.count("LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$\n") == 6
    assert 'SELECT array_agg(m."ticket_id"::bigint) FROM "support"."assignment" m' in made
    assert 'WHERE m."username"::text = $1' in made
    assert "'{}') END" in made
    *_, revoked, granted = made.split(";\n")
    assert revoked.endswith(" FROM PUBLIC")
    assert revoked.count("member_ticket_assigned") == 6
    assert granted.startswith("GRANT EXECUTE ON FUNCTION ")
    assert granted.count("member_ticket_assigned") == 3
    assert "_of" not in granted
    with pytest.raises(ValueError, match="needs its contract"):
        compile_expression(contract.rules[0].when)


def test_names_fit_and_stay_apart():
    twins = ["r" * 62 + end for end in "ab"]
    rules = tuple(
        read_rule(name, "require", [], "row.legal_hold", columns=EXAMPLE.column_types, memberships={}) for name in twins
    )
    names = [policy.name for policy in policies(replace(EXAMPLE, rules=rules)) if policy.rule]
    assert len(set(names)) == 2
    assert all(len(name.encode()) == 63 for name in names)


def test_the_mark_follows_what_the_rule_says():
    def mark(text, to=()):
        rule = read_rule("r", "deny", to, text, columns=EXAMPLE.column_types, memberships={})
        return policies(replace(EXAMPLE, rules=(rule,)))[0].comment

    assert mark("row.legal_hold") == mark("(row.legal_hold)")
    assert mark("row.legal_hold") != mark("row.legal_hold = true")
    assert mark("row.legal_hold") != mark("row.legal_hold", ["support_agent"])


def test_pieces_leave_places_for_the_caller():
    found = pieces(compiled_open("row.tenant = user.tenant and row.region in user.regions and member(assigned)"))
    assert found == [
        '"t"."tenant" = ',
        {"attribute": "tenant", "function": "attribute_uuid"},
        ' AND "t"."region" = ANY ((',
        {"attribute": "regions", "function": "attribute_texts"},
        ")::text[]) AND ",
        {
            "member": '"rag_support"."member_ticket_assigned"',
            "of": '"rag_support"."member_ticket_assigned_of"',
            "many": '"rag_support"."member_ticket_assigned_many"',
            "many_of": '"rag_support"."member_ticket_assigned_many_of"',
            "has": '"rag_support"."member_ticket_assigned_has"',
            "has_of": '"rag_support"."member_ticket_assigned_has_of"',
            "column": '"t"."id"',
            "type": "bigint",
        },
    ]


def test_a_text_in_a_rule_is_not_taken_for_a_place():
    trick = '{"attribute": "tenant"}'
    assert pieces(compiled_open(f"row.region = '{trick}'")) == [f""""t"."region" = '{trick}'"""]


def compiled_open(text):
    checked = check(parse(text), TYPES, memberships={"assigned": "id"})
    return compile_expression(checked, sql.Identifier("t"), contract=EXAMPLE, asker=Open())

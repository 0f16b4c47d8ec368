"""Explanations: which rule lets her, which stops her, with the values that decided."""

import json
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.types.json import Jsonb
from tests.security.conftest import ALLOW, World, contract, ids
from typer.testing import CliRunner

from tidegate.cli import app
from tidegate.errors import UsageError
from tidegate.govern.explain import parse_key

TENANT = {"id": "tenant", "effect": "require", "when": "row.price = user.budget"}
DEAR = {"id": "dear", "effect": "deny", "to": ["note_reader"], "when": "row.price > 100"}


def explain(world: World, principal: str, key: object = None) -> dict[str, Any]:
    found: dict[str, Any] = world.tide.one(
        "SELECT tidegate.explain_access(%s, 'team.note', %s)", principal, None if key is None else Jsonb(key)
    )
    return found


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    return {rule["rule"]: rule["outcome"] for rule in found["rules"]}


def indexed(world: World, id_: int) -> None:
    """As the worker writes the ledger."""
    world.admin.execute(
        "INSERT INTO tidegate.ledger (product_id, key, position, chunks, state) "
        "SELECT product_id, format('{\"id\":%%s}', %s::int), '{0/1,0/1}', 1, 'indexed' FROM tidegate.product",
        [id_],
    )


class TestARow:
    def test_the_rule_that_lets_her(self, published: World) -> None:
        alice = published.role("alice", "note_reader", regions=["EU"])
        found = explain(published, alice, {"id": 1})
        assert (found["sees"], found["finds"]) == (True, True)
        (rule,) = found["rules"]
        assert (rule["outcome"], rule["condition"], rule["matched"]) == ("lets her", True, ["note_reader"])
        assert rule["why"] == "user.regions = EU; row.region = EU"
        assert found["because"] == ["rule readers lets her: user.regions = EU; row.region = EU"]

    def test_the_rule_that_does_not(self, published: World) -> None:
        alice = published.role("alice", "note_reader", regions=["EU"])
        found = explain(published, alice, {"id": 2})
        assert (found["sees"], found["finds"]) == (False, False)
        assert outcomes(found) == {"readers": "does not let her"}
        assert found["because"] == ["no allow rule opens the row to her"]
        assert ids(published.login(alice)) == {1}

    def test_each_rule_is_told_apart(self, world: World) -> None:
        world.publish(contract(ALLOW, TENANT, DEAR))
        world.note(1, price=200)
        alice = world.role("alice", "note_reader", regions=["EU"], budget=["200"])
        found = explain(world, alice, {"id": 1})
        assert outcomes(found) == {"readers": "lets her", "tenant": "passes", "dear": "stops her"}
        assert not found["sees"]
        assert "rule dear stops her: row.price = 200" in found["because"][1]

    @pytest.mark.parametrize(
        ("values", "problem"),
        [
            (None, "is missing"),
            (["1", "2"], "has 2 values where the rule needs one"),
            (["much"], "is no numeric"),
        ],
    )
    def test_an_attribute_that_is_unusable_is_named(self, world: World, values: list[str] | None, problem: str) -> None:
        world.publish(contract(ALLOW, TENANT))
        world.note(1, price=200)
        given = {} if values is None else {"budget": values}
        found = explain(world, world.role("alice", "note_reader", regions=["EU"], **given), {"id": 1})
        rule = found["rules"][1]
        assert (rule["outcome"], rule["condition"]) == ("stops her", None)
        assert f"user.budget {problem}" in rule["why"]
        assert found["missing_attributes"] == (["budget"] if values is None else [])

    def test_a_null_column_is_named(self, world: World) -> None:
        world.publish(contract(ALLOW, TENANT))
        world.note(1)
        found = explain(world, world.role("alice", "note_reader", regions=["EU"], budget=["1"]), {"id": 1})
        assert found["rules"][1]["why"] == "user.budget = 1; row.price is NULL"

    def test_without_the_rules_role(self, published: World) -> None:
        found = explain(published, published.role("alice", "tidegate_reader", regions=["EU"]), {"id": 1})
        assert outcomes(found) == {"readers": "not for her"}
        assert not found["sees"]
        assert "no SELECT on rag_team.note" in found["because"]
        assert "no USAGE on schema rag_team" in found["because"]
        assert "no allow rule is for a role of hers" in found["because"]

    def test_a_role_that_cannot_log_in(self, published: World) -> None:
        found = explain(published, "note_reader", {"id": 1})
        assert any("cannot log in" in reason for reason in found["because"])

    def test_superusers_and_bypassrls(self, published: World) -> None:
        dba = published.role("dba", "note_reader")
        published.admin.execute(sql.SQL("ALTER ROLE {} BYPASSRLS").format(sql.Identifier(dba)))
        found = explain(published, dba, {"id": 1})
        # Plain SQL shows her everything; a strict search asks the rules all the same.
        assert (found["sees"], found["finds"]) == (True, False)
        assert "BYPASSRLS: row-level security does not apply" in found["because"]
        assert ids(published.login(dba)) == {1, 2}

    def test_break_glass(self, published: World) -> None:
        dba = published.role("dba", "tidegate_emergency")
        assert not explain(published, dba, {"id": 1})["sees"]
        published.admin.execute(
            "INSERT INTO tidegate.break_glass (principal, role_oid, reason, expires_at) "
            "SELECT rolname, oid, 'fire', now() + interval '5 min' FROM pg_roles WHERE rolname = %s",
            [dba],
        )
        found = explain(published, dba, {"id": 1})
        assert found["caller"]["break_glass"]
        assert found["sees"]
        assert ids(published.login(dba)) == {1, 2}

    def test_a_gateway_is_nobody(self, published: World) -> None:
        found = explain(published, published.role("app", "tidegate_gateway", "note_reader", regions=["EU"]), {"id": 1})
        assert not found["sees"]
        assert "without a verified token it is nobody" in found["because"][0]

    def test_a_row_that_is_gone_and_one_that_never_was(self, published: World) -> None:
        alice = published.role("alice", "note_reader", regions=["EU"])
        published.admin.execute("DELETE FROM team.note WHERE id = 1")
        ghost = explain(published, alice, {"id": 1})
        assert (ghost["sees"], ghost["finds"]) == (True, False)
        assert "the row is not in the source" in ghost["because"]
        never = explain(published, alice, {"id": 99})
        assert not never["sees"]
        assert never["because"] == ['there is no row of the key {"id": 99}: not in the source, and not in the index']

    def test_the_index_lags(self, published: World) -> None:
        alice = published.role("alice", "note_reader", regions=["EU"])
        published.admin.execute("UPDATE team.note SET region = 'US' WHERE id = 1")
        found = explain(published, alice, {"id": 1})
        assert (found["sees"], found["finds"]) == (True, False)
        assert found["index"]["differs"] == {"region": {"source": "US", "index": "EU"}}
        assert ids(published.login(alice)) == {1}

    def test_a_parked_row(self, published: World) -> None:
        alice = published.role("alice", "note_reader", regions=["EU"])
        published.note(3, source=True)
        published.admin.execute("DELETE FROM rag_team.note WHERE id = 3")
        published.admin.execute(
            "INSERT INTO tidegate.dead_letter (product_id, key, kind, reason) "
            "SELECT product_id, '{\"id\":3}', 'document', 'too long' FROM tidegate.product"
        )
        found = explain(published, alice, {"id": 3})
        assert not found["sees"]
        assert "the row is parked as a dead letter: document: too long" in found["because"]

    def test_a_suspended_product(self, published: World) -> None:
        alice = published.role("alice", "note_reader", regions=["EU"])
        published.admin.execute("UPDATE tidegate.product SET state = 'suspended', state_reason = 'table gone'")
        found = explain(published, alice, {"id": 1})
        assert (found["sees"], found["finds"]) == (True, False)
        assert "the product is suspended: table gone" in found["because"]

    def test_foreign_policies_are_named(self, published: World) -> None:
        published.admin.execute("CREATE POLICY theirs ON rag_team.note FOR SELECT USING (true)")
        found = explain(published, published.role("alice", "note_reader"), {"id": 1})
        assert any("theirs" in reason for reason in found["because"])

    def test_a_key_that_does_not_fit(self, published: World) -> None:
        for key in ({"no": 1}, {"id": 1, "more": 2}, {"id": "x"}, {"id": "1; DROP TABLE team.note"}, "x", [1]):
            with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"^(?!.*fit.*fit).*does not fit product"):
                explain(published, "note_reader", key)
        assert explain(published, "note_reader", 1)["source"]["found"]

    def test_who_is_no_administrator_asks_nothing(self, published: World) -> None:
        reader = published.login(published.role("reader", "note_reader", regions=["EU"]))
        for statement in (
            "SELECT tidegate.explain_access('postgres', 'team.note')",
            "SELECT tidegate.explain_access_as('{note_reader}', '{}', 'team.note')",
            "SELECT tidegate.explain_access_with('{}', 'team.note')",
            "SELECT * FROM tidegate.who_can_see('team.note', '1')",
            "SELECT tidegate.caller_of('postgres')",
            "SELECT tidegate.access_of('team.note', '{}', NULL, NULL)",
            "SELECT tidegate.judged_row_of('team.note', '{}', '1')",
            "SELECT tidegate.rule_sql_of('[]', '{}')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement)  # type: ignore[arg-type]

    def test_an_administrator_without_more_may_ask(self, published: World) -> None:
        """She may not read chunks; the ledger tells what is in the index."""
        indexed(published, 1)
        alice = published.role("alice", "note_reader", regions=["EU"])
        admin = published.login(published.role("admin", "tidegate_admin"))
        (found,) = admin.execute("SELECT tidegate.explain_access(%s, 'team.note', '1')", [alice]).fetchone() or ()
        assert (found["sees"], found["index"]["compared"]) == (True, False)
        assert any("was not compared" in reason for reason in found["because"])
        assert admin.execute(
            "SELECT role FROM tidegate.who_can_see('team.note', '1') WHERE role = %s", [alice]
        ).fetchone()
        assert admin.execute("SELECT current_user").fetchone() == (admin.info.user,)
        # A row that waits for its new chunks keeps the old ones.
        for chunks, sees in ((1, True), (0, False)):
            published.admin.execute("UPDATE tidegate.ledger SET state = 'waiting', chunks = %s", [chunks])
            (found,) = admin.execute("SELECT tidegate.explain_access(%s, 'team.note', '1')", [alice]).fetchone() or ()
            assert found["sees"] is sees


class TestAProduct:
    def test_how_much_she_sees_and_why(self, world: World) -> None:
        world.publish(contract(ALLOW, TENANT))
        for number, (region, price) in enumerate([("EU", 1), ("EU", 2), ("US", 1), ("EU", None)], 1):
            world.note(number, region=region, price=price)
        found = explain(world, world.role("alice", "note_reader", regions=["EU"], budget=["1"]))
        assert (found["rows"], found["visible_rows"]) == (4, 1)
        assert found["rules"][0]["rows"] == {"true": 3, "false": 1, "unknown": 0}
        assert found["rules"][1]["rows"] == {"true": 2, "false": 1, "unknown": 1}

    def test_missing_attributes_are_named(self, published: World) -> None:
        found = explain(published, published.role("alice", "note_reader"))
        assert found["missing_attributes"] == ["regions"]
        assert found["visible_rows"] == 0


class TestOthers:
    def test_a_given_caller(self, published: World) -> None:
        published.admin.execute("DROP ROLE IF EXISTS note_lead; CREATE ROLE note_lead; GRANT note_reader TO note_lead")
        for roles, attributes, expected in (
            (["note_reader"], {"regions": ["EU"]}, True),
            (["note_lead"], {"regions": "EU"}, True),
            (["note_reader"], {"regions": ["US"]}, False),
            (["note_reader"], {}, False),
            (["nobody_at_all"], {"regions": ["EU"]}, False),
            (["postgres"], {"regions": ["EU"]}, False),
        ):
            found = published.tide.one(
                "SELECT tidegate.explain_access_as(%s, %s, 'team.note', '1')", roles, Jsonb(attributes)
            )
            assert found["sees"] is expected, (roles, attributes)
        published.admin.execute("DROP ROLE note_lead")

    def test_a_token(self, published: World) -> None:
        if published.tide.one("SELECT to_regprocedure('tidegate.claim_texts_of(jsonb, text)')") is None:
            pytest.skip("this database reads no tokens")
        published.admin.execute(
            "INSERT INTO tidegate.token_issuer (issuer, audience, roles_claim, role_map, attribute_map) "
            "VALUES ('https://id', 'x', 'roles', '{\"r\": \"note_reader\"}', '{\"regions\": \"places\"}')"
        )
        claims: dict[str, object] = {"iss": "https://id", "sub": "ann", "roles": ["r"], "places": ["EU"]}
        for change, expected in (
            ({}, True),
            ({"places": "US"}, False),
            ({"roles": ["x"]}, False),
            ({"places": {}}, False),
        ):
            found = published.tide.one(
                "SELECT tidegate.explain_access_with(%s, 'team.note', '1')", Jsonb(claims | change)
            )
            assert (found["sees"], found["caller"]["principal"]) == (expected, "ann"), change
        with pytest.raises(psycopg.errors.UndefinedObject, match='issuer "https://evil" is not known'):
            published.admin.execute("SELECT tidegate.explain_access_with('{\"iss\": \"https://evil\"}', 'team.note')")

    def test_who_can_see(self, published: World) -> None:
        alice = published.role("alice", "note_reader", regions=["EU"])
        published.role("bob", "note_reader", regions=["US"])
        dba = published.role("dba", "note_reader")
        published.admin.execute(sql.SQL("ALTER ROLE {} BYPASSRLS").format(sql.Identifier(dba)))
        published.admin.execute(
            "INSERT INTO tidegate.token_issuer (issuer, audience, role_map) VALUES ('https://id', 'x', '{\"r\": \"note_reader\"}'), ('https://other', 'x', '{}')"
        )
        rows = published.tide.rows(
            "SELECT role, how, login, rules, sees, finds FROM tidegate.who_can_see('team.note', '{\"id\": 1}')"
        )
        assert (alice, "rule", True, ["readers"], True, True) in rows
        assert (dba, "bypassrls", True, [], True, False) in rows
        assert ("postgres", "superuser", True, [], True, False) in rows
        assert ("https://id", "token issuer", None, ["readers"], None, None) in rows
        assert {how for _, how, *_ in rows} == {"rule", "bypassrls", "superuser", "token issuer"}
        assert [role for role, how, *_ in rows if how == "rule"] == [alice]


class TestTheCommandLine:
    def run(self, world: World, *arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--dsn", world.tide.dsn], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    def test_explain_access(self, published: World) -> None:
        alice = published.role("alice", "note_reader", regions=["EU"])
        shown = self.run(published, "explain-access", "--as", alice, "team.note", "--key", "1")
        assert f"{alice}: sees it, by plain SQL; a strict search finds it" in shown
        assert "allow readers to note_reader when row.region in user.regions" in shown
        assert "    lets her: the condition is true (user.regions = EU; row.region = EU)" in shown
        shown = self.run(published, "explain-access", "--as", alice, "team.note", "--key", "id=2", "--json")
        assert json.loads(shown)["sees"] is False
        shown = self.run(
            published, "explain-access", "team.note", "--roles", "note_reader", "--attribute", "regions=US,EU"
        )
        assert "somebody with these roles: 2 of 2 rows of team.note by its rules" in shown

    def test_a_key_of_no_row_is_said_to_be_that(self, published: World) -> None:
        alice = published.role("alice", "note_reader", regions=["EU"])
        there_is_none = "there is no row of the key 4711: not in the source, and not in the index"
        shown = self.run(published, "explain-access", "--as", alice, "team.note", "--key", "4711")
        assert shown.splitlines() == [f"{there_is_none}  (team.note 1.0.0)"]
        found = json.loads(self.run(published, "explain-access", "--as", alice, "team.note", "--key", "4711", "--json"))
        assert (found["because"], found["sees"], found["finds"]) == ([there_is_none], False, False)
        shown = self.run(published, "who-can-see", "team.note", "--key", "4711")
        assert shown.splitlines()[0] == "nobody sees it: there is no row of the key 4711 in the index"
        # In one of the two it says in which it is not.
        published.admin.execute("DELETE FROM team.note WHERE id = 1")
        shown = self.run(published, "explain-access", "--as", alice, "team.note", "--key", "1")
        assert "  the row is not in the source" in shown.splitlines()
        assert there_is_none not in shown

    def test_who_asks_must_be_one(self, published: World) -> None:
        for given in ([], ["--as", "a", "--roles", "b"], ["--as", "a", "--attribute", "x=1"]):
            with pytest.raises(UsageError):
                self.run(published, "explain-access", "team.note", *given)

    def test_answers_that_are_none(self, published: World) -> None:
        for given, message in (
            (["--as", "nobody_at_all", "team.note"], 'there is no role "nobody_at_all"'),
            (["--as", "postgres", "team.none"], 'product "team.none" is not published'),
            (["--as", "postgres", "team.note", "--key", "x=1"], "does not fit product"),
        ):
            with pytest.raises(UsageError, match=message):
                self.run(published, "explain-access", *given)

    def test_who_can_see(self, published: World) -> None:
        alice = published.role("alice", "note_reader", regions=["EU"])
        first, *others = self.run(published, "who-can-see", "team.note", "--key", "1").splitlines()
        assert first == f"{alice}  (login)  rule readers"
        assert "postgres  (login)  superuser; a strict search does not find it" in others
        assert self.run(published, "who-can-see", "team.note", "--key", "2").startswith("no role sees it by a rule")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("42", 42),
        ('{"id": 1}', {"id": 1}),
        ("id=1,region=EU", {"id": "1", "region": "EU"}),
        ("id=1,region=a\\,b=c", {"id": "1", "region": "a,b=c"}),
        ("1f0e", "1f0e"),
        ("", ""),
    ],
)
def test_keys_from_the_command_line(text: str, key: object) -> None:
    assert parse_key(text) == key


def test_composite_keys_and_awkward_values(world: World) -> None:
    admin = world.admin
    admin.execute(
        "DROP TABLE team.note; CREATE TABLE team.note (id bigint, region text, title text, body text, price numeric(10,2), secret text, PRIMARY KEY (id, region))"
    )
    document = yaml.safe_load(contract({"id": "all", "effect": "allow", "to": ["note_reader"]}))
    region = next(column for column in document["schema"][0]["properties"] if column["name"] == "region")
    region |= {"primaryKey": True, "primaryKeyPosition": 2}
    world.publish(yaml.safe_dump(document))
    awkward = 'it\'s "E\\U", {x}'
    world.note(1, region=awkward)
    admin.execute(
        "INSERT INTO tidegate.ledger (product_id, key, position, chunks, state) SELECT product_id, %s, '{0/1,0/1}', 1, 'indexed' FROM tidegate.product",
        [json.dumps({"id": 1, "region": awkward}, ensure_ascii=False, separators=(",", ":"))],
    )
    found = explain(world, "note_reader", {"region": awkward, "id": "1"})
    assert (found["sees"], found["index"]["state"], found["index"]["compared"]) == (True, "indexed", True)

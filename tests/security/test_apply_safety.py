"""`apply` is the only way in which access changes: all of it or nothing, and nothing that is not tidegate's."""

import hashlib

import psycopg
import pytest
import yaml
from psycopg import sql
from tests.security.conftest import ALLOW, World, contract, found, ids, seen, with_columns

from tidegate.contract.finding import ContractErrors
from tidegate.govern.apply import apply_plan
from tidegate.govern.plan import ContractUnfit, make_plan

DENY = {"id": "held", "effect": "deny", "when": "row.region = 'US'"}


def state(world: World) -> str:
    """Everything that apply may change, in one hash."""
    parts = []
    for statement in (
        "SELECT polname, polrelid::regclass, polpermissive, polroles::regrole[]::text, pg_get_expr(polqual, polrelid), "
        "obj_description(oid, 'pg_policy') "
        "FROM pg_policy ORDER BY 1, 2",
        "SELECT oid::regclass::text, relacl::text, relrowsecurity, relforcerowsecurity FROM pg_class "
        "WHERE relnamespace::regnamespace::text ~ '^(team|rag_|tidegate)' ORDER BY 1",
        "SELECT attrelid::regclass::text, attname, attacl::text FROM pg_attribute JOIN pg_class c ON c.oid = attrelid "
        "WHERE relnamespace::regnamespace::text ~ '^(team|rag_)' AND attnum > 0 ORDER BY 1, 2",
        "SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname ~ '^(team|rag_)' ORDER BY 1",
        "SELECT oid::regprocedure::text, proacl::text, prosrc FROM pg_proc "
        "WHERE pronamespace::regnamespace::text ~ '^rag_' ORDER BY 1",
        "SELECT tablename FROM pg_publication_tables ORDER BY 1",
        "SELECT product, contract_version, state, applied_at FROM tidegate.product ORDER BY 1",
        "SELECT product, version, contract_sha256 FROM tidegate.contract_version ORDER BY 1, 2, 3",
        "SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members ORDER BY 1, 2",
    ):
        parts.append(str(world.tide.rows(statement)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def tidegates_policies(world: World) -> set[str]:
    return {
        row[0] for row in world.tide.rows("SELECT polname FROM pg_policy WHERE polrelid = 'rag_team.note'::regclass")
    }


def test_applying_again_does_nothing(published: World) -> None:
    before = state(published)
    plan = published.publish(contract(ALLOW))
    assert plan.steps == ()
    assert state(published) == before


def test_a_changed_rule_changes_who_sees_what(published: World) -> None:
    reader = published.login(published.role("reader", "note_reader", regions=["EU"]))
    assert seen(reader) == {1}
    published.publish(contract({**ALLOW, "when": "row.region = 'US'"}))
    assert seen(reader) == {2}
    assert tidegates_policies(published) == {
        *("tidegate_worker", "tidegate_owner", "tidegate_break_glass", "tidegate_allow_readers")
    }


def test_a_rule_that_is_gone_takes_its_policy_along(published: World) -> None:
    reader = published.login(published.role("reader", "note_reader", regions=["EU", "US"]))
    published.publish(contract(ALLOW, DENY))
    assert seen(reader) == {1}
    published.publish(contract(ALLOW))
    assert seen(reader) == {1, 2}
    assert "tidegate_deny_held" not in tidegates_policies(published)


def test_a_role_that_is_no_longer_named_loses_its_privileges(published: World) -> None:
    reader = published.login(published.role("reader", "note_reader", regions=["EU"]))
    assert seen(reader) == {1}
    plan = published.publish(contract({**ALLOW, "to": ["note_writer"]}))
    assert any("note_reader" in line for line in plan.summary)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ids(reader)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute("SELECT rag_team.note_live(1)")
    assert reader.execute("SELECT count(*) FROM tidegate.products").fetchone() == (0,)
    assert found(reader) == set()
    assert published.publish(contract({**ALLOW, "to": ["note_writer"]})).steps == ()


def test_a_column_that_is_no_longer_published_is_no_longer_readable(published: World) -> None:
    def may_read(role: str, column: str) -> bool:
        return bool(published.tide.one("SELECT has_column_privilege(%s, 'team.note', %s, 'SELECT')", role, column))

    assert may_read("tidegate_worker", "body")
    document = yaml.safe_load(contract(ALLOW))
    for extra in document["schema"][0]["customProperties"]:
        if extra["property"] == "embedding":
            extra["value"]["columns"] = ["title"]
    for column in document["schema"][0]["properties"]:
        if column["name"] == "body":
            column["classification"] = "restricted"
    published.publish(yaml.safe_dump(document))
    for role in ("tidegate_worker", "tidegate_owner"):
        assert may_read(role, "title")
        assert not may_read(role, "body")
        assert not may_read(role, "secret")
    assert published.publish(yaml.safe_dump(document)).steps == ()


def test_policies_that_tidegate_did_not_make_are_left_and_named(published: World) -> None:
    admin = published.admin
    admin.execute("CREATE POLICY by_hand ON rag_team.note AS RESTRICTIVE FOR SELECT USING (id <> 1)")
    admin.execute("CREATE POLICY tidegate_allow_old ON rag_team.note FOR SELECT TO note_reader USING (false)")
    plan = published.publish(contract(ALLOW, DENY))
    assert {"by_hand", "tidegate_allow_old"} <= tidegates_policies(published)
    assert sum("by_hand" in line for line in plan.summary) == 1
    assert sum("tidegate_allow_old" in line for line in plan.summary) == 1
    again = published.publish(contract(ALLOW, DENY))
    assert again.steps == ()
    assert any("by_hand" in line for line in again.summary)
    reader = published.login(published.role("reader", "note_reader", regions=["EU", "US"]))
    assert ids(reader) == set()
    # A new table would come without them, and show more.
    before = state(published)
    with pytest.raises(ContractUnfit, match=r"by_hand.*drop"):
        published.publish(contract(ALLOW), rebuild=True)
    assert state(published) == before


def test_a_foreign_policy_of_a_name_that_is_needed_is_refused(published: World) -> None:
    published.admin.execute("CREATE POLICY tidegate_deny_held ON rag_team.note FOR SELECT TO note_reader USING (false)")
    before = state(published)
    with pytest.raises(ContractUnfit, match="tidegate_deny_held"):
        published.publish(contract(ALLOW, DENY))
    assert state(published) == before


def test_an_apply_that_fails_midway_leaves_nothing(world: World) -> None:
    """Every statement of a plan in turn fails; after each the database is as it was."""
    parsed = world.tide.contract(contract({**ALLOW, "to": ["brand_new_role"]}, DENY))
    plan = make_plan(world.admin, parsed, world.tide.embedders.of(parsed.embedding.model))
    before = state(world)
    count = len(plan.steps)
    assert count > 15
    broken = type(plan.steps[0])(sql.Composed([sql.SQL("SELECT 1/0")]))
    for at in range(0, count + 1, 3):
        steps = (*plan.steps[:at], broken, *plan.steps[at:])
        with pytest.raises(psycopg.errors.DivisionByZero):
            apply_plan(world.admin, type(plan)(parsed, plan.dimension, steps, plan.summary, plan.backfill))
        assert state(world) == before, plan.steps[at - 1].statement.as_string(None)
    assert world.tide.rows("SELECT FROM pg_roles WHERE rolname = 'brand_new_role'") == []
    assert world.admin.execute("SELECT current_user = session_user").fetchone() == (True,)


def test_a_column_that_is_tested_for_null_is_not_added_in_place(published: World) -> None:
    """Until the backfill has filled it, it would be NULL for every row, and the rule would let all through."""
    published.admin.execute("ALTER TABLE team.note ADD archived_at timestamptz DEFAULT now()")
    column = {"name": "archived_at", "logicalType": "timestamp", "physicalType": "timestamptz"}
    for when in (
        "row.archived_at is null",
        "not (row.archived_at is not null)",
        "row.region = 'X' or row.archived_at is null",
    ):
        text = with_columns(contract({**ALLOW, "when": when}), column)
        with pytest.raises(ContractUnfit, match=r"archived_at.*--rebuild"):
            published.publish(text)
    published.publish(text, rebuild=True)
    reader = published.login(published.role("reader", "note_reader", regions=["EU"]))
    assert ids(reader) == set()


def test_an_added_column_hides_until_it_is_filled(published: World) -> None:
    published.admin.execute("ALTER TABLE team.note ADD level int DEFAULT 1")
    column = {"name": "level", "logicalType": "integer", "physicalType": "int"}
    published.publish(with_columns(contract({**ALLOW, "when": "row.level < 3"}), column))
    reader = published.login(published.role("reader", "note_reader"))
    assert ids(reader) == set()
    published.note(3, level=1)
    assert ids(reader) == {3}


class TestRefusals:
    def test_a_source_with_row_level_security(self, world: World) -> None:
        world.admin.execute("ALTER TABLE team.note ENABLE ROW LEVEL SECURITY")
        with pytest.raises(
            ContractUnfit, match=r"row-level security.*tidegate_owner, tidegate_worker.*CREATE POLICY"
        ) as refused:
            world.publish(contract(ALLOW))
        # The way out that the message names works.
        world.admin.execute(str(refused.value).partition("run ")[2])
        world.publish(contract(ALLOW))

    def test_a_source_that_hides_rows_from_the_worker_restrictively(self, world: World) -> None:
        world.admin.execute("ALTER TABLE team.note ENABLE ROW LEVEL SECURITY")
        world.admin.execute("CREATE POLICY all_rows ON team.note USING (true)")
        world.admin.execute("CREATE POLICY part ON team.note AS RESTRICTIVE USING (region = 'EU')")
        with pytest.raises(ContractUnfit, match="row-level security"):
            world.publish(contract(ALLOW))

    def test_a_table_without_a_primary_key(self, world: World) -> None:
        world.admin.execute("ALTER TABLE team.note DROP CONSTRAINT note_pkey")
        with pytest.raises(
            ContractUnfit, match=r"team\.note has no primary key.*ALTER TABLE team\.note ADD PRIMARY KEY \(id\)"
        ):
            world.publish(contract(ALLOW))

    def test_a_view(self, world: World) -> None:
        world.admin.execute(
            "ALTER TABLE team.note RENAME TO real_note; CREATE VIEW team.note AS SELECT * FROM team.real_note"
        )
        with pytest.raises(ContractUnfit, match="not an ordinary table"):
            world.publish(contract(ALLOW))

    def test_a_table_of_somebody_else(self, world: World) -> None:
        """Who may apply, but does not own the source, cannot publish it."""
        other = world.login(world.role("other", "tidegate_owner"))
        parsed = world.tide.contract(contract(ALLOW))
        with pytest.raises(ContractUnfit, match=r"does not own team\.note"):
            make_plan(other, parsed, world.tide.embedders.of(parsed.embedding.model))

    def test_a_schema_of_somebody_else(self, world: World) -> None:
        """Its owner could put functions of her own in place of tidegate's, for readers to call."""
        attacker = sql.Identifier(world.role("attacker"))
        world.admin.execute(sql.SQL("CREATE SCHEMA rag_team AUTHORIZATION {}").format(attacker))
        world.admin.execute("GRANT ALL ON SCHEMA rag_team TO tidegate_owner")
        with pytest.raises(ContractUnfit, match=r"schema rag_team .*belongs to"):
            world.publish(contract(ALLOW))

    def test_all_problems_at_once(self, world: World) -> None:
        world.admin.execute(
            "ALTER TABLE team.note DROP COLUMN price, ALTER COLUMN region TYPE varchar, DROP CONSTRAINT note_pkey"
        )
        with pytest.raises(ContractUnfit) as refused:
            world.publish(contract(ALLOW))
        for part in ("price", "region", "primary key"):
            assert part in str(refused.value)


INJECTIONS = (
    "'; DROP TABLE team.note; --",
    "' OR true --",
    "$tidegate$ OR true $tidegate$",
    "$$ OR true $$",
    "\\'; SELECT 1 --",
    "%s %(role)s {} {0}",
    "E'\\\\x27'",
    "x' AND (SELECT count(*) FROM tidegate.principal_attribute) > 0 AND 'x' = 'x",
    "\u2019 OR true",
    'a"b',
)


def test_text_in_rules_stays_text_through_the_whole_apply(world: World) -> None:
    """Literals that would end a string, a dollar quote or a placeholder: as policy and as live check."""
    reader = None
    for number, text in enumerate(INJECTIONS):
        quoted = text.replace("'", "''")
        world.publish(contract({**ALLOW, "when": f"row.region = '{quoted}' or row.region in ['{quoted}', 'none']"}))
        world.note(number, region=text)
        reader = reader or world.login(world.role("reader", "note_reader"))
        assert seen(reader) == {number}, text
    assert world.tide.one("SELECT count(*) FROM team.note") == len(INJECTIONS)


@pytest.mark.parametrize(
    "part",
    [
        {"id": 'x" USING (true); --'},
        {"id": "x'y"},
        {"to": ['note_reader"; DROP TABLE team.note; --']},
        {"when": "row.region = 'EU'; DROP TABLE team.note"},
        {"when": "row.region = 'EU' or pg_sleep(1) is null"},
        {"when": 'row."region" = 1'},
        {"when": "true) or (true"},
        {"when": "row.region like '%'"},
        {"when": "row.region = (select 'EU')"},
        {"when": "row.region = 'EU' -- comment"},
        {"when": "row.region = user.regions' or '1"},
    ],
)
def test_sql_in_rules_is_refused(tide_contract: object, part: dict[str, object]) -> None:
    with pytest.raises(ContractErrors):
        tide_contract(contract({**ALLOW, **part}))  # type: ignore[operator]


@pytest.fixture
def tide_contract() -> object:
    from tidegate.contract.odcs import parse_contract

    return lambda text: parse_contract(text.encode(), "test.odcs.yaml")

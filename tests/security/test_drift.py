"""Drift: each thing that can be bent is bent, and found; a sound database has no finding."""

import pytest
from psycopg import sql
from tests.security.conftest import ALLOW, World, contract
from tests.security.test_apply_safety import DENY, state

from tidegate.govern.drift import find_drift
from tidegate.govern.drift_finding import DriftFinding


def errors(world: World) -> dict[str, DriftFinding]:
    """The findings by code, without those that the test's own superuser-made logins give."""
    return {finding.code: finding for finding in find_drift(world.admin) if finding.level != "info"}


@pytest.fixture
def guarded(published: World) -> World:
    published.publish(contract(ALLOW, DENY))
    return published


def test_a_sound_database_has_no_finding_and_looking_changes_nothing(guarded: World) -> None:
    guarded.login(guarded.role("reader", "note_reader", regions=["EU"]))
    before = state(guarded)
    assert find_drift(guarded.admin) == []
    assert state(guarded) == before


BENT = [
    ("ALTER POLICY tidegate_allow_readers ON rag_team.note USING (true)", "policy_changed", "error"),
    ("ALTER POLICY tidegate_allow_readers ON rag_team.note TO PUBLIC", "policy_changed", "error"),
    ("ALTER POLICY tidegate_worker ON rag_team.note TO PUBLIC", "policy_changed", "error"),
    ("COMMENT ON POLICY tidegate_deny_held ON rag_team.note IS 'mine now'", "policy_changed", "error"),
    ("DROP POLICY tidegate_deny_held ON rag_team.note", "policy_missing", "error"),
    ("CREATE POLICY by_hand ON rag_team.note FOR SELECT USING (true)", "policy_foreign_widens", "error"),
    (
        "CREATE POLICY by_hand ON rag_team.note AS RESTRICTIVE FOR SELECT USING (id > 1)",
        "policy_foreign_narrows",
        "warning",
    ),
    ("ALTER TABLE rag_team.note DISABLE ROW LEVEL SECURITY", "rls_disabled", "error"),
    ("ALTER TABLE rag_team.note NO FORCE ROW LEVEL SECURITY", "rls_not_forced", "error"),
    ("ALTER TABLE rag_team.note OWNER TO drifter", "owner", "error"),
    ("ALTER SCHEMA rag_team OWNER TO drifter", "owner", "error"),
    ("ALTER FUNCTION rag_team.note_live(bigint) OWNER TO drifter", "owner", "error"),
    ("ALTER FUNCTION tidegate.acts_as(text) OWNER TO drifter", "owner", "error"),
    ("GRANT SELECT ON rag_team.note TO drifter", "grant_extra", "error"),
    ("GRANT SELECT (content) ON rag_team.note TO drifter", "grant_extra", "error"),
    ("GRANT INSERT ON rag_team.note TO note_reader", "grant_extra", "error"),
    ("GRANT CREATE ON SCHEMA rag_team TO drifter", "grant_extra", "error"),
    ("GRANT EXECUTE ON FUNCTION rag_team.note_live(bigint) TO drifter", "grant_extra", "error"),
    ("GRANT SELECT ON rag_team.note TO PUBLIC", "public_grant", "error"),
    ("GRANT SELECT ON tidegate.principal_attribute TO tidegate_reader", "grant_extra", "error"),
    ("GRANT EXECUTE ON FUNCTION tidegate.attribute_texts_of(text, text) TO PUBLIC", "public_grant", "error"),
    ("REVOKE SELECT ON rag_team.note FROM note_reader", "grant_missing", "warning"),
    ("REVOKE SELECT ON tidegate.products FROM tidegate_reader", "grant_missing", "warning"),
    (
        "CREATE OR REPLACE FUNCTION tidegate.acts_as(role_name text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER "
        "SET search_path = pg_catalog, pg_temp AS 'SELECT true'",
        "function_changed",
        "error",
    ),
    ("ALTER FUNCTION tidegate.acts_as(text) RESET search_path", "function_changed", "error"),
    ("ALTER FUNCTION tidegate.acts_as(text) SECURITY INVOKER", "function_changed", "error"),
    ("ALTER FUNCTION rag_team.note_live(bigint) RESET ALL", "function_changed", "error"),
    ("DROP FUNCTION rag_team.note_live(bigint)", "function_missing", "error"),
    (
        "CREATE FUNCTION rag_team.more() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "function_foreign",
        "error",
    ),
    ("CREATE FUNCTION tidegate.more() RETURNS int LANGUAGE sql AS 'SELECT 1'", "function_foreign", "warning"),
    ("CREATE VIEW team.all_notes AS SELECT * FROM rag_team.note", "view", "error"),
    (
        "CREATE VIEW team.all_notes AS SELECT * FROM rag_team.note; ALTER VIEW team.all_notes OWNER TO drifter",
        "view",
        "warning",
    ),
    ("CREATE MATERIALIZED VIEW team.copy AS SELECT * FROM rag_team.note", "materialized_view", "error"),
    (
        "CREATE FUNCTION team.notes() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM rag_team.note'",
        "definer_function",
        "error",
    ),
    ("CREATE RULE r AS ON INSERT TO rag_team.note DO ALSO NOTHING", "table_rule", "error"),
    (
        "CREATE FUNCTION team.spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
        "CREATE TRIGGER spy BEFORE INSERT ON rag_team.note FOR EACH ROW EXECUTE FUNCTION team.spy()",
        "trigger_foreign",
        "error",
    ),
    ("CREATE TABLE team.child () INHERITS (rag_team.note)", "inheritance", "error"),
    ("CREATE PUBLICATION leak FOR TABLE rag_team.note", "published_out", "error"),
    ("ALTER PUBLICATION tidegate DROP TABLE team.note", "not_captured", "error"),
    ("CREATE TABLE rag_team.extra (id int)", "table_foreign", "warning"),
    ("ALTER ROLE tidegate_reader LOGIN", "group_role", "error"),
    ("ALTER TABLE tidegate.principal_attribute DISABLE TRIGGER audit", "trigger_changed", "error"),
    ("DROP TRIGGER append_only ON tidegate.audit_event", "trigger_missing", "error"),
    ("UPDATE tidegate.rule SET roles = '{drifter}' WHERE effect = 'allow'", "rules_changed", "error"),
    (
        "CREATE OR REPLACE VIEW tidegate.audit AS SELECT * FROM tidegate.audit_event WHERE false",
        "view_changed",
        "error",
    ),
    ("DROP TABLE rag_team.note CASCADE", "table_missing", "error"),
]


@pytest.fixture
def drifter(guarded: World) -> World:
    guarded.admin.execute("CREATE ROLE drifter")
    try:
        yield guarded
    finally:
        guarded.admin.execute("ALTER ROLE tidegate_reader NOLOGIN; DROP OWNED BY drifter CASCADE; DROP ROLE drifter")


def test_what_is_bent_is_found(drifter: World) -> None:
    """Each in a transaction that is rolled back, on one database."""
    missed = []
    for statement, code, level in BENT:
        with drifter.admin.transaction(force_rollback=True):
            drifter.admin.execute(statement)  # type: ignore[arg-type]
            found = errors(drifter)
        if code not in found or found[code].level != level or not (found[code].way_out or code == "table_foreign"):
            missed.append((statement, code, level, list(found.values())))
    assert missed == []
    assert errors(drifter) == {}


def test_members_with_powers_and_gateways_with_roles(guarded: World) -> None:
    bypassing = guarded.role("bypassing", "note_reader")
    guarded.admin.execute(sql.SQL("ALTER ROLE {} BYPASSRLS").format(sql.Identifier(bypassing)))
    worker = guarded.role("worker", "tidegate_worker")
    app = guarded.role("app", "tidegate_gateway", "note_reader")
    guarded.admin.execute("CREATE FUNCTION team.spy() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'")
    guarded.admin.execute("CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION team.spy()")
    found = {(each.level, each.code, each.object) for each in find_drift(guarded.admin)}
    assert found == {
        ("error", "gateway_with_role", app),
        ("info", "bypasses", bypassing),
        ("info", "powerful_member", worker),
        ("info", "event_trigger", "watch"),
    }


def test_a_policy_made_by_hand_outlives_drift_and_apply(guarded: World) -> None:
    guarded.admin.execute("CREATE POLICY by_hand ON rag_team.note FOR SELECT TO note_reader USING (true)")
    assert errors(guarded)["policy_foreign_widens"].level == "error"
    guarded.publish(contract(ALLOW))
    assert guarded.tide.one("SELECT count(*) FROM pg_policy WHERE polname = 'by_hand'") == 1

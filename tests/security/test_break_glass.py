"""Emergency access: given with a reason, logged, over by itself; the policies stay. And the audit that tells of it."""

import psycopg
import pytest
from tests.security.conftest import ALLOW, World, contract, ids, seen
from tests.security.test_apply_safety import DENY, tidegates_policies

from tidegate.errors import UsageError
from tidegate.govern.audit import audit_events, read_since
from tidegate.govern.break_glass import GlassUnbroken, begin, end, open_grants
from tidegate.govern.drift import find_drift
from tidegate.govern.principals import set_attributes, unset_attributes


@pytest.fixture
def guarded(published: World) -> World:
    published.publish(contract(ALLOW, DENY))
    return published


def test_she_sees_all_until_it_expires(guarded: World) -> None:
    dba = guarded.role("dba", "tidegate_admin")
    session = guarded.login(dba)
    policies = tidegates_policies(guarded)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ids(session)
    begin(session, dba, "ticket 4711", 30)
    assert seen(session) == {1, 2}
    assert tidegates_policies(guarded) == policies
    assert {f.code for f in find_drift(guarded.admin)} == {"break_glass"}
    guarded.admin.execute("UPDATE tidegate.break_glass SET expires_at = clock_timestamp()")
    assert ids(session) == set()
    assert open_grants(session) == []
    assert {f.code for f in find_drift(guarded.admin)} == {"break_glass_left"}
    assert end(session, dba) == 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ids(session)
    assert find_drift(guarded.admin) == []


def test_of_one_product_for_another_ended_early(guarded: World) -> None:
    admin = guarded.login(guarded.role("dba", "tidegate_admin"))
    helper = guarded.role("helper")
    session = guarded.login(helper)
    begin(admin, helper, "help", 5, ["team.note"])
    assert ids(session) == {1, 2}
    assert end(admin, helper) == 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ids(session)
    guarded.admin.execute("UPDATE tidegate.break_glass SET products = '{other.product}', ended_at = NULL")
    guarded.admin.execute(f"GRANT tidegate_emergency TO {helper}")
    assert ids(session) == set()


def test_refusals(guarded: World) -> None:
    dba = guarded.role("dba", "tidegate_admin")
    session = guarded.login(dba)
    for arguments, word in (
        ((dba, " ", 5), "reason"),
        ((dba, "x", 481), "480"),
        ((dba, "x", 0), "480"),
        (("nobody_there", "x", 5), "no role"),
        ((guarded.role("app", "tidegate_gateway"), "x", 5), "many people"),
        ((dba, "x", 5, ["no.such"]), "not published"),
    ):
        with pytest.raises(UsageError, match=word):
            begin(session, *arguments)
    reader = guarded.role("reader", "note_reader")
    with pytest.raises(GlassUnbroken, match="GRANT tidegate_admin"):
        begin(guarded.login(reader), reader, "curious", 5)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        guarded.login(reader).execute(
            "INSERT INTO tidegate.break_glass (principal, role_oid, reason, expires_at) VALUES ('x', 1, 'x', now())"
        )
    assert guarded.tide.one("SELECT count(*) FROM tidegate.break_glass") == 0


def test_the_audit_tells_who_what_before_and_after(guarded: World) -> None:
    dba = guarded.role("dba", "tidegate_admin")
    session = guarded.login(dba)
    reader = guarded.role("reader", regions=["EU"])
    set_attributes(session, reader, {"regions": ["US"]})
    set_attributes(session, reader, {"regions": ["US"]})
    unset_attributes(session, reader, ["regions"])
    begin(session, reader, "ticket 4711", 5)
    events = [each for each in audit_events(session) if each.subject == reader]
    assert [(each.kind, each.reason) for each in events] == [
        ("break-glass insert", "ticket 4711"),
        ("principal delete", None),
        ("principal update", None),
        ("principal update", None),
        ("principal insert", None),
    ]
    assert [each.actor for each in events] == [dba, dba, dba, dba, guarded.tide.one("SELECT session_user::text")]
    assert (events[3].before or {})["attribute_values"] == ["EU"]
    assert (events[3].after or {})["attribute_values"] == ["US"]
    assert all(each.kind.startswith("principal") for each in audit_events(session, kind="principal"))
    assert {each.product for each in audit_events(session, product="team.note")} == {"team.note"}
    assert audit_events(session, since=read_since("0m")) == []
    assert audit_events(session, since=read_since("1h"))
    with pytest.raises(UsageError, match="2d"):
        read_since("yesterday")


def test_keys_are_not_in_the_audit(guarded: World) -> None:
    guarded.admin.execute("INSERT INTO tidegate.token_issuer (issuer, audience) VALUES ('i', 'a')")
    guarded.admin.execute(
        "INSERT INTO tidegate.token_key (kid, issuer, inner_pad, outer_pad) VALUES ('k', 'i', 'hush1', 'hush2')"
    )
    row = guarded.tide.rows("SELECT after::text FROM tidegate.audit_event WHERE kind = 'token key insert'")
    assert '"kid": "k"' in row[0][0]
    assert "pad" not in row[0][0]


@pytest.mark.parametrize("role", ["tidegate_owner", "tidegate_admin", None])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tidegate.audit_event SET actor = 'x'",
        "DELETE FROM tidegate.audit_event",
        "TRUNCATE tidegate.audit_event",
    ],
)
def test_the_audit_is_append_only(guarded: World, role: str | None, statement: str) -> None:
    session = guarded.as_superuser()
    session.execute("SET session_replication_role = replica")
    if role:
        session.execute(f"SET ROLE {role}")
    before = guarded.tide.one("SELECT count(*) FROM tidegate.audit_event")
    assert before > 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(statement)
    assert guarded.tide.one("SELECT count(*) FROM tidegate.audit_event") == before


def test_readers_cannot_read_the_audit(guarded: World) -> None:
    reader = guarded.login(guarded.role("reader", "note_reader"))
    for table in ("tidegate.audit", "tidegate.audit_event"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(f"SELECT * FROM {table}")

"""Masked columns: what everybody sees is the mask, what revealing roles see is in a table of its own."""

import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql
from tests.conftest import SIMPLE_TABLE, Tide
from tests.security.conftest import ALLOW, World, contract, ids
from tests.security.test_restricted_columns import places
from tests.security.weaken import Weakening, attack, breach

from tidegate.database import connect, register_vectors
from tidegate.index.indexer import Indexer
from tidegate.index.item import Item, parked_event
from tidegate.index.product import published
from tidegate.index.sweep import sweep

EMAIL, IBAN, PAY = "zq-carol@example.com", "zq-DE8937-0440", Decimal("987654.25")
MASKS: dict[str, tuple[str, Any, list[str] | None]] = {
    "email": ("text", "partial_email", ["note_legal"]),
    "iban": ("text", "last4", None),
    "login": ("text", "hash", ["note_legal"]),
    "pay": ("numeric(10,2)", "null", ["note_legal"]),
    "salary": ("int", {"constant": 0}, None),
}
TABLE = SIMPLE_TABLE.replace(
    "secret text", "secret text, email text, iban text, login text, pay numeric(10,2), salary int"
)
CLEAR = ("note_clear_email", "note_clear_login", "note_clear_pay")


def masked_contract(*rules: dict[str, Any], masks: dict[str, Any] | None = None, **parts: Any) -> str:
    document = yaml.safe_load(contract(*(rules or (ALLOW,)), **parts))
    document["roles"].append({"role": "note_legal", "access": "read"})
    for name, (type_, mask, reveal) in (masks or MASKS).items():
        own = [{"property": "mask", "vendor": "tidegate", "value": mask}]
        if reveal:
            own.append({"property": "reveal", "vendor": "tidegate", "value": reveal})
        document["schema"][0]["properties"].append(
            {"id": name, "name": name, "physicalType": type_, "classification": "restricted", "customProperties": own}
        )
    return yaml.safe_dump(document, sort_keys=False)


class Masked:
    """team.note with masked columns, live; note 1 of region EU, note 2 of region US."""

    def __init__(self, world: World):
        self.world, self.tide = world, world.tide
        self.reader = world.role("reader", "note_reader", regions=["EU"])
        self.legal = world.role("legal", "note_reader", "note_legal", regions=["EU"])

    def insert(self, id_: int, region: str = "EU", title: str = "a note") -> None:
        self.tide.admin.execute(
            "INSERT INTO team.note (id, title, region, email, iban, login, pay, salary) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, 987001)",
            [id_, title, region, f"{id_}{EMAIL}", f"{IBAN}-{id_}777", f"zq-login{id_}", PAY],
        )

    def clear(self, role: str) -> dict[str, Any]:
        """What the side tables show the role: table → ids and values, or None where they may not be asked."""
        seen: dict[str, Any] = {}
        for table in CLEAR:
            connection = self.world.login(role)
            try:
                seen[table] = dict(connection.execute(f"SELECT id, clear_value FROM rag_team.{table}").fetchall())  # type: ignore[arg-type]
            except psycopg.errors.InsufficientPrivilege:
                seen[table] = None
        return seen


@pytest.fixture
def offered(tide: Tide, weakness: Weakening | None) -> Iterator[Masked]:
    tide.admin.execute(TABLE)
    world = World(tide, weakness)
    world.publish(masked_contract())
    made = Masked(world)
    made.insert(1)
    made.insert(2, "US")
    yield made
    world.close()


@pytest.fixture
def masked(offered: Masked) -> Masked:
    """Its rows written by the worker's own code, without an engine."""
    tide = offered.tide
    with connect(tide.dsn, role="tidegate_worker") as connection:
        register_vectors(connection)
        (product,) = published(connection, tide.embedders).values()
        indexer = Indexer(product.embedder, bulk=False, max_document_chars=9999, attempts=1, searchable=lambda *_: None)
        keys = ('{"id":1}', '{"id":2}')
        items = [Item(product, key, parked_event(product, key, "{0/1,0/1}"), [], retry=True) for key in keys]
        indexer.process(connection, items)
    return offered


@pytest.fixture
def streaming(offered: Masked) -> Masked:
    """A pipeline runs."""
    offered.tide.run()
    offered.tide.live("team.note")
    offered.tide.caught_up()
    return offered


MASK_NOTHING = Weakening(
    "nothing_is_masked",
    patches=(
        ("tidegate.index.product.masked", lambda mask, value, key, type_: value),
        ("tidegate.govern.chunk_table._mask_check", lambda column: sql.SQL("")),
    ),
)
EVERYBODY_REVEALS = Weakening(
    "side_tables_open",
    published=(
        "GRANT SELECT ON rag_team.note_clear_email, rag_team.note_clear_login, rag_team.note_clear_pay TO PUBLIC",
        "ALTER TABLE rag_team.note_clear_email DISABLE ROW LEVEL SECURITY",
    ),
)


def secrets_in(text: str) -> bool:
    return any(secret in text for secret in (EMAIL, IBAN, "zq-login", "987654", "987001"))


@attack(MASK_NOTHING)
def test_every_way_to_read_a_chunk_shows_the_mask(masked: Masked) -> None:
    connection = masked.world.login(masked.legal)
    vector = "[1" + ",0" * 383 + "]"
    for statement in (
        "SELECT * FROM rag_team.note",
        "SELECT row_to_json(t) FROM rag_team.note t",
        "SELECT to_jsonb(t) FROM rag_team.note t",
        "SELECT t::text FROM rag_team.note t",
        "SELECT content FROM rag_team.note",
        "SELECT array_agg(t) FROM rag_team.note t",
        "TABLE rag_team.note",
        f"SELECT * FROM tidegate.search('{vector}', 10)",
        f"SELECT to_jsonb(h) FROM tidegate.search('{vector}', 10, consistency => 'eventual') h",
    ):
        rows = connection.execute(statement).fetchall()  # type: ignore[arg-type]
        assert rows, statement
        breach(secrets_in(str(rows)), statement)
    copied = b"".join(map(bytes, connection.cursor().copy("COPY rag_team.note TO STDOUT").__enter__())).decode()
    breach(secrets_in(copied), "COPY TO")
    shown = masked.tide.rows("SELECT email, iban, pay, salary, length(login) FROM rag_team.note WHERE id = 1")
    breach(shown != [("1***@example.com", "***1777", None, 0, 64)], f"masks: {shown}")


@attack(EVERYBODY_REVEALS)
def test_the_side_tables_are_the_revealing_roles_and_follow_the_rows_rules(masked: Masked) -> None:
    own = {"note_clear_email": {1: f"1{EMAIL}"}, "note_clear_login": {1: "zq-login1"}, "note_clear_pay": {1: PAY}}
    breach(masked.clear(masked.legal) != own, "a revealing role reads other rows than those that the rules show her")
    breach(any(masked.clear(masked.reader).values()), "a reader without the role reads a side table")
    # The revealing role alone shows no row: a role that no rule allows reveals nothing.
    bare = masked.world.role("bare", "note_legal", regions=["EU"])
    breach(any(masked.clear(bare).values()), "revealed without being allowed to see the row")
    gateway = masked.world.role("gate", "tidegate_gateway")
    breach(any(masked.clear(gateway).values()), "a gateway without a token reads a side table")
    # An emergency grant widens the rows, not what masks hide.
    emergency = masked.world.role("emergency", "tidegate_emergency")
    masked.tide.admin.execute(
        "INSERT INTO tidegate.break_glass (principal, role_oid, reason, expires_at) "
        "SELECT rolname, oid, 'test', now() + interval '5 minutes' FROM pg_roles WHERE rolname IN (%s, %s)",
        [emergency, masked.legal],
    )
    assert ids(masked.world.login(emergency)) == {1, 2}
    breach(any(masked.clear(emergency).values()), "an emergency grant reads a side table")
    masked.tide.admin.execute(sql.SQL("GRANT tidegate_emergency TO {}").format(sql.Identifier(masked.legal)))
    assert masked.clear(masked.legal)["note_clear_pay"] == {1: PAY, 2: PAY}


OWNER_ASKED = Weakening(
    "reveal_asks_the_owner",
    published=(
        "ALTER POLICY tidegate_reveal ON rag_team.note_clear_email USING (EXISTS (SELECT FROM rag_team.note c "
        "WHERE c.id = note_clear_email.id))",
    ),
)


@attack(OWNER_ASKED)
def test_a_view_and_a_function_of_a_revealing_role_reveal_nothing_to_others(masked: Masked) -> None:
    legal = masked.world.login(masked.legal)
    admin = masked.tide.admin
    admin.execute(sql.SQL("CREATE SCHEMA lent AUTHORIZATION {}").format(sql.Identifier(masked.legal)))
    legal.execute("CREATE VIEW lent.clear AS SELECT * FROM rag_team.note_clear_email")
    legal.execute(
        "CREATE FUNCTION lent.clear_of() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER "
        "AS 'SELECT clear_value FROM rag_team.note_clear_email'"
    )
    legal.execute("GRANT USAGE ON SCHEMA lent TO PUBLIC; GRANT SELECT ON lent.clear TO PUBLIC")
    assert legal.execute("SELECT count(*) FROM lent.clear").fetchone() == (1,)
    reader = masked.world.login(masked.reader)
    for statement in ("SELECT id, clear_value FROM lent.clear", "SELECT lent.clear_of()"):
        breach(bool(reader.execute(statement).fetchall()), statement)
    admin.execute("DROP SCHEMA lent CASCADE")


def test_a_clear_value_is_in_its_side_table_alone_and_goes_with_its_row(
    streaming: Masked, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    masked = streaming
    tide, run = masked.tide, masked.tide.admin.execute
    assert set(places(tide, EMAIL)) == {"rag_team.note_clear_email"}
    assert set(places(tide, "zq-login")) == {"rag_team.note_clear_login"}
    assert set(places(tide, "987654.25")) == {"rag_team.note_clear_pay"}
    assert places(tide, IBAN) == places(tide, "987001") == []
    # Not even the worker may read what no mask depends on.
    assert not tide.one("SELECT has_column_privilege('tidegate_worker', 'team.note', 'salary', 'SELECT')")
    # Only a masked column changed: carried, nothing is embedded again.
    before = tide.rows("SELECT xmin, content_hash, embedding::text FROM rag_team.note WHERE id = 1")
    run("UPDATE team.note SET email = 'zq-dave@example.org', pay = 987654.26 WHERE id = 1")
    tide.caught_up()
    assert tide.one("SELECT email FROM rag_team.note WHERE id = 1") == "z***@example.org"
    assert masked.clear(masked.legal)["note_clear_email"] == {1: "zq-dave@example.org"}
    after = tide.rows("SELECT xmin, content_hash, embedding::text FROM rag_team.note WHERE id = 1")
    assert before[0][1:] == after[0][1:]
    # Parked: no chunks, no clear values, and no value in the dead letter.
    masked.insert(3, title="public " * 200_000)
    tide.caught_up()
    assert tide.one("SELECT count(*) FROM tidegate.dead_letter") == 1
    assert places(tide, f"3{EMAIL}") == []
    run("UPDATE team.note SET title = 'short' WHERE id = 3")
    tide.caught_up()
    assert places(tide, f"3{EMAIL}") == ["rag_team.note_clear_email"]
    run("DELETE FROM team.note WHERE id = 3")
    run("UPDATE team.note SET email = NULL WHERE id = 1")
    tide.caught_up()
    assert masked.clear(masked.legal)["note_clear_email"] == {1: None}
    assert tide.one("SELECT count(*) FROM rag_team.note_clear_pay") == 2
    run("TRUNCATE team.note")
    tide.caught_up()
    for table in CLEAR:
        assert tide.one(f"SELECT count(*) FROM rag_team.{table}") == 0
    said = capfd.readouterr()
    for text in (caplog.text, str([record.__dict__ for record in caplog.records]), said.out, said.err):
        assert not secrets_in(text)
        assert "zq-dave" not in text


def test_a_row_swept_takes_its_clear_values_along(masked: Masked) -> None:
    tide = masked.tide
    tide.admin.execute("DELETE FROM team.note WHERE id = 2")
    (product,) = published(tide.admin, tide.embedders).values()
    assert "mask_key" not in repr(product)
    assert sweep(tide.admin, product) == 1
    for table in CLEAR:
        assert tide.rows(f"SELECT id FROM rag_team.{table}") == [(1,)]


def test_a_changed_mask_hides_at_once_and_is_filled_again(masked: Masked) -> None:
    tide = masked.tide
    later = MASKS | {"email": ("text", "hash", None), "iban": ("text", "last4", ["note_legal"])}
    plan = masked.world.publish(masked_contract(masks=later, version="2.0.0"))
    assert plan.backfill
    assert tide.rows("SELECT email, iban FROM rag_team.note") == [(None, "***1777"), (None, "***2777")]
    assert tide.one("SELECT to_regclass('rag_team.note_clear_email')") is None
    tide.run()
    tide.live("team.note")
    assert [len(email) for (email,) in tide.rows("SELECT email FROM rag_team.note")] == [64, 64]
    legal = masked.world.login(masked.legal)
    assert legal.execute("SELECT clear_value FROM rag_team.note_clear_iban").fetchall() == [(f"{IBAN}-1777",)]


def test_a_column_masked_from_now_on_takes_no_clear_value_from_a_worker_that_has_not_heard(world: World) -> None:
    world.publish(contract(ALLOW))
    world.note(1, price=5)
    document = yaml.safe_load(contract(ALLOW, version="2.0.0"))
    for column in document["schema"][0]["properties"]:
        if column["name"] == "price":
            column["customProperties"] = [{"property": "mask", "vendor": "tidegate", "value": {"constant": 1}}]
            del column["tags"]
    assert world.publish(yaml.safe_dump(document)).backfill
    assert world.tide.rows("SELECT price FROM rag_team.note") == [(None,)]
    with pytest.raises(psycopg.errors.CheckViolation) as refusal:
        world.note(2, price=7)
    assert "7" not in (refusal.value.diag.message_detail or "")
    world.note(3, price=1)


def test_what_gateways_and_emergencies_may_use(offered: Masked) -> None:
    masked = offered
    for function in ("note_live(bigint)",):
        for role in ("tidegate_gateway", "tidegate_emergency"):
            assert masked.tide.one(f"SELECT has_function_privilege('{role}', 'rag_team.{function}', 'EXECUTE')")
    for table in CLEAR:
        assert masked.tide.one(f"SELECT has_table_privilege('tidegate_gateway', 'rag_team.{table}', 'SELECT')")
        assert not masked.tide.one(f"SELECT has_table_privilege('tidegate_reader', 'rag_team.{table}', 'SELECT')")
    assert json.loads(masked.tide.one("SELECT contract::text FROM tidegate.product"))["columns"][-1]["mask"]

"""A column that is not published goes nowhere: not into chunks, control tables, dead letters or logs."""

import logging

import pytest
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide, wait_until

from tidegate.settings import Settings

MARKER = "zq-secret-7341"


@pytest.fixture
def settings() -> Settings:
    return Settings(heartbeat_ms=200, max_document_chars=1000, _env_file=None)


def places(tide: Tide, marker: str) -> list[str]:
    """The tables of tidegate, and of its products, with a row in which the marker stands."""
    tables = tide.rows(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' "
        "AND relnamespace::regnamespace::text ~ '^(tidegate|rag_)'"
    )
    assert len(tables) > 10
    return [
        name
        for (name,) in tables
        if tide.one(f"SELECT count(*) FROM {name} AS t WHERE to_jsonb(t)::text LIKE %s", f"%{marker}%")
    ]


def test_a_restricted_column_goes_nowhere(
    tide: Tide, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="tidegate")  # whatever level another test left it at
    tide.admin.execute(SIMPLE_TABLE)
    insert = "INSERT INTO team.note (id, title, secret) VALUES (%s, %s, %s)"
    secrets = iter(f"{MARKER}-{number}" for number in range(100))
    tide.admin.execute(insert, [1, "indexed before", next(secrets)])
    tide.admin.execute(insert, [2, "public " * 300, next(secrets)])  # too long: parked by the backfill
    tide.apply(SIMPLE_CONTRACT)
    tide.run()
    tide.live("team.note")
    tide.admin.execute(insert, [3, "indexed after", next(secrets)])
    tide.admin.execute(insert, [4, "public " * 300, next(secrets)])  # parked live
    tide.admin.execute("UPDATE team.note SET secret = %s", [next(secrets)])
    tide.admin.execute("UPDATE team.note SET title = 'rewritten by hand', secret = %s WHERE id = 3", [next(secrets)])
    tide.admin.execute("DELETE FROM team.note WHERE id = 1")
    tide.caught_up()
    # The contract's column is gone: a violation, with the whole row at hand.
    tide.admin.execute("ALTER TABLE team.note RENAME price TO cost")
    tide.admin.execute(insert, [5, "a violation", next(secrets)])
    wait_until(lambda: tide.rows("SELECT FROM tidegate.dead_letter WHERE key = '{\"id\":5}'") or tide.one(
        "SELECT state = 'suspended' FROM tidegate.product"
    ), 20, "the violation is noticed")  # fmt: skip
    tide.stop()
    assert tide.rows("SELECT count(*) FROM tidegate.dead_letter WHERE kind = 'document'") == [(2,)]
    assert places(tide, MARKER) == []
    said = capfd.readouterr()
    for shown in (caplog.text, str([record.__dict__ for record in caplog.records]), said.out, said.err):
        assert MARKER not in shown
    assert len(caplog.records) > 5
    # The search for the marker finds what is there.
    assert places(tide, "rewritten by hand") == ["rag_team.note"]
    assert not tide.one("SELECT has_column_privilege('tidegate_worker', 'team.note', 'secret', 'SELECT')")

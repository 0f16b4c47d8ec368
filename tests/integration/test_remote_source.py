"""Contracts whose rows are in another database than the index: planned and applied over both, refused where it must be."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.conftest import Tide
from tests.remote import CRM, CUSTOMER, TABLE, Away, planned, publish, source_database

from tidegate.capture.source import sources
from tidegate.contract.odcs import parse_contract
from tidegate.errors import UsageError
from tidegate.govern.control_schema import ServerUnfit, initialise
from tidegate.govern.controller import Controller
from tidegate.govern.drift import find_drift
from tidegate.govern.plan import ContractUnfit
from tidegate.govern.source_database import SourceUnprepared, claim, prepare_source
from tidegate.govern.submission import hand_in
from tidegate.govern.team import add_domain
from tidegate.group_pipeline import GroupPipeline
from tidegate.observe.lineage import Lineage
from tidegate.pipeline import Pipeline
from tidegate.settings import KafkaSettings, Settings


@pytest.fixture
def away(server_dsn: str, tide: Tide) -> Iterator[Away]:
    with source_database(server_dsn, tide) as held:
        yield held


@pytest.mark.parametrize("phase", ["_run_at_source", "_apply_index"])
def test_an_apply_that_was_cut_short_is_finished_by_the_next(
    tide: Tide, away: Away, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    """Between the two databases anything may end it: nothing is published half, and applying again does the rest."""
    publish(tide, CUSTOMER)
    tide.admin.execute("UPDATE tidegate.product SET state = 'live'")
    # As somebody may, and come back before any worker has looked.
    away.admin.execute("ALTER PUBLICATION tidegate DROP TABLE sales.customer")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"tidegate.govern.apply.{phase}", dies)
        with pytest.raises(KeyboardInterrupt):
            publish(tide, CUSTOMER)
    assert tide.one("SELECT state FROM tidegate.product") == "suspended"
    plan = publish(tide, CUSTOMER)
    assert plan.backfill
    assert tide.one("SELECT state FROM tidegate.product") == "pending"
    assert planned(tide, CUSTOMER).steps == ()


def test_columns_that_a_contract_needs_no_longer_are_taken_from_the_worker(tide: Tide, away: Away) -> None:
    readable = "SELECT has_column_privilege('tidegate_worker', 'sales.customer', %s, 'SELECT')"
    publish(tide, CUSTOMER)
    assert away.admin.execute(readable, ["body"]).fetchone() == (True,)
    assert away.admin.execute(readable, ["secret"]).fetchone() == (False,)
    publish(tide, CUSTOMER.replace("columns: [title, body]", "columns: [title]"))
    assert away.admin.execute(readable, ["body"]).fetchone() == (False,)


def test_what_cannot_be_is_refused(tide: Tide, away: Away) -> None:
    member = CUSTOMER.replace('when: "row.region in user.regions"', 'when: "member(assigned)"').replace(
        "          grammar: 1\n",
        "          grammar: 1\n"
        "          memberships: [{name: assigned, table: sales.assignment, column: customer_id, row: id, principal: who}]\n",
    )
    with pytest.raises(ContractUnfit, match=re.escape("member(assigned) would have to be asked of that server")):
        planned(tide, member)
    away.admin.execute("ALTER TABLE sales.customer ENABLE ROW LEVEL SECURITY")
    with pytest.raises(ContractUnfit, match="on crm has row-level security"):
        planned(tide, CUSTOMER)
    away.admin.execute("ALTER TABLE sales.customer DISABLE ROW LEVEL SECURITY")
    publish(tide, CUSTOMER)
    tide.settings.sources = {}
    with pytest.raises(ContractUnfit, match='its rows come from "crm", whose DSN is not known here'):
        planned(tide, CUSTOMER)
    with pytest.raises(UsageError, match='"tidegate run" reads only that one'):
        Pipeline(tide.dsn, tide.settings, tide.embedders)
    with pytest.raises(UsageError, match="TIDEGATE_SOURCES does not name"):
        GroupPipeline(tide.dsn, tide.settings, tide.embedders)


def test_a_team_is_told_that_an_administrator_publishes_it(tide: Tide, away: Away) -> None:
    """Roles of the index's server say nothing of who owns a table on another; a table of that name here is another."""
    tide.admin.execute("CREATE ROLE away_team; CREATE ROLE away_member LOGIN IN ROLE away_team")
    tide.admin.execute(TABLE.replace("CREATE SCHEMA sales;", "CREATE SCHEMA sales AUTHORIZATION away_team;"))
    tide.admin.execute("ALTER TABLE sales.customer OWNER TO away_team")
    add_domain(tide.admin, "sales", "away_team", "never")
    contract = parse_contract(CUSTOMER.encode(), "customer.odcs.yaml")

    def decided(sources: Mapping[str, str]) -> str:
        with psycopg.connect(make_conninfo(tide.dsn, user="away_member"), autocommit=True) as member:
            number = hand_in(member, contract, "apply")
        controller = Controller(tide.dsn, tide.embedders, Lineage(None), sources)
        ((_, outcome),) = controller.decide_waiting(tide.admin)
        assert number
        assert outcome.state == "refused"
        return outcome.text or ""

    try:
        tide.admin.execute(sql.SQL("ALTER ROLE away_member PASSWORD {}").format(conninfo_to_dict(tide.dsn)["password"]))
        said = decided(tide.settings.sources)
        assert 'its rows are on the server "crm"' in said
        assert "an administrator publishes it: tidegate apply customer.odcs.yaml" in said
        # A controller that has not heard of that server.
        tide.admin.execute("DROP TABLE sales.customer")
        assert "contracts of rows on another server are published by an administrator" in decided({})
        assert tide.one("SELECT count(*) FROM tidegate.product") == 0
        # The administrator does, and the roles of the contract read it here.
        assert publish(tide, CUSTOMER).source == CRM
        # The domain's team changes nothing of it afterwards.
        assert 'on the server "crm"' in decided(tide.settings.sources)
    finally:
        tide.admin.execute("DROP OWNED BY away_team, away_member CASCADE; DROP ROLE away_member, away_team")


def test_a_database_serves_one_index(tide: Tide, away: Away) -> None:
    tide.settings.slot = "another_index"
    other = sources(tide.settings, tide.dsn, "test")[CRM]
    with pytest.raises(ServerUnfit, match="read by another index, with the slot"):
        claim(away.admin, other)
    with pytest.raises(ServerUnfit, match="has an index of its own"):
        prepare_source(tide.admin, away.source)
    with pytest.raises(ServerUnfit, match="is a source of an index on another server"):
        initialise(away.admin)
    away.admin.execute("DROP PUBLICATION tidegate; DROP SCHEMA tidegate CASCADE")
    with pytest.raises(SourceUnprepared, match="tidegate init --source crm"):
        planned(tide, CUSTOMER)


def test_sources_of_the_settings(tide: Tide) -> None:
    def named(**given: str) -> Settings:
        return Settings(sources=given, kafka=KafkaSettings(prefix="t"), _env_file=None)

    full = "postgresql://user@host/db"
    found = sources(named(**{"CRM-1": full}), "", "index")
    assert (found["CRM-1"].slot, found["CRM-1"].prefix) == ("tidegate_index_crm_1", "t.crm_1")
    assert "user" not in repr(found)
    for given, said in (
        ({"crm": "host=h"}, "has no dbname, no user"),
        ({"crm": "no such"}, "is not understood"),
        ({"crm-1": full, "crm_1": full}, "written like another"),
        ({"c" * 60: full}, "63 characters"),
    ):
        with pytest.raises(UsageError, match=said):
            sources(named(**given), "", "index")


def test_the_command_line(tide: Tide, away: Away, tmp_path: Path) -> None:
    """init --source, a plan that names its source, applied as reviewed; drift of both databases."""
    away.admin.execute("DROP PUBLICATION tidegate; DROP SCHEMA tidegate CASCADE")
    (tmp_path / "customer.odcs.yaml").write_text(CUSTOMER)
    environment = {**os.environ, "TIDEGATE_DSN": tide.dsn, "TIDEGATE_SOURCES__CRM": away.source.dsn}

    def tidegate(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "tidegate.cli", *arguments]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == code, done
        return done.stdout + done.stderr

    assert "tidegate init --source crm" in tidegate("plan", "customer.odcs.yaml", code=1)
    assert "is ready" in tidegate("init", "--source", "crm")
    assert "there is no source" in tidegate("init", "--source", "erp", code=2)
    assert "-- sales.customer, on crm" in tidegate("plan", "--sql", "customer.odcs.yaml", code=2)
    tidegate("plan", "customer.odcs.yaml", "-o", "plan.json", code=2)
    assert away.source.dsn not in (tmp_path / "plan.json").read_text()
    assert "publishes sales.customer" in tidegate("apply", "plan.json")
    tidegate("plan", "customer.odcs.yaml")
    assert find_drift(tide.admin, tide.settings.sources) == []
    away.admin.execute("GRANT SELECT (secret) ON sales.customer TO tidegate_worker")
    assert "grant_extra" in tidegate("drift", code=2)
    del environment["TIDEGATE_SOURCES__CRM"]
    assert "source_unknown" in tidegate("drift", code=2)
    assert "its rows come from" in tidegate("plan", "customer.odcs.yaml", code=1)

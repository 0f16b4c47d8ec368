"""A source database that is not the index's, for tests: contract, table, preparation."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide
from tidegate.capture.source import Source, sources
from tidegate.database import Connection, connect
from tidegate.govern.apply import apply_plan
from tidegate.govern.plan import Plan, make_plan, setting_in_force
from tidegate.govern.source_database import prepare_source

CRM = "crm"
CUSTOMER = SIMPLE_CONTRACT.replace("team.note", "sales.customer")
for was, becomes in (
    ("domain: team", "domain: sales"),
    ("schema: team", "schema: sales"),
    ("name: note", "name: customer"),
    ("physicalName: note", "physicalName: customer"),
    ("server: source", f"server: {CRM}"),
):
    assert was in CUSTOMER
    CUSTOMER = CUSTOMER.replace(was, becomes)
TABLE = SIMPLE_TABLE.replace("team", "sales").replace("note", "customer")


@dataclass
class Away:
    """The source database, and a superuser's connection to it."""

    source: Source
    admin: Connection


@contextmanager
def source_database(server_dsn: str, tide: Tide) -> Iterator[Away]:
    """A database of that server as the source crm of the index: prepared, with the table sales.customer."""
    name = f"crm_of_{tide.admin.info.dbname}"
    with psycopg.connect(server_dsn, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        tide.settings.sources = {CRM: make_conninfo(server_dsn, dbname=name)}
        source = sources(tide.settings, tide.dsn, str(tide.admin.info.dbname))[CRM]
        try:
            with connect(source.dsn) as admin:
                prepare_source(admin, source)
                admin.execute(TABLE)
                yield Away(source, admin)
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def planned(tide: Tide, text: str) -> Plan:
    """The plan of a contract, under the test's sources."""
    contract = tide.bumped(tide.contract(text))
    setting = setting_in_force(tide.admin, sources=tide.settings.sources)
    of = tide.embedders.of
    return make_plan(tide.admin, contract, of(contract.embedding.model), setting=setting, embedder_of=of)


def publish(tide: Tide, text: str) -> Plan:
    """Applies a contract as `tidegate apply` does, and returns its plan."""
    plan = planned(tide, text)
    apply_plan(tide.admin, plan, again=lambda: planned(tide, text))
    return plan

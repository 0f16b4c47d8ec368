"""Random rules, rows and principals: what an explanation says she sees is what row-level security shows her."""

from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from psycopg import sql
from psycopg.types.json import Jsonb
from tests.security import test_rules_property
from tests.security.test_rules_property import (
    CASES,
    CHUNKS,
    PERSON,
    ROLES,
    Case,
    cases,
    contract_of,
    ids,
    set_up,
    undone,
)

from tidegate.contract.contract import Contract
from tidegate.govern.rule_catalog import compiled_rules
from tidegate.sql import queries

world = test_rules_property.world


def catalogue(world: psycopg.Connection, contract: Contract) -> None:
    """The contract in the catalog, as apply records it."""
    world.execute("GRANT SELECT ON ALL TABLES IN SCHEMA tgp_domain TO tidegate_owner")
    for (function,) in world.execute(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'rag_tgp_domain'::regnamespace"
    ).fetchall():
        world.execute(f"ALTER FUNCTION {function} OWNER TO tidegate_owner")
    world.execute(
        "INSERT INTO tidegate.product (product, domain, contract_version, contract, contract_text, source_schema, source_table, "
        "chunk_schema, chunk_table, live_function, key_columns, model, dimension, state, applied_by) VALUES (%s, 'tgp_domain', "
        "'1.0.0', %s, '', 'tgp_domain', 'thing', 'rag_tgp_domain', 'thing', '', '{id}', 'local/none', 1, 'live', '')",
        [contract.product, Jsonb(contract.to_spec())],
    )
    world.execute(
        queries("govern")["record_rules"], {"product": contract.product, "rules": Jsonb(compiled_rules(contract))}
    )


def explained(world: psycopg.Connection, statement: str, *parameters: object) -> Any:
    row = world.execute(statement, parameters).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row[0]


@pytest.mark.timeout(600)
@settings(
    max_examples=max(CASES // 3, 5),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=cases())
def test_a_verdict_is_what_row_level_security_shows(world: psycopg.Connection, case: Case) -> None:
    contract = contract_of(case)
    with undone(world):
        set_up(world, case, contract)
        catalogue(world, contract)
        numbers = range(1, len(case.rows) + 1)
        says = {
            number: explained(
                world, "SELECT tidegate.explain_access(%s, %s, %s)", PERSON, contract.product, Jsonb(number)
            )
            for number in numbers
        }
        given_says = {
            number
            for number in numbers
            if explained(
                world, "SELECT tidegate.explain_access_as(%s, %s, %s, %s, %s)",
                list(case.roles), Jsonb(case.attributes), contract.product, Jsonb(number), PERSON,
            )["source"]["rules_let_her"]
        }  # fmt: skip
        seers = {
            number
            for number in numbers
            for (role, how) in world.execute(
                "SELECT role, how FROM tidegate.who_can_see(%s, %s)", [contract.product, Jsonb(number)]
            )
            if role == PERSON and how == ("break-glass" if case.glass == "active" else "rule")
        }
        in_all = explained(world, "SELECT tidegate.explain_access(%s, %s)", PERSON, contract.product)
        world.execute(f"SET LOCAL ROLE {PERSON}")
        world.execute("SELECT set_config('TimeZone', %s, true)", (case.zone,))
        shown = ids(world, sql.SQL("SELECT id FROM {}").format(CHUNKS))
        world.execute("RESET ROLE")
        # An emergency grant shows rows that no rule shows; somebody given by roles and attributes has none.
        by_rules = given_says if case.glass == "active" else shown
        assert by_rules <= shown
        assert {number for number, found in says.items() if found["sees"]} == shown
        # The live check says the same of the same values; and a token with the same roles and attributes too.
        assert {number for number, found in says.items() if found["source"]["rules_let_her"]} == shown
        assert given_says == by_rules
        assert seers == shown
        assert in_all["visible_rows"] == len(shown)
        for number, found in says.items():
            stops = any(rule["outcome"] == "stops her" for rule in found["rules"])
            lets = any(rule["outcome"] == "lets her" for rule in found["rules"])
            assert (lets and not stops) == (number in by_rules), "the rules' outcomes add up to the verdict"
        assert set(ROLES) >= set(case.roles)

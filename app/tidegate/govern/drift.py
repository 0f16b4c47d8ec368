"""Whether the database still is as it was published, and what leads around it. Nothing is changed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg

from tidegate.capture.stream import HOME
from tidegate.contract.contract import Contract
from tidegate.database import Connection
from tidegate.govern.chunk_words import EVENTS, trigger_marks
from tidegate.govern.drift_around import around
from tidegate.govern.drift_expected import Row, State, actual, expected, schemas
from tidegate.govern.drift_finding import DriftFinding, ordered
from tidegate.govern.drift_source import at_sources
from tidegate.govern.rule_catalog import compiled_rules
from tidegate.sql import queries

INIT = 'run "tidegate init"'
_MARKS = ("tidegate ", "tidegate:")


def find_drift(connection: Connection, sources: Mapping[str, str] | None = None) -> list[DriftFinding]:
    """Everything that is not as published, the gravest first.

    Args:
        sources: DSNs of the databases other than the index's that rows come from.

    Raises:
        psycopg.errors.LockNotAvailable: views of the control schema were in use for 2 s.
    """
    published = [(Contract.from_spec(row[0]), row[1]) for row in connection.execute(queries("drift")["published"])]
    contracts = [contract for contract, _ in published]
    remote = {contract.product: server for contract, server in published if server != HOME}
    tables = {
        (row[0], row[1]): row
        for row in connection.execute(queries("drift")["chunk_tables"], {"schemas": schemas(contracts)})
    }
    oids = {c.index: tables[c.chunk_schema, c.table][6] for c in contracts if (c.chunk_schema, c.table) in tables}
    is_, unmade = actual(connection, contracts, oids), []
    try:
        should = expected(connection, contracts, oids, frozenset(remote))
    except psycopg.errors.LockNotAvailable:
        raise
    except psycopg.Error as error:
        should = is_
        unmade = [
            DriftFinding(
                "error", "not_compared", "database",
                f"functions, policies and privileges could not be compared: {error.diag.message_primary or error}",
                "mend the owners that are named here, and look again",
            )
        ]  # fmt: skip
    findings = [
        *unmade,
        *_tables(contracts, tables),
        *_schema_owners(connection, contracts),
        *_policies(contracts, is_, should),
        *_functions(is_, should),
        *_privileges(is_, should),
        *_control(is_, should),
        *_triggers(contracts, is_, should),
        *_catalogue(connection, contracts),
        *around(connection, contracts),
        *at_sources([c for c in contracts if c.product in remote], remote, sources or {}),
    ]
    return ordered(findings)


def _again(contract: Contract) -> str:
    return f"tidegate apply {contract.path}"


def _tables(contracts: Sequence[Contract], tables: dict[tuple[str, str], Row]) -> Iterator[DriftFinding]:
    ours = {(contract.chunk_schema, contract.table): contract for contract in contracts}
    for place, contract in ours.items():
        name = ".".join(place)
        if place not in tables:
            yield DriftFinding("error", "table_missing", name, "the chunk table is gone", _again(contract))
            continue
        _, _, _, owner, enabled, forced, _, inherits, _, _ = tables[place]
        if not enabled:
            yield DriftFinding(
                "error", "rls_disabled", name, "row-level security is off: every reader sees every row",
                f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
            )  # fmt: skip
        if not forced:
            yield DriftFinding(
                "error", "rls_not_forced", name, "row-level security does not hold for the table's owner",
                f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY",
            )  # fmt: skip
        if owner != "tidegate_owner":
            yield DriftFinding(
                "error", "owner", name, f"it belongs to {owner}, who can change its policies",
                f"ALTER TABLE {name} OWNER TO tidegate_owner",
            )  # fmt: skip
        if inherits:
            yield DriftFinding(
                "error", "inheritance", name,
                "it has a parent or a child: rows are read through the parent under the parent's policies alone",
                f"ALTER TABLE … NO INHERIT, so that {name} stands alone",
            )  # fmt: skip
    for (schema, table), row in tables.items():
        if (
            schema != "tidegate"
            and (schema, table) not in ours
            and row[2] in ("r", "p", "f")
            and not _clear(contracts, schema, table)
        ):
            yield DriftFinding("warning", "table_foreign", f"{schema}.{table}", "tidegate did not make this table")


def _clear(contracts: Sequence[Contract], schema: str, table: str) -> bool:
    """Whether it is the table of a masked column's clear values."""
    return any(c.chunk_schema == schema and table.startswith(f"{c.table}_clear_") for c in contracts)


def _schema_owners(connection: Connection, contracts: Sequence[Contract]) -> Iterator[DriftFinding]:
    for name, owner in connection.execute(queries("drift")["schemas"], {"schemas": schemas(contracts)}):
        if owner != "tidegate_owner":
            yield DriftFinding(
                "error", "owner", f"schema {name}", f"it belongs to {owner}, who could replace what is in it",
                f"ALTER SCHEMA {name} OWNER TO tidegate_owner",
            )  # fmt: skip


def _policies(contracts: Sequence[Contract], is_: State, should: State) -> Iterator[DriftFinding]:
    for contract in contracts:
        held, wanted = is_.policies.get(contract.index), should.policies.get(contract.index)
        if held is None or wanted is None:
            continue
        table = contract.index
        for name, row in wanted.items():
            if name not in held:
                yield DriftFinding("error", "policy_missing", table, f"the policy {name} is gone", _again(contract))
            elif _comparable(held[name]) != _comparable(row):
                yield DriftFinding(
                    "error", "policy_changed", table, f"the policy {name} {_what(held[name], row)}",
                    f"DROP POLICY {name} ON {table}, then {_again(contract)}",
                )  # fmt: skip
        for name, row in held.items():
            if name in wanted:
                continue
            if (row[6] or "").startswith(_MARKS):
                yield DriftFinding(
                    "error", "policy_stale", table, f"the policy {name} is of no rule in force", _again(contract)
                )
            elif row[1]:
                yield DriftFinding(
                    "error", "policy_foreign_widens", table,
                    f"the policy {name}, which tidegate did not make, shows rows that no rule allows",
                    f"DROP POLICY {name} ON {table}",
                )  # fmt: skip
            else:
                yield DriftFinding(
                    "warning", "policy_foreign_narrows", table,
                    f"the policy {name}, which tidegate did not make, hides rows, perhaps from the worker, too",
                    f"DROP POLICY {name} ON {table}, and a deny rule in {contract.path}",
                )  # fmt: skip


def _comparable(policy: Row) -> Row:
    """Without the version in its mark: a policy that a new version leaves as it is keeps its old one."""
    return (*policy[1:6], (policy[6] or "").partition(" rule=")[2] or policy[6])


def _what(held: Row, wanted: Row) -> str:
    parts = ("", "is permissive or restrictive otherwise", "is for other commands", "is for other roles",
             "has another condition", "has another check", "has another comment")  # fmt: skip
    before, after = _comparable(held), _comparable(wanted)
    return " and ".join(parts[at] for at in range(1, 7) if before[at - 1] != after[at - 1])


def _functions(is_: State, should: State) -> Iterator[DriftFinding]:
    for name, row in is_.functions.items():
        if row[1] != "tidegate_owner":
            yield DriftFinding(
                "error", "owner", name, f"it belongs to {row[1]}, who can replace it",
                f"ALTER FUNCTION {name} OWNER TO tidegate_owner",
            )  # fmt: skip
    parts = ("", "", "SECURITY DEFINER", "volatility", "LEAKPROOF", "SET clauses", "language", "body", "result")
    for name, wanted in should.functions.items():
        held = is_.functions.get(name)
        way_out = INIT if name.startswith("tidegate.") else "tidegate apply its contract"
        if held is None:
            yield DriftFinding("error", "function_missing", name, "the function is gone", way_out)
        elif not wanted[9]:
            yield DriftFinding(
                "error" if held[2] else "warning", "function_foreign", name,
                "tidegate did not make this function" + (", and it runs with its owner's rights" if held[2] else ""),
                f"DROP FUNCTION {name}",
            )  # fmt: skip
        elif held[2:9] != wanted[2:9]:
            changed = ", ".join(parts[at] for at in range(2, 9) if held[at] != wanted[at])
            yield DriftFinding("error", "function_changed", name, f"changed: {changed}", way_out)


def _privileges(is_: State, should: State) -> Iterator[DriftFinding]:
    foreign = {name for name, row in should.functions.items() if not row[9]}
    for kind, name, grantee, privilege in sorted(is_.privileges - should.privileges):
        if name in foreign:
            continue
        thing = name if kind == "table" else f"{kind} {name}"
        yield DriftFinding(
            "error", "public_grant" if grantee == "PUBLIC" else "grant_extra", thing,
            f"{grantee} has {privilege}, which no contract gives",
            f"REVOKE {privilege} ON {_where(kind)} {name} FROM {grantee}",
        )  # fmt: skip
    for kind, name, grantee, privilege in sorted(should.privileges - is_.privileges):
        if name in foreign or (kind == "function" and name not in is_.functions):
            continue
        yield DriftFinding(
            "warning", "grant_missing", name if kind == "table" else f"{kind} {name}",
            f"{grantee} has lost {privilege}",
            INIT
            if "tidegate." in name or name == "tidegate"
            else f"GRANT {privilege} ON {kind.upper()} {name} TO {grantee}",
        )  # fmt: skip


def _control(is_: State, should: State) -> Iterator[DriftFinding]:
    for name, row in is_.relations.items():
        if row[2] != "tidegate_owner":
            yield DriftFinding(
                "error", "owner", f"tidegate.{name}", f"it belongs to {row[2]}",
                f"ALTER TABLE tidegate.{name} OWNER TO tidegate_owner",
            )  # fmt: skip
        if name in should.relations and row[3] != should.relations[name][3]:
            yield DriftFinding("error", "view_changed", f"tidegate.{name}", "the view is another one", INIT)
    for name in should.relations.keys() - is_.relations.keys():
        yield DriftFinding("error", "view_missing", f"tidegate.{name}", "the view is gone", INIT)


def _where(kind: str) -> str:
    return "its table and column" if kind == "column" else kind.upper()


def _triggers(contracts: Sequence[Contract], is_: State, should: State) -> Iterator[DriftFinding]:
    for (table, name), row in should.triggers.items():
        held = is_.triggers.get((table, name))
        if not table.startswith("tidegate."):
            if not (name in EVENTS and row[4]):
                yield DriftFinding(
                    "error", "trigger_foreign", table, f"the trigger {name} runs with the rights of whoever writes",
                    f"DROP TRIGGER {name} ON {table}",
                )  # fmt: skip
        elif held is None:
            yield DriftFinding("error", "trigger_missing", table, f"the trigger {name} is gone", INIT)
        elif held[2:] != row[2:]:
            yield DriftFinding("error", "trigger_changed", table, f"the trigger {name} is off or another one", INIT)
    for contract in contracts:
        table = f"{contract.chunk_schema}.{contract.table}"
        for name, mark in zip(sorted(EVENTS), trigger_marks(contract), strict=True):
            held = is_.triggers.get((table, name))
            if held is None:
                yield DriftFinding(
                    "warning", "trigger_missing", table, f"{name} is gone: searches miss words", _again(contract)
                )
            elif held[4] and (held[2] != "O" or f"{name} {held[5]}" != mark):
                yield DriftFinding(
                    "warning", "trigger_changed", table, f"{name} is off or another one", _again(contract)
                )


def _catalogue(connection: Connection, contracts: Sequence[Contract]) -> Iterator[DriftFinding]:
    held: dict[str, Any] = dict(connection.execute(queries("drift")["catalogued_rules"]).fetchall())
    for contract in contracts:
        if held.get(contract.index) != compiled_rules(contract):
            yield DriftFinding(
                "error", "rules_changed", contract.product + ("" if not contract.beside else " (second index)"),
                "tidegate.rule, which searches and explanations read, is not what the contract says",
                f"tidegate apply {contract.path} --rebuild",
            )  # fmt: skip

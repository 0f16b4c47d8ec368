"""What drifted in source databases on other servers: publication, privileges, the tables themselves."""

from collections.abc import Iterator, Mapping, Sequence

import psycopg

from tidegate.contract.contract import Contract
from tidegate.database import Connection, connect
from tidegate.errors import TidegateError
from tidegate.govern.drift_finding import DriftFinding
from tidegate.govern.source_database import place, require_prepared, source_steps
from tidegate.sql import queries


def at_sources(
    contracts: Sequence[Contract], servers: Mapping[str, str], sources: Mapping[str, str]
) -> Iterator[DriftFinding]:
    """Findings of every source that these contracts' rows come from.

    Args:
        servers: product → source.
        sources: source → DSN.
    """
    for name in sorted({servers[contract.product] for contract in contracts}):
        own = [contract for contract in contracts if servers[contract.product] == name]
        if name not in sources:
            yield DriftFinding(
                "warning", "source_unknown", name, "its DSN is not known here, so it was not looked at",
                f"set TIDEGATE_SOURCES__{name.upper()}",
            )  # fmt: skip
            continue
        try:
            with connect(sources[name]) as there:
                require_prepared(there, name)
                for contract in own:
                    yield from _table(there, contract, name)
        except (TidegateError, psycopg.Error) as error:
            yield DriftFinding("error", "source_unreadable", name, str(error).strip(), "see the message")


def _table(there: Connection, contract: Contract, name: str) -> Iterator[DriftFinding]:
    source = contract.source
    table = f"{source.schema}.{source.table}"
    where = f"{name}: {table}"
    again = f"tidegate apply {contract.path}"
    found = there.execute(
        queries("govern")["source_table"], {"schema": source.schema, "table": source.table}
    ).fetchone()
    if found is None or found[1] != "r":
        what = "is gone" if found is None else "is no ordinary table any more"
        yield DriftFinding("error", "source_gone", where, f"the table {what} ({place(there)})", again)
        return
    if found[3]:
        yield DriftFinding(
            "error", "source_hidden", where, "it has row-level security, so the worker refuses to read it",
            f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
        )  # fmt: skip
    steps = source_steps(there, contract, name)
    if steps.joins:
        yield DriftFinding(
            "error", "not_captured", contract.product,
            f"{table} is not in the publication tidegate on {name}: changes are lost", again,
        )  # fmt: skip
    elif steps.before:
        yield DriftFinding("warning", "grant_missing", where, "the worker may not read all columns", again)
    if steps.after:
        yield DriftFinding("error", "grant_extra", where, "the worker may read columns that no contract needs", again)

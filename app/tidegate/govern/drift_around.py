"""What leads around the policies: views, definer functions, publications, powerful members."""

from collections.abc import Iterator, Sequence
from typing import Any

from tidegate.contract.contract import Contract
from tidegate.database import Connection
from tidegate.govern import chunk_table as table_of
from tidegate.govern.drift_finding import DriftFinding
from tidegate.sql import queries


def around(connection: Connection, contracts: Sequence[Contract]) -> Iterator[DriftFinding]:
    """Everything outside of the chunk tables that shows their rows otherwise, and what is worth knowing."""
    named = sorted({contract.chunk_schema for contract in contracts})
    roles = sorted({role for contract in contracts for role in table_of.reading_roles(contract)})

    def rows(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(queries("drift")[query], {"schemas": named, "roles": roles}).fetchall()

    for name, kind, table, owner, bypasses, invoker in rows("views"):
        if kind == "m":
            yield DriftFinding(
                "error", "materialized_view", name, f"it holds a copy of rows of {table}, under no policy",
                f"DROP MATERIALIZED VIEW {name}",
            )  # fmt: skip
        elif not invoker:
            yield DriftFinding(
                "error" if bypasses else "warning", "view", name,
                f"it reads {table} with the rights of {owner}"
                + (", whom no policy holds: it shows every row" if bypasses else ""),
                f"ALTER VIEW {name} SET (security_invoker = true)",
            )  # fmt: skip
    for name, owner, bypasses in rows("definers"):
        yield DriftFinding(
            "error" if bypasses else "warning", "definer_function", name,
            f"it names a chunk table and runs with the rights of {owner}"
            + (", whom no policy holds" if bypasses else ""),
            f"ALTER FUNCTION {name} SECURITY INVOKER",
        )  # fmt: skip
    for table, name in rows("table_rules"):
        yield DriftFinding(
            "error",
            "table_rule",
            table,
            f"the rule {name} rewrites what is asked of it",
            f"DROP RULE {name} ON {table}",
        )
    for name, table in rows("publications"):
        yield DriftFinding(
            "error", "published_out", table, f"the publication {name} sends its rows out, under no policy",
            f"ALTER PUBLICATION {name} DROP TABLE {table}",
        )  # fmt: skip
    for product, table in rows("uncaptured"):
        yield DriftFinding(
            "error", "not_captured", product, f"{table} is not in the publication tidegate: changes are lost",
            f"tidegate apply the contract of {product}",
        )  # fmt: skip
    for (name,) in rows("group_roles"):
        yield DriftFinding(
            "error", "group_role", name, "a group role of tidegate has rights of its own (login, superuser, …)",
            f"ALTER ROLE {name} NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION",
        )  # fmt: skip
    for name, role in rows("two_faced"):
        yield DriftFinding(
            "error", "gateway_with_role", name,
            f"it serves many people as a gateway and has the role {role} itself",
            f"REVOKE {role} FROM {name}",
        )  # fmt: skip
    for name, why, role in rows("bypassing"):
        yield DriftFinding(
            "info", "bypasses", name, f"{why}: sees all rows of what {role or 'it'} reads, whatever the rules say"
        )
    for name, role in rows("powerful"):
        yield DriftFinding("info", "powerful_member", name, f"a login that is a member of {role}")
    for name, event in rows("event_triggers"):
        yield DriftFinding("info", "event_trigger", name, f"runs at {event}, also at those of tidegate apply")
    for principal, reason, until in rows("glass"):
        yield DriftFinding(
            "info", "break_glass", principal, f'sees all rows until {until:%Y-%m-%d %H:%M}Z: "{reason}"',
            f"tidegate break-glass --as {principal} --end",
        )  # fmt: skip
    for (principal,) in rows("glass_left"):
        yield DriftFinding(
            "info", "break_glass_left", principal, "still a member of tidegate_emergency, without effect",
            f"tidegate break-glass --as {principal} --end",
        )  # fmt: skip

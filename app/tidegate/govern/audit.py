"""What was changed, by whom, why: the audit as administrators read it."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate.contract.finding import did_you_mean
from tidegate.database import Connection
from tidegate.errors import UnknownName, UsageError
from tidegate.govern.named import require_published
from tidegate.sql import queries

_AGE = re.compile(r"(\d{1,6})\s*(m|h|d|w)")
_KINDS = ("apply", "model", "product", "principal", "token", "domain", "standards", "break-glass")
"""Families of events (sql/audit.sql, model.sql, audit_log.sql)."""
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """`kind` is like `apply` or `principal update`; `before` and `after` are what the row or the contract was."""

    audit_id: int
    at: datetime
    actor: str
    kind: str
    product: str | None
    contract_version: str | None
    subject: str | None
    reason: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def read_since(text: str) -> datetime:
    """`2d`, `90m`, `12h`, `1w` ago, or a moment in ISO 8601 (UTC where it names no zone).

    Raises:
        UsageError: neither.
    """
    if age := _AGE.fullmatch(text.strip()):
        return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f'"{text}" is no time; write 2d, 12h, 90m, 1w or 2026-05-01T12:00') from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def audit_events(
    connection: Connection,
    *,
    since: datetime | None = None,
    kind: str | None = None,
    product: str | None = None,
    most: int = 1000,
) -> list[AuditEvent]:
    """The last `most` events, the newest first. `kind`: `apply`, or all of a family: `principal`.

    Raises:
        UnknownName: there is no such kind; or nothing is recorded of the product, and it is not published.
    """
    if kind is not None and not any(kind == known or kind.startswith(f"{known} ") for known in _KINDS):
        near = did_you_mean(kind, _KINDS)
        raise UnknownName(f'there is no kind of event "{kind}"{near}; there are: {", ".join(_KINDS)}')
    parameters = {"since": since, "kind": kind, "product": product, "most": most}
    events = [AuditEvent(*row) for row in connection.execute(queries("audit_log")["events"], parameters)]
    if not events and connection.execute(queries("audit_log")["known"], parameters).fetchone() is None:
        require_published(connection, product)  # what is published no more has its events still
    return events

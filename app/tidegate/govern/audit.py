"""What was changed, by whom, why: the audit as administrators read it."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate.database import Connection
from tidegate.errors import UsageError
from tidegate.sql import queries

_AGE = re.compile(r"(\d{1,6})\s*(m|h|d|w)")
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
    """The last `most` events, the newest first. `kind`: `apply`, or all of a family: `principal`."""
    parameters = {"since": since, "kind": kind, "product": product, "most": most}
    return [AuditEvent(*row) for row in connection.execute(queries("audit_log")["events"], parameters)]

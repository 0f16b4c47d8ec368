"""Emergency grants: one role sees all rows for some minutes, and everybody can see that she did."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg

from tidegate.database import Connection
from tidegate.errors import TidegateError, UnknownName, UsageError
from tidegate.govern.named import require_roles
from tidegate.sql import queries

MOST_MINUTES = 480


class GlassUnbroken(TidegateError):
    """The emergency grant was not given."""


@dataclass(frozen=True, slots=True)
class Grant:
    """An emergency grant. `products` None: all."""

    principal: str
    products: list[str] | None
    reason: str
    granted_by: str
    granted_at: datetime
    expires_at: datetime
    ended_at: datetime | None


def begin(
    connection: Connection, principal: str, reason: str, minutes: int, products: Sequence[str] | None = None
) -> datetime:
    """Gives it; returns when it ends by itself.

    Raises:
        UsageError: no reason, too long.
        UnknownName: there is no such role or product.
        GlassUnbroken: the login is no member of tidegate_admin.
    """
    parameters = {
        "principal": principal,
        "reason": reason,
        "minutes": minutes,
        "products": list(products) if products else None,
    }
    row = _call(connection, "begin", parameters)
    assert isinstance(row, datetime)
    return row


def end(connection: Connection, principal: str) -> int:
    """Ends a role's grants now; returns how many there were.

    Raises:
        UnknownName: there were none, and there is no such role.
        GlassUnbroken: the login is no member of tidegate_admin.
    """
    row = _call(connection, "end", {"principal": principal})
    assert isinstance(row, int)
    if not row:
        require_roles(connection, [principal], " LOGIN")
    return row


def open_grants(connection: Connection) -> list[Grant]:
    """The grants that have neither ended nor expired."""
    return [Grant(*row) for row in connection.execute(queries("audit_log")["grants"])]


def _call(connection: Connection, name: str, parameters: dict[str, object]) -> object:
    try:
        row = connection.execute(queries("audit_log")[name], parameters).fetchone()
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject) as error:
        hint = f"; {error.diag.message_hint}" if error.diag.message_hint else ""
        kind = UnknownName if isinstance(error, psycopg.errors.UndefinedObject) else UsageError
        raise kind(f"{error.diag.message_primary}{hint}") from None
    except psycopg.errors.InsufficientPrivilege as error:
        way_out = error.diag.message_hint or f"run: GRANT tidegate_admin TO {connection.info.user}"
        raise GlassUnbroken(f"{error.diag.message_primary}; {way_out}") from None
    assert row is not None
    return row[0]

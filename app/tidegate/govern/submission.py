"""Handing contracts in: what a team's login can do without any right on tidegate's tables."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import psycopg

from tidegate.contract.contract import Contract
from tidegate.database import Connection
from tidegate.errors import TidegateError, UnknownName
from tidegate.sql import queries

Kind = Literal["plan", "apply"]
_POLL_S = 0.2


class NotHandedIn(TidegateError):
    """The contract could not be handed in."""


class Decided(TidegateError):
    """The submission does not wait for a decision."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a submission. `state`: submitted, review, planned, applied, refused. `text` says it in words;
    `plan` has the statements (`sql`) and the `summary`, where it was planned."""

    state: str
    text: str | None
    plan: dict[str, Any] | None

    @property
    def open(self) -> bool:
        """Whether nobody has looked at it yet."""
        return self.state == "submitted"


@dataclass(frozen=True, slots=True)
class Submission:
    """A contract that was handed in, as a team sees its own and an administrator all."""

    id: int
    kind: str
    domain: str
    product: str
    file_name: str
    rebuild: bool
    submitted_by: str
    submitted_at: datetime
    state: str
    outcome: str | None
    decided_by: str | None
    decided_at: datetime | None
    plan: dict[str, Any] | None


def may_publish(connection: Connection) -> bool:
    """Whether the login can plan and apply by itself; a team's login cannot, and hands in."""
    return connection.execute(queries("controller")["may_publish"]).fetchone() == (True,)


def hand_in(connection: Connection, contract: Contract, kind: Kind, *, rebuild: bool = False) -> int:
    """Hands a contract in and returns the submission's number.

    Raises:
        NotHandedIn: the login is not of the domain's team, or the database has no tidegate.
    """
    parameters = {
        "kind": kind,
        "domain": contract.domain,
        "product": contract.product,
        "file_name": contract.path,
        "text": contract.text,
        "rebuild": rebuild,
    }
    login = connection.info.user
    try:
        row = connection.execute(queries("controller")["submit"], parameters).fetchone()
    except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction):
        raise NotHandedIn(
            f'database "{connection.info.dbname}" has no tidegate control schema, or an old one; '
            'an administrator runs "tidegate init" on it first'
        ) from None
    except psycopg.errors.InsufficientPrivilege as error:
        hint = error.diag.message_hint or (
            f"login \"{login}\" is of no domain's team. An administrator names a domain's team with "
            f'"tidegate domain add {contract.domain} --role …", and admits people with GRANT'
        )
        raise NotHandedIn(f"{contract.path}: {contract.product}: {error.diag.message_primary}. {hint}") from None
    except psycopg.DataError as error:
        raise NotHandedIn(f"{contract.path}: {contract.product}: {error.diag.message_primary}") from None
    assert row is not None
    return int(row[0])


def outcome(connection: Connection, number: int) -> Outcome:
    """What became of a submission so far.

    Raises:
        UnknownName: there is none of this number that the caller may know of.
    """
    row = connection.execute(queries("controller")["outcome"], {"id": number}).fetchone()
    if row is None:
        raise UnknownName(f'there is no submission {number}; "tidegate submissions" lists them')
    return Outcome(*row)


def wait_for_outcome(
    connection: Connection, number: int, timeout: float | None = None, turn: Callable[[], None] = lambda: None
) -> Outcome:
    """Waits until somebody has looked at the submission; `turn` is called at each look.

    Args:
        timeout: seconds; None: as long as it takes. When the time is up, what is known then is returned.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        found = outcome(connection, number)
        if not found.open or (deadline is not None and time.monotonic() >= deadline):
            return found
        turn()
        time.sleep(_POLL_S)


def list_submissions(connection: Connection, *, only_open: bool = False) -> list[Submission]:
    """The team's own; for administrators all. `only_open`: those that somebody must still decide."""
    try:
        rows = connection.execute(queries("controller")["submissions"], {"open": only_open}).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        raise NotHandedIn(f'login "{connection.info.user}" is of no domain\'s team, and no administrator') from None
    return [Submission(*row) for row in rows]


def refuse(connection: Connection, number: int, reason: str) -> None:
    """Refuses a submission that waits.

    Raises:
        UnknownName: there is none of this number.
        Decided: it does not wait.
    """
    decided = connection.execute(queries("controller")["refuse"], {"id": number, "outcome": reason})
    if not decided.rowcount:
        state = outcome(connection, number).state
        raise Decided(f"submission {number} does not wait for a decision: it is {state}")

"""Plans to the database: one transaction a product, which publishes or leaves everything as it was."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from tidegate.database import Connection
from tidegate.errors import TidegateError
from tidegate.govern.plan import Plan

LOCK_TIMEOUT_MS = 2000
_ATTEMPTS = 5


class ApplyBlocked(TidegateError):
    """Other transactions hold the tables that a plan needs."""


class PlanOutdated(TidegateError):
    """The database is no longer as it was when the plan was made; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Applied:
    """`held_ms`: from the first statement that locks the chunk table against readers to the end of the commit; 0
    where none does."""

    held_ms: float


def apply_plan(connection: Connection, plan: Plan, *, again: Callable[[], Plan] | None = None) -> Applied:
    """Runs the plan's statements in one transaction.

    It waits at most 2 s for a lock, so that it does not line up every reader behind it, and tries again.

    Args:
        again: makes the plan anew, inside the lock that all applies take; other statements than the plan's are
            refused, none at all are nothing left to do.

    Raises:
        ApplyBlocked: the lock was not to be had in five attempts; nothing was changed.
        PlanOutdated: the plan made anew is another one; nothing was changed.
        psycopg.Error: a statement failed; nothing was changed.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with connection.transaction():
                locked = _run(connection, plan, again)
            return Applied((time.perf_counter() - locked) * 1000 if locked else 0.0)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            time.sleep(0.2 * 2**attempt)
    raise ApplyBlocked(
        f"{plan.contract.product}: other transactions hold its tables; nothing was changed. "
        "See pg_locks, and apply again when they have ended."
    )


def require_same(connection: Connection, plan: Plan, fresh: Plan) -> None:
    """Raises PlanOutdated, naming the first difference, unless both plans run the same statements."""
    planned, now = ([(s.statement.as_string(connection), s.as_owner) for s in each.steps] for each in (plan, fresh))
    if planned == now:
        return
    raise PlanOutdated(difference(plan.contract.product, [text for text, _ in planned], [text for text, _ in now]))


def difference(product: str, planned: list[str], now: list[str]) -> str:
    """What a person is told when the statements of a plan are no longer what would be run."""
    at = next((i for i, pair in enumerate(zip(planned, now, strict=False)) if pair[0] != pair[1]), None)
    if at is None:
        at = min(len(planned), len(now))
    was = _short(planned[at]) if at < len(planned) else "nothing more"
    is_ = _short(now[at]) if at < len(now) else "nothing more"
    return (
        f"{product}: the plan is not what would be run now; the database changed since it was made, or the file was "
        f"edited. Statement {at + 1} is planned as: {was}; now it would be: {is_}. Nothing was changed; plan again."
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:199]}…"


def _run(connection: Connection, plan: Plan, again: Callable[[], Plan] | None) -> float | None:
    connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")  # an int constant
    # Two applies at once take turns; else both would see the same gap and fill it.
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('tidegate.apply', 0))")
    if again is not None:
        fresh = again()
        if not fresh.steps:
            return None
        require_same(connection, plan, fresh)
    acting_as_owner = False
    locked = None
    for step in plan.steps:
        if step.as_owner != acting_as_owner:
            connection.execute("SET LOCAL ROLE tidegate_owner" if step.as_owner else "SET LOCAL ROLE NONE")
            acting_as_owner = step.as_owner
        if step.locks and locked is None:
            locked = time.perf_counter()
        connection.execute(step.statement)
    connection.execute("SET LOCAL ROLE NONE")
    return locked

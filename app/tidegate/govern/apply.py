"""Plans to the database: one transaction a product, which publishes or leaves everything as it was.

Where rows come from another server, two more there, before and after it (source_database.py)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psycopg

from tidegate.database import Connection, connect
from tidegate.errors import TidegateError
from tidegate.govern.plan import Plan, Step
from tidegate.sql import queries

T = TypeVar("T")

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
    if not any(step.source for step in plan.steps):
        return _patiently(plan, lambda: _apply_index(connection, plan, again))
    return _apply_remote(connection, plan, again)


def _apply_remote(connection: Connection, plan: Plan, again: Callable[[], Plan] | None) -> Applied:
    """Source, index, source: see govern/source_database.py for why this order is safe to be cut short."""
    before, after = plan.source_steps
    if not _patiently(plan, lambda: _begin_remote(connection, plan, again)):
        return Applied(0.0)
    _patiently(plan, lambda: _run_at_source(plan, before))
    # The source is as planned by now, so a plan made anew has the other statements only.
    applied = _patiently(plan, lambda: _apply_index(connection, plan, again))
    _patiently(plan, lambda: _run_at_source(plan, after))
    return applied


def _begin_remote(connection: Connection, plan: Plan, again: Callable[[], Plan] | None) -> bool:
    """Whether there is something to do. A published table that joins the publication again is suspended until its
    rows are read anew: changes of meanwhile are in no stream, and this transaction may be the last that is run."""
    with connection.transaction():
        _lock(connection)
        if again is not None:
            fresh = again()
            if not fresh.steps:
                return False
            require_same(connection, plan, fresh)
        if plan.rejoins:
            reason = "its table joins the publication again; apply its contract again where that was interrupted"
            connection.execute("SET LOCAL ROLE tidegate_owner")
            parameters = {"product": plan.contract.product, "reason": reason}
            connection.execute(queries("remote")["rejoin"], parameters)
    return True


def _run_at_source(plan: Plan, steps: Sequence[Step]) -> None:
    if not steps:
        return
    assert plan.source_dsn is not None
    with connect(plan.source_dsn) as there, there.transaction():
        there.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")  # an int constant
        for step in steps:
            there.execute(step.statement)


def _apply_index(connection: Connection, plan: Plan, again: Callable[[], Plan] | None) -> Applied:
    with connection.transaction():
        locked = _run(connection, plan, again)
    return Applied((time.perf_counter() - locked) * 1000 if locked else 0.0)


def _patiently(plan: Plan, act: Callable[[], T]) -> T:
    for attempt in range(_ATTEMPTS):
        try:
            return act()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            time.sleep(0.2 * 2**attempt)
    raise ApplyBlocked(
        f"{plan.contract.product}: other transactions hold its tables; nothing was changed. "
        "See pg_locks, and apply again when they have ended."
    )


def require_same(connection: Connection, plan: Plan, fresh: Plan) -> None:
    """Raises PlanOutdated, naming the first difference, unless both plans run the same statements."""
    planned, now = (
        [(s.statement.as_string(connection), s.as_owner, s.source) for s in each.steps] for each in (plan, fresh)
    )
    if planned == now:
        return
    raise PlanOutdated(difference(plan.contract.product, [each[0] for each in planned], [each[0] for each in now]))


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


def _lock(connection: Connection) -> None:
    connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")  # an int constant
    # Two applies at once take turns; else both would see the same gap and fill it.
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('tidegate.apply', 0))")


def _run(connection: Connection, plan: Plan, again: Callable[[], Plan] | None) -> float | None:
    _lock(connection)
    if again is not None:
        fresh = again()
        if not fresh.index_steps:
            return None
        require_same(connection, plan.at_index(), fresh.at_index())
    acting_as_owner = False
    locked = None
    for step in plan.index_steps:
        if step.as_owner != acting_as_owner:
            connection.execute("SET LOCAL ROLE tidegate_owner" if step.as_owner else "SET LOCAL ROLE NONE")
            acting_as_owner = step.as_owner
        if step.locks and locked is None:
            locked = time.perf_counter()
        connection.execute(step.statement)
    connection.execute("SET LOCAL ROLE NONE")
    return locked

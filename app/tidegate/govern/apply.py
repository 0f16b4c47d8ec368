"""Plans to the database: one transaction a product, which publishes or leaves everything as it was."""

import time

import psycopg

from tidegate.database import Connection
from tidegate.errors import TidegateError
from tidegate.govern.plan import Plan

LOCK_TIMEOUT_MS = 2000
_ATTEMPTS = 5


class ApplyBlocked(TidegateError):
    """Other transactions hold the tables that a plan needs."""


def apply_plan(connection: Connection, plan: Plan) -> None:
    """Runs the plan's statements in one transaction.

    It waits at most 2 s for a lock, so that it does not line up every reader behind it, and tries again.

    Raises:
        ApplyBlocked: the lock was not to be had in five attempts; nothing was changed.
        psycopg.Error: a statement failed; nothing was changed.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with connection.transaction():
                _run(connection, plan)
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            time.sleep(0.2 * 2**attempt)
    raise ApplyBlocked(
        f"{plan.contract.product}: other transactions hold its tables; nothing was changed. "
        "See pg_locks, and apply again when they have ended."
    )


def _run(connection: Connection, plan: Plan) -> None:
    connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")  # an int constant
    # Two applies at once take turns; else both would see the same gap and fill it.
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('tidegate.apply', 0))")
    acting_as_owner = False
    for step in plan.steps:
        if step.as_owner != acting_as_owner:
            connection.execute("SET LOCAL ROLE tidegate_owner" if step.as_owner else "SET LOCAL ROLE NONE")
            acting_as_owner = step.as_owner
        connection.execute(step.statement)
    connection.execute("SET LOCAL ROLE NONE")

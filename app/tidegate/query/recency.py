"""How fresh the index is that a call reads, and how fresh the caller wants it."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import psycopg

from tidegate.errors import TransientError
from tidegate.query.catalog import SQL
from tidegate.query.duration import spoken
from tidegate.query.scope import Scope
from tidegate.query.steps import Steps, fetch

_NUDGE = timedelta(milliseconds=250)
CLEARLY = timedelta(seconds=60)
"""How much older than its SLA an index may be before that is worth a word: restarts and bursts are shorter."""
_ALONE = timedelta(seconds=10)
"""The same where nobody reads the changes."""


class StaleIndex(TransientError):
    """The index is older than the call allows.

    Attributes:
        product: the oldest.
        as_of: every change committed before it is in the index; None where nothing is known yet.
        age: of `as_of`, when it was asked.
    """

    def __init__(self, product: str, as_of: datetime | None, age: timedelta | None, allowed: timedelta):
        self.product, self.as_of, self.age = product, as_of, age
        known = (
            "has no watermark yet"
            if as_of is None or age is None
            else f"is as of {as_of:%Y-%m-%d %H:%M:%S}Z, {spoken(age)} ago"
        )
        super().__init__(
            f'product "{product}" {known}; fresh_within allows {spoken(allowed)}. Is "tidegate run" (or "tidegate '
            'worker") at work? "tidegate status" says; or allow more'
        )


class NotIndexedYet(TransientError):
    """A position that the call waits for did not come into the index in time.

    Attributes:
        lsn: the position.
        products: those that were waited for; None: all.
    """

    def __init__(self, lsn: str, products: Sequence[str] | None, waited: timedelta):
        self.lsn, self.products = lsn, products
        super().__init__(
            f"not everything up to {lsn} is in the index of {', '.join(products or ('all products',))} after "
            f'{spoken(waited)}. Is "tidegate run" (or "tidegate worker") at work? "tidegate status" says; '
            "or wait longer (wait=)"
        )


def as_of(products: Sequence[str]) -> Steps[datetime | None]:
    """Every change that was committed before this moment is in the index of all these products.

    None where one of them has no watermark yet.
    """
    rows = yield from fetch(SQL["ages"], {"products": list(products)})
    moment: datetime | None = rows[0][1] if rows else None
    return moment


def why_old(products: Sequence[str] | None, idle: timedelta) -> Steps[str | None]:
    """A line on products whose index is clearly older than their SLA, and the way out.

    Before it, where all products are searched, a line on those that are suspended and left out. None: nothing to say.

    Args:
        products: those that are searched; None: all that are offered.
        idle: how old `as_of` gets where nothing happens: the heartbeat's interval.
    """
    wanted = {"products": None if products is None else list(products), "late": CLEARLY + idle, "alone": _ALONE + idle}
    rows = yield from fetch(SQL["old"], wanted)
    left_out = "" if products is not None else (yield from _suspended())
    if not rows:
        return left_out or None
    _, moment, age, somebody = rows[0]
    names = ", ".join(row[0] for row in rows)
    reason = (
        '"tidegate status" says why'
        if somebody
        else 'no worker is running; start "tidegate run" (or see "tidegate status")'
    )
    noun = "product" if len(rows) == 1 else "products"
    old = f"{noun} {names}: the index is as of {moment:%Y-%m-%d %H:%M:%S}Z, {spoken(age)} ago: {reason}"
    return f"{left_out}\n{old}" if left_out else old


def _suspended() -> Steps[str]:
    rows = yield from fetch(SQL["suspended"])
    if not rows:
        return ""
    names = ", ".join(row[0] for row in rows)
    return f'not searched, since suspended: {names}; "tidegate status" says why'


def recent_enough(scope: Scope, products: Sequence[str]) -> Steps[None]:
    """Waits for what the call wants to be in the index, then sees that the index is as fresh as it wants.

    Raises:
        NotIndexedYet: `after` was not reached within `wait`.
        StaleIndex: a product is older than `fresh_within`.
    """
    if scope.after is not None:
        wanted = None if scope.products is None else list(products)
        if not (yield from _reached(scope.after, scope.wait, wanted)):
            raise NotIndexedYet(scope.after, wanted, scope.wait)
    if scope.fresh_within is None or not products:
        return
    rows = yield from fetch(SQL["ages"], {"products": list(products)})
    product, moment, age, _ = rows[0]
    if moment is not None and age <= scope.fresh_within:
        return
    # as_of moves with commits and heartbeats, so that of a database where nothing happens is up to a heartbeat old.
    # What is in the index may be newer: ask whether all that is committed now is.
    if moment is not None and all(local for *_, local in rows):
        here = yield from fetch(SQL["position"])
        try:
            if (yield from _reached(here[0][0], min(_NUDGE, scope.fresh_within), list(products))):
                return
        except psycopg.errors.ObjectNotInPrerequisiteState:
            pass  # a standby writes no WAL
    raise StaleIndex(product, moment, age, scope.fresh_within)


def _reached(lsn: str, timeout: timedelta, products: list[str] | None) -> Steps[bool]:
    rows = yield from fetch(SQL["wait_for"], {"lsn": lsn, "timeout": timeout, "products": products})
    return bool(rows[0][0])

"""What products may still spend today."""

import logging
import threading
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from tidegate.contract.budget import Budget
from tidegate.database import Connection
from tidegate.index.product import Product
from tidegate.sql import queries

log = logging.getLogger(__name__)


class Budgets:
    """Says whether a text may be embedded now. Thread-safe.

    What all workers spent is read from the cost figures once a second; what this one gave out since is added by its
    estimate. So a budget is kept to within what is embedded in a second or two. Who began under it may end beyond it:
    one document larger than the whole budget is not put off for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: dict[str, int] = {}
        self._given: Counter[str] = Counter()
        self._warned: dict[str, date] = {}

    def take(self, product: Product, tokens: int) -> bool:
        """Whether so many tokens may be embedded; False: not today."""
        budget = product.contract.budget
        if budget is None:
            return True
        name = product.contract.product
        with self._lock:
            over = self._over(name, budget)
            if over and budget.policy == "queue":
                return False
            self._given[name] += tokens
            warn = over and self._warned.get(name) != _today()
            if warn:
                self._warned[name] = _today()
        if warn:
            log.warning("budget is spent", extra={"product": name, "tokens_a_day": budget.tokens})
        return True

    def room(self, product: Product) -> bool:
        """Whether rows that wait for tomorrow's budget need not wait any more."""
        budget = product.contract.budget
        if budget is None or budget.policy != "queue":
            return True
        with self._lock:
            return not self._over(product.contract.product, budget)

    def _over(self, name: str, budget: Budget) -> bool:
        return self._spent.get(name, 0) + self._given[name] >= budget.tokens

    def refresh(self, connection: Connection, products: Iterable[Product]) -> None:
        """Reads what was spent today. Call when this worker's own figures are written."""
        names = [product.contract.product for product in products if product.contract.budget is not None]
        if not names:
            return
        with self._lock:
            given = dict(self._given)
        spent: dict[str, int] = dict(connection.execute(queries("cost")["spent_today"], {"products": names}).fetchall())
        with self._lock:
            self._spent = spent
            self._given.subtract(given)


def tomorrow() -> timedelta:
    """How long it is until the next day's budget."""
    now = datetime.now(UTC)
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    return midnight - now


def _today() -> date:
    return datetime.now(UTC).date()

"""Which rows a call is about, and how fresh the index must be: what search, similar and ask share."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Self, get_args

from tidegate.capture.position import Lsn, lsn_text
from tidegate.errors import UsageError
from tidegate.query.duration import Duration, duration

Consistency = Literal["strict", "eventual"]
Mode = Literal["vector", "keyword", "hybrid"]
Where = Mapping[str, Any]
"""Values by column: `{"region": "EU", "price": {"lt": 100}, "tag": ["a", "b"], "closed_at": None}`."""

MAX_K = 10_000
_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")


@dataclass(frozen=True, slots=True)
class Scope:
    """A call's rows and its freshness, checked.

    Attributes:
        products: None: all that are offered to the caller.
        min_score: hits below it are left out.
        fresh_within: how old the index may be.
        after: a position (LSN) that must be in the index, waited for as long as `wait`.
    """

    k: int
    products: tuple[str, ...] | None
    consistency: Consistency
    where: Mapping[str, Any] | None = None
    min_score: float | None = None
    fresh_within: timedelta | None = None
    after: str | None = None
    wait: timedelta = timedelta(seconds=2)

    @classmethod
    def of(
        cls,
        k: int,
        products: Sequence[str] | None,
        consistency: Consistency,
        *,
        where: Where | None = None,
        min_score: float | None = None,
        fresh_within: Duration | None = None,
        after: str | int | None = None,
        wait: Duration = 2.0,
    ) -> Self:
        """From a caller's arguments.

        Raises:
            UsageError: one of them is none.
        """
        if isinstance(products, str):
            raise UsageError(f'products is the text "{products}"; pass a list: ["{products}"]')
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_K:
            raise UsageError(f"k is {k!r}; it is a whole number from 1 to {MAX_K:,}")
        return cls(
            k,
            None if products is None else tuple(products),
            one_of(consistency, get_args(Consistency), "consistency"),
            _where(where),
            _number(min_score, "min_score"),
            None if fresh_within is None else duration(fresh_within, "fresh_within"),
            None if after is None else _position(after),
            duration(wait, "wait"),
        )


def one_of(value: Any, allowed: Sequence[str], name: str) -> Any:
    """The value, which must be one of these.

    Raises:
        UsageError: it is not.
    """
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}; it is one of: {', '.join(allowed)}")
    return value


def _where(value: Where | None) -> Where | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise UsageError(f'where is {value!r}; pass values by column: {{"region": "EU", "price": {{"lt": 100}}}}')
    return dict(value)


def _number(value: float | None, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{name} is {value!r}; it is a number")
    return float(value)


def _position(value: str | int) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return lsn_text(Lsn(value))
    if isinstance(value, str) and _LSN.fullmatch(value.strip()):
        return value.strip()
    raise UsageError(f'after is {value!r}; it is an LSN like "0/3A2F1B8", as pg_current_wal_insert_lsn() gives it')

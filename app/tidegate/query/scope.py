"""Which rows a call is about, and how fresh the index must be: what search, similar and ask share."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, Self, get_args
from uuid import UUID

from tidegate.capture.position import Lsn, lsn_text
from tidegate.errors import UsageError
from tidegate.query.duration import Duration, duration

Consistency = Literal["strict", "eventual"]
Mode = Literal["vector", "keyword", "hybrid"]
Where = Mapping[str, Any]
"""Tests by column: a value, a list of values, None, or an object of gt, gte, lt, lte, ne; all must hold."""

MAX_K = 10_000
_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")


@dataclass(frozen=True, slots=True)
class Scope:
    """A call's rows and its freshness, checked.

    Attributes:
        products: None: all that are offered to the caller.
        where: as JSON.
        min_score: hits below it are left out.
        fresh_within: how old the index may be.
        after: a position (LSN) that must be in the index, waited for as long as `wait`.
    """

    k: int
    products: tuple[str, ...] | None
    consistency: Consistency
    where: str | None = None
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


def _where(value: Where | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise UsageError(f'where is {value!r}; pass values by column: {{"region": "EU", "price": {{"lt": 100}}}}')
    return json_text(value, "where")


def json_text(value: Any, name: str) -> str:
    """A value for the database, as JSON. Times, numbers and ids are written so that it reads them exactly.

    Raises:
        UsageError: a value that has no such form.
    """
    try:
        return json.dumps(value, default=_plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} is {value!r}: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    raise TypeError(f"there is no JSON of a {type(value).__name__}")


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

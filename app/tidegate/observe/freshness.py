"""Commit-to-searchable times, counted in a histogram whose buckets are 5 % wide."""

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

GROWTH = 1.05


def bucket(milliseconds: float) -> int:
    """The bucket whose upper edge, 1.05^bucket ms, is the first not below the time."""
    return max(0, math.ceil(math.log(max(milliseconds, 1.0), GROWTH) - 1e-9))


class FreshnessHistogram:
    """Gathers times in memory; the worker writes them to `tidegate.freshness_bucket` once a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[int, datetime, int]] = Counter()

    def add(self, product_id: int, committed: Sequence[datetime], searchable: datetime) -> None:
        """Rows committed then, searchable now; both by the database's clock."""
        minute = searchable.replace(second=0, microsecond=0)
        with self._lock:
            for moment in committed:
                milliseconds = (searchable - moment).total_seconds() * 1000
                self._counts[(product_id, minute, bucket(milliseconds))] += 1

    def drain(self) -> Mapping[str, Sequence[Any]] | None:
        """The parameters of the query `freshness_add`, and an empty histogram; None when nothing was added."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return None
        return {
            "product_ids": [key[0] for key in counts],
            "minutes": [key[1] for key in counts],
            "buckets": [key[2] for key in counts],
            "events": list(counts.values()),
        }

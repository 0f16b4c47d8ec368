"""The report of the ways to the nearest: where one overtakes the other, and what is missed."""

import pytest

from tidegate.bench import paths
from tidegate.bench.paths import PATHS, crossovers


def test_a_crossover_is_the_most_rows_that_a_way_serves_quickest() -> None:
    callers = [
        {"visible": 100, "quickest": "exact"},
        {"visible": 2000, "quickest": "exact"},
        {"visible": 60_000, "quickest": "codes"},
    ]
    assert crossovers(callers) == {"exact": 2000, "codes": 60_000, "hnsw": 0}


@pytest.mark.parametrize("visible", [100, 2000, 40_000, 100_000])
@pytest.mark.parametrize("chunks", [200_000, 1_000_000])
def test_limits_make_a_caller_go_the_way(visible: int, chunks: int) -> None:
    """As sql/search_scope.sql chooses, where all indexes are there."""
    for path in PATHS:
        exact_rows, code_rows = paths._forcing(path, visible)
        estimate = visible if chunks > 10 * exact_rows else chunks
        if estimate > code_rows or 10 * exact_rows < estimate > chunks / 10:
            taken = "hnsw"
        else:
            taken = "codes" if estimate > exact_rows else "exact"
        assert taken == path
        assert 10 * exact_rows < 2**31

"""The benchmark of search is judged by its worst row."""

import io
from copy import deepcopy
from typing import Any

from rich.console import Console

from tidegate.bench.entitlement import PRINCIPALS
from tidegate.bench.search_report import HNSW, ITERATIVE, SEARCH, SearchReport, goals, ratios

FIGURES = {"recall": 1.0, "least": 1.0, "short": 0, "p50_ms": 3.0, "p95_ms": 5.0, "per_s": 300.0}
ROW = {
    SEARCH: FIGURES,
    HNSW: {**FIGURES, "recall": 0.1, "least": 0.0, "short": 200},
    ITERATIVE: FIGURES,
    "against_statement": {"search_p50_ms": 3.0, "statement_p50_ms": 3.0, "ratio": 1.0},
    "against_eventual": {"search_p50_ms": 3.0, "eventual_p50_ms": 3.0, "ratio": 1.0},
}
FLOOR = {"ef_search": 100, "recall": 0.985, "least": 0.8, "short": 0, "p50_ms": 1.0, "p95_ms": 2.0}


def measured(**worse: Any) -> dict[str, Any]:
    """One table in which one principal's row is worse in one figure."""
    phase: dict[str, Any] = {"unfiltered": FLOOR, **{principal.label: deepcopy(ROW) for principal in PRINCIPALS}}
    row = phase[PRINCIPALS[3].label]
    for name, value in worse.items():
        if name.startswith("against"):
            row[name]["ratio"] = value
        else:
            row[SEARCH][name] = value
    return {"texts": {"rows": 100, "before": phase}}


def missed(**worse: Any) -> list[str]:
    return [goal.name for goal in goals(measured(**worse)) if not goal.ok]


def test_one_bad_row_misses_the_goal_and_a_bad_baseline_does_not() -> None:
    assert missed() == []
    assert missed(recall=0.979) == ["texts: least mean recall@10"]
    assert missed(least=0.6) == ["texts: least recall@10 of a query"]
    assert missed(short=1) == ["texts: queries with fewer rows than there are"]
    assert missed(against_statement=1.31) == ["texts: search / its statement, p50"]
    assert missed(against_eventual=1.51) == ["texts: strict / eventual, p50"]


def test_p95_may_be_three_times_the_floor_or_fifteen_milliseconds() -> None:
    assert missed(p95_ms=15.0) == []
    assert missed(p95_ms=15.1) == ["texts: largest p95, ms"]
    slow = measured(p95_ms=23.9)
    slow["texts"]["before"]["unfiltered"] = {**FLOOR, "p95_ms": 8.0}
    assert all(goal.ok for goal in goals(slow))
    assert ratios(slow)["texts: p95 / HNSW without policies"] == 2.987


def test_it_prints_a_row_a_principal() -> None:
    results = measured()
    report = SearchReport("search", {}, results, {}, ratios(results), goals(results), machine={})
    console = Console(record=True, width=200, file=io.StringIO())
    report.print(console)
    shown = console.export_text()
    assert all(shown.count(f"\n{principal.label} ") == 1 for principal in PRINCIPALS)
    assert "without policies at ef_search 100: recall 0.985" in shown

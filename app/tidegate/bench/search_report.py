"""The benchmark of search, summed up: goals, ratios, and a table a person can read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from tidegate.bench.entitlement import PRINCIPALS
from tidegate.bench.report import Goal, Report

SEARCH, HNSW, ITERATIVE = "search, strict", "HNSW", "HNSW, iterative"
_LABELS = [principal.label for principal in PRINCIPALS]
_P95_OF_FLOOR, _P95_MS = 3.0, 15.0
_STATEMENT, _EVENTUAL = 1.3, 1.5


@dataclass(frozen=True, slots=True)
class SearchReport(Report):
    """A report whose results are a table of principals for each product, before and after the updates."""

    def print(self, console: Console) -> None:
        """A table a phase, then the goals."""
        self.print_heading(console)
        for title, phase in phases(self.results):
            floor = phase["unfiltered"]
            console.print(
                f"\n[bold]{title}[/bold]; without policies at ef_search {floor['ef_search']}: "
                f"recall {floor['recall']:g}, p50 {floor['p50_ms']:g}, p95 {floor['p95_ms']:g} ms"
            )
            console.print(_table(phase))
        self.print_goals(console)


def phases(measured: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each table with its title."""
    for name, one in measured.items():
        for phase, title in (("before", name), ("after", f"{name}, a tenth updated")):
            if phase in one:
                yield title, one[phase]


def goals(measured: Mapping[str, Any]) -> list[Goal]:
    """What issue 5 asks of search; of each table the worst row counts."""
    asked = []
    for title, phase in phases(measured):
        rows = [phase[label] for label in _LABELS]
        own = [row[SEARCH] for row in rows]
        limit = max(_P95_OF_FLOOR * phase["unfiltered"]["p95_ms"], _P95_MS)
        asked += [
            Goal(f"{title}: least mean recall@10", min(one["recall"] for one in own), 0.98, at_least=True),
            Goal(f"{title}: least recall@10 of a query", min(one["least"] for one in own), 0.7, at_least=True),
            Goal(f"{title}: queries with fewer rows than there are", sum(one["short"] for one in own), 0),
            Goal(f"{title}: largest p95, ms", max(one["p95_ms"] for one in own), round(limit, 2)),
            Goal(f"{title}: search / its statement, p50", _worst(rows, "statement"), _STATEMENT),
            Goal(f"{title}: strict / eventual, p50", _worst(rows, "eventual"), _EVENTUAL),
        ]
    return asked


def ratios(measured: Mapping[str, Any]) -> dict[str, float]:
    """Of each table the worst row."""
    found = {}
    for title, phase in phases(measured):
        rows = [phase[label] for label in _LABELS]
        largest = max(row[SEARCH]["p95_ms"] for row in rows)
        found[f"{title}: p95 / HNSW without policies"] = round(largest / phase["unfiltered"]["p95_ms"], 3)
        found[f"{title}: search / its statement"] = _worst(rows, "statement")
        found[f"{title}: strict / eventual"] = _worst(rows, "eventual")
    return found


def _worst(rows: list[Mapping[str, Any]], name: str) -> float:
    return max(float(row[f"against_{name}"]["ratio"]) for row in rows)


def _table(phase: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("may see")
    for heading in ("recall", "least", "short", "p50 ms", "p95 ms", "/s"):
        table.add_column(heading, justify="right")
    for heading in ("HNSW: recall", "least", "p95", "iterative: recall", "least", "p95", "/ statement", "/ eventual"):
        table.add_column(heading, justify="right")
    for label in _LABELS:
        row = phase[label]
        own, plain, iterative = row[SEARCH], row[HNSW], row[ITERATIVE]
        figures = [own[name] for name in ("recall", "least", "short", "p50_ms", "p95_ms", "per_s")]
        figures += [one[name] for one in (plain, iterative) for name in ("recall", "least", "p95_ms")]
        figures += [row["against_statement"]["ratio"], row["against_eventual"]["ratio"]]
        table.add_row(label, *(f"{figure:g}" for figure in figures))
    return table

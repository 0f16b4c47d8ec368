"""What a benchmark reports: one JSON object, or a summary to read."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tidegate.errors import TidegateError

PERCENTILES = (50, 95, 99)


class BenchFailed(TidegateError):
    """The benchmark could not be measured."""


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure and the limit that it has to keep. `at_least`: the limit is a lower one."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def ok(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Report:
    """A benchmark's outcome. Names of figures end in their unit: `p50_ms`, `rows_per_s`, `rss_max_mb`."""

    bench: str
    config: Mapping[str, Any]
    results: Mapping[str, Any]
    floor: Mapping[str, Any]
    ratios: Mapping[str, float]
    goals: Sequence[Goal]
    machine: Mapping[str, Any] = field(default_factory=machine)

    def as_json(self) -> dict[str, Any]:
        """The object of DESIGN section 12."""
        return {
            "bench": self.bench,
            "config": dict(self.config),
            "machine": dict(self.machine),
            "results": dict(self.results),
            "floor": dict(self.floor),
            "ratios": dict(self.ratios),
            "goals": [{**_goal_figures(goal), "ok": goal.ok} for goal in self.goals],
        }

    def print(self, console: Console) -> None:
        """The summary: figures beside the floor, then the goals."""
        self.print_heading(console)
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        table.add_column("")
        for name in ("measured", "floor"):
            table.add_column(name, justify="right")
        for name in dict.fromkeys((*self.results, *self.floor)):
            table.add_row(name, _shown(self.results.get(name, "")), _shown(self.floor.get(name, "")))
        console.print(table)
        self.print_goals(console)

    def print_heading(self, console: Console) -> None:
        """What was measured, of what."""
        console.print(f"[bold]{self.bench}[/bold]  " + ", ".join(f"{k} {_shown(v)}" for k, v in self.config.items()))

    def print_goals(self, console: Console) -> None:
        """A line a goal: kept, or missed."""
        for goal in self.goals:
            verdict = "[green]kept[/green]" if goal.ok else "[red]missed[/red]"
            sign = ">=" if goal.at_least else "<="
            console.print(f"{goal.name}: {goal.value:g} (goal {sign} {goal.limit:g}) {verdict}")


def _goal_figures(goal: Goal) -> dict[str, Any]:
    figures = asdict(goal)
    del figures["at_least"]
    return figures


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """`p50_ms`, `p95_ms`, `p99_ms` and `max_ms`, rounded to a hundredth."""
    figures = {f"p{p}_ms": round(float(np.percentile(milliseconds, p)), 2) for p in PERCENTILES}
    return {**figures, "max_ms": round(max(milliseconds), 2)}


def _shown(value: Any) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)

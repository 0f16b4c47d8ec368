"""Where one way to the nearest overtakes another: each, for callers of few and of many rows, by the clock.

`tidegate.search` computes all distances, re-ranks the nearest by codes, or goes by HNSW, by how much its caller may see
(`tidegate.search_limits`). Here callers who may see .05 % to 50 % of generated vectors are made to go each way in
turn, by setting the limits so that it is the one that is taken; then the way that is taken by the installed limits is
set beside the quickest that finds enough. A way counts where its recall@10 is at least .98, and no question's under .7.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from tidegate.bench.asking import Figures, Questions, measure, searching
from tidegate.bench.clusters import clustered
from tidegate.bench.collection import PRODUCT, Collection, drop_principals, embedders, fill, publish, session
from tidegate.bench.database import database, facts, server
from tidegate.bench.entitlement import STAIRS, Principal, scopes_mixed
from tidegate.bench.progress import steps
from tidegate.bench.recall import Truth
from tidegate.bench.report import BenchFailed, Goal, Report
from tidegate.bench.search import SETTINGS
from tidegate.bench.upkeep import keep
from tidegate.database import Connection, connect

Path = Literal["exact", "codes", "hnsw"]
PATHS: tuple[Path, ...] = ("exact", "codes", "hnsw")
_DIMENSION = 384
_WARM_UP = 10
_MANY = 2**31 - 1
_TOO_MUCH = 1.5
"""What a search may take, of the quickest way: crossovers are flat, and machines differ."""


@dataclass(frozen=True, slots=True)
class PathsReport(Report):
    """A report whose results are a row a caller."""

    way: ClassVar[str] = "{p50_ms:g} / {p95_ms:g} at {recall:g}"

    def print(self, console: Console) -> None:
        """A line a caller, then the goal."""
        self.print_heading(console)
        table = Table("rows", *(f"{path}: p50 / p95 ms at recall" for path in PATHS), "quickest", "taken", box=None)
        for row in self.results["callers"]:
            ways = [self.way.format(**row["ways"][path]) for path in PATHS]
            table.add_row(f"{row['visible']:,}", *ways, row["quickest"], row["taken"])
        console.print(table)
        self.print_goals(console)


@dataclass(frozen=True, slots=True)
class Paths:
    """What is to be measured. `rows`: generated vectors."""

    rows: int = 200_000
    queries: int = 100
    seed: int = 1
    dsn: str | None = None

    def run(self) -> PathsReport:
        """Measures; some minutes on two cores, most of them for the indexes."""
        with steps() as shown, server(self.dsn, SETTINGS) as server_dsn:
            try:
                with database(server_dsn, "paths") as dsn:
                    shown.step(f"{self.rows:,} vectors")
                    collection = self._filled(dsn)
                    shown.step("indexes")
                    keep(dsn)
                    asked = clustered(self.queries + _WARM_UP, _DIMENSION, self.seed, part=1)
                    questions = Questions(asked[_WARM_UP:], asked[:_WARM_UP])
                    move = shown.step("searches", len(STAIRS))
                    callers = []
                    for principal in STAIRS:
                        callers.append(_caller(dsn, principal, collection, questions))
                        move(None)
                with connect(server_dsn) as connection:
                    server_facts = facts(connection)
            finally:
                if self.dsn is not None:
                    with connect(server_dsn) as connection:
                        drop_principals(connection, STAIRS)
        ratios = {row["label"]: row["taken / quickest"] for row in callers}
        return PathsReport(
            bench="paths",
            config={"rows": self.rows, "queries": self.queries, "k": 10, "seed": self.seed, **server_facts},
            results={"callers": callers, "crossovers": crossovers(callers)},
            floor={},
            ratios=ratios,
            goals=[Goal("p50 of the way taken / quickest way", max(ratios.values()), _TOO_MUCH)],
        )  # fmt: skip

    def _filled(self, dsn: str) -> Collection:
        bodies = [f"row {number}" for number in range(self.rows)]
        made = Collection(bodies, clustered(self.rows, _DIMENSION, self.seed), scopes_mixed(self.rows, self.seed))
        with connect(dsn) as connection:
            publish(connection, embedders(), STAIRS)
            fill(connection, made)
        return made


def crossovers(callers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The most rows of which a caller is served quickest by each way; 0 where it is the quickest for nobody."""
    return {path: max((row["visible"] for row in callers if row["quickest"] == path), default=0) for path in PATHS}


def _caller(dsn: str, principal: Principal, collection: Collection, questions: Questions) -> dict[str, Any]:
    sees = principal.sees(collection.scope_of)
    truth, visible = Truth(collection.vectors, sees, questions.counted, 10), int(np.count_nonzero(sees))
    with connect(dsn) as admin:
        taken = _path(dsn, principal)
        before = admin.execute("SELECT exact_rows, code_rows FROM tidegate.search_limits").fetchone()
        assert before is not None
        ways: dict[Path, Figures] = {}
        for path in PATHS:
            _limit(admin, *_forcing(path, visible))
            if _path(dsn, principal) != path:
                raise BenchFailed(f"{principal.label}: could not be made to go by {path}")
            ways[path] = measure(dsn, searching(), principal.role, questions, truth)
        _limit(admin, *before)
    enough = [path for path in PATHS if ways[path].recall >= 0.98 and ways[path].least >= 0.7]
    quickest = min(enough, key=lambda path: ways[path].p50_ms)
    return {
        "label": principal.label, "visible": visible,
        "ways": {path: figures.as_json() for path, figures in ways.items()},
        "quickest": quickest, "taken": taken,
        "taken / quickest": round(ways[taken].p50_ms / ways[quickest].p50_ms, 3),
    }  # fmt: skip


def _forcing(path: Path, visible: int) -> tuple[int, int]:
    """The limits under which somebody who sees so many rows goes that way."""
    return {"exact": (_MANY // 10, _MANY), "codes": (visible // 2, _MANY), "hnsw": (0, 0)}[path]


def _limit(admin: Connection, exact_rows: int, code_rows: int) -> None:
    admin.execute("UPDATE tidegate.search_limits SET exact_rows = %s, code_rows = %s", [exact_rows, code_rows])


def _path(dsn: str, principal: Principal) -> Path:
    with session(dsn, principal.role) as connection:
        row = connection.execute("SELECT path FROM tidegate.search_scope(%s)", [[PRODUCT]]).fetchone()
    assert row is not None
    path: Path = row[0]
    return path

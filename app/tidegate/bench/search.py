"""Search under entitlement: how much of the true answer, how soon, for who may see much, little and next to nothing.

Two products, each published through the real contract, source table, chunk table, policies and ledger:

- **texts**: real passages of this machine (passages.py), embedded by the local model. Scopes run along files, so who
  may see a scope sees texts that belong together, as in real life.
- **vectors**: a million generated vectors (clusters.py), whose scopes are mixed.

Both are filled by COPY with what the worker would have written (collection.py): this measures search, not indexing.
Principals are roles of the server with attributes, who SET ROLE and may see 100 %, 20 %, 2 %, .5 %, .05 % of the rows
and 3 % spread over 40 scopes. Questions are held-out passages or vectors of the same distribution, put by the
parameters that a client of psycopg sends. Each is answered by

- `search`: `tidegate.search`, k = 10, strict, as it is by default;
- `HNSW`: `ORDER BY embedding <=> $1` by the same table's index, with the policies and pgvector's default ef_search
  of 40;
- `HNSW, iterative`: the same with `hnsw.iterative_scan = relaxed_order`;

and compared with the exact answer of a brute force over what the principal may see (recall.py). The floor is HNSW
without policies, as a superuser, its 40 nearest ranked again by the vectors themselves (an index may have them
in half precision), at the smallest ef_search that gives it a recall of .98, in the same minutes.

Then a tenth of the rows is changed through the worker's writer (churn.py), the worker's upkeep is run (upkeep.py), and
all is measured again. Beside that: search against its own statement (`tidegate.search_statement`) sent as plain SQL,
and strict against eventual, each question put to both in turn.

`keep`: the server's data folder stays, with its databases `tidegate_bench_texts` and `tidegate_bench_vectors`, and a
later run with the same folder, sizes and seed takes them as they are, brings the control schema up to date, and
measures at once. `tidegate local start --data DIR` opens such a folder to look around.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.bench.asking import (
    Operand,
    against_eventual,
    against_statement,
    iterative,
    measure,
    plain,
    ranked_again,
    searching,
)
from tidegate.bench.churn import write
from tidegate.bench.collection import drop_principals
from tidegate.bench.database import database, facts, kept_database, server
from tidegate.bench.entitlement import PRINCIPALS
from tidegate.bench.progress import Steps, steps
from tidegate.bench.recall import Truth
from tidegate.bench.search_report import SearchReport, goals, ratios
from tidegate.bench.stock import Stock, text_stock, vector_stock
from tidegate.bench.upkeep import keep
from tidegate.bench.vector_cache import default_cache
from tidegate.database import connect

CLIENTS = 8
SETTINGS = {"shared_buffers": "2GB", "maintenance_work_mem": "2GB", "max_wal_size": "8GB"}
"""Of the embedded server: what an administrator gives a million vectors, instead of the defaults of a laptop."""
_RECALL = 0.98
_EF_SEARCHES = (40, 60, 80, 100, 150, 200, 300, 400, 600, 1000)


@dataclass(frozen=True, slots=True)
class Search:
    """What is to be measured. `texts`, `vectors`: rows of the two products, 0 leaves one out."""

    texts: int = 60_000
    vectors: int = 1_000_000
    queries: int = 200
    updates: bool = True
    seed: int = 1
    cache: Path | None = None
    keep: Path | None = None
    dsn: str | None = None

    def run(self) -> SearchReport:
        """Measures; about half an hour on two cores, and a quarter more where the texts are embedded first."""
        measured: dict[str, Any] = {}
        with steps() as shown, server(self.dsn, SETTINGS, self.keep) as server_dsn:
            try:
                with connect(server_dsn) as connection:
                    server_facts = facts(connection)
                for name, rows in (("texts", self.texts), ("vectors", self.vectors)):
                    if rows:
                        stock = self._stock(name, rows, shown)
                        with self._database(server_dsn, name) as dsn:
                            measured[name] = self._measured(dsn, name, stock, shown)
            finally:
                if self.dsn is not None:
                    with connect(server_dsn) as connection:
                        drop_principals(connection)
        return SearchReport(
            bench="search",
            config={
                "texts": self.texts, "vectors": self.vectors, "queries": self.queries, "k": 10, "clients": CLIENTS,
                "seed": self.seed, "server": "embedded" if self.dsn is None else "own", **server_facts,
            },
            results=measured,
            floor={name: {phase: one[phase]["unfiltered"] for phase in _phases(one)} for name, one in measured.items()},
            ratios=ratios(measured),
            goals=goals(measured),
        )  # fmt: skip

    def _stock(self, name: str, rows: int, shown: Steps) -> Stock:
        if name == "texts":
            return text_stock(rows, self.queries, self.seed, self.cache or default_cache(), shown)
        return vector_stock(rows, self.queries, self.seed, shown)

    @contextmanager
    def _database(self, server_dsn: str, name: str) -> Iterator[str]:
        with (
            database(server_dsn, f"search_{name}")
            if self.keep is None
            else kept_database(server_dsn, f"tidegate_bench_{name}") as dsn
        ):
            yield dsn

    def _measured(self, dsn: str, name: str, stock: Stock, shown: Steps) -> dict[str, Any]:
        figures: dict[str, Any] = {"rows": len(stock.collection.bodies), **stock.facts}
        state = stock.bring(dsn, shown)
        if state == "filled":
            figures["upkeep_s"] = _timed(lambda: keep(dsn), shown, f"{name}: indexes")
            figures["before"] = self._phase(dsn, name, stock, shown)
            if not self.updates:
                return figures
            stock.change()
            move = shown.step(
                f"{name}: a tenth of the rows changes", len(stock.churn.rewritten) + len(stock.churn.moved)
            )
            figures["update_s"] = _timed(lambda: write(dsn, stock.churn, stock.collection, move))
            stock.changed(dsn)
            figures["upkeep_after_s"] = _timed(lambda: keep(dsn), shown, f"{name}: upkeep")
        else:
            stock.change()
        figures["after"] = self._phase(dsn, name, stock, shown)
        return figures

    def _phase(self, dsn: str, name: str, stock: Stock, shown: Steps) -> dict[str, Any]:
        """One table: the floor, and a row a principal."""
        collection, questions = stock.collection, stock.questions
        move = shown.step(f"{name}: searches", len(PRINCIPALS) + 1)
        operand = Operand.of(dsn)
        phase: dict[str, Any] = {"unfiltered": _floor(dsn, operand, stock)}
        move(None)
        for principal in PRINCIPALS:
            truth = Truth(collection.vectors, principal.sees(collection.scope_of), questions.counted, 10)
            ways = (searching(), plain(operand), iterative(operand))
            row: dict[str, Any] = {
                way.name: measure(dsn, way, principal.role, questions, truth, CLIENTS).as_json() for way in ways
            }
            row["against_statement"] = _pair("statement", against_statement(dsn, principal.role, questions))
            row["against_eventual"] = _pair("eventual", against_eventual(dsn, principal.role, questions))
            phase[principal.label] = row
            move(None)
        return phase


def _floor(dsn: str, operand: Operand, stock: Stock) -> dict[str, Any]:
    """HNSW without policies at the least ef_search with the recall that is asked of search, if any has it."""
    rows = len(stock.collection.bodies)
    truth = Truth(stock.collection.vectors, np.ones(rows, dtype=np.bool_), stock.questions.counted, 10)
    for ef_search in _EF_SEARCHES:
        figures = measure(dsn, ranked_again(operand, ef_search), None, stock.questions, truth)
        if figures.recall >= _RECALL:
            break
    return {"ef_search": ef_search, **figures.as_json()}


def _pair(name: str, medians: tuple[float, float]) -> dict[str, float]:
    own, other = medians
    return {"search_p50_ms": own, f"{name}_p50_ms": other, "ratio": round(own / other, 3)}


def _phases(measured: dict[str, Any]) -> list[str]:
    return [phase for phase in ("before", "after") if phase in measured]


def _timed(work: Callable[[], None], shown: Steps | None = None, step: str = "") -> float:
    if shown is not None:
        shown.step(step)
    began = time.perf_counter()
    work()
    return round(time.perf_counter() - began, 1)

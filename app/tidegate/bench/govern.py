"""Governance: a plan of many unchanged contracts, and how long an apply of one changed rule locks readers out.

**plan**: as many products as asked, each with a table, a contract file and a published version; measured is what
`tidegate plan FOLDER` does after its imports: read the files, compare all with the database, nothing to do. Floor: the
same files read by the YAML parser and the ODCS checks alone, and one round trip a contract: what a plan costs that
knows nothing of what is published.

**apply**: a table of as many chunks as asked, made in SQL. A rule changes forth and back; `held_…` is the time from the
first statement that locks the chunk table against readers to the end of the commit. `reader_…` is what a reader met
meanwhile: the longest of her queries (one row by key, again and again) during each apply. Floor: the same query with no
apply running, the longest in as long a time.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tidegate.bench import catalogue
from tidegate.bench.database import database, facts, server
from tidegate.bench.progress import steps
from tidegate.bench.report import Goal, Report, percentiles
from tidegate.contract.contract import Contract
from tidegate.contract.odcs import load_contracts, parse_contract
from tidegate.database import Connection, connect
from tidegate.govern.apply import apply_plan
from tidegate.govern.contract_files import load_against
from tidegate.govern.plan import make_plan
from tidegate.govern.plan_set import Wanted, known_contracts, make_plans
from tidegate.index.embedding.registry import Embedders
from tidegate.settings import Settings

PLAN_LIMIT_S = 5.0
HELD_LIMIT_MS = 50.0
_COLUMNS = (
    "(id bigint PRIMARY KEY, region text NOT NULL, price numeric(10,2) NOT NULL, name text NOT NULL, "
    "description text NOT NULL)"
)
_CHUNKS = """
    INSERT INTO rag_bench.product
        (id, region, price, chunk_no, content, content_hash, embedding, position, committed_at, contract_version)
    SELECT n, CASE n %% 3 WHEN 0 THEN 'EU' WHEN 1 THEN 'US' ELSE 'APAC' END, n %% 900, 0, 'text ' || n, ''::bytea,
           (SELECT array_agg(sin(n * i))::float4[] FROM generate_series(1, 384) AS i)::public.vector,
           '{0/1,0/1}', now(), '1.0.0'
    FROM generate_series(1, %s) AS n
"""
_READ = "SELECT content FROM rag_bench.product WHERE id = 17"


@dataclass(frozen=True, slots=True)
class Govern:
    """What is to be measured. `applies`: of a changed rule; `plans`: of all contracts, unchanged."""

    contracts: int = 200
    chunks: int = 100_000
    applies: int = 20
    plans: int = 5
    dsn: str | None = None

    def run(self) -> Report:
        """Measures. Takes about two minutes, most of it to publish the contracts and to make the chunks."""
        embedders = Embedders(Settings())
        with (
            steps() as shown,
            tempfile.TemporaryDirectory() as made,
            server(self.dsn) as server_dsn,
            database(server_dsn, "govern") as dsn,
            connect(dsn) as connection,
        ):
            server_facts = facts(connection)
            folder = Path(made)
            planned, floor = self._plans(connection, folder, embedders, shown.step("contracts", self.contracts))
            shown.step(f"{self.chunks:,} chunks")
            self._chunks(connection, embedders)
            held, met, alone = self._applies(connection, dsn, embedders, shown.step("applies", self.applies))
        results = {
            "plan_p50_s": round(sorted(planned)[len(planned) // 2], 3),
            "plan_max_s": round(max(planned), 3),
            **{f"held_{name}": value for name, value in percentiles(held).items()},
            **{f"reader_{name}": value for name, value in percentiles(met).items()},
        }
        return Report(
            bench="govern",
            config={
                "contracts": self.contracts, "chunks": self.chunks, "applies": self.applies, "plans": self.plans,
                "server": "embedded" if self.dsn is None else "own", **server_facts,
            },
            results=results,
            floor={"plan_p50_s": round(floor, 3), "reader_max_ms": round(alone, 2)},
            ratios={"plan": round(results["plan_p50_s"] / floor, 3)},
            goals=[
                Goal(f"plan of {self.contracts} unchanged contracts, s", results["plan_max_s"], PLAN_LIMIT_S),
                Goal(f"lock of an apply on {self.chunks:,} chunks, p99 ms", results["held_p99_ms"], HELD_LIMIT_MS),
            ],
        )  # fmt: skip

    def _plans(
        self,
        connection: Connection,
        folder: Path,
        embedders: Embedders,
        move: Callable[[int | None], None],
    ) -> tuple[list[float], float]:
        document = yaml.safe_load(catalogue.CONTRACT.read_text(encoding="utf-8"))
        connection.execute("CREATE SCHEMA bench")
        for number in range(self.contracts):
            table = f"product_{number}"
            connection.execute(f"CREATE TABLE bench.{table} {_COLUMNS}".encode())
            text = _contract(document, table)
            (folder / f"{table}.odcs.yaml").write_text(text, encoding="utf-8")
            contract = parse_contract(text.encode(), str(folder / f"{table}.odcs.yaml"))
            apply_plan(connection, make_plan(connection, contract, embedders.of(contract.embedding.model)))
            move(None)
        measured = []
        for _ in range(self.plans):
            began = time.perf_counter()
            plans = make_plans(connection, Wanted(load_against([folder], known_contracts(connection))), embedders)
            measured.append(time.perf_counter() - began)
            assert plans.empty
        began = time.perf_counter()
        for _ in load_contracts(folder):
            connection.execute("SELECT 1")
        return measured, time.perf_counter() - began

    def _chunks(self, connection: Connection, embedders: Embedders) -> None:
        connection.execute(f"CREATE TABLE bench.product {_COLUMNS}".encode())
        catalogue.publish(connection, embedders)
        with connection.transaction():
            connection.execute("SET LOCAL ROLE tidegate_worker")
            connection.execute(_CHUNKS, [self.chunks])
        connection.execute("ANALYZE rag_bench.product")

    def _applies(
        self, connection: Connection, dsn: str, embedders: Embedders, move: Callable[[int | None], None]
    ) -> tuple[list[float], list[float], float]:
        text = catalogue.CONTRACT.read_text(encoding="utf-8")
        held, met = [], []
        with _Prober(dsn) as prober:
            began = time.perf_counter()
            for number in range(self.applies):
                contract = _changed(text, number)
                plan = make_plan(connection, contract, embedders.of(contract.embedding.model))
                prober.longest()
                held.append(apply_plan(connection, plan).held_ms)
                met.append(prober.longest())
                move(None)
            took = time.perf_counter() - began
            prober.longest()
            time.sleep(min(took, 5))
            return held, met, prober.longest()


def _contract(document: dict[str, Any], table: str) -> str:
    named = document | {"name": f"bench.{table}", "dataProduct": f"bench.{table}"}
    named["schema"] = [{**document["schema"][0], "name": table, "physicalName": table}]
    return str(yaml.safe_dump(named, sort_keys=False))


def _changed(text: str, number: int) -> Contract:
    """The contract with another rule, under a version of its own."""
    document = yaml.safe_load(text)
    document["version"] = f"{number + 2}.0.0"
    for extra in document["schema"][0]["customProperties"]:
        if extra["property"] == "rowAccess":
            for rule in extra["value"]["rules"]:
                if rule["effect"] == "allow":
                    rule["when"] = f"row.region in user.regions and row.price < {1000 + number}"
    return parse_contract(yaml.safe_dump(document, sort_keys=False).encode(), "product.odcs.yaml")


class _Prober:
    """A reader who asks again and again; a context manager."""

    def __init__(self, dsn: str):
        self._dsn = dsn
        self._stop = threading.Event()
        self._longest = 0.0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def longest(self) -> float:
        """The longest query since the last call, ms."""
        with self._lock:
            longest, self._longest = self._longest, 0.0
        return longest

    def _ask(self) -> None:
        with connect(self._dsn, role=catalogue.READER) as connection:
            while not self._stop.is_set():
                began = time.perf_counter()
                connection.execute(_READ).fetchall()
                took = (time.perf_counter() - began) * 1000
                with self._lock:
                    self._longest = max(self._longest, took)

    def __enter__(self) -> "_Prober":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> Iterator[None] | None:
        self._stop.set()
        self._thread.join()
        return None

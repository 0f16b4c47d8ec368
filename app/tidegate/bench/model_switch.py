"""A model change on a product that is searched and changed all the time.

**Load**: from before the new contract is applied until after the last switch, four searchers without pause (two Python
clients that embed each question, two SQL sessions, strict and eventual) and some changes a second (text, carried
columns, new rows, deletes).

**Steps**: rows filled and indexed by `tidegate run` under the first model; the contract with the second model applied;
its index built beside the first; `model switch`, `model rollback`, `model switch`, `model drop`.

**Both models** are served by a small service over HTTP (bench/embedding_server.py) and reached through litellm as any
other; they have the same number of dimensions, so that nothing but tidegate keeps their vectors apart. Each hit's
distance is computed again under both: a search of which not all hits are under one is counted as mixed.

**Floor**: the same searches of the same run, in the seconds before the new contract.
"""

import os
import random
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql

from tidegate.bench.catalogue import READER
from tidegate.bench.database import database, facts, server
from tidegate.bench.embedding_server import DIMENSION, service
from tidegate.bench.process import Program, program, wait_until_live
from tidegate.bench.progress import Steps, steps
from tidegate.bench.report import BenchFailed, Goal, Report, percentiles
from tidegate.bench.searching import K, Search, Searchers
from tidegate.bench.texts import Texts
from tidegate.contract.odcs import parse_contract
from tidegate.database import Connection, connect
from tidegate.govern.apply import apply_plan
from tidegate.govern.model_status import model_status
from tidegate.govern.model_switch import Switched, drop, switch
from tidegate.govern.plan import make_plan
from tidegate.govern.principals import set_attributes
from tidegate.index.embedding.registry import Embedders
from tidegate.settings import Settings

PRODUCT = "bench.passage"
FIRST, SECOND = "openai/first", "openai/second"
SEARCHERS = 4
_CONTRACT = Path(__file__).with_name("passage.odcs.yaml")
_LOCAL = "local/all-minilm-l6-v2"
_AROUND_S = 2.0
_BEFORE_S = 10.0
_PATIENCE_S = 3600.0


@dataclass(frozen=True, slots=True)
class ModelSwitch:
    """Args of the command `bench model-switch`."""

    chunks: int
    changes_per_s: float
    seed: int
    dsn: str | None = None

    def run(self) -> Report:
        """Runs it all; the database and the services go at the end."""
        with steps() as shown, service() as api_base, server(self.dsn) as at, database(at, "switch") as dsn:
            os.environ.setdefault("OPENAI_API_KEY", "none-is-needed")
            settings = Settings(api_base=api_base)
            with connect(dsn) as connection:
                config = {**facts(connection), "chunks": self.chunks, "k": K, "searchers": SEARCHERS,
                          "changes_per_s": self.changes_per_s, "dimension": DIMENSION, "seed": self.seed}  # fmt: skip
                self._fill(connection)
                embedders = Embedders(settings)
                _apply(connection, embedders, FIRST, "1.0.0")
                set_attributes(connection, READER, {"scopes": ["everyone"]})
                extra = {"TIDEGATE_API_BASE": api_base, "OPENAI_API_KEY": os.environ["OPENAI_API_KEY"]}
                with program([sys.executable, "-m", "tidegate.cli", "run"], dsn, extra) as running:
                    return self._measure(connection, dsn, settings, embedders, running, config, shown)

    def _measure(
        self,
        connection: Connection,
        dsn: str,
        settings: Settings,
        embedders: Embedders,
        running: Program,
        config: dict[str, Any],
        shown: Steps,
    ) -> Report:
        wait_until_live(connection, running, PRODUCT, shown.step("first index", self.chunks))
        _indexed(connection, PRODUCT, running)
        texts = Texts(self.seed + 1, (1, 2))
        questions = [texts.next().description for _ in range(50)]
        searchers = Searchers(dsn, READER, PRODUCT, (FIRST, SECOND), questions, settings)
        changing = threading.Event()
        changer = threading.Thread(target=self._change, args=(dsn, changing), daemon=True)
        searchers.start(SEARCHERS)
        changer.start()
        time.sleep(_BEFORE_S)
        begun = time.monotonic()
        _apply(connection, embedders, SECOND, "2.0.0")
        second = f"{PRODUCT}@{SECOND}"
        wait_until_live(connection, running, second, shown.step("second index", self.chunks))
        built = time.monotonic()
        shown.step("switch, rollback, switch")
        switched: list[tuple[float, float, Switched]] = []
        for direction in ("switch", "rollback", "switch"):
            started = time.monotonic()
            done = switch(connection, PRODUCT, direction, wait_s=_PATIENCE_S)
            switched.append((started, time.monotonic(), done))
            time.sleep(_AROUND_S)
        changing.set()
        changer.join()
        _settle(connection)
        wrong = {index: _wrong(connection, index) for index in ("rag_bench", "beside_bench")}
        drop(connection, PRODUCT)
        time.sleep(_AROUND_S)
        searchers.stop()
        running.require()
        return _report(config, searchers, begun, built, switched, wrong)

    def _fill(self, connection: Connection) -> None:
        texts = Texts(self.seed, (1, 2))
        connection.execute("CREATE SCHEMA bench")
        connection.execute(
            "CREATE TABLE bench.passage (id bigint PRIMARY KEY, scope text NOT NULL, body text NOT NULL)"
        )
        with connection.cursor() as cursor, cursor.copy("COPY bench.passage FROM STDIN") as copy:
            for number in range(self.chunks):
                copy.write_row((number, "everyone", _body(texts)))

    def _change(self, dsn: str, done: threading.Event) -> None:
        """Changes until told to stop: 50 % text, 20 % the row's scope (which hides it), 20 % new, 10 % deletes."""
        chosen, texts = random.Random(self.seed), Texts(self.seed + 2, (1, 2))
        new = self.chunks
        with connect(dsn, application="tidegate bench") as connection:
            while not done.wait(1 / self.changes_per_s):
                id_, turn = chosen.randrange(self.chunks), chosen.random()
                if turn < 0.5:
                    connection.execute("UPDATE bench.passage SET body = %s WHERE id = %s", [_body(texts), id_])
                elif turn < 0.7:
                    scope = chosen.choice(("everyone", "nobody"))
                    connection.execute("UPDATE bench.passage SET scope = %s WHERE id = %s", [scope, id_])
                elif turn < 0.9:
                    new += 1
                    connection.execute("INSERT INTO bench.passage VALUES (%s, 'everyone', %s)", [new, _body(texts)])
                else:
                    connection.execute("DELETE FROM bench.passage WHERE id = %s", [id_])


def _body(texts: Texts) -> str:
    """One paragraph: one chunk."""
    text = texts.next()
    return f"{text.name}. {text.description}"


def _report(
    config: dict[str, Any],
    searchers: Searchers,
    begun: float,
    built: float,
    switched: list[tuple[float, float, Switched]],
    wrong: dict[str, int],
) -> Report:
    searches = list(searchers.searches)
    before = [each.ms for each in searches if each.ended < begun]
    building = [each.ms for each in searches if begun <= each.began and each.ended < built]
    around = [each.ms for each in searches if _is_around(each, switched)]
    if not before or not around:
        raise BenchFailed("nothing was searched: " + "; ".join(searchers.errors[:3]))
    models = {model: sum(each.model == model for each in searches) for model in (FIRST, SECOND)}
    results: dict[str, Any] = {
        "searches": len(searches) + len(searchers.errors),
        "failed": len(searchers.errors),
        "empty": sum(each.hits == 0 for each in searches),
        "short": sum(0 < each.hits < K for each in searches),
        "mixed": sum(each.hits > 0 and each.model is None for each in searches),
        "under_first": models[FIRST],
        "under_second": models[SECOND],
        "build_s": round(built - begun, 1),
        "build_chunks_per_s": round(config["chunks"] / (built - begun), 1),
        "switch_s": [round(ended - started, 2) for started, ended, _ in switched],
        "readers_held_ms": [round(done.held_ms, 1) for _, _, done in switched],
        "rows_wrong": sum(wrong.values()),
        "building": percentiles(building or before),
        "around_switches": percentiles(around),
    }
    if searchers.errors:
        results["first_error"] = searchers.errors[0]
    floor = {"before": percentiles(before)}
    goals = [Goal(f"{name} searches", results[name], 0) for name in ("failed", "empty", "short", "mixed")]
    goals.append(Goal("wrong rows in the two indexes", results["rows_wrong"], 0))
    ratio = results["around_switches"]["p95_ms"] / floor["before"]["p95_ms"]
    return Report("model-switch", config, results, floor, {"p95 around switches": round(ratio, 2)}, goals)


def _is_around(search: Search, switched: list[tuple[float, float, Switched]]) -> bool:
    return any(search.ended >= started and search.began <= ended + _AROUND_S for started, ended, _ in switched)


def _apply(connection: Connection, embedders: Embedders, model: str, version: str) -> None:
    text = _CONTRACT.read_text(encoding="utf-8").replace(_LOCAL, model).replace("version: 1.0.0", f"version: {version}")
    contract = parse_contract(text.encode(), _CONTRACT.name)
    apply_plan(connection, make_plan(connection, contract, embedders.of(model), embedder_of=embedders.of))


def _indexed(connection: Connection, product: str, running: Program) -> None:
    """Waits for the vector index, where the worker builds one."""
    deadline = time.monotonic() + _PATIENCE_S
    wanted = Settings().hnsw_from_chunks
    (status,) = model_status(connection, product)
    while status.searched.chunks >= wanted and time.monotonic() < deadline:
        running.require()
        row = connection.execute(
            "SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam "
            "WHERE i.indrelid = 'rag_bench.passage'::regclass AND a.amname = 'hnsw' AND i.indisvalid"
        ).fetchone()
        if row is not None:
            return
        time.sleep(0.5)


def _settle(connection: Connection) -> None:
    """Waits until both indexes have what was committed."""
    row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        connection.execute("SELECT tidegate.wait_for(%s, '0s')", row)
        done = connection.execute("SELECT bool_and(lsn >= %s::pg_lsn) FROM tidegate.lane_watermark", row).fetchone()
        if done == (True,):
            return
        time.sleep(0.1)
    raise BenchFailed("the indexes did not catch up with the last changes in 60 s")


def _wrong(connection: Connection, schema: str) -> int:
    """Rows of which index and source differ: text, scope, or that they are there."""
    row = connection.execute(
        sql.SQL(
            "SELECT count(*) FROM bench.passage s FULL JOIN {}.passage c USING (id) "
            "WHERE (s.body, s.scope) IS DISTINCT FROM (c.content, c.scope)"
        ).format(sql.Identifier(schema))
    ).fetchone()
    assert row is not None
    return int(row[0])

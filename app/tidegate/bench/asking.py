"""One way of asking, measured: what it finds, how long a question takes, and how many a second eight clients get."""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import psycopg
from pgvector import Vector

from tidegate.bench.collection import PRODUCT, session
from tidegate.bench.recall import Truth
from tidegate.bench.report import BenchFailed
from tidegate.database import Connection, register_vectors
from tidegate.index.embedding.embedder import Vectors

K = 10
_SEARCH = (
    "SELECT (key ->> 'id')::bigint, content, committed_at, distance FROM tidegate.search(query => $1, k => $2, "
    "products => '{{bench.passage}}', consistency => '{}')"
)
_PLAIN = (
    "SELECT id, content, committed_at, {expression} <=> $1::{type} AS distance FROM rag_bench.passage "
    "ORDER BY {expression} <=> $1::{type} LIMIT $2"
)
_RANKED = (
    "SELECT id, content, committed_at, embedding <=> $1 AS distance "
    "FROM (SELECT * FROM rag_bench.passage ORDER BY {expression} <=> $1::{type} LIMIT 4 * $2) AS near "
    "ORDER BY embedding <=> $1 LIMIT $2"
)
_OPERAND = """
    SELECT pg_get_indexdef(i.indexrelid, 1, true), format_type(a.atttypid, a.atttypmod)
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
    JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.attnum = 1
    WHERE i.indrelid = 'rag_bench.passage'::regclass AND m.amname = 'hnsw' AND i.indisvalid
"""
_STATEMENT = "SELECT tidegate.search_statement(query => %s, k => %s, products => %s)"
_BY_INDEX = {"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_sort": "off"}


@dataclass(frozen=True, slots=True)
class Operand:
    """What the HNSW index is on: the column, or an expression that rounds it. `type`: its type, and the question's."""

    expression: str = "embedding"
    type: str = "vector"

    def in_(self, statement: str) -> str:
        return statement.format(expression=self.expression, type=self.type)

    @classmethod
    def of(cls, dsn: str) -> "Operand":
        """That of the chunk table's index; of one without an index the column."""
        with session(dsn) as connection:
            register_vectors(connection)  # and with it the schema that pgvector's types are named without
            row = connection.execute(_OPERAND).fetchone()
        return cls() if row is None else cls(f"({row[0]})", row[1])


@dataclass(frozen=True, slots=True)
class Way:
    """A statement whose first column is the row's key, and what is SET before; `$1` is the vector, `$2` k."""

    name: str
    statement: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figures:
    """`short`: questions that got fewer rows than there are, up to k. `least`: the least recall of a question."""

    recall: float
    least: float
    short: int
    p50_ms: float
    p95_ms: float
    per_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def searching(consistency: str = "strict") -> Way:
    """`tidegate.search`, as users call it."""
    return Way(f"search, {consistency}", _SEARCH.format(consistency))


def plain(operand: Operand, ef_search: int = 40) -> Way:
    """`ORDER BY … <=> query` by the HNSW index, with the table's policies alone. The planner is kept from other
    indexes that a table may have: what is measured is what HNSW gives."""
    return Way("HNSW", operand.in_(_PLAIN), {**_BY_INDEX, "hnsw.ef_search": str(ef_search)})


def iterative(operand: Operand) -> Way:
    """The same with pgvector's iterative scan, which goes on until k rows passed the policies."""
    settings = {**_BY_INDEX, "hnsw.ef_search": "40", "hnsw.iterative_scan": "relaxed_order"}
    return Way("HNSW, iterative", operand.in_(_PLAIN), settings)


def ranked_again(operand: Operand, ef_search: int) -> Way:
    """The index's 40 nearest, the nearest ten of these by the vectors themselves: where an index has half precision,
    its own order is not exact enough for a recall of .98, whatever ef_search is."""
    return Way("HNSW, ranked again", operand.in_(_RANKED), {**_BY_INDEX, "hnsw.ef_search": str(ef_search)})


class Asker:
    """Asks as somebody, one question after the other, on a connection of its own. A context manager."""

    def __init__(self, dsn: str, way: Way, role: str | None):
        self.connection: Connection = session(dsn, role)
        register_vectors(self.connection)
        for name, value in way.settings.items():
            self.connection.execute("SELECT set_config(%s, %s, false)", [name, value])
        self._cursor = psycopg.RawCursor(self.connection)
        self._statement = way.statement.encode()

    def ask(self, vector: Vectors) -> tuple[list[int], float]:
        """The keys found, nearest first, and the milliseconds from question to the last row."""
        question = Vector(vector)
        began = time.perf_counter()
        rows = self._cursor.execute(self._statement, [question, K]).fetchall()
        took = (time.perf_counter() - began) * 1000
        return [row[0] for row in rows], took

    def __enter__(self) -> "Asker":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


@dataclass(frozen=True, slots=True)
class Questions:
    """`counted` questions, and others before them that warm up the connection, as any client's pool is."""

    counted: Vectors
    warm_up: Vectors


def measure(dsn: str, way: Way, role: str | None, questions: Questions, truth: Truth, clients: int = 0) -> Figures:
    """One client after the other question; then, where `clients` are asked for, as many at once for the rate.

    Raises:
        BenchFailed: a row was shown to somebody who may not see it.
    """
    found, took = [], []
    with Asker(dsn, way, role) as asker:
        for vector in questions.warm_up:
            asker.ask(vector)
        for vector in questions.counted:
            keys, milliseconds = asker.ask(vector)
            found.append(keys)
            took.append(milliseconds)
    try:
        recalls = [truth.recall(number, keys) for number, keys in enumerate(found)]
    except ValueError as error:
        raise BenchFailed(f"{way.name} as {role}: {error}") from None
    return Figures(
        recall=round(float(np.mean(recalls)), 4),
        least=round(min(recalls), 2),
        short=sum(len(set(keys)) < truth.wanted for keys in found),
        p50_ms=round(float(np.percentile(took, 50)), 2),
        p95_ms=round(float(np.percentile(took, 95)), 2),
        per_s=_rate(dsn, way, role, questions, clients) if clients else None,
    )


def against_statement(dsn: str, role: str, questions: Questions) -> tuple[float, float]:
    """The median milliseconds of search and of its own statement, asked for beforehand and sent as plain SQL.

    The statement is whole, literals included, so it is another text for each question: neither the server nor psycopg
    has a plan of it, as search has none.
    """
    took: tuple[list[float], list[float]] = ([], [])
    with Asker(dsn, searching(), role) as asker, session(dsn, role) as plainly:
        for number, vector in enumerate((*questions.warm_up, *questions.counted)):
            row = asker.connection.execute(_STATEMENT, [Vector(vector), K, [PRODUCT]]).fetchone()
            assert row is not None
            both: list[Callable[[], object]] = [partial(asker.ask, vector), partial(_run, plainly, row[0])]
            for which in (0, 1) if number % 2 else (1, 0):
                began = time.perf_counter()
                both[which]()
                took[which].append((time.perf_counter() - began) * 1000)
    return _medians(took, len(questions.warm_up))


def against_eventual(dsn: str, role: str, questions: Questions) -> tuple[float, float]:
    """The median milliseconds of strict and of eventual searches."""
    took: tuple[list[float], list[float]] = ([], [])
    with Asker(dsn, searching(), role) as strict, Asker(dsn, searching("eventual"), role) as eventual:
        for number, vector in enumerate((*questions.warm_up, *questions.counted)):
            for which in (0, 1) if number % 2 else (1, 0):
                took[which].append((strict, eventual)[which].ask(vector)[1])
    return _medians(took, len(questions.warm_up))


def _run(connection: Connection, statement: str) -> None:
    connection.execute(statement.encode()).fetchall()


def _medians(took: tuple[list[float], list[float]], warm_up: int) -> tuple[float, float]:
    return round(float(np.median(took[0][warm_up:])), 3), round(float(np.median(took[1][warm_up:])), 3)


def _rate(dsn: str, way: Way, role: str | None, questions: Questions, clients: int) -> float:
    """Questions a second of `clients` connections that ask at once, each its share of twice the questions."""
    each = max(len(questions.counted) * 2 // clients, 1)
    start = threading.Barrier(clients + 1)
    failed: list[BaseException] = []

    def client(number: int) -> None:
        try:
            with Asker(dsn, way, role) as asker:
                for vector in questions.warm_up[:6]:
                    asker.ask(vector)
                start.wait()
                for place in range(number * each, (number + 1) * each):
                    asker.ask(questions.counted[place % len(questions.counted)])
        except BaseException as error:
            failed.append(error)
            start.abort()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return round(clients * each / (time.perf_counter() - began), 1)

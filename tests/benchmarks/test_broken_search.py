"""The benchmark of search sees a search that is wrong."""

from collections.abc import Iterator

import pytest

from tidegate.bench.asking import Questions, Way, measure, searching
from tidegate.bench.clusters import clustered
from tidegate.bench.collection import Collection, drop_principals, embedders, fill, publish
from tidegate.bench.database import kept_database
from tidegate.bench.entitlement import PRINCIPALS, scopes_mixed
from tidegate.bench.recall import Truth
from tidegate.bench.report import BenchFailed
from tidegate.database import Connection, connect

ROWS = 1000
WIDE = PRINCIPALS[1]
QUESTIONS = Questions(clustered(10, 384, 1, part=1), clustered(2, 384, 1, part=3))
FARTHEST = "SELECT id FROM rag_bench.passage ORDER BY embedding <=> $1 DESC LIMIT $2"
FIVE = "SELECT id FROM rag_bench.passage ORDER BY embedding <=> $1 LIMIT $2 / 2"


@pytest.fixture
def truth(admin: Connection) -> Iterator[Truth]:
    collection = Collection([f"row {n}" for n in range(ROWS)], clustered(ROWS, 384, 1), scopes_mixed(ROWS, 1))
    publish(admin, embedders())
    fill(admin, collection)
    yield Truth(collection.vectors, WIDE.sees(collection.scope_of), QUESTIONS.counted, 10)
    drop_principals(admin)


def test_the_right_answer_is_right_and_wrong_ones_are_not(dsn: str, truth: Truth) -> None:
    right = measure(dsn, searching(), WIDE.role, QUESTIONS, truth, clients=2)
    assert (right.recall, right.least, right.short) == (1.0, 1.0, 0)
    assert right.per_s is not None
    farthest = measure(dsn, Way("farthest", FARTHEST), WIDE.role, QUESTIONS, truth)
    assert farthest.recall < 0.2
    assert farthest.short == 0
    five = measure(dsn, Way("five", FIVE), WIDE.role, QUESTIONS, truth)
    assert (five.recall, five.least, five.short) == (0.5, 0.5, 10)


def test_rows_that_are_hidden_from_who_asks_end_the_benchmark(dsn: str, truth: Truth) -> None:
    with pytest.raises(BenchFailed, match="was found by somebody who may not see it"):
        measure(dsn, Way("as the superuser", FARTHEST), None, QUESTIONS, truth)


def test_a_kept_database_is_taken_as_it_is_once_it_is_full(server_dsn: str) -> None:
    name = "kept_for_a_test"
    try:
        with kept_database(server_dsn, name) as dsn, connect(dsn) as connection:
            connection.execute("CREATE SCHEMA bench")  # and killed
        for filled in (False, True):
            with kept_database(server_dsn, name) as dsn, connect(dsn) as connection:
                assert (connection.execute("SELECT to_regnamespace('bench')").fetchone() == ("bench",)) is filled
                connection.execute("CREATE SCHEMA IF NOT EXISTS bench")
                connection.execute("CREATE TABLE IF NOT EXISTS public.tidegate_bench AS SELECT 'filled' AS state")
    finally:
        with connect(server_dsn) as connection:
            connection.execute("DROP DATABASE IF EXISTS kept_for_a_test WITH (FORCE)")

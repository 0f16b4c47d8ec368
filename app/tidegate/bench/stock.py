"""What is searched, asked and changed: the two collections of the benchmark of search, and their databases."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from psycopg.types.json import Jsonb

from tidegate.bench.asking import Questions
from tidegate.bench.churn import SHARE, Churn
from tidegate.bench.clusters import clustered
from tidegate.bench.collection import MODEL, Collection, embedders, fill, publish
from tidegate.bench.entitlement import scopes_in_runs, scopes_mixed
from tidegate.bench.passages import passages
from tidegate.bench.progress import Steps
from tidegate.bench.report import BenchFailed
from tidegate.bench.vector_cache import VectorCache
from tidegate.database import connect
from tidegate.index.embedding.embedder import Vectors

_WARM_UP = 20
_DIMENSION = 384
_KEPT = "CREATE TABLE IF NOT EXISTS public.tidegate_bench (made jsonb NOT NULL, state text NOT NULL)"
State = Literal["filled", "updated"]


class OtherStock(BenchFailed):
    """A kept database holds something else than is to be measured."""

    def __init__(self, kept: dict[str, Any], wanted: dict[str, Any]):
        super().__init__(f"the kept database holds {kept}, wanted is {wanted}; give --keep another folder")


@dataclass(slots=True)
class Stock:
    """A collection, the questions, and what a tenth of the rows becomes. `made` tells it from others.

    Attributes:
        bodies, vectors: of the rows that are rewritten.
    """

    made: dict[str, Any]
    collection: Collection
    questions: Questions
    churn: Churn
    bodies: list[str]
    vectors: Vectors
    facts: dict[str, Any] = field(default_factory=dict)

    def bring(self, dsn: str, shown: Steps) -> State:
        """Publishes and fills the product, unless the database holds this very stock from an earlier run."""
        with connect(dsn) as connection:
            connection.execute(_KEPT)
            kept = connection.execute("SELECT made, state FROM public.tidegate_bench").fetchone()
            if kept is not None and kept[0] == self.made:
                state: State = kept[1]
                return state
            if kept is not None:
                raise OtherStock(kept[0], self.made)
            shown.step(f"{self.made['rows']:,} {self.made['stock']}: filling")
            began = time.perf_counter()
            publish(connection, embedders())
            fill(connection, self.collection)
            self.facts["fill_s"] = round(time.perf_counter() - began, 1)
            connection.execute("INSERT INTO public.tidegate_bench VALUES (%s, 'filled')", [Jsonb(self.made)])
        return "filled"

    def change(self) -> None:
        """Changes the tenth, in what the benchmark knows."""
        self.churn.onto(self.collection, self.bodies, self.vectors)

    def changed(self, dsn: str) -> None:
        """Notes that the database has the changes, too."""
        with connect(dsn) as connection:
            connection.execute("UPDATE public.tidegate_bench SET state = 'updated'")


def text_stock(rows: int, queries: int, seed: int, cache: Path, shown: Steps) -> Stock:
    """Real passages, embedded; those that rewrite and ask come after those that are stored."""
    rewritten = len(range(0, round(rows * SHARE), 2))
    warm_up = min(_WARM_UP, queries)
    total = rows + rewritten + queries + warm_up
    shown.step("reading texts")
    found = passages(total, seed)
    texts = [passage.text for passage in found]
    vectors = VectorCache(cache, embedders().of(MODEL)).embed(texts, shown.step("embedding texts", total))
    stored = Collection(texts[:rows], vectors[:rows].copy(), scopes_in_runs(rows))
    return Stock(
        {"stock": "texts", "rows": rows, "seed": seed},
        stored,
        _questions(vectors[rows + rewritten :], warm_up),
        Churn.of(stored, seed),
        texts[rows : rows + rewritten],
        vectors[rows : rows + rewritten],
        {
            "files": len({passage.origin for passage in found}),
            "composed": sum(passage.origin == "composed" for passage in found),
        },
    )


def vector_stock(rows: int, queries: int, seed: int, shown: Steps) -> Stock:
    """Generated vectors; the texts beside them say only which row they are."""
    shown.step(f"{rows:,} vectors")
    stored = Collection([f"row {number}" for number in range(rows)], clustered(rows, _DIMENSION, seed),
                        scopes_mixed(rows, seed))  # fmt: skip
    churn, warm_up = Churn.of(stored, seed), min(_WARM_UP, queries)
    return Stock(
        {"stock": "vectors", "rows": rows, "seed": seed},
        stored,
        _questions(clustered(queries + warm_up, _DIMENSION, seed, part=1), warm_up),
        churn,
        [f"row {number}, rewritten" for number in churn.rewritten.tolist()],
        clustered(len(churn.rewritten), _DIMENSION, seed, part=2),
    )


def _questions(vectors: Vectors, warm_up: int) -> Questions:
    return Questions(counted=vectors[warm_up:], warm_up=vectors[:warm_up])

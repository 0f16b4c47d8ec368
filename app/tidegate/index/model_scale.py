"""What a distance means under a model: how far apart two chunks are that have nothing to do with each other.

Models differ in it by far: one spreads texts over the whole sphere (about 0.9), another keeps all of them within 0.2.
A search over products of several models divides distances by it, so that 0 is the same text and 1 any other text, under
each of them. Where there is one model only, nothing is measured and a distance is what it is.
"""

from collections.abc import Sequence

import numpy as np
from psycopg import sql

from tidegate.database import Connection
from tidegate.index.embedding.embedder import Vectors
from tidegate.index.product import Product
from tidegate.sql import queries

FEWEST = 20
"""Chunks of a model; fewer say nothing of it."""
_SAMPLE = 100
_PRODUCTS = 20
_PAGES_FROM = 30_000


def measure_scales(worker: Connection, products: Sequence[Product], chunks: dict[int, int]) -> list[str]:
    """Measures the models that want it: never measured, or an hour ago or more. Returns their names.

    Args:
        worker: as tidegate_worker.
        chunks: of each product, by its id, about.
    """
    by_model: dict[str, list[Product]] = {}
    for product in products:
        by_model.setdefault(product.contract.embedding.model, []).append(product)
    if len(by_model) < 2:
        return []
    fresh = {row[0] for row in worker.execute(queries("upkeep")["scales_fresh"])}
    done = []
    for model, its in by_model.items():
        if model in fresh:
            continue
        largest = sorted(its, key=lambda one: -chunks.get(one.product_id, 0))[:_PRODUCTS]
        vectors = [row for one in largest for row in _sample(worker, one, chunks.get(one.product_id, 0))]
        distance = mean_distance(np.asarray(vectors, dtype=np.float32)) if len(vectors) >= FEWEST else 0.0
        if distance > 0:
            worker.execute(
                queries("upkeep")["scale_write"], {"model": model, "distance": distance, "chunks": len(vectors)}
            )
            done.append(model)
    return done


def mean_distance(vectors: Vectors) -> float:
    """Mean cosine distance of all pairs of these vectors, `(n, dim) float32`."""
    unit = vectors / np.clip(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12, None)
    count = len(unit)
    total = float(np.square(unit.sum(axis=0, dtype=np.float64)).sum())
    return 1.0 - (total - count) / (count * (count - 1))


def _sample(worker: Connection, product: Product, chunks: int) -> list[Vectors]:
    """Vectors of some chunks; of a large table from some of its pages."""
    sampling: sql.Composable = sql.SQL("")
    if chunks > _PAGES_FROM:
        sampling = sql.SQL("TABLESAMPLE SYSTEM ({})").format(sql.Literal(100.0 * _PAGES_FROM / chunks))
    rows = worker.execute(
        sql.SQL("SELECT t.embedding FROM {} AS t {} ORDER BY random() LIMIT {}").format(
            product.chunk_table, sampling, sql.Literal(_SAMPLE)
        )
    )
    return [row[0].to_numpy() for row in rows]

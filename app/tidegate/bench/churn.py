"""A tenth of the rows changes, through the worker's own writer: half get another text, half another scope."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from tidegate.bench.collection import PRODUCT, Collection, embedders
from tidegate.bench.entitlement import SCOPES
from tidegate.capture.position import Lsn, Position
from tidegate.database import connect, register_vectors
from tidegate.index.embedding.embedder import Vectors
from tidegate.index.product import Product, published
from tidegate.index.write import ChunkWriter, Kind, RowWrite

SHARE = 0.1
_BATCH = 200
_WRITERS = 2
_CHANGED = Position(Lsn(2), Lsn(2))
_UPDATE_SOURCE = (
    "UPDATE bench.passage AS p SET scope = n.scope, body = n.body "
    "FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS n (id, scope, body) WHERE p.id = n.id"
)


@dataclass(frozen=True, slots=True)
class Churn:
    """What changes. `rewritten` get the replacements; `moved` get each other's scopes, so that all shares stay."""

    rewritten: NDArray[np.int64]
    moved: NDArray[np.int64]
    scopes: NDArray[np.int16]

    @classmethod
    def of(cls, collection: Collection, seed: int) -> "Churn":
        """A tenth of the collection, the same one for a seed."""
        chosen = np.random.default_rng((seed, 11))
        rows = len(collection.bodies)
        picked = chosen.choice(rows, round(rows * SHARE), replace=False)
        rewritten, moved = np.sort(picked[::2]), np.sort(picked[1::2])
        return cls(rewritten, moved, chosen.permutation(collection.scope_of[moved]))

    def onto(self, collection: Collection, bodies: list[str], vectors: Vectors) -> None:
        """Changes what the benchmark knows. One replacement for each rewritten row."""
        for number, body in zip(self.rewritten.tolist(), bodies, strict=True):
            collection.bodies[number] = body
        collection.vectors[self.rewritten] = vectors
        collection.scope_of[self.moved] = self.scopes


def write(dsn: str, churn: Churn, collection: Collection, move: Callable[[int | None], None]) -> None:
    """Writes the changed rows of the collection to source, chunk table and ledger, by two writers."""
    jobs = [
        (kind, rows[first : first + _BATCH])
        for kind, rows in ((Kind.INDEX, churn.rewritten), (Kind.CARRY, churn.moved))
        for first in range(0, len(rows), _BATCH)
    ]
    with ThreadPoolExecutor(_WRITERS) as pool:
        for done in [pool.submit(_write, dsn, jobs[number::_WRITERS], collection, move) for number in range(_WRITERS)]:
            done.result()


def _write(
    dsn: str, jobs: list[tuple[Kind, NDArray[np.int64]]], collection: Collection, move: Callable[[int | None], None]
) -> None:
    with connect(dsn) as owner, connect(dsn, role="tidegate_worker") as worker:
        register_vectors(worker)
        (product,) = (one for one in published(worker, embedders()).values() if one.contract.product == PRODUCT)
        writer = ChunkWriter(product)
        for kind, numbers in jobs:
            rows = [_row(product, kind, number, collection) for number in numbers.tolist()]
            columns = ([row.values[name] for row in rows] for name in ("scope", "body"))
            owner.execute(_UPDATE_SOURCE, [numbers.tolist(), *columns])
            with worker.pipeline(), worker.transaction(), worker.cursor() as cursor:
                writer.write(cursor, rows)
            for _ in rows:
                move(None)


def _row(product: Product, kind: Kind, number: int, collection: Collection) -> RowWrite:
    body = collection.bodies[number]
    values = {"id": str(number), "scope": SCOPES[collection.scope_of[number]], "body": body}
    return RowWrite(
        kind=kind,
        key=product.key_text({"id": number}),
        key_values=(str(number),),
        position=_CHANGED,
        committed_at=datetime.now(UTC),
        values=values,
        document_hash=hashlib.sha256(body.encode()).digest(),
        chunks=(body,) if kind is Kind.INDEX else (),
        vectors=collection.vectors[number : number + 1] if kind is Kind.INDEX else None,
        chunk_count=1,
    )

"""Hybrid search against its two halves: nDCG@10 of vector alone, words alone, and both, by `tidegate.search`.

The set is a folder (`--data`) or one made here (labelled.py says what both are). Its documents become a product through
the real contract; they are cut by the product's splitter, embedded by its model and written by the worker's writer,
without capture, which is not measured here. A question goes to `tidegate.search` three times, as a reader: with its
embedding, with its text, and with both; k = 10. A question's score is its nDCG@10 (recall.py), a way's the mean over
all questions. Beside it: the share of questions for which the one is better than the other, since a mean hides it, and
how sure the difference is: the 95 % interval of the mean difference by bootstrap over the questions.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pgvector import Vector

from tidegate.bench import rows
from tidegate.bench.collection import MODEL, PRODUCT, SOURCE, drop_principals, embedders, publish, session
from tidegate.bench.database import database, facts, server
from tidegate.bench.entitlement import PRINCIPALS
from tidegate.bench.labelled import Labelled, Question, make, read
from tidegate.bench.progress import steps
from tidegate.bench.recall import ndcg
from tidegate.bench.report import Goal, Report
from tidegate.capture.position import Lsn, Position
from tidegate.database import connect, register_vectors
from tidegate.index.embedding.embedder import Vectors
from tidegate.index.product import published
from tidegate.index.write import ChunkWriter, Kind, RowWrite

_BATCH = 50
_SCOPE = "tenant-00"
_SEARCH = (
    "SELECT key ->> 'id' FROM tidegate.search(query => %s, query_text => %s, k => 10, products => '{bench.passage}')"
)
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Hybrid:
    """What is to be measured. `data`: a labelled set's folder; None: the made one."""

    data: Path | None = None
    seed: int = 1
    dsn: str | None = None

    def run(self) -> Report:
        """Measures; a minute or two, most of it embedding."""
        labelled = make(self.seed) if self.data is None else read(self.data)
        with steps() as shown, server(self.dsn) as server_dsn:
            try:
                with database(server_dsn, "hybrid") as dsn, connect(dsn) as connection:
                    server_facts = facts(connection)
                    publish(connection, embedders())
                    chunks = _fill(dsn, labelled, shown.step("documents", len(labelled.documents)))
                    connection.execute("ANALYZE")
                    scores = _scores(dsn, labelled.questions, shown.step("questions", len(labelled.questions)))
            finally:
                if self.dsn is not None:
                    with connect(server_dsn) as connection:
                        drop_principals(connection)
        means = {name: round(float(one.mean()), 4) for name, one in scores.items()}
        results: dict[str, Any] = {f"ndcg_{name}": mean for name, mean in means.items()}
        for other in ("vector", "words"):
            difference = scores["hybrid"] - scores[other]
            low, high = _interval(difference, self.seed)
            results |= {
                f"hybrid_minus_{other}": round(float(difference.mean()), 4),
                f"hybrid_minus_{other}_low": low,
                f"hybrid_minus_{other}_high": high,
                f"hybrid_better_than_{other}": round(float((difference > 0).mean()), 3),
                f"hybrid_worse_than_{other}": round(float((difference < 0).mean()), 3),
            }
        better = max(means["vector"], means["words"])
        return Report(
            bench="hybrid",
            config={
                "data": labelled.source, "documents": len(labelled.documents), "chunks": chunks,
                "questions": len(labelled.questions), "k": 10, "seed": self.seed, "model": MODEL,
                "server": "embedded" if self.dsn is None else "own", **server_facts,
            },
            results=results,
            floor={"ndcg_better_half": better},
            ratios={"hybrid / better half": round(means["hybrid"] / better, 4)} if better else {},
            goals=[Goal("nDCG@10 of hybrid, against the better half", means["hybrid"], better, at_least=True)],
        )  # fmt: skip


def _fill(dsn: str, labelled: Labelled, move: Callable[[int | None], None]) -> int:
    """Source rows, chunks and ledger, as the worker writes them. Returns the number of chunks."""
    keys, texts = list(labelled.documents), list(labelled.documents.values())
    written = 0
    with connect(dsn) as owner, connect(dsn, role="tidegate_worker") as worker:
        register_vectors(worker)
        (product,) = (one for one in published(worker, embedders()).values() if one.contract.product == PRODUCT)
        writer = ChunkWriter(product)
        source = ((rows.bigint(int(key)), _SCOPE.encode(), text.encode()) for key, text in labelled.documents.items())
        rows.copy(owner, SOURCE, ("id", "scope", "body"), source)
        for first in range(0, len(keys), _BATCH):
            batch = list(zip(keys[first : first + _BATCH], texts[first : first + _BATCH], strict=True))
            cut = [product.splitter.chunks(text) for _, text in batch]
            vectors = product.embedder.embed_bulk([chunk for chunks in cut for chunk in chunks])
            changes, at = [], 0
            for (key, text), chunks in zip(batch, cut, strict=True):
                changes.append(_row(key, text, chunks, vectors[at : at + len(chunks)]))
                at += len(chunks)
            with worker.pipeline(), worker.transaction(), worker.cursor() as cursor:
                writer.write(cursor, changes)
            written += at
            for _ in batch:
                move(None)
        owner.execute("UPDATE tidegate.product SET state = 'live' WHERE product = %s", [PRODUCT])
    return written


def _row(key: str, text: str, chunks: Sequence[str], vectors: Vectors) -> RowWrite:
    return RowWrite(
        kind=Kind.INDEX,
        key=json.dumps({"id": int(key)}, separators=(",", ":")),
        key_values=(key,),
        position=Position(Lsn(1), Lsn(1)),
        committed_at=datetime.now(UTC),
        values={"id": key, "scope": _SCOPE, "body": text},
        document_hash=hashlib.sha256(text.encode()).digest(),
        chunks=chunks,
        vectors=vectors,
        chunk_count=len(chunks),
    )


def _scores(dsn: str, questions: Sequence[Question], move: Callable[[int | None], None]) -> dict[str, Any]:
    """nDCG@10 of each question, by way."""
    embedder = embedders().of(MODEL)
    found: dict[str, list[float]] = {"vector": [], "words": [], "hybrid": []}
    with session(dsn, PRINCIPALS[0].role) as connection:
        register_vectors(connection)
        for question in questions:
            vector = Vector(embedder.embed([question.text])[0])
            for name, arguments in (
                ("vector", (vector, None)), ("words", (None, question.text)), ("hybrid", (vector, question.text)),
            ):  # fmt: skip
                ranked = [row[0] for row in connection.execute(_SEARCH, arguments).fetchall()]
                found[name].append(ndcg(ranked, question.gains))
            move(None)
    return {name: np.array(scores) for name, scores in found.items()}


def _interval(differences: Any, seed: int) -> tuple[float, float]:
    """Of the mean, 95 %."""
    chosen = np.random.default_rng(seed).integers(0, len(differences), (_RESAMPLES, len(differences)))
    low, high = np.percentile(differences[chosen].mean(axis=1), [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)

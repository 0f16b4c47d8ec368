"""A published product of passages, filled in bulk, and the principals who search it.

The contract is applied as a user's is: chunk table, policies, grants and live check are the real ones. The source
table, the chunk table and the ledger are then filled by COPY with what the worker would have written: these are
benchmarks of searching, not of indexing, and a million embeddings would take a working day.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from tidegate.bench import rows
from tidegate.bench.catalogue import READER
from tidegate.bench.entitlement import PRINCIPALS, SCOPES, Principal
from tidegate.contract.odcs import load_contracts
from tidegate.database import Connection, connect
from tidegate.govern.apply import apply_plan
from tidegate.govern.plan import make_plan
from tidegate.govern.principals import set_attributes
from tidegate.index.embedding.embedder import Vectors
from tidegate.index.embedding.registry import Embedders
from tidegate.settings import Settings

PRODUCT = "bench.passage"
MODEL = "local/all-minilm-l6-v2"
SOURCE = sql.Identifier("bench", "passage")
CHUNKS = sql.Identifier("rag_bench", "passage")
CONTRACT = Path(__file__).with_name("passage.odcs.yaml")
_VERSION = "1.0.0"
_LOADED = datetime(2026, 1, 1, tzinfo=UTC)
_BLOCK = 10_000


@dataclass(slots=True)
class Collection:
    """What the product holds, known to the benchmark beside the database; row n has the key n.

    Attributes:
        scope_of: a row's place in SCOPES, `(rows,)`.
    """

    bodies: list[str]
    vectors: Vectors
    scope_of: NDArray[np.int16]


def publish(connection: Connection, embedders: Embedders, principals: Sequence[Principal] = PRINCIPALS) -> None:
    """Makes the source table, applies the contract, and makes the principals with their attributes."""
    connection.execute("CREATE SCHEMA bench")
    connection.execute("CREATE TABLE bench.passage (id bigint PRIMARY KEY, scope text NOT NULL, body text NOT NULL)")
    (contract,) = load_contracts([CONTRACT])
    apply_plan(connection, make_plan(connection, contract, embedders.of(contract.embedding.model)))
    for principal in principals:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [principal.role]).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(principal.role)))
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(READER), sql.Identifier(principal.role)))
        set_attributes(connection, principal.role, {"scopes": principal.scopes})


def drop_principals(connection: Connection, principals: Sequence[Principal] = PRINCIPALS) -> None:
    """Removes the principals from the server; after their database."""
    for principal in principals:
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(principal.role)))


def fill(connection: Connection, collection: Collection) -> None:
    """Source, chunks and ledger; the product is live afterwards."""
    rows.copy(connection, SOURCE, ("id", "scope", "body"), _source(collection))
    columns = ("id", "scope", "chunk_no", "content", "content_hash", "embedding", "position", "committed_at",
               "contract_version")  # fmt: skip
    rows.copy(connection, CHUNKS, columns, _chunks(collection, embedding_type(connection)))
    connection.execute(
        sql.SQL(
            "INSERT INTO tidegate.ledger (product_id, key, position, document_hash, chunks, state) "
            "SELECT p.product_id, '{{\"id\":' || c.id || '}}', c.position, c.content_hash, 1, 'indexed' "
            "FROM {} c CROSS JOIN tidegate.product p WHERE p.product = %s"
        ).format(CHUNKS),
        [PRODUCT],
    )
    connection.execute(
        "UPDATE tidegate.product SET state = 'live', backfilled_at = clock_timestamp() WHERE product = %s", [PRODUCT]
    )
    connection.execute("ANALYZE bench.passage")


def embedding_type(connection: Connection) -> str:
    """`vector` or `halfvec`: how chunk tables store vectors."""
    row = connection.execute(
        "SELECT t.typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
        "WHERE a.attrelid = 'rag_bench.passage'::regclass AND a.attname = 'embedding'"
    ).fetchone()
    assert row is not None
    return str(row[0])


def _source(collection: Collection) -> Iterator[Sequence[bytes]]:
    scopes = [scope.encode() for scope in SCOPES]
    for number, body in enumerate(collection.bodies):
        yield rows.bigint(number), scopes[collection.scope_of[number]], body.encode()


def _chunks(collection: Collection, type_name: str) -> Iterator[Sequence[bytes]]:
    scopes = [scope.encode() for scope in SCOPES]
    constant = (rows.lsns((1, 1)), rows.moment(_LOADED), _VERSION.encode())
    first_chunk = rows.integer(0)
    for first in range(0, len(collection.bodies), _BLOCK):
        vectors = rows.vectors(type_name, collection.vectors[first : first + _BLOCK])
        for number, vector in enumerate(vectors, first):
            text = collection.bodies[number].encode()
            scope = scopes[collection.scope_of[number]]
            digest = hashlib.sha256(text).digest()
            yield rows.bigint(number), scope, first_chunk, text, digest, vector, *constant


def session(dsn: str, role: str | None = None) -> Connection:
    """A connection as a principal; None: the login itself, which sees everything."""
    return connect(dsn, role=role, application="tidegate bench")


def embedders() -> Embedders:
    return Embedders(Settings())

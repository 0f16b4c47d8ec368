"""HNSW indexes: built when a product has grown so far that exact search would be slow."""

import logging

from psycopg import sql

from tidegate.database import Connection, vector_schema
from tidegate.sql import queries

log = logging.getLogger(__name__)


def build_wanted(connection: Connection, from_chunks: int) -> int:
    """Builds the missing indexes, without blocking writers. Returns how many.

    An index that a killed build left behind is invalid and is replaced.

    Args:
        connection: as tidegate_owner, in autocommit mode.
        from_chunks: a table of fewer chunks needs none.
    """
    wanted = connection.execute(queries("worker")["vector_index_wanted"], {"chunks": from_chunks}).fetchall()
    for schema, table in wanted:
        name = f"{table}_embedding_hnsw"[:63]
        log.info("vector index started", extra={"table": f"{schema}.{table}"})
        connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(schema, name)))
        connection.execute("SET maintenance_work_mem = '256MB'")
        connection.execute(
            sql.SQL("CREATE INDEX CONCURRENTLY {} ON {} USING hnsw (embedding {}.vector_cosine_ops)").format(
                sql.Identifier(name),
                sql.Identifier(schema, table),
                sql.Identifier(vector_schema(connection)),
            )
        )
        log.info("vector index ready", extra={"table": f"{schema}.{table}"})
    return len(wanted)

"""HNSW indexes: built when a product has grown so far that exact search would be slow."""

import logging

import psycopg
from psycopg import sql

from tidegate.contract.identifier import fit
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
    built = 0
    for schema, table in connection.execute(
        queries("worker")["vector_index_wanted"], {"chunks": from_chunks}
    ).fetchall():
        try:
            _build(connection, schema, table)
            built += 1
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:  # one table stops only itself
            log.warning("vector index not built", extra={"table": f"{schema}.{table}", "reason": type(error).__name__})
    return built


def _build(connection: Connection, schema: str, table: str) -> None:
    name = fit(f"{table}_embedding_hnsw")
    log.info("vector index started", extra={"table": f"{schema}.{table}"})
    connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(schema, name)))
    connection.execute("SET maintenance_work_mem = '256MB'")
    connection.execute(
        sql.SQL("CREATE INDEX CONCURRENTLY {} ON {} USING hnsw (embedding {}.vector_cosine_ops)").format(
            sql.Identifier(name), sql.Identifier(schema, table), sql.Identifier(vector_schema(connection))
        )
    )
    log.info("vector index ready", extra={"table": f"{schema}.{table}"})

"""What keeps searches quick beside writing: indexes, statistics of who may see how much, and VACUUM.

All of it is an improvement only: whatever is missing, a search is right, but slower.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from tidegate.database import Connection, vector_schema
from tidegate.govern.chunk_words import EVENTS, UNFILLED
from tidegate.index.access_index import access_index
from tidegate.index.access_statistics import measure
from tidegate.index.model_scale import measure_scales
from tidegate.index.product import Product
from tidegate.index.search_index import SearchIndex
from tidegate.index.vector_index import vector_index
from tidegate.sql import queries

log = logging.getLogger(__name__)

_ACCESS_FROM_CHUNKS = 2_000
"""From so many chunks: below, computing all distances takes less time than planning anything."""
_PAGES = 64
_CHANGED = 0.05
"""Share of the chunks: a vacuum repairs the HNSW graph, minutes of a core for a million, and waits for more."""
_VACUUM_DELAY = "1ms"
"""After each bit of its work, so that live changes are not held up by it."""


@dataclass(frozen=True, slots=True)
class _Table:
    """A chunk table as the server's statistics know it. `measured_changes`: `changes` when it was last measured."""

    product_id: int
    relation: int
    chunks: int
    dimension: int
    live: bool
    dead: int
    inserted: int
    modified: int
    changes: int
    pages: int
    visible_pages: int
    real_pages: int
    vacuumed_lately: bool | None
    measured_changes: int | None
    words_wanted: bool

    @property
    def wants_vacuum(self) -> bool:
        """Whether index-only scans would have to look into the table: its pages are not known as all-visible."""
        if self.real_pages < _PAGES or self.vacuumed_lately:
            return False
        grown = self.real_pages > 1.1 * self.pages
        stale = self.dead + self.inserted > _CHANGED * self.chunks
        return grown or (stale and self.visible_pages < 0.98 * self.pages)

    @property
    def wants_statistics(self) -> bool:
        return self.measured_changes is None or abs(self.changes - self.measured_changes) > _CHANGED * self.chunks


def keep(owner: Connection, worker: Connection, products: Sequence[Product], hnsw_from_chunks: int) -> list[str]:
    """One turn over all chunk tables; a table that fails stops only itself. Returns what was done.

    Args:
        owner: as tidegate_owner, in autocommit mode.
        worker: as tidegate_worker, likewise.
        hnsw_from_chunks: a table of fewer chunks needs no HNSW index.
    """
    done: list[str] = []
    by_id = {product.product_id: product for product in products}
    tables = [_Table(*row) for row in owner.execute(queries("upkeep")["indexed_tables"], {"unfilled": UNFILLED})]
    for table in tables:
        product = by_id.get(table.product_id)
        if product is None:
            continue
        name = f"{product.contract.chunk_schema}.{product.contract.table}"
        try:
            for what in _keep_table(owner, worker, table, product, hnsw_from_chunks):
                log.info("upkeep", extra={"table": name, "done": what})
                done.append(f"{what} of {name}")
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            log.warning("upkeep failed", extra={"table": name, "reason": error.diag.message_primary or str(error)})
    try:
        counted = {table.product_id: table.chunks for table in tables}
        done += [f"scale of {model}" for model in measure_scales(worker, products, counted)]
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        log.warning("models not measured", extra={"reason": error.diag.message_primary or str(error)})
    for name in ("statistics_forget", "words_forget"):
        worker.execute(queries("upkeep")[name])
    return done


def _keep_table(
    owner: Connection, worker: Connection, table: _Table, product: Product, hnsw_from_chunks: int
) -> Iterator[str]:
    if table.wants_vacuum:
        owner.execute("SELECT set_config('vacuum_cost_delay', %s, false)", [_VACUUM_DELAY])
        owner.execute(sql.SQL("VACUUM (ANALYZE) {}").format(product.chunk_table))
        yield "vacuum"
    if table.wants_statistics and table.chunks >= _ACCESS_FROM_CHUNKS:
        measure(worker, product, table.relation, table.chunks, table.changes)
        yield "statistics"
    if table.words_wanted:
        _fill_words(owner, worker, table, product)
        yield "words"
    held = owner.execute(queries("upkeep")["indexes"], {"relation": table.relation}).fetchall()
    wanted: list[SearchIndex] = []
    columns = {row[0] for row in owner.execute(queries("upkeep")["columns"], {"relation": table.relation})}
    if table.live and table.chunks >= _ACCESS_FROM_CHUNKS and "codes" in columns:
        wanted += access_index(product, columns)
    if table.live and table.chunks >= hnsw_from_chunks:
        wanted += vector_index(product, table.dimension, vector_schema(owner))
    for index in wanted:
        if not any(name == index.name and valid and comment == index.mark for name, valid, comment in held):
            log.info("index started", extra={"index": index.name})
            index.build(owner, product)
            yield f"index {index.name}"


def _fill_words(owner: Connection, worker: Connection, table: _Table, product: Product) -> None:
    """The words of chunks that are older than the triggers which keep them."""
    keys = sql.SQL(", ").join(
        sql.SQL("{}, t.{}").format(sql.Literal(name), sql.Identifier(name)) for name in product.key_names
    )
    worker.execute(
        sql.SQL(
            "INSERT INTO tidegate.chunk_words (relation, key, chunk_no, words) "
            "SELECT {relation}, jsonb_build_object({keys}), t.chunk_no, to_tsvector({language}::regconfig, t.content) "
            "FROM {table} AS t ON CONFLICT DO NOTHING"
        ).format(
            relation=sql.Literal(table.relation),
            keys=keys,
            language=sql.Literal(product.contract.embedding.language),
            table=product.chunk_table,
        )
    )
    for name in EVENTS:
        owner.execute(
            sql.SQL("COMMENT ON TRIGGER {} ON {} IS 'tidegate: words'").format(
                sql.Identifier(name), product.chunk_table
            )
        )

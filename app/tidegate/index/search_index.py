"""An index that searches rely on, built beside the readers and writers of its table."""

import hashlib
from dataclasses import dataclass

from psycopg import sql

from tidegate.contract.identifier import fit
from tidegate.database import Connection
from tidegate.index.product import Product

_MEMORY_KB = 512 * 1024
"""For a build, where the server's own setting is less: an HNSW graph that does not fit is built many times slower."""


@dataclass(frozen=True, slots=True)
class SearchIndex:
    """`definition`: all that follows `ON table`. Its comment tells whether an index of that name is this one."""

    name: str
    definition: sql.Composed

    @property
    def mark(self) -> str:
        """The comment of the index in the database."""
        return f"tidegate: sha256={hashlib.sha256(self.definition.as_string(None).encode()).hexdigest()}"

    def build(self, owner: Connection, product: Product) -> None:
        """Builds it under another name, then takes the place of an older or unfinished one."""
        schema = product.contract.chunk_schema
        fresh = fit(f"{self.name}_new")
        owner.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(schema, fresh)))
        owner.execute(
            "SELECT set_config('maintenance_work_mem', greatest(setting::int, %s)::text, false) "
            "FROM pg_settings WHERE name = 'maintenance_work_mem'",
            [_MEMORY_KB],
        )
        owner.execute(
            sql.SQL("CREATE INDEX CONCURRENTLY {} ON {} {}").format(
                sql.Identifier(fresh), product.chunk_table, self.definition
            )
        )
        here = sql.Identifier(schema, self.name)
        # Not at once with the next one: its lock would wait for every reader, and new readers for it.
        owner.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(here))
        owner.execute(
            sql.SQL("ALTER INDEX {} RENAME TO {}").format(sql.Identifier(schema, fresh), sql.Identifier(self.name))
        )
        owner.execute(sql.SQL("COMMENT ON INDEX {} IS {}").format(here, sql.Literal(self.mark)))

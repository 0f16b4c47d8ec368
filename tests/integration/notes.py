"""Product team.note with rows indexed as the worker writes them, and readers who log in; no pipeline runs."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from pgvector import Vector
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide

from tidegate.database import register_vectors
from tidegate.govern.principals import set_attributes
from tidegate.index.embedding.local_model import MODEL

PASSWORD = "only-for-tests"
_numbers = itertools.count(1)


class Notes:
    """The product and its people."""

    def __init__(self, tide: Tide):
        self.tide = tide
        self._roles: list[str] = []
        tide.admin.execute(SIMPLE_TABLE)
        tide.apply(SIMPLE_CONTRACT)
        tide.admin.execute("UPDATE tidegate.product SET state = 'live'")

    def add(
        self, *contents: str, region: str = "EU", price: float | None = None, first: int = 1, table: str = "note"
    ) -> None:
        """Rows, one chunk each, numbered from `first`."""
        vectors = self.tide.embedders.of(MODEL).embed(contents)
        with psycopg.connect(self.tide.dsn) as worker:
            register_vectors(worker)
            for id_, content in enumerate(contents, first):
                worker.execute(
                    f"INSERT INTO team.{table} (id, title, region, price) VALUES (%s, %s, %s, %s)",
                    [id_, content, region, price],
                )
            worker.execute("SET LOCAL ROLE tidegate_worker")
            for id_, (content, vector) in enumerate(zip(contents, vectors, strict=True), first):
                worker.execute(
                    f"INSERT INTO rag_team.{table} (id, region, price, chunk_no, content, content_hash, embedding, position, "
                    "committed_at, contract_version) VALUES (%s, %s, %s, 0, %s, '', %s, '{0/1,0/1}', now(), '1.0.0')",  # type: ignore[arg-type]
                    [id_, region, price, content, Vector(vector)],
                )

    def watermark(self, age: str) -> None:
        """The index is as of so long ago, up to the WAL's end now."""
        self.tide.admin.execute(
            "INSERT INTO tidegate.watermark (lane, source, partition, lsn, as_of) "
            "VALUES (%s, '', 0, pg_current_wal_insert_lsn(), clock_timestamp() - %s::interval) "
            "ON CONFLICT (lane, source, partition) DO UPDATE SET lsn = excluded.lsn, as_of = excluded.as_of",
            [MODEL, age],
        )

    def reader(self, *of: str, regions: Sequence[str] = ("EU",)) -> str:
        """A DSN of a login that reads notes of these regions."""
        name = f"notes_{next(_numbers)}"
        admin = self.tide.admin
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(PASSWORD)))
        self._roles.append(name)
        for group in of or ("note_reader",):
            admin.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(name)))
        set_attributes(admin, name, {"regions": list(regions)})
        return make_conninfo(self.tide.dsn, user=name, password=PASSWORD)

    def close(self) -> None:
        for role in reversed(self._roles):
            self.tide.admin.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(sql.Identifier(role)))


@contextmanager
def notes_of(tide: Tide) -> Iterator[Notes]:
    made = Notes(tide)
    try:
        yield made
    finally:
        made.close()

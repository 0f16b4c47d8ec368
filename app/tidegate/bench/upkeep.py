"""What the worker does beside writing to keep searches quick and whole, done at once instead of in its own time."""

from psycopg import sql

from tidegate.bench.collection import CHUNKS, embedders
from tidegate.database import connect
from tidegate.index import upkeep
from tidegate.index.product import indexes
from tidegate.settings import Settings


def keep(dsn: str) -> None:
    """The worker's upkeep, and the VACUUM and ANALYZE that autovacuum gives a table that changed this much."""
    with connect(dsn) as connection:
        connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(CHUNKS))
    with (
        connect(dsn, role="tidegate_owner", application="tidegate house") as owner,
        connect(dsn, role="tidegate_worker", application="tidegate worker") as worker,
    ):
        upkeep.keep(owner, worker, indexes(worker, embedders()), Settings().hnsw_from_chunks)

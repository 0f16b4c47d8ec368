"""Backfills, as the worker tells of them, to lineage."""

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tidegate.contract.contract import Contract
from tidegate.database import Connection
from tidegate.observe.lineage import Lineage, State
from tidegate.sql import queries

_RUNS = uuid.UUID("5d0f4d5e-4f0a-4c0e-9d2b-7a1d3f1c6e02")


class BackfillLineage:
    """What the worker calls (index/house.py, BackfillObserver). Sent in a thread of its own: no row waits for it.

    START and COMPLETE may come from two processes; their run is known by the product and the end of the backfill
    before, which the catalog must not have replaced yet.
    """

    def __init__(self, lineage: Lineage):
        self._lineage = lineage
        self._sender = ThreadPoolExecutor(1, "lineage")

    def asked(self, connection: Connection, tables: Sequence[tuple[str, str]]) -> None:
        """The rows of these tables (schema, table) are about to be read."""
        for schema, table in tables:
            self._tell(connection, "START", "product_of_table", {"schema": schema, "table": table})

    def done(self, connection: Connection, product_id: int) -> None:
        """All rows of the product are in the index."""
        self._tell(connection, "COMPLETE", "product", {"product_id": product_id})

    def close(self) -> None:
        """Ends; what is being sent is finished."""
        self._sender.shutdown()

    def _tell(self, connection: Connection, state: State, query: str, parameters: dict[str, object]) -> None:
        row = connection.execute(queries("lineage_events")[query], parameters).fetchone()
        if row is None:
            return
        product_id, spec, dimension, before = row
        run = str(uuid.uuid5(_RUNS, f"{connection.info.dbname}/{product_id}/{before}"))
        contract = Contract.from_spec(spec)
        event = self._lineage.event(connection, "backfill", state, run, contract, dimension)
        self._sender.submit(self._lineage.send, event)

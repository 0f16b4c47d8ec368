"""The worker's connections to the index, and what must be done there however long it is away."""

import logging
import threading
from collections.abc import Callable

import psycopg

from tidegate.database import Connection, connect, register_vectors
from tidegate.errors import TidegateError
from tidegate.index import pause

log = logging.getLogger(__name__)


class WorkerSession:
    """Connects as the worker.

    Args:
        stopping: ends all waiting.
    """

    def __init__(self, dsn: str, stopping: threading.Event):
        self._dsn, self._stopping = dsn, stopping

    def open(self) -> Connection:
        """A connection. Raises TidegateError while the database is away."""
        connection = connect(self._dsn, role="tidegate_worker", application="tidegate worker")
        register_vectors(connection)
        return connection

    def open_owner(self) -> Connection:
        """One as the owner of the chunk tables. Raises TidegateError while the database is away."""
        return connect(self._dsn, role="tidegate_owner", application="tidegate house")

    def insist(self, what: str, act: Callable[[Connection], object]) -> bool:
        """Does it, however long the database is away; False: the worker was stopped before."""
        pauses = pause.pauses()
        while not self._stopping.is_set():
            try:
                with self.open() as connection:
                    act(connection)
                return True
            except (psycopg.Error, TidegateError) as error:
                log.warning(
                    "database away, it waits", extra={"what": what, "reason": str(error), "retry_s": pauses.seconds}
                )
                pauses.wait(self._stopping)
        return False

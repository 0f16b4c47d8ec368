"""Reading source rows: in the index's own database, or in one on another server that may be away."""

import time
from collections.abc import Mapping

import psycopg

from tidegate.capture.stream import HOME
from tidegate.database import Connection, connect
from tidegate.errors import TidegateError, TransientError
from tidegate.index.product import Product, Values

_CONNECT_S = 3
_READ_MS = 5_000
AWAY_S = 10.0


class SourceAway(TransientError):
    """A source on another server does not answer."""


class SourceReader:
    """Connections of one thread to the sources on other servers, each made when it is first needed.

    One that is away holds up what is not its own for seconds at most: it is not asked again for a while.

    Args:
        sources: DSNs by the sources' names.
    """

    def __init__(self, sources: Mapping[str, str]):
        self._sources = sources
        self._open: dict[str, Connection] = {}
        self._away: dict[str, tuple[float, str]] = {}

    def read(self, home: Connection, product: Product, keys: list[str]) -> dict[str, Values]:
        """See Product.read.

        Raises:
            SourceAway: the source is on another server, and does not answer.
            Violation: see Product.read.
        """
        if product.source == HOME:
            return product.read(home, keys)
        connection = self._connection(product.source)
        try:
            return product.read(connection, keys)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            connection.close()
            raise self._gone(product.source, error) from None

    def close(self) -> None:
        """Closes them all."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def _connection(self, name: str) -> Connection:
        held = self._open.get(name)
        if held is not None and not held.closed:
            return held
        until, reason = self._away.get(name, (0.0, ""))
        if time.monotonic() < until:
            raise SourceAway(reason)
        if name not in self._sources:
            raise SourceAway(f'source "{name}" is not known to this worker; set it in TIDEGATE_SOURCES')
        try:
            self._open[name] = opened(self._sources[name])
        except (TidegateError, psycopg.Error) as error:
            raise self._gone(name, error) from None
        return self._open[name]

    def _gone(self, name: str, error: Exception) -> SourceAway:
        away = f'source "{name}" does not answer: {str(error).strip() or type(error).__name__}'
        self._away[name] = (time.monotonic() + AWAY_S, away)
        return SourceAway(away)


def opened(dsn: str) -> Connection:
    """A connection to a source on another server, as the worker, that gives up on one that hangs."""
    connection = connect(
        dsn,
        role="tidegate_worker",
        application="tidegate worker",
        timeout=_CONNECT_S,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=2,
        tcp_user_timeout=2 * _READ_MS,
    )
    connection.execute(f"SET statement_timeout = {_READ_MS}")  # an int constant
    return connection

"""What both clients are but for I/O: whose they are, and views of them as somebody."""

import copy
import threading
from collections.abc import Generator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from psycopg import sql

from tidegate.database import CONNECT_TIMEOUT_S
from tidegate.errors import UsageError
from tidegate.index.embedding.registry import Embedders
from tidegate.query.exchange import Exchange
from tidegate.query.requests import Requests
from tidegate.query.session import Identity
from tidegate.settings import Settings

POOL_SIZE = 4
S = TypeVar("S", bound="Surface")
_ENDED = Identity()


class View(Generic[S]):
    """A client as somebody, as long as the block; enters by `with`, and by `async with` where that reads better."""

    def __init__(self, client: S, identity: Identity):
        self._view = copy.copy(client)
        self._view._become(identity, client)

    def __enter__(self) -> S:
        return self._view

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._view._identity = _ENDED

    async def __aenter__(self) -> S:
        return self._view

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._view._identity = _ENDED


class Surface:
    """The part of a client that blocks nothing. Thread-safe."""

    def __init__(self, dsn: str, settings: Settings, *, role: str | None = None, embedders: Embedders | None = None):
        self._dsn = dsn
        self._settings = settings
        self._role = role
        self._requests = Requests(settings, embedders or Embedders(settings))
        self._lock = threading.Lock()
        self._identity = Identity()
        self._of: Self | None = None  # whose connections a view uses
        self._token_exchange: Exchange | None = None

    def as_token(self, token: str) -> View[Self]:
        """A view of this client whose every call is made by whom the token says; for a `with` block.

        For logins that are gateways (members of tidegate_gateway). The token is verified in the database, anew by each
        statement; one that does not count shows nothing. It is set for a transaction only, so no other user of
        the pool meets it.

        Raises:
            UsageError: the text cannot be a token.
        """
        if not token.isascii() or "\0" in token:
            raise UsageError("the token is no JWT: it holds characters that none has")
        return View(self, Identity(token=token))

    def as_role(self, role: str) -> View[Self]:
        """A view of this client whose every call is made as a role that the login may take (SET LOCAL ROLE)."""
        return View(self, Identity(role=role))

    def _become(self, identity: Identity, client: Self) -> None:
        self._identity, self._of = identity, client._of or client

    def _asker(self) -> Identity:
        if self._identity is _ENDED:
            raise UsageError("this view of the client has ended; use it inside its with block")
        return self._identity

    def _exchanger(self) -> Exchange:
        owner = self._of or self
        with owner._lock:
            if owner._token_exchange is None:
                owner._token_exchange = Exchange.of_settings(self._settings)
            return owner._token_exchange

    def _pool_options(self) -> dict[str, Any]:
        return {
            "min_size": 1,
            "max_size": POOL_SIZE,
            "timeout": CONNECT_TIMEOUT_S,
            "kwargs": {
                "autocommit": True,
                "options": "-c timezone=UTC -c datestyle=ISO,YMD",
            },
        }

    def _session_openings(self) -> Generator[sql.Composed, None, None]:
        """What a new connection of the pool begins with."""
        if self._role is not None:
            yield sql.SQL("SET ROLE {}").format(sql.Identifier(self._role))

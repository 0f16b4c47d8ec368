"""What goes on around the application of a plan: connectors before and after it, lineage."""

from collections.abc import Iterator
from contextlib import contextmanager

from tidegate.connectors import Connectors
from tidegate.database import Connection
from tidegate.govern.plan import Plan
from tidegate.observe.lineage import Lineage
from tidegate.settings import Settings

_CONNECT_S = 60.0


class Applying:
    """Where Kafka Connect is set, its connectors follow the contracts.

    What must not leave a table is left out by its connector before the table joins the publication, since a topic
    would keep it; what may leave it from now on, is let through only after.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._lineage = Lineage(settings.openlineage)

    @contextmanager
    def applying(self, connection: Connection, plan: Plan) -> Iterator[None]:
        """Entered around each plan.

        Raises:
            ConnectAway, ConnectRefused, ConnectorFailed: before the plan, nothing is changed in the database; after
                it, "tidegate connect apply" does what is left.
        """
        connectors = None if self._settings.connect.url is None else Connectors(connection, self._settings)
        if connectors is not None:
            connectors.apply(_CONNECT_S, coming=[plan])
        with self._lineage.applying(connection, plan):
            yield
        if connectors is not None:
            connectors.apply(_CONNECT_S)

"""The connectors of an index: what Kafka Connect should run for its sources, and seeing to it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tidegate.capture.connect import Connect, ConnectAway, ConnectorState, ConnectRefused
from tidegate.capture.connector import Difference, connector_config, differences
from tidegate.capture.slot import ensure_slot
from tidegate.capture.source import Source, sources
from tidegate.capture.stream import HOME
from tidegate.database import Connection, connect
from tidegate.errors import UsageError
from tidegate.govern.plan import Plan
from tidegate.govern.source_database import claim, require_prepared
from tidegate.index.embedding.registry import Embedders
from tidegate.index.product import published, secret_columns
from tidegate.pipeline import complete
from tidegate.settings import Settings
from tidegate.sql import queries


@dataclass(frozen=True, slots=True)
class Change:
    """What `apply` did, or would do, to a connector. `created`: it was not there. No differences: nothing."""

    connector: str
    created: bool
    differences: tuple[Difference, ...]


class Connectors:
    """The connectors of the index behind `connection`; one a source, called after its prefix.

    Raises:
        UsageError: no URL of Kafka Connect is set.
    """

    def __init__(self, connection: Connection, settings: Settings, url: str | None = None):
        address = url or settings.connect.url
        if address is None:
            raise UsageError("no Kafka Connect: pass --url, or set TIDEGATE_CONNECT__URL (http://connect:8083)")
        self._connect = Connect(address)
        self._connection, self._settings = connection, settings
        home = complete(connection.info.dsn + _password(connection))
        self.sources: Mapping[str, Source] = sources(settings, home, connection.info.dbname)

    def apply(self, timeout: float, *, coming: Iterable[Plan] = (), dry_run: bool = False) -> list[Change]:
        """Brings every connector to its configuration, and waits until it runs. Safe to repeat.

        The slot is made before: what is committed from then on is not missed, whenever the connector starts.

        Args:
            coming: what is about to be published. Its secret columns are left out before the table joins the
                publication: a topic would keep them.

        Raises:
            ConnectAway, ConnectRefused, ConnectorFailed: see there.
            SlotMissing: it was used before and is gone.
            SourceUnprepared, ServerUnfit: a source of another server is not prepared, or not for this index.
        """
        there_now = published(self._connection, Embedders(self._settings)).values()
        contracts = [(p.source, p.contract) for p in there_now] + [(plan.source, plan.contract) for plan in coming]
        changes = []
        for source in self.sources.values():
            own = [contract for name, contract in contracts if name == source.name]
            secret = sorted(set(secret_columns(own, even_if_needed=True)))
            wanted = connector_config(source, self._settings, secret)
            there = self._connect.config(source.prefix)
            different = tuple(differences(there or {}, wanted))
            changes.append(Change(source.prefix, there is None, different))
            if dry_run:
                continue
            if there is None:
                self._prepare(source)
            if different:
                self._connect.put(source.prefix, wanted)
            state = self._connect.state(source.prefix)
            if state is not None and state.failed and not different:
                self._connect.restart(source.prefix)
            self._connect.wait_until_running(source.prefix, timeout, settle=2.0 if different else 0.0)
        return changes

    def states(self) -> dict[str, ConnectorState | None]:
        """How they are; None: there is none."""
        return {source.prefix: self._connect.state(source.prefix) for source in self.sources.values()}

    def restart(self, timeout: float) -> list[ConnectorState]:
        """Restarts those that are there, and waits until they run."""
        names = [source.prefix for source in self.sources.values() if self._connect.restart(source.prefix)]
        return [self._connect.wait_until_running(name, timeout) for name in names]

    def delete(self) -> list[str]:
        """Removes them; slots stay, and hold WAL back until a connector or `tidegate run` reads on."""
        return [source.prefix for source in self.sources.values() if self._connect.delete(source.prefix)]

    def _prepare(self, source: Source) -> None:
        with connect(source.dsn) as there:
            if source.name == HOME:
                ensure_slot(there, source.slot)
            else:
                require_prepared(there, source.name)
                claim(there, source)
                ensure_slot(there, source.slot, f"tidegate recover-slot --source {source.name}")
        # A new connector knows of no backfill that another had begun.
        parameters = {"source": source.name, "states": ["backfilling"]}
        self._connection.execute(queries("stream")["backfills_again"], parameters)


def _password(connection: Connection) -> str:
    """The password, which the connection's own DSN leaves out."""
    password = connection.info.password
    return "" if not password else " password='{}'".format(password.replace("\\", r"\\").replace("'", r"\'"))


def connector_states(connection: Connection, settings: Settings) -> dict[str, ConnectorState | str | None]:
    """How the connectors are, for `status`: nothing where no Connect is set, a sentence where it is away."""
    if settings.connect.url is None:
        return {}
    try:
        return dict(Connectors(connection, settings).states())
    except (ConnectAway, ConnectRefused) as error:
        return {"connect": str(error)}

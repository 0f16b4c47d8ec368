"""The databases that changes come from: the index's own, and those that settings name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.capture.slot import default_slot
from tidegate.capture.stream import HOME
from tidegate.contract.contract import Contract
from tidegate.errors import UsageError
from tidegate.settings import Settings


@dataclass(frozen=True, slots=True)
class Source:
    """A source database.

    Attributes:
        name: HOME, or the contracts' name of its server.
        prefix: of its topics; also the name of its connector.
    """

    name: str
    dsn: str
    slot: str
    prefix: str

    @property
    def topic(self) -> str:
        """The topic with all its changes."""
        return f"{self.prefix}.changes"


def sources(settings: Settings, home_dsn: str, database: str) -> Mapping[str, Source]:
    """All sources by name; the index's own first.

    Args:
        database: the index's, after which slots and topics are called where settings do not say otherwise.
    """
    slot = settings.slot or default_slot(database)
    prefix = settings.kafka.prefix or slot
    if settings.sources:
        raise UsageError(
            "TIDEGATE_SOURCES: products of other databases than the index's cannot be published yet; remove it"
        )
    found = {HOME: Source(HOME, home_dsn, slot, prefix)}
    for name, dsn in settings.sources.items():
        plain = re.sub("[^a-z0-9_]", "_", name.lower())
        found[name] = Source(name, dsn, f"{slot}_{plain}"[:63], f"{prefix}.{plain}")
    return found


def source_of(contract: Contract, settings: Settings) -> str:
    """The name of the source that has the contract's rows: its server, where settings know it; else HOME."""
    server = contract.source.server
    return server if server in settings.sources else HOME


def group(settings: Settings, home: Source) -> str:
    """The consumer group that the workers of an index share."""
    return settings.kafka.group or home.prefix

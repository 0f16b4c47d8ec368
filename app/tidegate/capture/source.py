"""The databases that changes come from: the index's own, and those that settings name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tidegate.capture.slot import default_slot
from tidegate.capture.stream import HOME
from tidegate.contract.contract import Contract
from tidegate.errors import UsageError
from tidegate.settings import Settings

_SLOT_CHARACTERS = 63
_NEEDED = ("host", "dbname", "user")


@dataclass(frozen=True, slots=True)
class Source:
    """A source database.

    Attributes:
        name: HOME, or the contracts' name of its server.
        prefix: of its topics; also the name of its connector.
        escaped: columns' names are escaped in its keys (names.py).
    """

    name: str
    dsn: str = field(repr=False)
    slot: str
    prefix: str
    escaped: bool = False

    @property
    def topic(self) -> str:
        """The topic with all its changes."""
        return f"{self.prefix}.changes"


def sources(settings: Settings, home_dsn: str, database: str) -> Mapping[str, Source]:
    """All sources by name; the index's own first.

    Args:
        database: the index's, after which slots and topics are called where settings do not say otherwise.

    Raises:
        UsageError: a source of the settings is none, or has the name of another.
    """
    slot = settings.slot or default_slot(database)
    prefix = settings.kafka.prefix or slot
    escaped = settings.kafka.value_format != "json"
    found = {HOME: Source(HOME, home_dsn, slot, prefix, escaped)}
    for name, dsn in settings.sources.items():
        plain = re.sub("[^a-z0-9_]", "_", name.lower())
        source = Source(name, _checked(name, dsn), f"{slot}_{plain}", f"{prefix}.{plain}", escaped)
        if not plain or len(source.slot) > _SLOT_CHARACTERS:
            raise UsageError(
                f'TIDEGATE_SOURCES: "{name}" cannot name a source: its replication slot would be "{source.slot}", '
                f"of {_SLOT_CHARACTERS} characters at most; choose another name, or a shorter TIDEGATE_SLOT"
            )
        if any(source.slot == other.slot for other in found.values()):
            raise UsageError(f'TIDEGATE_SOURCES: "{name}" is written like another source; rename one of them')
        found[name] = source
    return found


def source_of(contract: Contract, named: Mapping[str, str]) -> str:
    """The name of the source that has a contract's rows: its server, where settings name it; else HOME."""
    server = contract.source.server
    return server if server is not None and server in named else HOME


def group(settings: Settings, home: Source) -> str:
    """The consumer group that the workers of an index share."""
    return settings.kafka.group or home.prefix


def _checked(name: str, dsn: str) -> str:
    """The DSN. Debezium and all workers connect with it, so nothing of it comes from libpq's environment."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise UsageError(f'TIDEGATE_SOURCES: the DSN of "{name}" is not understood; it is a URI or key=value') from None
    missing = [part for part in _NEEDED if not parts.get(part)]
    if missing:
        raise UsageError(f'TIDEGATE_SOURCES: the DSN of "{name}" has no {", no ".join(missing)}')
    return dsn

"""What a contract is planned under."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.contract.standards import Standards
from tidegate.database import Connection
from tidegate.govern.standards import published_standards


@dataclass(frozen=True, slots=True)
class Setting:
    """What a contract is planned under.

    Attributes:
        standards: hold for every contract; None: none are in force.
        roles: taken for existing, since an earlier plan of the same set creates them.
        readers: taken for members of tidegate_reader, likewise.
        actor: whom the audit names, where it is not the login that applies.
        sources: DSNs of databases other than the index's that rows come from, by the contracts' server.
    """

    standards: Standards | None = None
    roles: frozenset[str] = field(default_factory=frozenset)
    readers: frozenset[str] = field(default_factory=frozenset)
    actor: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)


def setting_in_force(
    connection: Connection, actor: str | None = None, sources: Mapping[str, str] | None = None
) -> Setting:
    """The standards that the database has."""
    published = published_standards(connection)
    return Setting(published.standards if published else None, actor=actor, sources=sources or {})

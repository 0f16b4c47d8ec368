"""Attributes of principals: what the rules know of who asks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidegate.contract.finding import did_you_mean
from tidegate.database import Connection
from tidegate.errors import UnknownName, UsageError
from tidegate.govern.named import require_roles
from tidegate.sql import queries

_ATTRIBUTE = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Principal:
    """A role with its own attributes. `kind`: `login`, `group`, or `gone` where there is no such role any more."""

    principal: str
    kind: str
    attributes: dict[str, list[str]]

    @property
    def sentence(self) -> str:
        """For people; the attributes as `principal set` takes them."""
        shown = as_assignments(self.attributes)
        kind = "its role is gone, nobody has these" if self.kind == "gone" else self.kind
        return f"{self.principal} ({kind}): {shown}"


def parse_assignments(assignments: Sequence[str]) -> dict[str, list[str]]:
    """`regions=EU,US` to `{"regions": ["EU", "US"]}`; a comma in a value is written `\\,`.

    Raises:
        UsageError: no `=`, or no attribute's name before it.
    """
    parsed = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not _ATTRIBUTE.fullmatch(name):
            raise UsageError(f'"{assignment}" is no assignment; write attribute=value or attribute=value,value')
        values = [part.replace("\\,", ",") for part in re.split(r"(?<!\\),", text)] if text else []
        parsed[name] = values
    return parsed


def as_assignments(attributes: Mapping[str, Sequence[str]]) -> str:
    """The same as `parse_assignments` reads them, in one line."""
    return " ".join(
        f"{name}={','.join(value.replace(',', chr(92) + ',') for value in values)}"
        for name, values in attributes.items()
    )


def set_attributes(connection: Connection, principal: str, attributes: Mapping[str, Sequence[str]]) -> None:
    """Replaces the values of these attributes.

    Raises:
        UnknownName: there is no role of this name.
    """
    require_roles(connection, [principal], " LOGIN")
    with connection.transaction():
        for name, values in attributes.items():
            connection.execute(
                queries("principal_attributes")["set"],
                {"principal": principal, "attribute": name, "values": list(values)},
            )


def unset_attributes(connection: Connection, principal: str, names: Sequence[str]) -> int:
    """Removes attributes; all of them where none is named. Returns how many there were.

    Raises:
        UnknownName: no role of this name, and none that is gone, or it has no such attribute; nothing was removed.
    """
    known = next((one for one in list_principals(connection) if one.principal == principal), None)
    own = known.attributes if known else {}
    if known is None:
        require_roles(connection, [principal], " LOGIN")
    for name in names:
        if name not in own:
            has = f"it has {', '.join(own)}" if own else "it has none of its own"
            raise UnknownName(f'role "{principal}" has no attribute "{name}"{did_you_mean(name, own)}; {has}')
    parameters = {"principal": principal, "attributes": list(names)}
    return connection.execute(queries("principal_attributes")["unset"], parameters).rowcount


def unread_attributes(connection: Connection, names: Sequence[str]) -> list[str]:
    """Those of the attributes that no rule of a published contract reads: perhaps misspelt."""
    rows = connection.execute(queries("principal_attributes")["unread"], {"attributes": list(names)}).fetchall()
    return [row[0] for row in rows]


def show_attributes(connection: Connection, principal: str) -> dict[str, dict[str, list[str]]]:
    """Own and inherited values: `{"regions": {"own": [...]}, "tenant": {"from support": [...]}}`.

    Raises:
        UnknownName: there is no role of this name.
    """
    require_roles(connection, [principal], " LOGIN")
    rows = connection.execute(queries("principal_attributes")["show"], {"principal": principal}).fetchall()
    shown: dict[str, dict[str, list[str]]] = {}
    for attribute, origin, values in rows:
        shown.setdefault(attribute, {})[origin] = values
    return shown


def list_principals(connection: Connection) -> list[Principal]:
    """All roles that attributes are kept of, by name."""
    found: dict[str, Principal] = {}
    for name, kind, attribute, values in connection.execute(queries("principal_attributes")["list"]):
        found.setdefault(name, Principal(name, kind, {})).attributes[attribute] = values
    return list(found.values())

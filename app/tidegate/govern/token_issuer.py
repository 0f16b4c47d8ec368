"""Issuers of tokens: who is believed, and how their claims become principal, roles and attributes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

from psycopg.types.json import Jsonb

from tidegate.database import Connection
from tidegate.errors import UnknownName, UsageError
from tidegate.sql import queries

_ATTRIBUTE = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Whose tokens are believed. Claims are named by dotted paths; a dot in a claim's name is written `\\.`.

    Attributes:
        issuer, audience: what `iss` must be, and `aud` be or hold.
        roles_claim: the claim with the roles, a text or an array of texts; None: no roles.
        role_map: value of that claim → role of the server. A value that it does not name gives no role.
        attribute_map: attribute → the claim with its value or values.
        max_lifetime: the longest time from `iat` to `exp`.
    """

    issuer: str
    audience: str
    principal_claim: str = "sub"
    roles_claim: str | None = None
    role_map: Mapping[str, str] = field(default_factory=dict)
    attribute_map: Mapping[str, str] = field(default_factory=dict)
    max_lifetime: timedelta = timedelta(hours=1)

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Self:
        """From a row of sql/token_issuers.sql; the lifetime comes in seconds."""
        issuer, audience, principal_claim, roles_claim, role_map, attribute_map, seconds = row
        return cls(issuer, audience, principal_claim, roles_claim, role_map, attribute_map, timedelta(seconds=seconds))


def parse_role_map(pairs: Sequence[str]) -> dict[str, str]:
    """`agents=support_agent` to `{"agents": "support_agent"}`; the last `=` divides, since a value may hold some.

    Raises:
        UsageError: no `=`, or nothing on one side of it.
    """
    parsed = {}
    for pair in pairs:
        value, _, role = pair.rpartition("=")
        if not value or not role:
            raise UsageError(f'"{pair}" maps no value to a role; write VALUE=ROLE')
        parsed[value] = role
    return parsed


def parse_attribute_map(pairs: Sequence[str]) -> dict[str, str]:
    """`tenant=org.id` to `{"tenant": "org.id"}`; the first `=` divides.

    Raises:
        UsageError: no `=`, or nothing on one side of it.
    """
    parsed = {}
    for pair in pairs:
        attribute, _, claim = pair.partition("=")
        if not attribute or not claim:
            raise UsageError(f'"{pair}" names no attribute and claim; write ATTRIBUTE=CLAIM')
        parsed[attribute] = claim
    return parsed


def set_issuer(connection: Connection, issuer: TokenIssuer) -> None:
    """Declares an issuer; a declaration that is there is replaced as a whole.

    Raises:
        UsageError: a role of the map that is not there, a superuser or tidegate's own; an attribute that no rule
            could name; a roles_claim without a map or a map without a claim.
    """
    for name in issuer.attribute_map:
        if not _ATTRIBUTE.fullmatch(name):
            raise UsageError(f'"{name}" is no name of an attribute; rules write user.name in lower case')
    if bool(issuer.roles_claim) != bool(issuer.role_map):
        raise UsageError("roles need both: the claim that they are in, and what each of its values stands for")
    unfit = connection.execute(
        queries("token_issuers")["unfit_roles"], {"roles": sorted(set(issuer.role_map.values()))}
    ).fetchall()
    if unfit:
        raise UsageError("; ".join(f'role "{name}" cannot be mapped: {reason}' for name, reason in unfit))
    connection.execute(
        queries("token_issuers")["set"],
        {
            "issuer": issuer.issuer,
            "audience": issuer.audience,
            "principal_claim": issuer.principal_claim,
            "roles_claim": issuer.roles_claim,
            "role_map": Jsonb(dict(issuer.role_map)),
            "attribute_map": Jsonb(dict(issuer.attribute_map)),
            "max_lifetime": issuer.max_lifetime,
        },
    )


def list_issuers(connection: Connection) -> list[TokenIssuer]:
    """All issuers, by name."""
    return [TokenIssuer.of_row(row) for row in connection.execute(queries("token_issuers")["list"]).fetchall()]


def remove_issuer(connection: Connection, issuer: str) -> None:
    """Removes an issuer and its keys: its tokens count no more, from the next statement on.

    Raises:
        UnknownName: there is none of this name.
    """
    if connection.execute(queries("token_issuers")["remove"], {"issuer": issuer}).rowcount == 0:
        raise UnknownName(f'there is no issuer "{issuer}"; "tidegate token issuer list" names them')

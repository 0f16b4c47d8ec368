"""Keys of tokens in the database: added, listed, ended, revoked. A secret goes in and does not come out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from tidegate.database import Connection
from tidegate.errors import TidegateError, UnknownName, UsageError
from tidegate.govern.token_issuer import TokenIssuer
from tidegate.signing_key import SigningKey
from tidegate.sql import queries


class KeyRevoked(TidegateError):
    """The key is revoked already."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """What may be known of a key.

    Attributes:
        gateways: the logins in whose sessions it counts; None: every gateway's.
        state: good, waiting (not_before), ended (not_after) or revoked.
    """

    kid: str
    issuer: str
    gateways: tuple[str, ...] | None
    state: str
    not_before: datetime
    not_after: datetime | None
    revoked_at: datetime | None
    added_by: str
    added_at: datetime


def add_key(
    connection: Connection,
    issuer: str,
    key: SigningKey,
    *,
    gateways: Sequence[str] = (),
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> None:
    """Lets an issuer sign with a key, beside those that it has.

    Raises:
        UnknownName: there is no such issuer.
        UsageError: a kid that is taken (also by a revoked key), a login that is no gateway.
    """
    for (name,) in connection.execute(queries("token_keys")["no_gateways"], {"gateways": list(gateways)}).fetchall():
        raise UsageError(f'"{name}" is no gateway: GRANT tidegate_gateway TO "{name}" makes a login one')
    inner_pad, outer_pad = key.pads()
    try:
        connection.execute(
            queries("token_keys")["add"],
            {
                "kid": key.kid,
                "issuer": issuer,
                "inner_pad": inner_pad,
                "outer_pad": outer_pad,
                "gateways": list(gateways) or None,
                "not_before": not_before,
                "not_after": not_after,
            },
        )
    except psycopg.errors.UniqueViolation:
        raise UsageError(f'kid "{key.kid}" is taken; a key has a kid of its own, also after it was revoked') from None
    except psycopg.errors.ForeignKeyViolation:
        raise UnknownName(f'there is no issuer "{issuer}"; declare it first: tidegate token issuer set') from None


def list_keys(connection: Connection) -> list[TokenKey]:
    """All keys, by issuer and age."""
    rows = connection.execute(queries("token_keys")["list"]).fetchall()
    return [TokenKey(kid, issuer, gateways and tuple(gateways), *rest) for kid, issuer, gateways, *rest in rows]


def revoke_key(connection: Connection, kid: str, *, after: timedelta | None = None) -> None:
    """Ends a key: at once and for good, or after a time in which tokens that it signed may run out.

    Raises:
        UnknownName: there is none of this kid.
        KeyRevoked: it is revoked already.
    """
    if after is None:
        found = connection.execute(queries("token_keys")["revoke"], {"kid": kid}).rowcount
    else:
        found = connection.execute(queries("token_keys")["end"], {"kid": kid, "left": after}).rowcount
    if found == 0:
        issuer_of(connection, kid)
        raise KeyRevoked(f'key "{kid}" is revoked already; nothing was changed')


def issuer_of(connection: Connection, kid: str) -> TokenIssuer:
    """The issuer whose key this is.

    Raises:
        UnknownName: there is no key of this kid.
    """
    row = connection.execute(queries("token_keys")["issuer"], {"kid": kid}).fetchone()
    if row is None:
        raise UnknownName(f'there is no key "{kid}"; "tidegate token key list" names them')
    return TokenIssuer.of_row(row)

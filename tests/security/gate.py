"""A gateway and the tokens of its people: what an application has, and what an attacker may have got hold of."""

import time
from typing import Any

import jwt
from psycopg import sql
from tests.security.conftest import World

from tidegate.database import Connection
from tidegate.govern.token_issuer import TokenIssuer, set_issuer
from tidegate.govern.token_key import add_key
from tidegate.signing_key import SigningKey

ISSUER, AUDIENCE = "https://app.example.com/", "tidegate"
MAPPED = TokenIssuer(
    ISSUER,
    AUDIENCE,
    roles_claim="realm_access.roles",
    role_map={"reader": "note_reader"},
    attribute_map={"regions": "regions", "tenant": r"https://example\.com/tenant", "clearance": "level"},
)


class Gate:
    """Issuer, key and a gateway's login on a published world. Tokens are made by PyJWT, as an application would."""

    def __init__(self, world: World, *of: str, issuer: TokenIssuer = MAPPED, bound: bool = False, **attributes: Any):
        self.world = world
        self.login = world.role("app", "tidegate_gateway", *of, **attributes)
        self.key = SigningKey.generate("k1")
        set_issuer(world.admin, issuer)
        add_key(world.admin, issuer.issuer, self.key, gateways=[self.login] if bound else [])

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Alice's, who reads EU; a change to None leaves the claim out."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "alice",
            "iat": now,
            "exp": now + 300,
            "realm_access": {"roles": ["reader"]},
            "regions": ["EU"],
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(self, *, key: SigningKey | None = None, kid: str | None = None, **changes: Any) -> str:
        signing = key or self.key
        return jwt.encode(self.claims(**changes), signing.secret, "HS256", headers={"kid": kid or signing.kid})

    def session(self, token: str | None = None) -> Connection:
        """A session of the gateway, with this token for all of it."""
        session = self.world.login(self.login)
        if token is not None:
            present(session, token)
        return session


def present(session: Connection, token: str, *, local: bool = False) -> None:
    session.execute("SELECT set_config('tidegate.jwt', %s, %s)", [token, local])


def principal(session: Connection) -> str | None:
    row = session.execute("SELECT principal FROM tidegate.whoami()").fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


def take(session: Connection, role: str) -> None:
    session.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))

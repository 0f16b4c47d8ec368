"""The verifier in SQL and PyJWT agree on random tokens and on mutations of good ones.

PyJWT is laxer in a few things, each stated in `strictly`: what it takes and SQL does not is only that.
"""

import json
import os
import re
import time
from random import Random
from typing import Any

import jwt
import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from tests.conftest import Tide

from tidegate.govern.token_issuer import TokenIssuer, set_issuer
from tidegate.govern.token_key import add_key
from tidegate.signing_key import SigningKey

CASES = int(os.environ.get("TIDEGATE_TOKEN_CASES", "300"))
ISSUER, AUDIENCE, LEEWAY, LIFETIME = "iss", "aud", 10, 3600
KEY, OTHER = SigningKey("k1", b"k" * 64), SigningKey("k1", b"o" * 64)
SPELLED_ONE_WAY = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

ODD: tuple[Any, ...] = (
    None,
    True,
    7,
    -(10**20),
    10**20,
    1.5,
    "",
    "7",
    "é",
    [],
    {},
    {AUDIENCE: 1},
    [AUDIENCE, 1],
    ["b"],
    [[AUDIENCE]],
)
OFFSETS = {"iat": (-7200, -5, 0, 5, 60), "exp": (-7200, -60, -20, -5, 30, 7200, 10**12), "nbf": (-60, 0, 5, 60, 10**9)}
PAYLOADS = (b"", b"[]", b"7", b"null", b'"x"', b"{", b"\xff", b'{"a":1e999}', b'{"a":"\\u0000"}')
FAULTS = (
    "value",
    "iat",
    "exp",
    "nbf",
    "exp",
    "aud",
    "iss",
    "missing",
    "header",
    "key",
    "algorithm",
    "payload",
    "text",
    "text",
)


def made(random: Random) -> str:
    """A good token in one of its shapes; of three, two have one or two faults.

    Chosen by a generator of its own: hypothesis draws the seed, since what it draws itself is mostly alike.
    """
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": random.choice([AUDIENCE, [AUDIENCE], ["b", AUDIENCE]]),
        "sub": random.choice(["alice", "é", "a" * 300]),
        "iat": now - random.choice([0, 5, 60]),
        "exp": now + random.choice([300, 3000]) + random.choice([0, 0.5]),
        **random.choice([{}, {"nbf": now - 60}, {"x": {"y": [1, None, "z"]}}]),
    }
    headers: dict[str, Any] = {"kid": "k1"}
    key, algorithm, payload = KEY, "HS256", None
    faults = random.sample(FAULTS, random.choice([0, 1, 1, 1, 2, 0]))
    for fault in faults:
        match fault:
            case "value":
                claims[random.choice(["iss", "sub", "iat", "exp", "nbf"])] = random.choice(ODD)
            case "iat" | "exp" | "nbf":
                claims[fault] = now + random.choice(OFFSETS[fault])
            case "aud":
                claims["aud"] = random.choice([{AUDIENCE: 1}, {AUDIENCE: 1}, [], "b", ["b"], random.choice(ODD)])
            case "iss":
                claims["iss"] = random.choice([ISSUER + "/", ISSUER.upper(), [ISSUER], "b"])
            case "missing":
                claims.pop(random.choice(sorted(claims)))
            case "header":
                headers = random.choice([{}, {"kid": "k2"}, {"kid": ""}, {"kid": "k1", "typ": "at+jwt"}])
            case "key":
                key = OTHER
            case "algorithm":
                algorithm = random.choice(["HS384", "HS512"])
            case "payload":
                payload = random.choice(PAYLOADS)
    content = json.dumps(claims).encode() if payload is None else payload
    token = jwt.api_jws.encode(content, key.secret, algorithm, headers=headers)
    return mutated(random, token) if "text" in faults else token


def mutated(random: Random, token: str) -> str:
    at = random.randrange(len(token))
    match random.randrange(6):
        case 0:
            return token[:at] + random.choice("AbZ09-_=+/. \n") + token[at:]
        case 1:
            return token[:at] + token[at + 1 :]
        case 2:
            return token[:at] + random.choice("AbZ09-_=+/. ") + token[at + 1 :]
        case 3:
            return token[:at]
        case 4:
            return ".".join(random.sample(token.split("."), 3))
        case _:
            return token[:-1] + random.choice(BASE64URL)


def by_pyjwt(token: str) -> dict[str, Any] | None:
    try:
        if jwt.get_unverified_header(token).get("kid") != "k1":
            return None
        claims: dict[str, Any] = jwt.decode(
            token,
            KEY.secret,
            algorithms=["HS256"],
            issuer=ISSUER,
            audience=AUDIENCE,
            leeway=LEEWAY,
            options={"require": ["iss", "aud", "sub", "iat", "exp"]},
        )
    except (jwt.PyJWTError, ValueError, OverflowError, TypeError):
        return None
    return claims


def strictly(token: str, claims: dict[str, Any] | None) -> dict[str, Any] | None:
    """What is left of PyJWT's claims where SQL asks for more."""
    if claims is None or not SPELLED_ONE_WAY.fullmatch(token):
        return None
    numbers = [claims["iat"], claims["exp"], *([claims["nbf"]] if "nbf" in claims else [])]
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        return None
    if claims["exp"] - claims["iat"] > LIFETIME or not isinstance(claims["sub"], str) or not claims["sub"]:
        return None
    return claims


@settings(max_examples=CASES, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**64))
def test_sql_and_pyjwt_agree(tide: Tide, seed: int) -> None:
    admin = tide.admin
    if admin.execute("SELECT FROM tidegate.token_issuer").fetchone() is None:
        set_issuer(admin, TokenIssuer(ISSUER, AUDIENCE))
        add_key(admin, ISSUER, KEY)
    token = made(Random(seed))
    expected = strictly(token, by_pyjwt(token))
    assert verified(admin, token) == expected


def verified(admin: psycopg.Connection, token: str) -> dict[str, Any] | None:
    """What the owner of the verifier learns of the token, in a gateway's session."""
    with admin.transaction(force_rollback=True):
        admin.execute("GRANT EXECUTE ON FUNCTION tidegate.verified_claims() TO tidegate_gateway")
        admin.execute(sql.SQL("SET LOCAL ROLE tidegate_gateway"))
        admin.execute("SELECT set_config('tidegate.jwt', %s, true)", [token])
        row = admin.execute("SELECT tidegate.verified_claims()").fetchone()
        assert row is not None
        return row[0]  # type: ignore[no-any-return]


def test_about_half_of_the_tokens_count() -> None:
    """Else the property would say little."""
    tokens = [made(Random(seed)) for seed in range(300)]
    counted = [strictly(token, by_pyjwt(token)) is not None for token in tokens]
    assert 0.3 < sum(counted) / len(counted) < 0.7

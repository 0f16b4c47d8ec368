"""The verifier in SQL and PyJWT agree on random tokens and on mutations of good ones.

PyJWT is laxer in a few things, each stated in `strictly`: what it takes and SQL does not is only that.
"""

import json
import os
import re
import time
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
NEAR = st.sampled_from([-7200, -60, -20, 0, 30, 600, 7200])
FAULTS = ("value", "time", "missing", "header", "key", "algorithm", "payload", "text", "text")
SPELLED_ONE_WAY = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")

odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.text(max_size=4),
    st.just([]),
    st.just({}),
    st.just({AUDIENCE: 1}),
)


def now_and(offset: Any) -> Any:
    return int(time.time()) + offset if isinstance(offset, int) and not isinstance(offset, bool) else offset


@st.composite
def tokens(draw: st.DrawFn) -> str:
    """A good token in one of its shapes; half of them with one or two faults."""
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": draw(st.sampled_from([AUDIENCE, [AUDIENCE], ["b", AUDIENCE]])),
        "sub": draw(st.sampled_from(["alice", "é", "a" * 300])),
        "iat": now_and(draw(st.sampled_from([0, -5, -60]))),
        "exp": now_and(draw(st.sampled_from([300, 3000]))) + draw(st.sampled_from([0, 0.5])),
        **draw(st.sampled_from([{}, {"nbf": now_and(-60)}, {"x": {"y": [1, None, "z"]}}])),
    }
    headers: dict[str, Any] = {"kid": "k1"}
    key, algorithm, payload = KEY, "HS256", None
    faults = draw(st.lists(st.sampled_from(FAULTS), min_size=1, max_size=2)) if draw(st.booleans()) else []
    for fault in faults:
        match fault:
            case "value":
                name = draw(st.sampled_from(["iss", "aud", "sub", "iat", "exp", "nbf"]))
                claims[name] = draw(st.one_of(odd, st.sampled_from([ISSUER, [AUDIENCE, 1], ["b"], 7, "7"])))
            case "time":
                claims[draw(st.sampled_from(["iat", "exp", "nbf"]))] = now_and(draw(NEAR))
            case "missing":
                claims.pop(draw(st.sampled_from(sorted(claims))))
            case "header":
                headers = draw(st.sampled_from([{}, {"kid": "k2"}, {"kid": ""}, {"kid": "k1", "typ": "at+jwt"}]))
            case "key":
                key = OTHER
            case "algorithm":
                algorithm = draw(st.sampled_from(["HS384", "HS512"]))
            case "payload":
                payload = draw(
                    st.one_of(st.binary(max_size=12), st.sampled_from([b"[]", b"7", b"null", b'{"a":1e999}']))
                )
    content = json.dumps(claims).encode() if payload is None else payload
    token = jwt.api_jws.encode(content, key.secret, algorithm, headers=headers)
    return draw(mutated(token)) if "text" in faults else token


@st.composite
def mutated(draw: st.DrawFn, token: str) -> str:
    at = draw(st.integers(0, len(token) - 1))
    match draw(st.integers(0, 5)):
        case 0:
            return token[:at] + draw(st.sampled_from("AbZ09-_=+/. \n")) + token[at:]
        case 1:
            return token[:at] + token[at + 1 :]
        case 2:
            return token[:at] + draw(st.sampled_from("AbZ09-_=+/. ")) + token[at + 1 :]
        case 3:
            return token[:at]
        case 4:
            parts = token.split(".")
            return ".".join(draw(st.permutations(parts)))
        case _:
            return token[:-1] + draw(
                st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
            )


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
@given(data=st.data())
def test_sql_and_pyjwt_agree(tide: Tide, data: st.DataObject) -> None:
    admin = tide.admin
    if admin.execute("SELECT FROM tidegate.token_issuer").fetchone() is None:
        set_issuer(admin, TokenIssuer(ISSUER, AUDIENCE))
        add_key(admin, ISSUER, KEY)
    token = data.draw(tokens())
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


def test_about_half_of_the_tokens_count(tide: Tide) -> None:
    """Else the property would say little."""
    counted = []

    @settings(max_examples=200, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(token=tokens())
    def draw(token: str) -> None:
        counted.append(strictly(token, by_pyjwt(token)) is not None)

    draw()
    assert 0.15 < sum(counted) / len(counted) < 0.85

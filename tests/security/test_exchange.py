"""An identity provider's RS256 tokens become tokens of the database: a real key, a real JWKS server, the real gate."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.loopback import Asked, Reply, serving
from tests.security.conftest import World, seen
from tests.security.gate import AUDIENCE, ISSUER, Gate, principal

from tidegate.errors import UsageError
from tidegate.query.client import Client
from tidegate.query.exchange import Exchange, TokenRefused
from tidegate.settings import Settings
from tidegate.signing_key import SigningKey

IDP, APP = "https://idp.example.com/", "app"


class Provider:
    """An identity provider: a key, and at `url` a server on loopback that publishes its public half."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.requests = 0
        self.url = ""

    def answer(self, asked: Asked) -> Reply:
        self.requests += 1
        return Reply.json(self.jwks())

    def jwks(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**public, "kid": "idp1", "use": "sig", "alg": "RS256"}]}

    def token(self, *, key: Any = None, algorithm: str = "RS256", kid: str | None = "idp1", **changes: Any) -> str:
        now = int(time.time())
        claims = {"iss": IDP, "aud": APP, "sub": "alice", "iat": now, "exp": now + 3600, "regions": ["EU"]}
        claims |= {"realm_access": {"roles": ["reader"]}, **changes}
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, key or self.key, algorithm, headers={"kid": kid} if kid else None)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    with serving(made.answer) as url:
        made.url = f"{url}/jwks.json"
        yield made


def exchange(jwks: Any, key: SigningKey | None = None, **options: Any) -> Exchange:
    named = {"idp_issuer": IDP, "idp_audience": APP, "issuer": ISSUER, "audience": AUDIENCE} | options
    return Exchange(jwks, key=key or SigningKey.generate("k1"), **named)


def settings(provider: Provider, gate: Gate, **changes: Any) -> Settings:
    named = {
        "jwks": provider.url,
        "idp_issuer": IDP,
        "idp_audience": APP,
        "token_key": gate.key.secret.decode(),
        "token_kid": gate.key.kid,
        "token_issuer": ISSUER,
        "token_audience": AUDIENCE,
    }
    return Settings(_env_file=None, **(named | changes))


def test_a_providers_token_opens_what_its_claims_allow(published: World, provider: Provider) -> None:
    gate = Gate(published, bound=True)
    with Client(published.dsn(gate.login), settings(provider, gate)) as client:
        token = client.exchange(provider.token())
        before = provider.requests
        client.exchange(provider.token(sub="bob"))
        assert provider.requests == before, "the keys are kept"
        with client.as_token(token) as alice:
            assert alice.exchange(provider.token()), "a view exchanges as its client does"
    session = gate.session(token)
    assert principal(session) == "alice"
    assert seen(session) == {1}
    assert seen(gate.session(provider.token())) == set(), "the provider's own token is nothing to the database"


def test_the_new_token_is_short(provider: Provider) -> None:
    key = SigningKey.generate("k1")
    now = int(time.time())
    for old, latest in ((3600, 300), (60, 60)):
        token = exchange(provider.jwks(), key).exchange(provider.token(exp=now + old, nonce="x"))
        claims = jwt.decode(token, key.secret, ["HS256"], audience=AUDIENCE, issuer=ISSUER)
        assert now + latest <= claims["exp"] <= now + latest + 5
        assert claims["nonce"] == "x"


def test_keys_from_a_file(provider: Provider, tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(provider.jwks()), encoding="utf-8")
    assert exchange(str(file)).exchange(provider.token())


class TestRefused:
    @pytest.fixture(params=["server", "dict"])
    def gate(self, request: pytest.FixtureRequest, provider: Provider) -> Exchange:
        return exchange(provider.url if request.param == "server" else provider.jwks())

    def test_what_does_not_prove_what_it_must(self, gate: Exchange, provider: Provider) -> None:
        now = int(time.time())
        stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        wrong = {
            "another key": provider.token(key=stranger),
            "another kid": provider.token(kid="idp2"),
            "no kid": provider.token(kid=None),
            "another issuer": provider.token(iss="https://evil.example.com/"),
            "another audience": provider.token(aud="other"),
            "no audience": provider.token(aud=None),
            "no subject": provider.token(sub=None),
            "no end": provider.token(exp=None),
            "expired": provider.token(exp=now - 60),
            "not yet": provider.token(nbf=now + 60),
            "alg none": jwt.encode(
                {"iss": IDP, "aud": APP, "sub": "a", "exp": now + 60}, None, "none", {"kid": "idp1"}
            ),
            "hmac": provider.token(key=b"k" * 64, algorithm="HS256"),
            "nonsense": "nonsense",
            "empty": "",
        }
        for what, token in wrong.items():
            with pytest.raises(TokenRefused):
                print(what, gate.exchange(token))
        assert gate.exchange(provider.token())

    def test_the_public_key_as_an_hmac_secret(self, gate: Exchange, provider: Provider) -> None:
        """RS256 → HS256 confusion, in the spellings that the key has."""
        public = provider.key.public_key()
        formats = serialization.PublicFormat
        spellings = [
            public.public_bytes(serialization.Encoding.PEM, formats.SubjectPublicKeyInfo),
            public.public_bytes(serialization.Encoding.PEM, formats.PKCS1),
            public.public_bytes(serialization.Encoding.DER, formats.SubjectPublicKeyInfo),
            json.dumps(provider.jwks()["keys"][0]).encode(),
        ]
        now = int(time.time())
        for secret in spellings:
            signed = SigningKey("idp1", secret).sign(
                {"iss": IDP, "aud": APP, "sub": "root", "iat": now, "exp": now + 60}
            )
            with pytest.raises(TokenRefused):
                gate.exchange(signed)

    def test_a_symmetric_key_in_the_set(self, provider: Provider) -> None:
        """Who publishes a secret has none."""
        secret = jwt.utils.base64url_encode(b"k" * 64).decode()
        gate = exchange({"keys": [{"kty": "oct", "kid": "idp1", "k": secret, "alg": "HS256"}]})
        with pytest.raises(TokenRefused):
            gate.exchange(provider.token(key=b"k" * 64, algorithm="HS256"))


class TestUsedWrongly:
    @pytest.mark.parametrize(
        "jwks",
        ["http://idp.example.com/jwks", "http://127.0.0.1.evil.example.com/", "ftp://localhost/", "file:///etc/passwd"],
    )
    def test_keys_come_over_https(self, jwks: str) -> None:
        with pytest.raises(UsageError, match="https only"):
            exchange(jwks)

    def test_a_file_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no URL and no file"):
            exchange(str(tmp_path / "missing.json"))

    def test_settings_that_lack_something(self) -> None:
        with pytest.raises(UsageError, match="TIDEGATE_JWKS, TIDEGATE_IDP_ISSUER"):
            Exchange.of_settings(Settings(_env_file=None))

    def test_a_server_that_does_not_answer(self, provider: Provider) -> None:
        with pytest.raises(TokenRefused, match="refused"):
            exchange("http://127.0.0.1:9/jwks.json").exchange(provider.token())

    def test_a_short_secret(self) -> None:
        with pytest.raises(UsageError, match="has 31 bytes"):
            SigningKey("k", b"x" * 31)
        assert "secret" not in repr(SigningKey("k", b"secret" * 8))

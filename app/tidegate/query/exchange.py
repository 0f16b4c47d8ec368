"""An identity provider's tokens (RS256 and the like), exchanged for short-lived tokens of the database (HS256).

SQL verifies HMAC only. So the helper verifies the provider's signature against its published keys (a JWKS), the
issuer and the audience, and signs the same claims, under the database's issuer and audience, with a key that the
database knows. The new token ends with the old one, and after five minutes at the latest.

Whoever holds that key can be anyone: it belongs to the service and its secret store, and is bound to the service's
login (`tidegate token key add ISSUER --gateway LOGIN`). Verification needs the extra `jwt` (PyJWT and cryptography).
"""

import json
import time
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tidegate.errors import TidegateError, UsageError
from tidegate.settings import Settings
from tidegate.signing_key import SigningKey

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Asymmetric ones only: a published key must never serve as the secret of an HMAC."""
LEEWAY_S = 10
_OURS = frozenset({"iss", "aud", "iat", "exp", "nbf", "jti"})
_JWKS_TIMEOUT_S = 10


class TokenRefused(TidegateError):
    """An identity provider's token does not prove what it must."""


class Exchange:
    """Verifies tokens of one identity provider and signs tokens for the database. Thread-safe; keeps the keys it read.

    Args:
        jwks: https URL (http on loopback only) of the provider's keys, a file of them, or the parsed set.
        idp_issuer, idp_audience: what `iss` and `aud` of the provider's tokens must be.
        key: signs the new tokens.
        issuer, audience: of the new tokens, as declared by `tidegate token issuer set`.

    Raises:
        UsageError: a URL without https, a file that is no JWKS, the extra `jwt` missing.
    """

    def __init__(
        self,
        jwks: str | Mapping[str, Any],
        *,
        idp_issuer: str,
        idp_audience: str,
        key: SigningKey,
        issuer: str,
        audience: str,
        lifetime_s: int = 300,
    ):
        self._jwt = _pyjwt()
        self._keys = self._key_source(jwks)
        self._idp_issuer, self._idp_audience = idp_issuer, idp_audience
        self._key, self._issuer, self._audience = key, issuer, audience
        self._lifetime_s = lifetime_s

    @classmethod
    def of_settings(cls, settings: Settings) -> Self:
        """By TIDEGATE_JWKS, _IDP_ISSUER, _IDP_AUDIENCE, _TOKEN_KEY, _TOKEN_KID, _TOKEN_ISSUER and _TOKEN_AUDIENCE.

        Raises:
            UsageError: one of them is not set, or wrong.
        """
        names = ("jwks", "idp_issuer", "idp_audience", "token_key", "token_kid", "token_issuer", "token_audience")
        lacking = [f"TIDEGATE_{name.upper()}" for name in names if not getattr(settings, name)]
        if lacking:
            raise UsageError(f"to exchange tokens, set {', '.join(lacking)}")
        assert settings.token_key is not None
        return cls(
            str(settings.jwks),
            idp_issuer=str(settings.idp_issuer),
            idp_audience=str(settings.idp_audience),
            key=SigningKey(str(settings.token_kid), settings.token_key.get_secret_value().encode()),
            issuer=str(settings.token_issuer),
            audience=str(settings.token_audience),
            lifetime_s=settings.token_lifetime_s,
        )

    def exchange(self, id_token: str) -> str:
        """A token of the database with the claims of the provider's.

        Raises:
            TokenRefused: the signature, issuer, audience or a time is wrong, or the keys cannot be read.
        """
        try:
            claims: dict[str, Any] = self._jwt.decode(
                id_token,
                self._keys(id_token),
                algorithms=list(ALGORITHMS),
                issuer=self._idp_issuer,
                audience=self._idp_audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (self._jwt.PyJWTError, ValueError) as error:
            # PyJWT's messages name what is wrong and hold nothing of the token's contents.
            raise TokenRefused(
                f'the token of "{self._idp_issuer}" is refused: {error}; sign in again, or compare TIDEGATE_JWKS, '
                "TIDEGATE_IDP_ISSUER and TIDEGATE_IDP_AUDIENCE with the provider's"
            ) from None
        now = int(time.time())
        kept = {name: value for name, value in claims.items() if name not in _OURS}
        return self._key.sign(
            {
                **kept,
                "iss": self._issuer,
                "aud": self._audience,
                "iat": now,
                "exp": min(int(claims["exp"]), now + self._lifetime_s),
            }
        )

    def _key_source(self, jwks: str | Mapping[str, Any]) -> Any:
        """Gives the key that a token names by its kid."""
        if isinstance(jwks, str) and "://" in jwks:
            _require_safe(jwks)
            return self._jwt.PyJWKClient(jwks, timeout=_JWKS_TIMEOUT_S).get_signing_key_from_jwt
        try:
            parsed = json.loads(Path(jwks).read_text(encoding="utf-8")) if isinstance(jwks, str) else dict(jwks)
            keys = self._jwt.PyJWKSet.from_dict(parsed)
        except (OSError, ValueError, self._jwt.PyJWTError) as error:
            raise UsageError(f"TIDEGATE_JWKS is no URL and no file with keys: {error}") from None

        def named(token: str) -> Any:
            kid = self._jwt.get_unverified_header(token).get("kid")
            for key in keys.keys:
                if kid is not None and key.key_id == kid:
                    return key
            raise self._jwt.InvalidKeyError("no key of this kid")

        return named


def _pyjwt() -> Any:
    try:
        import cryptography  # noqa: F401 - PyJWT works without it, but not with these algorithms
        import jwt
    except ImportError:
        raise UsageError('exchanging tokens needs the extra "jwt": pip install "tidegate[jwt]"') from None
    return jwt


def _require_safe(url: str) -> None:
    """Keys that came over plain http could be anybody's."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise UsageError(f'TIDEGATE_JWKS is "{parts.scheme}://{host}…"; keys are read over https only')

"""Signs the tokens that the database verifies: JWT, HS256, with a key that it knows by its kid."""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tidegate.errors import UsageError

MIN_SECRET_BYTES = 32
_BLOCK = 64
"""sha256's block, in bytes: HMAC pads the key to it (RFC 2104)."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A kid and its secret: the bytes that HMAC takes, of a text its UTF-8.

    Raises:
        UsageError: no kid, or a secret shorter than 32 bytes (RFC 7518, 3.2: at least as long as the hash).
    """

    kid: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not self.kid:
            raise UsageError("a token key needs a kid")
        if len(self.secret) < MIN_SECRET_BYTES:
            raise UsageError(
                f'the secret of key "{self.kid}" has {len(self.secret)} bytes; HS256 needs {MIN_SECRET_BYTES} or more'
            )

    @classmethod
    def generate(cls, kid: str) -> Self:
        """A key with a secret of 64 random characters."""
        return cls(kid, secrets.token_urlsafe(48).encode())

    def pads(self) -> tuple[bytes, bytes]:
        """HMAC's inner and outer padded key, which is what the database keeps. They sign as well as the secret."""
        key = hashlib.sha256(self.secret).digest() if len(self.secret) > _BLOCK else self.secret
        key = key.ljust(_BLOCK, b"\0")
        return bytes(byte ^ 0x36 for byte in key), bytes(byte ^ 0x5C for byte in key)

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with these claims."""
        parts = [_part({"alg": "HS256", "kid": self.kid, "typ": "JWT"}), _part(claims)]
        signed = ".".join(parts)
        return f"{signed}.{_base64url(hmac.digest(self.secret, signed.encode(), 'sha256'))}"


def _part(content: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

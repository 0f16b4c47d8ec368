"""Names that a contract may introduce: plain lower-case snake names that Postgres keeps whole."""

import hashlib
import re

MAX_BYTES = 63
"""Postgres cuts longer identifiers silently (NAMEDATALEN - 1)."""

PATTERN = "[a-z_][a-z0-9_]*"
PLAIN_NAME = "a-z, 0-9 and _, not beginning with a digit"
"""What PATTERN says, for people."""
_IDENTIFIER = re.compile(PATTERN)
RESERVED_SCHEMAS = ("information_schema", "tidegate")
RESERVED_SCHEMA_PREFIXES = ("pg_", "rag_")


def is_identifier(name: str) -> bool:
    """Whether `name` is lower-case snake and at most 63 bytes long."""
    return len(name) <= MAX_BYTES and _IDENTIFIER.fullmatch(name) is not None


def is_role(name: str) -> bool:
    """Whether `name` may stand in a rule's `to`: plain, and nobody's but the domain's."""
    return is_identifier(name) and name != "public" and not name.startswith(("pg_", "tidegate_"))


def is_source_schema(name: str) -> bool:
    """Whether rows may come from the schema `name`: not the server's own, not tidegate's."""
    return is_identifier(name) and name not in RESERVED_SCHEMAS and not name.startswith(RESERVED_SCHEMA_PREFIXES)


def fit(name: str) -> str:
    """`name`, or its beginning and a hash of the whole where it is longer than 63 bytes."""
    if len(name.encode()) <= MAX_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    head = name.encode()[: MAX_BYTES - len(digest) - 1].decode(errors="ignore")
    return f"{head}_{digest}"

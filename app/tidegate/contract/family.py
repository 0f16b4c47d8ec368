"""Postgres types as a contract may name them, and the families that rules compare within."""

import re
from enum import StrEnum

from tidegate.contract.identifier import PATTERN


class Family(StrEnum):
    """Types that compare with each other. The value is the type that stands for the family."""

    TEXT = "text"
    CITEXT = "citext"
    INTEGER = "bigint"
    NUMERIC = "numeric"
    BOOLEAN = "boolean"
    UUID = "uuid"
    TIMESTAMPTZ = "timestamptz"
    TIMESTAMP = "timestamp"
    """Without time zone: read as UTC, so that no caller moves a rule by `SET TimeZone`."""
    DATE = "date"
    OTHER = "other"
    """Enums and whatever else is known only by name: compared as text, never ordered."""
    UNSUPPORTED = "unsupported"
    """Types whose text depends on settings of the caller's session, or that have no plain text."""


ORDERED = frozenset({Family.TEXT, Family.INTEGER, Family.NUMERIC, Family.TIMESTAMPTZ, Family.TIMESTAMP, Family.DATE})
TEMPORAL = frozenset({Family.TIMESTAMPTZ, Family.TIMESTAMP, Family.DATE})

_SIZE = r"(?:\([0-9]{1,5}(?:, ?[0-9]{1,5})?\))?"
_PHYSICAL_TYPE = re.compile(
    rf"(?:(?:{PATTERN}\.)?{PATTERN}{_SIZE}"
    rf"|double precision|character varying{_SIZE}|bit varying{_SIZE}"
    rf"|time(?:stamp)?{_SIZE} with(?:out)? time zone)(?:\[\])?"
)
"""Nothing else is ever cast to: no quotes, no punctuation, no words beyond these."""

_NOT_TYPES = frozenset({"smallserial", "serial", "bigserial", "serial2", "serial4", "serial8"})

_UNSUPPORTED = (
    *("json", "jsonb", "xml", "bytea", "interval", "money", "bit", "bit varying", "varbit", "record"),
    *("time", "timetz", "time with time zone", "time without time zone"),
    *("hstore", "vector", "halfvec", "sparsevec", "tsvector", "tsquery"),
    *("point", "line", "lseg", "box", "path", "polygon", "circle"),
)

_FAMILIES = {
    **dict.fromkeys(("text", "varchar", "character varying", "char", "character", "bpchar", "name"), Family.TEXT),
    "citext": Family.CITEXT,
    **dict.fromkeys(("smallint", "int", "integer", "bigint", "int2", "int4", "int8"), Family.INTEGER),
    **dict.fromkeys(("numeric", "decimal", "real", "float", "double precision", "float4", "float8"), Family.NUMERIC),
    **dict.fromkeys(("boolean", "bool"), Family.BOOLEAN),
    "uuid": Family.UUID,
    **dict.fromkeys(("timestamptz", "timestamp with time zone"), Family.TIMESTAMPTZ),
    **dict.fromkeys(("timestamp", "timestamp without time zone"), Family.TIMESTAMP),
    "date": Family.DATE,
    **dict.fromkeys(_UNSUPPORTED, Family.UNSUPPORTED),
}
_OTHERS = (
    *("inet", "cidr", "macaddr", "macaddr8", "oid", "pg_lsn", "xid", "xid8", "tid", "uuid", "regclass", "jsonpath"),
    *(f"{span}{kind}" for span in ("int4", "int8", "num", "ts", "tstz", "date") for kind in ("range", "multirange")),
    *("ltree", "lquery", "cube", "isbn", "semver", "geometry", "geography"),
)
"""Types of the server, or of an extension that many have, that are compared as text."""
KNOWN_TYPES = frozenset({*_FAMILIES, *_OTHERS})
_APPROXIMATE = frozenset({"real", "float", "double precision", "float4", "float8"})
_PADDED = frozenset({"char", "character", "bpchar"})


def physical_type(text: str) -> str:
    """`text` in lower case with single spaces, if it is a type name that may be cast to.

    Raises:
        ValueError: it is not; the message says what is allowed.
    """
    name = " ".join(text.lower().split()) if text.isascii() else ""
    if len(name) > 140 or _PHYSICAL_TYPE.fullmatch(name) is None:
        raise ValueError(
            f"{text!r} is not the name of a Postgres type; write it as in bigint, varchar(20), "
            "numeric(10,2), timestamptz, text[] or schema.enum"
        )
    if name.removesuffix("[]") in _NOT_TYPES:
        raise ValueError(f"{text!r} is a default, not a type; write smallint, integer or bigint")
    return name


def base(name: str) -> str:
    """A physical type without its size: `character varying(20)` gives `character varying`."""
    plain = re.sub(r"\([0-9, ]*\)", "", name)
    return plain.removeprefix("pg_catalog.")


def family(name: str) -> Family:
    """The family of a physical type, e.g. `numeric(10,2)` is NUMERIC; unknown names are OTHER."""
    if name.endswith("[]"):
        return Family.UNSUPPORTED
    known = _FAMILIES.get(base(name))
    if known is not None:
        return known
    return _FAMILIES.get(name.rpartition(".")[2], Family.OTHER) if name.endswith(".citext") else Family.OTHER


def unknown_type(name: str) -> bool:
    """Whether a physical type is neither the server's nor written with its schema: a type of the domain's own, found
    by a search path, or a slip of the pen.
    """
    plain = base(name.removesuffix("[]"))
    return "." not in plain and plain not in KNOWN_TYPES


def is_approximate(name: str) -> bool:
    """Whether values of the type are floats; Postgres compares them as double precision."""
    return base(name) in _APPROXIMATE


def is_padded(name: str) -> bool:
    """Whether trailing blanks mean nothing in the type (`char(n)`)."""
    return base(name) in _PADDED

"""Column values as text, in the form in which Postgres itself writes them (time zone UTC, ISO dates).

The same value reaches the index by two ways: in Debezium's JSON and read from the table. Both must give the
same document, or a row would be embedded again for nothing.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from typing import Any

from tidegate.capture.change_event import UNAVAILABLE
from tidegate.contract.family import base

_BYTES = UNAVAILABLE.encode()
_UNAVAILABLE = (
    UNAVAILABLE,
    _BYTES.hex(),
    [UNAVAILABLE],
    {UNAVAILABLE: UNAVAILABLE},
    list(_BYTES),
    # java.util.UUID.nameUUIDFromBytes
    [str(uuid.UUID(bytes=hashlib.md5(_BYTES, usedforsecurity=False).digest(), version=3))],
)
_ISO = re.compile(
    r"(?P<sign>-?)(?P<year>\d{4,})-(?P<day>\d\d-\d\d)"
    r"(?:[T ](?P<time>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d+))?)?(?:Z|[+-]\d\d(?::?\d\d)?)?( BC)?"
)
_WITH_ZONE = frozenset({"timestamptz", "timestamp with time zone"})
_WITHOUT_ZONE = frozenset({"timestamp", "timestamp without time zone", "date"})


def is_unavailable(value: Any, physical_type: str) -> bool:
    """Whether Debezium did not know the value: an unchanged TOAST column, in any of its types.

    It has a placeholder of their own type for text, bytea, hstore and for arrays of text, integers and uuid
    (Debezium PostgreSQL connector, "Toasted values"). For other arrays it warns and gives null, as if the
    column were NULL: a null array is never believed.
    """
    if value is None:
        return physical_type.endswith("[]")
    return value in _UNAVAILABLE


def value_text(value: Any, physical_type: str) -> str | None:
    """A value of Debezium's JSON as Postgres writes it; casting it to `physical_type` gives the value back."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case list():
            return _array(value, physical_type.removesuffix("[]"))
        case dict():
            return json.dumps(value, ensure_ascii=False)
        case int() | float():
            return str(value)
    kind = base(physical_type)
    if kind in _WITH_ZONE or kind in _WITHOUT_ZONE:
        return _moment(value, with_zone=kind in _WITH_ZONE)
    if kind == "bytea":
        return f"\\x{value}"
    if kind in ("time", "time without time zone"):
        return str(value).removesuffix("Z")
    if kind in ("numeric", "decimal") and value == "NAN":
        return "NaN"
    return str(value)


def _moment(value: str, *, with_zone: bool) -> str:
    found = _ISO.fullmatch(value)
    if found is None:  # infinity
        return value
    year = int(found["year"])
    before_christ = bool(found["sign"])
    text = f"{year + 1 if before_christ else year:04d}-{found['day']}"
    if found["time"]:
        fraction = (found["fraction"] or "").rstrip("0")
        text += f" {found['time']}" + (f".{fraction}" if fraction else "") + ("+00" if with_zone else "")
    return text + (" BC" if before_christ else "")


def _array(values: Sequence[Any], element_type: str) -> str:
    parts = []
    for value in values:
        text = value_text(value, element_type)
        if text is None:
            parts.append("NULL")
        elif isinstance(value, list):
            parts.append(text)
        else:
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            plain = text and text.upper() != "NULL" and not re.search(r'[\s{}",\\]', text)
            parts.append(text if plain else f'"{escaped}"')
    return "{" + ",".join(parts) + "}"

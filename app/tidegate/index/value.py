"""Column values as text, in the form in which Postgres itself writes them (time zone UTC, ISO dates).

The same value reaches the index by two ways: in Debezium's JSON and read from the table. Both must give the
same document, or a row would be embedded again for nothing.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from decimal import Decimal
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
_PLAIN_YEAR = re.compile(r"[1-9]\d{3}-")
_NUMERIC = frozenset({"numeric", "decimal"})
_SINGLE = frozenset({"real", "float4"})
_DOUBLE = frozenset({"double precision", "float8", "float"})
_WITH_ZONE = frozenset({"timestamptz", "timestamp with time zone"})
_WITHOUT_ZONE = frozenset({"timestamp", "timestamp without time zone", "date"})


def is_unavailable(value: Any, physical_type: str) -> bool:
    """Whether Debezium did not know the value: an unchanged TOAST column, in any of its types.

    It has a placeholder of their own type for text, bytea, hstore and for arrays of text, integers and uuid
    (Debezium PostgreSQL connector, "Toasted values"). For other arrays it warns and gives null, as if the
    column were NULL: a null array is never believed. Nor are values whose form it does not keep: infinity in
    its several spellings, and years before 1000 (a backfill drops their BC) and after 9999.
    """
    if value is None:
        return physical_type.endswith("[]")
    if value in _UNAVAILABLE:
        return True
    if isinstance(value, list):
        return any(_is_inexact(element, physical_type.removesuffix("[]")) for element in value)
    return _is_inexact(value, physical_type)


def _is_inexact(value: Any, physical_type: str) -> bool:
    if value is None:
        return False
    kind = base(physical_type)
    if kind in _WITH_ZONE or kind in _WITHOUT_ZONE:
        return _PLAIN_YEAR.match(str(value)) is None
    return kind in _NUMERIC and str(value).upper().endswith("INFINITY")


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
    if kind in _SINGLE or kind in _DOUBLE:
        return _float(str(value), digits=6 if kind in _SINGLE else 15)
    if kind in _WITH_ZONE or kind in _WITHOUT_ZONE:
        return _moment(value, with_zone=kind in _WITH_ZONE)
    if kind == "bytea":
        return f"\\x{value}"
    if kind in ("time", "time without time zone"):
        return str(value).removesuffix("Z")
    if kind in _NUMERIC and value == "NAN":
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


def _float(text: str, digits: int) -> str:
    """Java's shortest digits in Postgres' form: exponential below 1e-4 and from 10^digits on."""
    number = Decimal(text)
    if not number.is_finite() or not number:
        return "NaN" if number.is_nan() else str(number) if number else "-0" if number.is_signed() else "0"
    exponent = number.adjusted()
    number = number.normalize()
    if -4 <= exponent < digits:
        return f"{number:f}"
    mantissa = f"{number.scaleb(-exponent):f}"
    return f"{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _array(values: Sequence[Any], element_type: str) -> str:
    parts = []
    for value in values:
        # Inside an array Postgres writes a boolean in one letter.
        text = ("t" if value else "f") if isinstance(value, bool) else value_text(value, element_type)
        if text is None:
            parts.append("NULL")
        elif isinstance(value, list):
            parts.append(text)
        else:
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            plain = text and text.upper() != "NULL" and not re.search(r'[\s{}",\\]', text)
            parts.append(text if plain else f'"{escaped}"')
    return "{" + ",".join(parts) + "}"

"""Masks: what stands outside the source in place of a value that not everybody may see."""

import hashlib
import hmac
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal, assert_never

from tidegate.contract.family import Family, base, family, is_approximate, is_padded
from tidegate.contract.instant import instant

MaskKind = Literal["null", "hash", "partial_email", "last4", "constant"]
TEXT_ONLY: tuple[MaskKind, ...] = ("hash", "partial_email", "last4")
"""Kinds that are made from the value, which must be a text."""
STARS = "***"
_BITS = {"smallint": 16, "int2": 16, "int": 32, "integer": 32, "int4": 32, "bigint": 64, "int8": 64}
_SIZE = re.compile(r"\(([0-9]+)(?:, ?([0-9]+))?\)")


@dataclass(frozen=True, slots=True)
class Mask:
    """How a column is shown outside its source; `constant` only for the kind of that name."""

    kind: MaskKind
    constant: str | int | float | bool | None = None


def masked(mask: Mask, value: str | None, key: bytes | None, physical_type: str = "text") -> str | None:
    """The value that everybody may see, as Postgres writes it.

    NULL stays NULL, except under a constant: that does not even tell whether there is a value.

    - `hash`: HMAC-SHA256 with the database's own key, 64 hex digits: equal values stay equal, and nobody without the
      key can try out addresses.
    - `partial_email`: the first character, and the domain: `a***@example.com`. What is no address is `***`.
    - `last4`: the last four characters, of eight or more: `***6789`. What is shorter is `***`; the length is not told.

    Args:
        value: as Postgres writes it.
        key: for `hash` only.
        physical_type: the column's; the blanks that `char(n)` adds are no part of a value.
    """
    if mask.kind == "constant":
        return constant_text(mask)
    if mask.kind == "null" or value is None:
        return None
    if is_padded(base(physical_type)):
        value = value.rstrip(" ")
    match mask.kind:
        case "hash":
            if key is None:
                raise ValueError("a hash mask needs the database's key")
            return hmac.new(key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        case "partial_email":
            local, at, domain = value.rpartition("@")
            if not (at and local and domain):
                return STARS
            return f"{local[0] if len(local) > 1 else ''}{STARS}@{domain}"
        case "last4":
            return f"{STARS}{value[-4:]}" if len(value) >= 8 else STARS
        case _:
            assert_never(mask.kind)


def constant_text(mask: Mask) -> str:
    """The constant as Postgres reads it."""
    value = mask.constant
    return str(value).lower() if isinstance(value, bool) else str(value)


def masked_type(mask: Mask, physical_type: str) -> str:
    """The type of the masked column in the chunk table."""
    return "text" if mask.kind in TEXT_ONLY else physical_type


def reads_value(mask: Mask) -> bool:
    """Whether the masked value depends on the clear one."""
    return mask.kind in TEXT_ONLY


def unfit(mask: Mask, physical_type: str) -> str | None:
    """Why the mask cannot stand for a column of this type; None where it can."""
    kind = family(physical_type)
    if mask.kind in TEXT_ONLY and kind not in (Family.TEXT, Family.CITEXT):
        return f"{mask.kind} masks texts, the column is {physical_type}"
    if mask.kind == "constant" and (wanted := _misfit(mask.constant, physical_type, kind)):
        return f"the constant {mask.constant!r} does not fit {physical_type}: it must be {wanted}"
    return None


def _misfit(value: object, physical_type: str, kind: Family) -> str | None:
    """What the constant should be, where it is not."""
    sized = _SIZE.search(physical_type)
    size = [int(part) for part in sized.groups("0")] if sized else []
    wanted, fits = "", False
    match kind:
        case Family.TEXT | Family.CITEXT:
            most = size[0] if size else 1 if base(physical_type) in ("char", "character") else None
            wanted = "a text" if most is None else f"a text of at most {most} characters"
            fits = isinstance(value, str) and "\0" not in value and (most is None or len(value) <= most)
        case Family.INTEGER:
            limit = 2 ** (_BITS[base(physical_type)] - 1)
            wanted = f"a whole number from {-limit} to {limit - 1}"
            fits = isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit
        case Family.NUMERIC:
            wanted = "a number"
            fits = isinstance(value, int | float) and not isinstance(value, bool) and Decimal(str(value)).is_finite()
            if fits and size and not is_approximate(physical_type):
                whole = size[0] - size[1]
                wanted = f"a number with at most {whole} digits before the point"
                fits = abs(round(Decimal(str(value)), size[1])) < Decimal(10) ** whole
        case Family.BOOLEAN:
            wanted, fits = "true or false", isinstance(value, bool)
        case Family.UUID:
            wanted, fits = "a uuid", _reads(uuid.UUID, value)
        case Family.TIMESTAMPTZ | Family.TIMESTAMP:
            wanted, fits = "a moment, as in 2026-01-31T12:00:00Z", _reads(instant, value)
        case Family.DATE:
            wanted, fits = "a day, as in 2026-01-31", _reads(date.fromisoformat, value)
        case Family.OTHER | Family.UNSUPPORTED:
            wanted = "null, since a constant of this type cannot be checked"
        case _:
            assert_never(kind)
    return None if fits else wanted


def _reads(read: Callable[[str], object], value: object) -> bool:
    try:
        return isinstance(value, str) and read(value) is not None
    except ValueError:
        return False

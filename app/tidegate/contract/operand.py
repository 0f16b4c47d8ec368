"""What access rules compare: the families of operands, where two meet, and literals as one of them."""

import re
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import assert_never

from tidegate.contract.expression import Column, Literal, Now, Operand, UserAttribute
from tidegate.contract.family import TEMPORAL, Family, family
from tidegate.contract.instant import instant
from tidegate.errors import UsageError

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class RuleTypeError(UsageError):
    """An access rule compares what cannot be compared, or names what does not exist.

    Attributes: `allowed`, what could stand there instead.
    """

    def __init__(self, message: str, allowed: Iterable[str] = ()):
        super().__init__(message)
        self.allowed = tuple(allowed)


def family_of(column: Column) -> Family:
    """The family of a column whose type is known."""
    assert column.type is not None
    return family(column.type)


def name_of(operand: Operand) -> str:
    """The operand as messages call it."""
    match operand:
        case Column(name, type_):
            return f"row.{name} ({type_})"
        case UserAttribute(name):
            return f"user.{name}"
        case Literal(value):
            return repr(value) if isinstance(value, str) else str(value).lower()
        case Now():
            return "now()"
        case _:
            assert_never(operand)


def own_family(constant: Literal | Now) -> Family:
    """The family of a constant by itself."""
    if isinstance(constant, Now):
        return Family.TIMESTAMPTZ
    match constant.value:
        case bool():
            return Family.BOOLEAN
        case int():
            literal_as(constant, Family.INTEGER)
            return Family.INTEGER
        case Decimal():
            return Family.NUMERIC
        case _:
            return Family.TEXT


def meet(column: Column, other: Operand) -> Family:
    """The family in which a column meets something that is no column.

    Raises:
        RuleTypeError: they do not compare.
    """
    own = family_of(column)
    if own is Family.UNSUPPORTED:
        raise RuleTypeError(f"{name_of(column)} cannot be compared", ("is null", "is not null"))
    if isinstance(other, Now):
        if own not in TEMPORAL:
            raise RuleTypeError(
                f"{name_of(column)} cannot be compared with now()", ("timestamptz", "timestamp", "date")
            )
        return Family.TIMESTAMPTZ
    if isinstance(other, Literal):
        literal_as(other, own, name_of(column))
    return own


def attribute_family(shared: Family) -> Family:
    """The family that an attribute has when it meets this one."""
    match shared:
        case Family.OTHER:
            return Family.TEXT
        case Family.TIMESTAMP:
            return Family.TIMESTAMPTZ
        case _:
            return shared


def typed(operand: Operand, shared: Family) -> Operand:
    """The operand as it is compared in this family."""
    match operand:
        case UserAttribute(name):
            return UserAttribute(name, attribute_family(shared))
        case Literal():
            return literal_as(operand, shared)
        case _:
            return operand


def literal_as(literal: Literal, wanted: Family, against: str | None = None) -> Literal:
    """The literal as one of the family `wanted`.

    Raises:
        RuleTypeError: it is none; the message speaks of `against`, or of the family.
    """
    value = literal.value
    own, allowed = wanted, ""
    match wanted:
        case Family.TEXT | Family.CITEXT | Family.OTHER:
            fits, own, allowed = isinstance(value, str), attribute_family(wanted), "'text'"
        case Family.INTEGER | Family.NUMERIC:
            fits = isinstance(value, int | Decimal) and not isinstance(value, bool)
            if fits and isinstance(value, int) and wanted is Family.INTEGER:
                fits = -(2**63) <= value < 2**63
            own, allowed = (Family.NUMERIC if isinstance(value, Decimal) else wanted), "a number"
        case Family.BOOLEAN:
            fits, allowed = isinstance(value, bool), "true, false"
        case Family.UUID:
            fits, allowed = (
                isinstance(value, str) and bool(_UUID.fullmatch(value)),
                "'00000000-0000-0000-0000-000000000000'",
            )
        case Family.TIMESTAMPTZ | Family.TIMESTAMP:
            fits, own, allowed = (
                _is_instant(value),
                Family.TIMESTAMPTZ,
                "'2026-01-31', '2026-01-31T12:00:00+00:00'",
            )
        case Family.DATE:
            fits, allowed = _is_date(value), "'2026-01-31'"
        case Family.UNSUPPORTED:
            fits = False
        case _:
            assert_never(wanted)
    if not fits:
        raise RuleTypeError(
            f"{against or wanted} cannot be compared with {name_of(literal)}", (allowed,) if allowed else ()
        )
    return Literal(value, own)


def _is_instant(value: object) -> bool:
    try:
        return isinstance(value, str) and instant(value) is not None
    except ValueError:
        return False


def _is_date(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(_DATE.fullmatch(value)) and date.fromisoformat(value) is not None
    except ValueError:
        return False

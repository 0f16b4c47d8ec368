"""Access rules evaluated in Python: a second reading of the same semantics, to test the compiled one against.

Three-valued like SQL: None is unknown, and unknown hides. Nothing in production decides by this module.
"""

import math
import re
import struct
import uuid
from calendar import monthrange
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from operator import eq, ge, gt, le, lt, ne
from typing import Any, assert_never

from tidegate.contract.expression import (
    And,
    BoolColumn,
    Column,
    Compare,
    Expression,
    In,
    IsNull,
    Literal,
    Member,
    Not,
    Now,
    Offset,
    Operand,
    Or,
    UserAttribute,
)
from tidegate.contract.family import TEMPORAL, Family, family, is_approximate, is_padded
from tidegate.contract.instant import instant
from tidegate.contract.rule import Rule

Attributes = Mapping[str, Sequence[str | None]]
Members = Mapping[str, Collection[object]]

_TESTS = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}


def visible(
    rules: Iterable[Rule],
    row: Mapping[str, Any],
    roles: Collection[str],
    attributes: Attributes,
    now: datetime,
    members: Members,
) -> bool:
    """Whether one who has `roles` and `attributes` may see `row`.

    `row`: values as psycopg loads them. `members`: membership's name → the keys of which the caller is a
    member; a name that is missing is unknown. `now`: aware.
    """
    world = _World(row, attributes, now, members)
    allowed = False
    for rule in rules:
        applies = not rule.to or not set(rule.to).isdisjoint(roles)
        truth = True if rule.when is None else world.truth(rule.when)
        match rule.effect:
            case "allow":
                allowed = allowed or (applies and truth is True)
            case "require":
                if truth is not True:
                    return False
            case "deny":
                if applies and truth is not False:
                    return False
            case _:
                assert_never(rule.effect)
    return allowed


class _World:
    def __init__(self, row: Mapping[str, Any], attributes: Attributes, now: datetime, members: Members):
        self._row = row
        self._attributes = attributes
        self._now = now
        self._members = members

    def truth(self, expression: Expression) -> bool | None:
        match expression:
            case Or(terms):
                truths = [self.truth(term) for term in terms]
                return True if True in truths else None if None in truths else False
            case And(terms):
                truths = [self.truth(term) for term in terms]
                return False if False in truths else None if None in truths else True
            case Not(term):
                inner = self.truth(term)
                return None if inner is None else not inner
            case Compare(op, left, right):
                return _compare(op, self._value(left), self._value(right))
            case In(operand, members):
                return self._in(self._value(operand), members)
            case IsNull(column, negated):
                return (self._row[column.name] is None) is not negated
            case BoolColumn(column):
                value: bool | None = self._row[column.name]
                return value
            case Member(name, column):
                assert column is not None
                keys = self._members.get(name)
                if keys is None:
                    return None
                return self._any(self._row[column.name], list(keys))
            case _:
                assert_never(expression)

    def _in(self, value: Any, members: UserAttribute | tuple[Literal, ...]) -> bool | None:
        if isinstance(members, UserAttribute):
            found = self._attributes.get(members.name)
            if found is None:  # no values at all is a set, a missing attribute is none
                return None
            values = [_attribute(text, members.family) for text in found]
            return None if None in values else self._any(value, values)
        return self._any(value, [self._value(member) for member in members])

    @staticmethod
    def _any(value: Any, members: list[Any]) -> bool | None:
        """`value = ANY (members)`; Postgres answers false for no members before it looks at a NULL value."""
        if not members:
            return False
        truths = [_compare("=", value, member) for member in members]
        return True if True in truths else None if None in truths else False

    def _value(self, operand: Operand) -> Any:
        match operand:
            case Column(name, type_):
                assert type_ is not None
                return _column(self._row[name], type_)
            case UserAttribute(name, kind):
                values = self._attributes.get(name, ())
                return _attribute(values[0], kind) if len(values) == 1 else None
            case Literal(value, kind):
                return _constant(value, kind)
            case Now(offset):
                return _moved(self._now, offset)
            case _:
                assert_never(operand)


class _Folded(str):
    """Text that ignores case."""

    __slots__ = ()


def _column(value: Any, type_: str) -> Any:
    if value is None:
        return None
    kind = family(type_)
    if kind is Family.CITEXT:
        return _Folded(value.lower())
    if is_padded(type_):
        return value.rstrip(" ")
    if kind in TEMPORAL:
        return value
    if is_approximate(type_):
        single = type_ in ("real", "float4")
        return struct.unpack("f", struct.pack("f", value))[0] if single else float(value)
    return str(value) if kind is Family.OTHER else value


def _constant(value: Any, kind: Family | None) -> Any:
    match kind:
        case Family.UUID:
            return uuid.UUID(value)
        case Family.TIMESTAMPTZ:
            return instant(value)
        case Family.DATE:
            return date.fromisoformat(value)
        case _:
            return value


def _attribute(text: str | None, kind: Family | None) -> Any:
    """The attribute's text as its family has it; None where it is malformed."""
    if text is None:
        return None
    try:
        match kind:
            case Family.TEXT | Family.CITEXT:
                return text
            case Family.INTEGER:
                number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text) else None
                return number if number is not None and -(2**63) <= number < 2**63 else None
            case Family.NUMERIC:
                return Decimal(text) if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", text) else None
            case Family.BOOLEAN:
                return {"true": True, "false": False}.get(text)
            case Family.UUID:
                return uuid.UUID(text) if _UUID.fullmatch(text) else None
            case Family.TIMESTAMPTZ:
                return instant(text)
            case Family.DATE:
                return date.fromisoformat(text) if re.fullmatch(r"[0-9-]{10}", text) else None
            case _:
                raise AssertionError(kind)
    except ValueError:
        return None


def _moved(now: datetime, offset: Offset | None) -> datetime:
    """`now` and an interval by the calendar of UTC, as the compiled rule has it."""
    moment = now.astimezone(UTC)
    if offset is None:
        return moment
    amount = offset.sign * offset.amount
    if offset.unit in _SECONDS:
        return moment + timedelta(seconds=amount * _SECONDS[offset.unit])
    months = moment.year * 12 + moment.month - 1 + amount * (12 if offset.unit == "year" else 1)
    year, month = divmod(months, 12)
    return moment.replace(year=year, month=month + 1, day=min(moment.day, monthrange(year, month + 1)[1]))


def _compare(op: str, left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    left, right = _aligned(left, right)
    return bool(_TESTS[op](left, right))


def _aligned(left: Any, right: Any) -> tuple[Any, Any]:
    """Both as values that Python compares the way Postgres does."""
    if isinstance(left, datetime) or isinstance(right, datetime):
        return _as_instant(left), _as_instant(right)
    if isinstance(left, _Folded) or isinstance(right, _Folded):
        return str(left).lower(), str(right).lower()
    if isinstance(left, str):
        return left.encode(), right.encode()
    if isinstance(left, float) or isinstance(right, float):
        return _nan_last(float(left)), _nan_last(float(right))
    if isinstance(left, Decimal) or isinstance(right, Decimal):
        return _nan_last(Decimal(left)), _nan_last(Decimal(right))
    return left, right


def _as_instant(value: datetime | date) -> datetime:
    """A date is its midnight, and what has no time zone is in UTC."""
    moment = value if isinstance(value, datetime) else datetime.combine(value, time())
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _nan_last(value: float | Decimal) -> tuple[bool, float | Decimal]:
    return (True, 0) if math.isnan(value) else (False, value)

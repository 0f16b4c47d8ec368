"""The type check of access rules: from an untyped tree to one that can be compiled."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import Literal as OneOf
from typing import assert_never

from tidegate.contract.expression import (
    ORDERING,
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
    Operand,
    Or,
    UserAttribute,
)
from tidegate.contract.family import ORDERED, TEMPORAL, Family, family
from tidegate.errors import UsageError

Effect = OneOf["allow", "require", "deny"]

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
_COMPARABLE = {Family.INTEGER: Family.NUMERIC, Family.TIMESTAMP: Family.TIMESTAMPTZ}


class RuleTypeError(UsageError):
    """An access rule compares what cannot be compared, or names what does not exist.

    Attributes: `allowed`, what could stand there instead.
    """

    def __init__(self, message: str, allowed: Iterable[str] = ()):
        super().__init__(message)
        self.allowed = tuple(allowed)


def check(
    expression: Expression,
    columns: Mapping[str, str],
    *,
    effect: Effect = "require",
    memberships: Mapping[str, str] | None = None,
) -> Expression:
    """The expression with the type of every column, attribute and literal filled in.

    `columns`: name → physical type. `memberships`: name → the row's column of the membership.

    Raises:
        RuleTypeError: an unknown column or membership, or operands that do not compare.
    """
    return _Check(columns, effect, memberships or {}).expression(expression)


def instant(text: str) -> datetime:
    """An ISO date or timestamp; without an offset it is UTC.

    Raises:
        ValueError: it is neither.
    """
    if not _INSTANT.fullmatch(text):
        raise ValueError(text)
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(text) from None


class _Check:
    def __init__(self, columns: Mapping[str, str], effect: Effect, memberships: Mapping[str, str]):
        self._columns = columns
        self._effect = effect
        self._memberships = memberships

    def expression(self, expression: Expression) -> Expression:
        match expression:
            case Or(terms):
                return Or(tuple(map(self.expression, terms)))
            case And(terms):
                return And(tuple(map(self.expression, terms)))
            case Not(term):
                return Not(self.expression(term))
            case Compare():
                return self._compare(expression)
            case In():
                return self._in(expression)
            case IsNull(column, negated):
                return IsNull(self._column(column), negated)
            case BoolColumn(column):
                return self._bool(column)
            case Member(name):
                if name not in self._memberships:
                    raise RuleTypeError(f"member({name}) is not declared under memberships", sorted(self._memberships))
                return Member(name, self._column(Column(self._memberships[name])))
            case _:
                assert_never(expression)

    def _column(self, column: Column) -> Column:
        found = self._columns.get(column.name)
        if found is None:
            near = get_close_matches(column.name, self._columns, n=1)
            hint = f"; did you mean row.{near[0]}?" if near else ""
            raise RuleTypeError(f"there is no column {column.name}{hint}", self._columns)
        return Column(column.name, found)

    def _bool(self, column: Column) -> BoolColumn:
        typed = self._column(column)
        if _family(typed) is not Family.BOOLEAN:
            raise RuleTypeError(
                f"row.{column.name} is {typed.type}; only a boolean column can stand alone",
                [name for name, type_ in self._columns.items() if family(type_) is Family.BOOLEAN],
            )
        return BoolColumn(typed)

    def _compare(self, comparison: Compare) -> Compare:
        left, right = self._known(comparison.left), self._known(comparison.right)
        shared = self._shared(left, right)
        if comparison.op in ORDERING and shared not in ORDERED:
            raise RuleTypeError(f"{_name(left)} {comparison.op} {_name(right)}: {shared} has no order", ("=", "!="))
        return Compare(comparison.op, _typed(left, shared), _typed(right, shared))

    def _known(self, operand: Operand) -> Operand:
        return self._column(operand) if isinstance(operand, Column) else operand

    def _shared(self, left: Operand, right: Operand) -> Family:
        """The family in which the two meet."""
        match left, right:
            case Column(), Column():
                return self._columns_meet(left, right)
            case Column(), other:
                return _meet(left, other)
            case other, Column():
                return _meet(right, other)
            case (UserAttribute(), (Literal() | Now()) as constant) | (
                (Literal() | Now()) as constant,
                UserAttribute(),
            ):
                self._need_row_or_attribute()
                return _own_family(constant)
            case _:
                raise RuleTypeError(f"{_name(left)} with {_name(right)}: a rule must speak of the row", ("row.COLUMN",))

    def _need_row_or_attribute(self) -> None:
        if self._effect == "deny":
            raise RuleTypeError(
                "a rule must speak of the row; only require and allow compare user.ATTRIBUTE with a literal",
                ("require", "allow"),
            )

    def _columns_meet(self, left: Column, right: Column) -> Family:
        ours, theirs = _family(left), _family(right)
        same = _COMPARABLE.get(ours, ours) is _COMPARABLE.get(theirs, theirs)
        if ours is Family.OTHER and left.type != right.type:
            same = False
        if not same or ours is Family.UNSUPPORTED:
            raise RuleTypeError(f"{_name(left)} cannot be compared with {_name(right)}")
        return ours if ours is theirs else _COMPARABLE.get(ours, ours)

    def _in(self, membership: In) -> In:
        operand, members = self._known(membership.operand), membership.set
        if isinstance(members, UserAttribute):
            if isinstance(operand, Literal):
                self._need_row_or_attribute()
                shared = _own_family(operand)
            elif isinstance(operand, Column):
                shared = _meet(operand, members)
            else:
                raise RuleTypeError(f"{_name(operand)} in user.{members.name}: a rule must speak of the row")
            wanted = _attribute_family(shared)
            return In(_typed(operand, shared), UserAttribute(members.name, wanted, many=True))
        return In(*self._in_list(operand, members))

    def _in_list(self, operand: Operand, members: tuple[Literal, ...]) -> tuple[Operand, tuple[Literal, ...]]:
        if isinstance(operand, Column):
            for member in members:
                _meet(operand, member)
            shared = _family(operand)
        elif isinstance(operand, UserAttribute):
            self._need_row_or_attribute()
            families = {_own_family(member) for member in members}
            if families == {Family.INTEGER, Family.NUMERIC}:
                families = {Family.NUMERIC}
            if len(families) > 1:
                raise RuleTypeError(f"the list after user.{operand.name} mixes types: {', '.join(sorted(families))}")
            shared = families.pop()
        else:
            raise RuleTypeError(f"{_name(operand)} in a list: a rule must speak of the row")
        return _typed(operand, shared), tuple(_literal(member, shared) for member in members)


def _family(column: Column) -> Family:
    assert column.type is not None
    return family(column.type)


def _name(operand: Operand) -> str:
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


def _own_family(constant: Literal | Now) -> Family:
    if isinstance(constant, Now):
        return Family.TIMESTAMPTZ
    match constant.value:
        case bool():
            return Family.BOOLEAN
        case int():
            _literal(constant, Family.INTEGER)
            return Family.INTEGER
        case Decimal():
            return Family.NUMERIC
        case _:
            return Family.TEXT


def _meet(column: Column, other: Operand) -> Family:
    """The family in which a column meets something that is no column."""
    own = _family(column)
    if own is Family.UNSUPPORTED:
        raise RuleTypeError(f"{_name(column)} cannot be compared", ("is null", "is not null"))
    if isinstance(other, Now):
        if own not in TEMPORAL:
            raise RuleTypeError(f"{_name(column)} cannot be compared with now()", ("timestamptz", "timestamp", "date"))
        return Family.TIMESTAMPTZ
    if isinstance(other, Literal):
        _literal(other, own, _name(column))
    return own


def _attribute_family(shared: Family) -> Family:
    match shared:
        case Family.OTHER:
            return Family.TEXT
        case Family.TIMESTAMP:
            return Family.TIMESTAMPTZ
        case _:
            return shared


def _typed(operand: Operand, shared: Family) -> Operand:
    match operand:
        case UserAttribute(name):
            return UserAttribute(name, _attribute_family(shared))
        case Literal():
            return _literal(operand, shared)
        case _:
            return operand


def _literal(literal: Literal, wanted: Family, against: str | None = None) -> Literal:
    """The literal as one of the family `wanted`."""
    value = literal.value
    own, allowed = wanted, ""
    match wanted:
        case Family.TEXT | Family.CITEXT | Family.OTHER:
            fits, own, allowed = isinstance(value, str), _attribute_family(wanted), "'text'"
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
            f"{against or wanted} cannot be compared with {_name(literal)}", (allowed,) if allowed else ()
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

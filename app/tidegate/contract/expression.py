"""The syntax tree of an access rule, as text and as nodes.

A tree comes untyped from the grammar (`family` and `type` are None) and typed from the type check.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal as OneOf
from typing import assert_never

from tidegate.contract.family import Family

Operator = OneOf["=", "!=", "<", "<=", ">", ">="]
ORDERING: frozenset[str] = frozenset({"<", "<=", ">", ">="})
Unit = OneOf["second", "minute", "hour", "day", "week", "month", "year"]
UNITS: tuple[Unit, ...] = ("second", "minute", "hour", "day", "week", "month", "year")


@dataclass(frozen=True, slots=True)
class Column:
    """`row.NAME`; `type` is the physical type, once checked."""

    name: str
    type: str | None = None


@dataclass(frozen=True, slots=True)
class UserAttribute:
    """`user.NAME`: what is known of the caller. `many` where it is used as a set."""

    name: str
    family: Family | None = None
    many: bool = False


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant. Dates and timestamps stay the text that was written; naive ones are UTC."""

    value: str | int | Decimal | bool
    family: Family | None = None


@dataclass(frozen=True, slots=True)
class Offset:
    """A distance in time, `sign` +1 or -1."""

    sign: int
    amount: int
    unit: Unit


@dataclass(frozen=True, slots=True)
class Now:
    """`now()`, the start of the transaction, moved by `offset`."""

    offset: Offset | None = None


Operand = Column | UserAttribute | Literal | Now


@dataclass(frozen=True, slots=True)
class Compare:
    op: Operator
    left: Operand
    right: Operand


@dataclass(frozen=True, slots=True)
class In:
    operand: Operand
    set: UserAttribute | tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class IsNull:
    column: Column
    negated: bool = False


@dataclass(frozen=True, slots=True)
class BoolColumn:
    """A bare `row.NAME`, which must be boolean."""

    column: Column


@dataclass(frozen=True, slots=True)
class Member:
    """`member(NAME)`; `column` is the row's side of the membership, once checked."""

    name: str
    column: Column | None = None


@dataclass(frozen=True, slots=True)
class Not:
    term: "Expression"


@dataclass(frozen=True, slots=True)
class And:
    terms: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    terms: "tuple[Expression, ...]"


Expression = Or | And | Not | Compare | In | IsNull | BoolColumn | Member


def leaves(expression: Expression) -> Iterator[Operand | Member]:
    """Every operand and membership of the tree, left to right."""
    match expression:
        case Or(terms) | And(terms):
            for term in terms:
                yield from leaves(term)
        case Not(term):
            yield from leaves(term)
        case Compare(_, left, right):
            yield left
            yield right
        case In(operand, members):
            yield operand
            if isinstance(members, UserAttribute):
                yield members
            else:
                yield from members
        case IsNull(column, _) | BoolColumn(column):
            yield column
        case Member():
            yield expression
        case _:
            assert_never(expression)


def columns(expression: Expression) -> frozenset[str]:
    """Names of the row's columns that the expression reads, those of memberships included."""
    names = set()
    for leaf in leaves(expression):
        if isinstance(leaf, Column):
            names.add(leaf.name)
        elif isinstance(leaf, Member) and leaf.column is not None:
            names.add(leaf.column.name)
    return frozenset(names)


def attributes(expression: Expression) -> frozenset[UserAttribute]:
    """The user's attributes that the expression reads, as typed as the expression is."""
    return frozenset(leaf for leaf in leaves(expression) if isinstance(leaf, UserAttribute))


def render(expression: Expression) -> str:
    """The expression as the grammar reads it: `parse(render(e))` is `e`, untyped."""
    match expression:
        case Or(terms):
            return " or ".join(_grouped(term, Or) for term in terms)
        case And(terms):
            return " and ".join(_grouped(term, Or, And) for term in terms)
        case Not(term):
            return f"not {_grouped(term, Or, And, Not)}"
        case Compare(op, left, right):
            return f"{_operand(left)} {op} {_operand(right)}"
        case In(operand, UserAttribute(name)):
            return f"{_operand(operand)} in user.{name}"
        case In(operand, members):
            assert isinstance(members, tuple)
            return f"{_operand(operand)} in [{', '.join(map(_operand, members))}]"
        case IsNull(column, negated):
            return f"row.{column.name} is {'not ' if negated else ''}null"
        case BoolColumn(column):
            return f"row.{column.name}"
        case Member(name):
            return f"member({name})"
        case _:
            assert_never(expression)


def _grouped(term: Expression, *kinds: type) -> str:
    return f"({render(term)})" if isinstance(term, kinds) else render(term)


def _operand(operand: Operand) -> str:
    match operand:
        case Column(name):
            return f"row.{name}"
        case UserAttribute(name):
            return f"user.{name}"
        case Literal(bool() as value):
            return "true" if value else "false"
        case Literal(str() as value):
            return "'" + value.replace("'", "''") + "'"
        case Literal(Decimal() as value):
            return format(value, "f")
        case Literal(value):
            return str(value)
        case Now(None):
            return "now()"
        case Now(Offset(sign, amount, unit)):
            return f"now() {'+' if sign > 0 else '-'} '{amount} {unit}{'' if amount == 1 else 's'}'"
        case _:
            raise AssertionError(operand)

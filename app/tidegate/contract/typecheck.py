"""The type check of access rules: from an untyped tree to one that can be compiled."""

from collections.abc import Mapping
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
from tidegate.contract.family import ORDERED, Family, family
from tidegate.contract.operand import (
    RuleTypeError,
    attribute_family,
    family_of,
    literal_as,
    meet,
    name_of,
    own_family,
    typed,
)

Effect = OneOf["allow", "require", "deny"]

_COMPARABLE = {Family.INTEGER: Family.NUMERIC, Family.TIMESTAMP: Family.TIMESTAMPTZ}


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
        known = self._column(column)
        if family_of(known) is not Family.BOOLEAN:
            raise RuleTypeError(
                f"row.{column.name} is {known.type}; only a boolean column can stand alone",
                [name for name, type_ in self._columns.items() if family(type_) is Family.BOOLEAN],
            )
        return BoolColumn(known)

    def _compare(self, comparison: Compare) -> Compare:
        left, right = self._known(comparison.left), self._known(comparison.right)
        shared = self._shared(left, right)
        if comparison.op in ORDERING and shared not in ORDERED:
            raise RuleTypeError(f"{name_of(left)} {comparison.op} {name_of(right)}: {shared} has no order", ("=", "!="))
        return Compare(comparison.op, typed(left, shared), typed(right, shared))

    def _known(self, operand: Operand) -> Operand:
        return self._column(operand) if isinstance(operand, Column) else operand

    def _shared(self, left: Operand, right: Operand) -> Family:
        """The family in which the two meet."""
        match left, right:
            case Column(), Column():
                return self._columns_meet(left, right)
            case Column(), other:
                return meet(left, other)
            case other, Column():
                return meet(right, other)
            case (UserAttribute(), (Literal() | Now()) as constant) | (
                (Literal() | Now()) as constant,
                UserAttribute(),
            ):
                self._need_row_or_attribute()
                return own_family(constant)
            case _:
                raise RuleTypeError(
                    f"{name_of(left)} with {name_of(right)}: a rule must speak of the row", ("row.COLUMN",)
                )

    def _need_row_or_attribute(self) -> None:
        if self._effect == "deny":
            raise RuleTypeError(
                "a rule must speak of the row; only require and allow compare user.ATTRIBUTE with a literal",
                ("require", "allow"),
            )

    def _columns_meet(self, left: Column, right: Column) -> Family:
        ours, theirs = family_of(left), family_of(right)
        same = _COMPARABLE.get(ours, ours) is _COMPARABLE.get(theirs, theirs)
        if ours is Family.OTHER and left.type != right.type:
            same = False
        if not same or ours is Family.UNSUPPORTED:
            raise RuleTypeError(f"{name_of(left)} cannot be compared with {name_of(right)}")
        return ours if ours is theirs else _COMPARABLE.get(ours, ours)

    def _in(self, membership: In) -> In:
        operand, members = self._known(membership.operand), membership.set
        if isinstance(members, UserAttribute):
            if isinstance(operand, Literal):
                self._need_row_or_attribute()
                shared = own_family(operand)
            elif isinstance(operand, Column):
                shared = meet(operand, members)
            else:
                raise RuleTypeError(f"{name_of(operand)} in user.{members.name}: a rule must speak of the row")
            wanted = attribute_family(shared)
            return In(typed(operand, shared), UserAttribute(members.name, wanted, many=True))
        return In(*self._in_list(operand, members))

    def _in_list(self, operand: Operand, members: tuple[Literal, ...]) -> tuple[Operand, tuple[Literal, ...]]:
        if isinstance(operand, Column):
            for member in members:
                meet(operand, member)
            shared = family_of(operand)
        elif isinstance(operand, UserAttribute):
            self._need_row_or_attribute()
            families = {own_family(member) for member in members}
            if families == {Family.INTEGER, Family.NUMERIC}:
                families = {Family.NUMERIC}
            if len(families) > 1:
                raise RuleTypeError(f"the list after user.{operand.name} mixes types: {', '.join(sorted(families))}")
            shared = families.pop()
        else:
            raise RuleTypeError(f"{name_of(operand)} in a list: a rule must speak of the row")
        return typed(operand, shared), tuple(literal_as(member, shared) for member in members)

"""One way to write what an access rule says, so that two texts that mean the same are the same tree.

Every step keeps the three-valued meaning, unknown included: negation goes down to the atoms, a list becomes
equalities, comparisons have one direction, terms are flat, each once, and in one order.
"""

from dataclasses import replace
from typing import assert_never

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
    Operand,
    Operator,
    Or,
    UserAttribute,
)
from tidegate.contract.family import Family, family

OPPOSITE: dict[Operator, Operator] = {"=": "!=", "!=": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
MIRRORED: dict[Operator, Operator] = {"=": "=", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
EXACT = frozenset(
    {Family.INTEGER, Family.NUMERIC, Family.BOOLEAN, Family.UUID, Family.TIMESTAMPTZ, Family.TIMESTAMP, Family.DATE}
)
"""Families whose `=` agrees with their order; that of text follows the column's collation, its order the bytes."""


def normal_form(expression: Expression) -> Expression:
    """The normal form of a checked expression."""
    return _normal(expression, negated=False)


def operand_family(operand: Operand) -> Family | None:
    """The family of an operand of a checked expression."""
    match operand:
        case Column(_, type_):
            return family(type_) if type_ else None
        case UserAttribute(_, kind) | Literal(_, kind):
            return kind
        case Now():
            return Family.TIMESTAMPTZ
        case _:
            assert_never(operand)


def _normal(expression: Expression, *, negated: bool) -> Expression:
    match expression:
        case Or(terms) | And(terms):
            inside = [_normal(term, negated=negated) for term in terms]
            return _flat(isinstance(expression, Or) is not negated, inside)
        case Not(term):
            return _normal(term, negated=not negated)
        case Compare():
            return _compare(replace(expression, op=OPPOSITE[expression.op]) if negated else expression)
        case In(operand, tuple() as members):
            return _flat(not negated, [_compare(Compare("!=" if negated else "=", operand, one)) for one in members])
        case BoolColumn(column):
            return _compare(Compare("!=" if negated else "=", column, Literal(True, Family.BOOLEAN)))
        case IsNull(column, is_not):
            return IsNull(column, is_not is not negated)
        case In() | Member():
            return Not(expression) if negated else expression
        case _:
            assert_never(expression)


def _flat(is_or: bool, terms: list[Expression]) -> Expression:
    kind = Or if is_or else And
    flat: dict[Expression, None] = {}
    for term in terms:
        flat |= dict.fromkeys(term.terms if isinstance(term, kind) else (term,))
    ordered = tuple(sorted(flat, key=repr))
    return ordered[0] if len(ordered) == 1 else kind(ordered)


def _compare(comparison: Compare) -> Compare:
    op, left, right = comparison.op, comparison.left, comparison.right
    if (_rank(left), repr(left)) > (_rank(right), repr(right)):
        op, left, right = MIRRORED[op], right, left
    if isinstance(right, Literal) and isinstance(right.value, bool) and op == "!=":
        op, right = "=", Literal(not right.value, right.family)
    return Compare(op, left, right)


def _rank(operand: Operand) -> int:
    """Columns before attributes before what has a value of its own."""
    match operand:
        case Column():
            return 0
        case UserAttribute():
            return 1
        case Now():
            return 2
        case Literal():
            return 3
        case _:
            assert_never(operand)

"""Whether one access rule provably holds wherever another does: for every row, caller and moment.

Sound, not complete: True is a proof, False means only that no proof was found.
"""

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from tidegate.contract.expression import (
    And,
    Column,
    Compare,
    Expression,
    In,
    IsNull,
    Literal,
    Member,
    Now,
    Offset,
    Operand,
    Or,
)
from tidegate.contract.family import Family, is_approximate
from tidegate.contract.instant import instant
from tidegate.contract.normal_form import EXACT, normal_form, operand_family

MAX_STEPS = 200_000
"""After so many comparisons of two terms the answer is no; rules that people write need some hundreds."""

Condition = Expression | None
"""None is a rule without `when`: always."""


def implies(premise: Condition, conclusion: Condition) -> bool:
    """Whether `conclusion` is provably true wherever `premise` is true. Both are checked expressions."""
    if conclusion is None or premise is None:
        return conclusion is None
    return _Proof().holds(normal_form(premise), normal_form(conclusion))


class _Proof:
    def __init__(self) -> None:
        self._known: dict[tuple[int, int], bool] = {}
        self._sets: dict[int, frozenset[Expression]] = {}
        self._steps = 0

    def holds(self, premise: Expression, conclusion: Expression) -> bool:
        # The trees live as long as the proof, so their identity is a key.
        pair = (id(premise), id(conclusion))
        if pair not in self._known:
            self._steps += 1
            self._known[pair] = self._steps <= MAX_STEPS and self._prove(premise, conclusion)
        return self._known[pair]

    def _prove(self, premise: Expression, conclusion: Expression) -> bool:
        if premise == conclusion:
            return True
        if isinstance(premise, Or):
            return all(self.holds(term, conclusion) for term in premise.terms)
        if isinstance(conclusion, And):
            return all(self.holds(premise, term) for term in conclusion.terms)
        if isinstance(conclusion, Or):
            if premise in self._terms(conclusion):
                return True
            if any(self.holds(premise, term) for term in conclusion.terms):
                return True
        if isinstance(premise, And):
            return any(self.holds(term, conclusion) for term in premise.terms)
        return not isinstance(conclusion, Or) and _atom(premise, conclusion)

    def _terms(self, choice: Or) -> frozenset[Expression]:
        """Long lists are mostly the same: those are found without a comparison each."""
        if id(choice) not in self._sets:
            self._sets[id(choice)] = frozenset(choice.terms)
        return self._sets[id(choice)]


def _atom(premise: Expression, conclusion: Expression) -> bool:
    if isinstance(conclusion, IsNull):
        return conclusion.negated and conclusion.column in _known_columns(premise)
    if not (isinstance(premise, Compare) and isinstance(conclusion, Compare)):
        return False
    if premise.left != conclusion.left:
        return False
    exact = operand_family(premise.left) in EXACT and operand_family(premise.right) in EXACT
    if premise.right == conclusion.right:
        return _narrower(premise.op, conclusion.op, "=", exact)
    relation = _relation(premise.left, premise.right, conclusion.right)
    return relation is not None and _narrower(premise.op, conclusion.op, relation, exact)


def _known_columns(premise: Expression) -> tuple[Operand | None, ...]:
    """Columns that cannot be NULL where `premise` is true."""
    match premise:
        case Compare(_, left, right):
            return left, right
        case In(operand, _):
            return (operand,)
        case Member(_, column):
            return (column,)
        case _:
            return ()


def _narrower(op: str, wanted: str, relation: str, exact: bool) -> bool:
    """Whether `x op a` gives `x wanted b`, where `a relation b` (=, <, <=, > or >=)."""
    if relation == "=":
        if op == wanted:
            return True
        if (op, wanted) in {("<", "<="), (">", ">=")}:
            return True
        return exact and (op, wanted) in {("=", "<="), ("=", ">="), ("<", "!="), (">", "!=")}
    below = relation in ("<", "<=")
    strict = relation in ("<", ">")
    upper, lower = ("<", "<="), (">", ">=")
    same = upper if below else lower
    if op in same and wanted in same:
        # Only `x <= a`, `a <= b` does not give `x < b`.
        return wanted == same[1] or op == same[0] or strict
    if not exact:
        return False
    if op == "=":
        return wanted == same[1] or (strict and wanted in (same[0], "!="))
    return wanted == "!=" and op in same and (strict or op == same[0])


def _relation(left: Operand, first: Operand, second: Operand) -> str | None:
    """How two right-hand sides are to each other, where that is certain."""
    if isinstance(first, Literal) and isinstance(second, Literal):
        ours, theirs = _value(left, first), _value(left, second)
        if ours is None or type(ours) is not type(theirs):
            return None
        return "=" if ours == theirs else "<" if ours < theirs else ">"
    if isinstance(first, Now) and isinstance(second, Now):
        return _moments(first.offset, second.offset)
    return None


def _value(left: Operand, literal: Literal) -> Any:
    """What the literal is when it is compared with `left`, a value that Python orders as Postgres does; None where
    order or equality are not certain."""
    value: Any = literal.value
    match literal.family:
        case Family.INTEGER | Family.NUMERIC:
            number = Decimal(value)
            return float(number) if isinstance(left, Column) and is_approximate(left.type or "") else number
        case Family.TIMESTAMPTZ:
            return instant(value)
        case Family.DATE:
            return date.fromisoformat(value)
        case Family.UUID:
            return UUID(value)
        case Family.TEXT:
            return str(value).encode()
        case _:
            return None


_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_MONTHS = {"month": 1, "year": 12}
_SHORTEST_MONTH, _LONGEST_MONTH = 28 * 86400, 31 * 86400


def _moments(first: Offset | None, second: Offset | None) -> str | None:
    """How now() moved by the one is to now() moved by the other, whatever the day."""
    ours, theirs = _months(first), _months(second)
    if ours is None or theirs is None:
        (low, high), (other_low, other_high) = _seconds(first), _seconds(second)
        if low == high == other_low == other_high:
            return "="
        if high <= other_low:
            return "<" if high < other_low else "<="
        if low >= other_high:
            return ">" if low > other_high else ">="
        return None
    return "=" if ours == theirs else "<" if ours < theirs else ">"


def _months(offset: Offset | None) -> int | None:
    """The offset in months, where it is in months or years; 0 for none."""
    if offset is None:
        return 0
    return offset.sign * offset.amount * _MONTHS[offset.unit] if offset.unit in _MONTHS else None


def _seconds(offset: Offset | None) -> tuple[int, int]:
    """The least and the most seconds that the offset can be."""
    if offset is None:
        return 0, 0
    if offset.unit in _SECONDS:
        exact = offset.sign * offset.amount * _SECONDS[offset.unit]
        return exact, exact
    months = offset.sign * offset.amount * _MONTHS[offset.unit]
    ends = (months * _SHORTEST_MONTH, months * _LONGEST_MONTH)
    return min(ends), max(ends)

"""Access rules as SQL conditions, composed only of `psycopg.sql` parts: names are identifiers, values are literals.

**Nothing a caller can SET moves a rule.** Times are compared in UTC whatever `TimeZone` says, dates are written in
ISO with their offset, text is ordered by bytes (`COLLATE "C"`), enums are compared as text.
"""

from typing import assert_never

from psycopg import sql

from tidegate.contract.contract import Contract
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
from tidegate.contract.family import Family, base, family, is_approximate, physical_type
from tidegate.contract.instant import instant
from tidegate.govern.asker import Asker, Caller

_OPERATORS = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
PLAIN_TEXT = frozenset({"text", "varchar", "character varying"})


def compile_expression(
    expression: Expression,
    row: sql.Composable | None = None,
    *,
    contract: Contract | None = None,
    asker: Asker | None = None,
) -> sql.Composed:
    """A checked expression as SQL over `row`, a table's alias, or over bare column names.

    `contract` is needed where the expression has a `member(…)`. `asker`: who asks; by default the caller.
    """
    return sql.Composed([_Compiler(row, contract, asker or Caller()).expression(expression)])


def group(inside: sql.Composable) -> sql.Composed:
    return sql.SQL("({})").format(inside)


def _type(name: str) -> sql.SQL:
    """A type's name as SQL. It passed the whitelist once; it passes again here, before it becomes text."""
    return sql.SQL(physical_type(name))


class _Compiler:
    def __init__(self, row: sql.Composable | None, contract: Contract | None, asker: Asker):
        self._row = row
        self._contract = contract
        self._asker = asker

    def expression(self, expression: Expression) -> sql.Composable:
        match expression:
            case Or(terms):
                return sql.SQL(" OR ").join([self._grouped(term) for term in terms])
            case And(terms):
                return sql.SQL(" AND ").join([self._grouped(term) for term in terms])
            case Not(term):
                return sql.SQL("NOT ({})").format(self.expression(term))
            case Compare():
                return self._compare(expression)
            case In():
                return self._in(expression)
            case IsNull(column, negated):
                test = sql.SQL("IS NOT NULL") if negated else sql.SQL("IS NULL")
                return sql.SQL("{} {}").format(self._name(column), test)
            case BoolColumn(column):
                return self._name(column)
            case Member():
                return self._member(expression)
            case _:
                assert_never(expression)

    def _grouped(self, term: Expression) -> sql.Composable:
        compiled = self.expression(term)
        return group(compiled) if isinstance(term, And | Or | Not) else compiled

    def _compare(self, comparison: Compare) -> sql.Composable:
        sides = (comparison.left, comparison.right)
        instants = any(isinstance(side, Now) for side in sides)
        cast = _citext(sides)
        left, right = (self._operand(side, instants, cast) for side in sides)
        if comparison.op in ORDERING and any(_is_text(side) for side in sides):
            left = sql.SQL('{} COLLATE "C"').format(left)
        return sql.SQL("{} {} {}").format(left, sql.SQL(_OPERATORS[comparison.op]), right)

    def _in(self, membership: In) -> sql.Composable:
        cast = _citext((membership.operand,))
        operand = self._operand(membership.operand, False, cast)
        members = membership.set
        if isinstance(members, UserAttribute):
            kind = members.family
            if kind is None:
                raise ValueError(f"user.{members.name} has not passed the type check")
            array = _type(cast or kind.value)
            return sql.SQL("{} = ANY ({}::{}[])").format(operand, group(self._asker.attribute(members)), array)
        listed = sql.SQL(", ").join([self._operand(member, False, cast) for member in members])
        return sql.SQL("{} IN ({})").format(operand, listed)

    def _member(self, member: Member) -> sql.Composable:
        if self._contract is None or member.column is None:
            raise ValueError(f"member({member.name}) needs its contract and the type check")
        return self._asker.member(self._contract, member, self._name(member.column))

    def _name(self, column: Column) -> sql.Composable:
        name = sql.Identifier(column.name)
        return name if self._row is None else sql.SQL("{}.{}").format(self._row, name)

    def _operand(self, operand: Operand, instants: bool, citext: str | None) -> sql.Composable:
        match operand:
            case Column():
                return self._column(operand, instants)
            case UserAttribute():
                value = self._asker.attribute(operand)
                return sql.SQL("{}::{}").format(value, _type(citext)) if citext else value
            case Literal():
                return _literal(operand, citext)
            case Now():
                return _now(operand)
            case _:
                assert_never(operand)

    def _column(self, column: Column, instants: bool) -> sql.Composable:
        name, type_ = self._name(column), _column_type(column)
        kind = family(type_)
        if kind is Family.TIMESTAMP:
            return sql.SQL("({} AT TIME ZONE 'UTC')").format(name)
        if kind is Family.DATE and instants:
            return sql.SQL("({}::timestamp AT TIME ZONE 'UTC')").format(name)
        if is_approximate(type_):
            # Else an IN list would compare as real what `=` compares as double precision.
            return sql.SQL("{}::double precision").format(name)
        if kind is Family.OTHER or (kind is Family.TEXT and base(type_) not in PLAIN_TEXT):
            return sql.SQL("{}::text").format(name)
        return name


def _column_type(column: Column) -> str:
    if column.type is None:
        raise ValueError(f"row.{column.name} has not passed the type check")
    return column.type


def _citext(sides: tuple[Operand, ...]) -> str | None:
    """The name of citext, where a side is such a column: the other side must become one to compare alike."""
    for side in sides:
        if isinstance(side, Column) and family(_column_type(side)) is Family.CITEXT:
            return _column_type(side)
    return None


def _is_text(side: Operand) -> bool:
    match side:
        case Column():
            return family(_column_type(side)) is Family.TEXT
        case UserAttribute(_, kind) | Literal(_, kind):
            return kind is Family.TEXT
        case Now():
            return False
        case _:
            assert_never(side)


def _literal(literal: Literal, citext: str | None) -> sql.Composable:
    value = literal.value
    match literal.family:
        case None:
            raise ValueError(f"literal {value!r} has not passed the type check")
        case Family.CITEXT:
            return sql.SQL("{}::{}").format(sql.Literal(value), _type(citext or "citext"))
        case Family.UUID:
            return sql.SQL("{}::uuid").format(sql.Literal(value))
        case Family.TIMESTAMPTZ:
            return sql.SQL("{}::timestamptz").format(sql.Literal(instant(str(value)).isoformat(sep=" ")))
        case Family.DATE:
            return sql.SQL("{}::date").format(sql.Literal(value))
        case _:
            return sql.Literal(value)


def _now(now: Now) -> sql.Composable:
    """Now, moved by the calendar of UTC: `now() - '1 day'` would follow the caller's TimeZone."""
    if now.offset is None:
        return sql.SQL("now()")
    offset = now.offset
    return sql.SQL("(((now() AT TIME ZONE 'UTC') {} {}::interval) AT TIME ZONE 'UTC')").format(
        sql.SQL("+" if offset.sign > 0 else "-"), sql.Literal(f"{offset.amount} {offset.unit}")
    )

"""Access rules as SQL: row-level-security policies, and the same rules as one condition.

Composed only of `psycopg.sql` parts: names are identifiers, values are literals, nothing is formatted.

Three decisions that every policy here depends on:

- **A restrictive policy for everyone would bind the worker too.** Its UPDATE and DELETE … WHERE read rows,
  and a row that its own permissive policy shows but a restrictive one hides is silently left alone: a ghost.
  The worker has no attributes, so every `require` would hide everything from it. Hence each restrictive
  policy begins with `(SELECT current_user = 'tidegate_worker')`. In a policy `current_user` is the role that
  runs the statement, or the owner of the SECURITY DEFINER function that it runs in; nobody gets that name
  without SET ROLE to it, which needs membership. `session_user` would follow the login, and custom settings
  prove nothing. It follows that the worker must *be* that role (SET ROLE), not only be a member of it.
- **`TO role` alone is not enough.** Postgres applies it to the owner of a view or SECURITY DEFINER function
  through which the rows are read, and keeps it in cached plans after a role was granted or revoked; the
  attributes are those of who asks. Two people could so join the one's role with the other's region. Hence
  the condition of an allow rule asks for the role itself, and a deny rule for some roles is TO PUBLIC.
- **Nothing a caller can SET moves a rule.** Times are compared in UTC whatever `TimeZone` says, dates are
  written in ISO with their offset, text is ordered by bytes (`COLLATE "C"`), enums are compared as text.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal as OneOf
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
from tidegate.contract.identifier import fit
from tidegate.contract.membership import Membership
from tidegate.contract.rule import Rule
from tidegate.contract.typecheck import instant

WORKER = "tidegate_worker"
READER = "tidegate_reader"

AttributeSql = Callable[[UserAttribute], sql.Composable]
"""How an attribute is written: as a call (policies) or as the caller's own values (search statements).

A set must come out as an array of its family's type, and NULL for what is missing or malformed."""

_OPERATORS = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_PLAIN_TEXT = frozenset({"text", "varchar", "character varying"})


@dataclass(frozen=True, slots=True)
class Policy:
    """A SELECT policy, ready to be created. `to` is empty for PUBLIC.

    `comment` marks the policy as tidegate's: product, version, rule and the sha256 of the compiled text.
    """

    name: str
    rule: str
    kind: OneOf["permissive", "restrictive"]
    to: tuple[str, ...]
    using: sql.Composed
    comment: str

    def create(self, table: sql.Composable) -> sql.Composed:
        """`CREATE POLICY` on `table`."""
        roles = sql.SQL(", ").join(map(sql.Identifier, self.to)) if self.to else sql.SQL("PUBLIC")
        kind = sql.SQL("PERMISSIVE" if self.kind == "permissive" else "RESTRICTIVE")
        return sql.SQL("CREATE POLICY {} ON {} AS {} FOR SELECT TO {} USING ({})").format(
            sql.Identifier(self.name), table, kind, roles, self.using
        )

    def mark(self, table: sql.Composable) -> sql.Composed:
        """`COMMENT ON POLICY` on `table`."""
        return sql.SQL("COMMENT ON POLICY {} ON {} IS {}").format(
            sql.Identifier(self.name), table, sql.Literal(self.comment)
        )


def policies(contract: Contract) -> tuple[Policy, ...]:
    """The policies of a contract's rules on its chunk table, in the contract's order."""
    return tuple(_policy(contract, rule) for rule in contract.rules)


def row_visible(
    contract: Contract, alias: sql.Composable | None = None, attribute: AttributeSql | None = None
) -> sql.Composed:
    """All rules as one condition over the *source* row `alias`; never NULL.

    Says of a row what the policies together say of its chunks. Roles are asked by `tidegate.has_role`, which
    must follow privilege inheritance as `TO role` does (`pg_has_role(…, 'USAGE')`).
    """
    allowed: list[sql.Composable] = []
    needed: list[sql.Composable] = []
    for rule in contract.rules:
        when = _condition(contract, rule, alias, attribute)
        match rule.effect:
            case "allow":
                allowed.append(_all([_has_role(rule.to), when] if rule.when else [_has_role(rule.to)]))
            case "require":
                needed.append(_group(when))
            case "deny":
                held = sql.SQL("({}) IS FALSE").format(when)
                if rule.to:
                    held = sql.SQL("(NOT ({}) OR {})").format(_has_role(rule.to), held)
                needed.append(held)
            case _:
                assert_never(rule.effect)
    if not allowed:
        return sql.Composed([sql.SQL("false")])
    anyone = sql.SQL("({})").format(sql.SQL(" OR ").join(allowed))
    return sql.SQL("coalesce({}, false)").format(sql.SQL(" AND ").join([anyone, *needed]))


def compile_expression(
    expression: Expression,
    row: sql.Composable | None = None,
    *,
    contract: Contract | None = None,
    attribute: AttributeSql | None = None,
) -> sql.Composed:
    """A checked expression as SQL over `row`, a table's alias, or over bare column names.

    `contract` is needed where the expression has a `member(…)`. `attribute` is how the caller's attributes
    are written; by default as sub-selects of the accessor functions, which run once a statement.
    """
    return sql.Composed([_Compiler(row, contract, attribute or attribute_call).expression(expression)])


def attribute_call(attribute: UserAttribute) -> sql.Composable:
    """`(SELECT tidegate.attribute_uuid('tenant'))`, or the array of all values for a set."""
    kind = attribute.family
    if kind is None or kind in (Family.OTHER, Family.UNSUPPORTED, Family.TIMESTAMP):
        raise ValueError(f"user.{attribute.name} has not passed the type check")
    kind = Family.TEXT if kind is Family.CITEXT else kind
    function = f"attribute_{kind.value}{'s' if attribute.many else ''}"
    return sql.SQL("(SELECT {}({}))").format(sql.Identifier("tidegate", function), sql.Literal(attribute.name))


def membership_name(contract: Contract, membership: Membership | str) -> sql.Identifier:
    """The function that says of which rows the caller is a member."""
    name = membership if isinstance(membership, str) else membership.name
    return sql.Identifier(contract.chunk_schema, fit(f"member_{contract.table}_{name}"))


def membership_function(contract: Contract, membership: Membership) -> sql.Composed:
    """The statements that make a membership's function: create, comment, revoke, grant.

    It returns the keys of which the caller is a member: an empty array for none, NULL for an unknown caller.
    Definer, because readers have no privilege on the table that it reads; it tells them only their own rows.
    Whoever is its owner needs SELECT on that table.
    """
    type_ = _type(contract.column_types[membership.row])
    name = membership_name(contract, membership)
    readers = dict.fromkeys((READER, WORKER, *(role for rule in contract.rules for role in rule.to)))
    return sql.SQL(
        "CREATE OR REPLACE FUNCTION {name}() RETURNS {type}[]\n"
        "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$\n"
        "SELECT CASE WHEN tidegate.principal() IS NOT NULL THEN coalesce((\n"
        "    SELECT array_agg(m.{column}::{type}) FROM {table} m\n"
        "    WHERE m.{principal}::text = tidegate.principal()::text AND m.{column} IS NOT NULL\n"
        "), '{{}}') END\n"
        "$$;\n"
        "COMMENT ON FUNCTION {name}() IS {comment};\n"
        "REVOKE ALL ON FUNCTION {name}() FROM PUBLIC;\n"
        "GRANT EXECUTE ON FUNCTION {name}() TO {readers}"
    ).format(
        name=name,
        type=type_,
        column=sql.Identifier(membership.column),
        principal=sql.Identifier(membership.principal),
        table=sql.Identifier(membership.schema, membership.table),
        comment=sql.Literal(
            f"tidegate {contract.product} {contract.version}: member({membership.name}), the rows of the "
            "caller; definer because readers cannot read the table behind it"
        ),
        readers=sql.SQL(", ").join(map(sql.Identifier, readers)),
    )


def _policy(contract: Contract, rule: Rule) -> Policy:
    condition = _condition(contract, rule, None, None)
    to: tuple[str, ...] = ()
    match rule.effect:
        case "allow":
            kind, to = "permissive", rule.to
            using = _all([_has_role(rule.to), condition] if rule.when else [_has_role(rule.to)])
        case "require":
            kind, using = "restrictive", sql.SQL("{} OR ({})").format(_is_worker(), condition)
        case "deny":
            unheld = sql.SQL("NOT {} OR ").format(_group(_has_role(rule.to))) if rule.to else sql.SQL("")
            kind, using = "restrictive", sql.SQL("{} OR {}({}) IS FALSE").format(_is_worker(), unheld, condition)
        case _:
            assert_never(rule.effect)
    digest = hashlib.sha256(f"{rule.effect} {','.join(to)} {using.as_string(None)}".encode()).hexdigest()
    return Policy(
        name=fit(f"tidegate_{rule.effect}_{rule.id}"),
        rule=rule.id,
        kind="permissive" if kind == "permissive" else "restrictive",
        to=to,
        using=using,
        comment=f"tidegate {contract.product} {contract.version} rule={rule.id} sha256={digest}",
    )


def _condition(
    contract: Contract, rule: Rule, alias: sql.Composable | None, attribute: AttributeSql | None
) -> sql.Composed:
    if rule.when is None:
        return sql.Composed([sql.SQL("true")])
    return compile_expression(rule.when, alias, contract=contract, attribute=attribute)


def _is_worker() -> sql.Composable:
    return sql.SQL("(SELECT current_user = {})").format(sql.Literal(WORKER))


def _has_role(roles: tuple[str, ...]) -> sql.Composed:
    asked = [sql.SQL("(SELECT tidegate.has_role({}))").format(sql.Literal(role)) for role in roles]
    joined = sql.SQL(" OR ").join(asked)
    return joined if len(asked) == 1 else _group(joined)


def _all(parts: list[sql.Composed]) -> sql.Composed:
    if len(parts) == 1:
        return parts[0]
    return _group(sql.SQL(" AND ").join([parts[0], *map(_group, parts[1:])]))


def _group(inside: sql.Composable) -> sql.Composed:
    return sql.SQL("({})").format(inside)


def _type(name: str) -> sql.SQL:
    """A type's name as SQL. It passed the whitelist once; it passes again here, before it becomes text."""
    return sql.SQL(physical_type(name))


class _Compiler:
    def __init__(self, row: sql.Composable | None, contract: Contract | None, attribute: AttributeSql):
        self._row = row
        self._contract = contract
        self._attribute = attribute

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
        return _group(compiled) if isinstance(term, And | Or | Not) else compiled

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
            return sql.SQL("{} = ANY ({}::{}[])").format(operand, _group(self._attribute(members)), array)
        listed = sql.SQL(", ").join([self._operand(member, False, cast) for member in members])
        return sql.SQL("{} IN ({})").format(operand, listed)

    def _member(self, member: Member) -> sql.Composable:
        if self._contract is None or member.column is None:
            raise ValueError(f"member({member.name}) needs its contract and the type check")
        function = membership_name(self._contract, member.name)
        type_ = _type(_column_type(member.column))
        return sql.SQL("{} = ANY ((SELECT {}())::{}[])").format(self._name(member.column), function, type_)

    def _name(self, column: Column) -> sql.Composable:
        name = sql.Identifier(column.name)
        return name if self._row is None else sql.SQL("{}.{}").format(self._row, name)

    def _operand(self, operand: Operand, instants: bool, citext: str | None) -> sql.Composable:
        match operand:
            case Column():
                return self._column(operand, instants)
            case UserAttribute():
                value = self._attribute(operand)
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
        if kind is Family.OTHER or (kind is Family.TEXT and base(type_) not in _PLAIN_TEXT):
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

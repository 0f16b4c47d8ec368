"""How compiled rules speak of who asks: the session's caller, a role by name, or a place left open.

One compiler, three readings of the same rule: the policy asks who the caller is, an administrator's question
asks about somebody else, and the stored condition leaves places for the caller's own values.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from psycopg import sql
from psycopg.abc import AdaptContext

from tidegate.contract.contract import Contract
from tidegate.contract.expression import Column, Member, UserAttribute
from tidegate.contract.family import Family, family
from tidegate.contract.identifier import fit

Json = dict[str, Any]


class Asker(Protocol):
    """What the compiler needs to know of who asks."""

    def attribute(self, attribute: UserAttribute) -> sql.Composable:
        """The attribute's value, NULL where it is missing or malformed; an array where it is used as a set."""
        ...

    def acts_as(self, role: str) -> sql.Composable:
        """Whether she has the role, never NULL."""
        ...

    def member(self, contract: Contract, member: Member, column: sql.Composable) -> sql.Composable:
        """Whether `column`, the row's side of the membership, is one of hers."""
        ...

    def breaks_glass(self, contract: Contract) -> sql.Composable:
        """Whether she has an emergency grant for the product, never NULL."""
        ...


class Caller:
    """Whoever runs the statement. Each call is a sub-select, so that it runs once a statement."""

    def attribute(self, attribute: UserAttribute) -> sql.Composable:
        function = sql.Identifier("tidegate", f"attribute_{attribute_type(attribute)}")
        return sql.SQL("(SELECT {}({}))").format(function, sql.Literal(attribute.name))

    def acts_as(self, role: str) -> sql.Composable:
        return sql.SQL("(SELECT tidegate.acts_as({}))").format(sql.Literal(role))

    def member(self, contract: Contract, member: Member, column: sql.Composable) -> sql.Composable:
        names = membership_names(contract, member.name)
        return sql.SQL(
            "CASE WHEN (SELECT {many}()) THEN {has}({column}) ELSE {column} = ANY ((SELECT {all}())::{type}[]) END"
        ).format(many=names.many, has=names.has, all=names.all, column=column, type=sql.SQL(member_type(member.column)))

    def breaks_glass(self, contract: Contract) -> sql.Composable:
        return sql.SQL("(SELECT tidegate.breaks_glass({}))").format(sql.Literal(contract.product))


@dataclass(frozen=True, slots=True)
class NamedRole:
    """A role by name, for questions that administrators ask about her; readers may not call these functions."""

    role: str

    def attribute(self, attribute: UserAttribute) -> sql.Composable:
        function = sql.Identifier("tidegate", f"attribute_{attribute_type(attribute)}_of")
        return sql.SQL("(SELECT {}({}, {}))").format(function, sql.Literal(self.role), sql.Literal(attribute.name))

    def acts_as(self, role: str) -> sql.Composable:
        return sql.SQL("(SELECT tidegate.acts_as_of({}, {}))").format(sql.Literal(self.role), sql.Literal(role))

    def member(self, contract: Contract, member: Member, column: sql.Composable) -> sql.Composable:
        names = membership_names(contract, member.name)
        return sql.SQL(
            "CASE WHEN (SELECT {many}({role})) THEN {has}({role}, {column}) "
            "ELSE {column} = ANY ((SELECT {all}({role}))::{type}[]) END"
        ).format(
            many=names.many_of,
            has=names.has_of,
            all=names.all_of,
            role=sql.Literal(self.role),
            column=column,
            type=sql.SQL(member_type(member.column)),
        )

    def breaks_glass(self, contract: Contract) -> sql.Composable:
        return sql.SQL("(SELECT tidegate.breaks_glass_of({}, {}))").format(
            sql.Literal(self.role), sql.Literal(contract.product)
        )


class Slot(sql.Composable):
    """A place in a compiled rule that is filled when somebody asks."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        raise ValueError(f"a slot is no SQL: {self._obj}")


class Open:
    """Nobody yet: slots in place of what depends on the caller (`pieces` gives them)."""

    def attribute(self, attribute: UserAttribute) -> sql.Composable:
        return Slot({"attribute": attribute.name, "function": f"attribute_{attribute_type(attribute)}"})

    def acts_as(self, role: str) -> sql.Composable:
        return Slot({"role": role})

    def member(self, contract: Contract, member: Member, column: sql.Composable) -> sql.Composable:
        names = membership_names(contract, member.name)
        return Slot(
            {
                "member": names.all.as_string(None),
                "of": names.all_of.as_string(None),
                "many": names.many.as_string(None),
                "many_of": names.many_of.as_string(None),
                "has": names.has.as_string(None),
                "has_of": names.has_of.as_string(None),
                "column": column.as_string(None),
                "type": member_type(member.column),
            }
        )

    def breaks_glass(self, contract: Contract) -> sql.Composable:
        return Slot({"glass": contract.product})


def pieces(condition: sql.Composable) -> list[str | Json]:
    """A condition compiled for `Open`: texts of SQL, and slots as objects, in order.

    Slots are `{"attribute": name, "function": of schema tidegate}` (a value or an array, by the function),
    `{"role": name}` (a truth), `{"glass": product}` (a truth) and the membership
    `{"member": f, "many": f, "has": f, "of": f, "many_of": f, "has_of": f, "column": SQL, "type": type}` (a truth). Its
    functions are names with their schema: `member()` gives the caller's values as an array of `type`, `many()` whether
    they are more than MANY, and `has(column)` whether the row's is one of them; `of`, `many_of` and `has_of` the same
    of a principal, their first argument. `column = ANY (array)` and `has(column)` have the same truth, NULL included;
    `many` says which is quicker where rows are filtered one by one. No text of a rule can be taken for a slot.
    """
    found: list[str | Json] = []
    for leaf in _leaves(condition):
        if isinstance(leaf, Slot):
            found.append(dict(leaf._obj))
            continue
        text = leaf.as_string(None)
        if found and isinstance(found[-1], str):
            found[-1] += text
        else:
            found.append(text)
    return found


def _leaves(part: sql.Composable) -> list[sql.Composable]:
    return [leaf for inner in part for leaf in _leaves(inner)] if isinstance(part, sql.Composed) else [part]


def attribute_type(attribute: UserAttribute) -> str:
    """The suffix of the accessor: `uuid`, or `uuids` for a set."""
    kind = attribute.family
    if kind is None or kind in (Family.OTHER, Family.UNSUPPORTED, Family.TIMESTAMP):
        raise ValueError(f"user.{attribute.name} has not passed the type check")
    kind = Family.TEXT if kind is Family.CITEXT else kind
    return f"{kind.value}{'s' if attribute.many else ''}"


@dataclass(frozen=True, slots=True)
class MembershipNames:
    """The functions behind a membership: all values of the caller, whether they are many, whether one is hers; and
    the same of a principal."""

    all: sql.Identifier
    many: sql.Identifier
    has: sql.Identifier
    all_of: sql.Identifier
    many_of: sql.Identifier
    has_of: sql.Identifier


def membership_names(contract: Contract, membership: str) -> MembershipNames:
    """Their names, in the domain's schema: `member_TABLE_NAME`, with `_many`, `_has` and `_of`."""
    ends = ("", "_many", "_has", "_of", "_many_of", "_has_of")
    stem = f"member_{contract.table}_{membership}"
    return MembershipNames(*(sql.Identifier(contract.function_schema, fit(stem + end)) for end in ends))


def member_type(column: Column | None) -> str:
    """The widest type of the family of the row's column: casting a value to it cannot fail."""
    if column is None or column.type is None:
        raise ValueError("the membership has not passed the type check")
    return family(column.type).value

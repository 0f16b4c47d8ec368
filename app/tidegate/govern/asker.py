"""How compiled rules speak of who asks: the session's caller, a role by name, or a place left open.

One compiler, three readings of the same rule: the policy asks who the caller is, an administrator's question
asks about somebody else, and the stored condition leaves places for the caller's own values.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from psycopg import sql
from psycopg.abc import AdaptContext

from tidegate.contract.contract import Contract
from tidegate.contract.expression import Member, UserAttribute
from tidegate.contract.family import Family, physical_type
from tidegate.contract.identifier import fit
from tidegate.contract.membership import Membership

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
        return sql.SQL("{} = ANY ((SELECT {}())::{}[])").format(
            column, membership_name(contract, member.name), sql.SQL(_member_type(member))
        )

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
        return sql.SQL("{} = ANY ((SELECT {}({}))::{}[])").format(
            column,
            membership_name(contract, member.name, of=True),
            sql.Literal(self.role),
            sql.SQL(_member_type(member)),
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
        name = membership_name(contract, member.name).as_string(None)
        of = membership_name(contract, member.name, of=True).as_string(None)
        return Slot(
            {"member": name, "of": of, "column": column.as_string(None), "type": physical_type(_member_type(member))}
        )

    def breaks_glass(self, contract: Contract) -> sql.Composable:
        return Slot({"glass": contract.product})


def pieces(condition: sql.Composable) -> list[str | Json]:
    """A condition compiled for `Open`: texts of SQL, and slots as objects, in order.

    Slots are `{"attribute": name, "function": of schema tidegate}` (a value or an array, by the function),
    `{"role": name}` (a truth) and `{"member": function, "of": function of the principal, "column": SQL, "type": type}`
    (a truth). No text of a rule can be taken for a slot.
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


def membership_name(contract: Contract, membership: Membership | str, *, of: bool = False) -> sql.Identifier:
    """The function that says of which rows the caller is a member; `of`: the one that takes the principal."""
    name = membership if isinstance(membership, str) else membership.name
    return sql.Identifier(contract.chunk_schema, fit(f"member_{contract.table}_{name}{'_of' if of else ''}"))


def _member_type(member: Member) -> str:
    if member.column is None or member.column.type is None:
        raise ValueError(f"member({member.name}) has not passed the type check")
    return physical_type(member.column.type)

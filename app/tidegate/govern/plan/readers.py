"""The roles that read a product: made, let in, and taken out again."""

from dataclasses import dataclass

from tidegate.contract.contract import Contract
from tidegate.govern import chunk_table as table_of
from tidegate.govern import withdrawal
from tidegate.govern.plan.ground import Ground
from tidegate.govern.plan.step import Steps


@dataclass(frozen=True, slots=True)
class Admitted:
    """The roles that a plan creates, and those that it lets use tidegate's functions and views."""

    roles: frozenset[str]
    readers: frozenset[str]


def admit(ground: Ground, contract: Contract, steps: Steps) -> Admitted:
    """Creates the roles that the contract names and the server does not have, without members; lets those in that
    its rules allow something."""
    named = list(contract.roles)
    for rule in contract.rules:
        named += [role for role in rule.to if role not in named]
    there = {row[0] for row in ground.rows("role_exists", roles=named)} | ground.setting.roles
    readers = {row[0] for row in ground.rows("reader_members", roles=named)} | ground.setting.readers
    created = [role for role in named if role not in there]
    for role in created:
        steps.as_login(*table_of.create_role(role))
        steps.say(f"creates the group role {role}, without members")
    let_in = [role for role in table_of.reading_roles(contract) if role not in readers]
    for role in let_in:
        steps.as_login(*table_of.admit_reader(role))
        steps.say(f"lets {role} use tidegate's functions and views")
    return Admitted(frozenset(created), frozenset(let_in))


def withdraw(ground: Ground, old: Contract, contract: Contract, second: Contract | None, steps: Steps) -> None:
    """Takes back what the published contract gave and the new one does not.

    Args:
        second: another index of the product, whose columns stay readable.
    """
    there = {row[0] for row in ground.rows("role_exists", roles=list(table_of.reading_roles(old)))}
    roles = withdrawal.withdrawn_roles(old, contract, there)
    if contract.beside:
        steps.own(*withdrawal.withdraw_readers(contract, roles))
        return
    steps.say(*(f"takes the chunk table from {role}, which no rule allows any more" for role in roles))
    steps.own(*withdrawal.withdraw_readers(contract, roles, live=ground.local))
    if not ground.local:
        return
    source = ground.required("source_table", schema=contract.source.schema, table=contract.source.table)
    columns = [row[0] for row in ground.rows("source_columns", oid=source[0])]
    steps.own(*withdrawal.drop_old_live_function(old, contract))
    steps.as_login(*withdrawal.withdraw_columns(old, contract, columns, also=second))

"""The columns of a chunk table that come from the rows, brought to the contract's."""

from collections.abc import Sequence
from typing import Any

from tidegate.contract.contract import Column, Contract
from tidegate.govern import chunk_table as table_of
from tidegate.govern import withdrawal
from tidegate.govern.clear_table import remasked
from tidegate.govern.plan.ground import Ground, without_size
from tidegate.govern.plan.step import Steps
from tidegate.govern.plan.unfit import refuse
from tidegate.govern.search_parts import SearchParts


def change_columns(
    ground: Ground, contract: Contract, oid: int, published: Sequence[Any] | None, steps: Steps
) -> Sequence[Column]:
    """Empties what is masked otherwise, adds what is not there; returns the columns that were added.

    Raises:
        ContractUnfit: a column has another type, or would open rows while it is not filled.
    """
    actual = ground.carried_columns(oid)
    for name in remasked(Contract.from_spec(published[1]), contract) if published else ():
        if actual.pop(name, None) is not None:
            steps.own(*table_of.drop_column(contract, name))
            steps.say(f"empties the column {name}, whose mask changed")
    added, _, kept = table_of.column_changes(contract, actual)
    types = {column.name: column.carried_type for column in contract.carried_columns}
    changed = [
        f"column {name} is {actual[name]} in the chunk table, the contract says {types[name]}; apply with --rebuild"
        for name in kept
        if without_size(ground.required("type_name", type=types[name])[0]) != without_size(actual[name])
    ]
    tested = {
        column.name: rule.id
        for rule in contract.rules
        if rule.when is not None
        for column in withdrawal.null_tested(rule.when)
    }
    # Not filled yet, it would be NULL for every row, and such a rule would let all of them through.
    changed += [
        f"rule {tested[column.name]} tests column {column.name} for null, which the chunk table does not have yet; "
        "apply with --rebuild"
        for column in added
        if column.name in tested
    ]
    refuse(contract, changed)
    for column in added:
        steps.own(*table_of.add_column(contract, column))
        steps.say(f"adds the column {column.name}, hidden until the backfill has filled it")
    parts = SearchParts(ground.connection, contract, oid)
    steps.own(*parts.steps())
    steps.say(*parts.summary())
    return added


def drop_columns(ground: Ground, contract: Contract, oid: int, steps: Steps) -> None:
    """Drops the columns that the contract does not carry any more."""
    _, dropped, _ = table_of.column_changes(contract, ground.carried_columns(oid))
    for name in dropped:
        steps.own(*table_of.drop_column(contract, name))
        steps.say(f"drops the column {name}, which nothing needs any more")
        steps.drops.append(f"column {name} of {contract.chunk_schema}.{contract.table}")

"""A second index of a product, beside the one that is searched: built, kept up, dropped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.contract.contract import Contract
from tidegate.govern.beside import Index, drop_statements
from tidegate.govern.plan.ground import Ground
from tidegate.govern.plan.index_plan import IndexPlan
from tidegate.govern.plan.step import Step, Steps
from tidegate.govern.plan.table_policies import check_foreign
from tidegate.govern.plan.unfit import refuse
from tidegate.sql import bound, queries


@dataclass(frozen=True, slots=True)
class Beside:
    """What is done of a second index. `contract`: None where there is none. `forget`: it begins anew. `copied`: it is
    filled from the chunks of the first, not from the source."""

    contract: Contract | None = None
    dimension: int = 0
    late: tuple[Step, ...] = ()
    backfill: bool = False
    forget: bool = False
    copied: bool = False


def reads_again(index: Index | None, contract: Contract) -> bool:
    """Whether the index is new or suspended, or rows in it would be indexed otherwise: from where, what of it."""
    if index is None or index.state == "suspended":
        return True
    return (index.contract.embedding, index.contract.source) != (contract.embedding, contract.source)


def drop_index(ground: Ground, held: Index, steps: Steps) -> None:
    """Drops a second index, with what the catalog has of it."""
    steps.own(*drop_statements(ground.connection, held.contract))
    steps.own(bound(queries("beside")["forget_beside"], {"product": held.contract.product}))
    name = f"{held.contract.chunk_schema}.{held.contract.table}"
    steps.say(f"drops the second index {name}, with {held.embedding.model}")
    steps.drops.append(f"table {name}")


def plan_index(
    ground: Ground,
    contract: Contract,
    held: Index | None,
    dimension: int,
    published: Sequence[Any] | None,
    spec: Mapping[str, Any],
    steps: Steps,
) -> Beside:
    """The steps of a second index alone; who publishes it and what belongs to the product is the first one's.

    Args:
        held: what there is of it.
        spec: the new contract, as the catalog keeps it.

    Raises:
        ContractUnfit: something else is in its place.
    """
    owner = ground.one("chunk_schema_owner", schema=contract.chunk_schema)
    existing = ground.one("chunk_table", schema=contract.chunk_schema, table=contract.table)
    if owner is not None and owner[0] != "tidegate_owner":
        refuse(contract, [f"schema {contract.chunk_schema} exists and belongs to {owner[0]}; rename it"])
    if existing is not None and (held is None or existing[1] != "tidegate_owner"):
        refuse(contract, [f"table {contract.chunk_schema}.{contract.table} exists and is no second index; drop it"])
    new = existing is None
    own = Steps()
    oid, known = (None, None) if existing is None else (existing[0], published)
    if existing is not None:
        check_foreign(ground, contract, existing[0], own, dropped=False)
    index = IndexPlan(ground, contract, None, oid, known, own)
    index.drop_clear_tables(all_=new)
    index.table(dimension)
    late = index.govern(spec)
    steps.steps += own.steps
    if not new:
        steps.say(*(f"second index: {line}" for line in own.summary))
    steps.drops += own.drops
    return Beside(contract, dimension, tuple(late), index.reads_again or reads_again(held, contract), forget=new)

"""What makes one index of a product, or brings the one that is there to the contract."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tidegate.contract.contract import Column, Contract
from tidegate.database import vector_schema
from tidegate.govern import chunk_table as table_of
from tidegate.govern.chunk_words import word_triggers
from tidegate.govern.clear_table import ClearTables
from tidegate.govern.plan.columns import change_columns, drop_columns
from tidegate.govern.plan.ground import Ground
from tidegate.govern.plan.readers import withdraw
from tidegate.govern.plan.step import Step, Steps
from tidegate.govern.plan.table_policies import change_policies
from tidegate.govern.source_guard import guards


class IndexPlan:
    """The chunk table with its side tables, policies and privileges.

    Args:
        contract: as this index has it.
        second: the other index of the product.
        existing: the oid of the chunk table that is there and stays; None: it is made.
        published: the product's row in the catalog.
        steps: where it puts what is to be done.
    """

    def __init__(
        self,
        ground: Ground,
        contract: Contract,
        second: Contract | None,
        existing: int | None,
        published: Sequence[Any] | None,
        steps: Steps,
    ):
        self._ground = ground
        self._contract = contract
        self._second = second
        self._existing = existing
        self._published = published
        self._steps = steps
        self._clear = ClearTables(ground.connection, contract)
        self._held: dict[str, str | None] = {}
        self._begun = 0
        self._added: Sequence[Column] = ()

    @property
    def reads_again(self) -> bool:
        """Whether what it makes must be filled from the rows."""
        return self._existing is None or bool(self._added) or self._clear.changes

    def drop_clear_tables(self, *, all_: bool) -> None:
        """Drops the side tables that go."""
        self._steps.own(*self._clear.drops(all_=all_))

    def table(self, dimension: int) -> None:
        """Makes the chunk table, or changes its columns."""
        contract, steps = self._contract, self._steps
        self._begun = len(steps)
        if self._existing is None:
            steps.own(*table_of.create_schema(contract))
            steps.own(
                *table_of.create_table(contract, dimension, vector_schema(self._ground.connection)),
                *word_triggers(contract, empty=True),
            )
            self._added = contract.carried_columns
        else:
            self._added = change_columns(self._ground, contract, self._existing, self._published, steps)
            self._held = self._ground.policies(self._existing)
        for column in self._added:
            steps.own(*table_of.create_column_index(contract, column))

    def govern(self, spec: Mapping[str, Any]) -> list[Step]:
        """Policies, functions, side tables and privileges; returns the steps that come last.

        On a table that people read, what locks them out (all steps since `table`, policies, dropped columns) comes
        after everything that does not.
        """
        contract, steps, local = self._contract, self._steps, self._ground.local
        new = self._existing is None
        before = len(steps)
        policy_change = change_policies(self._ground, contract, self._held, steps)
        policy_steps = steps.cut(before)
        late: list[Step] = []
        if not new:
            late = [replace(step, locks=True) for step in (*steps.cut(self._begun), *policy_steps)]
            policy_steps = []
        changes = self._published is None or new or spec != self._published[1] or policy_change
        if changes and local:
            # Policies call the membership functions, and these read what the owner of the source grants.
            steps.as_login(*table_of.source_grants(contract))
            if not contract.beside:
                steps.own(*table_of.functions(contract), *guards(self._ground.connection, contract))
        steps.steps += policy_steps
        steps.own(*self._clear.creates(all_=new))
        steps.say(*self._clear.summary(all_=new))
        if changes:
            steps.own(*table_of.grants(contract, live=local), *self._clear.grants())
            if self._published is not None:
                withdraw(self._ground, Contract.from_spec(self._published[1]), contract, self._second, steps)
            if self._existing is not None:
                dropping = len(steps)
                drop_columns(self._ground, contract, self._existing, steps)
                late += [replace(step, locks=True) for step in steps.cut(dropping)]
        return late

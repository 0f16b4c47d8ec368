"""What publishes a contract."""

import itertools
from dataclasses import dataclass, field, replace

from tidegate.capture.stream import HOME
from tidegate.contract.change import Change, ChangeClass, gravest
from tidegate.contract.contract import Contract
from tidegate.database import Connection
from tidegate.govern.plan.step import Step


@dataclass(frozen=True, slots=True)
class Plan:
    """What publishes a contract. No steps: the database already is as the contract says.

    Attributes:
        summary: what it does, a line each.
        backfill: whether the source's rows are read again.
        published: the contract in force; None where the product is new.
        changes: what the new contract changes of it.
        drops: the tables and columns of the index that are gone afterwards.
        source: the database that the rows come from; `source_dsn` where that is another than the index's.
        rejoins: a published product's table joins the publication of another database again.
        copies: whether a second index is filled from the chunks of the first.
    """

    contract: Contract
    dimension: int
    steps: tuple[Step, ...]
    summary: tuple[str, ...]
    backfill: bool
    published: Contract | None = None
    changes: tuple[Change, ...] = ()
    drops: tuple[str, ...] = ()
    new_roles: frozenset[str] = frozenset()
    new_readers: frozenset[str] = frozenset()
    source: str = HOME
    source_dsn: str | None = field(default=None, repr=False)
    rejoins: bool = False
    copies: bool = False

    @property
    def index_steps(self) -> tuple[Step, ...]:
        """Those on the index's own database."""
        return tuple(step for step in self.steps if not step.source)

    @property
    def source_steps(self) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
        """Those on another database: before the index's, and after them."""
        before = tuple(itertools.takewhile(lambda step: step.source, self.steps))
        return before, tuple(step for step in self.steps[len(before) :] if step.source)

    def at_index(self) -> "Plan":
        """What it does on the index's own database."""
        return replace(self, steps=self.index_steps)

    @property
    def change_class(self) -> ChangeClass | None:
        """The gravest of the changes; None for a new product, or an unchanged contract."""
        return gravest(self.changes)

    @property
    def widens(self) -> bool:
        """Whether somebody may see more of a product that is published already."""
        return any(change.kind is ChangeClass.WIDENS for change in self.changes)

    def sql(self, connection: Connection | None = None) -> str:
        """The statements as text, in order."""
        return ";\n".join(step.text(connection) for step in self.steps)

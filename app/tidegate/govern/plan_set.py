"""Several contracts against the database: a plan each, made and applied in one order, under one set of standards."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

from psycopg import sql

from tidegate.capture.stream import HOME
from tidegate.contract.contract import Contract
from tidegate.contract.finding import ContractErrors
from tidegate.contract.standards import Standards
from tidegate.database import Connection
from tidegate.govern.apply import Applied, PlanOutdated, apply_plan, difference
from tidegate.govern.plan import ContractUnfit, Plan, Setting, make_plan
from tidegate.govern.standards import publish_statement, published_standards
from tidegate.index.embedding.registry import Embedders
from tidegate.sql import queries

Statement = tuple[str, bool, str]
"""Its text, whether tidegate_owner runs it, and the source that it runs on; HOME: the index's own database."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be in force: contracts, and standards where they are to change. `rebuild`: where a change cannot be
    made in place, chunk tables are made anew. `sources`: DSNs of databases other than the index's, by the contracts'
    server."""

    contracts: tuple[Contract, ...]
    standards: Standards | None = None
    rebuild: bool = False
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class PlanSet:
    """Plans in the order in which they are applied. `standards`: put in force before them; None: they stay."""

    wanted: Wanted
    plans: tuple[Plan, ...]
    standards: Standards | None

    @property
    def changing(self) -> tuple[Plan, ...]:
        """The plans that do something."""
        return tuple(plan for plan in self.plans if plan.steps)

    @property
    def empty(self) -> bool:
        """Whether the database already is as wanted."""
        return self.standards is None and not self.changing

    @property
    def doubtful(self) -> tuple[str, ...]:
        """Why a person should agree: access widens, something is dropped. A line each."""
        lines = [f"{plan.contract.product}: drops {dropped}" for plan in self.plans for dropped in plan.drops]
        lines += [
            f"{plan.contract.product}: widens access: {change.sentence}"
            for plan in self.plans
            if plan.widens
            for change in plan.changes
            if change.kind == "WIDENS"
        ]
        return tuple(lines)

    def standards_statement(self) -> sql.Composed | None:
        """What puts the standards in force, as tidegate_owner."""
        return None if self.standards is None else publish_statement(self.standards)


def known_contracts(connection: Connection) -> dict[str, Contract]:
    """The published contracts by their text, so that files that say the same need not be checked again.

    One that this release reads otherwise is left out.
    """
    known = {}
    for text, spec in connection.execute(queries("govern")["published_specs"]):
        try:
            known[text] = Contract.from_spec(spec)
        except (KeyError, TypeError, ContractErrors):
            continue
    return known


def make_plans(connection: Connection, wanted: Wanted, embedders: Embedders) -> PlanSet:
    """Compares all contracts with the database. Standards that change bring all published products along.

    Raises:
        ContractUnfit: everything that does not fit, of all contracts, at once.
    """
    in_force = published_standards(connection)
    standards = wanted.standards
    if standards is not None and in_force is not None and standards.text == in_force.standards.text:
        standards = None
    contracts = list(wanted.contracts)
    if standards is not None:
        named = {contract.product for contract in contracts}
        published = known_contracts(connection).values()
        contracts += [contract for contract in published if contract.product not in named]
    setting = Setting(standards or (in_force.standards if in_force else None), sources=wanted.sources)
    plans: list[Plan] = []
    misfits: list[str] = []
    for contract in contracts:
        try:
            plan = _plan(connection, contract, embedders, wanted.rebuild, setting)
        except (ContractUnfit, ContractErrors) as misfit:
            misfits.append(str(misfit))
            continue
        plans.append(plan)
        setting = replace(setting, roles=setting.roles | plan.new_roles, readers=setting.readers | plan.new_readers)
    if misfits:
        raise ContractUnfit("\n".join(misfits))
    return PlanSet(wanted, tuple(plans), standards)


def _plan(connection: Connection, contract: Contract, embedders: Embedders, rebuild: bool, setting: Setting) -> Plan:
    embedder = embedders.of(contract.embedding.model)
    return make_plan(connection, contract, embedder, rebuild=rebuild, setting=setting, embedder_of=embedders.of)


def require_unchanged(connection: Connection, planned: Mapping[str, Sequence[Statement]], now: PlanSet) -> None:
    """Raises PlanOutdated unless `now` runs exactly the statements that were planned, per product."""
    fresh = statements(connection, now)
    for product in (*planned, *(name for name in fresh if name not in planned)):
        before, after = list(planned.get(product, ())), list(fresh.get(product, ()))
        if before != after:
            raise PlanOutdated(difference(product, [each[0] for each in before], [each[0] for each in after]))


def statements(connection: Connection, plans: PlanSet) -> dict[str, list[Statement]]:
    """The statements of each product (`standards` for these), with whether tidegate_owner runs them, and the source
    that they run on where that is another database."""
    found = {
        plan.contract.product: [
            (step.statement.as_string(connection), step.as_owner, step.source) for step in plan.steps
        ]
        for plan in plans.changing
    }
    first = plans.standards_statement()
    return found if first is None else {"standards": [(first.as_string(connection), True, HOME)], **found}


def apply_plans(
    connection: Connection,
    plans: PlanSet,
    embedders: Embedders,
    around: Callable[[Connection, Plan], AbstractContextManager[None]] = lambda *_: nullcontext(),
) -> list[Applied]:
    """Puts the standards in force, then each plan, a transaction each; every plan is checked inside its lock.

    Args:
        around: entered around each plan (observe/lineage.py).

    Raises:
        PlanOutdated: the database changed since; the products named before it are applied, the others are not.
    """
    statement = plans.standards_statement()
    if statement is not None:
        with connection.transaction():
            connection.execute("SET LOCAL ROLE tidegate_owner")
            connection.execute(statement)
    in_force = published_standards(connection)
    setting = Setting(in_force.standards if in_force else None, sources=plans.wanted.sources)

    def apply(plan: Plan) -> Applied:
        def again() -> Plan:
            try:
                return _plan(connection, plan.contract, embedders, plans.wanted.rebuild, setting)
            except ContractUnfit as misfit:
                raise PlanOutdated(
                    f"the database changed since the plan was made, and it no longer fits: {misfit}"
                ) from None

        with around(connection, plan):
            return apply_plan(connection, plan, again=again)

    return [apply(plan) for plan in plans.changing]

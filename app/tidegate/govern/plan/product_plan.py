"""A product's plan: what is checked, made, changed and published, in order."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from psycopg import sql

from tidegate.capture.source import source_of
from tidegate.capture.stream import HOME
from tidegate.contract.change import Change
from tidegate.contract.contract import Contract
from tidegate.contract.diff import diff
from tidegate.contract.standards import ungoverned
from tidegate.database import Connection, connect
from tidegate.govern import chunk_table as table_of
from tidegate.govern.beside import indexes_of
from tidegate.govern.membership_table import membership_hints
from tidegate.govern.plan.catalog_entry import entry
from tidegate.govern.plan.ground import Ground
from tidegate.govern.plan.index_plan import IndexPlan
from tidegate.govern.plan.plan import Plan
from tidegate.govern.plan.readers import admit
from tidegate.govern.plan.second_index import Beside, drop_index, plan_index, reads_again
from tidegate.govern.plan.setting import Setting, setting_in_force
from tidegate.govern.plan.step import Step, Steps
from tidegate.govern.plan.table_policies import check_foreign
from tidegate.govern.plan.unfit import ContractUnfit, refuse, require_fit
from tidegate.govern.publication import joins
from tidegate.govern.second_fill import from_source
from tidegate.govern.source_database import SourceSteps, require_prepared, source_steps
from tidegate.index.embedding.embedder import Embedder
from tidegate.sql import bound, queries


def make_plan(
    connection: Connection,
    contract: Contract,
    embedder: Embedder,
    *,
    rebuild: bool = False,
    setting: Setting | None = None,
    embedder_of: Callable[[str], Embedder] | None = None,
) -> Plan:
    """Compares the contract with the database.

    Args:
        rebuild: make the chunk table anew, where a change cannot be made in place.
        setting: what it is planned under; by default the standards that are in force.
        embedder_of: of other models; without it, a second index is filled from the source.

    Raises:
        ContractUnfit: every way in which the contract does not fit source, model or database, at once.
        EmbedderUnavailable: a remote model could not be asked for its dimension.
    """
    setting = setting or setting_in_force(connection)
    if setting.standards is not None:
        refused = setting.standards.errors(contract)
        if refused:
            raise ContractUnfit("\n".join(refused))
        contract = setting.standards.govern(contract)
    else:
        contract = ungoverned(contract)
    source = source_of(contract, setting.sources)
    if source == HOME:
        ground = Ground(connection, connection, setting)
        return _ProductPlan(ground, contract, embedder, embedder_of, rebuild).plan()
    dsn = setting.sources[source]
    with connect(dsn) as there:
        require_prepared(there, source)
        ground = Ground(connection, there, setting, source)
        made = _ProductPlan(ground, contract, embedder, embedder_of, rebuild).plan()
    return replace(made, source=source, source_dsn=dsn)


class _ProductPlan:
    def __init__(
        self,
        ground: Ground,
        wanted: Contract,
        embedder: Embedder,
        embedder_of: Callable[[str], Embedder] | None,
        rebuild: bool,
    ):
        self._ground = ground
        self._wanted = wanted
        self._embedder = embedder
        self._embedder_of = embedder_of
        self._rebuild = rebuild
        self._steps = Steps()
        self._published = ground.one("published_product", product=wanted.product)
        self._indexes = indexes_of(ground.connection, wanted.product)
        # What the index that is searched, and the second, have of the contract.
        self._contract = wanted
        self._second: Contract | None = None

    def plan(self) -> Plan:
        wanted, published, steps = self._wanted, self._published, self._steps
        require_fit(self._ground, wanted, self._embedder, self._indexes, rebuild=self._rebuild)
        dimension = self._assign()
        contract = self._contract
        spec = wanted.to_spec()
        existing = self._chunk_table()
        anew = existing is not None and (self._rebuild or published is None)
        index = IndexPlan(self._ground, contract, self._second, None if anew else existing, published, steps)
        admitted = admit(self._ground, contract, steps)
        index.drop_clear_tables(all_=anew)
        if anew:
            steps.own(sql.SQL("DROP TABLE {}").format(table_of.chunk_table(contract)))
            steps.say(f"drops the chunk table {contract.chunk_schema}.{contract.table} to make it anew")
            steps.drops.append(f"table {contract.chunk_schema}.{contract.table}")
        new, local = existing is None or anew, self._ground.local
        if new and (local or self._ground.one("chunk_schema_owner", schema=contract.source.schema) is not None):
            steps.as_login(table_of.source_types_grant(contract))
        index.table(dimension)
        if new:
            steps.say(f"creates the chunk table {contract.chunk_schema}.{contract.table}")
        late = index.govern(spec)
        beside = self._plan_beside(spec)
        late += beside.late
        suspended = self._indexes.suspended
        capture = self._capture(again=suspended)
        backfill = reads_again(self._indexes.searched, contract) or index.reads_again or capture.joins
        beside = self._fill(beside, first_is_read=backfill)
        old: Contract | None = None
        changes: tuple[Change, ...] = ()
        if len(steps) or late or published is None or suspended or capture.joins or spec != published[1]:
            old = Contract.from_spec(published[1]) if published is not None else None
            changes = diff(old, wanted).changes if old is not None else ()
            steps.own(
                *entry(
                    self._ground,
                    wanted,
                    contract,
                    dimension,
                    (*steps.steps, *late),
                    old,
                    changes,
                    beside,
                    backfill=backfill,
                    forget=new,
                )
            )
            steps.say(f"publishes {wanted.product} {wanted.version}")
        steps.steps += late
        self._around(capture)
        backfill = backfill or (beside.backfill and not beside.copied)
        if backfill:
            steps.say(f"reads the rows of {contract.source.schema}.{contract.source.table} (backfill)")
        return Plan(
            wanted,
            self._embedder.dimension,
            tuple(steps.steps),
            tuple(steps.summary),
            backfill,
            old,
            changes,
            tuple(steps.drops),
            admitted.roles,
            admitted.readers,
            rejoins=capture.joins and published is not None and not local,
            copies=beside.copied,
        )

    def _assign(self) -> int:
        """Which index takes what of the contract; returns the length of the vectors of the one that is searched."""
        searched, dimension = self._indexes.searched, self._embedder.dimension
        if self._rebuild or searched is None:
            return dimension
        self._contract, self._second = self._indexes.under(self._wanted)
        return dimension if self._contract is self._wanted else searched.dimension

    def _chunk_table(self) -> int | None:
        """The chunk table that is there, with nothing of somebody else's in the way."""
        contract = self._contract
        existing = self._ground.one("chunk_table", schema=contract.chunk_schema, table=contract.table)
        if existing is None:
            return None
        oid, owner = existing
        if owner != "tidegate_owner":
            refuse(contract, [f"table {contract.index} exists and belongs to {owner}; rename it"])
        dropped = self._rebuild or self._published is None
        check_foreign(self._ground, contract, oid, self._steps, dropped=dropped)
        return int(oid)

    def _plan_beside(self, spec: Mapping[str, Any]) -> Beside:
        """What is to be done of the second index: built, brought to the contract as the first, or dropped."""
        held, second = self._indexes.second, self._second
        if second is None:
            if held is not None:
                drop_index(self._ground, held, self._steps)
            return Beside()
        dimension = self._embedder.dimension if held is None else held.dimension
        beside = plan_index(self._ground, second, held, dimension, self._published, spec, self._steps)
        if held is None:
            self._steps.say(
                f"builds a second index beside the first, with {second.embedding.model} ({dimension} dimensions), and "
                f'keeps both current; searches stay with {self._contract.embedding.model} until "tidegate model '
                f'switch {second.product}"'
            )
        return beside

    def _fill(self, beside: Beside, *, first_is_read: bool) -> Beside:
        """Whether a new second index needs the source."""
        searched = self._indexes.searched
        if beside.contract is None or not beside.forget or searched is None:
            return beside
        if first_is_read:
            why: str | None = "the rows of the first are read again"
        else:
            why = from_source(searched, beside.contract.embedding, self._embedder, self._embedder_of)
        self._steps.say(
            "second index: filled from the stored chunks of the first, without reading the source"
            if why is None
            else f"second index: filled from the source, since {why}"
        )
        return replace(beside, copied=why is None)

    def _capture(self, *, again: bool) -> SourceSteps:
        """What lets the table's changes come, and be read: in the index's own database steps like the others."""
        source, steps = self._contract.source, self._steps
        if not self._ground.local:
            there = source_steps(self._ground.there, self._contract, self._ground.source, self._second)
            steps.say(*there.summary)
            return there
        joining = list(joins(self._ground.connection, source.schema, source.table))
        if joining or again:
            # A table that was made anew has lost its grants.
            steps.as_login(*table_of.source_grants(self._contract))
        if joining:
            steps.as_login(*joining)
            steps.say(f"adds {source.schema}.{source.table} to the publication")
        return SourceSteps((), (), (), bool(joining))

    def _around(self, capture: SourceSteps) -> None:
        """Of another database, what is done there before and after; of this one, what should be done."""
        steps, source = self._steps, self._ground.source
        if self._ground.local:
            steps.say(*membership_hints(self._ground.connection, self._contract))
            return
        before = [Step(statement, as_owner=False, source=source) for statement in capture.before]
        after = [Step(statement, as_owner=False, source=source) for statement in capture.after]
        if steps.steps:
            # Rows that are committed there from now on are indexed under the contract that is in force here by then.
            after.append(Step(bound(queries("remote")["announce"], {}), as_owner=False, source=source))
        steps.steps = [*before, *steps.steps, *after]

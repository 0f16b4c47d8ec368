"""A contract against the database: what would have to be done, as the statements that do it."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, LiteralString

from psycopg import sql
from psycopg.types.json import Jsonb

from tidegate.capture.source import source_of
from tidegate.capture.stream import HOME
from tidegate.contract.change import Change, ChangeClass, gravest
from tidegate.contract.contract import Column, Contract
from tidegate.contract.diff import diff
from tidegate.contract.standards import Standards, ungoverned
from tidegate.database import Connection, connect, vector_schema
from tidegate.errors import TidegateError
from tidegate.govern import chunk_table as table_of
from tidegate.govern import withdrawal
from tidegate.govern.beside import Index, Indexes, drop_statements, indexes_of, name_beside
from tidegate.govern.chunk_words import word_triggers
from tidegate.govern.clear_table import ClearTables, remasked
from tidegate.govern.membership_table import membership_hints, membership_problems
from tidegate.govern.policies import Policy, policies
from tidegate.govern.publication import joins
from tidegate.govern.rule_catalog import compiled_rules
from tidegate.govern.search_parts import SearchParts
from tidegate.govern.source_database import SourceSteps, place, remote_problems, require_prepared, source_steps
from tidegate.govern.source_guard import guards
from tidegate.govern.standards import published_standards
from tidegate.govern.version_gate import version_problems
from tidegate.index.embedding.embedder import Embedder
from tidegate.sql import queries

MARKER = "tidegate "


class ContractUnfit(TidegateError):
    """The contract does not fit the database."""


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of a plan. `as_owner`: run as tidegate_owner, else as the login that applies. `locks`: it locks
    the chunk table against readers; these come last, so that the lock is short. `source`: run on this source database,
    where that is another than the index's."""

    statement: sql.Composed
    as_owner: bool = True
    locks: bool = False
    source: str = HOME


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
        return ";\n".join(_text(step, connection) for step in self.steps)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a contract is planned under.

    Attributes:
        standards: hold for every contract; None: none are in force.
        roles: taken for existing, since an earlier plan of the same set creates them.
        readers: taken for members of tidegate_reader, likewise.
        actor: whom the audit names, where it is not the login that applies.
        sources: DSNs of databases other than the index's that rows come from, by the contracts' server.
    """

    standards: Standards | None = None
    roles: frozenset[str] = field(default_factory=frozenset)
    readers: frozenset[str] = field(default_factory=frozenset)
    actor: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)


def setting_in_force(
    connection: Connection, actor: str | None = None, sources: Mapping[str, str] | None = None
) -> Setting:
    """The standards that the database has."""
    published = published_standards(connection)
    return Setting(published.standards if published else None, actor=actor, sources=sources or {})


def make_plan(
    connection: Connection,
    contract: Contract,
    embedder: Embedder,
    *,
    rebuild: bool = False,
    setting: Setting | None = None,
) -> Plan:
    """Compares the contract with the database.

    Args:
        rebuild: make the chunk table anew, where a change cannot be made in place.
        setting: what it is planned under; by default the standards that are in force.

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
        return _Planner(connection, connection, contract, embedder, rebuild, setting).plan()
    dsn = setting.sources[source]
    with connect(dsn) as there:
        require_prepared(there, source)
        made = _Planner(connection, there, contract, embedder, rebuild, setting, source).plan()
    return replace(made, source=source, source_dsn=dsn)


@dataclass(frozen=True, slots=True)
class Beside:
    """What is done of a second index. `contract`: None where there is none. `forget`: it begins anew."""

    contract: Contract | None = None
    dimension: int = 0
    steps: tuple[Step, ...] = ()
    late: tuple[Step, ...] = ()
    backfill: bool = False
    forget: bool = False


class _Planner:
    def __init__(
        self,
        connection: Connection,
        there: Connection,
        contract: Contract,
        embedder: Embedder,
        rebuild: bool,
        setting: Setting,
        source: str = HOME,
    ):
        self._connection = connection
        self._there = there
        self._source = source
        self._contract = contract
        self._embedder = embedder
        self._rebuild = rebuild
        self._setting = setting
        self._new_roles: set[str] = set()
        self._new_readers: set[str] = set()
        self._drops: list[str] = []
        self._static = queries("govern")
        self._steps: list[Step] = []
        self._summary: list[str] = []
        self._dimension = 0
        self._indexes = Indexes(None, None)
        self._second: Contract | None = None

    def plan(self) -> Plan:
        wanted = self._contract
        published = self._one("published_product", product=wanted.product)
        self._indexes = indexes_of(self._connection, wanted.product)
        self._check()
        dimension = self._assign(wanted)
        contract = self._contract
        existing = self._chunk_table(published)
        spec = wanted.to_spec()
        suspended = self._indexes.suspended
        backfill = self._reads_again(self._indexes.searched)
        clear = ClearTables(self._connection, contract)
        anew = existing is not None and (self._rebuild or published is None)
        self._roles()
        self._own(*clear.drops(all_=anew))
        if anew:
            self._own(sql.SQL("DROP TABLE {}").format(table_of.chunk_table(contract)))
            self._summary.append(f"drops the chunk table {contract.chunk_schema}.{contract.table} to make it anew")
            self._drops.append(f"table {contract.chunk_schema}.{contract.table}")
            existing = None
        begun = len(self._steps)
        if existing is None:
            if self._local or self._one("chunk_schema_owner", schema=contract.source.schema) is not None:
                self._as_login(table_of.source_types_grant(contract))
            self._own(*table_of.create_schema(contract))
            self._own(
                *table_of.create_table(contract, dimension, vector_schema(self._connection)),
                *word_triggers(contract, empty=True),
            )
            self._summary.append(f"creates the chunk table {contract.chunk_schema}.{contract.table}")
            backfill = True
            added: Sequence[Column] = contract.carried_columns
            held: dict[str, str | None] = {}
        else:
            added, held = self._change_columns(existing[0], published)
            backfill = backfill or bool(added) or clear.changes
        for column in added:
            self._own(*table_of.create_column_index(contract, column))
        late = self._govern(published, existing, spec, held, clear, begun)
        beside = self._plan_beside(published, spec)
        late += beside.late
        capture = self._capture(again=suspended)
        backfill = backfill or capture.joins
        old: Contract | None = None
        changes: tuple[Change, ...] = ()
        if self._steps or late or published is None or suspended or capture.joins or spec != published[1]:
            old = Contract.from_spec(published[1]) if published is not None else None
            changes = diff(old, wanted).changes if old is not None else ()
            self._publish(wanted, dimension, backfill, late, old, changes, beside, forget=existing is None)
        self._steps += late
        self._around(capture)
        backfill = backfill or beside.backfill
        if backfill:
            self._summary.append(f"reads the rows of {contract.source.schema}.{contract.source.table} (backfill)")
        return Plan(
            wanted,
            self._dimension,
            tuple(self._steps),
            tuple(self._summary),
            backfill,
            old,
            changes,
            tuple(self._drops),
            frozenset(self._new_roles),
            frozenset(self._new_readers),
            rejoins=capture.joins and published is not None and not self._local,
        )

    @property
    def _local(self) -> bool:
        """Whether the rows are in the index's own database."""
        return self._source == HOME

    def _capture(self, *, again: bool) -> SourceSteps:
        """What lets the table's changes come, and be read: in the index's own database steps like the others."""
        source = self._contract.source
        if not self._local:
            steps = source_steps(self._there, self._contract, self._source, self._second)
            self._summary += steps.summary
            return steps
        joining = list(joins(self._connection, source.schema, source.table))
        if joining or again:
            # A table that was made anew has lost its grants.
            self._as_login(*table_of.source_grants(self._contract))
        if joining:
            self._as_login(*joining)
            self._summary.append(f"adds {source.schema}.{source.table} to the publication")
        return SourceSteps((), (), (), bool(joining))

    def _around(self, capture: SourceSteps) -> None:
        """Of another database, what is done there before and after; of this one, what should be done."""
        if self._local:
            self._summary += membership_hints(self._connection, self._contract)
            return
        before = [Step(statement, as_owner=False, source=self._source) for statement in capture.before]
        after = [Step(statement, as_owner=False, source=self._source) for statement in capture.after]
        if self._steps:
            # Rows that are committed there from now on are indexed under the contract that is in force here by then.
            after.append(Step(_bind(queries("remote")["announce"], {}), as_owner=False, source=self._source))
        self._steps = [*before, *self._steps, *after]

    def _govern(
        self,
        published: Sequence[Any] | None,
        existing: Sequence[Any] | None,
        spec: Mapping[str, Any],
        held: Mapping[str, str | None],
        clear: ClearTables,
        begun: int,
    ) -> list[Step]:
        """Policies, functions, side tables and privileges; returns the steps that come last.

        On a table that people read, what locks them out (all steps since `begun`, policies, dropped columns) comes
        after everything that does not.
        """
        contract = self._contract
        before = len(self._steps)
        policy_change = self._change_policies(held)
        policy_steps, self._steps = self._steps[before:], self._steps[:before]
        late: list[Step] = []
        if existing is not None:
            late = [replace(step, locks=True) for step in (*self._steps[begun:], *policy_steps)]
            policy_steps, self._steps = [], self._steps[:begun]
        changes = published is None or existing is None or spec != published[1] or policy_change
        if changes and self._local:
            # Policies call the membership functions, and these read what the owner of the source grants.
            self._as_login(*table_of.source_grants(contract))
            if not contract.beside:
                self._own(*table_of.functions(contract), *guards(self._connection, contract))
        self._steps += policy_steps
        self._own(*clear.creates(all_=existing is None))
        self._summary += clear.summary(all_=existing is None)
        if changes:
            self._own(*table_of.grants(contract, live=self._local), *clear.grants())
            if published is not None:
                self._withdraw(Contract.from_spec(published[1]))
            dropping = len(self._steps)
            self._drop_columns(existing, published)
            late += [replace(step, locks=True) for step in self._steps[dropping:]]
            del self._steps[dropping:]
        return late

    def _check(self) -> None:
        contract = self._contract
        self._check_server()
        source = self._at_source("source_table", schema=contract.source.schema, table=contract.source.table)
        if source is None:
            where = "" if self._local else f" on {self._source} ({place(self._there)})"
            self._unfit([f"table {contract.source.schema}.{contract.source.table} does not exist{where}"])
            return
        problems = [
            *self._source_problems(source),
            *self._model_problems(),
            *(membership_problems(self._connection, contract) if self._local else ()),
        ]
        owner = self._one("chunk_schema_owner", schema=contract.chunk_schema)
        if owner is not None and owner[0] != "tidegate_owner":
            problems.append(
                f"schema {contract.chunk_schema} exists and belongs to {owner[0]}, who could replace what is in it; "
                f"drop it, or run ALTER SCHEMA {contract.chunk_schema} OWNER TO tidegate_owner"
            )
        taken = self._one(
            "source_taken",
            source=self._source,
            schema=contract.source.schema,
            table=contract.source.table,
            product=contract.product,
        )
        if taken is not None:
            problems.append(f"its table is already published as product {taken[0]}")
        problems += version_problems(self._connection, contract)
        self._unfit(problems)

    def _check_server(self) -> None:
        """A product stays with its database: the positions of another do not compare with those in its ledger."""
        held = self._one("published_server", product=self._contract.product)
        if held is None or held[0] == self._source:
            return
        if held[0] and held[0] not in self._setting.sources:
            self._unfit([f'its rows come from "{held[0]}", whose DSN is not known here; set it in TIDEGATE_SOURCES'])
        came, come = (f'"{name}"' if name else "the index's own database" for name in (held[0], self._source))
        self._unfit([f"its rows come from {came}, now they would from {come}; publish them as another product"])

    def _source_problems(self, source: Sequence[Any]) -> Iterator[str]:
        contract = self._contract
        oid, kind, identity, row_security, owned, _ = source
        name = f"{contract.source.schema}.{contract.source.table}"
        if kind != "r":
            yield f"{name} is not an ordinary table (relkind {kind}); publish a table, or the partitions one by one"
        if not owned:
            yield f'login "{self._there.info.user}" does not own {name}; apply as its owner or a superuser'
        actual = {row[0]: (row[1], row[2]) for row in self._there.execute(self._static["source_columns"], {"oid": oid})}
        carried = {column.name for column in contract.carried_columns}
        for column in contract.columns:
            if column.name not in actual:
                yield f"column {column.name} is not in {name}; there are: {', '.join(actual)}"
                continue
            type_, missing = self._at_source("type_name", type=column.physical_type) or ("", True)
            if missing:
                yield f"column {column.name}: type {column.physical_type} does not exist in this database"
            elif (
                not self._local
                and column.name in carried
                and self._required("type_name", type=column.carried_type)[0] is None
            ):
                yield (
                    f"column {column.name} stands beside the chunks, but its type {column.carried_type} does not exist "
                    "in the index's database; create it there, too"
                )
            elif _plain(type_) != _plain(actual[column.name][0]):
                yield (
                    f"column {column.name} is {actual[column.name][0]} in {name}, "
                    f"the contract says {column.physical_type}"
                )
        key = (self._at_source("source_key", oid=oid) or [None])[0]
        wanted = [column.name for column in contract.key_columns]
        if key is None:
            yield (
                f"{name} has no primary key, so its rows cannot be told apart; run "
                f"ALTER TABLE {name} ADD PRIMARY KEY ({', '.join(wanted)})"
            )
        elif key != wanted:
            yield f"the primary key of {name} is ({', '.join(key)}), the contract says ({', '.join(wanted)})"
        if identity == "n":
            yield (
                f"{name} has REPLICA IDENTITY NOTHING, so deletes are not captured; run "
                f"ALTER TABLE {name} REPLICA IDENTITY DEFAULT"
            )
        if not self._local:
            yield from remote_problems(contract, self._source, bool(row_security))
        elif row_security:
            blind = [row[0] for row in self._connection.execute(self._static["blind_roles"], {"oid": oid})]
            if blind:
                yield (
                    f"{name} has row-level security, which would hide rows from {', '.join(blind)} without a word; run "
                    f"CREATE POLICY tidegate_reads ON {name} FOR SELECT TO {', '.join(blind)} USING (true)"
                )

    def _model_problems(self) -> Iterator[str]:
        embedding = self._contract.embedding
        most = self._embedder.max_tokens
        if most is not None and embedding.chunk_tokens > most:
            yield (
                f"chunk.tokens is {embedding.chunk_tokens}, model {embedding.model} reads {most}; "
                "the rest would not be found"
            )
        self._dimension = self._embedder.dimension
        published = self._one("published_product", product=self._contract.product)
        if published is None or self._rebuild:
            return
        yield from self._indexes.problems(self._contract, self._dimension)
        old_key = [column["name"] for column in published[1]["columns"] if column["key_position"] is not None]
        if sorted(old_key) != sorted(column.name for column in self._contract.key_columns):
            yield "the primary key changes; apply with --rebuild to index the product anew"

    def _reads_again(self, index: Index | None) -> bool:
        """Whether the index is new or suspended, or rows in it would be indexed otherwise: from where, what of it."""
        if index is None or index.state == "suspended":
            return True
        old, new = index.contract, self._contract
        return (old.embedding, old.source) != (new.embedding, new.source)

    def _chunk_table(self, published: Sequence[Any] | None) -> Sequence[Any] | None:
        """The chunk table that is there (oid, owner), with nothing of somebody else's in the way."""
        name = self._contract.index
        existing = self._one("chunk_table", schema=self._contract.chunk_schema, table=self._contract.table)
        if existing is not None:
            if existing[1] != "tidegate_owner":
                self._unfit([f"table {name} exists and belongs to {existing[1]}; rename it"])
            self._check_foreign(existing[0], dropped=self._rebuild or published is None)
        return existing

    def _assign(self, wanted: Contract) -> int:
        """Which index takes what of the contract; returns the length of the vectors of the one that is searched."""
        searched = self._indexes.searched
        if self._rebuild or searched is None:
            return self._dimension
        self._contract, self._second = self._indexes.under(wanted)
        return self._dimension if self._contract is wanted else searched.dimension

    def _plan_beside(self, published: Sequence[Any] | None, spec: Mapping[str, Any]) -> Beside:
        """What is to be done of the second index: built, brought to the contract as the first, or dropped."""
        held, second = self._indexes.second, self._second
        if second is None:
            if held is not None:
                self._own(*drop_statements(self._connection, held.contract))
                self._own(_bind(queries("beside")["forget_beside"], {"product": held.contract.product}))
                name = f"{held.contract.chunk_schema}.{held.contract.table}"
                self._summary.append(f"drops the second index {name}, with {held.embedding.model}")
                self._drops.append(f"table {name}")
            return Beside()
        dimension = self._dimension if held is None else held.dimension
        planner = _Planner(self._connection, self._there, second, self._embedder, False, self._setting, self._source)
        beside = planner.plan_beside(held, dimension, published, spec)
        if held is None:
            self._summary.append(
                f"builds a second index beside the first, with {second.embedding.model} ({dimension} dimensions), and "
                f'keeps both current; searches stay with {self._contract.embedding.model} until "tidegate model '
                f'switch {second.product}"'
            )
        self._steps += beside.steps
        self._summary += [f"second index: {line}" for line in planner._summary]
        self._drops += planner._drops
        return beside

    def plan_beside(
        self, held: Index | None, dimension: int, published: Sequence[Any] | None, spec: Mapping[str, Any]
    ) -> Beside:
        """The steps of a second index alone; who publishes it and what belongs to the product is the first one's."""
        contract = self._contract
        owner = self._one("chunk_schema_owner", schema=contract.chunk_schema)
        existing = self._one("chunk_table", schema=contract.chunk_schema, table=contract.table)
        if owner is not None and owner[0] != "tidegate_owner":
            self._unfit([f"schema {contract.chunk_schema} exists and belongs to {owner[0]}; rename it"])
        if existing is not None and (held is None or existing[1] != "tidegate_owner"):
            self._unfit([f"table {contract.chunk_schema}.{contract.table} exists and is no second index; drop it"])
        clear = ClearTables(self._connection, contract)
        begun = len(self._steps)
        added: Sequence[Column] = contract.carried_columns
        policies_held: dict[str, str | None] = {}
        if existing is None:
            self._own(*clear.drops(all_=True))
            self._own(*table_of.create_schema(contract))
            self._own(
                *table_of.create_table(contract, dimension, vector_schema(self._connection)),
                *word_triggers(contract, empty=True),
            )
        else:
            self._check_foreign(existing[0], dropped=False)
            self._own(*clear.drops(all_=False))
            begun = len(self._steps)
            added, policies_held = self._change_columns(existing[0], published)
        for column in added:
            self._own(*table_of.create_column_index(contract, column))
        known = None if existing is None else published
        late = self._govern(known, existing, spec, policies_held, clear, begun)
        backfill = existing is None or bool(added) or clear.changes or self._reads_again(held)
        if existing is None:
            self._summary.clear()
        return Beside(contract, dimension, tuple(self._steps), tuple(late), backfill, forget=existing is None)

    def _roles(self) -> None:
        named = list(self._contract.roles)
        for rule in self._contract.rules:
            named += [role for role in rule.to if role not in named]
        there = {row[0] for row in self._connection.execute(self._static["role_exists"], {"roles": named})}
        readers = {row[0] for row in self._connection.execute(self._static["reader_members"], {"roles": named})}
        there |= self._setting.roles
        readers |= self._setting.readers
        for role in named:
            if role not in there:
                self._new_roles.add(role)
                self._as_login(*table_of.create_role(role))
                self._summary.append(f"creates the group role {role}, without members")
        for role in table_of.reading_roles(self._contract):
            if role not in readers:
                self._new_readers.add(role)
                self._as_login(*table_of.admit_reader(role))
                self._summary.append(f"lets {role} use tidegate's functions and views")

    def _change_columns(self, oid: int, published: Sequence[Any] | None) -> tuple[Sequence[Any], dict[str, str | None]]:
        actual = self._actual_columns(oid)
        for name in remasked(Contract.from_spec(published[1]), self._contract) if published else ():
            if actual.pop(name, None) is not None:
                self._own(*table_of.drop_column(self._contract, name))
                self._summary.append(f"empties the column {name}, whose mask changed")
        added, _, kept = table_of.column_changes(self._contract, actual)
        types = {column.name: column.carried_type for column in self._contract.carried_columns}
        changed = [
            f"column {name} is {actual[name]} in the chunk table, the contract says {types[name]}; apply with --rebuild"
            for name in kept
            if _plain(self._required("type_name", type=types[name])[0]) != _plain(actual[name])
        ]
        tested = {
            column.name: rule.id
            for rule in self._contract.rules
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
        self._unfit(changed)
        for column in added:
            self._own(*table_of.add_column(self._contract, column))
            self._summary.append(f"adds the column {column.name}, hidden until the backfill has filled it")
        parts = SearchParts(self._connection, self._contract, oid)
        self._own(*parts.steps())
        self._summary += parts.summary()
        held = {row[0]: row[1] for row in self._connection.execute(self._static["policies"], {"oid": oid})}
        return added, held

    def _actual_columns(self, oid: int) -> dict[str, str]:
        own = {
            "chunk_no",
            "content",
            "content_hash",
            "embedding",
            "codes",
            "position",
            "committed_at",
            "indexed_at",
            "contract_version",
        }
        rows = self._connection.execute(self._static["source_columns"], {"oid": oid})
        return {row[0]: row[1] for row in rows if row[0] not in own}

    def _drop_columns(self, existing: Sequence[Any] | None, published: Sequence[Any] | None) -> None:
        if existing is None:
            return
        _, dropped, _ = table_of.column_changes(self._contract, self._actual_columns(existing[0]))
        for name in dropped:
            self._own(*table_of.drop_column(self._contract, name))
            self._summary.append(f"drops the column {name}, which nothing needs any more")
            self._drops.append(f"column {name} of {self._contract.chunk_schema}.{self._contract.table}")

    def _change_policies(self, held: Mapping[str, str | None]) -> bool:
        """Brings tidegate's policies to the contract's; others are not touched. What keeps its name and kind is
        altered, so that it is never gone. Restrictive ones come first and go last, so that no moment shows more than
        before or after (it is one transaction besides)."""
        contract = self._contract
        table = table_of.chunk_table(contract)
        wanted = {policy.name: policy for policy in policies(contract)}
        kinds: dict[str, str] = {}
        if held:
            where = {"schema": contract.chunk_schema, "table": contract.table}
            kinds = dict(self._connection.execute(self._static["policy_kinds"], where).fetchall())
        ours = [name for name, comment in held.items() if (comment or "").startswith(MARKER)]
        fresh = [policy for policy in wanted.values() if not _same(policy, held.get(policy.name))]
        altered = {policy.name for policy in fresh if policy.name in ours and kinds.get(policy.name) == policy.kind}
        remade = [policy.name for policy in fresh if policy.name in ours and policy.name not in altered]
        gone = [name for name in ours if name not in wanted]
        showing = [name for name in gone if kinds.get(name) == "permissive"]
        self._own(*(_drop_policy(name, table) for name in (*remade, *showing)))
        for policy in sorted(fresh, key=lambda policy: policy.kind == "permissive"):
            self._own(policy.alter(table) if policy.name in altered else policy.create(table), policy.mark(table))
            self._summary.append(f"{'changes' if policy.name in held else 'creates'} the policy {policy.name}")
        self._own(*(_drop_policy(name, table) for name in gone if name not in showing))
        self._summary += [f"drops the policy {name}" for name in gone]
        return bool(gone or fresh)

    def _check_foreign(self, oid: int, *, dropped: bool) -> None:
        """Policies on the chunk table that tidegate did not make: never touched, always named."""
        marks = {row[0]: row[1] for row in self._connection.execute(self._static["policies"], {"oid": oid})}
        foreign = [name for name, comment in marks.items() if not (comment or "").startswith((MARKER, "tidegate:"))]
        wanted = {policy.name for policy in policies(self._contract)}
        table = f"{self._contract.chunk_schema}.{self._contract.table}"
        if dropped:
            self._unfit(
                [
                    f"policy {name} on {table} is not tidegate's, and a table that is made anew would not have it; "
                    f"drop it yourself first: DROP POLICY {name} ON {table}"
                    for name in foreign
                ]
            )
        self._unfit(
            [
                f"policy {name} on {table} is not tidegate's, but has the name of one; rename it"
                for name in foreign
                if name in wanted
            ]
        )
        self._summary += [f"leaves the policy {name} on {table}, which tidegate did not make" for name in foreign]

    def _withdraw(self, old: Contract) -> None:
        contract = self._contract
        there = {row[0] for row in self._connection.execute(
            self._static["role_exists"], {"roles": list(table_of.reading_roles(old))}
        )}  # fmt: skip
        roles = withdrawal.withdrawn_roles(old, contract, there)
        if contract.beside:
            self._own(*withdrawal.withdraw_readers(contract, roles))
            return
        for role in roles:
            self._summary.append(f"takes the chunk table from {role}, which no rule allows any more")
        self._own(*withdrawal.withdraw_readers(contract, roles, live=self._local))
        if not self._local:
            return
        source = self._required("source_table", schema=contract.source.schema, table=contract.source.table)
        columns = [row[0] for row in self._connection.execute(self._static["source_columns"], {"oid": source[0]})]
        self._own(*withdrawal.drop_old_live_function(old, contract))
        self._as_login(*withdrawal.withdraw_columns(old, contract, columns, also=self._second))

    def _publish(
        self,
        contract: Contract,
        dimension: int,
        backfill: bool,
        late: Sequence[Step],
        old: Contract | None,
        changes: Sequence[Change],
        beside: Beside,
        *,
        forget: bool,
    ) -> None:
        spec, searched = contract.to_spec(), self._contract
        latency = contract.latency
        common = {
            "product": contract.product,
            "version": contract.version,
            "contract": Jsonb(spec),
            "text": contract.text,
        }
        statements = ";\n".join(step.statement.as_string(self._connection) for step in (*self._steps, *late))
        kind = gravest(tuple(changes))
        listed = [
            {"class": change.kind, "what": change.what, "sentence": change.sentence, "bump": change.bump.name}
            for change in changes
        ]
        if forget:
            self._own(_bind(self._static["forget_rows"], {"product": contract.product}))
        self._own(
            _bind(
                self._static["publish"],
                {
                    **common,
                    "domain": contract.domain,
                    "source_schema": contract.source.schema,
                    "source_table": contract.source.table,
                    "chunk_schema": contract.chunk_schema,
                    "chunk_table": contract.table,
                    "live_function": table_of.live_name(contract) if self._local else None,
                    "source_server": self._source,
                    "key_columns": [column.name for column in contract.key_columns],
                    "model": searched.embedding.model,
                    "dimension": dimension,
                    "own_embedding": _own_embedding(searched, contract),
                    "latency_ms": None if latency is None else round(latency.ms),
                    "latency_percentile": None if latency is None else latency.percentile,
                    "backfill": backfill,
                },
            ),
            _bind(self._static["forget_rules"], {"product": contract.product}),
            _bind(
                self._static["record_rules"], {"product": contract.product, "rules": Jsonb(compiled_rules(contract))}
            ),
            *(_publish_beside(contract, beside) if beside.contract else ()),
            _bind(
                self._static["record"],
                {**common, "statements": statements, "change_class": kind, "changes": Jsonb(listed)},
            ),
            _bind(
                queries("audit_log")["record_apply"],
                {
                    "actor": self._setting.actor,
                    "product": contract.product,
                    "version": contract.version,
                    "change_class": kind or ("new" if old is None else None),
                    "before": Jsonb(_reference(old)) if old is not None else None,
                    "after": Jsonb(_reference(contract) | {"statements_sha256": _sha256(statements)}),
                },
            ),
        )
        self._own(_bind(self._static["announce"], {}))
        self._summary.append(f"publishes {contract.product} {contract.version}")

    def _own(self, *statements: sql.Composed) -> None:
        self._steps += [Step(statement) for statement in statements]

    def _as_login(self, *statements: sql.Composed) -> None:
        self._steps += [Step(statement, as_owner=False) for statement in statements]

    def _one(self, name: str, **parameters: Any) -> Sequence[Any] | None:
        return self._connection.execute(self._static[name], parameters).fetchone()

    def _at_source(self, name: str, **parameters: Any) -> Sequence[Any] | None:
        return self._there.execute(self._static[name], parameters).fetchone()

    def _required(self, name: str, **parameters: Any) -> Sequence[Any]:
        row = self._one(name, **parameters)
        assert row is not None
        return row

    def _unfit(self, problems: Sequence[str]) -> None:
        if problems:
            raise ContractUnfit(
                "\n".join(f"{self._contract.path}: {self._contract.product}: {text}" for text in problems)
            )


def _text(step: Step, connection: Connection | None) -> str:
    """The statement as text; one on another database says so."""
    where = f"-- on {step.source}\n" if step.source else ""
    return where + step.statement.as_string(connection)


def _same(policy: Policy | None, comment: str | None) -> bool:
    """Whether the policy in the database is this one: its comment ends in the hash of its text."""
    return (
        policy is not None
        and comment is not None
        and comment.split("sha256=")[-1] == policy.comment.split("sha256=")[-1]
    )


def _drop_policy(name: str, table: sql.Composable) -> sql.Composed:
    return sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(name), table)


def _plain(type_name: str) -> str:
    """A type without its size, as Postgres writes it."""
    return re.sub(r"\([^)]*\)", "", type_name)


def _bind(statement: LiteralString, parameters: Mapping[str, Any]) -> sql.Composed:
    """A named query with its parameters written into it as literals, so that the plan shows what runs."""
    parts: list[sql.Composable] = []
    rest: str = statement
    while "%(" in rest:
        before, _, after = rest.partition("%(")
        name, _, rest = after.partition(")s")
        parts += [sql.SQL(before), sql.Literal(parameters[name])]
    return sql.Composed([*parts, sql.SQL(rest)])


def _publish_beside(wanted: Contract, beside: Beside) -> Iterator[sql.Composed]:
    """The catalog's row of the second index, with its rules; after that of the first, which it takes the rest from."""
    contract, static = beside.contract, queries("govern")
    assert contract is not None
    name = name_beside(contract)
    if beside.forget:
        yield _bind(static["forget_rows"], {"product": name})
    parameters = {
        "product": contract.product,
        "name": name,
        "chunk_schema": contract.chunk_schema,
        "model": contract.embedding.model,
        "dimension": beside.dimension,
        "own_embedding": _own_embedding(contract, wanted),
        "backfill": beside.backfill,
    }
    yield _bind(queries("beside")["publish_beside"], parameters)
    yield _bind(static["forget_rules"], {"product": name})
    yield _bind(static["record_rules"], {"product": name, "rules": Jsonb(compiled_rules(contract))})


def _own_embedding(contract: Contract, wanted: Contract) -> Jsonb | None:
    """What the catalog notes of an index's embedding: nothing, where it is the contract's."""
    return None if contract.embedding == wanted.embedding else Jsonb(contract.to_spec()["embedding"])


def _reference(contract: Contract) -> dict[str, str]:
    """How the audit names a contract: its version, the hash under which it is kept, and that of all it says."""
    spec = json.dumps(contract.to_spec(), sort_keys=True, ensure_ascii=False)
    return {"version": contract.version, "contract_sha256": _sha256(contract.text), "spec_sha256": _sha256(spec)}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

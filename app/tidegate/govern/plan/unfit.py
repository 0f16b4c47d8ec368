"""Why a contract does not fit source, model or database."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tidegate.contract.contract import Contract
from tidegate.contract.finding import did_you_mean
from tidegate.errors import TidegateError
from tidegate.govern.beside import Indexes
from tidegate.govern.membership_table import membership_problems
from tidegate.govern.plan.ground import Ground, without_size
from tidegate.govern.source_database import place, remote_problems
from tidegate.govern.version_gate import version_problems
from tidegate.index.embedding.embedder import Embedder
from tidegate.sql import queries


class ContractUnfit(TidegateError):
    """The contract does not fit the database."""


def refuse(contract: Contract, problems: Iterable[str]) -> None:
    """Raises ContractUnfit with all of these problems, if there are any."""
    lines = [f"{contract.path}: {contract.product}: {text}" for text in problems]
    if lines:
        raise ContractUnfit("\n".join(lines))


def require_fit(ground: Ground, contract: Contract, embedder: Embedder, indexes: Indexes, *, rebuild: bool) -> None:
    """Checks all that can be known before the first statement.

    Raises:
        ContractUnfit: every way in which the contract does not fit, at once.
        EmbedderUnavailable: a remote model could not be asked for its dimension.
    """
    _require_same_server(ground, contract)
    source = ground.at_source("source_table", schema=contract.source.schema, table=contract.source.table)
    if source is None:
        where = "" if ground.local else f" on {ground.source} ({place(ground.there)})"
        name = f"{contract.source.schema}.{contract.source.table}"
        near = did_you_mean(name, (row[0] for row in ground.there.execute(queries("govern")["table_names"])))
        refuse(contract, [f"table {name} does not exist{where}{near}"])
        return
    refuse(
        contract,
        [
            *_source_problems(ground, contract, source),
            *_model_problems(ground, contract, embedder, indexes, rebuild=rebuild),
            *(membership_problems(ground.connection, contract) if ground.local else ()),
            *_place_problems(ground, contract),
            *version_problems(ground.connection, contract),
        ],
    )


def _require_same_server(ground: Ground, contract: Contract) -> None:
    """A product stays with its database: the positions of another do not compare with those in its ledger."""
    held = ground.one("published_server", product=contract.product)
    if held is None or held[0] == ground.source:
        return
    if held[0] and held[0] not in ground.setting.sources:
        refuse(contract, [f'its rows come from "{held[0]}", whose DSN is not known here; set it in TIDEGATE_SOURCES'])
    came, come = (f'"{name}"' if name else "the index's own database" for name in (held[0], ground.source))
    refuse(contract, [f"its rows come from {came}, now they would from {come}; publish them as another product"])


def _place_problems(ground: Ground, contract: Contract) -> Iterator[str]:
    """What is in the way of its schema, or has its rows already."""
    owner = ground.one("chunk_schema_owner", schema=contract.chunk_schema)
    if owner is not None and owner[0] != "tidegate_owner":
        yield (
            f"schema {contract.chunk_schema} exists and belongs to {owner[0]}, who could replace what is in it; "
            f"drop it, or run ALTER SCHEMA {contract.chunk_schema} OWNER TO tidegate_owner"
        )
    taken = ground.one(
        "source_taken",
        source=ground.source,
        schema=contract.source.schema,
        table=contract.source.table,
        product=contract.product,
    )
    if taken is not None:
        yield f"its table is already published as product {taken[0]}"


def _source_problems(ground: Ground, contract: Contract, source: Sequence[Any]) -> Iterator[str]:
    oid, kind, identity, row_security, owned, _ = source
    name = f"{contract.source.schema}.{contract.source.table}"
    if kind != "r":
        yield f"{name} is not an ordinary table (relkind {kind}); publish a table, or the partitions one by one"
    if not owned:
        yield f'login "{ground.there.info.user}" does not own {name}; apply as its owner or a superuser'
    yield from _column_problems(ground, contract, name, ground.source_columns(oid))
    key = (ground.at_source("source_key", oid=oid) or [None])[0]
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
    if not ground.local:
        yield from remote_problems(contract, ground.source, bool(row_security))
    elif row_security:
        blind = [row[0] for row in ground.rows("blind_roles", oid=oid)]
        if blind:
            yield (
                f"{name} has row-level security, which would hide rows from {', '.join(blind)} without a word; run "
                f"CREATE POLICY tidegate_reads ON {name} FOR SELECT TO {', '.join(blind)} USING (true)"
            )


def _column_problems(ground: Ground, contract: Contract, name: str, actual: dict[str, str]) -> Iterator[str]:
    carried = {column.name for column in contract.carried_columns}
    for column in contract.columns:
        if column.name not in actual:
            yield f"column {column.name} is not in {name}; there are: {', '.join(actual)}"
            continue
        type_, missing = ground.at_source("type_name", type=column.physical_type) or ("", True)
        if missing:
            yield f"column {column.name}: type {column.physical_type} does not exist in this database"
        elif (
            not ground.local
            and column.name in carried
            and ground.required("type_name", type=column.carried_type)[0] is None
        ):
            yield (
                f"column {column.name} stands beside the chunks, but its type {column.carried_type} does not exist "
                "in the index's database; create it there, too"
            )
        elif without_size(type_) != without_size(actual[column.name]):
            yield (f"column {column.name} is {actual[column.name]} in {name}, the contract says {column.physical_type}")


def _model_problems(
    ground: Ground, contract: Contract, embedder: Embedder, indexes: Indexes, *, rebuild: bool
) -> Iterator[str]:
    embedding = contract.embedding
    most = embedder.max_tokens
    if most is not None and embedding.chunk_tokens > most:
        yield (
            f"chunk.tokens is {embedding.chunk_tokens}, model {embedding.model} reads {most}; "
            "the rest would not be found"
        )
    dimension = embedder.dimension
    published = ground.one("published_product", product=contract.product)
    if published is None or rebuild:
        return
    yield from indexes.problems(contract, dimension)
    old_key = [column["name"] for column in published[1]["columns"] if column["key_position"] is not None]
    if sorted(old_key) != sorted(column.name for column in contract.key_columns):
        yield "the primary key changes; apply with --rebuild to index the product anew"

"""What the catalog, the history and the audit note of a contract that is published."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from tidegate.contract.change import Change, gravest
from tidegate.contract.contract import Contract
from tidegate.govern import chunk_table as table_of
from tidegate.govern.beside import name_beside
from tidegate.govern.plan.ground import Ground
from tidegate.govern.plan.second_index import Beside
from tidegate.govern.plan.step import Step
from tidegate.govern.rule_catalog import compiled_rules
from tidegate.sql import bound, queries


def entry(
    ground: Ground,
    contract: Contract,
    searched: Contract,
    dimension: int,
    steps: Sequence[Step],
    old: Contract | None,
    changes: Sequence[Change],
    beside: Beside,
    *,
    backfill: bool,
    forget: bool,
) -> Iterator[sql.Composed]:
    """The statements that publish the contract, after all others.

    Args:
        searched: the contract as the index has it that is searched; `dimension` of its vectors.
        steps: what the history keeps of the plan.
        old: the contract in force, and `changes` of it.
        forget: the index begins anew.
    """
    static = queries("govern")
    spec = contract.to_spec()
    latency = contract.latency
    common = {
        "product": contract.product,
        "version": contract.version,
        "contract": Jsonb(spec),
        "text": contract.text,
    }
    statements = ";\n".join(step.statement.as_string(ground.connection) for step in steps)
    kind = gravest(tuple(changes))
    listed = [
        {"class": change.kind, "what": change.what, "sentence": change.sentence, "bump": change.bump.name}
        for change in changes
    ]
    if forget:
        yield bound(static["forget_rows"], {"product": contract.product})
    yield bound(
        static["publish"],
        {
            **common,
            "domain": contract.domain,
            "source_schema": contract.source.schema,
            "source_table": contract.source.table,
            "chunk_schema": contract.chunk_schema,
            "chunk_table": contract.table,
            "live_function": table_of.live_name(contract) if ground.local else None,
            "source_server": ground.source,
            "key_columns": [column.name for column in contract.key_columns],
            "model": searched.embedding.model,
            "dimension": dimension,
            "own_embedding": _own_embedding(searched, contract),
            "latency_ms": None if latency is None else round(latency.ms),
            "latency_percentile": None if latency is None else latency.percentile,
            "backfill": backfill,
        },
    )
    yield from _rules(contract.product, contract)
    if beside.contract is not None:
        yield from _entry_beside(contract, beside.contract, beside)
    yield bound(
        static["record"],
        {**common, "statements": statements, "change_class": kind, "changes": Jsonb(listed)},
    )
    yield bound(
        queries("audit_log")["record_apply"],
        {
            "actor": ground.setting.actor,
            "product": contract.product,
            "version": contract.version,
            "change_class": kind or ("new" if old is None else None),
            "before": Jsonb(_reference(old)) if old is not None else None,
            "after": Jsonb(_reference(contract) | {"statements_sha256": _sha256(statements)}),
        },
    )
    yield bound(static["announce"], {})


def _entry_beside(wanted: Contract, contract: Contract, beside: Beside) -> Iterator[sql.Composed]:
    """The catalog's row of the second index, with its rules; after that of the first, which it takes the rest from."""
    name = name_beside(contract)
    if beside.forget:
        yield bound(queries("govern")["forget_rows"], {"product": name})
    parameters: dict[str, Any] = {
        "product": contract.product,
        "name": name,
        "chunk_schema": contract.chunk_schema,
        "model": contract.embedding.model,
        "dimension": beside.dimension,
        "own_embedding": _own_embedding(contract, wanted),
        "backfill": beside.backfill,
        "copied": beside.copied,
    }
    yield bound(queries("beside")["publish_beside"], parameters)
    yield from _rules(name, contract)


def _rules(product: str, contract: Contract) -> Iterator[sql.Composed]:
    static = queries("govern")
    yield bound(static["forget_rules"], {"product": product})
    yield bound(static["record_rules"], {"product": product, "rules": Jsonb(compiled_rules(contract))})


def _own_embedding(contract: Contract, wanted: Contract) -> Jsonb | None:
    """What the catalog notes of an index's embedding: nothing, where it is the contract's."""
    return None if contract.embedding == wanted.embedding else Jsonb(contract.to_spec()["embedding"])


def _reference(contract: Contract) -> dict[str, str]:
    """How the audit names a contract: its version, the hash under which it is kept, and that of all it says."""
    spec = json.dumps(contract.to_spec(), sort_keys=True, ensure_ascii=False)
    return {"version": contract.version, "contract_sha256": _sha256(contract.text), "spec_sha256": _sha256(spec)}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

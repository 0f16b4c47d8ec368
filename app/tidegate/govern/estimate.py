"""What a plan's backfill will cost, before it is begun: rows, chunks and tokens, from a sample of the source."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.count import counted
from tidegate.database import Connection, ConnectionFailed, connect
from tidegate.govern.plan import Plan
from tidegate.govern.plan_set import PlanSet
from tidegate.index.document import DocumentTooLong, document
from tidegate.index.embedding.embedder import Embedder
from tidegate.index.embedding.price import price_per_token
from tidegate.index.embedding.registry import Embedders
from tidegate.sql import queries

log = logging.getLogger(__name__)

SAMPLE_ROWS = 200
_SAMPLE_S = 2.0
_TIMEOUT_MS = 5000
_WHOLE = 20_000
_PAGES_ROWS = 2000
_MOST_CHARS = 1_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a backfill takes at most: texts that are stored or cached already are not embedded.

    Attributes:
        rows: of the source table; the planner's estimate where the table is large.
        sampled: of these, how many were looked at.
        embedded: whether their texts have to be embedded; False: they are indexed as the plan wants them, and a row
            costs only where it is not in the index.
        usd: None where no price is known.
    """

    model: str
    rows: int
    sampled: int
    embedded: bool
    chunks: int
    tokens: int
    usd: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def sentence(self) -> str:
        """For people."""
        if not self.embedded:
            return f"the texts of {counted(self.rows, 'row')} are as indexed: only what is missing of them is embedded"
        amount = (
            f"embeds at most about {counted(self.tokens, 'token')} in {counted(self.chunks, 'chunk')} of "
            f"{counted(self.rows, 'row')}"
        )
        if self.usd is None:
            return f"{amount}; what {self.model} costs is not known"
        return f"{amount}, {f'${self.usd:,.2f}' if self.usd else 'at no price'}, by {self.model}"


def estimate(connection: Connection, plan: Plan, embedder: Embedder) -> Estimate | None:
    """The estimate of a plan; None where it reads no rows, or the source cannot be sampled."""
    if not plan.backfill and not plan.copies:
        return None
    contract = plan.contract
    here: AbstractContextManager[Connection] = nullcontext(connection)
    dsn = plan.source_dsn if plan.backfill else None
    try:
        with connect(dsn) if dsn is not None else here as source, source.transaction():
            source.execute("SELECT set_config('statement_timeout', %s, true)", [str(_TIMEOUT_MS)])
            rows, documents = _sample(source, contract) if plan.backfill else _copied(source, contract)
    except (psycopg.Error, ConnectionFailed) as error:
        log.warning("no estimate", extra={"product": contract.product, "reason": type(error).__name__})
        return None
    chunks = tokens = sampled = 0
    embedding = contract.embedding
    splitter = embedder.splitter(
        embedding.chunk_tokens, embedding.chunk_overlap, embedding.chunk_min, embedding.chunk_target
    )
    deadline = time.monotonic() + _SAMPLE_S
    for text in documents:
        parts = splitter.chunks(text)
        sampled += 1
        chunks += len(parts)
        tokens += sum(map(splitter.tokens, parts))
        if time.monotonic() > deadline:
            break
    scale = rows / sampled if sampled else 0.0
    price = price_per_token(embedding.model)
    total = round(tokens * scale)
    return Estimate(
        model=embedding.model,
        rows=rows,
        sampled=sampled,
        embedded=_embeds(plan),
        chunks=round(chunks * scale),
        tokens=total,
        usd=None if price is None else round(total * price, 6),
    )


def estimates(connection: Connection, plans: PlanSet, embedders: Embedders) -> dict[str, Estimate]:
    """Those of all plans that read rows, by product."""
    found = {
        plan.contract.product: estimate(connection, plan, embedders.of(plan.contract.embedding.model))
        for plan in plans.changing
    }
    return {product: each for product, each in found.items() if each is not None}


def _embeds(plan: Plan) -> bool:
    old = plan.published
    return (
        old is None
        or any(dropped.startswith("table ") for dropped in plan.drops)
        or (old.embedding, old.source) != (plan.contract.embedding, plan.contract.source)
    )


def _sample(source: Connection, contract: Contract) -> tuple[int, Sequence[str]]:
    """Rows of the table, and documents of some of them."""
    table = sql.Identifier(contract.source.schema, contract.source.table)
    row = source.execute(
        queries("govern")["planned_rows"], {"schema": contract.source.schema, "table": contract.source.table}
    ).fetchone()
    rows = int(row[0]) if row is not None else -1
    few = rows < _WHOLE
    if few:
        counted = source.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
        assert counted is not None
        rows = counted[0]
    names = contract.embedding.document_columns
    statement = sql.SQL("SELECT {columns} FROM {table} {pages} ORDER BY random() LIMIT {most}").format(
        columns=sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names),
        table=table,
        pages=sql.SQL("" if few else "TABLESAMPLE SYSTEM ({})").format(
            sql.Literal(100 * _PAGES_ROWS / max(rows, _WHOLE))
        ),
        most=sql.Literal(SAMPLE_ROWS),
    )
    return rows, [_document(contract, dict(zip(names, each, strict=True))) for each in source.execute(statement)]


def _copied(connection: Connection, contract: Contract) -> tuple[int, Sequence[str]]:
    """Rows of the index that is searched, and documents of some of them, as far as their chunks tell."""
    connection.execute("SET LOCAL ROLE tidegate_worker")
    row = connection.execute(queries("beside")["copied_rows"], {"product": contract.product}).fetchone()
    assert row is not None
    keys = sql.SQL(", ").join(sql.Identifier(column.name) for column in contract.key_columns)
    statement = sql.SQL(
        "WITH picked AS MATERIALIZED (SELECT {keys} FROM {table} {pages} WHERE chunk_no = 0 ORDER BY random() "
        "LIMIT {most}) "
        "SELECT string_agg(c.content, E'\\n\\n' ORDER BY c.chunk_no) FROM {table} AS c JOIN picked USING ({keys}) "
        "GROUP BY {keys}"
    ).format(
        keys=keys,
        table=sql.Identifier(contract.function_schema, contract.table),
        pages=sql.SQL("" if row[1] < _WHOLE else "TABLESAMPLE SYSTEM ({})").format(
            sql.Literal(100 * _PAGES_ROWS / max(row[1], _WHOLE))
        ),
        most=sql.Literal(SAMPLE_ROWS),
    )
    return row[0], [each[0] for each in connection.execute(statement)]


def _document(contract: Contract, values: Mapping[str, str | None]) -> str:
    try:
        return document(contract.embedding, values, _MOST_CHARS)
    except DocumentTooLong:
        return ""

"""The statements that make a product's chunk table, and what belongs to it."""

from collections.abc import Iterator, Mapping
from typing import assert_never

from psycopg import sql

from tidegate.contract.contract import Column, Contract
from tidegate.contract.family import physical_type
from tidegate.contract.identifier import fit
from tidegate.contract.mask import constant_text
from tidegate.govern.membership_function import membership_functions
from tidegate.govern.policies import EMERGENCY, GATEWAY, READER, WORKER, row_visible

Statement = sql.Composed
_INDEXABLE_SUFFIX = "[]"
_INLINE_DIMENSION = 1000
"""Vectors up to here stay in their row's page, where a re-ranking finds them without another look-up.

They have full precision: in half of it the order of near neighbours blurs (a million clustered vectors: recall@10
.98 at most). Indexes have halves and signs, and what these find is ordered by the vectors themselves.
"""


def chunk_table(contract: Contract) -> sql.Identifier:
    """The table `rag_<domain>.<table>`."""
    return sql.Identifier(contract.chunk_schema, contract.table)


def live_function(contract: Contract) -> sql.Identifier:
    """The function that tells whether a source row is there now and the caller may see it."""
    return sql.Identifier(contract.function_schema, live_name(contract))


def live_name(contract: Contract) -> str:
    """Its name in the domain's schema."""
    return fit(f"{contract.table}_live")


def create_schema(contract: Contract) -> Iterator[Statement]:
    """The domain's schema."""
    yield sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION tidegate_owner").format(
        sql.Identifier(contract.chunk_schema)
    )


def create_table(contract: Contract, dimension: int, vector_schema: str) -> Iterator[Statement]:
    """The chunk table, closed before anything is in it: row-level security comes with it, policies after."""
    table = chunk_table(contract)
    yield sql.SQL(
        "CREATE TABLE {table} (\n"
        "    {carried},\n"
        "    chunk_no int NOT NULL,\n"
        "    content text NOT NULL,\n"
        "    content_hash bytea NOT NULL,\n"
        "    embedding {vector}.vector({dimension}) NOT NULL,\n"
        "    {codes},\n"
        "    position pg_lsn[] NOT NULL,\n"
        "    committed_at timestamptz,\n"
        "    indexed_at timestamptz NOT NULL DEFAULT clock_timestamp(),\n"
        "    contract_version text NOT NULL,\n"
        "    PRIMARY KEY ({key}, chunk_no)\n"
        ")"
    ).format(
        table=table,
        carried=sql.SQL(",\n    ").join(_definition(column) for column in contract.carried_columns),
        vector=sql.Identifier(vector_schema),
        dimension=sql.Literal(dimension),
        codes=code_column(dimension, vector_schema),
        key=sql.SQL(", ").join(sql.Identifier(column.name) for column in contract.key_columns),
    )
    yield from inline_vectors(contract, dimension)
    yield sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(table)
    yield sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(table)
    yield sql.SQL("COMMENT ON TABLE {} IS {}").format(
        table, sql.Literal(f"tidegate: chunks of {contract.product}, written by the worker only")
    )
    # The worker writes whole vectors each time; keep dead tuples few so that scans stay short.
    yield sql.SQL(
        "ALTER TABLE {} SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02)"
    ).format(table)
    yield sql.SQL("CREATE POLICY tidegate_worker ON {} FOR ALL TO {} USING (true) WITH CHECK (true)").format(
        table, sql.Identifier(WORKER)
    )
    yield sql.SQL("COMMENT ON POLICY tidegate_worker ON {} IS 'tidegate: the worker writes'").format(table)


def inline_vectors(contract: Contract, dimension: int) -> Iterator[Statement]:
    """Keeps vectors in the table's own pages, where they fit."""
    if dimension <= _INLINE_DIMENSION:
        yield sql.SQL("ALTER TABLE {} ALTER COLUMN embedding SET STORAGE PLAIN").format(chunk_table(contract))


def code_column(dimension: int, vector_schema: str) -> sql.Composed:
    """The signs of the vector's numbers, by which searches find candidates in an index alone."""
    return sql.SQL("codes bit({}) GENERATED ALWAYS AS ({}.binary_quantize(embedding)::bit({})) STORED").format(
        sql.Literal(dimension), sql.Identifier(vector_schema), sql.Literal(dimension)
    )


def add_column(contract: Contract, column: Column) -> Iterator[Statement]:
    """A column that the rules or filters need from now on. The backfill that follows fills it."""
    yield sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(chunk_table(contract), _definition(column))


def drop_column(contract: Contract, name: str) -> Iterator[Statement]:
    """A column that nothing needs any more."""
    yield sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(chunk_table(contract), sql.Identifier(name))


def create_column_index(contract: Contract, column: Column) -> Iterator[Statement]:
    """An index on a carried column, for rules and filters. Keys, masked columns and arrays have none of their own."""
    if column.key_position is None and not column.mask and not column.physical_type.endswith(_INDEXABLE_SUFFIX):
        yield sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} ({})").format(
            sql.Identifier(fit(f"{contract.table}_{column.name}_idx")),
            chunk_table(contract),
            sql.Identifier(column.name),
        )


def functions(contract: Contract) -> Iterator[Statement]:
    """The membership functions and the live check. None where the rows are in another database than the index."""
    for membership in contract.memberships:
        yield membership_functions(contract, membership)
    source = sql.Identifier(contract.source.schema, contract.source.table)
    key = contract.key_columns
    body = sql.SQL("SELECT EXISTS (SELECT FROM {source} AS s WHERE {match} AND {visible})").format(
        source=source,
        match=sql.SQL(" AND ").join(
            sql.SQL("s.{} = ${}").format(sql.Identifier(column.name), sql.Literal(number))
            for number, column in enumerate(key, 1)
        ),
        visible=row_visible(contract, sql.Identifier("s")),
    )
    # The body is a literal, not dollar-quoted: a text in a rule could hold any dollar quote, and end it.
    yield sql.SQL(
        "CREATE OR REPLACE FUNCTION {name}({arguments}) RETURNS boolean\n"
        "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {body}"
    ).format(
        name=live_function(contract),
        arguments=sql.SQL(", ").join(_type(column) for column in key),
        body=sql.Literal(body.as_string(None)),
    )
    yield sql.SQL("COMMENT ON FUNCTION {}({}) IS {}").format(
        live_function(contract),
        sql.SQL(", ").join(_type(column) for column in key),
        sql.Literal(
            f"tidegate {contract.product} {contract.version}: whether the source row is there and "
            "the caller may see it. "
            "Definer, because readers cannot read the source; it says no more than the row's own chunks would."
        ),
    )
    yield from _live_rows(contract)


def _live_rows(contract: Contract) -> Iterator[Statement]:
    """The live check of many rows at once, which resolves the caller once: the places of those that are live."""
    key = contract.key_columns
    names = [sql.Identifier(f"key_{number}") for number, _ in enumerate(key, 1)]
    body = sql.SQL(
        "SELECT a.place::int FROM ROWS FROM (unnest({arrays})) WITH ORDINALITY AS a ({names}, place)\n"
        "WHERE EXISTS (SELECT FROM {source} AS s WHERE {match} AND {visible})"
    ).format(
        arrays=sql.SQL(", ").join(sql.SQL("${}").format(sql.Literal(number)) for number, _ in enumerate(key, 1)),
        names=sql.SQL(", ").join(names),
        source=sql.Identifier(contract.source.schema, contract.source.table),
        match=sql.SQL(" AND ").join(
            sql.SQL("s.{} = a.{}").format(sql.Identifier(column.name), name)
            for column, name in zip(key, names, strict=True)
        ),
        visible=row_visible(contract, sql.Identifier("s")),
    )
    yield sql.SQL(
        "CREATE OR REPLACE FUNCTION {name}({arguments}) RETURNS SETOF int\n"
        "LANGUAGE sql STABLE SECURITY DEFINER ROWS 10 SET search_path = pg_catalog, pg_temp AS {body}"
    ).format(name=live_function(contract), arguments=_key_arrays(contract), body=sql.Literal(body.as_string(None)))
    yield sql.SQL("COMMENT ON FUNCTION {}({}) IS {}").format(
        live_function(contract),
        _key_arrays(contract),
        sql.Literal(
            f"tidegate {contract.product} {contract.version}: the places of the keys whose source rows are there and "
            "the caller may see. Definer, because readers cannot read the source."
        ),
    )


def live_signatures(contract: Contract) -> tuple[Statement, ...]:
    """The live checks with their argument types: of one row, and of many."""
    one = sql.SQL(", ").join(_type(column) for column in contract.key_columns)
    return tuple(sql.SQL("{}({})").format(live_function(contract), types) for types in (one, _key_arrays(contract)))


def grants(contract: Contract, *, live: bool = True) -> Iterator[Statement]:
    """What readers and the worker may do in the domain's schema, and nobody else. `live`: there is a live check."""
    table, schema = chunk_table(contract), sql.Identifier(contract.chunk_schema)
    roles = sql.SQL(", ").join(map(sql.Identifier, (*reading_roles(contract), GATEWAY, EMERGENCY)))
    checks = sql.SQL(", ").join(live_signatures(contract))
    yield sql.SQL("REVOKE ALL ON TABLE {} FROM PUBLIC").format(table)
    if live:
        yield sql.SQL("REVOKE ALL ON FUNCTION {} FROM PUBLIC").format(checks)
    yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, sql.Identifier(WORKER))
    yield sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {}").format(table, sql.Identifier(WORKER))
    yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, roles)
    yield sql.SQL("GRANT SELECT ON {} TO {}").format(table, roles)
    if live:
        yield sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(checks, roles)


def source_types_grant(contract: Contract) -> Statement:
    """Lets the owner of the chunk table name the types of the source's schema (enums), before it is made."""
    return sql.SQL("GRANT USAGE ON SCHEMA {} TO tidegate_owner").format(sql.Identifier(contract.source.schema))


def source_grants(contract: Contract) -> Iterator[Statement]:
    """What the worker and the live check need of the source; granted by who owns it."""
    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in contract.read_columns)
    readers = sql.SQL("tidegate_worker, tidegate_owner")
    yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(contract.source.schema), readers)
    # Only the columns that the contract publishes: not even the worker can read the others.
    yield sql.SQL("GRANT SELECT ({}) ON {} TO {}").format(
        columns, sql.Identifier(contract.source.schema, contract.source.table), readers
    )
    for membership in contract.memberships:
        yield sql.SQL("GRANT USAGE ON SCHEMA {} TO tidegate_owner").format(sql.Identifier(membership.schema))
        yield sql.SQL("GRANT SELECT ({}, {}) ON {} TO tidegate_owner").format(
            sql.Identifier(membership.column),
            sql.Identifier(membership.principal),
            sql.Identifier(membership.schema, membership.table),
        )


def reading_roles(contract: Contract) -> tuple[str, ...]:
    """The roles that some allow rule names, each once."""
    return tuple(dict.fromkeys(role for rule in contract.rules if rule.effect == "allow" for role in rule.to))


def create_role(role: str) -> Iterator[Statement]:
    """A group role that a contract names and the cluster does not have: without members, so it admits nobody."""
    yield sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role))


def admit_reader(role: str) -> Iterator[Statement]:
    """Lets a role use tidegate's functions and views."""
    yield sql.SQL("GRANT {} TO {}").format(sql.Identifier(READER), sql.Identifier(role))


def column_changes(contract: Contract, actual: Mapping[str, str]) -> tuple[list[Column], list[str], list[str]]:
    """Carried columns to add, to drop, and those whose type differs.

    Args:
        actual: carried column → type, as the chunk table has them (format_type).
    """
    wanted = {column.name: column for column in contract.carried_columns}
    added = [column for name, column in wanted.items() if name not in actual]
    dropped = [name for name in actual if name not in wanted]
    return added, dropped, [name for name in wanted if name in actual]


def _definition(column: Column) -> Statement:
    required = sql.SQL(" NOT NULL" if column.key_position is not None else "")
    type_ = sql.SQL(physical_type(column.carried_type))
    return sql.SQL("{} {}{}{}").format(sql.Identifier(column.name), type_, required, _mask_check(column))


def _mask_check(column: Column) -> sql.Composable:
    """The column takes masked values only: a worker that has not heard of the mask yet cannot write a clear one."""
    name, mask = sql.Identifier(column.name), column.mask
    if mask is None:
        return sql.SQL("")
    match mask.kind:
        case "null":
            test = sql.SQL("{} IS NULL").format(name)
        case "hash":
            test = sql.SQL("{} ~ '^[0-9a-f]{{64}}$'").format(name)
        case "partial_email":
            test = sql.SQL("{} ~ '^.?[*]{{3}}(@|$)'").format(name)
        case "last4":
            test = sql.SQL("{} ~ '^[*]{{3}}.{{0,4}}$'").format(name)
        case "constant":
            test = sql.SQL("{} = {}::{}").format(name, sql.Literal(constant_text(mask)), _type(column))
        case _:
            assert_never(mask.kind)
    return sql.SQL(" CHECK ({})").format(test)


def _type(column: Column) -> sql.SQL:
    return sql.SQL(physical_type(column.physical_type))


def _key_arrays(contract: Contract) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(physical_type(column.physical_type) + "[]") for column in contract.key_columns)

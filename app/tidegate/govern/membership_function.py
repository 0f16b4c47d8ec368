"""The functions behind `member(NAME)`."""

from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.contract.family import family
from tidegate.contract.membership import Membership
from tidegate.govern.asker import membership_names
from tidegate.govern.policies import GATEWAY, READER, WORKER

MANY = 3000
"""Above so many memberships of a caller each row is looked up instead of compared with all of them.

Measured over 20,000 rows on Postgres 18, the membership table indexed, 2 cores under other load: comparing costs
4 ns a row and membership (2,000: 158 ms, 3,000: 204, 10,000: 710, 100,000: 8,986), a lookup 11 µs a row however many
there are (2,000: 226 ms, 3,000: 211, 10,000: 272, 100,000: 756). Over 300 rows they meet between 3,000 and 5,000.
"""


def membership_functions(contract: Contract, membership: Membership) -> sql.Composed:
    """The statements that make a membership's six functions: create, comment, revoke, grant.

    Readers call three, which speak of the caller only: all her values as an array (empty for none, NULL for an
    unknown caller), whether these are more than MANY, and whether one value is hers, with the truth of `value = ANY
    (array)`: for a NULL value NULL, but false where she has none. What takes
    the principal is nobody's but the owner's. Definer, because readers have no privilege on the table that they
    read. Their owner needs SELECT on it.

    All of them answer from the statement's own snapshot, and which of the two ways is taken is decided once a
    statement: a membership that changes meanwhile changes neither the way nor the answer. Values are cast to the
    widest type of their family: never an error that tells.
    """
    names = membership_names(contract, membership.name)
    kind = family(contract.column_types[membership.row]).value
    return sql.SQL(
        "CREATE OR REPLACE FUNCTION {all_of}(principal text) RETURNS {type}[]\n"
        "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$\n"
        "SELECT CASE WHEN $1 IS NOT NULL THEN coalesce((\n"
        "    SELECT array_agg({column}::{type}) FROM {table} m\n"
        "    WHERE {principal} = $1 AND {column} IS NOT NULL\n"
        "), '{{}}') END\n"
        "$$;\n"
        "CREATE OR REPLACE FUNCTION {many_of}(principal text) RETURNS boolean\n"
        "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$\n"
        "SELECT count(*) > {limit} FROM (\n"
        "    SELECT FROM {table} m WHERE {principal} = $1 AND {column} IS NOT NULL LIMIT {limit} + 1\n"
        ") AS found\n"
        "$$;\n"
        "CREATE OR REPLACE FUNCTION {has_of}(principal text, value {type}) RETURNS boolean\n"
        "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$\n"
        "SELECT CASE WHEN $1 IS NULL THEN NULL\n"
        "    WHEN $2 IS NOT NULL THEN EXISTS (SELECT FROM {table} m WHERE {principal} = $1 AND {column} = $2)\n"
        "    WHEN NOT EXISTS (SELECT FROM {table} m WHERE {principal} = $1 AND {column} IS NOT NULL) THEN false END\n"
        "$$;\n"
        "CREATE OR REPLACE FUNCTION {all}() RETURNS {type}[]\n"
        "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$\n"
        "SELECT {all_of}(tidegate.principal())\n"
        "$$;\n"
        "CREATE OR REPLACE FUNCTION {many}() RETURNS boolean\n"
        "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$\n"
        "SELECT {many_of}(tidegate.principal())\n"
        "$$;\n"
        # Not by way of the other: this one runs once a row.
        "CREATE OR REPLACE FUNCTION {has}(value {type}) RETURNS boolean\n"
        "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$\n"
        "SELECT CASE WHEN c.name IS NULL THEN NULL\n"
        "    WHEN $1 IS NOT NULL THEN EXISTS (SELECT FROM {table} m WHERE {principal} = c.name AND {column} = $1)\n"
        "    WHEN NOT EXISTS (SELECT FROM {table} m WHERE {principal} = c.name AND {column} IS NOT NULL) THEN false\n"
        "    END\n"
        "FROM (SELECT tidegate.principal() AS name OFFSET 0) AS c\n"
        "$$;\n"
        "COMMENT ON FUNCTION {all_of}(text) IS {comment};\n"
        "COMMENT ON FUNCTION {many_of}(text) IS {comment};\n"
        "COMMENT ON FUNCTION {has_of}(text, {type}) IS {comment};\n"
        "COMMENT ON FUNCTION {all}() IS {comment};\n"
        "COMMENT ON FUNCTION {many}() IS {comment};\n"
        "COMMENT ON FUNCTION {has}({type}) IS {comment};\n"
        "REVOKE ALL ON FUNCTION {all_of}(text), {many_of}(text), {has_of}(text, {type}), "
        "{all}(), {many}(), {has}({type}) FROM PUBLIC;\n"
        "GRANT EXECUTE ON FUNCTION {all}(), {many}(), {has}({type}) TO {readers}"
    ).format(
        all=names.all,
        many=names.many,
        has=names.has,
        all_of=names.all_of,
        many_of=names.many_of,
        has_of=names.has_of,
        type=sql.SQL(kind),
        column=sql.SQL("m.{}{}").format(sql.Identifier(membership.column), sql.SQL("::text" if kind == "text" else "")),
        principal=sql.SQL("m.{}::text").format(sql.Identifier(membership.principal)),
        table=sql.Identifier(membership.schema, membership.table),
        limit=sql.Literal(MANY),
        comment=sql.Literal(
            f"tidegate {contract.product} {contract.version}: member({membership.name}), the rows of the "
            "caller; definer because readers cannot read the table behind it"
        ),
        readers=sql.SQL(", ").join(
            map(
                sql.Identifier,
                dict.fromkeys((READER, WORKER, GATEWAY, *(role for rule in contract.rules for role in rule.to))),
            )
        ),
    )

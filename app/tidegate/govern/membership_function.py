"""The functions behind `member(NAME)`."""

from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.contract.family import physical_type
from tidegate.contract.membership import Membership
from tidegate.govern.asker import membership_name
from tidegate.govern.policies import GATEWAY, READER, WORKER


def membership_functions(contract: Contract, membership: Membership) -> sql.Composed:
    """The statements that make a membership's two functions: create, comment, revoke, grant.

    The one that readers call returns the keys of which the caller is a member: an empty array for none, NULL for
    an unknown caller. The other takes the principal and is nobody's but the owner's. Definer, because readers have
    no privilege on the table that they read; it tells them only their own rows. Their owner needs SELECT on it.
    """
    return sql.SQL(
        "CREATE OR REPLACE FUNCTION {of}(principal text) RETURNS {type}[]\n"
        "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$\n"
        "SELECT CASE WHEN $1 IS NOT NULL THEN coalesce((\n"
        "    SELECT array_agg(m.{column}::{type}) FROM {table} m\n"
        "    WHERE m.{principal}::text = $1 AND m.{column} IS NOT NULL\n"
        "), '{{}}') END\n"
        "$$;\n"
        "CREATE OR REPLACE FUNCTION {name}() RETURNS {type}[]\n"
        "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$\n"
        "SELECT {of}(tidegate.principal())\n"
        "$$;\n"
        "COMMENT ON FUNCTION {of}(text) IS {comment};\n"
        "COMMENT ON FUNCTION {name}() IS {comment};\n"
        "REVOKE ALL ON FUNCTION {of}(text), {name}() FROM PUBLIC;\n"
        "GRANT EXECUTE ON FUNCTION {name}() TO {readers}"
    ).format(
        of=membership_name(contract, membership, of=True),
        name=membership_name(contract, membership),
        type=sql.SQL(physical_type(contract.column_types[membership.row])),
        column=sql.Identifier(membership.column),
        principal=sql.Identifier(membership.principal),
        table=sql.Identifier(membership.schema, membership.table),
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

"""The static SQL of the folder `sql/`: whole files, and named queries (`-- name --`) of a file."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, LiteralString

from psycopg import sql

from tidegate.folder import folder

VECTOR_SCHEMA_TOKEN = "@extschema:vector@"
_NAME = re.compile(r"^-- (\w+) --$", re.MULTILINE)


@cache
def script(name: str) -> LiteralString:
    """The text of `sql/<name>.sql`."""
    return (folder("sql") / f"{name}.sql").read_text(encoding="utf-8")


@cache
def queries(name: str) -> dict[str, LiteralString]:
    """The named queries of `sql/<name>.sql`: each starts with a line `-- its_name --`."""
    parts = _NAME.split(script(name))
    return {parts[i]: parts[i + 1].strip().rstrip(";") for i in range(1, len(parts), 2)}


def with_vector_schema(text: LiteralString, schema: str) -> sql.SQL:
    """`text` with pgvector's schema in place of its token, as in PostgreSQL's own extension scripts."""
    quoted = '"' + schema.replace('"', '""') + '"'
    return sql.SQL(text.replace(VECTOR_SCHEMA_TOKEN, quoted))


def bound(statement: LiteralString, parameters: Mapping[str, Any]) -> sql.Composed:
    """A named query with its parameters written into it as literals, so that a plan shows what runs."""
    parts: list[sql.Composable] = []
    rest: str = statement
    while "%(" in rest:
        before, _, after = rest.partition("%(")
        name, _, rest = after.partition(")s")
        parts += [sql.SQL(before), sql.Literal(parameters[name])]
    return sql.Composed([*parts, sql.SQL(rest)])

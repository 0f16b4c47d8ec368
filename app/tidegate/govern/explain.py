"""Why somebody sees a row, and who can: asked of the database (sql/explain.sql, sql/who_can_see.sql)."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from tidegate.database import Connection
from tidegate.errors import TidegateError, UsageError
from tidegate.govern.named import require_published, require_roles

Json = dict[str, Any]
_PAIR = re.compile(r"([a-z_][a-z0-9_]*)=(.*)", re.DOTALL)


class NotExplained(TidegateError):
    """The question cannot be answered."""


@dataclass(frozen=True, slots=True)
class Seer:
    """One who sees a row. `how`: rule, break-glass, superuser, bypassrls, or token issuer (whose people could).

    `sees`: by plain SQL; `finds`: by a strict search too; both None for issuers.
    """

    role: str
    how: str
    login: bool | None
    rules: list[str]
    sees: bool | None
    finds: bool | None


def parse_key(text: str) -> Any:
    """A key from the command line: `42`, `id=1,region=EU`, or JSON."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    parts = [_PAIR.fullmatch(part.strip()) for part in re.split(r"(?<!\\),", text)]
    if text and all(parts):
        return {part[1]: part[2].replace("\\,", ",") for part in parts if part is not None}
    return text


def explain_role(connection: Connection, principal: str, product: str, key: Any = None) -> Json:
    """What `tidegate.explain_access` says of a role; without `key`: of the product as a whole.

    Raises:
        UnknownName: there is no such role or product.
        UsageError: the key is none of the product.
        NotExplained: the source cannot be read; the login is no administrator.
    """
    with _refusals(connection, product, [principal]):
        return _asked(connection, "SELECT tidegate.explain_access(%s, %s, %s)", [principal, product, _key(key)])


def explain_given(
    connection: Connection, roles: Sequence[str], attributes: Mapping[str, Sequence[str]], product: str, key: Any = None
) -> Json:
    """The same for somebody who has these roles and attributes. Raises as `explain_role`."""
    given = Jsonb({name: list(values) for name, values in attributes.items()})
    parameters = [list(roles), given, product, _key(key)]
    with _refusals(connection, product):
        explained = _asked(connection, "SELECT tidegate.explain_access_as(%s, %s, %s, %s)", parameters)
    require_roles(connection, roles)
    return explained


def explain_claims(connection: Connection, claims: Json, product: str, key: Any = None) -> Json:
    """The same for who comes with a token of these claims. Raises as `explain_role`; NotExplained of the claims."""
    with _refusals(connection, product):
        return _asked(
            connection, "SELECT tidegate.explain_access_with(%s, %s, %s)", [Jsonb(claims), product, _key(key)]
        )


def who_can_see(connection: Connection, product: str, key: Any) -> list[Seer]:
    """All roles that see the row now, and the token issuers whose people could. Raises as `explain_role`."""
    with _refusals(connection, product):
        rows = connection.execute("SELECT * FROM tidegate.who_can_see(%s, %s)", [product, _key(key)]).fetchall()
    return [Seer(*row) for row in rows]


def read_claims(text: str) -> Json:
    """The claims in a file: a JSON object.

    Raises:
        NotExplained: it is none.
    """
    try:
        claims = json.loads(text)
    except ValueError as error:
        raise NotExplained(f"the claims are no JSON: {error}") from None
    if not isinstance(claims, dict):
        raise NotExplained("the claims are no JSON object")
    return claims


def _key(key: Any) -> Jsonb | None:
    return None if key is None else Jsonb(key)


def _asked(connection: Connection, statement: LiteralString, parameters: list[Any]) -> Json:
    row = connection.execute(statement, parameters).fetchone()
    assert row is not None
    explained: Json = row[0]
    return explained


@contextmanager
def _refusals(connection: Connection, product: str, roles: Sequence[str] = ()) -> Iterator[None]:
    """What the database says to the question, in the asker's words."""
    try:
        yield
    except psycopg.OperationalError:
        raise
    except psycopg.errors.InsufficientPrivilege:
        raise NotExplained("only administrators may ask about others: GRANT tidegate_admin TO your login") from None
    except psycopg.Error as error:
        if isinstance(error, psycopg.errors.UndefinedObject):
            require_published(connection, product)
            require_roles(connection, roles, " LOGIN")
        hint = f" {error.diag.message_hint}" if error.diag.message_hint else ""
        kind = UsageError if isinstance(error, psycopg.errors.InvalidParameterValue) else NotExplained
        raise kind(f"{error.diag.message_primary}.{hint}") from None

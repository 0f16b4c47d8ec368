"""A published product with rows in it and people who ask; no pipeline: chunks are written as the worker does."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide
from tests.security.weaken import Weakening

from tidegate.database import Connection, connect
from tidegate.govern.plan import Plan
from tidegate.govern.principals import set_attributes

PASSWORD = "only-for-tests"
VECTOR = "[1" + ",0" * 383 + "]"
ALLOW = {"id": "readers", "effect": "allow", "to": ["note_reader"], "when": "row.region in user.regions"}
_numbers = itertools.count(1)


def contract(*rules: Mapping[str, Any], **parts: Any) -> str:
    """The simple contract with these rules; `parts` replace its top-level parts."""
    document = yaml.safe_load(SIMPLE_CONTRACT) | parts
    named = {role: None for rule in rules for role in rule.get("to", ())} | {"note_reader": None}
    document["roles"] = [{"role": role, "access": "read"} for role in named]
    for extra in document["schema"][0]["customProperties"]:
        if extra["property"] == "rowAccess":
            extra["value"]["rules"] = list(rules)
    return yaml.safe_dump(document, sort_keys=False)


def with_columns(text: str, *columns: Mapping[str, Any]) -> str:
    """The contract with further columns."""
    document = yaml.safe_load(text)
    document["schema"][0]["properties"] += [{"id": column["name"], **column} for column in columns]
    return yaml.safe_dump(document, sort_keys=False)


class World:
    """The product team.note and its people. Roles are the cluster's, so each has a name of its own."""

    def __init__(self, tide: Tide, weakness: Weakening | None = None):
        self.tide = tide
        self.weakness = weakness
        self.admin = tide.admin
        self._roles: list[str] = []
        self._open: list[Connection] = []

    def publish(self, text: str, **options: Any) -> Plan:
        plan = self.tide.apply(text, **options)
        if self.weakness is not None:
            self.weakness.after_publishing(self.admin)
        return plan

    def note(
        self,
        id_: int,
        *,
        region: str | None = "EU",
        source: bool = True,
        content: str | None = None,
        embedding: str = VECTOR,
        **carried: Any,
    ) -> None:
        """A row of the source, and its one chunk, `note <id>`, as the worker would have written it."""
        title = content or f"note {id_}"
        if source:
            self.admin.execute(
                "INSERT INTO team.note (id, title, region, price) VALUES (%s, %s, %s, %s)",
                [id_, title, region or "EU", carried.get("price")],
            )
        values = {"id": id_, "region": region, **carried}
        with self.admin.transaction():
            self.admin.execute("SET LOCAL ROLE tidegate_worker")
            self.admin.execute(
                sql.SQL(
                    "INSERT INTO rag_team.note ({names}, chunk_no, content, content_hash, embedding, position, "
                    "committed_at, contract_version) "
                    "VALUES ({values}, 0, {content}, '', {vector}, '{{0/1,0/1}}', now(), '1.0.0')"
                ).format(
                    names=sql.SQL(", ").join(map(sql.Identifier, values)),
                    values=sql.SQL(", ").join(map(sql.Literal, values.values())),
                    content=sql.Literal(title),
                    vector=sql.Literal(embedding),
                )
            )

    def role(self, name: str, *of: str, **attributes: Sequence[str]) -> str:
        """A login role, member of the roles `of`, with these attributes; gone after the test."""
        unique = f"{name}_{next(_numbers)}"
        self.admin.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(unique), sql.Literal(PASSWORD))
        )
        self._roles.append(unique)
        for group in of:
            self.admin.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(unique)))
        set_attributes(self.admin, unique, attributes)
        return unique

    def dsn(self, role: str) -> str:
        return make_conninfo(self.tide.dsn, user=role, password=PASSWORD)

    def login(self, role: str) -> Connection:
        """A session of this role."""
        opened = connect(self.dsn(role))
        self._open.append(opened)
        return opened

    def as_superuser(self) -> Connection:
        """Another session of the superuser, for SET ROLE to the group roles."""
        opened = connect(self.tide.dsn)
        self._open.append(opened)
        return opened

    def close(self) -> None:
        for opened in self._open:
            opened.close()
        for role in reversed(self._roles):
            self.admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
        for role in reversed(self._roles):
            self.admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.fixture
def weakness(request: pytest.FixtureRequest, tide: Tide, monkeypatch: pytest.MonkeyPatch) -> Weakening | None:
    """How the test's database is weakened; None, as long as `@attack` does not say otherwise."""
    found: Weakening | None = getattr(request, "param", None)
    if found is not None:
        found.prepare(tide.admin, monkeypatch)
    return found


@pytest.fixture
def world(tide: Tide, weakness: Weakening | None) -> Iterator[World]:
    tide.admin.execute(SIMPLE_TABLE)
    made = World(tide, weakness)
    yield made
    made.close()


@pytest.fixture
def published(world: World) -> World:
    """team.note, allowed to note_reader where row.region in user.regions; notes 1 (EU) and 2 (US)."""
    world.publish(contract(ALLOW))
    world.note(1, region="EU")
    world.note(2, region="US")
    return world


def ids(connection: Connection, where: str = "true") -> set[int]:
    """The notes that plain SQL shows."""
    return {row[0] for row in connection.execute(f"SELECT id FROM rag_team.note WHERE {where}")}  # type: ignore[arg-type]


def found(connection: Connection, consistency: str = "strict", products: list[str] | None = None) -> set[int]:
    """The notes that a search shows."""
    rows = connection.execute(
        "SELECT key FROM tidegate.search(query => %s::public.vector, k => 100, products => %s, consistency => %s)",
        [VECTOR, products, consistency],
    )
    return {row[0]["id"] for row in rows}


def seen(connection: Connection) -> set[int]:
    """What the caller sees, the same by all three ways."""
    by_sql = ids(connection)
    assert found(connection, "eventual") == by_sql
    assert found(connection, "strict") == by_sql
    return by_sql

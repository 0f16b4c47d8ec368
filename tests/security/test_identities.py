"""One client, many people: `as_token` and `as_role` for a call, nothing of it for the next."""

import threading

import pytest
from psycopg import sql
from tests.security.conftest import World
from tests.security.gate import Gate

from tidegate.errors import UsageError
from tidegate.index.embedding.registry import Embedders
from tidegate.query.client import Client
from tidegate.settings import Settings


@pytest.fixture
def indexed(published: World) -> World:
    published.admin.execute("UPDATE tidegate.product SET state = 'live'")
    return published


def client(world: World, login: str, embedders: Embedders) -> Client:
    return Client(world.dsn(login), Settings(_env_file=None), embedders=embedders)


def hits(asking: Client) -> set[int]:
    return {hit.key["id"] for hit in asking.search("note")}


def test_as_token(indexed: World, embedders: Embedders) -> None:
    gate = Gate(indexed)
    with client(indexed, gate.login, embedders) as tg:
        assert hits(tg) == set()
        with tg.as_token(gate.token()) as alice, tg.as_token(gate.token(sub="bob", regions=["US"])) as bob:
            assert hits(alice) == {1}
            assert hits(bob) == {2}
            assert hits(alice) == {1}
            assert {citation.key["id"] for citation in alice.ask("note 1").citations} <= {1}
            assert hits(tg) == set()
        with tg.as_token("nonsense") as nobody:
            assert hits(nobody) == set()
            with pytest.raises(UsageError, match="not offered"):
                nobody.search("note", products=["team.note"])
        assert hits(tg) == set()


def test_no_transaction_is_open_while_a_question_is_embedded(indexed: World, embedders: Embedders) -> None:
    gate = Gate(indexed)
    states: list[str] = []

    class Watching(Embedders):
        def of(self, model: str):  # type: ignore[no-untyped-def]
            rows = indexed.admin.execute("SELECT state FROM pg_stat_activity WHERE usename = %s", [gate.login])
            states.extend(row[0] for row in rows)
            return embedders.of(model)

    watching = Watching(Settings(_env_file=None))
    with client(indexed, gate.login, watching) as tg, tg.as_token(gate.token()) as alice:
        assert hits(alice) == {1}
    assert states
    assert "idle in transaction" not in states


def test_as_role(indexed: World, embedders: Embedders) -> None:
    europe = indexed.role("europe", "note_reader", regions=["EU"])
    states = indexed.role("states", "note_reader", regions=["US"])
    service = indexed.role("service", "tidegate_reader")
    for role in (europe, states):
        indexed.admin.execute(
            sql.SQL("GRANT {} TO {} WITH INHERIT FALSE").format(sql.Identifier(role), sql.Identifier(service))
        )
    with client(indexed, service, embedders) as tg:
        assert hits(tg) == set()
        with tg.as_role(europe) as one, tg.as_role(states) as other:
            assert (hits(one), hits(other), hits(one)) == ({1}, {2}, {1})
        assert hits(tg) == set()
        with (
            tg.as_role(indexed.role("stranger", "note_reader")) as stranger,
            pytest.raises(UsageError, match="may not act as"),
        ):
            hits(stranger)
        assert hits(tg) == set()


def test_at_the_same_time(indexed: World, embedders: Embedders) -> None:
    gate = Gate(indexed)
    wrong: list[object] = []

    def ask(region: str, expected: set[int]) -> None:
        with tg.as_token(gate.token(sub=region, regions=[region])) as person:
            for _ in range(10):
                found = hits(person)
                if found != expected:
                    wrong.append((region, found))

    with client(indexed, gate.login, embedders) as tg:
        threads = [threading.Thread(target=ask, args=each) for each in (("EU", {1}), ("US", {2}), ("CA", set())) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_view_ends_with_its_block(indexed: World, embedders: Embedders) -> None:
    gate = Gate(indexed)
    with client(indexed, gate.login, embedders) as tg:
        with tg.as_token(gate.token()) as alice:
            alice.close()  # the client's connections are not the view's
            assert hits(alice) == {1}
        with pytest.raises(UsageError, match="has ended"):
            alice.search("note")
        for text in ("é", "a\0b"):
            with pytest.raises(UsageError, match="no JWT"), tg.as_token(text):
                pass

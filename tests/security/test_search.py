"""What the search function takes and gives: filters, words, several models, similar rows, its own statement."""

from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb
from tests.security.conftest import ALLOW, VECTOR, World, contract, ids

from tidegate.database import Connection


def unit(*values: float) -> str:
    return "[" + ",".join(map(str, (*values, *[0] * (384 - len(values))))) + "]"


def search(connection: Connection, **arguments: Any) -> list[Any]:
    """Hits (key, score, distance, content, consistency) of a search with these arguments."""
    named = ", ".join(
        f"{name} => %({name})s" + {"query": "::public.vector", "filter": "::jsonb"}.get(name, "") for name in arguments
    )
    statement = f"SELECT key ->> 'id', score, distance, content, consistency FROM tidegate.search({named})"
    return connection.execute(statement, arguments).fetchall()  # type: ignore[arg-type]


def found(connection: Connection, **arguments: Any) -> list[int]:
    return [int(row[0]) for row in search(connection, **arguments)]


NARROWING: list[tuple[Any, set[int]]] = [
    ({"price": 3}, {13}),
    ({"price": [3, 4, 99]}, {13, 14}),
    ({"price": {"gte": 7, "lt": 9}}, {17, 18}),
    ({"price": {"gt": "7.5"}}, {18, 19}),
    ({"price": None}, {1}),
    ({"price": [None, 5]}, {1, 15}),
    ({"price": {"not": None}, "region": "EU"}, set(range(10, 20))),
    ({"price": {"ne": 3, "lte": 4}}, {10, 11, 12, 14}),
    ({"price": []}, set()),
    ({"region": ["US"]}, set()),
    ({}, {1, *range(10, 20)}),
]
REFUSED: list[tuple[Any, str]] = [
    ({"title": "x"}, r"offers no such column"),
    ({"secret": "x"}, r"offers no such column"),
    ({"contract_version": "x"}, r"offers no such column"),
    ({'price" IS NULL OR true --': 1}, r"offers no such column"),
    ({"price": "many"}, r'"many" is no numeric of'),
    ({"price": True}, r"true is no numeric"),
    ({"price": {"gte": None}}, r"null is no numeric"),
    ({"price": [[1]]}, r"\[1\] is no numeric"),
    ({"price": {"near": 3}}, r'there is no test "near"'),
    ({"region": 5}, r"5 is no text"),
    ([1], r"filter is"),
]
EVIL = ["EU' OR true --", "EU'; DROP TABLE rag_team.note; --", "\\' OR 1=1", '{EU"}', "%s", "$1", "'"]
ARGUMENTS: dict[str, Any] = {"query": VECTOR, "query_text": "number", "k": 5, "filter": '{"price": {"lt": 100}}'}
SENSELESS: list[tuple[dict[str, Any], str]] = [
    ({}, "nothing to search for"),
    ({"query": unit(0)}, "is zero"),
    ({"query_text": "x", "k": 0}, "k is 0"),
    ({"query_text": "x", "consistency": None}, "consistency is"),
    ({"query": VECTOR, "vectors": Jsonb({"m": [1]})}, "both given"),
    ({"vectors": Jsonb([1])}, "vectors is no object"),
    ({"vectors": Jsonb({"m": [1]}), "products": ["team.note"]}, 'vectors has none of model "local/all-minilm-l6-v2"'),
    ({"vectors": Jsonb({"local/all-minilm-l6-v2": [1]})}, "has 1 dimensions"),
    ({"vectors": Jsonb({"local/all-minilm-l6-v2": ["1"]})}, "no list of numbers"),
    ({"query": "[1,2]", "products": ["team.note"]}, "has 2 dimensions"),
    ({"query": "[1,2]"}, "has 2 dimensions, no product that you may search has so many"),
    ({"query": "[1,2]", "query_text": "x"}, "has 2 dimensions, no product"),
    ({"vectors": Jsonb({"m": [1]})}, "vectors has no model of a product"),
]


@pytest.fixture
def notes(published: World) -> World:
    """Further notes, 10 to 19 (EU), with prices 0 to 9 and vectors that turn away from the first axis one by one."""
    for number in range(10):
        published.note(
            10 + number, price=number, embedding=unit(10 - number, number), content=f"number {number} of ten"
        )
    return published


@pytest.fixture
def reader(notes: World) -> Connection:
    return notes.login(notes.role("reader", "note_reader", regions=["EU"]))


class TestFilters:
    def test_narrow(self, reader: Connection) -> None:
        for filter, expected in NARROWING:
            self.narrows(reader, filter, expected)

    def narrows(self, reader: Connection, filter: Any, expected: set[int]) -> None:
        assert set(found(reader, query=VECTOR, k=50, filter=Jsonb(filter))) == expected
        assert set(found(reader, query_text="note or number", k=50, filter=Jsonb(filter))) == expected

    def test_what_is_not_offered_is_refused(self, reader: Connection) -> None:
        for filter, message in REFUSED:
            self.refuses(reader, filter, message)

    def refuses(self, reader: Connection, filter: Any, message: str) -> None:
        with pytest.raises(psycopg.Error, match=message) as caught:
            search(reader, query=VECTOR, filter=Jsonb(filter))
        if "offers no such" in message:
            assert caught.value.diag.message_hint == (
                "It offers: region (text), price (numeric). "
                "To offer another, give its column tags: [filter] in the contract, and apply that."
            )

    def test_values_stay_values(self, notes: World, reader: Connection) -> None:
        for evil in EVIL:
            assert found(reader, query=VECTOR, filter=Jsonb({"region": evil})) == []
            assert set(found(reader, query=VECTOR, filter=Jsonb({"region": [evil, "EU"]}), k=50)) == {1, *range(10, 20)}
            assert set(found(reader, query_text=evil + " number", k=50)) <= {1, *range(10, 20)}
        assert set(ids(reader)) == {1, *range(10, 20)}


class TestWords:
    def test_alone(self, reader: Connection) -> None:
        rows = search(reader, query_text="seven or ten number")
        assert {row[0] for row in rows} == {str(number) for number in range(10, 20)}
        assert all(row[2] is None and row[1] > 0 for row in rows)

    def test_nothing_is_found_by_a_word_that_is_nowhere(self, reader: Connection) -> None:
        assert search(reader, query_text="zebra") == []
        assert search(reader, query_text="") == []

    def test_both_are_fused(self, reader: Connection) -> None:
        """By vector 10 is before 11 and so on; the word brings one to the front."""
        rows = search(reader, query=unit(1), query_text='"number 6"', k=50)
        assert rows[0][0] == "16"
        assert len(rows) == 11
        assert [row[1] for row in rows] == sorted((row[1] for row in rows), reverse=True)
        assert all(row[1] <= 1 and row[2] is not None for row in rows)

    def test_the_rules_hold(self, notes: World, reader: Connection) -> None:
        notes.note(30, region="US", content="the zebra crosses")
        assert search(reader, query_text="zebra") == []
        assert "30" not in {row[0] for row in search(reader, query=VECTOR, query_text="zebra", k=100)}


class TestSimilar:
    def similar(self, connection: Connection, id_: Any, *arguments: Any) -> list[int]:
        statement = (
            "SELECT key ->> 'id' FROM tidegate.similar('team.note', %s, "
            + ", ".join(["%s"] * (1 + len(arguments)))
            + ")"
        )
        return [int(row[0]) for row in connection.execute(statement, [Jsonb(id_), 3, *arguments])]  # type: ignore[arg-type]

    def test_without_the_row_itself(self, reader: Connection) -> None:
        assert self.similar(reader, {"id": 17}) == [18, 16, 19]
        assert self.similar(reader, 17) == [18, 16, 19]
        assert self.similar(reader, 17, ["team.note"], Jsonb({"price": {"lt": 5}})) == [14, 13, 12]

    def test_of_a_hidden_row_as_of_one_that_is_not_there(self, notes: World, reader: Connection) -> None:
        messages = []
        for id_ in (2, 777):
            with pytest.raises(psycopg.Error) as caught:
                self.similar(reader, id_)
            messages.append((caught.value.diag.message_primary or "").replace(f'"id": {id_}', "ID"))
        assert messages[0] == messages[1]
        notes.admin.execute("DELETE FROM team.note WHERE id = 17")
        with pytest.raises(psycopg.Error, match="has no row"):
            self.similar(reader, 17)
        assert self.similar(reader, 17, None, None, "eventual") == [18, 16, 19]

    def test_a_key_that_is_none(self, reader: Connection) -> None:
        for key in ({"id": "x"}, {"no": 1}, {"id": 1, "no": 2}, None):
            with pytest.raises(psycopg.Error, match="does not fit"):
                self.similar(reader, key)


class TestStatement:
    def test_runs_by_itself_and_finds_the_same(self, reader: Connection) -> None:
        for names in (("query",), ("query_text",), ("query", "query_text"), tuple(ARGUMENTS)):
            for consistency in ("strict", "eventual"):
                self.is_the_same(reader, {name: ARGUMENTS[name] for name in names} | {"consistency": consistency})

    def is_the_same(self, reader: Connection, given: dict[str, Any]) -> None:
        named = ", ".join(f"{name} => %({name})s" + ("::public.vector" if name == "query" else "") for name in given)
        (statement,) = reader.execute(f"SELECT tidegate.search_statement({named})", given).fetchone() or ("",)  # type: ignore[arg-type]
        reader.execute("EXPLAIN " + statement)
        direct = reader.execute(statement).fetchall()
        assert direct == reader.execute(f"SELECT * FROM tidegate.search({named})", given).fetchall()  # type: ignore[arg-type]
        assert len(direct) == given.get("k", 10)
        assert {row[8] for row in direct} == {given["consistency"]}

    def test_the_entitlement_is_in_it_as_a_literal(self, reader: Connection) -> None:
        (statement,) = reader.execute("SELECT tidegate.search_statement(query_text => 'x')").fetchone() or ("",)
        assert """"t"."region" = ANY (('{EU}'::text[])::text[])""" in statement

    def test_of_nobody(self, notes: World) -> None:
        nobody = notes.login(notes.role("nobody", "tidegate_reader"))
        (statement,) = nobody.execute("SELECT tidegate.search_statement(query_text => 'x')").fetchone() or ("",)
        assert nobody.execute(statement).fetchall() == []


class TestArguments:
    def test_that_make_no_sense(self, reader: Connection) -> None:
        for given, message in SENSELESS:
            with pytest.raises(psycopg.Error, match=message):
                search(reader, **given)

    def test_the_vector_by_model(self, reader: Connection) -> None:
        vectors = Jsonb({"local/all-minilm-l6-v2": [1, *[0] * 383], "other/model": [1]})
        assert found(reader, vectors=vectors) == found(reader, query=VECTOR)


class TestElsewhere:
    def test_a_source_on_another_server_is_eventual_and_says_so(self, notes: World, reader: Connection) -> None:
        notes.admin.execute("UPDATE tidegate.product SET source_server = 'far'; DELETE FROM team.note WHERE id = 1")
        rows = search(reader, query=VECTOR, consistency="strict")
        assert {row[4] for row in rows} == {"eventual"}
        assert "1" in {row[0] for row in rows}


def test_an_earlier_hit_gains_its_score(notes: World) -> None:
    from tidegate.govern.control_schema import install_functions

    notes.admin.execute("ALTER TYPE tidegate.hit DROP ATTRIBUTE score")
    with notes.admin.transaction():
        install_functions(notes.admin)
    assert search(notes.admin, query=VECTOR, consistency="eventual")[0][1] == 1.0


def test_rows_that_no_rule_but_the_database_shows(notes: World) -> None:
    """Superusers, the worker, and policies of others: row-level security wins, the literals do not hide."""
    everything = {1, 2, *range(10, 20)}
    assert set(found(notes.admin, query=VECTOR, k=100, consistency="eventual")) == everything
    other = notes.role("other", "note_reader")
    notes.admin.execute(f"CREATE POLICY of_theirs ON rag_team.note TO {other} USING (price < 2)")
    session = notes.login(other)
    assert set(found(session, query=VECTOR, k=100, consistency="eventual")) == {10, 11} == ids(session)


def test_two_models_need_two_vectors(notes: World) -> None:
    notes.admin.execute("CREATE TABLE team.memo AS TABLE team.note; ALTER TABLE team.memo ADD PRIMARY KEY (id)")
    text = contract(ALLOW).replace("team.note", "team.memo").replace("physicalName: note", "physicalName: memo")
    notes.publish(text.replace("name: note\n", "name: memo\n").replace("id: 3b0d7a52", "id: 4b0d7a52"))
    notes.admin.execute("UPDATE tidegate.product SET model = 'other/model' WHERE product = 'team.memo'")
    reader = notes.login(notes.role("reader", "note_reader", regions=["EU"]))
    with pytest.raises(psycopg.Error, match="several models: local/all-minilm-l6-v2, other/model") as caught:
        search(reader, query=VECTOR)
    assert "vectors" in (caught.value.diag.message_hint or "")
    assert found(reader, query=VECTOR, k=1, products=["team.note"]) in ([1], [10])
    vector = [1, *[0] * 383]
    both = Jsonb({"local/all-minilm-l6-v2": vector, "other/model": vector})
    assert found(reader, vectors=both, k=1) in ([1], [10])
    # The other model keeps all texts within .3 of each other: what is .15 away there is half-way to anything.
    chunk = "UPDATE rag_team.{} SET embedding = %s::public.vector"
    notes.admin.execute(sql.SQL(chunk).format(sql.Identifier("note")), [unit(76, 65)])  # .24
    notes.admin.execute(
        "INSERT INTO rag_team.memo (id, region, chunk_no, content, content_hash, embedding, position, contract_version) "
        "VALUES (1, 'EU', 0, 'c', '', %s::public.vector, '{0/1,0/1}', '1')",
        [unit(85, 53)],  # .15
    )
    first = "SELECT product, round(score::numeric, 1)::text FROM tidegate.search(vectors => %s, k => 1)"
    assert reader.execute(first, [both]).fetchall() == [("team.memo", "0.8")]
    notes.admin.execute(
        "INSERT INTO tidegate.model_scale VALUES ('local/all-minilm-l6-v2', .96, 100), ('other/model', .3, 100)"
    )
    assert reader.execute(first, [both]).fetchall() == [("team.note", "0.7")]
    assert reader.execute(first, [Jsonb({"other/model": vector})]).fetchall() == [("team.memo", "0.8")]

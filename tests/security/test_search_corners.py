"""What a hostile reader of the query engine found: names, sizes, several products, and policies that are not tidegate's."""

from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.types.json import Jsonb
from tests.security.conftest import ALLOW, VECTOR, World, contract, ids, with_columns
from tests.security.test_search import found, search, unit
from tests.security.test_search_plans import fill, keep_up

from tidegate.database import Connection

_SMALL = "UPDATE tidegate.search_limits SET exact_rows = 100, code_rows = 1000, reranked = 300"
_CHUNK = (
    "INSERT INTO rag_team.{} (id, region, chunk_no, content, content_hash, embedding, position, contract_version) "
    "VALUES (%s, 'EU', %s, 'c', '', %s::public.vector, '{{0/1,0/1}}', '1')"
)


def _column(name: str, type_: str, **more: Any) -> dict[str, Any]:
    kinds = {"numeric": "number", "int": "integer", "bigint": "integer"}
    return {"name": name, "logicalType": kinds.get(type_, "string"), "physicalType": type_, **more}


def _reader(world: World, region: str = "EU") -> Connection:
    return world.login(world.role("reader", "note_reader", regions=[region]))


class TestFilters:
    """A value is compared as it is, not as the column would store it."""

    @pytest.mark.parametrize(
        ("test", "expected"), [({"gt": 9.995}, [10]), (10.004, []), ({"lte": 9.996}, []), ({"lt": 1e12}, [10])]
    )
    def test_numbers_are_not_rounded(self, published: World, test: Any, expected: list[int]) -> None:
        published.note(10, price=10)
        assert found(_reader(published), query=VECTOR, k=50, filter=Jsonb({"price": test})) == expected

    def test_texts_are_not_cut(self, world: World) -> None:
        world.admin.execute("ALTER TABLE team.note ADD code varchar(2), ADD sign char(4)")
        columns = (_column("code", "varchar(2)", tags=["filter"]), _column("sign", "char(4)", tags=["filter"]))
        world.publish(with_columns(contract(ALLOW), *columns))
        world.note(1, code="EU", sign="abcd")
        reader = _reader(world)
        assert found(reader, query=VECTOR, filter=Jsonb({"code": "EU", "sign": "abcd"})) == [1]
        assert found(reader, query=VECTOR, filter=Jsonb({"code": "EUROPE"})) == []
        assert found(reader, query=VECTOR, filter=Jsonb({"sign": "abcdefg"})) == []


class TestNames:
    """Columns may have the names that tidegate's own queries use."""

    def test_carried(self, world: World) -> None:
        world.admin.execute("ALTER TABLE team.note ADD weight numeric, ADD place text, ADD number int")
        rule = ALLOW | {"when": "row.region in user.regions and (row.number is null or row.place is null)"}
        columns = (_column("weight", "numeric", tags=["filter"]), _column("number", "int"), _column("place", "text"))
        world.publish(with_columns(contract(rule), *columns))
        fill(world)
        keep_up(world)
        assert world.tide.rows("SELECT jsonb_array_length(groups) > 0 FROM tidegate.access_statistics") == [(True,)]
        world.admin.execute(_SMALL)
        assert len(found(_reader(world, "wide"), query=unit(1), k=5)) == 5
        assert found(_reader(world, "wide"), query=unit(1), k=5, filter=Jsonb({"weight": 1})) == []

    @pytest.mark.parametrize("name", ["distance", "rank", "vector", "key", "n", "branch", "score"])
    def test_of_keys(self, world: World, name: str) -> None:
        column = sql.Identifier(name)
        world.admin.execute(
            sql.SQL(
                "CREATE TABLE team.memo (id bigint, {0} bigint, title text, body text, region text, price numeric(10,2), "
                "secret text, PRIMARY KEY (id, {0}))"
            ).format(column)
        )
        memo = contract(ALLOW).replace("team.note", "team.memo").replace("name: note\n", "name: memo\n")
        key = _column(name, "bigint", id="second", primaryKey=True, primaryKeyPosition=2, required=True)
        world.publish(with_columns(memo.replace("physicalName: note", "physicalName: memo"), key))
        world.admin.execute(
            sql.SQL("INSERT INTO team.memo (id, {}, region) VALUES (1, 1, 'EU'), (1, 2, 'EU')").format(column)
        )
        world.admin.execute(
            sql.SQL(
                "INSERT INTO rag_team.memo "
                "(id, {}, region, chunk_no, content, content_hash, embedding, position, contract_version) "
                "SELECT 1, n, 'EU', 0, 'zebra', '', %s::public.vector, '{{0/1,0/1}}', '1' FROM generate_series(1, 2) n"
            ).format(column),
            [VECTOR],
        )
        reader = _reader(world)
        assert len(search(reader, query=VECTOR)) == 2
        assert len(search(reader, query_text="zebra")) == 2
        assert len(search(reader, query=VECTOR, query_text="zebra")) == 2
        alike = reader.execute("SELECT key FROM tidegate.similar('team.memo', %s)", [Jsonb({"id": 1, name: 1})])
        assert alike.fetchall() == [({"id": 1, name: 2},)]
        world.admin.execute("UPDATE tidegate.search_limits SET exact_rows = 0, code_rows = 0")
        assert len(search(reader, query=VECTOR)) == 2


class TestSeveralProducts:
    """What is far away in another product is no reason to leave out what is nearer in this one."""

    @pytest.fixture
    def two(self, published: World) -> World:
        published.admin.execute("CREATE TABLE team.memo (LIKE team.note INCLUDING ALL)")
        memo = contract(ALLOW).replace("team.note", "team.memo").replace("name: note\n", "name: memo\n")
        published.publish(memo.replace("physicalName: note", "physicalName: memo").replace("3b0d7a52", "3b0d7a53"))
        published.admin.execute("DELETE FROM rag_team.note")
        published.admin.execute("INSERT INTO team.memo (id, title) SELECT n, 'x' FROM generate_series(1, 20) n")
        for id_ in range(1, 21):
            self.chunk(published, "memo", id_, 0, unit(100, 500))
        published.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'x' FROM generate_series(201, 205) n")
        for id_ in range(201, 206):
            self.chunk(published, "note", id_, 0, unit(100, 10))
        return published

    def chunk(self, world: World, table: str, id_: int, number: int, vector: str) -> None:
        world.admin.execute(sql.SQL(_CHUNK).format(sql.Identifier(table)), [id_, number, vector])

    def products(self, reader: Connection) -> list[str]:
        return [row[0] for row in reader.execute(
            "SELECT product FROM tidegate.search(query => %(query)s::public.vector, k => 5)",
            {"query": unit(1)},
        ).fetchall()]  # fmt: skip

    def test_a_row_of_many_near_chunks(self, two: World) -> None:
        two.admin.execute("INSERT INTO team.note (id, title) VALUES (100, 'x')")
        for number in range(60):
            self.chunk(two, "note", 100, number, unit(100, 1))
        assert self.products(_reader(two)) == ["team.note"] * 5

    def test_many_near_rows_that_are_gone(self, two: World) -> None:
        for id_ in range(300, 360):
            self.chunk(two, "note", id_, 0, unit(100, 1))
        assert self.products(_reader(two)) == ["team.note"] * 5


class TestOthersPolicies:
    """Policies that tidegate did not make hold for words, too, and open no figures."""

    def test_a_restrictive_one(self, published: World) -> None:
        published.note(30, content="secret zebra")
        published.admin.execute(
            "CREATE POLICY mine ON rag_team.note AS RESTRICTIVE FOR SELECT TO note_reader USING (id <> 30)"
        )
        reader = _reader(published)
        assert ids(reader) == {1}
        assert search(reader, query_text="zebra") == []
        assert reader.execute("SELECT FROM tidegate.find_words('team.note', 'zebra', NULL, 10)").fetchall() == []

    def test_a_permissive_one(self, published: World) -> None:
        published.admin.execute("CREATE POLICY mine ON rag_team.note FOR SELECT TO note_reader USING (region = 'US')")
        reader = _reader(published)
        assert ids(reader) == {1, 2}
        assert {row[0] for row in search(reader, query=VECTOR, consistency="eventual")} == {"1", "2"}
        assert {row[0] for row in search(reader, query_text="note", consistency="eventual")} == {"1", "2"}

    def test_one_for_somebody_else_tells_no_counts(self, world: World) -> None:
        world.publish(contract(ALLOW))
        fill(world)
        keep_up(world)
        world.admin.execute(_SMALL)
        world.admin.execute("CREATE POLICY mine ON rag_team.note FOR SELECT TO pg_monitor USING (true)")
        counted = _reader(world, "few").execute(
            "SELECT visible FROM tidegate.search_scope('{team.note}', '{\"region\": \"wide\"}')"
        )
        assert counted.fetchall() == [(0.0,)]


class TestFilterOverProducts:
    """Without names, products that lack a filter's column have no row that fits; an unknown column is still an error."""

    @pytest.fixture
    def two_kinds(self, published: World) -> World:
        published.admin.execute("CREATE TABLE team.memo (LIKE team.note INCLUDING ALL)")
        memo = yaml.safe_load(contract(ALLOW))
        memo |= {"name": "team.memo", "id": "memo"}
        memo["schema"][0] |= {"name": "memo", "physicalName": "memo"}
        for column in memo["schema"][0]["properties"]:
            column.pop("tags", None)
        published.publish(yaml.safe_dump(memo, sort_keys=False))
        return published

    def test_the_others_are_left_out(self, two_kinds: World) -> None:
        reader = _reader(two_kinds)
        assert found(reader, query=VECTOR, filter=Jsonb({"region": "EU"})) == [1]
        with pytest.raises(psycopg.errors.UndefinedColumn, match='product "team.memo" offers no such column'):
            search(reader, query=VECTOR, products=["team.memo"], filter=Jsonb({"region": "EU"}))

    def test_a_column_that_none_has(self, two_kinds: World) -> None:
        with pytest.raises(psycopg.errors.UndefinedColumn, match="offers no such column"):
            search(_reader(two_kinds), query=VECTOR, filter=Jsonb({"regin": "EU"}))


def test_filters_of_other_types(world: World) -> None:
    """Enums, uuids and times, as their columns compare them."""
    world.admin.execute(
        "CREATE TYPE team.mood AS ENUM ('low', 'high'); "
        "ALTER TABLE team.note ADD mark uuid, ADD mood team.mood, ADD at timestamptz, ADD day date"
    )
    columns = (
        _column("mark", "uuid", tags=["filter"]),
        _column("mood", "team.mood", tags=["filter"]),
        {**_column("at", "timestamptz", tags=["filter"]), "logicalType": "timestamp"},
        {**_column("day", "date", tags=["filter"]), "logicalType": "date"},
    )
    world.publish(with_columns(contract(ALLOW), *columns))
    mark = "3b0d7a52-0000-4000-8000-000000000001"
    world.note(1, mark=mark, mood="high", at="2026-03-01 12:00+02", day="2026-03-01")
    world.note(2)
    reader = _reader(world)
    for filter, expected in (
        ({"mark": mark.upper()}, [1]),
        ({"mark": [mark, None]}, [1, 2]),
        ({"mood": "high"}, [1]),
        ({"mood": ["low"]}, []),
        ({"mood": "none"}, []),
        ({"at": "2026-03-01T10:00:00Z"}, [1]),
        ({"at": {"gte": "2026-03-01 10:00", "lt": "2026-03-01 10:01"}}, [1]),
        ({"day": {"gte": "2026-03-01"}}, [1]),
        ({"day": None}, [2]),
    ):
        assert sorted(found(reader, query=VECTOR, filter=Jsonb(filter))) == expected, filter
        assert sorted(found(reader, query_text="note", filter=Jsonb(filter))) == expected, filter
    for filter in ({"mark": "x"}, {"at": "soon"}, {"day": 3}):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            search(reader, query=VECTOR, filter=Jsonb(filter))


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_in_a_transaction_that_sees_one_moment(published: World, level: str) -> None:
    """What was true when it began, whatever is deleted meanwhile."""
    reader = _reader(published)
    with reader.transaction():
        reader.execute(f"SET TRANSACTION ISOLATION LEVEL {level} READ ONLY")  # type: ignore[arg-type]
        assert found(reader, query=VECTOR, query_text="note") == [1]
        published.admin.execute("DELETE FROM team.note WHERE id = 1")
        assert found(reader, query=VECTOR) == [1]
    assert found(reader, query=VECTOR) == []

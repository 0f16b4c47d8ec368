"""Which index a search goes by, for who may see much and little, and that it finds what brute force finds."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from tests.security.conftest import ALLOW, World, contract
from tests.security.test_search import search, unit

from tidegate.database import Connection, register_vectors
from tidegate.index.model_scale import measure_scales
from tidegate.index.product import indexes
from tidegate.index.upkeep import keep

SHARES = {"wide": 0.5, "some": 0.1, "few": 0.02}
ROWS = 4000


def fill(world: World, rows: int = ROWS) -> None:
    """Rows whose vectors point all ways, in regions of these shares; each has its source row."""
    chosen = random.Random(1)
    regions = chosen.choices([*SHARES, "rest"], [*SHARES.values(), 1 - sum(SHARES.values())], k=rows)
    vectors = [unit(*(chosen.gauss(0, 1) for _ in range(20))) for _ in range(rows)]
    world.admin.execute(
        "INSERT INTO team.note (id, title, region, price) SELECT n, 'note', r, n %% 10 FROM unnest(%s::text[]) WITH ORDINALITY AS x (r, n)",
        [regions],
    )
    world.admin.execute(
        "INSERT INTO rag_team.note (id, region, price, chunk_no, content, content_hash, embedding, position, contract_version) "
        "SELECT n, r, n %% 10, 0, 'note ' || n, '', v::public.vector, '{0/1,0/1}', '1.0.0' "
        "FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS x (r, v, n)",
        [regions, vectors],
    )
    world.admin.execute("UPDATE tidegate.product SET state = 'live'")


def keep_up(world: World) -> list[str]:
    """The worker's upkeep, with an HNSW index from 1,000 chunks on."""
    # Commits that are not on disk yet keep pages from being known as all-visible; counts are sent when a session idles.
    world.admin.execute("SELECT pg_stat_force_next_flush()")
    world.admin.execute("CHECKPOINT")
    world.admin.execute("VACUUM (ANALYZE) rag_team.note, team.note")
    owner, worker = world.as_superuser(), world.as_superuser()
    owner.execute("SET ROLE tidegate_owner")
    worker.execute("SET ROLE tidegate_worker")
    return keep(owner, worker, indexes(worker, world.tide.embedders), 1000)


@pytest.fixture
def many(world: World) -> World:
    world.publish(contract(ALLOW))
    fill(world)
    keep_up(world)
    # As for a product a hundred times as large.
    world.admin.execute("UPDATE tidegate.search_limits SET exact_rows = 100, code_rows = 1000, reranked = 300")
    return world


def plan(connection: Connection, **arguments: Any) -> str:
    """EXPLAIN of the search's statement."""
    named = ", ".join(f"{name} => %({name})s" + ("::public.vector" if name == "query" else "") for name in arguments)
    (statement,) = connection.execute(f"SELECT tidegate.search_statement({named})", arguments).fetchone() or ("",)  # type: ignore[arg-type]
    return "\n".join(row[0] for row in connection.execute("EXPLAIN (COSTS OFF) " + statement))


def test_plans(many: World) -> None:
    """Who sees much: HNSW. Some: the codes, from the index alone. Few: all distances."""
    for regions, index, other in (
        (["wide"], "note_embedding_hnsw", "note_access"),
        (["wide", "some", "few", "rest"], "note_embedding_hnsw", "note_access"),
        (["some"], "Index Only Scan using note_access", "note_embedding_hnsw"),
        (["few"], "note_region_idx", "note_embedding_hnsw"),
    ):
        reader = many.login(many.role("reader", "note_reader", regions=regions))
        shown = plan(reader, query=unit(1))
        assert index in shown, (regions, shown)
        assert other not in shown, (regions, shown)
        assert "Filter" in shown, "row-level security is in it, too"


def test_a_large_graph_is_searched_more_widely(many: World) -> None:
    """A search of few candidates may end in the wrong place there."""
    reader = many.login(many.role("reader", "note_reader", regions=["wide"]))
    for chunks, limit, wanted in ((400_000, 400, 400), (600_000, 400, 800), (600_000, 700, 1000)):
        many.admin.execute("UPDATE pg_class SET reltuples = %s WHERE oid = 'rag_team.note'::regclass", [chunks])
        many.admin.execute("UPDATE tidegate.search_limits SET ef_search = %s", [limit])
        asked = "SELECT path, ef_search FROM tidegate.search_scope('{team.note}')"
        assert reader.execute(asked).fetchone() == ("hnsw", wanted)


def test_filters_count_in_the_plan(many: World) -> None:
    reader = many.login(many.role("reader", "note_reader", regions=["wide"]))
    assert "note_embedding_hnsw" in plan(reader, query=unit(1))
    shown = plan(reader, query=unit(1), filter='{"price": 3}')
    assert "Index Only Scan using note_access" in shown


def test_words_are_found_by_their_index(many: World) -> None:
    """As the definer function runs it: the plan is the owner's, under the table's policies."""
    many.admin.execute("ANALYZE tidegate.chunk_words")
    reader = many.login(many.role("reader", "note_reader", regions=["wide", "rest", "some", "few"]))
    assert search(reader, query_text="note 77", k=5)[0][0] == "77"
    many.admin.execute("SET ROLE tidegate_owner")
    shown = "\n".join(
        row[0]
        for row in many.admin.execute(
            "EXPLAIN SELECT FROM tidegate.chunk_words w JOIN rag_team.note t ON t.id = (w.key ->> 'id')::bigint AND t.chunk_no = w.chunk_no "
            "WHERE w.relation = 'rag_team.note'::regclass AND w.words @@ '77'::tsquery AND t.region = 'wide'"
        )
    )
    many.admin.execute("RESET ROLE")
    assert "Bitmap Index Scan on chunk_words_words" in shown


def test_upkeep_does_nothing_twice_and_follows_the_rules(many: World) -> None:
    assert keep_up(many) == []
    many.publish(contract({**ALLOW, "when": "row.price = user.price and row.region in user.regions"}))
    done = keep_up(many)
    assert "index note_access of rag_team.note" in done
    definition = many.tide.one("SELECT pg_get_indexdef('rag_team.note_access'::regclass)")
    assert "(price, region) INCLUDE (id, chunk_no, codes)" in definition
    many.admin.execute("DELETE FROM rag_team.note WHERE id % 5 = 0")
    assert any(line.startswith("statistics") for line in keep_up(many))


def test_too_few_are_repaired(many: World) -> None:
    """Statistics that are wrong by far: HNSW is asked for two rows among thousands, and the search is still whole."""
    many.admin.execute('UPDATE tidegate.access_statistics SET shares = \'{"region": {"lone": 1}}\'')
    many.admin.execute("UPDATE rag_team.note SET region = 'lone' WHERE id IN (17, 3017)")
    many.admin.execute("UPDATE team.note SET region = 'lone' WHERE id IN (17, 3017)")
    reader = many.login(many.role("reader", "note_reader", regions=["lone"]))
    for other in ("seqscan", "bitmapscan", "sort"):
        reader.execute(f"SET enable_{other} = off")
    assert "note_embedding_hnsw" in plan(reader, query=unit(1))
    assert {row[0] for row in search(reader, query=unit(1), k=5)} == {"17", "3017"}
    many.admin.execute("DELETE FROM team.note WHERE id = 17")
    assert {row[0] for row in search(reader, query=unit(1), k=5)} == {"3017"}


def test_always_k_though_most_of_the_nearest_are_gone(many: World) -> None:
    reader = many.login(many.role("reader", "note_reader", regions=["wide"]))
    nearest = [int(row[0]) for row in search(reader, query=unit(1), k=300)]
    many.admin.execute("DELETE FROM team.note WHERE id = ANY (%s)", [nearest[:290]])
    assert [int(row[0]) for row in search(reader, query=unit(1), k=10)] == nearest[290:300]


def brute_force(many: World, reader: Connection, query: str, k: int, where: str) -> list[int]:
    """The k nearest by plain SQL, without any index on vectors."""
    statement = (
        f"SELECT id FROM rag_team.note WHERE {where} ORDER BY (embedding <=> %s::public.vector) + 0, id LIMIT %s"
    )
    reader.execute("SET search_path = public")
    return [row[0] for row in reader.execute(statement, [query, k])]  # type: ignore[arg-type]


def test_finds_what_brute_force_finds(many: World) -> None:
    """Whoever asks whatever: by codes and exactly all of it, by HNSW nearly."""
    readers = {
        regions: many.login(many.role("reader", "note_reader", regions=list(regions)))
        for regions in (("wide",), ("some",), ("few",), ("few", "some"), ("wide", "some", "few", "rest"), ("none",), ())
    }
    found, wanted = 0, 0

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from(sorted(readers)),
        st.integers(0, 10**9).map(random.Random),
        st.integers(1, 30),
        st.sampled_from([("true", None), ("price < 3", '{"price": {"lt": 3}}'), ("price = 7", '{"price": 7}')]),
    )
    def compare(regions: tuple[str, ...], chance: random.Random, k: int, filtered: tuple[str, str | None]) -> None:
        nonlocal found, wanted
        reader, query = readers[regions], unit(*(chance.gauss(0, 1) for _ in range(20)))
        true = brute_force(many, reader, query, k, filtered[0])
        given_ = {} if filtered[1] is None else {"filter": filtered[1]}
        rows = [int(row[0]) for row in search(reader, query=query, k=k, **given_)]
        assert len(rows) == len(true)
        found, wanted = found + len(set(rows) & set(true)), wanted + len(true)
        if regions not in (("wide",), ("wide", "some", "few", "rest")):
            assert len(set(rows) & set(true)) >= 0.8 * len(true)

    compare()
    assert found >= 0.93 * wanted


def test_limits_are_the_administrators(many: World) -> None:
    admin = many.login(many.role("chief", "tidegate_admin"))
    admin.execute("UPDATE tidegate.search_limits SET code_rows = 0, exact_rows = 0")
    reader = many.login(many.role("reader", "note_reader", regions=["some"]))
    assert reader.execute("SELECT path FROM tidegate.search_scope('{team.note}')").fetchone() == ("hnsw",)
    assert many.tide.one("SELECT NOT has_table_privilege('tidegate_reader', 'tidegate.search_limits', 'SELECT')")
    for table in ("chunk_words", "access_statistics"):
        assert many.tide.one("SELECT NOT has_table_privilege('tidegate_reader', %s, 'SELECT')", f"tidegate.{table}")


@pytest.mark.parametrize(
    "when",
    [
        "row.region in user.regions",
        "row.region = user.region",
        "row.region in ['few', 'some']",
        "row.region in user.regions and row.title = user.title",
    ],
)
def test_simple_rules_are_estimated_as_their_condition_says(world: World, when: str) -> None:
    """Without the planning of a statement; from the shares of single values, from the groups, and by the condition."""
    world.publish(contract({**ALLOW, "when": when}))
    fill(world)
    keep_up(world)
    world.admin.execute("UPDATE tidegate.search_limits SET exact_rows = 100")
    role = world.role("reader", "note_reader", regions=["few", "some", "nowhere"], region=["some"], title=["note", "x"])
    readers = [world.login(role), world.login(world.role("nobody", "note_reader", region=["some", "few"]))]

    def visible() -> list[float]:
        return [
            round(reader.execute("SELECT visible FROM tidegate.search_scope('{team.note}')").fetchone()[0], 6)  # type: ignore[index]
            for reader in readers
        ]

    assert world.tide.one("SELECT bool_and(tests IS NOT NULL) FROM tidegate.rule")
    by_shares = visible()
    world.admin.execute("UPDATE tidegate.access_statistics SET shares = NULL")
    by_groups = visible()
    world.admin.execute("UPDATE tidegate.rule SET tests = NULL")
    assert by_shares == by_groups == visible()
    assert (0 < by_shares[0] < 1000) is ("title" not in when)
    assert by_shares[1] == (by_shares[0] if "[" in when else 0)


def test_a_search_is_composed_and_run_once(many: World) -> None:
    """Not also by the planner of the caller's statement, which knows all arguments and evaluates what it may."""
    asked = "SELECT count(*) FROM tidegate.search(query => {}::public.vector, k => 5, consistency => 'eventual')"
    many.admin.execute("SET track_functions = 'all'")
    calls = (
        "SELECT pg_stat_get_xact_function_calls(p.oid) FROM pg_proc p "
        "WHERE p.pronamespace = 'tidegate'::regnamespace AND p.proname = 'compose_search'"
    )
    with many.admin.transaction():
        assert many.admin.execute(sql.SQL(asked).format(sql.Literal(unit(1)))).fetchone() == (5,)  # type: ignore[arg-type]
        assert many.admin.execute(calls).fetchone() == (1,)


def test_models_are_measured_where_there_are_several(many: World) -> None:
    worker = many.as_superuser()
    worker.execute("SET ROLE tidegate_worker")
    register_vectors(worker)
    (note,) = indexes(worker, many.tide.embedders)
    assert measure_scales(worker, [note], {}) == []
    embedding = replace(note.contract.embedding, model="other/model")
    other = replace(note, contract=replace(note.contract, embedding=embedding))
    assert sorted(measure_scales(worker, [note, other], {note.product_id: 50_000})) == [note.model, "other/model"]
    assert measure_scales(worker, [note, other], {}) == []  # not again within the hour
    (measured,) = worker.execute(
        "SELECT min(distance), max(distance), min(chunks) FROM tidegate.model_scale"
    ).fetchall()
    assert 0.1 < measured[0] <= measured[1] < 1.2
    assert measured[2] == 100

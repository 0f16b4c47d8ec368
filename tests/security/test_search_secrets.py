"""What a search must not tell: rows that its caller may not see, by words, ranks, errors, or because they were hers."""

import os
import threading
import time
from typing import Any

import psycopg
import pytest
from tests.security.conftest import VECTOR, World
from tests.security.gate import Gate
from tests.security.test_search import found, search

from tidegate.database import Connection


@pytest.fixture
def secretive(published: World) -> World:
    """Notes 10 to 19 (EU) and 20 to 29 (US), about the same things; the US has a zebra, too."""
    for number in range(10):
        published.note(10 + number, region="EU", price=number, content=f"budget of team {number} for the harbour")
        published.note(20 + number, region="US", price=number, content=f"budget of team {number} for the zebra")
    return published


@pytest.fixture
def reader(secretive: World) -> Connection:
    return secretive.login(secretive.role("reader", "note_reader", regions=["EU"]))


ASKED = ("budget", "zebra", '"budget of team"', "harbour or zebra", "budget -harbour", "note", "team 3 zebra")


class TestWords:
    def test_show_hidden_rows_in_no_way(self, reader: Connection) -> None:
        for text in ASKED:
            assert set(found(reader, query_text=text, k=100)) <= {1, *range(10, 20)}, text
            assert set(found(reader, query=VECTOR, query_text=text, k=100)) == {1, *range(10, 20)}, text
        assert found(reader, query_text="zebra") == []

    def test_ranks_do_not_depend_on_hidden_rows(self, secretive: World, reader: Connection) -> None:
        def scores() -> list[Any]:
            return [search(reader, query_text=text, k=100) for text in ASKED]

        before = scores()
        for number in range(40, 60):
            secretive.note(number, region="US", content="zebra harbour budget budget team 3")
        secretive.admin.execute("ANALYZE rag_team.note; ANALYZE tidegate.chunk_words")
        assert scores() == before
        secretive.admin.execute("DELETE FROM rag_team.note WHERE region = 'US'")
        assert scores() == before

    def test_the_function_behind_them_gives_no_more(self, reader: Connection) -> None:
        """Called by itself, with filters of any kind."""
        for text in ASKED:
            for filter in (None, "{}", '{"region": "US"}', '{"region": {"ne": "EU"}}', '{"price": {"gte": 0}}'):
                rows = reader.execute(
                    "SELECT key ->> 'id' FROM tidegate.find_words('team.note', %s, %s::jsonb, 1000)", [text, filter]
                ).fetchall()
                assert {int(row[0]) for row in rows} <= {1, *range(10, 20)}, (text, filter)

    def test_what_they_are_kept_in_is_closed(self, reader: Connection) -> None:
        for statement in (
            "SELECT * FROM tidegate.chunk_words",
            "SELECT words FROM tidegate.chunk_words WHERE words @@ 'zebra'",
            "SELECT * FROM tidegate.access_statistics",
            "SELECT tidegate.entitlement_of('{}', 'postgres', NULL, '{}', '{}')",
            "SELECT tidegate.visible_share_of(NULL, '[]', '{}')",
            "SELECT tidegate.attribute_texts_of('postgres', 'regions')",
            "CREATE TRIGGER mine AFTER INSERT ON rag_team.note EXECUTE FUNCTION tidegate.keep_words('english', 'id')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement)  # type: ignore[arg-type]

    def test_through_a_gateway_they_are_the_tokens(self, secretive: World) -> None:
        gate = Gate(secretive)
        session = gate.session(gate.token(regions=["US"]))
        assert set(found(session, query_text="budget", k=100)) == set(range(20, 30))
        assert found(gate.session(""), query_text="budget", k=100) == []

    def test_a_strong_match_is_found_among_thousands(self, secretive: World, reader: Connection) -> None:
        secretive.admin.execute(
            "INSERT INTO team.note (id, title, region) SELECT n, 'note', 'EU' FROM generate_series(1000, 4001) n"
        )
        secretive.admin.execute(
            "INSERT INTO rag_team.note (id, region, chunk_no, content, content_hash, embedding, position, contract_version) "
            "SELECT n, 'EU', 0, CASE n WHEN 4001 THEN 'walrus walrus walrus' ELSE 'one walrus among other beasts ' || n END, "
            "'', %s::public.vector, '{0/1,0/1}', '1.0.0' FROM generate_series(1000, 4001) n",
            [VECTOR],
        )
        secretive.admin.execute("ANALYZE rag_team.note; ANALYZE tidegate.chunk_words")
        assert found(reader, query_text="walrus", k=3)[0] == 4001
        assert found(reader, query_text="walrus or zebra", k=3)[0] == 4001

    def test_they_follow_their_chunks(self, secretive: World, reader: Connection) -> None:
        admin = secretive.admin
        admin.execute("UPDATE rag_team.note SET content = 'walrus' WHERE id = 12")
        assert (found(reader, query_text="walrus"), 12 in found(reader, query_text="harbour", k=50)) == ([12], False)
        admin.execute("UPDATE rag_team.note SET chunk_no = 3 WHERE id = 12")
        assert found(reader, query_text="walrus") == [12]
        admin.execute("UPDATE rag_team.note SET region = 'US' WHERE id = 12")
        assert found(reader, query_text="walrus") == []
        count = "SELECT count(*) FROM tidegate.chunk_words"
        assert secretive.tide.one(count) == secretive.tide.one("SELECT count(*) FROM rag_team.note")
        admin.execute("DELETE FROM rag_team.note")
        assert secretive.tide.one(count) == 0


@pytest.mark.timeout(7200 if os.environ.get("TIDEGATE_GHOST_READS") else 600)
def test_no_ghost_under_concurrent_change(secretive: World) -> None:
    """No worker runs. Rows go for ever, one by one: deleted, re-classified, given to others. A search that begins after
    the commit does not show one of them, by vector, by words or by both. TIDEGATE_GHOST_READS=10000 is the whole test:
    all of 1,000 rows, and so many reads."""
    wanted = int(os.environ.get("TIDEGATE_GHOST_READS", "0"))
    rows = range(1000, 2000)
    secretive.admin.execute(
        "INSERT INTO team.note (id, title, region) SELECT n, 'note', 'EU' FROM generate_series(1000, 1999) n"
    )
    secretive.admin.execute(
        "INSERT INTO rag_team.note (id, region, chunk_no, content, content_hash, embedding, position, contract_version) "
        "SELECT n, 'EU', 0, 'harbour ' || n, '', %s::public.vector, '{0/1,0/1}', '1.0.0' FROM generate_series(1000, 1999) n",
        [VECTOR],
    )
    role = secretive.role("reader", "note_reader", regions=["EU"])
    gone: set[int] = set()
    over = threading.Event()
    ghosts: list[int] = []
    reads = 0

    def ask(session: Connection) -> None:
        nonlocal reads
        ways: list[dict[str, Any]] = [
            {"query": VECTOR},
            {"query_text": "harbour"},
            {"query": VECTOR, "query_text": "harbour"},
        ]
        while not over.is_set():
            for way in ways:
                known = set(gone)
                ghosts.extend(known & set(found(session, k=100, **way)))
                reads += 1

    threads = [threading.Thread(target=ask, args=(secretive.login(role),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    changes = ("DELETE FROM team.note WHERE id = %s", "UPDATE team.note SET region = 'US' WHERE id = %s",
               "UPDATE team.note SET region = 'none' WHERE id = %s")  # fmt: skip
    until = time.monotonic() + (3600 if wanted else 3)
    for number in rows:
        secretive.admin.execute(changes[number % 3], [number])  # type: ignore[arg-type]
        gone.add(number)
        if time.monotonic() > until and (wanted or (len(gone) > 50 and reads >= 5)):
            break
        # Spread over the reads.
        time.sleep(0.003)
        while reads < wanted * len(gone) / len(rows) and time.monotonic() < until:
            time.sleep(0.001)
    time.sleep(0.1)
    over.set()
    for thread in threads:
        thread.join()
    assert ghosts == []
    assert len(gone) > (len(rows) - 1 if wanted else 50)
    assert reads >= max(wanted, 5)
    left = set(found(secretive.login(role), query=VECTOR, k=1000))
    assert left == {1, *range(10, 20), *rows} - gone

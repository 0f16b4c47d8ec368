"""The whole way through the command line: one database, one `run`, and people who ask it."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator

import psycopg
import pytest
from tests.acceptance.conftest import COMMAND, Command, Running, start_run
from tests.conftest import SIMPLE_CONTRACT, wait_until

from tidegate.database import connect
from tidegate.errors import UsageError

ROLES = ("accept_alice", "accept_bob", "accept_nobody", "accept_admin")


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[Command]:
    command = Command(tmp_path_factory.mktemp("way"), database)
    command.ok("init")
    (command.folder / "note.odcs.yaml").write_text(SIMPLE_CONTRACT)
    with connect(database) as admin:
        admin.execute(
            "INSERT INTO team.note (id, title, body, region) VALUES "
            "(1, 'Refunds', 'Refunds are paid within 14 days of the return.', 'EU'), "
            "(2, 'Refunds overseas', 'Refunds to the US are paid within 30 days.', 'US'), "
            "(3, 'Museum', 'The museum opens at nine on Sundays.', 'EU')"
        )
        command.ok("apply", "note.odcs.yaml")
        for role in ROLES:
            admin.execute(f"CREATE ROLE {role}")  # type: ignore[arg-type]
        admin.execute("GRANT note_reader TO accept_alice, accept_bob; GRANT tidegate_admin TO accept_admin")
        yield command
        for role in ROLES:
            admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def running(way: Command) -> Iterator[Running]:
    run = start_run(way)
    way.ok("apply", "--wait", "note.odcs.yaml")
    way.ok("principal", "set", "accept_alice", "regions=EU")
    way.ok("principal", "set", "accept_bob", "regions=EU,US")
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()


def test_search_shows_each_her_own(way: Command, running: Running) -> None:
    found = {}
    for role in ("accept_alice", "accept_bob"):
        done = way.ok("search", "how do refunds work", "--as", role, "-k", "2", "--json")
        hits = json.loads(done.out)
        assert done.err == ""
        found[role] = [hit["key"]["id"] for hit in hits]
        assert {"product", "key", "content", "distance", "score", "committed_at", "consistency"} <= hits[0].keys()
    assert found["accept_alice"] == [1, 3]
    assert sorted(found["accept_bob"]) == [1, 2]


def test_search_for_people_is_lines(way: Command, running: Running) -> None:
    done = way.ok("search", "refunds", "--as", "accept_alice", "--product", "team.note", "--consistency", "eventual")
    assert "team.note[1]" in done.out.splitlines()[0]
    assert done.err == ""


def test_nothing_found_is_said_on_stderr(way: Command, running: Running) -> None:
    way.ok("principal", "set", "accept_alice", "regions=nowhere")
    try:
        done = way.ok("search", "refunds", "--as", "accept_alice")
        assert done.out == ""
        assert "nothing that role" in done.err
        assert json.loads(way.ok("search", "refunds", "--as", "accept_alice", "--json").out) == []
        answer = json.loads(way.ok("ask", "refunds", "--as", "accept_alice", "--json").out)
        assert answer["citations"] == []
    finally:
        way.ok("principal", "set", "accept_alice", "regions=EU")


def test_ask_cites(way: Command, running: Running) -> None:
    answer = json.loads(way.ok("ask", "when are refunds paid?", "--as", "accept_alice", "--json").out)
    assert "Refunds are paid within 14 days of the return. [1]" in answer["text"]
    assert answer["citations"][0]["key"] == {"id": 1}
    assert answer["as_of"] is not None
    assert answer["model"] is None
    assert "30 days" not in json.dumps(answer)
    shown = way.ok("ask", "when are refunds paid?", "--as", "accept_alice")
    assert "[1] team.note[1]" in shown.out
    assert "as of 2" in shown.out
    assert shown.err == ""


def test_a_new_row_is_found_and_a_deleted_one_is_not(way: Command, running: Running, database: str) -> None:
    with connect(database) as admin:
        for statement, expected in (
            ("INSERT INTO team.note (id, title) VALUES (9, 'The office cat is called Schrödinger [bold]')", True),
            ("DELETE FROM team.note WHERE id = 9", False),
        ):
            admin.execute(statement)  # type: ignore[arg-type]
            assert admin.execute("SELECT tidegate.wait_for(pg_current_wal_insert_lsn(), '20s')").fetchone() == (True,)
            done = way.ok("search", "name of the cat", "--as", "accept_alice", "-k", "1")
            assert ("Schrödinger [bold]" in done.out) is expected


def test_status(way: Command, running: Running) -> None:
    status = json.loads(way.ok("status", "--json").out)
    (product,) = status["products"]
    assert status["capture"]["active"] is True
    assert (product["product"], product["rows"], product["state"], product["dead_letters"]) == (
        "team.note",
        3,
        "live",
        0,
    )
    assert product["sla_ms"] == 200
    assert product["as_of"] is not None
    shown = way.ok("status")
    assert "team.note" in shown.out
    assert shown.err == ""
    # On a machine with more to do it may miss its SLA; that is all there can be.
    checked = way("status", "--check", "--json")
    complaints = json.loads(checked.out)["attention"]
    assert [each for each in complaints if "misses its SLA" not in each] == []
    assert checked.code == (1 if complaints else 0)
    assert checked.err.splitlines() == [f"needs attention: {each}" for each in complaints] or not complaints


def test_an_administrator_needs_no_superuser(way: Command, running: Running, database: str) -> None:
    admin = psycopg.conninfo.make_conninfo(database, options="-c role=accept_admin")
    status = json.loads(way.ok("status", "--json", TIDEGATE_DSN=admin).out)
    assert [product["rows"] for product in status["products"]] == [3]
    assert status["products"][0]["as_of"] is not None
    way.ok("dead-letters", "list", TIDEGATE_DSN=admin)
    way.ok("dead-letters", "retry", TIDEGATE_DSN=admin)
    way.ok("dead-letters", "drop", TIDEGATE_DSN=admin)
    way.ok("principal", "set", "accept_nobody", "x=1", TIDEGATE_DSN=admin)
    way.ok("principal", "unset", "accept_nobody", TIDEGATE_DSN=admin)
    found = way("search", "refunds", "--as", "accept_admin")
    assert (found.code, found.out) == (0, "")


def test_dead_letters(way: Command, running: Running, database: str) -> None:
    with connect(database) as admin:
        admin.execute("INSERT INTO team.note (id, title) VALUES (66, repeat('too long ', 200000))")
        admin.execute("SELECT tidegate.wait_for(pg_current_wal_insert_lsn(), '20s')")
        (letter,) = json.loads(way.ok("dead-letters", "list", "--json").out)
        assert (letter["product"], letter["key"], letter["kind"]) == ("team.note", {"id": 66}, "document")
        shown = way.ok("dead-letters", "list", "--product", "team.note").out
        assert "characters" in shown
        assert "too long too" not in shown
        assert "too long too" not in running.err()
        admin.execute("UPDATE team.note SET title = 'short' WHERE id = 66")
        admin.execute("SELECT tidegate.wait_for(pg_current_wal_insert_lsn(), '20s')")
        assert json.loads(way.ok("dead-letters", "list", "--json").out) == []
        assert "no dead letters" in way.ok("dead-letters", "list").err
        assert "no dead letter 12345" in way("dead-letters", "retry", "12345").err
        assert way.ok("dead-letters", "drop").err.startswith("0 ")
        admin.execute("DELETE FROM team.note WHERE id = 66")
        admin.execute("SELECT tidegate.wait_for(pg_current_wal_insert_lsn(), '20s')")


def test_principals(way: Command, running: Running) -> None:
    told = way.ok("principal", "set", "note_reader", "team=a,b\\,c", "empty=")
    assert (told.out, told.err.splitlines()[0]) == ("", "note_reader has team=a,b\\,c empty=")
    shown = json.loads(way.ok("principal", "show", "accept_alice", "--json").out)
    assert shown == {
        "regions": {"own": ["EU"]},
        "team": {"from note_reader": ["a", "b,c"]},
        "empty": {"from note_reader": []},
    }
    assert "regions = EU  (own)" in way.ok("principal", "show", "accept_alice").out
    listed = json.loads(way.ok("principal", "list", "--json").out)
    assert {"principal": "accept_alice", "kind": "group", "attributes": {"regions": ["EU"]}} in listed
    assert {"principal": "note_reader", "kind": "group", "attributes": {"empty": [], "team": ["a", "b,c"]}} in listed
    assert "note_reader (group): empty= team=a,b\\,c" in way.ok("principal", "list").out
    assert "2 removed" in way.ok("principal", "unset", "note_reader", "team", "empty").err
    for arguments in (
        ["set", "nobody_at_all", "a=b"],
        ["set", "accept_alice", "no-assignment"],
        ["show", "nobody_at_all"],
    ):
        done = way("principal", *arguments)
        assert (done.code, done.out) == (2, ""), arguments
        assert "nobody_at_all" in done.err or "no-assignment" in done.err


def test_unknown_roles_and_products(way: Command, running: Running) -> None:
    done = way("search", "x", "--as", "nobody_at_all")
    assert (done.code, done.out) == (2, "")
    assert 'there is no role "nobody_at_all"' in done.err
    done = way("search", "x", "--as", "accept_alice", "--product", "team.none")
    assert (done.code, done.out) == (2, "")
    assert 'product "team.none" is not published, or not offered' in done.err
    assert "team.note" in done.err
    for command in ("search", "ask"):
        done = way(command, "x", "--as", "accept_nobody")
        assert (done.code, done.out) == (2, "")
        assert 'role "accept_nobody" may not use tidegate' in done.err
    assert way("search", " ", "--as", "accept_alice").code == 2


def test_a_second_run_says_at_once_for_whom_it_waits(way: Command, running: Running) -> None:
    waits = b'waits for the replication slot, which another "tidegate run" on this database has'
    with subprocess.Popen(
        [str(COMMAND), "run"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=way.folder, env=way.environ()
    ) as process:
        assert process.stderr is not None
        try:
            said = next((line.decode() for line in process.stderr if waits in line), "nothing of it until it gave up")
        finally:
            process.kill()
    assert re.search(r"used_by=server process \d+, from \S+ since 20", said), said


def test_filters_words_and_similar_rows(way: Command, running: Running, database: str) -> None:
    def keys(*arguments: str) -> list[int]:
        return [hit["key"]["id"] for hit in json.loads(way.ok(*arguments, "--as", "accept_bob", "--json").out)]

    everything = keys("search", "refunds")
    assert len(everything) > 2
    assert set(keys("search", "refunds", "--where", "region=EU", "--where", "price is null")) < set(everything)
    assert keys("search", "refunds", "--where", '{"region": ["XX"]}') == []
    assert keys("search", "overseas", "--mode", "keyword") == [2]
    assert keys("search", "overseas", "--mode", "hybrid")[0] == 2
    assert 2 not in keys("similar", "team.note", "2")
    wrong = way("search", "refunds", "--as", "accept_bob", "--where", "secret=x")
    assert (wrong.code, "It offers: region (text), price (numeric). To offer" in wrong.err) == (2, True)
    assert "give its column tags: [filter] in the contract" in wrong.err
    assert way("similar", "team.note", "987654", "--as", "accept_bob").code == 1
    explained = way.ok("search", "refunds", "-k", "1", "--explain", "--as", "accept_bob").out
    with connect(database, role="accept_bob") as bob:
        rows = bob.execute(explained).fetchall()  # type: ignore[arg-type]
    assert [row[1]["id"] for row in rows] == everything[:1]
    streamed = way.ok("ask", "when are refunds paid?", "--as", "accept_alice", "--stream").out
    assert streamed.splitlines()[0].endswith("]")
    assert "as of" in streamed.splitlines()[-1]


def test_dotenv_serves_every_flag(way: Command, running: Running, database: str) -> None:
    folder = way.folder / "with_dotenv"
    folder.mkdir()
    (folder / ".env").write_text(
        f"TIDEGATE_DSN='{database}'\nTIDEGATE_AS=accept_alice\nTIDEGATE_JSON=true\nTIDEGATE_K=1\n"
    )
    alone = Command(folder)
    assert [hit["key"]["id"] for hit in json.loads(alone.ok("search", "refunds overseas").out)] == [1]
    by_flag = json.loads(alone.ok("search", "refunds overseas", "--as", "accept_bob", "-k", "3").out)
    assert len(by_flag) == 3
    by_environment = json.loads(alone.ok("search", "refunds overseas", TIDEGATE_AS="accept_bob").out)
    assert [hit["key"]["id"] for hit in by_environment] == [2]


def test_python(way: Command, running: Running, database: str) -> None:
    import tidegate as package

    with package.connect(database, role="accept_alice") as client:
        hits = client.search("how do refunds work", k=2, products=["team.note"])
        assert [type(hit) for hit in hits] == [package.Hit, package.Hit]
        assert hits[0].key == {"id": 1}
        assert hits[0].citation == "team.note[1]"
        assert 0 <= hits[0].distance < hits[1].distance <= 2
        assert hits[0].consistency == "strict"
        answer = client.ask("when are refunds paid?")
        assert isinstance(answer, package.Answer)
        assert answer.citations[0].product == "team.note"
        assert answer.as_of is not None
        with pytest.raises(UsageError, match="pass a list"):
            client.search("x", products="team.note")


def test_sigint_and_sigterm_end_run_with_0_and_nothing_is_lost(way: Command, running: Running, database: str) -> None:
    with connect(database) as admin:
        admin.execute("INSERT INTO team.note (id, title) VALUES (101, 'at the last moment')")
        assert running.end(signal.SIGINT) == 0, running.err()
        assert running.out() == ""
        inactive = "SELECT bool_and(NOT active) FROM pg_replication_slots WHERE database = current_database()"
        wait_until(lambda: admin.execute(inactive).fetchone() == (True,), 30, "the slot is free")
        checked = way("status", "--check")
        assert (checked.code, "team.note" in checked.out) == (1, True)
        assert 'not active, nothing reads changes; start "tidegate run"' in checked.err
        assert way.ok("status").err == ""
        admin.execute("UPDATE tidegate.watermark SET as_of = as_of - interval '12 minutes'")
        for arguments in (["search", "museum"], ["similar", "team.note", "2"], ["ask", "refunds"]):
            done = way.ok(*arguments, "--as", "accept_bob", "--json")
            assert re.fullmatch(
                r"product team.note: the index is as of 20\S+ \S+Z, \d+ min ago: no worker is running; "
                r'start "tidegate run" \(or see "tidegate status"\)\n',
                done.err,
            ), done
            json.loads(done.out)
        admin.execute("INSERT INTO team.note (id, title) VALUES (102, 'while nothing ran')")
        again = start_run(way)
        try:
            indexed = "SELECT array_agg(id ORDER BY id) FROM rag_team.note WHERE id > 100"
            wait_until(lambda: admin.execute(indexed).fetchone() == ([101, 102],), 30, "rows of the last moments")
            assert again.end(signal.SIGTERM) == 0, again.err()
            assert again.out() == ""
        finally:
            again.process.kill()
            again.process.wait()

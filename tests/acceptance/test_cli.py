"""The command line as a user has it: exit codes, stdout for data, stderr for talk."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
import yaml
from tests.acceptance.conftest import Command
from tests.conftest import SIMPLE_CONTRACT

from tidegate.cli import app
from tidegate.database import Connection, connect
from tidegate.local import postgres


@pytest.fixture
def tidegate(tmp_path: Path) -> Command:
    """Without a database."""
    return Command(tmp_path)


@pytest.fixture
def on_bare(tmp_path: Path, bare: str) -> Command:
    return Command(tmp_path, bare)


def schema(dsn: str) -> str:
    """The database's definitions, as pg_dump gives them."""
    command = [str(Path(postgres.psql_command()[0]).with_name("pg_dump")), "--schema-only", "--dbname", dsn]
    dump = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return "\n".join(line for line in dump.splitlines() if not line.startswith(("--", "\\")) and line)


class TestInit:
    def test_twice_and_the_same_as_its_sql(self, on_bare: Command, bare: str, server_dsn: str) -> None:
        first = on_bare.ok("init")
        assert first.out == ""
        assert "is ready; next: tidegate apply" in first.err
        made = schema(bare)
        assert "CREATE FUNCTION tidegate.search(" in made
        assert on_bare.ok("init").code == 0
        assert schema(bare) == made
        # On another empty database, by psql.
        printed = Command(on_bare.folder).ok("init", "--sql")
        script = on_bare.folder / "init.sql"
        script.write_text(printed.out, encoding="utf-8")
        with psycopg.connect(server_dsn, autocommit=True) as admin:
            admin.execute("CREATE DATABASE accept_by_psql")
            try:
                other = psycopg.conninfo.make_conninfo(bare, dbname="accept_by_psql")
                with connect(other) as connection:
                    connection.execute("CREATE SCHEMA team; CREATE TABLE team.note (LIKE pg_class)")
                    connection.execute("DROP TABLE team.note")
                command = [*postgres.psql_command(), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script)]
                done = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    timeout=60,
                    env=postgres.psql_environment(other),
                    check=False,
                )
                assert done.returncode == 0, done.stderr
                with connect(bare) as connection:
                    connection.execute("DROP TABLE team.note")
                assert schema(other) == schema(bare)
                # And tidegate takes it for its own.
                assert Command(on_bare.folder, other).ok("init").code == 0
                assert Command(on_bare.folder, other).ok("status").code == 0
            finally:
                admin.execute("DROP DATABASE accept_by_psql WITH (FORCE)")

    def test_before_it_every_command_says_so(self, on_bare: Command) -> None:
        (on_bare.folder / "note.odcs.yaml").write_text(SIMPLE_CONTRACT)
        for arguments in (["apply", "."], ["run"], ["status"], ["search", "x"], ["ask", "x"]):
            done = on_bare(*arguments)
            assert done.code in (1, 2), arguments
            assert 'no tidegate control schema; run "tidegate init"' in done.err, (arguments, done)


class TestUsage:
    def test_without_a_database(self, tidegate: Command) -> None:
        for arguments in (["run"], ["ask", "x"], ["dead-letters", "list"]):
            done = tidegate(*arguments)
            assert (done.code, done.out) == (2, ""), arguments
            assert "pass --dsn, or set TIDEGATE_DSN" in done.err

    def test_a_database_that_is_not_there(self, tidegate: Command) -> None:
        done = tidegate("status", "--dsn", "host=127.0.0.1 port=1 dbname=none password=hush-hush")
        assert (done.code, done.out) == (1, "")
        assert "cannot connect" in done.err
        assert "hush-hush" not in done.err
        done = tidegate("status", "--dsn", "no such thing")
        assert done.code == 2
        assert "the DSN is not understood" in done.err

    @pytest.mark.parametrize(
        "arguments",
        [
            ["nonsense"],
            ["search"],
            ["search", "x", "-k", "0"],
            ["search", "x", "--consistency", "maybe"],
            ["run", "--nonsense"],
        ],
    )
    def test_wrong_arguments(self, tidegate: Command, arguments: list[str]) -> None:
        done = tidegate(*arguments)
        assert (done.code, done.out) == (2, "")

    def test_wrong_settings(self, tidegate: Command) -> None:
        done = tidegate("search", "x", TIDEGATE_EMBEDDING_BATCH="many")
        assert (done.code, done.out) == (2, "")
        assert "TIDEGATE_EMBEDDING_BATCH" in done.err
        done = tidegate("--log-level", "loud", "status")
        assert done.code == 2
        assert "TIDEGATE_LOG_LEVEL" in done.err

    def test_version(self, tidegate: Command) -> None:
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", tidegate.ok("--version").out)


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = list(_commands(typer.main.get_command(app)))


class TestHelp:
    @pytest.mark.parametrize(
        ("path", "command"), COMMANDS, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
    )
    def test_every_flag_has_an_environment_twin(self, path: tuple[str, ...], command: Any) -> None:
        flags = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
        assert [p.name for p in flags if not p.envvar] == []
        assert all(str(p.envvar).startswith("TIDEGATE_") for p in flags)
        assert all(p.help for p in flags), path
        assert command.help, path

    @pytest.mark.parametrize("path", [("search",), ("apply",), ("principal", "set"), ("local", "start")], ids=" ".join)
    def test_help_shows_it(self, tidegate: Command, path: tuple[str, ...]) -> None:
        shown = tidegate.ok(*path, "--help", COLUMNS="200")
        assert shown.err == ""
        for parameter in dict(COMMANDS)[path].params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert parameter.envvar in shown.out

    def test_help_names_the_default_folder_of_the_embedded_postgres(self, tidegate: Command) -> None:
        said = " ".join(tidegate.ok("local", "start", "--help", COLUMNS="400").out.split())
        assert "~/.local/state/tidegate/postgres, or tidegate/postgres in $XDG_STATE_HOME" in said
        assert "for root /var/lib/tidegate/postgres" in said
        readme = " ".join((Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").split())
        assert "`~/.local/state/tidegate/postgres`" in readme
        assert "`/var/lib/tidegate/postgres`" in readme
        # Where it really is.
        found = json.loads(tidegate("local", "status", "--json", XDG_STATE_HOME="/tmp/state").out)["data"]
        expected = "/var/lib/tidegate/postgres" if os.geteuid() == 0 else "/tmp/state/tidegate/postgres"
        assert found == expected

    def test_every_command_is_known(self) -> None:
        names = {" ".join(path) for path, _ in COMMANDS}
        assert {
            "init",
            "apply",
            "run",
            "search",
            "ask",
            "status",
            "principal set",
            "dead-letters list",
            "dead-letters retry",
        } <= names
        assert {"dead-letters drop", "local start", "local stop", "local status", "local psql"} <= names


class TestApply:
    @pytest.fixture(autouse=True)
    def initialised(self, on_bare: Command) -> None:
        on_bare.ok("init")

    def test_all_errors_of_a_folder_at_once(self, on_bare: Command, bare_admin: Connection) -> None:
        folder = on_bare.folder / "contracts"
        (folder / "deep").mkdir(parents=True)
        (folder / "good.odcs.yaml").write_text(SIMPLE_CONTRACT)
        (folder / "one.odcs.yaml").write_text(SIMPLE_CONTRACT.replace("effect: allow", "effect: permit"))
        (folder / "deep" / "two.odcs.yaml").write_text(SIMPLE_CONTRACT.replace("row.region in", "row.regoin in"))
        (folder / "three.odcs.yaml").write_text("a: [unclosed")
        done = on_bare("apply", "contracts")
        assert (done.code, done.out) == (1, "")
        for part in ("one.odcs.yaml:3", "two.odcs.yaml:3", "three.odcs.yaml", "allow, require, deny", "regoin"):
            assert part in done.err, part
        assert "good.odcs.yaml" not in done.err
        assert bare_admin.execute("SELECT count(*) FROM tidegate.product").fetchone() == (0,)

    def test_a_contract_that_does_not_fit_stops_all(self, on_bare: Command, bare_admin: Connection) -> None:
        bare_admin.execute(
            "CREATE TABLE team.memo (LIKE team.note INCLUDING ALL); ALTER TABLE team.memo DROP COLUMN body"
        )
        (on_bare.folder / "a.odcs.yaml").write_text(SIMPLE_CONTRACT)
        (on_bare.folder / "b.odcs.yaml").write_text(_memo())
        done = on_bare("apply", "a.odcs.yaml", "b.odcs.yaml")
        assert done.code == 1
        assert "column body is not in team.memo" in done.err
        assert bare_admin.execute("SELECT count(*) FROM tidegate.product").fetchone() == (0,)

    def test_a_folder_twice(self, on_bare: Command, bare_admin: Connection) -> None:
        bare_admin.execute("CREATE TABLE team.memo (LIKE team.note INCLUDING ALL)")
        (on_bare.folder / "contracts").mkdir()
        (on_bare.folder / "contracts" / "note.odcs.yaml").write_text(SIMPLE_CONTRACT)
        (on_bare.folder / "contracts" / "memo.odcs.yaml").write_text(_memo())
        before = schema(on_bare.dsn or "")
        printed = on_bare.ok("apply", "contracts", "--sql")
        assert "CREATE POLICY" in printed.out
        assert schema(on_bare.dsn or "") == before
        first = on_bare.ok("apply", "contracts")
        assert "team.note: publishes team.note 1.0.0" in first.out
        assert "team.memo: publishes team.memo 1.0.0" in first.out
        after = schema(on_bare.dsn or "")
        second = on_bare.ok("apply", "contracts")
        assert second.out.splitlines() == ["team.memo: nothing to do", "team.note: nothing to do"]
        assert schema(on_bare.dsn or "") == after
        assert "nothing to do" in on_bare.ok("apply", "contracts", "--sql").out

    def test_the_printed_sql_is_what_apply_does(self, on_bare: Command, bare_admin: Connection) -> None:
        (on_bare.folder / "note.odcs.yaml").write_text(SIMPLE_CONTRACT)
        printed = on_bare.ok("apply", "note.odcs.yaml", "--sql").out
        on_bare.ok("apply", "note.odcs.yaml")
        policies = {name for (name,) in bare_admin.execute("SELECT polname FROM pg_policy")}
        assert policies == {"tidegate_worker", "tidegate_owner", "tidegate_allow_readers", "tidegate_break_glass"}
        assert all(f'CREATE POLICY "{name}"' in printed or f"CREATE POLICY {name}" in printed for name in policies)

    @pytest.mark.parametrize(("name", "code"), [("missing", 2), ("empty", 1)])
    def test_nothing_to_apply(self, on_bare: Command, name: str, code: int) -> None:
        (on_bare.folder / "empty").mkdir()
        done = on_bare("apply", name)
        assert (done.code, done.out) == (code, "")
        assert name in done.err


def _memo() -> str:
    document = yaml.safe_load(SIMPLE_CONTRACT)
    document |= {"id": "3b0d7a52-9a3e-4f5c-8e0b-0c1f6f0c1a03", "name": "team.memo", "dataProduct": "team.memo"}
    document["schema"][0] |= {"id": "memo", "name": "memo", "physicalName": "memo"}
    return str(yaml.safe_dump(document, sort_keys=False))


class TestLocal:
    def test_start_status_psql_stop(self, tidegate: Command, tmp_path_factory: pytest.TempPathFactory) -> None:
        import os
        import tempfile

        # Where the server's own system user may look, too.
        with tempfile.TemporaryDirectory(prefix="tidegate_accept_") as made:
            os.chmod(made, 0o755)
            tidegate.environment["TIDEGATE_LOCAL_DATA"] = str(Path(made) / "data")
            before = tidegate("local", "status")
            assert before.code == 1
            assert "does not run" in before.out
            assert tidegate("local", "psql", "-c", "SELECT 1").code == 2
            try:
                dsn = tidegate.ok("local", "start").out.strip()
                assert dsn.startswith("postgresql://")
                assert tidegate.ok("local", "start").out.strip() == dsn
                status = json.loads(tidegate.ok("local", "status", "--json").out)
                assert (status["running"], status["dsn"]) == (True, dsn)
                assert "runs: pid" in tidegate.ok("local", "status").out
                assert tidegate.ok("local", "psql", "-X", "-At", "-c", "SELECT 6 * 7").out == "42\n"
                assert Command(tidegate.folder, dsn).ok("init").code == 0
            finally:
                assert tidegate("local", "stop").code == 0
            assert json.loads(tidegate("local", "status", "--json").out)["running"] is False
            assert "was not running" in tidegate.ok("local", "stop").err

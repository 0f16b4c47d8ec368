"""The embedded Postgres: start, stop, status, and a temporary one.

A server outlives the process that started it, listens on the loopback interface only and asks for a password.
This module is the whole of what others call; the rest of the folder is behind it.
"""

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tidegate.errors import TidegateError, UsageError
from tidegate.local import postmaster
from tidegate.local.account import closed_to, server_account
from tidegate.local.binaries import BinariesUnreachable, EmbeddedMissing, installed, reachable
from tidegate.local.cluster import DISPOSABLE, InitFailed, initialise, settings_arguments
from tidegate.local.data_folder import DataFolder, FolderRefused, default_data_folder
from tidegate.local.launch import (
    ENDS_AT_ONCE,
    LocalPostgres,
    StartFailed,
    await_running,
    launch,
    milliseconds_since,
    server_version,
    superuser_dsn,
)
from tidegate.local.port import PortTaken, check_port

__all__ = [
    "DISPOSABLE",
    "BinariesUnreachable",
    "EmbeddedMissing",
    "FolderRefused",
    "InitFailed",
    "LocalPostgres",
    "PortTaken",
    "StartFailed",
    "Status",
    "StopFailed",
    "default_data_folder",
    "psql_command",
    "psql_environment",
    "start",
    "status",
    "stop",
    "temporary",
]

log = logging.getLogger(__name__)


class StopFailed(TidegateError):
    """The embedded Postgres did not stop."""


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a data folder.

    While nothing runs `pid` and `dsn` are None, `port` is the port of the last start, and `version` the major
    version of the data; both None before the first start. `dsn` is also None where the password is missing.
    """

    running: bool
    pid: int | None
    port: int | None
    dsn: str | None = field(repr=False)
    version: str | None
    data: Path


def start(
    data: Path,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
    *,
    timeout: float = 60.0,
) -> LocalPostgres:
    """Start the server of folder `data`, making the folder and its cluster first where they are missing.

    A folder keeps its port as long as it is free. Where the server already runs, it is returned as it is
    (`settings` are then not applied). Either a running server is returned or none is left behind.

    Args:
        data: belongs to tidegate alone; the cluster, password, port and log go in there.
        port: on 127.0.0.1; default: the last one, or a free one.
        settings: Postgres settings for this run, such as `{"shared_buffers": "1GB"}`.
        timeout: seconds until the server must accept connections; recovery after a crash is part of it.

    Raises:
        EmbeddedMissing, BinariesUnreachable: no programs to run.
        FolderRefused: not ours, another version, or closed to us.
        PortTaken: `port` was given and is not free.
        InitFailed, StartFailed: with the last 20 lines of the log.
    """
    settings_arguments(settings, port or 0)
    folder = DataFolder.at(data)
    folder.check()
    installed()  # Before anything is made.
    account = folder.claim()
    deadline = time.monotonic() + timeout
    with folder.locked() as lock:
        folder.check()
        while found := postmaster.running(folder.cluster):
            if (server := await_running(folder, found.pid, found.port, deadline)) is not None:
                if port not in (None, server.port):
                    raise UsageError(
                        f"the embedded Postgres in {folder.path} already runs, on port {server.port} and not "
                        f"{port}; stop it first, or leave the port out"
                    )
                return server
        if port is not None:
            check_port(port)
        binaries = reachable(account)
        if not folder.is_initialised():
            began = time.monotonic()
            sync = (settings or {}).get("fsync", "on").lower() not in {"off", "false", "no", "0"}
            initialise(folder, account, binaries, sync=sync, lock=lock)
            log.info("initialised", extra={"data": str(folder.path), "ms": milliseconds_since(began)})
        return launch(folder, account, binaries, port=port, settings=settings, deadline=deadline)


def stop(data: Path, mode: Literal["fast", "immediate"] = "fast", *, timeout: float = 30.0) -> bool:
    """Stop the server of folder `data` and wait until it is gone. Returns whether one was running.

    `fast` ends all sessions and writes a checkpoint; if that takes longer than `timeout` seconds (a client of
    replication that does not read holds it up), it goes on as `immediate`, and the next start recovers.
    Neither loses anything committed.

    Raises:
        FolderRefused: not ours, or the server is another user's.
        StopFailed: it did not go away.
    """
    folder = DataFolder.at(data)
    folder.check()
    if not folder.is_ours():
        return False
    with folder.locked():
        found = postmaster.running(folder.cluster)
        if found is None:
            return False
        began = time.monotonic()
        try:
            gone = mode == "fast" and postmaster.end(found.pid, signal.SIGINT, timeout)
            if mode == "fast" and not gone:
                log.warning("stopping at once", extra={"pid": found.pid, "waited_seconds": timeout})
            gone = gone or postmaster.end(found.pid, signal.SIGQUIT, ENDS_AT_ONCE)
        except PermissionError as error:
            raise FolderRefused(folder.path, "its server is another user's; run this as that user") from error
        if not gone:
            raise StopFailed(
                f"the embedded Postgres in {folder.path} (process {found.pid}) did not stop; see {folder.log}"
            )
        facts = {"data": str(folder.path), "pid": found.pid, "ms": milliseconds_since(began)}
        log.info("stopped", extra=facts)
        return True


def status(data: Path) -> Status:
    """What is known of folder `data`; changes nothing.

    Raises:
        FolderRefused: not ours, or closed to the caller.
    """
    folder = DataFolder.at(data)
    folder.check()
    found = folder.reads(lambda: postmaster.running(folder.cluster))
    if found is None:
        return Status(False, None, folder.port(), None, folder.version(), folder.path)
    port = found.port
    password = folder.password()
    version = folder.version()
    dsn = None
    if password:
        dsn = superuser_dsn(port, password)
        with contextlib.suppress(psycopg.OperationalError):
            version = server_version(folder, port, password)
    return Status(True, found.pid, port, dsn, version, folder.path)


@contextlib.contextmanager
def temporary(
    settings: Mapping[str, str] | None = None, *, port: int | None = None, parent: Path | None = None
) -> Iterator[LocalPostgres]:
    """A server on a new folder; both are gone when the block ends, however it ends.

    Only signals that end Python without an exception (SIGKILL, an unhandled SIGTERM) leave it running.

    Args:
        settings: as in `start`; `DISPOSABLE` is faster and safe here.
        port: as in `start`.
        parent: where the folder is made; default: a temporary folder that the server's account can enter.
    """
    data = Path(tempfile.mkdtemp(prefix="tidegate-", dir=parent or _temporary_parent())).resolve()
    try:
        yield start(data, port, settings)
    finally:
        try:
            _discard(data)
        except KeyboardInterrupt:
            _discard(data)
            raise


def psql_command() -> list[str]:
    """The bundled `psql`, to be executed with `psql_environment(dsn)`; it takes psql's own arguments."""
    return [str(installed().psql)]


def psql_environment(dsn: str) -> dict[str, str]:
    """The caller's environment with the parts of `dsn` in `PGHOST`, `PGPASSWORD` and so on.

    Not on the command line: every user of the machine can read that, and a database named there wins.
    """
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE", "password": "PGPASSWORD"}
    parts = conninfo_to_dict(dsn)
    return {**os.environ, **{names[part]: str(value) for part, value in parts.items() if part in names and value}}


def _discard(data: Path) -> None:
    folder = DataFolder(data)
    for pid in set(postmaster.find(folder.cluster)):
        if not postmaster.end(pid, signal.SIGQUIT, ENDS_AT_ONCE):
            postmaster.end(pid, signal.SIGKILL, ENDS_AT_ONCE)
    shutil.rmtree(data)


def _temporary_parent() -> Path:
    account = server_account()
    usual = Path(tempfile.gettempdir())
    for place in (usual, Path("/tmp"), Path("/var/tmp")):
        if place.is_dir() and closed_to(account, place) is None:
            return place
    return usual

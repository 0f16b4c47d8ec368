"""Making a cluster, and the settings that its server runs with."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tidegate.errors import TidegateError, UsageError
from tidegate.local.account import Account
from tidegate.local.binaries import Binaries
from tidegate.local.data_folder import DataFolder
from tidegate.local.port import LOOPBACK

SUPERUSER = "postgres"

DEFAULTS: Mapping[str, str] = {
    "wal_level": "logical",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    # A slot that nobody reads must not fill the disk; what it loses, `tidegate verify --repair` mends.
    "max_slot_wal_keep_size": "4GB",
    "shared_buffers": "256MB",
}

DISPOSABLE: Mapping[str, str] = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""For data that may be lost with the machine: tests."""

_OURS = frozenset(
    {
        "config_file",
        "data_directory",
        "external_pid_file",
        "hba_file",
        "ident_file",
        "listen_addresses",
        "logging_collector",
        "port",
        "unix_socket_directories",
    }
)
_SETTING = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?", re.IGNORECASE)


class InitFailed(TidegateError):
    """The database cluster could not be made."""


def settings_arguments(settings: Mapping[str, str] | None, port: int) -> list[str]:
    """The server's command line for `settings` over `DEFAULTS`, with what is never up for choice last.

    On the command line, so that no `ALTER SYSTEM` opens the server to the network.

    Raises:
        UsageError: not a setting's name, or one that tidegate sets itself.
    """
    wanted = dict(DEFAULTS)
    for name, value in (settings or {}).items():
        if not _SETTING.fullmatch(name) or "\0" in value:
            raise UsageError(f"{name!r} is not a Postgres setting; see postgresql.org/docs/18/runtime-config")
        if name.lower() in _OURS:
            raise UsageError(f"setting {name!r} is tidegate's own in an embedded Postgres; leave it out")
        wanted[name.lower()] = value
    wanted |= {
        "listen_addresses": LOOPBACK,
        "port": str(port),
        "unix_socket_directories": "",
        # The log is the server's stderr; its errors are looked for in English.
        "logging_collector": "off",
        "log_destination": "stderr",
        "lc_messages": "C",
    }
    return [part for name, value in wanted.items() for part in ("-c", f"{name}={value}")]


def environment() -> dict[str, str]:
    """The server's environment: none of the caller's `PG*`, and one language whatever the caller's is."""
    kept = {name: os.environ[name] for name in ("PATH", "TZ", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LC_ALL": "C"}


def initialise(folder: DataFolder, account: Account, binaries: Binaries, *, sync: bool, lock: int) -> None:
    """Make the cluster in `folder`: beside its place first, so that a cluster is there whole or not at all.

    The lock's descriptor goes to `initdb`: if this process is killed, the next start waits for what runs on.

    Raises:
        InitFailed: with the last lines that `initdb` wrote.
    """
    password = folder.make_password()
    with folder.staging(account) as staging:
        cluster = staging / "cluster"
        password_file = _password_file(staging, password, account)
        command = [
            str(binaries.initdb),
            f"--pgdata={cluster}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # Neither the caller's language nor the version of the system's C library decides how text sorts.
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            *([] if sync else ["--no-sync"]),
        ]
        try:
            made = subprocess.run(
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd="/",
                env=environment(),
                pass_fds=[lock],
                start_new_session=True,
                user=account.user,
                group=account.group,
                extra_groups=account.extra_groups,
            )
        except OSError as error:
            raise InitFailed(f"initdb for {folder.path} could not be run as {account.name}: {error}") from error
        if made.returncode != 0:
            tail = "\n".join(made.stdout.splitlines()[-20:])
            raise InitFailed(f"initdb failed for {folder.path} (exit {made.returncode}); it wrote:\n{tail}")
        cluster.rename(folder.cluster)


def _password_file(staging: Path, password: str, account: Account) -> Path:
    path = staging / "password"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password)
        if account.switched:
            os.fchown(descriptor, account.uid, account.gid)
    return path

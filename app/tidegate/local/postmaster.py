"""The server's main process: whether the one that `postmaster.pid` names is really it, and ending it."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tidegate.local.binaries import EmbeddedMissing


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A process as `postmaster.pid` describes it. `ready` is false while it starts, recovers or ends."""

    pid: int
    port: int
    ready: bool


def pid_file(cluster: Path) -> Path:
    return cluster / "postmaster.pid"


def recorded(cluster: Path) -> Postmaster | None:
    """What `postmaster.pid` says, true or not. None where there is no such file, or no sense in it."""
    try:
        lines = pid_file(cluster).read_text().splitlines()
        # 1 process, 2 data directory, 3 start time, 4 port, … 8 state (Postgres, utils/pidfile.h).
        return Postmaster(int(lines[0]), int(lines[3]), lines[7:8] == ["ready   "])
    except (FileNotFoundError, NotADirectoryError, ValueError, IndexError):
        return None


def running(cluster: Path) -> Postmaster | None:
    """The server that runs on `cluster` now. None where there is none, whatever `postmaster.pid` says."""
    found = recorded(cluster)
    return found if found and _is_server(found.pid, cluster) else None


def remove_stale_pid_file(cluster: Path) -> None:
    """Remove a `postmaster.pid` that names a living process which is not the server.

    Postgres refuses to start when that process belongs to its own user. A file that names a dead process is
    left to Postgres, which also looks for orphaned backends through it.
    """
    found = recorded(cluster)
    if found is None or (_psutil().pid_exists(found.pid) and not _is_server(found.pid, cluster)):
        pid_file(cluster).unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether process `pid` exists and is more than an entry that its parent has not yet collected."""
    psutil = _psutil()
    return psutil.pid_exists(pid) and not _is_zombie(pid)


def find(cluster: Path) -> Iterator[int]:
    """The processes that were started as servers on `cluster`, `postmaster.pid` or not."""
    psutil = _psutil()
    for process in psutil.process_iter(["cmdline"]):
        if _serves(process.info["cmdline"] or [], cluster):
            yield process.pid


def end(pid: int, how: signal.Signals, timeout: float) -> bool:
    """Send `how` to process `pid` and wait up to `timeout` seconds. Returns whether it is gone.

    Raises:
        PermissionError: the process belongs to another user.
    """
    deadline = time.monotonic() + timeout
    send_next = 0.0
    while is_alive(pid):
        now = time.monotonic()
        if now > deadline:
            return False
        if now > send_next:
            # Again and again: a server in its first milliseconds does not listen to signals yet.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
            send_next = now + 0.2
        time.sleep(0.005)
    return True


def _is_server(pid: int, cluster: Path) -> bool:
    psutil = _psutil()
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    if not command or Path(command[0]).name != "postgres":
        return False
    try:
        # A postmaster works in its data directory, also when that was moved or mounted elsewhere since.
        return os.path.samefile(f"/proc/{pid}/cwd", cluster)
    except OSError:
        # No /proc, or root in a container without CAP_SYS_PTRACE.
        return _serves(command, cluster)


def _serves(command: list[str], cluster: Path) -> bool:
    return len(command) > 2 and Path(command[0]).name == "postgres" and command[1:3] == ["-D", str(cluster)]


def _is_zombie(pid: int) -> bool:
    psutil = _psutil()
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _psutil() -> ModuleType:
    try:
        import psutil
    except ImportError:
        raise EmbeddedMissing from None
    return psutil

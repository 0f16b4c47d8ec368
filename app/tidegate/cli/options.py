"""Flags that several commands share, and what the commands are wired from: settings, connections, stop signals."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.errors import UsageError
from tidegate.settings import Settings

if TYPE_CHECKING:
    from tidegate.database import Connection


Dsn = Annotated[
    str | None,
    typer.Option(envvar="TIDEGATE_DSN", help="Postgres, as URI or key=value.", show_default=False),
]
Slot = Annotated[
    str | None,
    typer.Option(envvar="TIDEGATE_SLOT", help="Replication slot; default tidegate_<database>.", show_default=False),
]
As = Annotated[
    str | None,
    typer.Option("--as", envvar="TIDEGATE_AS", help="Role to ask as (SET ROLE).", show_default=False),
]
Count = Annotated[int, typer.Option("-k", "--k", envvar="TIDEGATE_K", min=1, max=10000, help="Rows to find.")]
Products = Annotated[
    list[str] | None,
    typer.Option(
        "--product", envvar="TIDEGATE_PRODUCT", help="Product to search; may be repeated.", show_default=False
    ),
]
OneProduct = Annotated[
    str | None,
    typer.Option("--product", envvar="TIDEGATE_PRODUCT", help="Product; none: all.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", envvar="TIDEGATE_JSON", help="JSON to stdout.")]


def load_settings(**flags: object) -> Settings:
    """Settings from the environment and `.env`, with the flags that were given on top."""
    from pydantic import ValidationError

    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"])
        raise UsageError(f"TIDEGATE_{name.upper()}: {first['msg']}") from None


def given_dsn(flag: str | None) -> str:
    dsn = flag or load_settings().dsn
    if dsn is None:
        raise UsageError(
            "no database: pass --dsn, or set TIDEGATE_DSN (also in .env). "
            "To try without one of your own: tidegate local start"
        )
    return dsn


@contextmanager
def control(dsn: str | None) -> Iterator["Connection"]:
    """A connection to a database whose control schema is this release's."""
    from tidegate.database import connect
    from tidegate.govern.control_schema import require_current

    with connect(given_dsn(dsn)) as connection:
        require_current(connection)
        yield connection


def write_text(file: Path, text: str) -> None:
    """Writes a file that the user named.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from None


def stop_event() -> threading.Event:
    """An event that SIGINT or SIGTERM sets.

    The handler itself takes no lock: it runs in the main thread, perhaps while that holds the event's.
    """
    stop = threading.Event()
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: received.append(number))

    def watch() -> None:
        while not received:
            time.sleep(0.05)
        stop.set()

    threading.Thread(target=watch, name="signals", daemon=True).start()
    return stop

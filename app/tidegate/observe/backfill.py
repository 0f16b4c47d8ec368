"""Progress of backfills."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tidegate.count import counted
from tidegate.database import Connection
from tidegate.errors import TidegateError
from tidegate.observe.status import product_status
from tidegate.sql import queries

_PATIENCE_S = 2.0


class BackfillStopped(TidegateError):
    """A product was suspended before its backfill was done."""


def wait_until_live(connection: Connection, products: Sequence[str], console: Console, poll_s: float = 0.2) -> None:
    """Waits until every product's rows are in the index; shows a progress bar where `console` is a terminal.

    Says once that nothing runs, should that be so, and at the end which products have parked rows.

    Raises:
        BackfillStopped: a product was suspended; says why.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began, told = time.monotonic(), False
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks = {name: progress.add_task(name, total=None) for name in products}
        while True:
            states = [status for status in product_status(connection) if status.product in tasks]
            for status in states:
                total = max(status.source_rows_estimate or 0, status.rows)
                done = status.state == "live"
                progress.update(
                    tasks[status.product], completed=status.rows, total=status.rows if done else total or None
                )
                if status.state == "suspended":
                    raise BackfillStopped(f"{status.product} is suspended: {status.state_reason}")
            if all(status.state == "live" for status in states):
                break
            if not told and time.monotonic() - began > _PATIENCE_S and not _somebody_runs(connection):
                console.print('waiting: no "tidegate run" is at work on this database; start one')
                told = True
            time.sleep(poll_s)
    for status in states:
        if status.dead_letters:
            parked = f"{counted(status.dead_letters, 'row')} {'is' if status.dead_letters == 1 else 'are'} parked"
            console.print(f'{status.product}: {parked}; see "tidegate dead-letters list"')


def _somebody_runs(connection: Connection) -> bool:
    row = connection.execute(queries("status")["somebody_runs"]).fetchone()
    return row is not None and bool(row[0])

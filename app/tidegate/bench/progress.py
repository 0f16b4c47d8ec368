"""Progress of a benchmark, on stderr."""

import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tidegate.console import err

log = logging.getLogger(__name__)


class Steps:
    """The steps of a benchmark: a bar each on a terminal, a line each elsewhere."""

    def __init__(self, progress: Progress):
        self._progress = progress

    def step(self, description: str, total: int | None = None) -> Callable[[int | None], None]:
        """Begins a step. The function returned moves its bar: by one, or to a count."""
        if self._progress.disable:
            err.print(description)
        for task in self._progress.tasks:
            if task.total is None:
                self._progress.update(task.id, total=1, completed=1)
        task_id = self._progress.add_task(description, total=total)

        def move(to: int | None = None) -> None:
            self._progress.update(task_id, advance=1 if to is None else None, completed=to)

        return move


@contextlib.contextmanager
def steps() -> Iterator[Steps]:
    """Shows the steps. SIGTERM ends a benchmark as SIGINT does: what it started is stopped and removed."""
    before = signal.signal(signal.SIGTERM, _end)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
            yield Steps(progress)
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)

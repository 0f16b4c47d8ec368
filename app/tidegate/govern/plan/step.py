"""The statements of a plan."""

from dataclasses import dataclass

from psycopg import sql

from tidegate.capture.stream import HOME
from tidegate.database import Connection


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of a plan. `as_owner`: run as tidegate_owner, else as the login that applies. `locks`: it locks
    the chunk table against readers; these come last, so that the lock is short. `source`: run on this source database,
    where that is another than the index's."""

    statement: sql.Composed
    as_owner: bool = True
    locks: bool = False
    source: str = HOME

    def text(self, connection: Connection | None) -> str:
        """The statement as text; one on another database says so."""
        where = f"-- on {self.source}\n" if self.source else ""
        return where + self.statement.as_string(connection)


class Steps:
    """What a plan gathers: statements in their order, what it says of them, and what is gone afterwards."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.summary: list[str] = []
        self.drops: list[str] = []

    def __len__(self) -> int:
        return len(self.steps)

    def own(self, *statements: sql.Composed) -> None:
        """To be run as tidegate_owner."""
        self.steps += [Step(statement) for statement in statements]

    def as_login(self, *statements: sql.Composed) -> None:
        """To be run as the login that applies."""
        self.steps += [Step(statement, as_owner=False) for statement in statements]

    def say(self, *lines: str) -> None:
        """What it does, a line each."""
        self.summary += lines

    def cut(self, begin: int) -> list[Step]:
        """Takes out the steps from this one on, to be put elsewhere."""
        cut = self.steps[begin:]
        del self.steps[begin:]
        return cut

"""A table of pages, random changes of it, and every state that it was in: what an index may show is one of these.

`team.page` has an embedded column that is kept out of line and, where it does not change, out of the events; and one
that no text is made of but that rules look at.
"""

import itertools
import random
from collections.abc import Sequence
from typing import Any, LiteralString

from hypothesis import strategies as st
from tests.histories.model import POISON
from tests.integration.offer import offer

from tidegate.capture.position import Lsn, lsn
from tidegate.database import Connection

KEYS = 6
CONTRACT = offer(
    "team.page",
    {"id": "integer", "title": "text", "body": "text", "region": "text"},
    carried=["region"],
    embed=["title", "body"],
    tokens=200,
)
_TABLE = (
    "CREATE SCHEMA team",
    "CREATE TABLE team.page (id int PRIMARY KEY, title text, body text, region text)",
    "ALTER TABLE team.page ALTER body SET STORAGE EXTERNAL",
)
_turns = itertools.count(1)

Row = tuple[str, str]
"""What the index has of a row: its words, its region."""
State = dict[int, Row]
Change = tuple[Any, ...]

keys = st.integers(1, KEYS)


def changes_of(some: st.SearchStrategy[int]) -> st.SearchStrategy[Change]:
    """A change of one of these keys."""
    return st.one_of(
        st.tuples(st.just("insert"), some),
        st.tuples(st.sampled_from(["title", "title", "poison", "body", "region", "region", "nothing"]), some),
        st.tuples(st.sampled_from(["delete", "again"]), some),
    )


changes = st.one_of(
    changes_of(keys),
    st.tuples(st.just("rekey"), keys, keys),
    st.sampled_from([("all",), ("all regions",), ("truncate",)]),
)
_OVERLAPPING = KEYS // 2
early = changes_of(st.integers(1, _OVERLAPPING))
late = changes_of(st.integers(_OVERLAPPING + 1, KEYS))
"""Changes of keys that two transactions can make at the same time."""


class Pages:
    """The table and its history.

    Attributes:
        connection: a superuser's, which changes the table; another one after the server was restarted.
        states: those that the table was in, each with a place in the WAL by which it was committed.
        log: what was done, for the message of a failure.
    """

    def __init__(self, connection: Connection):
        self.connection = connection
        self.states: list[tuple[Lsn, State]] = []
        self.log: list[str] = []
        self._between: list[State] = []

    def create(self) -> None:
        """Makes the table; it must be published by the caller."""
        for statement in _TABLE:
            self.connection.execute(statement)

    def here(self) -> Lsn:
        """Where the WAL is."""
        row = self.connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        return lsn(row[0])

    def begin(self) -> None:
        """A new history from here on, with rows: most changes meet one."""
        self.log.clear()
        self.states[:] = [(self.here(), source(self.connection))]
        self.transaction([("insert", key) for key in range(1, KEYS + 1)])

    def transaction(self, done: Sequence[Change], *, rolled_back: bool = False) -> None:
        """Makes the changes in one transaction."""
        self.log.append(f"transaction {done}{' rolled back' if rolled_back else ''}")
        self._between = []
        with self.connection.transaction(force_rollback=rolled_back):
            for change in done:
                self._change(self.connection, *change)
        committed = self.here()
        if not rolled_back:
            self.states += [(committed, state) for state in self._between]
        self.states.append((committed, source(self.connection)))

    def overlap(
        self, other: Connection, begun: Sequence[Change], meanwhile: Sequence[Change], *, rolled_back: bool = False
    ) -> None:
        """A transaction of `early` changes that begins before one of `late` changes, and is committed after it.

        Args:
            other: the connection of the first.
        """
        self.log.append(f"over the next one: {begun}{' rolled back' if rolled_back else ''}")
        with other.transaction(force_rollback=rolled_back):
            self._between = []
            for change in begun:
                self._change(other, *change)
            between = self._between
            self.transaction(meanwhile)
        committed, after = self.here(), source(self.connection)
        if not rolled_back:
            others = {key: row for key, row in after.items() if key > _OVERLAPPING}
            self.states += [
                (committed, {**others, **{key: row for key, row in state.items() if key <= _OVERLAPPING}})
                for state in between
            ]
        self.states.append((committed, after))

    def _change(self, connection: Connection, kind: str, key: int = 0, to: int = 0) -> None:
        turn = next(_turns)
        text = f"version {turn}"

        def run(statement: LiteralString, values: Sequence[Any] = ()) -> None:
            # A batch may end behind any statement: rows are seen as they were then, until the rest comes.
            connection.execute(statement, values)
            self._between.append(source(connection))

        match kind:
            case "insert" | "again":
                if kind == "again":
                    run("DELETE FROM team.page WHERE id = %s", [key])
                run(
                    "INSERT INTO team.page VALUES (%s, %s, %s, 'EU') ON CONFLICT DO NOTHING",
                    [key, text, body(turn) if key % 2 else text],
                )
            case "title" | "poison":
                title = f"{POISON} {text}" if kind == "poison" else text
                run("UPDATE team.page SET title = %s WHERE id = %s", [title, key])
            case "body":
                run("UPDATE team.page SET body = %s WHERE id = %s", [body(turn), key])
            case "region":
                run("UPDATE team.page SET region = %s WHERE id = %s", [f"R{turn}", key])
            case "nothing":
                run("UPDATE team.page SET title = title WHERE id = %s", [key])
            case "delete":
                run("DELETE FROM team.page WHERE id = %s", [key])
            case "rekey":
                run("DELETE FROM team.page WHERE id = %s AND id <> %s", [to, key])
                run("UPDATE team.page SET id = %s WHERE id = %s", [to, key])
            case "all":
                run("UPDATE team.page SET title = %s", [text])
            case "all regions":
                run("UPDATE team.page SET region = %s", [f"R{turn}"])
            case "truncate":
                run("TRUNCATE team.page")
            case other:
                raise AssertionError(f"no change {other}")


def source(connection: Connection) -> State:
    """The table as the connection sees it."""
    rows = connection.execute("SELECT id, title, body, region FROM team.page").fetchall()
    return {id_: (words(title, body), region) for id_, title, body, region in rows}


def words(*texts: str) -> str:
    return " ".join(" ".join(texts).split())


def body(turn: int) -> str:
    """About 2,600 characters, some chunks; its words tell the version."""
    pick = random.Random(turn)
    return f"body {turn} " + " ".join(f"{pick.getrandbits(40):x}" for _ in range(230))


def shown(row: Row | None) -> Row | None:
    """What the index may have of a row: nothing of one that is refused."""
    return None if row is None or POISON in row[0] else row

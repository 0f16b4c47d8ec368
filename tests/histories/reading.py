"""Reads of the index of pages, and whether they can be explained by what the table was.

At every read each row is as it was in some state since the one that the watermark promises, all of one version, or
rightly absent. So there is no ghost and no mixture, and no row is older than is promised.
"""

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from tests.histories.page import State, shown, source, words

from tidegate.capture.position import Lsn, lsn
from tidegate.database import Connection, connect
from tidegate.errors import TidegateError


@dataclass(frozen=True, slots=True)
class Read:
    """What was read at once: up to where the index is promised to be complete, and what it has."""

    promised: Lsn
    indexed: State


def read(connection: Connection) -> Read:
    """One read, of one snapshot."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        row = connection.execute("SELECT lsn::text FROM tidegate.lane_watermark").fetchone()
        indexed = index(connection)
    return Read(Lsn(0) if row is None or row[0] is None else lsn(row[0]), indexed)


def index(connection: Connection) -> State:
    """All rows of the index, their chunks put together; two versions of one row would not be a text of the source."""
    chunks = connection.execute("SELECT id, region, content FROM rag_team.page ORDER BY id, chunk_no").fetchall()
    found: dict[int, tuple[set[str], list[str]]] = {}
    for id_, region, content in chunks:
        regions, texts = found.setdefault(id_, (set(), []))
        regions.add(region)
        texts.append(content)
    return {id_: (words(*texts), " ".join(sorted(regions))) for id_, (regions, texts) in found.items()}


def unexplained(seen: Read, states: Sequence[tuple[Lsn, State]]) -> str | None:
    """What of the read was in none of the states that it may show; None: nothing."""
    first = max((place for place, (at, _) in enumerate(states) if at <= seen.promised), default=0)
    # What was there before this history is in all of its states, or changed by it.
    allowed_states = [state for _, state in states[first:]]
    for key in {*seen.indexed, *(key for state in allowed_states for key in state)}:
        allowed = {shown(state.get(key)) for state in allowed_states}
        if seen.indexed.get(key) not in allowed:
            return f"promised {seen.promised}: row {key} is {seen.indexed.get(key)}, and may be {allowed}"
    return None


def difference(connection: Connection) -> str | None:
    """How index, dead letters and ledger differ from the table when everything is written; None: not at all."""
    wanted, found = source(connection), index(connection)
    if found != {key: row for key, row in wanted.items() if shown(row)}:
        return f"not the source: {found} instead of {wanted}"
    letters = connection.execute("SELECT (key::jsonb ->> 'id')::int FROM tidegate.dead_letter").fetchall()
    if {row[0] for row in letters} != {key for key, row in wanted.items() if not shown(row)}:
        return f"dead letters {letters} of {wanted}"
    ledger = connection.execute("SELECT count(*) FROM tidegate.ledger WHERE state <> 'deleted'").fetchone()
    return None if ledger == (len(wanted),) else f"ledger of {ledger} rows for {wanted}"


@dataclass
class Reader(threading.Thread):
    """Reads all the time, and keeps what differs from the read before; a server that is away is waited for.

    Attributes:
        reads: how many there were.
    """

    dsn: str
    reads: int = 0
    _kept: list[Read] = field(default_factory=list)
    _last: Read | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _ending: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(name="reader", daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(psycopg.Error, TidegateError), connect(self.dsn) as connection:
                while not self._ending.wait(0.01):
                    with self._turn:
                        self._keep(read(connection))
            self._ending.wait(0.05)

    def _keep(self, seen: Read) -> None:
        self.reads += 1
        if seen != self._last:
            self._kept.append(seen)
            self._last = seen

    def take(self) -> list[Read]:
        """What was read since the last call. To be explained by all states up to now: some of the reads may have seen
        a change whose state is being noted."""
        with self._turn:
            taken, self._kept = self._kept, []
        return taken

    def end(self) -> None:
        self._ending.set()
        self.join(20)

"""Histories whose index is kept by real processes: killed, ended, paused, and started again at any time."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from tests.conftest import wait_until
from tests.histories.history import PATIENCE_S, Failures, History
from tests.histories.page import KEYS, Pages
from tests.histories.program import Faults, Program
from tests.histories.reading import Read, Reader, difference

HELD_S = 1.0
places = st.integers(0, 7)
moments = st.sampled_from([0.0, 0.05, 0.3, 1.0])


@dataclass
class Processes:
    """A database and who keeps its index.

    Attributes:
        start: starts one of them.
        running: those that run; None: a place where one was, and will be.
        deeds: how often each fault was done.
    """

    dsn: str
    pages: Pages
    faults: Faults
    start: Callable[[], Program]
    running: list[Program | None]
    reader: Reader = field(init=False)
    deeds: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.reader = Reader(self.dsn)
        self.reader.start()

    def one(self, statement: str, *parameters: Any) -> Any:
        row = self.pages.connection.execute(statement, parameters).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return row[0]

    def start_all(self) -> None:
        """No place is empty afterwards."""
        self.running[:] = [program or self.start() for program in self.running]

    def caught_up(self) -> None:
        """Everything that was committed before is in the index, backfills included."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for program in self.running:
                assert program is not None
                program.require()
            state = self.one("SELECT state FROM tidegate.product")
            if self.one("SELECT tidegate.wait_for(pg_current_wal_insert_lsn(), '500ms')") and state == "live":
                return
            assert time.monotonic() < deadline, f"not caught up: {self.stands()}"

    def stands(self) -> str:
        """What stands still, for the message of a failure."""
        tables = ("product", "watermark", "stream_partition", "worker", "dead_letter")
        told = {
            name: self.pages.connection.execute(
                f"SELECT to_jsonb(t) - 'contract' - 'contract_text' FROM tidegate.{name} t"
            ).fetchall()  # type: ignore[arg-type]
            for name in tables
        }
        program = next((program for program in self.running if program), None)
        return "\n".join([str(told), "" if program is None else program.log()])

    def close(self) -> None:
        self.reader.end()
        for program in self.running:
            if program is not None:
                program.kill()
        print(f"{self.reader.reads} reads, {dict(self.deeds)}")


class ProcessHistory(History):
    """Faults that any process can have. A history begins with nothing, and with all processes running."""

    def __init__(self, failures: Failures, held: Processes):
        super().__init__(failures, held.pages, held.dsn)
        self.held = held
        self.pages.transaction([("truncate",)])
        held.start_all()
        held.caught_up()
        held.reader.take()
        self.pages.begin()

    def note(self, deed: str, *details: object) -> None:
        self.held.deeds[deed] += 1
        self.pages.log.append(" ".join(map(str, (deed, *details))))

    def pick(self, place: int) -> tuple[int, Program] | None:
        """One of the processes that run, and its place."""
        running = [(number, program) for number, program in enumerate(self.held.running) if program]
        return running[place % len(running)] if running else None

    @rule(place=places, moment=moments, again=st.booleans())
    def kill(self, place: int, moment: float, again: bool) -> None:
        """kill -9, a moment after the last change; another one is started at once, or later."""
        picked = self.pick(place)
        if picked is None:
            return
        number, program = picked
        time.sleep(moment)
        self.note("kill -9", number)
        program.require()
        program.kill()
        self.held.running[number] = self.held.start() if again else None

    @rule(place=places, moment=moments)
    def end(self, place: int, moment: float) -> None:
        """SIGTERM, and another one."""
        picked = self.pick(place)
        if picked is None:
            return
        number, program = picked
        time.sleep(moment)
        self.note("SIGTERM", number)
        program.end(PATIENCE_S)
        self.held.running[number] = self.held.start()

    @precondition(lambda self: None in self.held.running)
    @rule()
    def start(self) -> None:
        self.note("start")
        self.held.start_all()

    @rule(place=places, seconds=st.sampled_from([0.2, 1.0]))
    def pause(self, place: int, seconds: float) -> None:
        picked = self.pick(place)
        if picked is None:
            return
        number, program = picked
        self.note("pause", number)
        with program.paused():
            time.sleep(seconds)

    @rule(away=st.booleans(), delay_s=st.sampled_from([0.0, 0.05, 0.3]))
    def model(self, away: bool, delay_s: float) -> None:
        self.note("model", f"away {away}, delay {delay_s}")
        self.held.faults.tell(away=away, delay_s=delay_s)

    @rule(seconds=moments)
    def rest(self, seconds: float) -> None:
        """The processes get on with it."""
        time.sleep(seconds)

    def reads(self) -> Sequence[Read]:
        return [*self.held.reader.take(), *super().reads()]

    def last(self) -> None:
        """What is still done to the index when all of a history is in it."""

    def disturb(self) -> None:
        """What is done to each history at its end, before all must be right: a process is killed while it embeds, and
        what it had in hand is nowhere."""
        number, program = self.embedding()
        time.sleep(HELD_S / 2)
        self.note("kill -9 while it embeds", number)
        program.kill()
        self.held.running[number] = None

    def embedding(self) -> tuple[int, Program]:
        """One of the processes that embeds at this moment, for HELD_S more at most; all of them run."""
        self.held.start_all()
        self.held.caught_up()
        self.held.faults.tell(delay_s=HELD_S)
        # Of new texts no chunk stays: what such a row must not overwrite, the ledger alone tells.
        self.pages.transaction([("again", key) for key in range(1, KEYS + 1)])
        running = [(number, program) for number, program in enumerate(self.held.running) if program]
        asked = self.held.faults.asked
        wait_until(lambda: any(asked(program) for _, program in running), PATIENCE_S, "a model is asked")
        return next((number, program) for number, program in running if asked(program))

    def finish(self) -> None:
        self.held.faults.tell()
        self.disturb()
        self.held.faults.tell()
        self.held.start_all()
        self.held.caught_up()
        self.last()
        self.held.caught_up()
        self.every_read_can_be_explained()
        wrong = difference(self.pages.connection)
        assert wrong is None, self.told(wrong)

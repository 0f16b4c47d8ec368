"""The rules that all histories share: what happens to the table, and that every read can be explained."""

import itertools
import os
import sys
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.histories.page import Change, Pages, changes, early, late
from tests.histories.reading import Read, read, unexplained

from tidegate.database import connect

PATIENCE_S = 150.0
"""For a machine that is busy with something else: a history ends as soon as it can."""
rolled_back = st.sampled_from([False] * 5 + [True])


def histories(default: int) -> int:
    """How many: so many, or as TIDEGATE_HISTORIES says."""
    return int(os.environ.get("TIDEGATE_HISTORIES", str(default)))


class Failures:
    """What went wrong first. With real processes and real time the same steps may end well, and hypothesis, which tries
    them again, would say only that."""

    def __init__(self) -> None:
        self.first: BaseException | None = None

    def note(self, error: BaseException) -> None:
        # Its own exceptions end a history, too.
        if self.first is None and not type(error).__module__.startswith("hypothesis"):
            self.first = error


def run_histories(make: Callable[[Failures], "History"], count: int, steps: int) -> None:
    """Makes so many histories of at most so many steps, and the shortest, which hypothesis always tries first."""
    failures, made = Failures(), itertools.count()

    def one() -> "History":
        next(made)
        return make(failures)

    try:
        run_state_machine_as_test(
            one,
            settings=settings(
                max_examples=count + 1,
                stateful_step_count=steps,
                phases=[Phase.generate],
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        print(f"{next(made)} histories")
        if failures.first is not None:
            raise failures.first from None


class History(RuleBasedStateMachine):
    """Changes of the pages. Who runs the index is a subclass's business."""

    def __init__(self, failures: Failures, pages: Pages, dsn: str):
        if failures.first is not None:
            raise failures.first
        super().__init__()
        self._failures = failures
        self.pages = pages
        self._dsn = dsn

    @rule(done=st.lists(changes, min_size=1, max_size=4), rolled_back=rolled_back)
    def transaction(self, done: list[Change], rolled_back: bool) -> None:
        self.pages.transaction(done, rolled_back=rolled_back)

    @rule(
        begun=st.lists(early, min_size=1, max_size=3),
        meanwhile=st.lists(late, min_size=1, max_size=3),
        rolled_back=rolled_back,
    )
    def overlap(self, begun: list[Change], meanwhile: list[Change], rolled_back: bool) -> None:
        with connect(self._dsn) as other:
            self.pages.overlap(other, begun, meanwhile, rolled_back=rolled_back)

    @rule()
    def backfill(self) -> None:
        self.pages.log.append("backfill")
        self.pages.connection.execute("UPDATE tidegate.product SET state = 'pending' WHERE state = 'live'")

    def reads(self) -> Sequence[Read]:
        """What was read since the last step."""
        return [read(self.pages.connection)]

    @invariant()
    def every_read_can_be_explained(self) -> None:
        for seen in self.reads():
            wrong = unexplained(seen, self.pages.states)
            assert wrong is None, self.told(wrong)

    def finish(self) -> None:
        """Drains, and compares."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends what the history began, however it went."""

    def teardown(self) -> None:
        error = sys.exc_info()[1]
        try:
            if error is not None:
                self._failures.note(error)
            if self._failures.first is None:
                self.finish()
        except BaseException as wrong:
            self._failures.note(wrong)
            raise
        finally:
            self.close()

    def told(self, what: str) -> str:
        """What is wrong, and the history so far."""
        ledger = self.pages.connection.execute("SELECT key, position, state FROM tidegate.ledger").fetchall()
        states = [at for at, _ in self.pages.states]
        return "\n".join((what, *self.pages.log, f"ledger {ledger}", f"states {states}"))

"""The rules that all histories share: what happens to the table, and that every read can be explained."""

import os
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.histories.page import Change, Pages, changes, early, late
from tests.histories.reading import Read, read, unexplained

from tidegate.database import connect

rolled_back = st.sampled_from([False] * 5 + [True])


def histories(default: int) -> int:
    """How many: so many, or as TIDEGATE_HISTORIES says."""
    return int(os.environ.get("TIDEGATE_HISTORIES", str(default)))


def random_ones(count: int, steps: int) -> settings:
    """Settings for so many histories of so many steps, and the shortest, which hypothesis always tries first. What a
    failure printed is its record: with real processes and real time, the same steps may end well."""
    return settings(
        max_examples=count + 1,
        stateful_step_count=steps,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


class History(RuleBasedStateMachine):
    """Changes of the pages. Who runs the index is a subclass's business."""

    def __init__(self, pages: Pages, dsn: str):
        super().__init__()
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

    def told(self, what: str) -> str:
        """What is wrong, and the history so far."""
        ledger = self.pages.connection.execute("SELECT key, position, state FROM tidegate.ledger").fetchall()
        states = [at for at, _ in self.pages.states]
        return "\n".join((what, *self.pages.log, f"ledger {ledger}", f"states {states}"))

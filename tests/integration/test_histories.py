"""Random histories of a table against random faults: what is indexed is the source, whatever happens on the way.

Real changes: hypothesis makes transactions on a real table, and a real Debezium engine delivers their events, backfills
too. They are recorded as they come and handed to real workers, as often and as far as hypothesis wants: workers crash
with what they hold, are followed by others that get events again from further back, go on as zombies beside these,
and have a model that is slow, away or refuses a text. Changes come again, late and in any order.

At every read the index must be explainable (histories/reading.py). In the end, index = f(source).

`TIDEGATE_HISTORIES=3000` is the long mode. Kills of the real process and of the server are
test_process_histories.py's; two workers behind Kafka are kafka/test_histories.py's.
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from tests.conftest import Tide, fresh_database, wait_until
from tests.histories.history import PATIENCE_S, Failures, History, histories, run_histories
from tests.histories.model import QuickModel, QuickModels
from tests.histories.page import CONTRACT, Change, Pages, changes
from tests.histories.reading import difference

from tidegate.capture.acknowledgement import Acknowledgements
from tidegate.capture.change_event import ChangeEvent, Message, StreamEvent
from tidegate.capture.engine import EmbeddedEngine, EngineConfig
from tidegate.capture.position import Lsn
from tidegate.capture.slot import ensure_slot
from tidegate.capture.stream import EMBEDDED, Stream
from tidegate.database import connect
from tidegate.index import house, pause
from tidegate.index.embedding.local_model import MODEL
from tidegate.index.embedding.registry import Embedders
from tidegate.index.worker import Worker
from tidegate.settings import Settings

HISTORIES = histories(10)
LATE = 25
"""Changes of a history that come once more, in any order, when all of it is indexed."""


@dataclass
class World:
    """A database, its real engine, and every event that came of it, in order."""

    tide: Tide
    pages: Pages
    model: QuickModel
    events: list[StreamEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seen = Lsn(0)
        self.acknowledgements: Acknowledgements[Any] = Acknowledgements()
        with connect(self.tide.dsn) as connection:
            ensure_slot(connection, "histories")
        config = EngineConfig(self.tide.dsn, "histories", 5, 100, 320)
        self.engine = EmbeddedEngine(config, self, self.acknowledgements)

    def receive(self, events: Sequence[tuple[int, StreamEvent]], stream: Stream = EMBEDDED) -> None:
        for _, event in events:
            self.events.append(event)
            if isinstance(event, Message) or (isinstance(event, ChangeEvent) and not event.backfill):
                self.seen = max(self.seen, event.position.change)
        self.acknowledgements.finish([number for number, _ in events])

    def follow(self) -> None:
        """Until the engine has delivered what was committed before."""
        wanted = self.pages.here()
        self.tide.admin.execute("SELECT pg_logical_emit_message(true, 'tidegate', 'here')")
        wait_until(
            lambda: self.seen >= wanted or self.engine.failure(), PATIENCE_S, f"the engine delivers up to {wanted:X}"
        )
        assert self.engine.failure() is None


@pytest.fixture(scope="module")
def world(server_dsn: str, template: str, embedders: Embedders) -> Iterator[World]:
    patch = pytest.MonkeyPatch()
    for module, name, value in (
        (pause, "FIRST_S", 0.01),
        (pause, "MOST_S", 0.05),
        (house, "HOUSEKEEPING_S", 0.05),
    ):
        patch.setattr(module, name, value)
    model = QuickModel(embedders.of(MODEL))
    options = Settings(embedding_attempts=10_000, _env_file=None)
    with fresh_database(server_dsn, template) as dsn, connect(dsn) as admin:
        tide = Tide(dsn, admin, QuickModels(model), options)
        pages = Pages(admin)
        pages.create()
        tide.apply(CONTRACT)
        held = World(tide, pages, model)
        try:
            held.engine.start()
            yield held
        finally:
            # However early it is interrupted: Debezium's threads would keep this process from its end.
            held.engine.stop()
            patch.undo()


class Histories(History):
    """See the module."""

    def __init__(self, failures: Failures, world: World):
        super().__init__(failures, world.pages, world.tide.dsn)
        self.world, self.admin, self.log = world, world.tide.admin, world.pages.log
        self.admin.execute("TRUNCATE team.page")
        world.follow()
        self.admin.execute("DELETE FROM rag_team.page; DELETE FROM tidegate.ledger; DELETE FROM tidegate.dead_letter")
        self.admin.execute(
            "UPDATE tidegate.product SET state = 'live', truncated_at = NULL; DELETE FROM tidegate.watermark"
        )
        self.first_event = self.at = len(world.events)
        self.zombies: list[tuple[Worker, QuickModel, Acknowledgements[int]]] = []
        self.start_worker()
        world.pages.begin()

    def start_worker(self) -> None:
        self.acknowledgements: Acknowledgements[int] = Acknowledgements()
        self.model = QuickModel(self.world.model.inner)
        self.worker = Worker(
            self.world.tide.dsn, self.world.tide.settings, QuickModels(self.model), self.acknowledgements
        )
        self.worker.start()
        self.handed: list[int] = []
        """For each number that the worker was handed: the event at which another goes on if this one is not done."""

    # What delivers and indexes.

    @rule(done=st.lists(changes, min_size=1, max_size=3), share=st.floats(0.2, 1))
    def deliver(self, done: list[Change], share: float) -> None:
        """Changes more, and hands over some of what has come."""
        self.pages.transaction(done)
        self.world.follow()
        waiting = len(self.world.events) - self.at
        self.hand_over(round(waiting * share))

    def hand_over(self, count: int) -> None:
        events = self.world.events[self.at : self.at + count]
        self.handed += range(self.at, self.at + len(events))
        self.at += len(events)
        own = [event for event in events if not isinstance(event, ChangeEvent) or event.schema == "team"]
        self.log.append("deliver " + "; ".join(str(event)[:200] for event in own))
        self.worker.receive([(self.acknowledgements.open(), event) for event in events])

    @rule()
    def settle(self) -> None:
        """Lets the worker finish what it has, if it can."""
        deadline = time.monotonic() + 1
        while self.acknowledgements.outstanding and not self.model.away and time.monotonic() < deadline:
            time.sleep(0.005)

    @rule(back=st.integers(0, 8), as_zombie=st.booleans())
    def crash(self, back: int, as_zombie: bool) -> None:
        """Another worker gets what was not acknowledged, and the last `back` changes before it. The old one loses what
        it holds; or it is held up, and goes on with it when all others are done."""
        done = self.acknowledgements._low
        again = self.handed[done] if done < len(self.handed) else self.at
        self.log.append(f"crash {back} {as_zombie}")
        if as_zombie:
            self.model.away = True
            self.world.follow()
            self.hand_over(len(self.world.events) - self.at)
            self.zombies.append((self.worker, self.model, self.acknowledgements))
        else:
            self.worker.stop()
        own = [n for n in range(self.first_event, again) if getattr(self.world.events[n], "schema", "") == "team"]
        self.at = own[-back] if 0 < back <= len(own) else self.first_event if back else again
        self.start_worker()

    @rule(place=st.floats(0, 1))
    def late(self, place: float) -> None:
        """One change comes again, alone, long after what followed it: of another worker's, or another partition's."""
        own = self.own(self.at)
        if own:
            self.again(own[round(place * (len(own) - 1))])

    def own(self, until: int) -> list[ChangeEvent]:
        """The changes of this history that were delivered."""
        return [
            event
            for event in self.world.events[self.first_event : until]
            if isinstance(event, ChangeEvent) and event.schema == "team"
        ]

    def again(self, event: ChangeEvent) -> None:
        self.log.append("late " + str(event)[:200])
        self.handed.append(self.at)
        self.worker.receive([(self.acknowledgements.open(), event)])
        self.settle()

    @rule(away=st.booleans(), delay=st.sampled_from([0.0, 0.0, 0.02]))
    def model_changes(self, away: bool, delay: float) -> None:
        self.model.away, self.model.delay_s = away, delay

    @precondition(lambda self: self.model.away)
    @rule()
    def model_comes_back(self) -> None:
        self.model.away = False

    def finish(self) -> None:
        self.model.away, self.model.delay_s = False, 0.0
        self.drain()
        for _, model, acknowledgements in self.zombies:
            model.away = False
            wait_until(lambda held=acknowledgements: not held.outstanding, PATIENCE_S, "a zombie ends")  # type: ignore[misc]
        self.settle()
        events = self.own(len(self.world.events))
        random.Random(len(self.log)).shuffle(events)
        for event in events[:LATE]:
            self.again(event)
        wait_until(lambda: not self.acknowledgements.outstanding, PATIENCE_S, "late changes end")
        wrong = difference(self.admin)
        assert wrong is None, self.told(wrong)

    def close(self) -> None:
        for _, model, _ in self.zombies:
            model.away = False
        for each in (*(zombie for zombie, _, _ in self.zombies), self.worker):
            each.stop()

    def drain(self) -> None:
        """Until everything that was committed is delivered and finished, and no backfill is under way."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self.world.follow()
            self.hand_over(len(self.world.events) - self.at)
            state = self.world.tide.one("SELECT state FROM tidegate.product")
            if state == "live" and not self.acknowledgements.outstanding and self.at == len(self.world.events):
                break
            assert time.monotonic() < deadline, (
                f"not drained: product {state}, {self.acknowledgements.outstanding} of "
                f"{len(self.handed)} events unfinished, engine at {self.world.seen:X}, "
                f"{self.world.tide.rows('SELECT * FROM tidegate.watermark')}"
            )
            time.sleep(0.01)


@pytest.mark.timeout(600 + 5 * HISTORIES)
def test_index_is_the_source_after_every_history(world: World) -> None:
    run_histories(lambda failures: Histories(failures, world), HISTORIES, 15)

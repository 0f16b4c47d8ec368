"""Random histories of a table against random faults: what is indexed is the source, whatever happens on the way.

Real changes: hypothesis makes transactions on a real table, and a real Debezium engine delivers their events, backfills
too. They are recorded as they come and handed to real workers, as often and as far as hypothesis wants: workers crash
with what they hold, are followed by others that get events again from further back, go on as zombies beside these,
and have a model that is slow, away or refuses a text. Changes come again, late and in any order.

At every read the index must be explainable: each row as it was in some state since the one that the watermark promises,
all of one version, or rightly absent. In the end, index = f(source).

`TIDEGATE_HISTORIES=3000` is the long mode. Kills of the real process and of the server are test_kill.py's.
"""

import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from tests.conftest import Tide, fresh_database, wait_until
from tests.integration.offer import offer

from tidegate.capture.acknowledgement import Acknowledgements
from tidegate.capture.change_event import ChangeEvent, Message, StreamEvent
from tidegate.capture.engine import EmbeddedEngine, EngineConfig
from tidegate.capture.position import Lsn, lsn
from tidegate.capture.slot import ensure_slot
from tidegate.capture.stream import EMBEDDED, Stream
from tidegate.database import Connection, connect
from tidegate.index import house, pause
from tidegate.index.embedding.embedder import Embedder, EmbedderUnavailable, TextRefused, Vectors
from tidegate.index.embedding.local_model import MODEL
from tidegate.index.embedding.registry import Embedders
from tidegate.index.worker import Worker
from tidegate.settings import Settings

HISTORIES = int(os.environ.get("TIDEGATE_HISTORIES", "15"))
KEYS = 6
LATE = 25
"""Changes of a history that come once more, in any order, when all of it is indexed."""
POISON = "poison"
COLUMNS = {"id": "integer", "title": "text", "body": "text", "region": "text"}

Row = tuple[str, str]
"""What the index has of a row: its words, its region."""
State = dict[int, Row]


class QuickModel:
    """Vectors that cost nothing, and faults: what is cut into chunks is cut by the real model's splitter."""

    def __init__(self, inner: Embedder):
        self.inner = inner
        self.model, self.max_tokens, self.dimension = inner.model, inner.max_tokens, inner.dimension
        self.splitter = inner.splitter
        self.prepare = inner.prepare
        self.away = False
        self.delay_s = 0.0

    def embed(self, texts: Sequence[str]) -> Vectors:
        time.sleep(self.delay_s)
        if self.away:
            raise EmbedderUnavailable("told to be away")
        if any(POISON in text for text in texts):
            raise TextRefused("a text is refused")
        return np.ones((len(texts), self.dimension), dtype=np.float32)

    embed_bulk = embed


class QuickModels(Embedders):
    def __init__(self, model: QuickModel):
        super().__init__(Settings(_env_file=None))
        self._model = model

    def of(self, model: str) -> Any:
        return self._model


@dataclass
class World:
    """A database, its real engine, and every event that came of it, in order."""

    tide: Tide
    model: QuickModel
    events: list[StreamEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seen = Lsn(0)
        self.acknowledgements: Acknowledgements[Any] = Acknowledgements()
        with connect(self.tide.dsn) as connection:
            ensure_slot(connection, "histories")
        config = EngineConfig(self.tide.dsn, "histories", 5, 100, 320)
        self.engine = EmbeddedEngine(config, self, self.acknowledgements)
        self.engine.start()

    def receive(self, events: Sequence[tuple[int, StreamEvent]], stream: Stream = EMBEDDED) -> None:
        for _, event in events:
            self.events.append(event)
            if isinstance(event, Message) or (isinstance(event, ChangeEvent) and not event.backfill):
                self.seen = max(self.seen, event.position.change)
        self.acknowledgements.finish([number for number, _ in events])

    def here(self) -> Lsn:
        return lsn(self.tide.one("SELECT pg_current_wal_insert_lsn()::text"))

    def follow(self) -> None:
        """Until the engine has delivered what was committed before."""
        wanted = self.here()
        self.tide.admin.execute("SELECT pg_logical_emit_message(true, 'tidegate', 'here')")
        wait_until(lambda: self.seen >= wanted or self.engine.failure(), 30, f"the engine delivers up to {wanted:X}")
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
        admin.execute(
            "CREATE SCHEMA team; CREATE TABLE team.page (id int PRIMARY KEY, title text, body text, region text)"
        )
        # Longer bodies are kept out of line and, where they do not change, out of the events.
        admin.execute("ALTER TABLE team.page ALTER body SET STORAGE EXTERNAL")
        tide.apply(offer("team.page", COLUMNS, carried=["region"], embed=["title", "body"], tokens=200))
        held = World(tide, model)
        yield held
        held.engine.stop()
    patch.undo()


def words(*texts: str) -> str:
    return " ".join(" ".join(texts).split())


def source(connection: Connection) -> State:
    rows = connection.execute("SELECT id, title, body, region FROM team.page").fetchall()
    return {id_: (words(title, body), region) for id_, title, body, region in rows}


keys = st.integers(1, KEYS)
operations = st.one_of(
    st.tuples(st.just("insert"), keys),
    st.tuples(st.sampled_from(["title", "title", "poison", "body", "region", "region", "nothing"]), keys),
    st.tuples(st.sampled_from(["delete", "again"]), keys),
    st.tuples(st.just("rekey"), keys, keys),
    st.sampled_from([("all",), ("all regions",), ("truncate",)]),
)


class Histories(RuleBasedStateMachine):
    """See the module."""

    def __init__(self, world: World):
        super().__init__()
        self.world, self.admin = world, world.tide.admin
        self.turn = 0
        self.log: list[str] = []
        self.admin.execute("TRUNCATE team.page")
        world.follow()
        self.admin.execute("DELETE FROM rag_team.page; DELETE FROM tidegate.ledger; DELETE FROM tidegate.dead_letter")
        self.admin.execute(
            "UPDATE tidegate.product SET state = 'live', truncated_at = NULL; DELETE FROM tidegate.watermark"
        )
        self.begin = self.at = len(world.events)
        self.zombies: list[tuple[Worker, QuickModel, Acknowledgements[int]]] = []
        self.states = [(world.here(), source(self.admin))]
        self.start_worker()
        # Rows from the beginning: most changes meet one.
        self.transaction([("insert", key) for key in range(1, KEYS + 1)], rolled_back=False)

    def start_worker(self) -> None:
        self.acknowledgements: Acknowledgements[int] = Acknowledgements()
        self.model = QuickModel(self.world.model.inner)
        self.worker = Worker(
            self.world.tide.dsn, self.world.tide.settings, QuickModels(self.model), self.acknowledgements
        )
        self.worker.start()
        self.first = self.at

    # The source.

    @rule(changes=st.lists(operations, min_size=1, max_size=4), rolled_back=st.sampled_from([False] * 5 + [True]))
    def transaction(self, changes: list[tuple[Any, ...]], rolled_back: bool) -> None:
        self.log.append(f"transaction {changes}{' rolled back' if rolled_back else ''}")
        self.between: list[State] = []
        with self.admin.transaction(force_rollback=rolled_back):
            for change in changes:
                self.turn += 1
                self.change(*change)
        committed = self.world.here()
        if not rolled_back:
            self.states += [(committed, state) for state in self.between]
        self.states.append((committed, source(self.admin)))

    def change(self, kind: str, key: int = 0, to: int = 0) -> None:
        run, text = self.run, f"version {self.turn}"
        match kind:
            case "insert" | "again":
                if kind == "again":
                    run("DELETE FROM team.page WHERE id = %s", [key])
                run(
                    "INSERT INTO team.page VALUES (%s, %s, %s, 'EU') ON CONFLICT DO NOTHING",
                    [key, text, body(self.turn) if key % 2 else text],
                )
            case "title" | "poison":
                title = f"{POISON} {text}" if kind == "poison" else text
                run("UPDATE team.page SET title = %s WHERE id = %s", [title, key])
            case "body":
                run("UPDATE team.page SET body = %s WHERE id = %s", [body(self.turn), key])
            case "region":
                run("UPDATE team.page SET region = %s WHERE id = %s", [f"R{self.turn}", key])
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
                run("UPDATE team.page SET region = %s", [f"R{self.turn}"])
            case "truncate":
                run("TRUNCATE team.page")

    def run(self, statement: LiteralString, values: Sequence[Any] = ()) -> None:
        """A statement of a transaction. A batch may end behind it: rows are seen as they were then, until the rest comes."""
        self.admin.execute(statement, values)
        self.between.append(source(self.admin))

    @rule()
    def backfill(self) -> None:
        self.log.append("backfill")
        self.admin.execute("UPDATE tidegate.product SET state = 'pending' WHERE state = 'live'")

    # What delivers and indexes.

    @rule(changes=st.lists(operations, min_size=1, max_size=3), share=st.floats(0.2, 1))
    def deliver(self, changes: list[tuple[Any, ...]], share: float) -> None:
        """Changes more, and hands over some of what has come."""
        self.transaction(changes, rolled_back=False)
        self.world.follow()
        waiting = len(self.world.events) - self.at
        self.hand_over(round(waiting * share))

    def hand_over(self, count: int) -> None:
        events = self.world.events[self.at : self.at + count]
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
        self.log.append(f"crash {back} {as_zombie}")
        if as_zombie:
            self.model.away = True
            self.world.follow()
            self.hand_over(len(self.world.events) - self.at)
            self.zombies.append((self.worker, self.model, self.acknowledgements))
        else:
            self.worker.stop()
        again = self.first + done
        own = [n for n in range(self.begin, again) if getattr(self.world.events[n], "schema", "") == "team"]
        self.at = own[-back] if 0 < back <= len(own) else self.begin if back else again
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
            for event in self.world.events[self.begin : until]
            if isinstance(event, ChangeEvent) and event.schema == "team"
        ]

    def again(self, event: ChangeEvent) -> None:
        self.log.append("late " + str(event)[:200])
        self.worker.receive([(self.acknowledgements.open(), event)])
        self.settle()

    @rule(away=st.booleans(), delay=st.sampled_from([0.0, 0.0, 0.02]))
    def model_changes(self, away: bool, delay: float) -> None:
        self.model.away, self.model.delay_s = away, delay

    @precondition(lambda self: self.model.away)
    @rule()
    def model_comes_back(self) -> None:
        self.model.away = False

    def told(self, what: str) -> str:
        """What is wrong, and the history so far."""
        ledger = self.admin.execute("SELECT key, position, state FROM tidegate.ledger").fetchall()
        return "\n".join((what, *self.log, f"ledger {ledger}", f"states {[at for at, _ in self.states]}"))

    # What must hold.

    @invariant()
    def every_read_can_be_explained(self) -> None:
        with self.admin.transaction():
            self.admin.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            row = self.admin.execute("SELECT lsn::text FROM tidegate.lane_watermark").fetchone()
            indexed = index(self.admin)
        promised = Lsn(0) if row is None or row[0] is None else lsn(row[0])
        first = max((place for place, (at, _) in enumerate(self.states) if at <= promised), default=0)
        # What was there before this history is in all of its states, or changed by it.
        states = [state for _, state in self.states[first:]]
        for key in {*indexed, *(key for state in states for key in state)}:
            allowed = {shown(state.get(key)) for state in states}
            assert indexed.get(key) in allowed, self.told(f"row {key} is {indexed.get(key)}, and may be {allowed}")

    def teardown(self) -> None:
        self.model.away, self.model.delay_s = False, 0.0
        try:
            self.drain()
            for _, model, acknowledgements in self.zombies:
                model.away = False
                wait_until(lambda held=acknowledgements: not held.outstanding, 30, "a zombie ends")  # type: ignore[misc]
            self.settle()
            events = self.own(len(self.world.events))
            random.Random(len(self.log)).shuffle(events)
            for event in events[:LATE]:
                self.again(event)
            wait_until(lambda: not self.acknowledgements.outstanding, 30, "late changes end")
            wanted = source(self.admin)
            indexed = index(self.admin)
            assert indexed == {key: row for key, row in wanted.items() if shown(row)}, self.told("not the source")
            letters = {
                row[0] for row in self.admin.execute("SELECT (key::jsonb ->> 'id')::int FROM tidegate.dead_letter")
            }
            assert letters == {key for key, row in wanted.items() if not shown(row)}
            ledger = self.admin.execute("SELECT count(*) FROM tidegate.ledger WHERE state <> 'deleted'").fetchone()
            assert ledger == (len(wanted),)
        finally:
            for each in (*(zombie for zombie, _, _ in self.zombies), self.worker):
                each.stop()

    def drain(self) -> None:
        """Until everything that was committed is delivered and finished, and no backfill is under way."""
        deadline = time.monotonic() + 60
        while True:
            self.world.follow()
            self.hand_over(len(self.world.events) - self.at)
            state = self.world.tide.one("SELECT state FROM tidegate.product")
            if state == "live" and not self.acknowledgements.outstanding and self.at == len(self.world.events):
                break
            assert time.monotonic() < deadline, (
                f"not drained: product {state}, {self.acknowledgements.outstanding} of "
                f"{len(self.world.events) - self.first} events unfinished, engine at {self.world.seen:X}, "
                f"{self.world.tide.rows('SELECT * FROM tidegate.watermark')}"
            )
            time.sleep(0.01)


def body(turn: int) -> str:
    """About 2,600 characters, some chunks; its words tell the version."""
    pick = random.Random(turn)
    return f"body {turn} " + " ".join(f"{pick.getrandbits(40):x}" for _ in range(230))


def shown(row: Row | None) -> Row | None:
    """What the index may have of a row: nothing of one that is refused."""
    return None if row is None or POISON in row[0] else row


def index(connection: Connection) -> State:
    """All rows of the index, their chunks put together; two versions of one row would not be a text of the source."""
    chunks = connection.execute("SELECT id, region, content FROM rag_team.page ORDER BY id, chunk_no").fetchall()
    found: dict[int, tuple[set[str], list[str]]] = {}
    for id_, region, content in chunks:
        regions, texts = found.setdefault(id_, (set(), []))
        regions.add(region)
        texts.append(content)
    return {id_: (words(*texts), " ".join(sorted(regions))) for id_, (regions, texts) in found.items()}


@pytest.mark.timeout(180 + 5 * HISTORIES)
def test_index_is_the_source_after_every_history(world: World) -> None:
    run_state_machine_as_test(
        lambda: Histories(world),
        settings=settings(
            max_examples=HISTORIES,
            stateful_step_count=15,
            phases=[Phase.generate],
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )

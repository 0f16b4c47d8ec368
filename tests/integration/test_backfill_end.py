"""The end of a backfill, told twice, late, by another hand, or because it failed: only its own makes a product live."""

from collections.abc import Iterator, Sequence

import pytest
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide, wait_until

from tidegate.capture.acknowledgement import Acknowledgements
from tidegate.capture.change_event import ChangeEvent, Message, StreamEvent, TableScanned
from tidegate.capture.engine import EmbeddedEngine, EngineConfig
from tidegate.capture.position import Lsn, Position
from tidegate.capture.slot import ensure_slot
from tidegate.capture.source import Source
from tidegate.capture.stream import EMBEDDED, HOME, Stream
from tidegate.index import house
from tidegate.index.backfill import Backfills, signal
from tidegate.index.fleet import Fleet, PartitionReport, WorkerReport
from tidegate.index.worker import Worker
from tidegate.sql import queries

PARTITION = Stream(HOME, 0)
END = Lsn(2**62)
PATIENCE_S = 120


class Reads:
    """A worker, alone or of a fleet, and what the test tells it in Debezium's stead."""

    def __init__(self, tide: Tide, *, alone: bool):
        self.tide, self.turns = tide, 0
        self.acknowledgements: Acknowledgements[int] = Acknowledgements()
        sources = {HOME: Source(HOME, tide.dsn, "", "t")}
        fleet = None if alone else Fleet("one", sources, self.report)
        self.worker = Worker(tide.dsn, tide.settings, tide.embedders, self.acknowledgements, fleet=fleet)
        tide.admin.execute(
            "INSERT INTO tidegate.watermark (lane, source, partition, lsn, as_of, updated_at) "
            "VALUES ('x', '', 0, '0/1', now(), now() + interval '1 hour')"
        )
        self.worker.start()
        self.told(Message("here", Position(Lsn(1), Lsn(1))))

    def report(self) -> WorkerReport:
        self.turns += 1
        return WorkerReport([PartitionReport(PARTITION, 1, 1, END)], {HOME: 1})

    def told(self, event: StreamEvent) -> None:
        """Returns when the worker is done with it, and had every opportunity to draw conclusions."""
        self.worker.receive([(self.acknowledgements.open(), event)], PARTITION)
        wait_until(lambda: not self.acknowledgements.outstanding, PATIENCE_S, f"done with {event}")
        if self.worker._fleet is not None:
            turns = self.turns + 3
            wait_until(lambda: self.turns >= turns, PATIENCE_S, "the house is kept")

    def asked(self, after: int) -> int:
        """The number of the backfill that is under way, once it is a later one than `after`."""
        number = "SELECT backfill FROM tidegate.product WHERE state = 'backfilling' AND backfill > %s"
        wait_until(lambda: self.tide.rows(number, after), PATIENCE_S, f"a backfill after {after}")
        return int(self.tide.one(number, after))

    def state(self) -> str:
        return str(self.tide.one("SELECT state FROM tidegate.product"))

    def ends(self, number: int, failure: str | None = None) -> None:
        self.told(TableScanned("team", "note", number, failure))


@pytest.fixture(params=["alone", "fleet"])
def stream(tide: Tide, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    monkeypatch.setattr(house, "HOUSEKEEPING_S", 0.05)
    monkeypatch.setattr(house, "slot_trouble", lambda *_: None)  # there is none, as nothing is captured
    tide.admin.execute(SIMPLE_TABLE)
    tide.apply(SIMPLE_CONTRACT)
    made = Reads(tide, alone=request.param == "alone")
    yield made
    made.worker.stop()


def again(tide: Tide) -> None:
    """As the apply of a contract that needs the rows anew."""
    tide.admin.execute("UPDATE tidegate.product SET state = 'pending'")


def test_only_its_own_end_makes_a_product_live(stream: Reads, tide: Tide) -> None:
    first = stream.asked(0)
    stream.ends(first)
    assert stream.state() == "live"
    again(tide)
    second = stream.asked(first)
    stream.ends(first)
    assert stream.state() == "backfilling"
    # Debezium gives a table that it reads the number of what it was asked for last.
    stream.ends(second + 5)
    assert stream.state() == "live"
    stream.ends(first)
    stream.ends(second)
    assert stream.state() == "live"


def test_a_backfill_that_failed_or_whose_end_is_anybodys_is_asked_for_again(stream: Reads) -> None:
    first = stream.asked(0)
    stream.ends(first, "it failed")
    second = stream.asked(first)
    # What failed was the one before: no reason to read again.
    stream.ends(first, "it failed")
    assert stream.asked(first) == second
    stream.ends(0)
    third = stream.asked(second)
    stream.ends(third)
    assert stream.state() == "live"
    stream.ends(0)
    stream.ends(third, "it failed")
    assert stream.state() == "live"


def test_an_end_that_is_told_before_who_asked_has_noted_it_counts(tide: Tide) -> None:
    """The worker that hears of the failure is quicker than the one that keeps the house."""
    tide.admin.execute(SIMPLE_TABLE)
    tide.apply(SIMPLE_CONTRACT)
    tide.admin.execute(
        "INSERT INTO tidegate.watermark (lane, source, partition, lsn, as_of, updated_at) "
        "VALUES ('x', '', 0, '0/1', now(), now() + interval '1 hour')"
    )

    class Quick:
        def execute(self, statement: str, parameters: dict[str, str]) -> None:
            tide.admin.execute(statement, parameters)  # type: ignore[arg-type]
            failed = {"product_ids": [tide.one("SELECT product_id FROM tidegate.product")],
                      "backfill": int(parameters["id"].removeprefix("backfill-"))}  # fmt: skip
            tide.admin.execute(queries("worker")["backfill_again"], failed)

    assert Backfills(HOME).ask(tide.admin, Quick()) == [("team", "note")]  # type: ignore[arg-type]
    assert tide.one("SELECT state FROM tidegate.product") == "pending"
    assert Backfills(HOME).ask(tide.admin, tide.admin) == [("team", "note")]
    assert tide.one("SELECT state FROM tidegate.product") == "backfilling"


class Heard:
    """Takes what Debezium tells."""

    def __init__(self) -> None:
        self.acknowledgements: Acknowledgements[object] = Acknowledgements()
        self.events: list[StreamEvent] = []

    def receive(self, events: Sequence[tuple[int, StreamEvent]], stream: Stream = EMBEDDED) -> None:
        self.events += [event for _, event in events]
        self.acknowledgements.finish([number for number, _ in events])

    def of_table(self) -> list[int]:
        """The rows that were read, and after each table's end the number of its backfill."""
        heard: list[int] = []
        for event in list(self.events):
            if isinstance(event, ChangeEvent) and event.backfill:
                heard.append(0)
            elif isinstance(event, TableScanned):
                assert event.failure is None
                heard.append(event.backfill)
        return heard


def test_a_table_that_is_asked_for_again_while_it_is_read_has_one_end(tide: Tide) -> None:
    """What Debezium itself does: it reads the table twice, and gives both ends the later number."""
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'note' FROM generate_series(1, 1500) n")
    tide.apply(SIMPLE_CONTRACT)
    ensure_slot(tide.admin, "ends")
    heard = Heard()
    engine = EmbeddedEngine(EngineConfig(tide.dsn, "ends", 5, 100, 320), heard, heard.acknowledgements)
    asked = {"type": "incremental", "data-collections": ["team.note"]}
    try:
        engine.start()
        wait_until(lambda: heard.events, PATIENCE_S, "it streams")
        with tide.admin.transaction():
            for number in (7, 8):
                signal(tide.admin, "execute-snapshot", asked, f"backfill-{number}")
        wait_until(lambda: any(heard.of_table()), PATIENCE_S, "the end")
        assert heard.of_table() == [0] * 3000 + [8]
        # Alone it has its own; a number that nobody has given is none.
        signal(tide.admin, "execute-snapshot", asked, "backfill-9")
        wait_until(lambda: heard.of_table()[3001:] == [0] * 1500 + [9], PATIENCE_S, "the end of another")
        signal(tide.admin, "execute-snapshot", asked, "by hand")
        wait_until(
            lambda: [e.backfill for e in heard.events if isinstance(e, TableScanned)] == [8, 9, 0],
            PATIENCE_S,
            "the end of one that was asked for by hand",
        )
    finally:
        engine.stop()

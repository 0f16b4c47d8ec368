"""A partition that another worker was further in than this one is anywhere."""

from datetime import UTC, datetime

from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide, wait_until
from tests.integration.test_model_change import OF_OTHER, OTHER, TwoModels

from tidegate.capture.acknowledgement import Acknowledgements
from tidegate.capture.change_event import ChangeEvent, Operation
from tidegate.capture.position import Lsn, Position
from tidegate.capture.source import Source
from tidegate.capture.stream import HOME, Stream
from tidegate.index.embedding.local_model import MODEL
from tidegate.index.fleet import Fleet, WorkerReport
from tidegate.index.worker import Worker


def event(number: int) -> ChangeEvent:
    return ChangeEvent(
        schema="team",
        table="note",
        operation=Operation.UPSERT,
        key={"id": number},
        row={"id": number, "title": "one", "body": None, "region": "EU", "price": None},
        position=Position(Lsn(number), Lsn(number)),
        committed_at=datetime.now(UTC),
    )


def test_its_changes_go_where_contracts_say_by_now(tide: Tide) -> None:
    """The apply that made a second index was heard of in that partition alone, by the worker that had it before."""
    tide.embedders = TwoModels(tide.embedders.of(MODEL))
    tide.admin.execute(SIMPLE_TABLE)
    tide.apply(SIMPLE_CONTRACT)
    acknowledgements: Acknowledgements[int] = Acknowledgements()
    sources = {HOME: Source(HOME, tide.dsn, "", "t")}
    fleet = Fleet("one", sources, lambda: WorkerReport([], {HOME: 2}))
    worker = Worker(tide.dsn, tide.settings, tide.embedders, acknowledgements, fleet=fleet)
    worker.start()
    try:
        worker.receive([(acknowledgements.open(), event(1))], Stream(HOME, 0))
        tide.apply(OF_OTHER)
        worker.receive([(acknowledgements.open(), event(2))], Stream(HOME, 1))
        written = (
            "SELECT p.product, l.key FROM tidegate.ledger l JOIN tidegate.product p USING (product_id) "
            "WHERE l.position[2] >= '0/2' ORDER BY 1"
        )
        wait_until(
            lambda: [name for name, _ in tide.rows(written)] == ["team.note", f"team.note@{OTHER}"],
            20,
            "both indexes have the change",
        )
        # Given up and taken again, it is looked up again.
        worker.forget(Stream(HOME, 1), lambda _: False)
        assert Stream(HOME, 1) not in worker._streams
    finally:
        worker.stop()

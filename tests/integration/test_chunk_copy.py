"""A second index filled from the chunks of the first: the source is not read, and nothing late, deleted or lost gets in."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide, wait_until
from tests.integration.test_model_change import OF_OTHER, OTHER, TurnedModel, TwoModels, both, caught_up, vectors

from tidegate.bench.embedding_server import embed, service
from tidegate.capture.stream import HOME
from tidegate.database import Connection, connect
from tidegate.govern.estimate import estimate
from tidegate.govern.model_status import model_status
from tidegate.govern.model_switch import drop, switch
from tidegate.govern.plan import make_plan
from tidegate.index.budget import Budgets
from tidegate.index.copies import Copies
from tidegate.index.embedding.local_model import MODEL
from tidegate.index.embedding.registry import Embedders
from tidegate.index.lane_queue import LaneQueue
from tidegate.index.product import Product, indexes
from tidegate.index.worker_session import WorkerSession
from tidegate.observe.verify_all import verify_all

LEDGER = (
    "SELECT l.key, l.position::text, l.state, l.document_hash, l.chunks FROM tidegate.ledger l "
    "JOIN tidegate.product p USING (product_id) WHERE p.product = %s ORDER BY l.key"
)
LONG = " ".join(f"Sentence number {n} says something of its own about tides and gates." for n in range(60))


class GatedModel(TurnedModel):
    """The second model; its bulk calls wait at the gate, once `after` of them went through."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.gate = threading.Event()
        self.gate.set()
        self.stands = threading.Event()
        self.after = 0
        self.bulk = 0

    def embed_bulk(self, texts: Any) -> Any:
        if self.bulk >= self.after:
            self.stands.set()
            self.gate.wait(600)
        self.bulk += 1
        return super().embed(texts)


class Models(TwoModels):
    def of(self, model: str) -> Any:
        if model == OTHER and model not in self._watched:
            self._watched[model] = GatedModel(self._inner, model)
        return super().of(model)


@pytest.fixture
def notes(tide: Tide) -> Models:
    """Product team.note, live: short rows, one of many chunks, one without text."""
    tide.embedders = models = Models(tide.embedders.of(MODEL))
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute(
        "INSERT INTO team.note (id, title, body) VALUES (1, 'one', NULL), (2, 'two', NULL), (3, 'three', %s), (4, ' ', NULL)",
        [LONG],
    )
    tide.apply(SIMPLE_CONTRACT)
    tide.run()
    tide.live("team.note")
    tide.caught_up()
    return models


def held_up(tide: Tide, notes: Models, after: int = 0) -> GatedModel:
    """Applies the second model, whose bulk calls wait at the gate, and waits until the copy stands there."""
    model: GatedModel = notes.of(OTHER)
    model.gate.clear()
    model.after = after
    tide.apply(OF_OTHER)
    wait_until(lambda: state(tide) == "backfilling", 20, "the copy has begun")
    # Both lanes know of the contract: what is changed from here on comes to both.
    wait_until(
        lambda: tide.one("SELECT count(*) FROM tidegate.lane_watermark WHERE lane = %s", OTHER) == 1,
        20,
        "a second lane",
    )
    return model


def state(tide: Tide) -> str:
    return str(tide.one("SELECT state FROM tidegate.product WHERE beside IS NOT NULL"))


def copied(tide: Tide) -> None:
    tide.live(f"team.note@{OTHER}")
    caught_up(tide)
    assert tide.one("SELECT built_from FROM tidegate.product WHERE beside IS NOT NULL") == "chunks"


def reads(tide: Tide) -> int:
    """How often the source table was read, by anybody: what a session did is counted by its end, when it is gone."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type IN ('client backend', 'walsender')"
    wait_until(lambda: tide.one(others) == 0, 20, "all sessions have ended")
    tide.admin.execute("SELECT pg_stat_clear_snapshot()")
    counted = "SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relid = 'team.note'::regclass"
    return int(tide.one(counted))


def sound(tide: Tide) -> bool:
    """Whether `verify` finds nothing wrong with either index."""
    options = {"repair": False, "anew": True, "rows_per_s": 1e5, "patience_s": 120}
    checked = list(verify_all(tide.dsn, tide.settings, None, **options, console=Console(quiet=True)))
    assert {one.product: (one.skipped, one.findings) for one in checked} == dict.fromkeys(
        ("team.note", f"team.note@{OTHER}"), (None, ())
    )
    return True


def test_the_source_is_not_read(tide: Tide, notes: Models) -> None:
    with connect(tide.dsn) as other:
        plan = make_plan(other, tide.bumped(tide.contract(OF_OTHER)), notes.of(OTHER), embedder_of=notes.of)
        expected = estimate(other, plan, notes.of(OTHER))
    assert expected is not None
    assert (expected.rows, expected.embedded) == (3, True)
    embedded = len(notes.of(MODEL).texts)
    asked = len(notes.of(OTHER).texts)
    signals = tide.one("SELECT count(*) FROM tidegate.signal")
    plan = tide.apply(OF_OTHER)
    assert (plan.copies, plan.backfill) == (True, False)
    assert any("from the stored chunks of the first" in line for line in plan.summary)
    tide.stop()  # what it had read before is counted by its end
    before = reads(tide)
    tide.run()
    copied(tide)
    tide.stop()
    assert reads(tide) == before
    assert tide.one("SELECT count(*) FROM tidegate.signal WHERE type = 'execute-snapshot'") <= signals
    first, second = both(tide)
    assert first == second
    assert len(second) > 5
    assert tide.rows(LEDGER, f"team.note@{OTHER}") == tide.rows(LEDGER, "team.note")
    assert len(notes.of(MODEL).texts) == embedded
    assert len(notes.of(OTHER).texts) - asked == len({content for _, _, content in second})
    columns = "id, region, content, position::text, committed_at, content_hash"
    same = [
        tide.rows(f"SELECT {columns} FROM {schema}.note ORDER BY id, chunk_no")
        for schema in ("rag_team", "beside_team")
    ]
    assert same[0] == same[1]
    (status,) = model_status(tide.admin)
    assert status.second is not None
    assert (status.searched.built_from, status.second.built_from) == ("source", "chunks")
    assert sound(tide)


def test_what_is_copied_lives_on_as_if_it_had_been_built_from_the_source(tide: Tide, notes: Models) -> None:
    tide.apply(OF_OTHER)
    copied(tide)
    model = notes.of(OTHER)
    asked = len(model.texts)
    run = tide.admin.execute
    run("UPDATE team.note SET region = 'US'")  # carried only: the documents' hashes are recognised
    run("UPDATE team.note SET body = replace(body, 'number 30 says', 'number 30 said') WHERE id = 3")
    run("UPDATE team.note SET body = 'text' WHERE id = 4")
    caught_up(tide)
    first, second = both(tide)
    assert first == second
    assert len(model.texts) - asked <= 3
    assert sound(tide)
    assert tide.apply(OF_OTHER).steps == ()
    # And back: the first model again, now from the chunks of the second.
    switch(tide.admin, "team.note", wait_s=120)
    drop(tide.admin, "team.note")
    assert tide.apply(SIMPLE_CONTRACT).copies
    tide.live(f"team.note@{MODEL}")
    tide.caught_up()
    assert both(tide)[0] == both(tide)[1]
    switch(tide.admin, "team.note", wait_s=120)
    run("UPDATE team.note SET title = 'uno' WHERE id = 1")
    tide.caught_up()
    one = [round(float(x), 4) for x in notes.of(MODEL).embed(["uno"])[0][:5]]
    assert ("uno", one) in vectors(tide, "rag_team")


def test_a_chunk_that_is_copied_late_overwrites_nothing(tide: Tide, notes: Models) -> None:
    """The copy has read the rows and embeds them; meanwhile they change, go, and come again."""
    model = held_up(tide, notes)
    wait_until(model.stands.is_set, 60, "the copy has read its rows")
    run = tide.admin.execute
    run("UPDATE team.note SET title = 'uno' WHERE id = 1")
    run("DELETE FROM team.note WHERE id = 2")
    run("UPDATE team.note SET region = 'US' WHERE id = 3")
    run("UPDATE team.note SET id = 5 WHERE id = 4")
    run("INSERT INTO team.note (id, title) VALUES (6, 'six')")
    written = "SELECT count(*) FROM tidegate.ledger l JOIN tidegate.product p USING (product_id) WHERE p.beside IS NOT NULL AND l.key IN ('{\"id\":1}', '{\"id\":2}', '{\"id\":6}')"
    wait_until(lambda: tide.one(written) == 3, 20, "the changes are in the second index")
    assert state(tide) == "backfilling"
    model.gate.set()
    copied(tide)
    first, second = both(tide)
    assert first == second
    assert [row[0] for row in second if row[0] != 3] == [1, 6]
    assert (1, "EU", "uno") in second
    assert sound(tide)


def _in_hand(tide: Tide) -> bool:
    """A moment for the copy to begin; its rows wait at the gate."""
    reason = "SELECT state = 'backfilling' FROM tidegate.product WHERE beside IS NOT NULL"
    return bool(tide.one(reason)) and any(thread.name == f"copy:team.note@{OTHER}" for thread in threading.enumerate())


def test_nothing_is_copied_before_the_first_index_has_what_came_before_the_contract(tide: Tide, notes: Models) -> None:
    """A change that only the first was told of: copied too early, the second would never hear of it."""
    notes.of(MODEL).away = True
    tide.admin.execute("UPDATE team.note SET title = 'uno' WHERE id = 1")
    wait_until(lambda: "uno" in notes.of(MODEL).texts, 20, "the first index is at it")
    tide.apply(OF_OTHER)
    wait_until(lambda: _in_hand(tide), 20, "the copy has begun")
    time.sleep(3)
    assert both(tide)[1] == []
    notes.of(MODEL).away = False
    copied(tide)
    first, second = both(tide)
    assert first == second
    assert (1, "EU", "uno") in second
    assert sound(tide)


def test_a_contract_that_is_applied_while_the_catalog_is_read_ends_the_copy(tide: Tide, notes: Models) -> None:
    """What was read is of the contract before: its chunks are not what the second index is to have."""
    tide.stop()
    tide.apply(OF_OTHER)
    stopping = threading.Event()
    asked: list[None] = []

    class Read:
        """A catalog, read just before another version is applied; and as it is, the second time."""

        reads = 0

        def load(self, connection: Connection) -> None:
            self.indexes = indexes(connection, tide.embedders)
            self.lanes = {each.model: SimpleNamespace(queue=LaneQueue()) for each in self.indexes}
            self.reads += 1
            if self.reads == 1:
                tide.apply(OF_OTHER + "\n# the same, once more\n")

        def by_id(self, product_id: int) -> list[Product]:
            return [each for each in self.indexes if each.product_id == product_id]

    def place() -> str:
        asked.append(None)
        stopping.set()
        return "0/0"

    catalog: Any = Read()
    copies = Copies(WorkerSession(tide.dsn, stopping), catalog, Budgets(), lambda: True, lambda _: None, stopping)
    for expected in ([], [None]):
        copies.begin(tide.admin, HOME, place)
        copies.join()
        assert asked == expected
    assert catalog.reads == 2


def test_a_truncate_while_it_is_copied(tide: Tide, notes: Models) -> None:
    model = held_up(tide, notes)
    tide.admin.execute("TRUNCATE team.note")
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'after')")
    wait_until(lambda: len(both(tide)[1]) == 1, 20, "the second index has the truncate, and what came after")
    model.gate.set()
    copied(tide)
    assert both(tide) == [[(1, "EU", "after")]] * 2
    assert sound(tide)


def test_changes_without_pause_while_it_is_copied(tide: Tide, notes: Models) -> None:
    run = tide.admin.execute
    run("INSERT INTO team.note (id, title) SELECT n, 'row ' || n FROM generate_series(10, 400) n")
    tide.caught_up()
    model = notes.of(OTHER)
    model.delay_s = 0.02
    done = threading.Event()
    turns = [0]

    def change() -> None:
        with connect(tide.dsn) as connection:
            while not done.is_set():
                turn = turns[0] = turns[0] + 1
                row = 10 + turn * 37 % 391
                connection.execute("UPDATE team.note SET title = %s WHERE id = %s", [f"turn {turn}", row])
                connection.execute("DELETE FROM team.note WHERE id = %s", [10 + turn * 53 % 391])
                connection.execute("UPDATE team.note SET region = 'US' WHERE id = %s", [row + 1])
                if turn % 3 == 0:
                    connection.execute(
                        "INSERT INTO team.note (id, title) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                        [10 + turn * 71 % 391, f"again {turn}"],
                    )
                done.wait(0.01)

    thread = threading.Thread(target=change)
    thread.start()
    tide.apply(OF_OTHER)
    tide.live(f"team.note@{OTHER}", timeout=120)
    done.set()
    thread.join()
    model.delay_s = 0.0
    copied(tide)
    first, second = both(tide)
    assert turns[0] > 20
    assert first == second
    assert sound(tide)


def test_a_copy_goes_on_after_the_worker_ended(tide: Tide, notes: Models) -> None:
    run = tide.admin.execute
    run("INSERT INTO team.note (id, title) SELECT n, 'row ' || n FROM generate_series(10, 400) n")
    tide.caught_up()
    model = held_up(tide, notes, after=2)
    count = "SELECT count(*) FROM beside_team.note"
    wait_until(lambda: tide.one(count) > 50, 30, "a part is copied")
    done = threading.Thread(target=tide.stop)
    done.start()
    model.gate.set()
    done.join()
    part = tide.one(count)
    assert state(tide) == "backfilling"
    # While nobody runs, rows change and go that are copied, and others that are not.
    run("DELETE FROM team.note WHERE id % 7 = 0")
    run("UPDATE team.note SET title = 'changed ' || id WHERE id % 7 = 1 AND id >= 10")
    asked = len(model.texts)
    tide.run()
    copied(tide)
    first, second = both(tide)
    assert first == second
    # Only what was not there yet, and what changed, was embedded.
    assert 0 < len(model.texts) - asked <= len({content for _, _, content in second}) - part + 120
    assert sound(tide)


def test_what_the_first_index_does_not_have_is_read_by_its_key(tide: Tide, notes: Models) -> None:
    """Parked there, for its model's own reasons, or with chunks that are not what the ledger says."""
    notes.of(MODEL).refused = "unspeakable"
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (7, 'unspeakable')")
    wait_until(lambda: tide.one("SELECT count(*) FROM tidegate.dead_letter") == 1, 20, "it is parked")
    with tide.admin.transaction():
        tide.admin.execute("SET LOCAL ROLE tidegate_worker")
        tide.admin.execute("UPDATE rag_team.note SET content = 'not what it was' WHERE id = 2")
    tide.apply(OF_OTHER)
    copied(tide)
    wait_until(lambda: len(both(tide)[1]) == len(both(tide)[0]) + 1, 30, "the parked row is in the second index")
    found = {id_: content for id_, _, content in both(tide)[1]}
    assert (found[2], found[7]) == ("two", "unspeakable")


def test_a_model_that_does_not_answer_is_waited_for_and_named(tide: Tide, notes: Models) -> None:
    notes.of(OTHER).away = True
    tide.apply(OF_OTHER)
    reason = "SELECT state_reason FROM tidegate.product WHERE beside IS NOT NULL"
    wait_until(lambda: "does not answer" in str(tide.one(reason)), 20, "the reason stands in the catalog")
    # Far more attempts than a row of the stream gets: it still waits in the first index, and is not parked.
    assert tide.one("SELECT count(*) FROM tidegate.dead_letter") == 0
    notes.of(OTHER).away = False
    copied(tide)
    assert tide.one(reason) is None
    assert both(tide)[0] == both(tide)[1]


def test_a_budget_holds_it_up_until_there_is_room(tide: Tide, notes: Models) -> None:
    tide.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'row ' || n FROM generate_series(10, 600) n")
    tide.caught_up()
    budget = "{property: budget, vendor: tidegate, value: {tokens: 100, policy: queue}}"
    queued = OF_OTHER.replace(
        "    customProperties:\n      - property: embedding",
        f"    customProperties:\n      - {budget}\n      - property: embedding",
    )
    assert queued != OF_OTHER
    tide.apply(queued)
    reason = "SELECT state_reason FROM tidegate.product WHERE beside IS NOT NULL"
    wait_until(lambda: "tomorrow's budget" in str(tide.one(reason)), 30, "it waits for the budget")
    assert len(both(tide)[1]) < 600
    assert tide.one("SELECT count(*) FROM tidegate.dead_letter") == 0
    tide.apply(queued.replace("tokens: 100", "tokens: 1000000"))
    copied(tide)
    assert both(tide)[0] == both(tide)[1]


@pytest.mark.parametrize("other", ["chunks", "ruler", "unknown", "read again"])
def test_from_the_source_where_chunks_would_not_be_the_same(tide: Tide, notes: Models, other: str) -> None:
    contract, options = OF_OTHER, {}
    if other == "chunks":
        contract = OF_OTHER.replace("tokens: 200", "tokens: 40")
    elif other == "ruler":
        notes.of(OTHER).ruler = "another tokenizer"
    elif other == "unknown":
        notes.of(OTHER).ruler = notes.of(MODEL).ruler = None
    else:
        tide.admin.execute("UPDATE tidegate.product SET state = 'suspended'")
    says = {
        "chunks": "changes the document or its chunks",
        "ruler": "count tokens differently",
        "unknown": "is not known",
        "read again": "read again",
    }
    plan = tide.apply(contract, **options)
    assert (plan.copies, plan.backfill) == (False, True)
    assert any("filled from the source" in line and says[other] in line for line in plan.summary)
    tide.live(f"team.note@{OTHER}")
    caught_up(tide)
    assert tide.one("SELECT built_from FROM tidegate.product WHERE beside IS NOT NULL") == "source"
    assert tide.one("SELECT hash_model FROM tidegate.product WHERE beside IS NOT NULL") is None
    assert {row[0] for row in both(tide)[1]} == {1, 2, 3}


def test_a_first_index_that_is_cut_anew_meanwhile_is_not_copied_further(tide: Tide, notes: Models) -> None:
    tide.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'row ' || n FROM generate_series(10, 400) n")
    tide.caught_up()
    model = held_up(tide, notes, after=1)
    wait_until(lambda: len(both(tide)[1]) > 0, 30, "a part is copied")
    # Back to the first model, in smaller chunks: of that the second index, which keeps its own size, has no use.
    tide.apply(SIMPLE_CONTRACT.replace("tokens: 200", "tokens: 40"))
    model.gate.set()
    tide.live("team.note")
    tide.live(f"team.note@{OTHER}")
    caught_up(tide)
    assert tide.one("SELECT built_from FROM tidegate.product WHERE beside IS NOT NULL") == "source"
    first, second = both(tide)
    assert {row[0] for row in first} == {row[0] for row in second}
    assert len(first) > len(second)
    assert sound(tide)


class Killed:
    """A real `tidegate run` with two models of a service, to be killed."""

    def __init__(self, dsn: str, base: str, log: Path):
        self.environment = {
            **os.environ,
            "TIDEGATE_DSN": dsn,
            "TIDEGATE_HEARTBEAT_MS": "200",
            "TIDEGATE_API_BASE": base,
            "TIDEGATE_EMBEDDING_BATCH": "4",
            "OPENAI_API_KEY": "none",
        }
        self.log = log
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "tidegate.cli", "run"], env=self.environment, stdout=out, stderr=out
            )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with service() as url:
        yield url


@pytest.mark.filterwarnings("ignore::UserWarning")  # litellm's own
def test_a_copy_goes_on_after_kill_9(tide: Tide, base: str, tmp_path: Path) -> None:
    """Killed twice while it copies and rows change; afterwards each row once, under the second model, as it is now."""
    tide.settings.api_base = base
    tide.embedders = Embedders(tide.settings)
    run = tide.admin.execute
    run(SIMPLE_TABLE)
    run("INSERT INTO team.note (id, title) SELECT n, 'row ' || n FROM generate_series(1, 600) n")
    first = SIMPLE_CONTRACT.replace(MODEL, "openai/text-embedding-3-small")
    tide.apply(first)
    killed = Killed(tide.dsn, base, tmp_path / "run.log")
    try:
        tide.live("team.note", timeout=120)
        assert tide.apply(first.replace("3-small", "3-large")).copies
        count = "SELECT count(*) FROM beside_team.note"
        for part in (40, 250):
            wait_until(lambda part=part: tide.one(count) > part, 60, f"{part} rows are copied")
            killed.kill()
            assert state(tide) == "backfilling"
            run("DELETE FROM team.note WHERE id %% 50 = %s", [part % 50])
            run("UPDATE team.note SET title = 'changed ' || id WHERE id %% 50 = %s", [part % 50 + 1])
            killed.process = killed.start()
        tide.live("team.note@openai/text-embedding-3-large", timeout=120)
        caught_up(tide)
    finally:
        killed.kill()
    assert both(tide)[0] == both(tide)[1]
    assert tide.one("SELECT built_from FROM tidegate.product WHERE beside IS NOT NULL") == "chunks"
    shown = dict(vectors(tide, "beside_team")[:50])
    model = "text-embedding-3-large"
    for content, vector in shown.items():
        assert vector == pytest.approx([float(x) for x in embed(model, [content])[0][:5]], abs=2e-3)

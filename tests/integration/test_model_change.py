"""A model changed without downtime: a second index is built beside the first, kept current, and switched to."""

import json
import threading
import time
from typing import Any

import numpy as np
import psycopg
import pytest
from rich.console import Console
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide, wait_until
from tests.integration.embedder import WatchedModel, WatchedModels

from tidegate.database import connect, register_vectors
from tidegate.govern.drift import find_drift
from tidegate.govern.index_pair import NoSecondIndex
from tidegate.govern.model_status import model_status
from tidegate.govern.model_switch import NotReady, drop, switch
from tidegate.govern.plan import ContractUnfit
from tidegate.index.embedding.embedder import Vectors
from tidegate.index.embedding.local_model import MODEL
from tidegate.observe.verify_all import verify_all

OTHER = "other/model"
NOTES = "SELECT id, region, content FROM {}.note ORDER BY id, chunk_no"
OF_OTHER = SIMPLE_CONTRACT.replace(MODEL, OTHER)


class TurnedModel(WatchedModel):
    """Other vectors, of the same length, and other distances between them."""

    def embed(self, texts: Any) -> Vectors:
        vectors = super().embed(texts) * np.linspace(0.1, 2, self.dimension, dtype=np.float32)
        return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    embed_bulk = embed


class TwoModels(WatchedModels):
    def of(self, model: str) -> WatchedModel:
        if model == OTHER and model not in self._watched:
            self._watched[model] = TurnedModel(self._inner, model)
        return super().of(model)


@pytest.fixture
def notes(tide: Tide) -> TwoModels:
    """Product team.note, live, with three rows; the registry of its models."""
    tide.embedders = models = TwoModels(tide.embedders.of(MODEL))
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    tide.apply(SIMPLE_CONTRACT)
    tide.run()
    tide.live("team.note")
    return models


def built(tide: Tide) -> None:
    tide.live(f"team.note@{OTHER}")
    caught_up(tide)


def caught_up(tide: Tide) -> None:
    """Both indexes have what was committed before."""
    tide.caught_up()
    place = tide.one("SELECT pg_current_wal_insert_lsn()::text")
    tide.one("SELECT tidegate.wait_for(%s, '0s')", place)
    behind = (
        "SELECT bool_and(coalesce(w.lsn >= %s::pg_lsn, false)) "
        "FROM tidegate.product p LEFT JOIN tidegate.lane_watermark w ON w.lane = p.model"
    )
    wait_until(lambda: tide.one(behind, place), 20, "both lanes have caught up")


def both(tide: Tide) -> list[Any]:
    return [tide.rows(NOTES.format(schema)) for schema in ("rag_team", "beside_team")]


def test_a_second_index_is_built_and_kept_current(tide: Tide, notes: TwoModels) -> None:
    plan = tide.apply(OF_OTHER)
    assert any("builds a second index beside the first" in line for line in plan.summary)
    assert not plan.drops
    built(tide)
    first, second = both(tide)
    assert first == second == [(1, "EU", "one"), (2, "EU", "two"), (3, "EU", "three")]
    calls = len(notes.of(MODEL).texts)
    run = tide.admin.execute
    run("UPDATE team.note SET title = 'uno' WHERE id = 1")
    run("UPDATE team.note SET region = 'US' WHERE id = 2")
    run("DELETE FROM team.note WHERE id = 3")
    run("INSERT INTO team.note (id, title) VALUES (4, 'four')")
    caught_up(tide)
    first, second = both(tide)
    assert first == second == [(1, "EU", "uno"), (2, "US", "two"), (4, "EU", "four")]
    assert len(notes.of(MODEL).texts) == calls + 2  # the first index was not built again
    run("TRUNCATE team.note")
    caught_up(tide)
    assert both(tide) == [[], []]
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (5, 'five')")
    caught_up(tide)
    with tide.admin.transaction():
        tide.admin.execute("SET LOCAL ROLE tidegate_worker")
        tide.admin.execute("DELETE FROM beside_team.note")
    checked = verify_all(
        tide.dsn,
        tide.settings,
        None,
        repair=False,
        anew=True,
        rows_per_s=1e5,
        patience_s=5,
        console=Console(quiet=True),
    )
    assert [(one.product, one.ok) for one in checked] == [("team.note", True), (f"team.note@{OTHER}", False)]
    assert [finding for finding in find_drift(tide.admin) if finding.level != "info"] == []
    assert tide.apply(OF_OTHER).steps == ()


def test_switch_rollback_and_drop(tide: Tide, notes: TwoModels) -> None:
    with pytest.raises(NoSecondIndex, match="has one index"):
        switch(tide.admin, "team.note")
    tide.apply(OF_OTHER)
    with pytest.raises(NoSecondIndex, match="never searched"):
        switch(tide.admin, "team.note", "rollback")
    built(tide)
    done = switch(tide.admin, "team.note")
    assert (done.before, done.model) == (MODEL, OTHER)
    tide.admin.execute("UPDATE team.note SET title = 'uno' WHERE id = 1")
    caught_up(tide)
    assert vectors(tide, "rag_team") == expected(notes, OTHER, ["uno", "two", "three"])
    assert vectors(tide, "beside_team") == expected(notes, MODEL, ["uno", "two", "three"])
    (status,) = model_status(tide.admin)
    assert (status.searched.model, status.searched.wanted) == (OTHER, True)
    assert status.second is not None
    assert (status.second.model, status.second.wanted) == (MODEL, False)
    assert tide.one("SELECT model FROM tidegate.products") == OTHER
    assert [finding for finding in find_drift(tide.admin) if finding.level != "info"] == []
    assert tide.apply(OF_OTHER).steps == ()
    with pytest.raises(NoSecondIndex, match="is with the model of its contract"):
        switch(tide.admin, "team.note")

    assert switch(tide.admin, "team.note", "rollback").model == MODEL
    tide.admin.execute("UPDATE team.note SET title = 'dos' WHERE id = 2")
    caught_up(tide)
    assert vectors(tide, "rag_team") == expected(notes, MODEL, ["uno", "dos", "three"])
    assert switch(tide.admin, "team.note").model == OTHER
    assert drop(tide.admin, "team.note") == MODEL
    assert tide.one("SELECT to_regclass('beside_team.note')") is None
    tide.admin.execute("UPDATE team.note SET title = 'tres' WHERE id = 3")
    caught_up(tide)
    assert vectors(tide, "rag_team") == expected(notes, OTHER, ["uno", "dos", "tres"])
    kinds = tide.rows("SELECT kind FROM tidegate.audit_event WHERE starts_with(kind, 'model ') ORDER BY audit_id")
    assert kinds == [("model switch",), ("model rollback",), ("model switch",), ("model drop",)]
    assert [finding for finding in find_drift(tide.admin) if finding.level != "info"] == []


def vectors(tide: Tide, schema: str) -> list[tuple[str, list[float]]]:
    with connect(tide.dsn) as connection:
        register_vectors(connection)
        rows = connection.execute(f"SELECT content, embedding FROM {schema}.note ORDER BY id").fetchall()  # type: ignore[arg-type]
    return [(text, [round(float(x), 4) for x in vector.to_numpy()[:5]]) for text, vector in rows]


def expected(models: TwoModels, model: str, texts: list[str]) -> list[tuple[str, list[float]]]:
    found = [models.of(model).embed([text])[0] for text in texts]
    return [(text, [round(float(x), 4) for x in vector[:5]]) for text, vector in zip(texts, found, strict=True)]


def test_what_a_contract_changes_while_the_second_index_stands_is_changed_of_both(tide: Tide, notes: TwoModels) -> None:
    tide.apply(OF_OTHER)
    built(tide)
    rule = "when: \"row.region in user.regions and row.title != 'hidden'\""
    changed = OF_OTHER.replace('when: "row.region in user.regions"', rule)
    plan = tide.apply(changed)
    assert plan.backfill
    for name in ("team.note", f"team.note@{OTHER}"):
        tide.live(name)
    for schema in ("rag_team", "beside_team"):
        assert tide.rows(f"SELECT id, title FROM {schema}.note ORDER BY id") == [(1, "one"), (2, "two"), (3, "three")]
        policies = tide.rows(
            "SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = %s::regclass "
            "AND polname = 'tidegate_allow_readers'",
            f"{schema}.note",
        )
        assert len(policies) == 1
        assert "hidden" in policies[0][0]
    # Chunks of another size, under the new model only: the first index stays as it is cut.
    smaller = changed.replace("tokens: 200", "tokens: 16")
    tide.admin.execute("UPDATE team.note SET body = repeat('many words ', 20) WHERE id = 1")
    caught_up(tide)
    tide.apply(smaller)
    built(tide)
    first, second = both(tide)
    assert len(first) == 3
    assert len(second) > 3
    assert [finding for finding in find_drift(tide.admin) if finding.level != "info"] == []


def test_what_does_not_fit_beside_is_refused(tide: Tide, notes: TwoModels) -> None:
    tide.apply(OF_OTHER)
    with pytest.raises(
        ContractUnfit, match=r"third/model while a second index, with other/model.*switch to it or drop"
    ):
        tide.apply(SIMPLE_CONTRACT.replace(MODEL, "third/model"))
    shut = OF_OTHER.replace("columns: [title, body]", "columns: [title]").replace(
        "name: body, logicalType: string, physicalType: text}",
        "name: body, logicalType: string, physicalType: text, classification: restricted}",
    )
    with pytest.raises(
        ContractUnfit, match=r"with local/all-minilm-l6-v2 embeds column body, which is restricted.*--reb"
    ):
        tide.apply(shut)
    # In place, as ever: the second index goes with it.
    plan = tide.apply(shut, rebuild=True)
    assert plan.drops == ("table rag_team.note", "table beside_team.note")
    tide.live("team.note")
    assert tide.one("SELECT to_regclass('beside_team.note')") is None
    assert tide.rows("SELECT product, model FROM tidegate.product") == [("team.note", OTHER)]


def test_back_to_the_old_model_leaves_the_second_index_to_be_dropped(tide: Tide, notes: TwoModels) -> None:
    tide.apply(OF_OTHER)
    built(tide)
    tide.apply(SIMPLE_CONTRACT)
    (status,) = model_status(tide.admin)
    assert status.searched.wanted
    assert status.second is not None
    assert not status.second.wanted
    with pytest.raises(NoSecondIndex, match="is with the model of its contract"):
        switch(tide.admin, "team.note")
    with pytest.raises(NoSecondIndex, match="never searched"):
        switch(tide.admin, "team.note", "rollback")
    drop(tide.admin, "team.note")
    assert tide.rows("SELECT product, model, state FROM tidegate.product") == [("team.note", MODEL, "live")]
    assert tide.apply(SIMPLE_CONTRACT).steps == ()
    # What was dropped is built anew where a contract asks for it again.
    tide.apply(OF_OTHER)
    built(tide)
    assert len(both(tide)[1]) == 3


def test_a_switch_waits_for_the_model_and_says_how_far_it_is_behind(tide: Tide, notes: TwoModels) -> None:
    notes.of(OTHER).away = True
    tide.apply(OF_OTHER)
    with pytest.raises(NotReady, match=r"is (pending|backfilling).*searches stay with local"):
        switch(tide.admin, "team.note")
    notes.of(OTHER).away = False
    built(tide)
    notes.of(OTHER).away = True
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (4, 'four')")
    tide.caught_up()  # the first index goes on
    assert len(both(tide)[0]) == 4
    with pytest.raises(NotReady, match=r"has not caught up, it is [\d.]+ s behind"):
        switch(tide.admin, "team.note")
    notes.of(OTHER).away = False
    said: list[str] = []
    assert switch(tide.admin, "team.note", wait_s=60, told=said.append).model == OTHER
    assert [row[0] for row in both(tide)[0]] == [1, 2, 3, 4]


def test_a_search_that_runs_long_delays_the_switch_and_nobody_else(tide: Tide, notes: TwoModels) -> None:
    tide.apply(OF_OTHER)
    built(tide)
    with connect(tide.dsn) as reader, connect(tide.dsn) as other:
        reader.execute("BEGIN")
        reader.execute("SELECT FROM rag_team.note")
        done: list[Any] = []
        thread = threading.Thread(target=lambda: done.append(switch(tide.admin, "team.note")))
        thread.start()
        slowest = 0.0
        until = time.monotonic() + 2
        while time.monotonic() < until:
            begun = time.perf_counter()
            other.execute("SELECT FROM rag_team.note")
            slowest = max(slowest, time.perf_counter() - begun)
        assert not done
        assert slowest < 1.0
        reader.execute("COMMIT")
        thread.join()
        assert done[0].model == OTHER


SEARCH = (
    "SELECT content, distance FROM tidegate.search(vectors => %s::jsonb, k => 5, products => '{team.note}', "
    "consistency => %s)"
)


class Searcher:
    """Searches as a reader, with the question under both models, and tells under which each result was found."""

    def __init__(self, tide: Tide, models: TwoModels):
        self.of = {model: models.of(model).embed(["a question"])[0] for model in (MODEL, OTHER)}
        self.known = {model: {} for model in self.of}  # type: dict[str, dict[str, float]]
        self.vectors = json.dumps({model: vector.tolist() for model, vector in self.of.items()})
        self.models = models
        self.dsn = tide.dsn
        tide.admin.execute(
            "DO $$ BEGIN CREATE ROLE searching NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$; "
            "GRANT note_reader TO searching"
        )
        tide.admin.execute(
            "INSERT INTO tidegate.principal_attribute (principal, attribute, attribute_values, role_oid) "
            "VALUES ('searching', 'regions', '{EU}', 'searching'::regrole)"
        )

    def learn(self, texts: list[str]) -> None:
        for model, known in self.known.items():
            for text, vector in zip(texts, self.models.of(model).embed(texts), strict=True):
                known[text] = 1 - float(vector @ self.of[model])

    def model_of(self, hits: list[tuple[str, float]]) -> str:
        """The one model under which these are the distances."""
        fit = [
            model
            for model, known in self.known.items()
            if all(abs(known[text] - distance) < 1e-4 for text, distance in hits)
        ]
        assert len(fit) == 1, hits
        return fit[0]


def test_searches_while_it_is_switched(tide: Tide, notes: TwoModels) -> None:
    """None fails, none is empty or short, each is under one model: whichever was in force when it began."""
    searcher = Searcher(tide, notes)
    words = ["river", "stone", "cloud", "wheel", "paper", "glass", "field", "night"]
    tide.admin.execute(
        "INSERT INTO team.note (id, title) SELECT 10 + n, w FROM unnest(%s::text[]) WITH ORDINALITY AS u (w, n)",
        [words],
    )
    searcher.learn(["one", "two", "three", *words])
    tide.apply(OF_OTHER)
    built(tide)
    done = threading.Event()
    found: list[str] = []
    errors: list[Exception] = []

    def search(consistency: str) -> None:
        try:
            with connect(tide.dsn, role="searching") as connection:
                while not done.is_set():
                    hits = connection.execute(SEARCH, [searcher.vectors, consistency]).fetchall()
                    assert len(hits) == 5
                    found.append(searcher.model_of(hits))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=search, args=(way,)) for way in ("strict", "eventual", "strict")]
    for thread in threads:
        thread.start()
    for _ in range(4):
        switch(tide.admin, "team.note")
        switch(tide.admin, "team.note", "rollback")
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(found) == {MODEL, OTHER}
    assert len(found) > 50


def test_a_search_stays_with_the_model_of_its_snapshot(tide: Tide, notes: TwoModels) -> None:
    searcher = Searcher(tide, notes)
    searcher.learn(["one", "two", "three"])
    tide.apply(OF_OTHER)
    built(tide)
    with connect(tide.dsn, role="searching") as connection:
        asked = "SELECT tidegate.search_statement(vectors => %s::jsonb, k => 5, products => '{team.note}')"
        (statement,) = connection.execute(asked, [searcher.vectors]).fetchone() or ("",)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert searcher.model_of(connection.execute(SEARCH, [searcher.vectors, "strict"]).fetchall()) == MODEL
        connection.execute("COMMIT")
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT FROM tidegate.products")
        switch(tide.admin, "team.note")
        assert searcher.model_of(connection.execute(SEARCH, [searcher.vectors, "strict"]).fetchall()) == MODEL
        connection.execute("COMMIT")
        assert searcher.model_of(connection.execute(SEARCH, [searcher.vectors, "strict"]).fetchall()) == OTHER
        # A statement that was made before names a table that is another one by now: it shows nothing of it.
        assert connection.execute(statement).fetchall() == []
        with pytest.raises(psycopg.DatabaseError, match=f'vectors has none of model "{OTHER}"') as refused:
            connection.execute(SEARCH, [json.dumps({MODEL: searcher.of[MODEL].tolist()}), "strict"])
        assert refused.value.sqlstate == "TG001"

"""Lineage: the view, and what an OpenLineage endpoint or file is told."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from openlineage.client import event_v2, facet_v2
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide, connect
from tests.loopback import Asked, Reply, serving

from tidegate.errors import UsageError
from tidegate.govern.apply import apply_plan
from tidegate.govern.plan import Plan, make_plan
from tidegate.observe.lineage import Lineage


@pytest.fixture
def plan(tide: Tide) -> Plan:
    tide.admin.execute(SIMPLE_TABLE)
    contract = tide.contract(SIMPLE_CONTRACT)
    return make_plan(tide.admin, contract, tide.embedders.of(contract.embedding.model))


def told(path: Path) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for event in events:
        valid(event)
    return events


def valid(event: dict[str, Any]) -> None:
    """Read back by the client's own classes, which check ids, times and required parts."""
    again = event_v2.RunEvent(
        eventType=event_v2.RunState(event["eventType"]),
        eventTime=event["eventTime"],
        run=event_v2.Run(event["run"]["runId"]),
        job=event_v2.Job(event["job"]["namespace"], event["job"]["name"]),
        producer=event["producer"],
    )
    assert event["schemaURL"] == again.schemaURL
    for dataset in event["inputs"] + event["outputs"]:
        for name, facet in dataset["facets"].items():
            fields = {key: value for key, value in facet.items() if not key.startswith("_")}
            made = {
                "schema": facet_v2.schema_dataset.SchemaDatasetFacet,
                "columnLineage": facet_v2.column_lineage_dataset.ColumnLineageDatasetFacet,
                "ownership": facet_v2.ownership_dataset.OwnershipDatasetFacet,
                "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet,
            }[name](**fields)
            assert facet["_schemaURL"] == made._schemaURL


class TestTheView:
    EXPECTED = (
        ("id", "id", "key", None),
        ("title", "content", "embedded", "local/all-minilm-l6-v2"),
        ("title", "embedding", "embedded", "local/all-minilm-l6-v2"),
        ("body", "content", "embedded", "local/all-minilm-l6-v2"),
        ("body", "embedding", "embedded", "local/all-minilm-l6-v2"),
        ("region", "region", "carried", None),
        ("price", "price", "carried", None),
    )
    QUERY = "SELECT source_column, chunk_column, transformation, model FROM tidegate.lineage"

    def test_column_to_column(self, tide: Tide, plan: Plan) -> None:
        apply_plan(tide.admin, plan)
        assert tuple(tide.rows(self.QUERY)) == self.EXPECTED
        assert tide.rows(
            "SELECT DISTINCT product, source_schema, source_table, chunk_schema, chunk_table, contract_version FROM tidegate.lineage"
        ) == [("team.note", "team", "note", "rag_team", "note", "1.0.0")]

    def test_a_template_names_its_columns(self, tide: Tide) -> None:
        tide.admin.execute(SIMPLE_TABLE)
        tide.apply(SIMPLE_CONTRACT.replace("columns: [title, body]", 'template: "{{body}} is {title}"'))
        embedded = {row[0] for row in tide.rows(self.QUERY) if row[2] == "embedded"}
        assert embedded == {"title"}

    def test_readers_see_their_own_products(self, tide: Tide, plan: Plan) -> None:
        apply_plan(tide.admin, plan)
        tide.admin.execute("DROP ROLE IF EXISTS lineage_stranger, lineage_overseer")
        tide.admin.execute(
            "CREATE ROLE lineage_stranger IN ROLE tidegate_reader; CREATE ROLE lineage_overseer IN ROLE tidegate_admin"
        )
        for role, rows in (("note_reader", 7), ("lineage_stranger", 0), ("lineage_overseer", 7)):
            with connect(tide.dsn, role=role) as session:
                assert session.execute("SELECT count(*) FROM tidegate.lineage").fetchone() == (rows,), role
        tide.admin.execute("DROP ROLE lineage_stranger, lineage_overseer")


class TestAnApply:
    def test_is_one_run(self, tide: Tide, plan: Plan, tmp_path: Path) -> None:
        file = tmp_path / "lineage.jsonl"
        lineage = Lineage(f"file:{file}")
        with lineage.applying(tide.admin, plan):
            apply_plan(tide.admin, plan)
        start, complete = told(file)
        assert [start["eventType"], complete["eventType"]] == ["START", "COMPLETE"]
        assert start["run"]["runId"] == complete["run"]["runId"]
        assert complete["job"]["name"] == "apply.team.note"
        (source,), (target,) = complete["inputs"], complete["outputs"]
        database = tide.admin.info.dbname
        assert source["name"] == f"{database}.team.note"
        assert target["name"] == f"{database}.rag_team.note"
        assert source["namespace"] == f"postgres://{tide.admin.info.host}:{tide.admin.info.port}"
        assert "secret" not in [field["name"] for field in source["facets"]["schema"]["fields"]]
        types = {field["name"]: field["type"] for field in target["facets"]["schema"]["fields"]}
        assert types == {
            "id": "bigint", "content": "text", "embedding": "vector(384)", "region": "text", "price": "numeric(10,2)",
        }  # fmt: skip
        columns = target["facets"]["columnLineage"]["fields"]
        assert [field["field"] for field in columns["content"]["inputFields"]] == ["title", "body"]
        assert columns["region"]["inputFields"][0]["transformations"][0]["subtype"] == "IDENTITY"
        assert target["facets"]["version"]["datasetVersion"] == "1.0.0"
        assert {"name": "user:owner@example.com", "type": "OWNER"} in target["facets"]["ownership"]["owners"]

    def test_that_fails_says_so(self, tide: Tide, plan: Plan, tmp_path: Path) -> None:
        file = tmp_path / "lineage.jsonl"
        tide.admin.execute("CREATE SCHEMA rag_team; CREATE TABLE rag_team.note (secret text)")
        with pytest.raises(psycopg.Error), Lineage(f"file:{file}").applying(tide.admin, plan):
            apply_plan(tide.admin, plan)
        assert [event["eventType"] for event in told(file)] == ["START", "FAIL"]
        # What Postgres says may quote a row.
        assert told(file)[1]["run"]["facets"]["errorMessage"]["message"] == "InsufficientPrivilege"

    def test_that_does_nothing_is_no_run(self, tide: Tide, plan: Plan, tmp_path: Path) -> None:
        apply_plan(tide.admin, plan)
        again = make_plan(tide.admin, plan.contract, tide.embedders.of(plan.contract.embedding.model))
        with Lineage(f"file:{tmp_path / 'none'}").applying(tide.admin, again):
            apply_plan(tide.admin, again)
        assert not (tmp_path / "none").exists()

    def test_over_http(self, tide: Tide, plan: Plan, endpoint: "Endpoint") -> None:
        with Lineage(endpoint.url).applying(tide.admin, plan):
            apply_plan(tide.admin, plan)
        assert [(path, event["eventType"]) for path, event in endpoint.received] == [
            ("/api/v1/lineage", "START"),
            ("/api/v1/lineage", "COMPLETE"),
        ]
        for _, event in endpoint.received:
            valid(event)

    @pytest.mark.parametrize("target", ["http://127.0.0.1:1", "file:/no/such/folder/lineage"])
    def test_goes_on_where_nobody_listens(self, tide: Tide, plan: Plan, target: str, caplog: Any) -> None:
        with caplog.at_level(logging.WARNING, "tidegate"), Lineage(target).applying(tide.admin, plan):
            apply_plan(tide.admin, plan)
        assert tide.one("SELECT count(*) FROM tidegate.product") == 1
        assert caplog.messages.count("lineage not told") == 2

    def test_a_target_that_is_none(self) -> None:
        for target in ("kafka:x", "file:", "http:x", "x"):
            with pytest.raises(UsageError, match="TIDEGATE_OPENLINEAGE"):
                Lineage(target)


@dataclass
class Endpoint:
    """An HTTP server on loopback that keeps what it is told."""

    url: str = ""
    received: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def answer(self, asked: Asked) -> Reply:
        self.received.append((asked.path, asked.json()))
        return Reply(status=201)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Endpoint()
    with serving(made.answer) as made.url:
        yield made


def test_a_backfill_is_one_run_whatever_its_rows(tide: Tide, plan: Plan, tmp_path: Path) -> None:
    file = tmp_path / "lineage.jsonl"
    tide.settings.openlineage = f"file:{file}"
    tide.admin.execute("INSERT INTO team.note (id, title) SELECT n, 'note ' || n FROM generate_series(1, 20) AS n")
    apply_plan(tide.admin, plan)
    tide.run()
    tide.live("team.note")
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (100, 'one more')")
    tide.caught_up()
    tide.stop()
    events = told(file)
    assert [(event["job"]["name"], event["eventType"]) for event in events] == [
        ("backfill.team.note", "START"),
        ("backfill.team.note", "COMPLETE"),
    ]
    assert events[0]["run"]["runId"] == events[1]["run"]["runId"]
    assert "columnLineage" in events[1]["outputs"][0]["facets"]

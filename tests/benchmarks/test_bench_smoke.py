"""The benchmarks run, at a size that measures nothing, and report in the documented form."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tidegate.bench.entitlement import PRINCIPALS
from tidegate.bench.report import Goal
from tidegate.bench.texts import Texts

pytestmark = pytest.mark.bench

KEYS = ["bench", "config", "machine", "results", "floor", "ratios", "goals"]


def bench(name: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tidegate.cli", "bench", name, "--json", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert list(report) == KEYS
    assert report["bench"] == name
    assert report["config"]["fsync"] == "on"
    assert {"cores", "cpu", "memory_gb", "python"} <= report["machine"].keys()
    for goal in report["goals"]:
        assert goal.keys() == {"name", "value", "limit", "ok"}
        assert isinstance(goal["ok"], bool)
    assert all(value > 0 for value in report["ratios"].values())
    return report


def test_freshness_reports_percentiles_beside_the_floor() -> None:
    report = bench("freshness", "--samples", "4", "--warm-up", "1", "--rows", "30")
    results, floor = report["results"], report["floor"]
    assert 0 < results["p50_ms"] <= results["p95_ms"] <= results["p99_ms"] <= results["max_ms"]
    assert results["searchable_p50_ms"] < results["p50_ms"]
    parts = sum(floor[f"{part}_p50_ms"] for part in ("handler", "embedding", "commit"))
    assert floor["p50_ms"] == pytest.approx(parts, abs=0.1)
    assert report["ratios"]["p50"] == pytest.approx(results["p50_ms"] / floor["p50_ms"], abs=0.01)
    assert [goal["limit"] for goal in report["goals"]] == [1.5, 200]


def test_backfill_reports_rate_and_memory() -> None:
    report = bench("backfill", "--rows", "300", "--floor-rows", "60")
    results = report["results"]
    assert report["ratios"]["rows_per_s"] == pytest.approx(
        results["rows_per_s"] / report["floor"]["rows_per_s"], abs=0.01
    )
    assert 100 < results["rss_start_mb"] <= results["rss_max_mb"]
    assert [goal["limit"] for goal in report["goals"]] == [0.85, 1024, 1.15]


def test_search_reports_every_principal_before_and_after_updates(tmp_path: Path) -> None:
    report = bench("search", "--texts", "60", "--vectors", "2000", "--queries", "2", "--cache", str(tmp_path))
    assert set(report["results"]) == {"texts", "vectors"}
    for product in report["results"].values():
        for phase in (product["before"], product["after"]):
            assert phase.keys() == {"unfiltered", *(principal.label for principal in PRINCIPALS)}
            for principal in PRINCIPALS:
                row = phase[principal.label]
                for way in ("search, strict", "HNSW", "HNSW, iterative"):
                    figures = row[way]
                    assert 0 <= figures["least"] <= figures["recall"] <= 1
                    assert 0 < figures["p50_ms"] <= figures["p95_ms"]
                    assert figures["per_s"] > 0
                assert row["search, strict"]["recall"] == 1.0  # so few rows are searched exactly
                assert row["search, strict"]["short"] == 0
    assert len(report["goals"]) == 24
    assert [goal["ok"] for goal in report["goals"]][:3] == [True, True, True]


def test_hybrid_reports_three_ways_of_a_labelled_set(tmp_path: Path) -> None:
    documents = [
        {"id": 1, "title": "Tides", "text": "The moon pulls the sea up twice a day."},
        {"id": 2, "title": "Dykes", "text": "Part KX-4711 keeps the gate of the dyke shut."},
        {"id": 3, "title": "Bread", "text": "Flour, water and salt, baked for an hour."},
    ]
    questions = [{"id": 1, "text": "KX-4711"}, {"id": 2, "text": "why does the water rise and fall at the coast"}]
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (tmp_path / "qrels.tsv").write_text("query_id\tdoc_id\trelevance\n1\t2\t1\n2\t1\t1\n")
    report = bench("hybrid", "--data", str(tmp_path))
    results, (goal,) = report["results"], report["goals"]
    assert results["ndcg_vector"] > 0.7
    assert results["ndcg_words"] >= 0.5  # the part's number
    assert goal["value"] == results["ndcg_hybrid"]
    assert goal["limit"] == max(results["ndcg_vector"], results["ndcg_words"])
    assert results["hybrid_minus_words_low"] <= results["hybrid_minus_words"] <= results["hybrid_minus_words_high"]


def test_cost_compares_the_pipeline_with_embedding_every_change_whole() -> None:
    report = bench("cost", "--changes", "40", "--documents", "2")
    results, floor = report["results"], report["floor"]
    assert {kind: results[f"changes_{kind}"] for kind in ("carried", "edit", "new", "delete")} == {
        "carried": 24, "edit": 10, "new": 4, "delete": 2,
    }  # fmt: skip
    assert 4 <= results["texts_embedded"] < floor["texts_embedded"] / 8
    assert report["ratios"]["texts"] == pytest.approx(results["texts_embedded"] / floor["texts_embedded"], abs=0.001)
    assert [goal["limit"] for goal in report["goals"]] == [0.125, 0.125, 2.0]
    assert all(goal["ok"] for goal in report["goals"])


def test_mixed_reports_live_changes_beside_a_backfill() -> None:
    report = bench("mixed", "--rows", "3000", "--seconds", "6", "--settle-s", "1")
    assert report["results"]["live_changes"] == 60
    assert 0 < report["results"]["p50_ms"] <= report["results"]["p99_ms"]
    assert report["floor"]["rows_per_s"] > 0
    assert [goal["limit"] for goal in report["goals"]] == [200.0, 0.6]


def test_a_goal_is_kept_on_its_limit_and_missed_beyond() -> None:
    assert Goal("p50 / floor", 1.5, 1.5).ok
    assert not Goal("p50 / floor", 1.51, 1.5).ok
    assert Goal("rows/s / floor", 0.85, 0.85, at_least=True).ok
    assert not Goal("rows/s / floor", 0.84, 0.85, at_least=True).ok


def test_texts_are_the_same_for_a_seed_and_all_different() -> None:
    first, again, other = (Texts(seed, (1, 3)) for seed in (7, 7, 8))
    made = [first.next() for _ in range(500)]
    assert made == [again.next() for _ in range(500)]
    assert made != [other.next() for _ in range(500)]
    assert len({text.document for text in made}) == 500


@pytest.mark.skipif(find_spec("litellm") is None, reason="the extra llm is not installed")
def test_model_switch_judges_every_search() -> None:
    report = bench("model-switch", "--chunks", "200", "--changes-per-s", "5")
    results = report["results"]
    assert results["under_first"] > 0
    assert results["under_second"] > 0
    assert results["searches"] == results["under_first"] + results["under_second"]
    assert len(results["switch_s"]) == len(results["readers_held_ms"]) == 3
    assert [goal["ok"] for goal in report["goals"]] == [True] * 5

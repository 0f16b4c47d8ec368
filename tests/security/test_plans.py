"""Plans: who gains and loses, files that run as reviewed or not at all, and applies that are killed or race."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from tests.conftest import Tide, wait_until
from tests.security.conftest import ALLOW, World, contract
from tests.security.test_apply_safety import DENY, state

from tidegate.govern.apply import PlanOutdated, apply_plan
from tidegate.govern.matrix import Access, access_changes, count_matrix
from tidegate.govern.plan import make_plan
from tidegate.govern.plan_set import Wanted, apply_plans, make_plans

COMMAND = str(Path(sys.executable).parent / "tidegate")
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cli(tide: Tide, tmp_path: Path) -> Cli:
    def run(*arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [COMMAND, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=60,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TIDEGATE_DSN": tide.dsn},
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, done
        return done

    return run


def versioned(text: str, version: str) -> str:
    document = yaml.safe_load(text) | {"version": version}
    return str(yaml.safe_dump(document, sort_keys=False))


def planned(world: World, text: str) -> Any:
    parsed = world.tide.bumped(world.tide.contract(text))
    return make_plan(world.admin, parsed, world.tide.embedders.of(parsed.embedding.model))


class TestMatrix:
    def test_rows_gained_and_lost_of_each_role(self, published: World) -> None:
        published.note(3, region="EU")
        eu = published.role("eu", "note_reader", regions=["EU"])
        us = published.role("us", "note_reader", regions=["US"])
        published.role("stranger")
        before = state(published)
        plan = planned(published, contract({**ALLOW, "when": "row.region = 'US' or row.region = user.home"}))
        assert access_changes(plan)
        matrix = count_matrix(published.admin, plan)
        assert matrix.rows == 3
        assert matrix.access == (
            Access("note_reader", True, 0, 1, 1, 0),
            Access(eu, False, 2, 1, 1, 2),
            Access(us, False, 1, 1, 0, 0),
        )
        assert matrix.notes == ()
        assert state(published) == before

    def test_rows_and_not_chunks(self, published: World) -> None:
        with published.admin.transaction():
            published.admin.execute("SET LOCAL ROLE tidegate_worker")
            published.admin.execute(
                "INSERT INTO rag_team.note (id, region, chunk_no, content, content_hash, embedding, position, contract_version) "
                "SELECT id, region, 1, content, '', embedding, position, '1' FROM rag_team.note"
            )
        eu = published.role("eu", "note_reader", regions=["EU"])
        matrix = count_matrix(published.admin, planned(published, contract({**ALLOW, "when": "row.region = 'US'"})))
        assert matrix.rows == 2
        assert {each.role: (each.gained, each.lost) for each in matrix.access}[eu] == (1, 1)

    def test_a_new_product_is_counted_on_its_source(self, world: World) -> None:
        world.admin.execute("INSERT INTO team.note (id, region) VALUES (1, 'EU'), (2, 'EU'), (3, 'US')")
        matrix = count_matrix(
            world.admin, planned(world, contract({**ALLOW, "to": ["fresh"], "when": "row.region = 'EU'"}))
        )
        assert matrix.rows == 3
        assert matrix.access == (Access("fresh", True, 0, 2, 2, 0),)
        assert any("source" in note for note in matrix.notes)
        assert world.tide.rows("SELECT FROM pg_roles WHERE rolname = 'fresh'") == []

    def test_a_deny_with_a_role_and_a_new_role_at_once(self, published: World) -> None:
        eu = published.role("eu", "note_reader", regions=["EU", "US"])
        matrix = count_matrix(published.admin, planned(published, contract(ALLOW, {**DENY, "to": ["note_reader"]})))
        assert {each.role: (each.before, each.after) for each in matrix.access}[eu] == (2, 1)

    def test_what_takes_too_long_is_said_and_not_guessed(
        self, published: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tidegate.govern.matrix.COUNT_TIMEOUT_MS", 1)
        with published.admin.transaction():
            published.admin.execute("SET LOCAL ROLE tidegate_worker")
            published.admin.execute(
                "INSERT INTO rag_team.note (id, region, chunk_no, content, content_hash, embedding, position, contract_version) "
                "SELECT n.id + 100 * i, region, 0, content, '', embedding, position, '1' FROM rag_team.note n, generate_series(1, 5000) i"
            )
        matrix = count_matrix(published.admin, planned(published, contract({**ALLOW, "when": "row.region = 'US'"})))
        assert matrix.rows is None
        assert any("not counted" in note for note in matrix.notes)


class TestPlanFile:
    @pytest.fixture
    def folder(self, published: World, tmp_path: Path) -> Path:
        text = versioned(contract({**ALLOW, "when": "row.region in ['EU', 'US']"}), "2.0.0")
        (tmp_path / "note.odcs.yaml").write_text(text)
        return tmp_path

    def test_plans_applies_and_has_nothing_left(self, published: World, folder: Path, cli: Cli) -> None:
        before = state(published)
        shown = cli("plan", ".", "-o", "plan.json", code=2)
        assert "note_reader" in shown.stdout
        assert state(published) == before
        document = json.loads((folder / "plan.json").read_text())
        printed = cli("plan", ".", "--sql", code=2).stdout
        at = 0
        for each in document["products"][0]["statements"]:
            at = printed.index(each["sql"].rstrip().rstrip(";"), at) + 1
        cli("apply", "plan.json")
        assert cli("plan", ".").stdout.strip() == "1 product: nothing to do"
        assert published.tide.one("SELECT contract_version FROM tidegate.product") == "2.0.0"
        # It has been applied; it is not applied again.
        assert "Nothing was changed" in cli("apply", "plan.json", code=1).stderr

    def test_refused_when_the_database_changed_since(self, published: World, folder: Path, cli: Cli) -> None:
        cli("plan", ".", "-o", "plan.json", code=2)
        published.publish(contract(ALLOW, DENY))
        before = state(published)
        refused = cli("apply", "plan.json", code=1)
        assert "team.note" in refused.stderr
        assert state(published) == before

    def test_refused_when_edited_by_hand(self, published: World, folder: Path, cli: Cli) -> None:
        cli("plan", ".", "-o", "plan.json", code=2)
        document = json.loads((folder / "plan.json").read_text())
        before = state(published)
        for number in range(len(document["products"][0]["statements"])):
            edited = json.loads(json.dumps(document))
            edited["products"][0]["statements"][number]["sql"] = "DROP TABLE team.note"
            if number % 4 == 0:
                (folder / "edited.json").write_text(json.dumps(edited))
                refused = cli("apply", "edited.json", code=1)
                assert "DROP TABLE team.note" in refused.stderr
        fewer = json.loads(json.dumps(document))
        del fewer["products"][0]["statements"][-1]
        (folder / "edited.json").write_text(json.dumps(fewer))
        cli("apply", "edited.json", code=1)
        assert state(published) == before
        (folder / "edited.json").write_text("{}")
        assert "is no plan" in cli("apply", "edited.json", code=1).stderr

    def test_without_a_terminal_what_widens_needs_yes(self, published: World, folder: Path, cli: Cli) -> None:
        before = state(published)
        refused = cli("apply", ".", code=1)
        assert "--yes" in refused.stderr
        assert "widens" in refused.stderr
        assert state(published) == before
        cli("apply", ".", "--yes")
        narrower = versioned(contract({**ALLOW, "when": "row.region = 'EU'"}), "2.1.0")
        (folder / "note.odcs.yaml").write_text(narrower)
        cli("apply", ".")


def test_standards_bring_every_product_along(published: World, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "standards.yaml").write_text(
        "standards: 1\nrules:\n  - {id: only_eu, effect: require, when: \"row.region = 'EU'\"}\n"
    )
    (tmp_path / "note.odcs.yaml").write_text(contract(ALLOW))
    both = published.role("both", "note_reader", regions=["EU", "US"])
    shown = cli("plan", "note.odcs.yaml", "--standards", "standards.yaml", code=2)
    assert both in shown.stdout
    cli("apply", "note.odcs.yaml", "--standards", "standards.yaml")
    reader = published.login(both)
    assert reader.execute("SELECT array_agg(id) FROM rag_team.note").fetchone() == ([1],)
    # In force from now on, without being named.
    cli("plan", "note.odcs.yaml")
    assert published.publish(contract(ALLOW, DENY)).contract.rules[0].origin == "standards"


def test_a_plan_is_made_again_inside_the_lock(published: World) -> None:
    parsed = published.tide.bumped(published.tide.contract(contract(ALLOW, DENY)))
    plans = make_plans(published.admin, Wanted((parsed,)), published.tide.embedders)
    published.publish(contract({**ALLOW, "when": "row.region = 'US'"}))
    before = state(published)
    with pytest.raises(PlanOutdated, match=r"team\.note"):
        apply_plans(published.admin, plans, published.tide.embedders)
    assert state(published) == before


def test_two_applies_at_once_take_turns(world: World) -> None:
    parsed = world.tide.contract(contract(ALLOW))
    plans = make_plans(world.admin, Wanted((parsed,)), world.tide.embedders)
    sessions = [world.as_superuser() for _ in range(3)]
    gate = threading.Barrier(3)
    failed: list[BaseException] = []

    def run(session: Any) -> None:
        gate.wait()
        try:
            apply_plans(session, plans, world.tide.embedders)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert world.tide.one("SELECT count(*) FROM tidegate.audit_event WHERE kind = 'apply'") == 1


def test_an_apply_that_is_killed_leaves_everything_as_it_was(published: World, tmp_path: Path) -> None:
    (tmp_path / "note.odcs.yaml").write_text(versioned(contract(ALLOW, DENY), "2.0.0"))
    before = state(published)
    holder = published.as_superuser()
    holder.execute("BEGIN; LOCK TABLE rag_team.note IN ROW EXCLUSIVE MODE")
    process = subprocess.Popen(
        [COMMAND, "apply", "."], cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TIDEGATE_DSN": published.tide.dsn},
    )  # fmt: skip
    waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ~ 'POLICY'"
    wait_until(lambda: published.tide.rows(waiting), 30, "apply waits for the table, its other statements done")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    holder.execute("ROLLBACK")
    wait_until(
        lambda: (
            not published.tide.rows(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND application_name = 'tidegate' AND state <> 'idle'"
            )
        ),
        30,
        "its session is gone",
    )
    assert state(published) == before
    published.publish(contract(ALLOW, DENY))


def test_readers_are_locked_out_last(published: World) -> None:
    plan = planned(published, contract(ALLOW, DENY))
    locking = [step.locks for step in plan.steps]
    assert any(locking)
    assert locking == sorted(locking)
    texts = [step.statement.as_string(None) for step in plan.steps]
    assert all(
        "POLICY" not in text for text, locks in zip(texts, locking, strict=True) if not locks and "INSERT" not in text
    )
    assert apply_plan(published.admin, plan).held_ms > 0


def test_the_audit_names_the_contract_before_and_after(published: World) -> None:
    published.publish(contract(ALLOW, DENY))
    rows = published.tide.rows(
        "SELECT actor, contract_version, subject, before, after FROM tidegate.audit WHERE kind = 'apply' ORDER BY audit_id"
    )
    assert [row[1:3] for row in rows] == [("1.0.0", "new"), ("2.0.0", "NARROWS")]
    assert rows[0][0] == published.tide.one("SELECT session_user::text")
    assert rows[1][3]["contract_sha256"] == rows[0][4]["contract_sha256"] != rows[1][4]["contract_sha256"]
    kept = "SELECT encode(sha256(convert_to(statements, 'UTF8')), 'hex') FROM tidegate.contract_version WHERE contract_sha256 = %s"
    assert published.tide.one(kept, rows[1][4]["contract_sha256"]) == rows[1][4]["statements_sha256"]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        published.admin.execute("DELETE FROM tidegate.audit_event")

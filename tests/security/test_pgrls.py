"""A linter of others, pgrls, over a database that apply made: no error that is not explained here."""

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.conftest import Tide

import tidegate
from tidegate.contract.odcs import load_contracts
from tidegate.govern.apply import apply_plan
from tidegate.govern.plan import make_plan

DEMO = Path(tidegate.__file__).parent / "local" / "demo"

EXPLAINED = {
    ("SEC001", r"tidegate\.\w+"): "Control tables are closed by privilege: readers have none on them at all, only on "
    "functions and views that show them their own part (test_attacks, drift's grants check).",
    (
        "SEC038",
        r"rag_\w+\.\w+\.tidegate_worker",
    ): "The worker's own policy is TO tidegate_worker, which has no login and "
    "no members but the worker's; it must see every row to replace and delete it, or deletes would leave ghosts.",
}
"""(rule, object) → why the finding is meant. A reason that explains nothing fails the test."""


@pytest.fixture
def generated(tide: Tide) -> str:
    """A database with the demonstration's three products, as a URL."""
    tide.admin.execute((DEMO / "schema.sql").read_text(encoding="utf-8"))  # type: ignore[arg-type]
    for contract in load_contracts(DEMO / "contracts"):
        apply_plan(tide.admin, make_plan(tide.admin, contract, tide.embedders.of(contract.embedding.model)))
    info = tide.admin.info
    return f"postgresql://{info.user}:{quote(info.password)}@{info.host}:{info.port}/{info.dbname}"


def errors(url: str) -> list[tuple[str, str, str]]:
    command = [sys.executable, "-m", "pgrls", "lint", "--database-url", url, "--format", "json"]
    schemas = "tidegate,rag_policy,rag_shop,rag_support"
    done = subprocess.run([*command, "--schemas", schemas], capture_output=True, text=True, timeout=120, check=False)
    found = json.loads(done.stdout)["violations"]
    assert found, done.stderr
    return [(each["rule_id"], each["location"], each["message"]) for each in found if each["severity"] == "error"]


def test_every_error_is_explained(generated: str) -> None:
    used = set()
    for rule, location, message in errors(generated):
        reasons = [key for key in EXPLAINED if key[0] == rule and re.fullmatch(key[1], location)]
        assert reasons, f"{rule} {location}: {message}"
        used.update(reasons)
    assert used == set(EXPLAINED), "an explanation that is no longer needed"


def test_a_policy_that_lays_a_table_open_is_found(tide: Tide, generated: str) -> None:
    tide.admin.execute("CREATE POLICY anyone ON rag_support.ticket FOR SELECT USING (true)")
    assert any(location == "rag_support.ticket.anyone" for _, location, _ in errors(generated))

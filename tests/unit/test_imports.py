"""Who imports whom: the domain imports no adapter, and the command line starts without the heavy ones."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tidegate

APP = Path(tidegate.__file__).parent
ADAPTERS = {
    "psycopg",
    "psycopg_pool",
    "pgvector",
    "sqlalchemy",
    "alembic",
    "jpype",
    "pydbzengine",
    "litellm",
    "onnxruntime",
}
HEAVY = ("litellm", "onnxruntime", "jpype", "pydbzengine", "alembic", "sqlalchemy", "tokenizers", "numpy", "psycopg")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", sorted((APP / "contract").glob("*.py")), ids=lambda path: path.name)
def test_a_contract_knows_no_adapter(path: Path):
    names = imported(path)
    assert not {name.partition(".")[0] for name in names} & ADAPTERS
    ours = {name for name in names if name.startswith("tidegate.")}
    assert all(
        name.startswith("tidegate.contract") or name in ("tidegate.errors", "tidegate.folder") for name in ours
    ), ours


def test_only_capture_starts_a_jvm():
    users = {
        path.relative_to(APP).parts[0]
        for path in APP.rglob("*.py")
        if {n.partition(".")[0] for n in imported(path)} & {"jpype", "pydbzengine"}
    }
    assert users <= {"capture", "bench"}


def test_nothing_imports_the_command_line():
    for path in APP.rglob("*.py"):
        if path.relative_to(APP).parts[0] != "cli":
            assert not any(name.startswith("tidegate.cli") for name in imported(path)), path


@pytest.mark.parametrize(
    ("statement", "kept_out"),
    [
        ("import tidegate", HEAVY),
        ("import tidegate.cli", HEAVY),
        # What nearly every command needs: whether the control schema is current.
        ("import tidegate.connectors, tidegate.query.client", ("alembic", "sqlalchemy", "onnxruntime", "litellm")),
    ],
)
def test_an_import_brings_nothing_heavy(statement: str, kept_out: tuple[str, ...]):
    code = f"{statement}; import sys; print(' '.join(name for name in {kept_out!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []

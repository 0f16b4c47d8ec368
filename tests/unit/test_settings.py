"""Where a setting comes from: flag before environment before `.env` before default."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from tidegate.cli import options
from tidegate.errors import UsageError
from tidegate.settings import Settings


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("TIDEGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def dotenv(text: str) -> None:
    Path(".env").write_text(text, encoding="utf-8")


def test_defaults_need_nothing():
    assert Settings().dsn is None
    assert Settings().log_level == "INFO"


def test_precedence(monkeypatch: pytest.MonkeyPatch):
    dotenv(
        "TIDEGATE_SLOT=from_file\nTIDEGATE_DSN='host=x password=\"a b\"'\n# TIDEGATE_LLM=no\n"
        "OTHER=1\nTIDEGATE_UNKNOWN=1\n"
    )
    assert Settings().slot == "from_file"
    assert Settings().dsn == 'host=x password="a b"'
    assert Settings().llm is None
    monkeypatch.setenv("TIDEGATE_SLOT", "from_environment")
    assert Settings().slot == "from_environment"
    assert options.load_settings(slot=None).slot == "from_environment"
    assert options.load_settings(slot="from_flag").slot == "from_flag"


def test_a_wrong_value_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TIDEGATE_EMBEDDING_BATCH", "0")
    with pytest.raises(ValidationError):
        Settings()
    with pytest.raises(UsageError, match=r"TIDEGATE_EMBEDDING_BATCH: .*greater than or equal to 1"):
        options.load_settings()


def test_log_levels(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TIDEGATE_LOG_LEVEL", "debug")
    assert Settings().log_level == "DEBUG"
    with pytest.raises(UsageError, match=r"TIDEGATE_LOG_LEVEL: .*'DEBUG', 'INFO', 'WARNING' or 'ERROR'"):
        options.load_settings(log_level="loud")


def test_without_a_dsn_the_message_says_where_one_comes_from():
    with pytest.raises(UsageError, match=r"pass --dsn, or set TIDEGATE_DSN.*tidegate local start"):
        options.given_dsn(None)
    assert options.given_dsn("dbname=x") == "dbname=x"

"""Another embedding model from the command line, while `tidegate run` is at work, killed in the middle, and goes on."""

import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.conftest import Command, start_run
from tests.acceptance.test_remote_model import DIMENSION, Provider, needs_litellm, provider  # noqa: F401
from tests.conftest import SIMPLE_CONTRACT, wait_until
from tests.loopback import Asked, Reply

from tidegate.database import Connection

LOCAL, REMOTE = "local/all-minilm-l6-v2", "openai/test-embedding"
SECOND = SIMPLE_CONTRACT.replace(LOCAL, REMOTE).replace("version: 1.0.0", "version: 2.0.0")
ROWS = 300


def status(command: Command) -> tuple[dict[str, Any], dict[str, Any] | None]:
    (one,) = json.loads(command.ok("model", "status", "team.note", "--json").out)
    return one["searched"], one["second"]


@needs_litellm
def test_a_model_is_changed_while_it_runs(
    tmp_path: Path,
    bare: str,
    bare_admin: Connection,
    provider: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = Command(tmp_path, bare, {"TIDEGATE_API_BASE": provider, "OPENAI_API_KEY": "sk-for-tests-only"})
    file = tmp_path / "note.odcs.yaml"
    file.write_text(SIMPLE_CONTRACT)
    command.ok("init")
    bare_admin.execute(
        "INSERT INTO team.note (id, title) SELECT n, 'refund ' || n FROM generate_series(1, %s) n", [ROWS]
    )
    command.ok("apply", "note.odcs.yaml")
    running = start_run(command)
    live = "SELECT coalesce(bool_and(state = 'live'), false) FROM tidegate.product"
    wait_until(lambda: bare_admin.execute(live).fetchone() == (True,), 90, "the first index is built")
    missing = command("model", "switch", "team.note")
    assert missing.code == 1
    assert "team.note has one index" in missing.err

    file.write_text(SECOND)
    answer = Provider.answer
    first, opened = threading.Semaphore(5), threading.Event()

    def held(asked: Asked) -> Reply:
        """Answers a few calls, and then none until told to."""
        if not first.acquire(blocking=False):
            opened.wait(60)
        return answer(asked)

    monkeypatch.setattr(Provider, "answer", held)
    planned = command("plan", "note.odcs.yaml")
    assert planned.code == 2
    assert "builds a second index beside the first, with openai/test-embedding" in planned.out
    assert "BREAKING" in planned.out
    command.ok("apply", "note.odcs.yaml")  # nothing widens, nothing is dropped: nobody is asked
    begun = "SELECT count(*) FROM beside_team.note"
    wait_until(lambda: bare_admin.execute(begun).fetchone() > (0,), 60, "the second index is being built")
    early = command("model", "switch", "team.note")
    assert early.code == 1
    assert "searches stay with local/all-minilm-l6-v2" in early.err
    running.end(signal.SIGKILL)
    assert bare_admin.execute(begun).fetchone() < (ROWS,)
    bare_admin.execute("DELETE FROM team.note WHERE id = 1; UPDATE team.note SET title = 'changed' WHERE id = 2")
    opened.set()

    running = start_run(command)
    done = command.ok("model", "switch", "team.note", "--wait", "--timeout", "120", timeout=150)
    assert done.out.strip() == f"team.note: searched with {REMOTE} now, was {LOCAL}"
    searched, second = status(command)
    assert (searched["model"], searched["dimension"], searched["wanted"]) == (REMOTE, DIMENSION, True)
    assert second is not None
    assert (second["model"], second["wanted"], second["state"]) == (LOCAL, False, "live")
    assert searched["rows"] == second["rows"] == ROWS - 1
    same = (
        "SELECT count(*), count(*) FILTER (WHERE a.content = b.content AND s.title = a.content) "
        "FROM rag_team.note a FULL JOIN beside_team.note b USING (id) FULL JOIN team.note s USING (id)"
    )
    assert bare_admin.execute(same).fetchone() == (ROWS - 1, ROWS - 1)
    assert "searched until" in command.ok("model", "status").out

    assert json.loads(command.ok("model", "rollback", "team.note", "--json").out)["model"] == LOCAL
    again = command("model", "rollback", "team.note")
    assert again.code == 0  # and forth: the one before this is the other
    refused = command("model", "drop", "team.note")
    assert refused.code == 2
    assert "pass --yes" in refused.err
    command.ok("model", "drop", "team.note", "--yes")
    assert status(command)[1] is None
    assert [event["kind"] for event in json.loads(command.ok("audit", "--kind", "model", "--json").out)] == [
        "model drop", "model rollback", "model rollback", "model switch",
    ]  # fmt: skip
    assert running.end(signal.SIGTERM) == 0

"""A tidegate of its own process, which a test pauses, ends and kills."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

_ROOT = Path(__file__).parents[2]


class Program:
    """A running `tidegate COMMAND`."""

    def __init__(self, dsn: str, environment: Mapping[str, str], log: Path, *command: str):
        self._log = log
        self._begin = log.stat().st_size if log.exists() else 0
        given = {**os.environ, "TIDEGATE_DSN": dsn, "TIDEGATE_HEARTBEAT_MS": "200", **environment}
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=_ROOT, env=given, stdout=out, stderr=out
            )

    def log(self) -> str:
        """What it and its predecessors said last."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-6000:]

    def begun(self) -> bool:
        """It has found its database, and says that it runs; or it has ended."""
        with self._log.open("rb") as said:
            said.seek(self._begin)
            return self.process.poll() is not None or b"tidegate runs" in said.read()

    def require(self) -> None:
        """It has not ended by itself."""
        assert self.process.poll() is None, self.log()

    def kill(self) -> None:
        """As kill -9 does."""
        self.process.kill()
        self.process.wait(120)

    def end(self, timeout: float) -> None:
        """As SIGTERM does: in order, unless it has hardly begun."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout) in (0, -signal.SIGTERM), self.log()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Everything in it stands still."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


class Faults:
    """What the model of launch.py does at the moment."""

    def __init__(self, file: Path):
        self.file = file
        self.tell()

    def tell(self, *, away: bool = False, delay_s: float = 0.0) -> None:
        for file in self.file.parent.glob(f"{self.file.name}.asked-*"):
            file.unlink()
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"away": away, "delay_s": delay_s}))
        new.replace(self.file)

    def asked(self, program: Program) -> bool:
        """Whether the process's model was asked for anything since it was told what to do."""
        return asked(self.file, program.process.pid).exists()


def asked(file: Path, pid: int) -> Path:
    """The file that is there when the model of this process was asked."""
    return file.with_suffix(f".asked-{pid}")

"""Kafka's, Connect's and Debezium's jars from Maven Central, so that no Docker engine is needed."""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
_CACHE = Path(__file__).parents[2] / ".kafka"


def jars() -> Path:
    """The folder with `jars/` and `plugins/` as pom.xml names them; resolved once a pom."""
    folder = _CACHE / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    if folder.is_dir():
        return folder
    _CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        made = Path(scratch) / "made"
        command = ["mvn", "-q", "-B", "-f", str(POM), "package", f"-Dfolder={made}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        made.replace(folder)
    return folder


def lack() -> str | None:
    """What this machine lacks to run Kafka from its jars; None: nothing."""
    missing = [name for name in ("java", "mvn") if shutil.which(name) is None]
    return f"no {' and no '.join(missing)}" if missing else None

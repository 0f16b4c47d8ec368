"""Kafka's, Connect's, Debezium's and a schema registry's jars from Maven Central, so that no Docker engine is needed."""

import hashlib
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
REGISTRY_POM = Path(__file__).with_name("registry.pom.xml")
_CONVERTER = "io.apicurio.registry.utils.converter.AvroConverter"
_CACHE = Path(__file__).parents[2] / ".kafka"


def jars() -> Path:
    """The folder with `jars/` and `plugins/` as pom.xml names them; resolved once a pom."""
    return _resolved(POM)


def registry_jars() -> Path:
    """The folder with `registry/`, to be run, as registry.pom.xml names it."""
    return _resolved(REGISTRY_POM, "-Pregistry")


def converter_jars() -> Path:
    """The folder with `plugins/`, the registry's converters for Connect, as registry.pom.xml names them."""
    folder = _resolved(REGISTRY_POM)
    # They have no manifest of their services yet, and without one Connect would look through all classes for plugins.
    manifest = folder / "plugins" / "apicurio" / "manifest.jar"
    if not manifest.exists():
        with zipfile.ZipFile(manifest, "w") as made:
            made.writestr("META-INF/services/org.apache.kafka.connect.storage.Converter", _CONVERTER)
    return folder


def _resolved(pom: Path, *options: str) -> Path:
    folder = _CACHE / "".join([hashlib.sha256(pom.read_bytes()).hexdigest()[:12], *options])
    if folder.is_dir():
        return folder
    _CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        made = Path(scratch) / "made"
        command = ["mvn", "-q", "-B", "-f", str(pom), "package", f"-Dfolder={made}", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        made.replace(folder)
    return folder


def lack() -> str | None:
    """What this machine lacks to run Kafka from its jars; None: nothing."""
    missing = [name for name in ("java", "mvn") if shutil.which(name) is None]
    return f"no {' and no '.join(missing)}" if missing else None

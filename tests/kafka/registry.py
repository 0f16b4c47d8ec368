"""A schema registry (Apicurio, in memory) on loopback, run like the cluster's programs."""

import contextlib
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kafka import containers, jars
from tests.kafka.cluster import Jvm, Program, free_port

_START_S = 120.0


@dataclass
class Registry:
    """Where to reach it, and how to stop and start it. It forgets all schemas when it stops; Connect registers them
    again when it is started again itself.

    `url`: its own interface, as TIDEGATE_REGISTRY__URL takes it.
    """

    url: str
    program: Program

    @property
    def reading(self) -> str:
        """Its Confluent-compatible interface."""
        return self.url.replace("/apis/registry/v2", "/apis/ccompat/v7").replace(
            "/apis/registry/v3", "/apis/ccompat/v7"
        )

    def wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            self.program.require()
            try:
                with urllib.request.urlopen(f"{self.reading}/subjects", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline, self.program.tail()
                time.sleep(0.2)


@contextlib.contextmanager
def registry() -> Iterator[Registry]:
    """A registry; it ends with the context."""
    with tempfile.TemporaryDirectory(prefix="tidegate-registry-") as scratch:
        port = free_port()
        version, program = (
            _in_container(Path(scratch), port) if containers.engine() else _from_jars(Path(scratch), port)
        )
        held = Registry(f"http://127.0.0.1:{port}/apis/registry/{version}", program)
        try:
            program.start()
            held.wait()
            yield held
        finally:
            program.stop()
            program.remove()


def _from_jars(scratch: Path, port: int) -> tuple[str, Program]:
    runner = next((jars.registry_jars() / "registry").glob("*-runner.jar"))
    return "v2", Jvm(
        "registry",
        [
            "java", "-Xmx300m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
            f"-Dquarkus.http.port={port}", "-Dquarkus.http.host=127.0.0.1", "-Dquarkus.log.level=WARN", "-jar", str(runner),
        ],
        scratch / "registry.log",
    )  # fmt: skip


def _in_container(scratch: Path, port: int) -> tuple[str, Program]:
    run, settings = "exec /opt/jboss/container/java/run/run-java.sh", {"QUARKUS_HTTP_PORT": str(port)}
    return "v3", containers.Container("registry", containers.image("registry"), run, scratch, settings)

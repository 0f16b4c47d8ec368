"""Kafka and Kafka Connect in containers, where a Docker engine runs: the images of docker/compose.yaml.

They share the host's network and the folder with the configuration, so that both read the files that the jars do, under
the user who runs the tests.
"""

import functools
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMPOSE = Path(__file__).parents[2] / "docker" / "compose.yaml"
CONNECT_PLUGINS = "/kafka/connect,/kafka/external_libs"
"""Where Debezium's image has its connectors, and Apicurio's converters."""


@functools.cache
def engine() -> bool:
    """Whether a Docker engine answers. Asked in a process of its own: where none does, the client leaks its socket."""
    ask = [sys.executable, "-c", "import docker; docker.from_env(timeout=5).ping()"]
    return subprocess.run(ask, capture_output=True, timeout=60, check=False).returncode == 0


def image(service: str) -> str:
    """The image that the compose file names for a service."""
    found = re.search(rf"^  {service}:\n    image: (\S+)$", COMPOSE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"{COMPOSE} has no image for {service}"
    return found[1]


@dataclass
class Container:
    """One program in a container, which can be killed and started again (cluster.py, Program)."""

    name: str
    image: str
    command: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    _container: Any = None

    def start(self) -> None:
        if self._container is not None:
            self._container.get_wrapped_container().start()
            return
        from testcontainers.core.container import DockerContainer

        made = DockerContainer(self.image).with_command(["bash", "-c", self.command])
        made = made.with_volume_mapping(str(self.folder), str(self.folder), "rw")
        for name, value in {"LOG_DIR": f"{self.folder}/logs", **self.environment}.items():
            made = made.with_env(name, value)
        user = f"{os.getuid()}:{os.getgid()}"
        self._container = made.with_kwargs(network_mode="host", entrypoint=[], user=user).start()

    def stop(self, number: int = 15) -> None:
        if self._container is not None and self._container.get_wrapped_container().status != "exited":
            self._container.get_wrapped_container().kill(number)
            self._container.get_wrapped_container().wait(timeout=30)

    def remove(self) -> None:
        if self._container is not None:
            self._container.stop()
            self._container = None

    def require(self) -> None:
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        assert wrapped.status == "running", f"{self.name} ended:\n{self.tail()}"

    def tail(self) -> str:
        out, err = self._container.get_logs()
        return "\n".join((out + err).decode(errors="replace").splitlines()[-40:])

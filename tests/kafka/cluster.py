"""A Kafka broker (KRaft) and a Kafka Connect worker with Debezium, on loopback.

In containers where a Docker engine runs; else from Maven Central's jars, on the machine's Java.
`python -m tests.kafka.cluster` runs one until it is interrupted, and prints the two settings to use it with.
"""

import base64
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.kafka import containers, jars
from tests.kafka.certificate import certificate

_START_S = 240.0
_PORTS = range(20_000, 32_768)
_given: set[int] = set()
_USER = "tide"
_LOG4J = """
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss,SSS} %p %c{1}: %m %ex%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""
_BROKER = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={folder}/broker.pem
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
"""
_CONNECT = """
bootstrap.servers=127.0.0.1:{broker}
listeners=http://127.0.0.1:{port}
rest.advertised.host.name=127.0.0.1
group.id=connect-{port}
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
offset.storage.topic=connect-offsets
offset.storage.replication.factor=1
offset.storage.partitions=1
config.storage.topic=connect-configs
config.storage.replication.factor=1
status.storage.topic=connect-status
status.storage.replication.factor=1
status.storage.partitions=1
offset.flush.interval.ms=1000
plugin.path={plugins}
plugin.discovery=service_load
"""


def free_port() -> int:
    """A port of loopback that is free now, and was not given before.

    Not one of those that Linux takes for connections: else one of somebody's could have it while its program is down,
    and who tries to reach it then may even reach himself.
    """
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            if port not in _given:
                probe.bind(("127.0.0.1", port))
                _given.add(port)
                return port


@dataclass
class Jvm:
    """One Java program, which can be killed and started again."""

    name: str
    command: Sequence[str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(60)
        self.process = None

    def remove(self) -> None:
        self.stop(signal.SIGKILL)

    def require(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.name} ended:\n{self.tail()}"

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])


class Program(Protocol):
    """A program of the cluster, in whatever it runs."""

    def start(self) -> None: ...

    def stop(self, number: int = signal.SIGTERM) -> None: ...

    def remove(self) -> None: ...

    def require(self) -> None: ...

    def tail(self) -> str: ...


@dataclass
class Cluster:
    """Where to reach the two, and how to restart them.

    `secure`: what kafka-python needs for the same broker by SASL (SCRAM) and TLS, with a certificate of its own making.
    """

    bootstrap_servers: str
    connect_url: str
    secure: dict[str, str]
    broker: Program
    connect: Program
    env: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.env = {
            "TIDEGATE_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "TIDEGATE_CONNECT__URL": self.connect_url,
        }

    def restart_broker(self, number: int = signal.SIGTERM) -> None:
        self.broker.stop(number)
        self.broker.start()
        self.await_broker()

    def restart_connect(self, number: int = signal.SIGTERM) -> None:
        self.connect.stop(number)
        self.connect.start()
        self.await_connect()

    def await_broker(self) -> None:
        host, _, port = self.bootstrap_servers.partition(":")
        deadline = time.monotonic() + _START_S
        while True:
            self.broker.require()
            try:
                socket.create_connection((host, int(port)), 1).close()
            except OSError:
                assert time.monotonic() < deadline, self.broker.tail()
                time.sleep(0.05)
            else:
                return

    def await_connect(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            self.connect.require()
            try:
                with urllib.request.urlopen(f"{self.connect_url}/connectors", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline, self.connect.tail()
                time.sleep(0.1)


@contextlib.contextmanager
def cluster(*, quick: bool = False) -> Iterator[Cluster]:
    """A broker and a Connect worker; both end with the context.

    Args:
        quick: their JVMs compile no more than they must: half the CPU time until they run. Not to be measured.
    """
    with tempfile.TemporaryDirectory(prefix="tidegate-kafka-") as scratch:
        held = _prepare(Path(scratch), quick)
        try:
            held.broker.start()
            held.await_broker()
            held.connect.start()
            held.await_connect()
            yield held
        finally:
            held.connect.stop()
            held.connect.remove()
            held.broker.remove()


def lack() -> str | None:
    """What this machine lacks to run a cluster; None: nothing."""
    return None if containers.engine() else jars.lack()


def _prepare(scratch: Path, quick: bool) -> Cluster:
    port, controller, connect, secure = free_port(), free_port(), free_port(), free_port()
    password = secrets.token_hex(12)
    (scratch / "broker.properties").write_text(
        _BROKER.format(port=port, controller=controller, secure=secure, folder=scratch)
    )
    programs = _in_containers if containers.engine() else _from_jars
    broker, worker, plugins = programs(scratch, f"SCRAM-SHA-512=[name={_USER},password={password}]", quick)
    (scratch / "connect.properties").write_text(_CONNECT.format(broker=port, port=connect, plugins=plugins))
    return Cluster(
        f"127.0.0.1:{port}",
        f"http://127.0.0.1:{connect}",
        {
            "bootstrap_servers": f"127.0.0.1:{secure}",
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": _USER,
            "sasl_plain_password": password,
            "ssl_cafile": str(certificate(scratch)),
        },
        broker,
        worker,
    )


def _from_jars(scratch: Path, user: str, quick: bool) -> tuple[Program, Program, str]:
    """Broker, Connect, and where its plugins are."""
    folder = jars.jars()
    (scratch / "log4j2.properties").write_text(_LOG4J)
    java = [
        "java", "-XX:+UseSerialGC", f"-XX:TieredStopAtLevel={1 if quick else 4}", "-Xshare:auto",
        f"-Dlog4j2.configurationFile={scratch}/log4j2.properties", "-cp", f"{folder}/jars/*",
    ]  # fmt: skip
    properties = str(scratch / "broker.properties")
    # As StorageTool's random-uuid makes it, which is a JVM more; a first byte below 128 keeps it from beginning with "-".
    uuid = base64.urlsafe_b64encode(bytes([secrets.randbelow(128)]) + secrets.token_bytes(15)).decode().rstrip("=")
    command = [*java, "kafka.tools.StorageTool", "format", "-t", uuid, "-c", properties, "--add-scram", user]
    subprocess.run(command, capture_output=True, timeout=240, check=True)
    connect = "org.apache.kafka.connect.cli.ConnectDistributed"
    return (
        Jvm("broker", [*java[:1], "-Xmx400m", *java[1:], "kafka.Kafka", properties], scratch / "broker.log"),
        Jvm(
            "connect",
            [*java[:1], "-Xmx512m", *java[1:], connect, str(scratch / "connect.properties")],
            scratch / "connect.log",
        ),
        f"{folder / 'plugins'},{jars.converter_jars() / 'plugins'}",
    )


def _in_containers(scratch: Path, user: str, quick: bool) -> tuple[Program, Program, str]:
    """The same, with the images of the compose file."""
    properties, kafka = scratch / "broker.properties", "/opt/kafka/bin"
    # Formatted at the first start; at later ones it goes on with what it has.
    broker = (
        f"test -e {scratch}/data/meta.properties || {kafka}/kafka-storage.sh format "
        f"-t $({kafka}/kafka-storage.sh random-uuid) -c {properties} --add-scram '{user}'; "
        f"exec {kafka}/kafka-server-start.sh {properties}"
    )
    options = {"KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"} if quick else {}
    connect = f"exec /kafka/bin/connect-distributed.sh {scratch}/connect.properties"
    return (
        containers.Container(
            "broker", containers.image("kafka"), broker, scratch, options | {"KAFKA_HEAP_OPTS": "-Xmx400m"}
        ),
        containers.Container(
            "connect", containers.image("connect"), connect, scratch, options | {"KAFKA_HEAP_OPTS": "-Xmx512m"}
        ),
        containers.CONNECT_PLUGINS,
    )


def main() -> None:
    """Runs a cluster until SIGINT or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with cluster() as held, contextlib.suppress(KeyboardInterrupt):
        for name, value in held.env.items():
            print(f"export {name}={value}", flush=True)
        while True:
            held.broker.require()
            held.connect.require()
            time.sleep(1)


if __name__ == "__main__":
    os.umask(0o077)
    main()

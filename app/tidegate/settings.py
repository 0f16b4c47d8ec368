"""Settings: from flags, the environment (`TIDEGATE_*`) and `.env`, in this order."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class KafkaSettings(BaseModel):
    """`TIDEGATE_KAFKA__<FIELD>`. What is no field here goes to kafka-python's consumer under its own name."""

    model_config = ConfigDict(extra="allow")

    bootstrap_servers: str | None = Field(None, description="Kafka's host:port, several with commas.")
    prefix: str | None = Field(None, description="Of topics, connectors and the group; default: the slot's name.")
    group: str | None = Field(None, description="Consumer group of the workers; default: the prefix.")
    partitions: int = Field(6, ge=1, le=1000, description="Partitions of a topic that is made.")
    replication_factor: int = Field(-1, description="Of a topic that is made; -1: the broker's default.")
    retention_hours: int = Field(168, ge=1, description="How long a topic that is made keeps changes.")
    value_format: Literal["json", "avro"] = Field(
        "json", description="What the connector writes values in; all but json needs a schema registry."
    )
    max_message_bytes: int = Field(16 * 2**20, ge=2**20, description="The largest row change, bytes.")

    def client_options(self) -> dict[str, Any]:
        """What is kafka-python's business: security_protocol, sasl_…, ssl_…, whatever else was set."""
        return dict(self.model_extra or {})


class RegistrySettings(BaseModel):
    """`TIDEGATE_REGISTRY__<FIELD>`: the schema registry, for values that are not JSON."""

    model_config = ConfigDict(extra="forbid")

    url: str | None = Field(
        None, description="Apicurio: http://registry:8080/apis/registry/v2 (or v3); Confluent: http://registry:8081."
    )
    user: str | None = Field(None, description="User, for HTTP Basic.")
    password: SecretStr | None = Field(None, description="Password of that user.")
    token: SecretStr | None = Field(None, description="Bearer token instead of user and password.")
    cafile: str | None = Field(
        None, description="PEM file with the authority that the workers trust; default: the system's."
    )

    lag_s: float = Field(
        30.0, ge=0, description="How long after a change its schema may be unknown to a registry that lags behind, s."
    )

    @field_validator("url", "user", "cafile", mode="before")
    @classmethod
    def _blank_is_none(cls, value: object) -> object:
        return value or None

    @property
    def secret(self) -> str:
        """The password as it is sent."""
        return "" if self.password is None else self.password.get_secret_value()


class ConnectSettings(BaseModel):
    """`TIDEGATE_CONNECT__<FIELD>`."""

    model_config = ConfigDict(extra="forbid")

    url: str | None = Field(None, description="Kafka Connect's REST interface, e.g. http://connect:8083.")
    properties: dict[str, str] = Field(
        default_factory=dict, description="JSON: connector properties that replace or join tidegate's own."
    )
    sources: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="JSON: the same for the connectors of other sources, by the source's name."
    )


class Settings(BaseSettings):
    """Everything that can be set without a contract. Each field is the environment variable `TIDEGATE_<FIELD>`."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEGATE_", env_nested_delimiter="__", env_file=".env", extra="ignore"
    )

    dsn: str | None = Field(None, description="Postgres connection string (URI or key=value).")
    slot: str | None = Field(None, description="Replication slot; default tidegate_<database>.")
    llm: str | None = Field(None, description="litellm model that answers `ask`, e.g. openai/gpt-4o-mini.")
    api_base: str | None = Field(None, description="Base URL of an OpenAI-compatible server, for embeddings and ask.")
    llm_api_base: str | None = Field(None, description="Base URL of the language model's server; default api_base.")
    llm_timeout_s: float = Field(60.0, gt=0, description="Longest wait for the language model (for its next words), s.")
    llm_temperature: float = Field(0.0, ge=0, le=2, description="Temperature of the language model.")
    llm_context_tokens: int = Field(6_000, ge=200, description="Tokens of a prompt: rules, sources and question.")
    llm_reply_tokens: int = Field(800, ge=16, description="Tokens of a reply.")
    embedding_timeout_s: float = Field(30.0, gt=0, description="One embedding call to a remote model, seconds.")
    embedding_batch: int = Field(64, ge=1, le=2048, description="Texts in one embedding call to a remote model.")
    embedding_attempts: int = Field(6, ge=1, description="Attempts at an embedding before its row is parked.")
    max_document_chars: int = Field(
        1_000_000, ge=1_000, description="A longer document is parked instead of indexed, characters."
    )
    embedding_cache_mb: int = Field(
        256, ge=0, description="Size of the cache of vectors, MB; 0: every new text is sent to its model."
    )
    embedding_cache_days: int = Field(30, ge=1, description="After so many days an unused vector leaves the cache.")
    poll_interval_ms: int = Field(5, ge=1, description="Debezium's poll.interval.ms.")
    heartbeat_ms: int = Field(1000, ge=100, description="Debezium's heartbeat.interval.ms; bounds as_of when idle.")
    jvm_heap_mb: int = Field(320, ge=128, description="Heap of the embedded engine's JVM, MB.")
    hnsw_from_chunks: int = Field(
        20_000,
        ge=0,
        description="Chunks from which a product gets an HNSW index; below, exact search is as quick.",
    )
    token_key: SecretStr | None = Field(None, description="Secret of the key that signs exchanged tokens.")
    token_kid: str | None = Field(None, description="The kid of that key.")
    token_issuer: str | None = Field(None, description="Issuer of exchanged tokens, as the database knows it.")
    token_audience: str | None = Field(None, description="Audience of exchanged tokens.")
    token_lifetime_s: int = Field(300, ge=1, le=3600, description="How long an exchanged token counts, seconds.")
    jwks: str | None = Field(None, description="The identity provider's keys: https URL, or a file.")
    idp_issuer: str | None = Field(None, description="Issuer (iss) of the identity provider's tokens.")
    idp_audience: str | None = Field(None, description="Audience (aud) of the identity provider's tokens.")
    openlineage: str | None = Field(
        None, description="Where lineage is told: file:PATH or http(s)://host:port of an OpenLineage endpoint."
    )
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    connect: ConnectSettings = Field(default_factory=ConnectSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    sources: dict[str, str] = Field(
        default_factory=dict, description="DSNs of source databases other than the index's, by the contracts' server."
    )
    metrics_port: int | None = Field(None, ge=0, le=65535, description="Port of the worker's Prometheus metrics.")
    metrics_host: str = Field("127.0.0.1", description="Address that the metrics are served on.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Log level.")

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

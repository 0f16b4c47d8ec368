"""Settings: from flags, the environment (`TIDEGATE_*`) and `.env`, in this order."""

from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything that can be set without a contract. Each field is the environment variable `TIDEGATE_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="TIDEGATE_", env_file=".env", extra="ignore")

    dsn: str | None = Field(None, description="Postgres connection string (URI or key=value).")
    slot: str | None = Field(None, description="Replication slot; default tidegate_<database>.")
    llm: str | None = Field(None, description="litellm model that answers `ask`, e.g. openai/gpt-4o-mini.")
    api_base: str | None = Field(None, description="Base URL of an OpenAI-compatible server, for embeddings and ask.")
    embedding_timeout_s: float = Field(30.0, gt=0, description="One embedding call to a remote model, seconds.")
    embedding_batch: int = Field(64, ge=1, le=2048, description="Texts in one embedding call to a remote model.")
    embedding_attempts: int = Field(6, ge=1, description="Attempts at an embedding before its row is parked.")
    max_document_chars: int = Field(
        1_000_000, ge=1_000, description="A longer document is parked instead of indexed, characters."
    )
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
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Log level.")

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

"""The control schema: catalog, ledger, dead letters, attributes, watermarks, Debezium's tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "tidegate"
NOW = sa.text("clock_timestamp()")


class Position(sa.types.UserDefinedType):
    """Two pg_lsn, the last commit before the change and the change itself: ordered like the changes of a key."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "pg_lsn[]"


class Lsn(sa.types.UserDefinedType):
    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "pg_lsn"


def moment(name: str, *, nullable: bool = False) -> sa.Column:
    default = None if nullable else NOW
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


def product_reference() -> sa.Column:
    return sa.Column(
        "product_id",
        sa.Integer,
        sa.ForeignKey(f"{SCHEMA}.product.product_id", ondelete="CASCADE"),
        nullable=False,
    )


def upgrade() -> None:
    op.create_table(
        "product",
        sa.Column("product_id", sa.Integer, sa.Identity(always=True), primary_key=True),
        sa.Column("product", sa.Text, nullable=False, unique=True),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("contract_version", sa.Text, nullable=False),
        sa.Column("contract", pg.JSONB, nullable=False),
        sa.Column("contract_text", sa.Text, nullable=False),
        sa.Column("source_schema", sa.Text, nullable=False),
        sa.Column("source_table", sa.Text, nullable=False),
        sa.Column("chunk_schema", sa.Text, nullable=False),
        sa.Column("chunk_table", sa.Text, nullable=False),
        sa.Column("live_function", sa.Text, nullable=False),
        sa.Column("key_columns", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("dimension", sa.Integer, nullable=False),
        sa.Column("latency_ms", sa.Integer),
        sa.Column("latency_percentile", sa.Float),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("state_reason", sa.Text),
        sa.Column("truncated_at", Position),
        sa.Column("applied_by", sa.Text, nullable=False),
        moment("applied_at"),
        moment("backfilled_at", nullable=True),
        sa.UniqueConstraint("source_schema", "source_table"),
        sa.CheckConstraint("state in ('pending', 'backfilling', 'live', 'suspended')", name="product_state"),
        schema=SCHEMA,
        comment="The published products: one row each, under the contract version that is in force.",
    )
    op.create_table(
        "contract_version",
        sa.Column("product", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("contract_sha256", sa.Text, primary_key=True),
        sa.Column("contract", pg.JSONB, nullable=False),
        sa.Column("contract_text", sa.Text, nullable=False),
        sa.Column("statements", sa.Text, nullable=False),
        sa.Column("applied_by", sa.Text, nullable=False),
        moment("applied_at"),
        schema=SCHEMA,
        comment="Every contract that was ever applied, with its actor and the SQL that was run for it.",
    )
    op.create_table(
        "ledger",
        product_reference(),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("position", Position, nullable=False),
        sa.Column("document_hash", sa.LargeBinary),
        sa.Column("chunks", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        moment("written_at"),
        sa.PrimaryKeyConstraint("product_id", "key"),
        sa.CheckConstraint("state in ('indexed', 'deleted', 'parked')", name="ledger_state"),
        schema=SCHEMA,
        postgresql_with={"fillfactor": "80"},
        comment="Per source row: the last position applied and the hash of what was indexed. Keeps deleted keys.",
    )
    op.create_table(
        "dead_letter",
        sa.Column("dead_letter_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        product_reference(),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("position", Position),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="1"),
        moment("first_at"),
        moment("last_at"),
        moment("retry_at", nullable=True),
        sa.UniqueConstraint("product_id", "key"),
        sa.CheckConstraint("kind in ('violation', 'document', 'embedding', 'write')", name="dead_letter_kind"),
        schema=SCHEMA,
        comment="Parked rows by key, never their contents. retry_at is set where waiting may help.",
    )
    op.create_table(
        "principal_attribute",
        sa.Column("principal", sa.Text, primary_key=True),
        sa.Column("attribute", sa.Text, primary_key=True),
        sa.Column("attribute_values", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False, server_default=sa.text("session_user")),
        moment("changed_at"),
        sa.Column("role_oid", pg.OID, nullable=False),
        sa.CheckConstraint("array_position(attribute_values, NULL) IS NULL", name="attribute_values_not_null"),
        schema=SCHEMA,
        comment="What is known of each principal. Readers see their own through tidegate.whoami() only.",
    )
    op.create_table(
        "watermark",
        sa.Column("lane", sa.Text, primary_key=True),
        sa.Column("lsn", Lsn, nullable=False),
        moment("as_of"),
        moment("updated_at"),
        schema=SCHEMA,
        comment="Per embedding model: everything committed up to here is in the index.",
    )
    op.create_table(
        "freshness_bucket",
        product_reference(),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("bucket", sa.Integer, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("product_id", "minute", "bucket"),
        schema=SCHEMA,
        comment="Histogram of commit-to-searchable times: bucket b holds times up to 1.05^b ms.",
    )
    op.create_table(
        "heartbeat",
        sa.Column("heartbeat_id", sa.SmallInteger, primary_key=True),
        moment("beat_at"),
        schema=SCHEMA,
        comment="Row 1: Debezium moves the watermark of an idle database with it. Row 2: apply tells the worker.",
    )
    op.execute("INSERT INTO tidegate.heartbeat (heartbeat_id) VALUES (1), (2)")
    op.create_table(
        "signal",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("data", sa.Text),
        schema=SCHEMA,
        comment="Debezium's signal table: backfills are asked for here.",
    )
    op.create_table(
        "debezium_offset",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("offset_key", sa.Text),
        sa.Column("offset_val", sa.Text),
        sa.Column("record_insert_ts", sa.DateTime, nullable=False),
        sa.Column("record_insert_seq", sa.Integer, nullable=False),
        schema=SCHEMA,
        comment="Where the embedded engine goes on. Columns are those of Debezium's JdbcOffsetBackingStore.",
    )


def downgrade() -> None:
    for table in (
        "debezium_offset",
        "signal",
        "heartbeat",
        "freshness_bucket",
        "watermark",
        "principal_attribute",
        "dead_letter",
        "ledger",
        "contract_version",
        "product",
    ):
        op.drop_table(table, schema=SCHEMA)

"""Streams: several sources, partitions and workers; watermarks by partition."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = "tidegate"
NOW = sa.text("clock_timestamp()")


class Lsn(sa.types.UserDefinedType):
    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "pg_lsn"


def moment(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=None if nullable else NOW)


def source(**options: object) -> sa.Column:
    return sa.Column("source", sa.Text, nullable=False, server_default="", **options)


def upgrade() -> None:
    op.create_table(
        "stream",
        source(primary_key=True),
        sa.Column("transport", sa.Text, nullable=False),
        sa.Column("partitions", sa.Integer, nullable=False),
        sa.Column("prefixes", pg.ARRAY(sa.Text), nullable=False),
        moment("changed_at"),
        sa.CheckConstraint("transport in ('embedded', 'kafka')", name="stream_transport"),
        schema=SCHEMA,
        comment="How the changes of a source database come: in how many partitions, and with which prefixes "
        "of messages each of them is reached. The empty source is this database itself.",
    )
    op.create_table(
        "stream_partition",
        source(primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("committed_offset", sa.BigInteger),
        sa.Column("end_offset", sa.BigInteger),
        sa.Column("finished_lsn", Lsn),
        moment("updated_at"),
        schema=SCHEMA,
        comment="Each partition's last word from the worker that has it. Offsets are Kafka's; everything that was "
        "committed before finished_lsn, and every backfilled row that came before it, is in the index.",
    )
    op.create_table(
        "worker",
        sa.Column("worker", sa.Text, primary_key=True),
        sa.Column("bulk_waiting", sa.Integer, nullable=False),
        sa.Column("trouble", sa.Text),
        moment("trouble_since", nullable=True),
        moment("started_at"),
        moment("seen_at"),
        schema=SCHEMA,
        comment="The workers of the consumer group, as they say of themselves once a second.",
    )
    op.create_table(
        "scan",
        sa.Column(
            "product_id",
            sa.Integer,
            sa.ForeignKey(f"{SCHEMA}.product.product_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("lsn", Lsn, nullable=False),
        moment("scanned_at"),
        schema=SCHEMA,
        comment="Backfills that Debezium has read to the end. Done when every partition is finished up to lsn.",
    )
    op.add_column("watermark", source(), schema=SCHEMA)
    op.add_column("watermark", sa.Column("partition", sa.Integer, nullable=False, server_default="0"), schema=SCHEMA)
    op.drop_constraint("watermark_pkey", "watermark", schema=SCHEMA)
    op.create_primary_key("watermark_pkey", "watermark", ["lane", "source", "partition"], schema=SCHEMA)
    op.execute(
        "COMMENT ON TABLE tidegate.watermark IS 'Per embedding model and partition of a source: everything of that "
        "partition that was committed up to here is in the index. tidegate.lane_watermark has the oldest of each.'"
    )
    op.add_column("product", sa.Column("source_server", sa.Text, nullable=False, server_default=""), schema=SCHEMA)
    op.drop_constraint("product_source_schema_source_table_key", "product", schema=SCHEMA)
    op.create_unique_constraint(
        "product_source_key", "product", ["source_server", "source_schema", "source_table"], schema=SCHEMA
    )
    op.alter_column("dead_letter", "product_id", nullable=True, schema=SCHEMA)
    op.drop_constraint("dead_letter_kind", "dead_letter", schema=SCHEMA)
    op.create_check_constraint(
        "dead_letter_kind",
        "dead_letter",
        "kind in ('violation', 'document', 'embedding', 'write') OR (kind = 'undecodable' AND product_id IS NULL)",
        schema=SCHEMA,
    )
    op.create_index(
        "dead_letter_record", "dead_letter", ["key"], unique=True, schema=SCHEMA,
        postgresql_where=sa.text("product_id IS NULL"),
    )  # fmt: skip


def downgrade() -> None:
    op.execute("DELETE FROM tidegate.dead_letter WHERE product_id IS NULL")
    op.drop_index("dead_letter_record", "dead_letter", schema=SCHEMA)
    op.drop_constraint("dead_letter_kind", "dead_letter", schema=SCHEMA)
    op.create_check_constraint(
        "dead_letter_kind", "dead_letter", "kind in ('violation', 'document', 'embedding', 'write')", schema=SCHEMA
    )
    op.alter_column("dead_letter", "product_id", nullable=False, schema=SCHEMA)
    op.drop_constraint("product_source_key", "product", schema=SCHEMA)
    op.create_unique_constraint(
        "product_source_schema_source_table_key", "product", ["source_schema", "source_table"], schema=SCHEMA
    )
    op.drop_column("product", "source_server", schema=SCHEMA)
    op.execute("DELETE FROM tidegate.watermark WHERE (source, partition) <> ('', 0)")
    op.drop_constraint("watermark_pkey", "watermark", schema=SCHEMA)
    op.create_primary_key("watermark_pkey", "watermark", ["lane"], schema=SCHEMA)
    op.drop_column("watermark", "partition", schema=SCHEMA)
    op.drop_column("watermark", "source", schema=SCHEMA)
    for table in ("scan", "worker", "stream_partition", "stream"):
        op.drop_table(table, schema=SCHEMA)

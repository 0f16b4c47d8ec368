"""Which backfill a product waits for, so that the end of an earlier one, told again, does not count."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SCHEMA = "tidegate"


def upgrade() -> None:
    op.execute("CREATE SEQUENCE tidegate.backfill_number")
    op.execute(
        "COMMENT ON SEQUENCE tidegate.backfill_number IS 'Of backfills, as they are asked for: part of the id of the "
        "signal, and so of Debezium''s notifications.'"
    )
    # Not from 1: in a database that is made anew, numbers of before may still be on their way through Kafka.
    op.execute("SELECT setval('tidegate.backfill_number', (extract(epoch FROM clock_timestamp()) * 1000)::bigint)")
    for table, comment in (
        ("product", "The backfill that was asked for last. 0: none was, or by an earlier release."),
        ("scan", "The backfill whose end this is."),
    ):
        op.add_column(
            table,
            sa.Column("backfill", sa.BigInteger, nullable=False, server_default="0", comment=comment),
            schema=SCHEMA,
        )


def downgrade() -> None:
    op.drop_column("scan", "backfill", schema=SCHEMA)
    op.drop_column("product", "backfill", schema=SCHEMA)
    op.execute("DROP SEQUENCE tidegate.backfill_number")

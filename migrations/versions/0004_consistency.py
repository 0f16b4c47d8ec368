"""Verification: how far a comparison of source and index is, and what it found; repairs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = "tidegate"
NOW = sa.text("clock_timestamp()")
KINDS = "kind in ('violation', 'document', 'embedding', 'write'{more}) OR (kind = 'undecodable' AND product_id IS NULL)"


def moment(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=None if nullable else NOW)


def product_reference(**options: object) -> sa.Column:
    reference = sa.ForeignKey(f"{SCHEMA}.product.product_id", ondelete="CASCADE")
    return sa.Column("product_id", sa.Integer, reference, **options)


def upgrade() -> None:
    op.create_table(
        "verification",
        product_reference(primary_key=True),
        sa.Column("contract_version", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("after", pg.ARRAY(sa.Text)),
        sa.Column("compared", sa.BigInteger, nullable=False, server_default="0"),
        moment("started_at"),
        moment("updated_at"),
        moment("finished_at", nullable=True),
        sa.CheckConstraint("stage in ('source', 'index')", name="verification_stage"),
        schema=SCHEMA,
        comment="The last comparison of each product's source and index: where it goes on when it was broken off.",
    )
    op.create_table(
        "verification_finding",
        product_reference(nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
        sa.Column("columns", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("repaired", sa.Boolean, nullable=False),
        sa.Column("finding_id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.PrimaryKeyConstraint("product_id", "key"),
        sa.CheckConstraint("problem in ('missing', 'stale', 'ghost', 'carried')", name="verification_problem"),
        schema=SCHEMA,
        comment="The rows that the last comparison found wrong, by key, never their contents.",
    )
    op.drop_constraint("dead_letter_kind", "dead_letter", schema=SCHEMA)
    op.create_check_constraint("dead_letter_kind", "dead_letter", KINDS.format(more=", 'repair'"), schema=SCHEMA)


def downgrade() -> None:
    op.execute("UPDATE tidegate.dead_letter SET kind = 'write' WHERE kind = 'repair'")
    op.drop_constraint("dead_letter_kind", "dead_letter", schema=SCHEMA)
    op.create_check_constraint("dead_letter_kind", "dead_letter", KINDS.format(more=""), schema=SCHEMA)
    op.drop_table("verification_finding", schema=SCHEMA)
    op.drop_table("verification", schema=SCHEMA)

"""A second index of a product, beside the one that is searched."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "tidegate"
SOURCE = ["source_server", "source_schema", "source_table"]


def upgrade() -> None:
    reference = sa.ForeignKey(f"{SCHEMA}.product.product_id", ondelete="CASCADE", name="product_beside_fkey")
    op.add_column("product", sa.Column("beside", sa.Integer, reference), schema=SCHEMA)
    op.add_column("product", sa.Column("own_embedding", pg.JSONB), schema=SCHEMA)
    op.add_column("product", sa.Column("built_from", sa.Text, nullable=False, server_default="source"), schema=SCHEMA)
    op.add_column("product", sa.Column("served_until", sa.DateTime(timezone=True)), schema=SCHEMA)
    op.create_unique_constraint("product_beside_key", "product", ["beside"], schema=SCHEMA)
    op.create_check_constraint("product_built_from", "product", "built_from in ('source', 'chunks')", schema=SCHEMA)
    op.drop_constraint("product_source_key", "product", schema=SCHEMA)
    op.create_index(
        "product_source_key", "product", SOURCE, unique=True, schema=SCHEMA, postgresql_where=sa.text("beside IS NULL")
    )
    for column, meaning in {
        "beside": "The product whose second index this row is, kept current under a model of its own; NULL: searched.",
        "own_embedding": "What this index embeds, and how, where that is not what the contract says.",
        "built_from": "Whether its first rows come from the source (backfill), or from the chunks of the other index.",
        "served_until": "When it was last searched, if it was, and is no longer.",
    }.items():
        op.execute(f"COMMENT ON COLUMN tidegate.product.{column} IS '{meaning}'")


def downgrade() -> None:
    op.execute("DELETE FROM tidegate.product WHERE beside IS NOT NULL")
    op.drop_index("product_source_key", "product", schema=SCHEMA)
    for column in ("served_until", "built_from", "own_embedding", "beside"):
        op.drop_column("product", column, schema=SCHEMA)
    op.create_unique_constraint("product_source_key", "product", SOURCE, schema=SCHEMA)

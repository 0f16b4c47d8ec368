"""What embedding costs: vectors that are had already, and figures of what was paid and what was saved."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCHEMA = "tidegate"
NOW = sa.text("clock_timestamp()")
FIGURES = (
    "changes", "coalesced", "deletes", "backfilled", "unchanged", "indexed", "chunks_reused", "cache_hits", "texts",
    "tokens", "naive_texts", "naive_tokens",
)  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "embedding_cache",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("text_hash", sa.LargeBinary, primary_key=True),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        schema=SCHEMA,
        comment="Vectors (float32, little-endian) by model and sha256 of the text that was sent, never the text; the "
        "longest unused go first. Shared by all products, read by the worker only.",
    )
    # Room for a new used_at on the same page, without an index entry.
    op.execute("ALTER TABLE tidegate.embedding_cache SET (fillfactor = 90)")
    op.create_table(
        "cost_bucket",
        sa.Column("product", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("hour", sa.DateTime(timezone=True), primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in FIGURES),
        schema=SCHEMA,
        comment="Per product, model and hour: what changed, what was embedded for it, what was not, and what a "
        "pipeline would have embedded that embeds every change whole (naive_…). Kept for 400 days, also of dropped "
        "products.",
    )


def downgrade() -> None:
    op.drop_table("cost_bucket", schema=SCHEMA)
    op.drop_table("embedding_cache", schema=SCHEMA)

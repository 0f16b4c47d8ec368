"""Searches: what their planning goes by, and the words of chunks."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SCHEMA = "tidegate"
LIMITS = {
    "exact_rows": (2000, "Up to so many visible chunks the distance of each is computed."),
    "code_rows": (60000, "Up to so many, the nearest by their codes are re-ranked; above, the HNSW index."),
    "reranked": (800, "How many of the nearest by codes get their distance computed."),
    "ef_search": (400, "hnsw.ef_search of a search."),
}


def upgrade() -> None:
    op.create_table(
        "search_limits",
        sa.Column("search_limits_id", sa.SmallInteger, primary_key=True, server_default="1"),
        *(
            sa.Column(name, sa.Integer, nullable=False, server_default=str(value))
            for name, (value, _) in LIMITS.items()
        ),
        sa.CheckConstraint("search_limits_id = 1", name="search_limits_one"),
        sa.CheckConstraint("ef_search BETWEEN 1 AND 1000", name="search_limits_ef_search"),
        sa.CheckConstraint("least(exact_rows, code_rows, reranked) >= 0", name="search_limits_positive"),
        schema=SCHEMA,
        comment="Where searches change from one way of finding the nearest to another, see README; an "
        "administrator may set them otherwise.",
    )
    for name, (_, meaning) in LIMITS.items():
        op.execute(f"COMMENT ON COLUMN tidegate.search_limits.{name} IS '{meaning}'")
    op.execute("INSERT INTO tidegate.search_limits DEFAULT VALUES")
    op.create_table(
        "access_statistics",
        sa.Column("relation", pg.OID, primary_key=True),
        sa.Column("groups", pg.JSONB, nullable=False),
        sa.Column("sample", pg.JSONB, nullable=False),
        sa.Column("changes", sa.BigInteger, nullable=False),
        sa.Column(
            "measured_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("clock_timestamp()")
        ),
        schema=SCHEMA,
        comment="How the chunks of a table fall into groups by what its rules ask, with weights, and a sample of all "
        "that stands beside them; kept by the worker. Searches estimate from it how many chunks their caller may see.",
    )
    op.create_table(
        "chunk_words",
        sa.Column("relation", pg.OID, primary_key=True),
        sa.Column("key", pg.JSONB, primary_key=True),
        sa.Column("chunk_no", sa.Integer, primary_key=True),
        sa.Column("words", pg.TSVECTOR, nullable=False),
        schema=SCHEMA,
        comment="The words of every chunk of every table, kept by triggers. Nobody but the owner reads them: "
        "tidegate.find_words gives what its caller may see.",
    )
    op.create_index("chunk_words_words", "chunk_words", ["words"], schema=SCHEMA, postgresql_using="gin")


def downgrade() -> None:
    op.drop_table("chunk_words", schema=SCHEMA)
    op.drop_table("access_statistics", schema=SCHEMA)
    op.drop_table("search_limits", schema=SCHEMA)

"""How far apart two chunks are under a model that have nothing to do with each other."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SCHEMA = "tidegate"


def upgrade() -> None:
    op.create_table(
        "model_scale",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("distance", sa.Float(53), nullable=False),
        sa.Column("chunks", sa.Integer, nullable=False),
        sa.Column(
            "measured_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("clock_timestamp()")
        ),
        sa.CheckConstraint("distance > 0", name="model_scale_distance"),
        schema=SCHEMA,
        comment="Mean cosine distance of two chunks taken at random, by model; kept by the worker where there are "
        "several models, whose distances a search makes comparable by it.",
    )


def downgrade() -> None:
    op.drop_table("model_scale", schema=SCHEMA)

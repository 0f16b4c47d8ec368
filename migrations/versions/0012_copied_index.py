"""A second index that is filled from the chunks of the first."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SCHEMA = "tidegate"


def upgrade() -> None:
    op.add_column("product", sa.Column("hash_model", sa.Text), schema=SCHEMA)
    op.execute(
        "COMMENT ON COLUMN tidegate.product.hash_model IS 'The model in the hashes of the documents, where that is "
        "not its own: it was filled from the chunks of that model''s index, with their hashes.'"
    )


def downgrade() -> None:
    op.drop_column("product", "hash_model", schema=SCHEMA)

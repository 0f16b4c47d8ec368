"""Source databases on other servers: no live check there, their trouble, and rows that could not be read from them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "tidegate"
_KINDS = (
    "kind in ('violation', 'document', 'embedding', 'write', 'repair'{}) "
    "OR (kind = 'undecodable' AND product_id IS NULL)"
)


def _letter_kinds(more: str) -> None:
    op.drop_constraint("dead_letter_kind", "dead_letter", schema=SCHEMA)
    op.create_check_constraint("dead_letter_kind", "dead_letter", _KINDS.format(more), schema=SCHEMA)


def upgrade() -> None:
    op.alter_column("product", "live_function", nullable=True, schema=SCHEMA)
    op.alter_column("scan", "lsn", nullable=True, schema=SCHEMA)
    op.add_column("stream", sa.Column("trouble", sa.Text), schema=SCHEMA)
    op.add_column("stream", sa.Column("trouble_since", sa.DateTime(timezone=True)), schema=SCHEMA)
    _letter_kinds(", 'source'")


def downgrade() -> None:
    op.execute("DELETE FROM tidegate.dead_letter WHERE kind = 'source'")
    _letter_kinds("")
    op.drop_column("stream", "trouble_since", schema=SCHEMA)
    op.drop_column("stream", "trouble", schema=SCHEMA)
    op.execute("DELETE FROM tidegate.scan WHERE lsn IS NULL")
    op.alter_column("scan", "lsn", nullable=False, schema=SCHEMA)
    op.execute("DELETE FROM tidegate.product WHERE live_function IS NULL")
    op.alter_column("product", "live_function", nullable=False, schema=SCHEMA)

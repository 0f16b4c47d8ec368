"""Keys of deleted rows are forgotten: up to which position the ledger has."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SCHEMA = "tidegate"


class Position(sa.types.UserDefinedType):
    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "pg_lsn[]"


def upgrade() -> None:
    comment = "Keys that were deleted up to here are forgotten: an unknown key's event must be later."
    op.add_column("product", sa.Column("purged_to", Position, comment=comment), schema=SCHEMA)
    op.create_index(
        "ledger_deleted", "ledger", ["product_id", "written_at"], schema=SCHEMA,
        postgresql_where=sa.text("state = 'deleted'"),
    )  # fmt: skip


def downgrade() -> None:
    op.drop_index("ledger_deleted", "ledger", schema=SCHEMA)
    op.drop_column("product", "purged_to", schema=SCHEMA)

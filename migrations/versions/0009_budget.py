"""Rows whose new text waits for tomorrow's budget."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SCHEMA = "tidegate"
_KINDS = (
    "kind in ('violation', 'document', 'embedding', 'write', 'repair', 'source'{}) "
    "OR (kind = 'undecodable' AND product_id IS NULL)"
)


def _allow(*, waiting: bool) -> None:
    op.drop_constraint("ledger_state", "ledger", schema=SCHEMA)
    more = ", 'waiting'" if waiting else ""
    op.create_check_constraint(
        "ledger_state", "ledger", f"state in ('indexed', 'deleted', 'parked'{more})", schema=SCHEMA
    )
    op.drop_constraint("dead_letter_kind", "dead_letter", schema=SCHEMA)
    op.create_check_constraint(
        "dead_letter_kind", "dead_letter", _KINDS.format(", 'budget'" if waiting else ""), schema=SCHEMA
    )


def upgrade() -> None:
    _allow(waiting=True)


def downgrade() -> None:
    # What waits is read again at once: without a budget nothing says when.
    op.execute(
        "UPDATE tidegate.product p SET state = 'pending' "
        "WHERE EXISTS (SELECT FROM tidegate.ledger l WHERE l.product_id = p.product_id AND l.state = 'waiting')"
    )
    op.execute("UPDATE tidegate.ledger SET state = 'parked' WHERE state = 'waiting'")
    op.execute("DELETE FROM tidegate.dead_letter WHERE kind = 'budget'")
    _allow(waiting=False)

"""What simple rules test, so that a search need not plan a statement to know how much its caller may see."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SCHEMA = "tidegate"


def upgrade() -> None:
    op.add_column(
        "rule",
        sa.Column(
            "tests",
            pg.JSONB,
            comment="Where the condition is nothing but tests of texts in columns: the column of each, and the "
            "attribute or the values that it may have. NULL: it is more, or nobody looked.",
        ),
        schema=SCHEMA,
    )
    op.add_column(
        "access_statistics",
        sa.Column("shares", pg.JSONB, comment="Of the groups, by column: the share of the chunks that each text has."),
        schema=SCHEMA,
    )
    # Rules of an earlier release: those of one test of one column.
    op.execute(
        r"""
        UPDATE tidegate.rule SET tests = jsonb_build_array(jsonb_build_object(
            'column', replace(substring(condition ->> 0 FROM '^"t"\."((?:[^"]|"")+)" = ANY \(\($'), '""', '"'),
            'attribute', condition -> 1 ->> 'attribute'))
        WHERE effect <> 'deny' AND jsonb_array_length(condition) = 3
          AND condition ->> 0 ~ '^"t"\."([^"]|"")+" = ANY \(\($'
          AND condition -> 1 ->> 'function' = 'attribute_texts' AND condition ->> 2 = ')::text[])'
        """
    )


def downgrade() -> None:
    op.drop_column("access_statistics", "shares", schema=SCHEMA)
    op.drop_column("rule", "tests", schema=SCHEMA)

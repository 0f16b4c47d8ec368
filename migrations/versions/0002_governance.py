"""Governance: compiled rules, domains, submissions, standards, tokens, break-glass, audit, masks."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = "tidegate"
NOW = sa.text("clock_timestamp()")
WHO = sa.text("session_user")


def moment(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=None if nullable else NOW)


def actor(name: str) -> sa.Column:
    return sa.Column(name, sa.Text, nullable=False, server_default=WHO)


def identity(name: str) -> sa.Column:
    return sa.Column(name, sa.BigInteger, sa.Identity(always=True), primary_key=True)


def upgrade() -> None:
    op.create_table(
        "rule",
        sa.Column(
            "product_id",
            sa.Integer,
            sa.ForeignKey(f"{SCHEMA}.product.product_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("place", sa.Integer, primary_key=True),
        sa.Column("rule_id", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("effect", sa.Text, nullable=False),
        sa.Column("roles", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("when_text", sa.Text, nullable=False),
        sa.Column("condition", pg.JSONB, nullable=False),
        sa.Column("columns", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.CheckConstraint("origin in ('contract', 'standards')", name="rule_origin"),
        sa.CheckConstraint("effect in ('allow', 'require', 'deny')", name="rule_effect"),
        schema=SCHEMA,
        comment="The rules in force, compiled: condition is SQL over a row called t, in pieces (text, or an object "
        "that stands for what is known of the caller); policy is the one that enforces it.",
    )
    op.create_table(
        "standards",
        identity("standards_id"),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("spec", pg.JSONB, nullable=False),
        actor("published_by"),
        moment("published_at"),
        schema=SCHEMA,
        comment="Standards that hold for all domains, every version; the last one is in force.",
    )
    op.create_table(
        "domain",
        sa.Column("domain", sa.Text, primary_key=True),
        sa.Column("team_role", sa.Text, nullable=False),
        sa.Column("review", sa.Text, nullable=False, server_default="never"),
        actor("added_by"),
        moment("added_at"),
        sa.CheckConstraint("review in ('never', 'widens', 'always')", name="domain_review"),
        schema=SCHEMA,
        comment="Which role's members may hand in contracts of a domain, and which of these an administrator reviews.",
    )
    op.create_table(
        "submission",
        identity("submission_id"),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("product", sa.Text, nullable=False),
        sa.Column("file_name", sa.Text, nullable=False),
        sa.Column("contract_text", sa.Text, nullable=False),
        sa.Column("rebuild", sa.Boolean, nullable=False, server_default=sa.false()),
        actor("submitted_by"),
        moment("submitted_at"),
        sa.Column("state", sa.Text, nullable=False, server_default="submitted"),
        sa.Column("outcome", sa.Text),
        sa.Column("plan", pg.JSONB),
        sa.Column("decided_by", sa.Text),
        moment("decided_at", nullable=True),
        sa.CheckConstraint("kind in ('plan', 'apply')", name="submission_kind"),
        sa.CheckConstraint(
            "state in ('submitted', 'review', 'planned', 'applied', 'refused')", name="submission_state"
        ),
        schema=SCHEMA,
        comment="Contracts that domain teams handed in, and what became of them.",
    )
    op.create_table(
        "token_issuer",
        sa.Column("issuer", sa.Text, primary_key=True),
        sa.Column("audience", sa.Text, nullable=False),
        sa.Column("principal_claim", sa.Text, nullable=False, server_default="sub"),
        sa.Column("roles_claim", sa.Text),
        sa.Column("role_map", pg.JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("attribute_map", pg.JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("max_lifetime", pg.INTERVAL, nullable=False, server_default=sa.text("interval '1 hour'")),
        actor("changed_by"),
        moment("changed_at"),
        schema=SCHEMA,
        comment="Whose tokens are believed, and how their claims become principal, roles and attributes.",
    )
    op.create_table(
        "token_key",
        sa.Column("kid", sa.Text, primary_key=True),
        sa.Column(
            "issuer", sa.Text, sa.ForeignKey(f"{SCHEMA}.token_issuer.issuer", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("inner_pad", sa.LargeBinary, nullable=False),
        sa.Column("outer_pad", sa.LargeBinary, nullable=False),
        sa.Column("gateways", pg.ARRAY(sa.Text)),
        moment("not_before"),
        moment("not_after", nullable=True),
        moment("revoked_at", nullable=True),
        actor("added_by"),
        moment("added_at"),
        schema=SCHEMA,
        comment="Keys of HS256, as HMAC's two padded blocks; read by tidegate.verified_claims() only. gateways: the "
        "logins in whose sessions the key counts, NULL for every gateway.",
    )
    op.create_table(
        "break_glass",
        identity("break_glass_id"),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("role_oid", pg.OID, nullable=False),
        sa.Column("products", pg.ARRAY(sa.Text)),
        sa.Column("reason", sa.Text, nullable=False),
        actor("granted_by"),
        moment("granted_at"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        moment("ended_at", nullable=True),
        sa.CheckConstraint("btrim(reason) <> ''", name="break_glass_reason"),
        sa.CheckConstraint("expires_at <= granted_at + interval '8 hours 1 minute'", name="break_glass_short"),
        schema=SCHEMA,
        comment="Who saw more than the rules let her, why and until when. products NULL: all.",
    )
    op.create_table(
        "audit_event",
        identity("audit_id"),
        moment("at"),
        actor("actor"),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("product", sa.Text),
        sa.Column("contract_version", sa.Text),
        sa.Column("subject", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("before", pg.JSONB),
        sa.Column("after", pg.JSONB),
        schema=SCHEMA,
        comment="Every apply, change of a principal, token key, domain or standard, and break-glass. Append-only.",
    )
    op.create_table(
        "mask_key",
        sa.Column("mask_key_id", sa.SmallInteger, primary_key=True, server_default="1"),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("mask_key_id = 1", name="mask_key_one"),
        schema=SCHEMA,
        comment="The key of the hash mask, this database's own: without it a hashed e-mail address could be guessed.",
    )
    op.execute(
        "INSERT INTO tidegate.mask_key (key) "
        "SELECT sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'))"
    )
    op.add_column("contract_version", sa.Column("change_class", sa.Text), schema=SCHEMA)
    op.add_column(
        "contract_version",
        sa.Column("changes", pg.JSONB, nullable=False, server_default=sa.text("'[]'")),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_column("contract_version", "changes", schema=SCHEMA)
    op.drop_column("contract_version", "change_class", schema=SCHEMA)
    for table in (
        "mask_key",
        "audit_event",
        "break_glass",
        "token_key",
        "token_issuer",
        "submission",
        "domain",
        "standards",
        "rule",
    ):
        op.drop_table(table, schema=SCHEMA)

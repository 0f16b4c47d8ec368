"""`tidegate new` on real tables: the draft passes lint and apply as it is, and its guesses are sensible."""

import re

import pytest
from tests.conftest import Tide

from tidegate.contract.contract import Contract
from tidegate.contract.odcs import parse_contract
from tidegate.contract.standards_file import default_standards
from tidegate.errors import TidegateError, UnknownName, UsageError
from tidegate.govern.draft import draft_contract

# The embedded server has no citext; a type of its name is enough for what reads names of types.
TICKETS = """
CREATE SCHEMA support;
CREATE DOMAIN public.citext AS text;
CREATE TYPE support.status AS ENUM ('open', 'closed');
CREATE TABLE support.ticket (
    ticket_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL, status support.status NOT NULL,
    region text NOT NULL, subject varchar(200) NOT NULL, body text, customer_email citext, phone text, iban varchar(34),
    created_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz, urgent boolean, total_price numeric(10,2),
    tags text[], extra jsonb, "Odd Name" text);
COMMENT ON TABLE support.ticket IS 'What customers "ask": one line
per ticket';
COMMENT ON COLUMN support.ticket.body IS 'The customer''s words # all of them';
INSERT INTO support.ticket (tenant_id, status, region, subject, body, customer_email, total_price)
SELECT gen_random_uuid(), 'open', (ARRAY['EU', 'US', 'APAC'])[1 + n % 3], 'Ticket number ' || n,
       repeat('The parcel ' || n || ' has not come, and nobody answers. ', 8), n || '@example.com', n
FROM generate_series(1, 400) n;
"""
ANALYZED = TICKETS + "ANALYZE support.ticket;"
COMPOSITE = """
CREATE SCHEMA shop;
CREATE TABLE shop.review (lang varchar(5), sku text, name text, review text, rating smallint, wrote_on date, PRIMARY KEY (sku, lang));
"""


def drafted(tide: Tide, product: str, table: str | None = None) -> tuple[str, Contract]:
    """The draft; checked, linted and applied."""
    text = draft_contract(tide.admin, product, table)
    contract = parse_contract(text.encode(), f"{product}.odcs.yaml")
    assert [str(finding) for finding in default_standards().lint(contract)] == []
    assert contract.warnings == ()
    assert tide.apply(text).backfill
    assert tide.apply(text).steps == ()
    return text, contract


def tagged(contract: Contract) -> set[str]:
    return {column.name for column in contract.columns if column.filterable}


def restricted(contract: Contract) -> set[str]:
    return {column.name for column in contract.columns if column.classification == "restricted"}


@pytest.mark.parametrize("setup", [TICKETS, ANALYZED], ids=["sampled", "analyzed"])
def test_a_table_with_everything(tide: Tide, setup: str) -> None:
    tide.admin.execute(setup)
    text, contract = drafted(tide, "support.ticket")
    assert contract.embedding.document_columns == ("subject", "body")
    assert contract.embedding.chunk_tokens == 200
    assert tagged(contract) == {"tenant_id", "status", "region", "created_at", "deleted_at", "urgent", "total_price"}
    assert restricted(contract) == {"customer_email", "phone", "iban"}
    assert [(rule.id, rule.effect, rule.to, rule.text) for rule in contract.rules] == [
        ("tenant", "require", (), "row.tenant_id = user.tenant"),
        ("deleted", "deny", (), "row.deleted_at is not null"),
        ("readers", "allow", ("support_reader",), ""),
    ]
    assert {"tags", "extra"} <= contract.column_types.keys()
    for reason in (
        r"customer_email.*# restricted: looks like an e-mail address",
        r"- body  # text of \d+ bytes on average",
        r"status.*# filter: an enum",
        r"region.*# filter: about 3 distinct values",
        r"left out: Odd Name has a name that",
        r'purpose: "What customers \\"ask\\": one line per ticket"  # the table',
        r'description: "The customer\'s words # all of them"',
        r"chunk: .*# a row has about \d+ tokens",
    ):
        assert re.search(reason, text), reason


def test_a_composite_key_and_no_rows(tide: Tide) -> None:
    tide.admin.execute(COMPOSITE)
    text, contract = drafted(tide, "shop.review")
    assert [column.name for column in contract.key_columns] == ["sku", "lang"]
    assert contract.embedding.document_columns == ("name", "review")
    assert tagged(contract) == {"rating", "wrote_on"}
    assert "# there were no statistics to go by" in text


def test_a_table_of_another_schema(tide: Tide) -> None:
    tide.admin.execute("CREATE SCHEMA crm; CREATE TABLE crm.notes (id uuid PRIMARY KEY, memo text)")
    _, contract = drafted(tide, "sales.note", "crm.notes")
    assert (contract.source.schema, contract.source.table, contract.product) == ("crm", "notes", "sales.note")
    assert contract.embedding.document_columns == ("memo",)


def test_what_is_found_by_a_draft_are_its_rows(tide: Tide) -> None:
    """Codes are not embedded, a long code-like text is, and statistics beat names."""
    tide.admin.execute(
        "CREATE SCHEMA lab; CREATE TABLE lab.sample (id int PRIMARY KEY, title text, finding text, kind text, batch int);"
        "INSERT INTO lab.sample SELECT n, 'A', md5(n::text) || md5((n + 1)::text), 'k' || n % 4, n % 7 "
        "FROM generate_series(1, 1000) n; ANALYZE lab.sample"
    )
    _, contract = drafted(tide, "lab.sample")
    assert contract.embedding.document_columns == ("finding",)
    assert tagged(contract) == {"title", "kind", "batch"}


REFUSED = [
    ("CREATE TABLE team.t (id int, body text)", r"team.t has no primary key.*ALTER TABLE team.t ADD PRIMARY KEY \(id\)"),
    ("CREATE TABLE team.t (a int NOT NULL, b int NOT NULL, body text, UNIQUE (b, a))", r"ADD PRIMARY KEY \(b, a\)"),
    ("CREATE TABLE team.t (id int PRIMARY KEY, price int)", r"no text column.*id \(integer\), price \(integer\)"),
    ("CREATE TABLE team.t (id int PRIMARY KEY, email text)", "only text looks like personal data .email: looks like an"),
    ("CREATE TABLE team.t (id date PRIMARY KEY, body text)", "key column id is date; a key column is one of"),
    ('CREATE TABLE team.t ("Id" int PRIMARY KEY, body text)', "key column Id has a name that a contract cannot write"),
    ("CREATE TABLE team.t (content text PRIMARY KEY, body text)", "every chunk table has; rename it"),
    ("CREATE VIEW team.t AS SELECT 1 AS id", "is not an ordinary table .relkind v"),
    ("CREATE TABLE team.tt (id int PRIMARY KEY)", "there is no table team.t here; there are: team.tt"),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "message"), REFUSED, ids=[each[1][:30] for each in REFUSED])
def test_what_cannot_have_a_contract_is_told_what_to_do(tide: Tide, statement: str, message: str) -> None:
    tide.admin.execute("CREATE SCHEMA team")
    tide.admin.execute(statement)
    with pytest.raises(TidegateError, match=message) as refusal:
        draft_contract(tide.admin, "team.t")
    assert isinstance(refusal.value, UnknownName) is message.startswith("there is no table")


@pytest.mark.parametrize("product", ["ticket", "Support.ticket", "support.", "support.a.b", "x" * 60 + ".t"])
def test_names_that_are_no_products(tide: Tide, product: str) -> None:
    with pytest.raises(UsageError, match="is not a product's name"):
        draft_contract(tide.admin, product)

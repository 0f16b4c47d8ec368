"""`tidegate verify` where the rows are on another server: it reads them there, and mends the index from there."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from rich.console import Console
from tests.conftest import Tide
from tests.remote import CRM, CUSTOMER, Away, publish, source_database
from typer.testing import CliRunner

from tidegate.capture.change_event import ChangeEvent, Operation
from tidegate.capture.position import Lsn, Position
from tidegate.cli import app
from tidegate.database import connect, register_vectors
from tidegate.errors import UsageError
from tidegate.index.indexer import Indexer
from tidegate.index.item import Item
from tidegate.index.product import published
from tidegate.observe.source_rows import SourceUnreadable
from tidegate.observe.verify import IndexBehind, Verification
from tidegate.observe.verify_all import verify_all

MASKED = CUSTOMER.replace(
    "physicalType: text, classification: restricted}",
    "physicalType: text, classification: restricted, customProperties: ["
    "{property: mask, vendor: tidegate, value: last4}, {property: reveal, vendor: tidegate, value: [note_reader]}]}",
)
ROWS = (
    "INSERT INTO sales.customer (id, title, region, secret) "
    "SELECT n, 'customer ' || n, 'EU', 'secret 000' || n FROM generate_series(1, 12) n"
)
DAMAGE = {
    1: ("missing", "DELETE FROM rag_sales.customer WHERE id = 1"),
    2: ("missing", "DELETE FROM rag_sales.customer WHERE id = 2; DELETE FROM tidegate.ledger WHERE key = '{\"id\":2}'"),
    3: ("stale", "UPDATE rag_sales.customer SET content = 'forged' WHERE id = 3"),
    6: ("carried region", "UPDATE rag_sales.customer SET region = 'US' WHERE id = 6"),
    7: ("carried secret", "UPDATE rag_sales.customer SET secret = '***9999' WHERE id = 7"),
    8: ("carried secret", "UPDATE rag_sales.customer_clear_secret SET clear_value = 'another' WHERE id = 8"),
}
AT_SOURCE = {
    4: ("stale", "UPDATE sales.customer SET title = 'changed unheard' WHERE id = 4"),
    5: ("ghost", "DELETE FROM sales.customer WHERE id = 5"),
    9: ("carried region", "UPDATE sales.customer SET region = 'US' WHERE id = 9"),
    13: ("missing", "INSERT INTO sales.customer (id, title, secret) VALUES (13, 'inserted unheard', 'secret 00013')"),
}
"""Changes that no stream brings."""


@pytest.fixture
def away(server_dsn: str, tide: Tide) -> Iterator[Away]:
    with source_database(server_dsn, tide) as held:
        held.admin.execute(ROWS)
        publish(tide, MASKED)
        indexed(tide)
        follows(tide)
        yield held


def indexed(tide: Tide) -> None:
    """As if a worker had followed the source: its rows are in the index."""
    with connect(tide.dsn, role="tidegate_worker") as connection:
        register_vectors(connection)
        product = published(connection, tide.embedders)[CRM, "sales", "customer"]
        indexer = Indexer(product.embedder, bulk=True, max_document_chars=10**6, attempts=1, searchable=lambda *_: None)
        items = []
        for n in range(1, 13):
            row = {"id": n, "title": f"customer {n}", "body": None, "region": "EU", "price": None}
            event = ChangeEvent(
                schema="sales",
                table="customer",
                operation=Operation.UPSERT,
                key={"id": n},
                row={**row, "secret": f"secret 000{n}"},
                position=Position(Lsn(1), Lsn(n)),
                committed_at=datetime.now(UTC),
                source=CRM,
            )
            items.append(Item(product, product.key_text({"id": n}), event, []))
        outcome = indexer.process(connection, items)
        assert len(outcome.finished) == 12
    tide.admin.execute("UPDATE tidegate.product SET state = 'live'")


def follows(tide: Tide) -> None:
    """As if the worker had everything that the source will ever commit."""
    tide.admin.execute(
        "INSERT INTO tidegate.watermark (lane, source, partition, lsn, as_of) "
        "SELECT model, source_server, 0, 'FFFFFFFF/0', now() FROM tidegate.product"
    )


def verified(tide: Tide, *, repair: bool = False, patience_s: float = 120.0) -> Verification:
    quiet = Console(quiet=True)
    (one,) = verify_all(
        tide.dsn, tide.settings, None, repair=repair, anew=True, rows_per_s=1e5, patience_s=patience_s, console=quiet
    )
    return one


def found(verification: Verification) -> dict[int, str]:
    return {f.key["id"]: f"{f.problem} {','.join(f.columns)}".strip() for f in verification.findings}


def test_each_kind_of_damage_is_named_and_mended_from_there(tide: Tide, away: Away) -> None:
    assert verified(tide) == Verification("sales.customer", compared=24)
    for _, statement in DAMAGE.values():
        tide.admin.execute(statement)
    for _, statement in AT_SOURCE.values():
        away.admin.execute(statement)
    expected = {key: what for key, (what, _) in sorted({**DAMAGE, **AT_SOURCE}.items())}
    first = verified(tide)
    assert found(first) == expected
    assert not first.ok
    assert found(verified(tide)) == expected, "looking repairs nothing"

    repaired = verified(tide, repair=True)
    assert found(repaired) == expected
    assert all(finding.repaired for finding in repaired.findings)
    assert repaired.ok
    assert verified(tide) == Verification("sales.customer", compared=24)
    shown = {
        n: (f"customer {n}", "US" if n == 9 else "EU", f"***{f'000{n}'[-4:]}", f"secret 000{n}") for n in range(1, 14)
    }
    shown[4] = ("changed unheard", *shown[4][1:])
    shown[13] = ("inserted unheard", "EU", "***0013", "secret 00013")
    del shown[5]
    rows = tide.rows(
        "SELECT c.id, c.content, c.region, c.secret, s.clear_value FROM rag_sales.customer c "
        "JOIN rag_sales.customer_clear_secret s USING (id) ORDER BY c.id"
    )
    assert {row[0]: row[1:] for row in rows} == shown
    assert tide.one("SELECT count(*) FROM tidegate.dead_letter") == 0
    # The ledger fences what was mended: nothing older than that goes through.
    assert tide.one("SELECT state FROM tidegate.ledger WHERE key = '{\"id\":5}'") == "deleted"


def test_what_cannot_be_compared_or_mended_is_said(tide: Tide, away: Away) -> None:
    tide.admin.execute("DELETE FROM rag_sales.customer WHERE id = 1")
    # The index does not follow: what differs may be on its way.
    tide.admin.execute("UPDATE tidegate.watermark SET lsn = '0/1'")
    with pytest.raises(IndexBehind, match=r"the index stands at 0/1, its source at .* did not follow"):
        verified(tide, repair=True, patience_s=0.2)
    tide.admin.execute("DELETE FROM tidegate.watermark")
    follows(tide)
    # A comparison without the source's DSN.
    named, tide.settings.sources = tide.settings.sources, {}
    with pytest.raises(UsageError, match='are on the server "crm"; name its DSN in TIDEGATE_SOURCES'):
        verified(tide)
    tide.settings.sources = named
    # The source's owner took the worker's right to read.
    away.admin.execute("REVOKE SELECT ON sales.customer FROM tidegate_worker")
    away.admin.execute("REVOKE SELECT (id, title, body, region, price, secret) ON sales.customer FROM tidegate_worker")
    with pytest.raises(SourceUnreadable, match=r"the source cannot be read \(permission denied for table customer\)"):
        verified(tide, repair=True)
    away.admin.execute("ALTER TABLE sales.customer DROP COLUMN body")
    with pytest.raises(SourceUnreadable, match="sales.customer: the source cannot be read"):
        verified(tide)


def test_the_command_line_mends_over_servers(tide: Tide, away: Away) -> None:
    away.admin.execute("DELETE FROM sales.customer WHERE id = 5")
    environment = {"TIDEGATE_DSN": tide.dsn, "TIDEGATE_SOURCES__CRM": away.source.dsn}
    run = CliRunner().invoke(app, ["verify", "--repair", "--json"], env=environment)
    assert run.exit_code == 0, run.output
    (told,) = json.loads(run.stdout)["products"]
    assert [(one["key"], one["problem"], one["repaired"]) for one in told["findings"]] == [({"id": 5}, "ghost", True)]

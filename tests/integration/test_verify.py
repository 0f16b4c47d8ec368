"""`tidegate verify`: it names what is wrong and nothing else, whatever moves, and mends it through the ledger."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import sql
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide, fresh_database
from tests.integration.embedder import WatchedModel, WatchedModels
from tests.integration.test_kill import Load
from typer.testing import CliRunner

from tidegate.cli import app
from tidegate.contract.embedding import Embedding
from tidegate.database import connect, register_vectors
from tidegate.errors import UsageError
from tidegate.index.document import document, document_hash
from tidegate.index.document_sql import BLANKS, blank_sql, document_sql, hash_sql
from tidegate.index.embedding.local_model import MODEL
from tidegate.index.embedding.registry import Embedders
from tidegate.index.indexer import Indexer
from tidegate.index.product import published
from tidegate.observe.verify import IndexBehind, Verification, Verifier, VerifyBusy
from tidegate.settings import Settings

CONTRACT = SIMPLE_CONTRACT.replace(
    "physicalType: text, classification: restricted}",
    "physicalType: text, classification: restricted, customProperties: ["
    "{property: mask, vendor: tidegate, value: last4}, {property: reveal, vendor: tidegate, value: [note_reader]}]}",
)
ROWS = "INSERT INTO team.note (id, title, region, secret) SELECT n, 'title ' || n, 'EU', 'secret 000' || n FROM generate_series(1, 20) n"


@pytest.fixture(scope="module")
def sea(server_dsn: str, template: str, embedders: Embedders) -> Iterator[Tide]:
    """A pipeline for all tests here, with product team.note."""
    with fresh_database(server_dsn, template) as dsn, connect(dsn) as admin:
        held = Tide(dsn, admin, WatchedModels(embedders.of(MODEL)), Settings(heartbeat_ms=200, _env_file=None))
        admin.execute(SIMPLE_TABLE)
        held.apply(CONTRACT)
        held.run()
        held.live("team.note")
        yield held
        held.stop()


@pytest.fixture
def tide(sea: Tide) -> Tide:
    """With 20 rows, all indexed."""
    if not sea.pipelines:
        sea.run()
    sea.admin.execute("UPDATE tidegate.product SET state = 'live'; DELETE FROM tidegate.verification")
    sea.admin.execute("TRUNCATE team.note; DELETE FROM rag_team.note; DELETE FROM tidegate.ledger")
    sea.caught_up()
    sea.admin.execute(ROWS)
    sea.caught_up()
    return sea


@pytest.fixture
def notes(tide: Tide) -> Iterator[WatchedModel]:
    """The product's model; what a test does to it is undone."""
    model = tide.embedders.of(MODEL)
    assert isinstance(model, WatchedModel)
    yield model
    model.refused, model.delay_s = None, 0.0


@contextlib.contextmanager
def verifier(tide: Tide, *, repair: bool = False, **options: Any) -> Iterator[Verifier]:
    with connect(tide.dsn, role="tidegate_worker") as index, connect(tide.dsn, role="tidegate_worker") as source:
        register_vectors(index)
        product = published(index, tide.embedders)["", "team", "note"]
        indexer = Indexer(product.embedder, bulk=True, max_document_chars=10**6, attempts=1, searchable=lambda *_: None)
        yield Verifier(index, source, product, indexer=indexer if repair else None, **options)


def verified(tide: Tide, *, repair: bool = False, **options: Any) -> Verification:
    with verifier(tide, repair=repair, **options) as one:
        return one.run()


def found(verification: Verification) -> dict[int, str]:
    return {f.key["id"]: f"{f.problem} {','.join(f.columns)}".strip() for f in verification.findings}


DAMAGE = {
    1: ("missing", "DELETE FROM rag_team.note WHERE id = 1"),
    2: ("missing", "DELETE FROM rag_team.note WHERE id = 2; DELETE FROM tidegate.ledger WHERE key = '{\"id\":2}'"),
    3: ("stale", "UPDATE rag_team.note SET content = 'forged' WHERE id = 3"),
    4: ("stale", "UPDATE tidegate.ledger SET document_hash = 'other' WHERE key = '{\"id\":4}'"),
    5: ("stale", "UPDATE rag_team.note SET chunk_no = 1 WHERE id = 5"),
    6: ("carried region", "UPDATE rag_team.note SET region = 'US' WHERE id = 6"),
    7: ("carried price", "UPDATE rag_team.note SET price = 1 WHERE id = 7"),
    8: ("carried secret", "UPDATE rag_team.note SET secret = '***9999' WHERE id = 8"),
    9: ("carried secret", "UPDATE rag_team.note_clear_secret SET clear_value = 'another' WHERE id = 9"),
    10: ("stale", "UPDATE tidegate.ledger SET state = 'deleted' WHERE key = '{\"id\":10}'"),
    11: ("missing", "UPDATE tidegate.ledger SET state = 'parked' WHERE key = '{\"id\":11}'; DELETE FROM rag_team.note WHERE id = 11"),
    30: ("ghost", "UPDATE rag_team.note SET id = 30 WHERE id = 12"),
    12: ("missing", "SELECT"),
}  # fmt: skip


def test_each_kind_of_damage_is_named_and_mended(tide: Tide, notes: WatchedModel) -> None:
    assert verified(tide) == Verification("team.note", compared=40)
    for _, statement in DAMAGE.values():
        tide.admin.execute(statement)
    first = verified(tide)
    assert found(first) == {key: what for key, (what, _) in DAMAGE.items()}
    assert not first.ok
    again = verified(tide)
    assert again.findings == first.findings, "looking repairs nothing"

    repaired = verified(tide, repair=True)
    assert found(repaired) == found(first)
    assert all(finding.repaired for finding in repaired.findings)
    assert repaired.ok
    assert verified(tide) == Verification("team.note", compared=40)
    assert tide.rows("SELECT id, content, region, secret FROM rag_team.note ORDER BY id") == [
        (n, f"title {n}", "EU", f"***{f'000{n}'[-4:]}") for n in range(1, 21)
    ]
    assert tide.one("SELECT count(*) FROM tidegate.dead_letter") == 0
    # The ledger has them all again, and later changes go through.
    assert tide.one("SELECT count(*) FROM tidegate.ledger WHERE state = 'indexed'") == 20
    tide.admin.execute("UPDATE team.note SET title = 'later'; DELETE FROM team.note WHERE id IN (2, 11)")
    tide.caught_up()
    assert tide.one("SELECT count(*) FROM rag_team.note WHERE content = 'later'") == 18
    assert verified(tide) == Verification("team.note", compared=36)


def test_a_row_without_text_is_as_it_should_be(tide: Tide, notes: WatchedModel) -> None:
    """It is in the ledger, with no chunks."""
    tide.admin.execute("INSERT INTO team.note (id, title) VALUES (21, ' '), (22, NULL)")
    tide.caught_up()
    assert verified(tide) == Verification("team.note", compared=42)


def test_what_is_on_its_way_is_not_wrong(tide: Tide, notes: WatchedModel) -> None:
    """All rows change all the time, behind a slow model; nothing is wrong, so nothing is found."""
    notes.delay_s = 0.05
    tide.admin.execute("CREATE TABLE IF NOT EXISTS team.item (id int PRIMARY KEY, title text, rank int)")
    load = Load(tide.dsn, 3, pause_s=0.002)
    load.start()
    looked = 0
    try:
        ends = time.monotonic() + 4
        while time.monotonic() < ends or looked <= 100:
            verification = verified(tide, page_rows=7)
            assert verification.findings == ()
            looked += verification.compared
    finally:
        load.stop()
    tide.caught_up()
    assert verified(tide).ok


def test_a_repair_loses_to_a_change_that_comes_meanwhile(tide: Tide, notes: WatchedModel) -> None:
    """The row is read, then changes and is written by the worker, and only then is the repair's embedding there."""
    tide.admin.execute("DELETE FROM rag_team.note WHERE id = 1")
    with verifier(tide, repair=True) as one:
        assert one.indexer is not None
        embed = one.indexer._source._embed

        def overtaken(texts: Any) -> Any:
            tide.admin.execute("UPDATE team.note SET title = 'newer' WHERE id = 1")
            tide.caught_up()
            return embed(texts)

        one.indexer._source._embed = overtaken
        verification = one.run()
    assert found(verification) == {1: "missing"}
    assert verification.ok
    assert tide.one("SELECT content FROM rag_team.note WHERE id = 1") == "newer"


def test_a_row_that_goes_while_it_is_repaired_does_not_come_back(tide: Tide, notes: WatchedModel) -> None:
    tide.admin.execute("UPDATE rag_team.note SET content = 'forged' WHERE id = 1")
    with verifier(tide, repair=True) as one:
        assert one.indexer is not None
        embed = one.indexer._source._embed

        def deleted(texts: Any) -> Any:
            tide.admin.execute("DELETE FROM team.note WHERE id = 1")
            tide.caught_up()
            return embed(texts)

        one.indexer._source._embed = deleted
        assert one.run().ok
    assert tide.one("SELECT count(*) FROM rag_team.note WHERE id = 1") == 0


def test_one_that_is_broken_off_goes_on(tide: Tide, notes: WatchedModel) -> None:
    tide.admin.execute("DELETE FROM rag_team.note WHERE id IN (2, 19)")
    seen: list[int] = []

    def stop(compared: int, _: int) -> None:
        seen.append(compared)
        if compared >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verified(tide, page_rows=4, look=stop)
    seen.clear()
    rest = verified(tide, page_rows=4, look=lambda compared, _: seen.append(compared))
    assert rest.resumed
    assert seen[0] == 12, "what was compared before is not compared again"
    assert rest.compared == 38
    assert found(rest) == {2: "missing", 19: "missing"}
    assert not verified(tide).resumed

    with pytest.raises(KeyboardInterrupt):
        verified(tide, page_rows=4, look=stop)
    assert verified(tide, repair=True).ok, "what was found before it was broken off is repaired, too"
    assert verified(tide) == Verification("team.note", compared=40)


def test_an_index_that_does_not_follow_is_not_called_wrong(tide: Tide, notes: WatchedModel) -> None:
    tide.stop()
    assert verified(tide).ok
    tide.admin.execute("DELETE FROM team.note WHERE id = 1")
    with pytest.raises(IndexBehind, match='team.note: the index stands at .* Is "tidegate run"'):
        verified(tide, patience_s=0.3)
    tide.run()
    tide.caught_up()
    assert verified(tide).ok


def test_what_is_parked_is_counted_apart(tide: Tide, notes: WatchedModel) -> None:
    notes.refused = "POISON"
    tide.admin.execute("UPDATE team.note SET title = 'POISON' WHERE id = 1")
    tide.caught_up()
    verification = verified(tide)
    assert (verification.ok, verification.parked, found(verification)) == (True, 1, {})
    # A repair that is refused is no repair.
    tide.admin.execute("UPDATE rag_team.note SET content = 'forged' WHERE id = 2")
    notes.refused = "title 2"
    repair = verified(tide, repair=True)
    assert [(f.key, f.repaired) for f in repair.findings] == [({"id": 2}, False)]
    assert not repair.ok


def test_products_that_cannot_be_compared_say_why(tide: Tide, notes: WatchedModel) -> None:
    tide.admin.execute("UPDATE tidegate.product SET state = 'suspended', state_reason = 'for a test'")
    assert verified(tide) == Verification("team.note", skipped="suspended: for a test")
    tide.admin.execute("UPDATE tidegate.product SET state = 'backfilling'")
    assert "backfill" in (verified(tide).skipped or "")
    tide.admin.execute("UPDATE tidegate.product SET state = 'live'")
    with verifier(tide) as one, one._alone(), pytest.raises(VerifyBusy):
        verified(tide)


TEXTS = st.one_of(
    st.none(), st.text(st.sampled_from(["a", "ß", "{", "'", "\\", *BLANKS]), max_size=6), st.text(max_size=8)
)


@settings(max_examples=60)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=20))
@example([("\u00a0", "\x1f"), (None, None), ("", "b"), ("a ", " b")])
def test_the_server_makes_the_same_documents(server_dsn: str, rows: list[tuple[str | None, str | None]]) -> None:
    rows = [
        tuple(None if text is None else text.replace("\0", "").encode("utf-8", "ignore").decode() for text in row)
        for row in rows
    ]  # type: ignore[misc]
    embeddings = (
        Embedding(columns=("a", "b"), template=None, chunk_tokens=100, chunk_overlap=0, model="m/1"),
        Embedding(columns=(), template="{{x}} {b}: '{a}' % {b}", chunk_tokens=100, chunk_overlap=9, model="m/2"),
    )
    with connect(server_dsn) as connection:
        for embedding in embeddings:
            text = sql.Identifier("d", "document")
            statement = sql.SQL(
                "SELECT {}, {}, {} FROM unnest(%s::text[], %s::text[]) AS s (a, b) CROSS JOIN LATERAL (SELECT {} AS document) AS d"
            ).format(text, hash_sql(embedding, text), blank_sql(text), document_sql(embedding, "s"))
            made = connection.execute(statement, [list(column) for column in zip(*rows, strict=True)]).fetchall()
            wanted = [document(embedding, {"a": a, "b": b}, 1000) for a, b in rows]
            assert made == [(one, document_hash(embedding, one), not one.strip()) for one in wanted]


def test_the_command_tells_by_its_exit_code(tide: Tide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_DSN", tide.dsn)

    def command(*words: str) -> Any:
        return CliRunner().invoke(app, ["verify", *words])

    assert command().exit_code == 0
    tide.admin.execute("DELETE FROM rag_team.note WHERE id = 4; UPDATE rag_team.note SET region = 'US' WHERE id = 5")
    told = command("team.note")
    assert (told.exit_code, told.stdout.splitlines()) == (
        1,
        [
            'team.note  {"id": 4}  missing',
            'team.note  {"id": 5}  carried (region)',
            "team.note: 39 rows of source and index compared; 1 missing, 1 carried; 2 not repaired; --repair does it",
        ],
    )
    mended = command("--repair", "--json")
    assert mended.exit_code == 0
    (product,) = json.loads(mended.stdout)["products"]
    assert (product["ok"], product["product"], product["compared"]) == (True, "team.note", 39 + 1)
    assert product["findings"][0] == {"key": {"id": 4}, "problem": "missing", "columns": [], "repaired": True}
    unknown = command("team.none")
    assert isinstance(unknown.exception, UsageError)
    assert '"team.none" is not published' in str(unknown.exception)

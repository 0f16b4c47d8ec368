"""Both clients, blocking and awaited: the same calls, the same results, the same errors."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import sqlalchemy
from tests.conftest import SIMPLE_CONTRACT, Tide
from tests.integration.embedder import WatchedModels
from tests.integration.notes import Notes, notes_of
from tests.integration.surface import Opened

import tidegate
from tidegate.database import ConnectionFailed, NotInitialised
from tidegate.errors import UsageError
from tidegate.govern.apply import apply_plan
from tidegate.govern.plan import make_plan
from tidegate.index.embedding.embedder import Vectors
from tidegate.index.embedding.local_model import MODEL
from tidegate.index.embedding.registry import Embedders
from tidegate.query import surface
from tidegate.query.async_client import AsyncClient
from tidegate.query.catalog import NoSuchRow, SearchRefused
from tidegate.query.client import Client
from tidegate.query.recency import NotIndexedYet, StaleIndex
from tidegate.settings import Settings

QUESTION = "how long do refunds take?"


@pytest.fixture
def notes(tide: Tide) -> Iterator[Notes]:
    with notes_of(tide) as made:
        made.add("Refunds take 14 days to arrive.", "We bake bread on Sundays.", "Refunds go to the card that paid.")
        made.add("Refunds of the US take 90 days.", region="US", first=9)
        yield made


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> type:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def tg(kind: type, notes: Notes) -> Iterator[Opened]:
    with Opened(kind, notes.reader(), Settings(_env_file=None), embedders=notes.tide.embedders) as opened:
        yield opened


def ids(hits: list[tidegate.Hit]) -> list[int]:
    return [hit.key["id"] for hit in hits]


def test_search(tg: Opened) -> None:
    hits = tg.search(QUESTION)
    assert ids(hits) == [1, 3, 2]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert {hit.consistency for hit in hits} == {"strict"}
    assert {hit.consistency for hit in tg.search(QUESTION, consistency="eventual")} == {"eventual"}
    assert ids(tg.search(QUESTION, 1, ["team.note"])) == [1]
    between = (hits[1].score + hits[2].score) / 2
    assert ids(tg.search(QUESTION, min_score=between)) == [1, 3]
    assert tg.search(QUESTION, min_score=2) == []


def test_strict_is_of_the_moment(tg: Opened, notes: Notes) -> None:
    notes.tide.admin.execute("DELETE FROM team.note WHERE id = 1")
    assert ids(tg.search(QUESTION)) == [3, 2]
    assert ids(tg.search(QUESTION, consistency="eventual")) == [1, 3, 2]


def test_an_extracted_answer(tg: Opened, notes: Notes) -> None:
    assert tg.ask(QUESTION, 2).as_of is None
    notes.watermark("3s")
    answer = tg.ask(QUESTION, 2)
    assert answer.text == "Refunds take 14 days to arrive. [1] Refunds go to the card that paid. [2]"
    assert ids(answer.citations) == [1, 3]
    assert answer.model is None
    assert answer.as_of is not None
    pieces, streamed = tg.read(QUESTION, 2)
    assert streamed == answer
    assert pieces == ["Refunds take 14 days to arrive. [1]", " Refunds go to the card that paid. [2]"]


def test_wrong_calls(tg: Opened) -> None:
    for call in (tg.search, tg.ask):
        with pytest.raises(UsageError, match="empty"):
            call("  ")
        with pytest.raises(UsageError, match='"team.none" is not published, or not offered .*there are: team.note'):
            call("x", products=["team.none"])
        with pytest.raises(UsageError, match="pass a list"):
            call("x", products="team.note")
        with pytest.raises(UsageError, match="k is 0"):
            call("x", 0)
    assert tg.search("x", products=[]) == []


def test_a_suspended_product(tg: Opened, notes: Notes) -> None:
    notes.tide.admin.execute("UPDATE tidegate.product SET state = 'suspended', state_reason = 'for a test'")
    with pytest.raises(SearchRefused, match="suspended: for a test"):
        tg.search(QUESTION, products=["team.note"])
    assert tg.search(QUESTION) == []


class TestFilters:
    @pytest.fixture(autouse=True)
    def priced(self, notes: Notes) -> None:
        notes.add("Refunds of small sums are quick.", price=5.5, first=20)
        notes.add("Refunds of large sums are slow.", price=100, first=21)

    def test_where(self, tg: Opened) -> None:
        for where, expected in (
            ({}, {1, 2, 3, 20, 21}),
            ({"region": "EU"}, {1, 2, 3, 20, 21}),
            ({"region": "US"}, set()),
            ({"region": ["EU", "US"], "price": {"lt": 100}}, {20}),
            ({"region": {"EU"}, "price": {"gte": Decimal("5.5")}}, {20, 21}),
            ({"price": {"gt": 5.5, "lte": 100}}, {21}),
            ({"price": None}, {1, 2, 3}),
            ({"price": {"ne": 100}}, {1, 2, 3, 20}),
        ):
            assert set(ids(tg.search(QUESTION, where=where))) == expected, where
        assert set(ids(tg.ask(QUESTION, 10, where={"price": {"lt": 50}}).citations)) == {20}

    def test_a_filter_that_is_none_is_told_what_is_offered(self, tg: Opened) -> None:
        for call in (tg.search, tg.ask):
            with pytest.raises(UsageError, match=r"offers no such column. It offers: region \(text\), price \(numeric"):
                call(QUESTION, where={"secret": "x"})
        for where in ({"price": "cheap"}, {"price": {"about": 3}}, {"region": 3}, {"region": "a\0b"}):
            with pytest.raises(UsageError):
                tg.search(QUESTION, where=where)
        for where in ("region=EU", {"price": object()}, {"price": float("nan")}):
            with pytest.raises(UsageError, match="where is"):
                tg.search(QUESTION, where=where)
        hostile = "'; DROP TABLE team.note; --"
        assert tg.search(QUESTION, where={"region": hostile}) == []
        with pytest.raises(UsageError):
            tg.search(QUESTION, where={hostile: 1})


class TestWords:
    def test_modes(self, tg: Opened) -> None:
        by_words = tg.search("bake sundays", mode="keyword")
        assert ids(by_words) == [2]
        assert 0 < by_words[0].score < 1
        assert by_words[0].distance is None
        both = tg.search("bake", mode="hybrid")
        assert ids(both)[0] == 2
        assert both[0].score == 1
        assert len(both) == 3
        assert tg.ask("bake sundays", mode="keyword").text == "We bake bread on Sundays. [1]"
        with pytest.raises(UsageError, match="vector, keyword, hybrid"):
            tg.search("x", mode="magic")

    def test_words_need_no_model(self, kind: type, notes: Notes) -> None:
        class None_(Embedders):
            def of(self, model: str):  # type: ignore[no-untyped-def]
                raise AssertionError(model)

        settings = Settings(_env_file=None)
        with Opened(kind, notes.reader(), settings, embedders=None_(settings)) as tg:
            assert ids(tg.search("bake", mode="keyword")) == [2]


class TestSimilar:
    def test_of_a_row(self, tg: Opened) -> None:
        hits = tg.similar("team.note", 1)
        assert ids(hits) == [3, 2]
        assert tg.similar("team.note", {"id": 1}, 1) == hits[:1]
        assert tg.similar("team.note", 1, products=["team.note"], min_score=0.99, where={"region": "EU"}) == []

    def test_of_none(self, tg: Opened) -> None:
        for id_ in (7, 9):  # none, and one of another region
            with pytest.raises(NoSuchRow, match=rf'"team.note" has no row .*{id_}.* may see'):
                tg.similar("team.note", id_)
        for key in ("x", {"name": 1}, None, object()):
            with pytest.raises(UsageError):
                tg.similar("team.note", key)
        with pytest.raises(UsageError, match="not offered"):
            tg.similar("team.none", 1)
        with pytest.raises(StaleIndex):
            tg.similar("team.note", 1, fresh_within="1s")


class TestStatements:
    def test_as_sql(self, tg: Opened, notes: Notes) -> None:
        statement = tg.search_statement(QUESTION, 2, where={"region": "EU"})
        with psycopg.connect(tg.client._dsn) as reader:
            rows = reader.execute(statement).fetchall()  # type: ignore[arg-type]
        assert [row[:2] for row in rows] == [("team.note", {"id": 1}), ("team.note", {"id": 3})]

    def test_as_a_select(self, tg: Opened, notes: Notes) -> None:
        notes.add("Refunds of the rich take 14 days, too.", price=7.25, first=30)
        notes.tide.admin.execute(
            "SET ROLE tidegate_worker; INSERT INTO rag_team.note "
            "(id, region, chunk_no, content, content_hash, embedding, position, contract_version) "
            "SELECT id, region, 1, 'Another chunk.', '', public.vector_sub(embedding, embedding), position, "
            "contract_version FROM rag_team.note WHERE id = 1; RESET ROLE"
        )
        words = "refunds 14 days"
        for mode in ("vector", "keyword", "hybrid"):
            statement = tg.statement(words, "team.note", 3, mode=mode)
            hits = tg.search(words, 3, ["team.note"], mode=mode)
            assert len(hits) >= 2
            rows = run_sqlalchemy(tg.client._dsn, statement)
            assert [(row.id, row.content, row.distance, row.consistency) for row in rows] == [
                (hit.key["id"], hit.content, hit.distance, "strict") for hit in hits
            ]
            assert [row.score for row in rows] == pytest.approx([hit.score for hit in hits])
            assert {row.region for row in rows} == {"EU"}
            assert Decimal("7.25") in {row.price for row in rows}
            assert not {"codes", "embedding", "position", "content_hash"} & set(rows[0]._fields)

    def test_a_select_composes(self, tg: Opened, notes: Notes) -> None:
        admin = notes.tide.admin
        admin.execute("CREATE TABLE public.owner (note bigint, name text); GRANT SELECT ON public.owner TO PUBLIC")
        admin.execute("INSERT INTO public.owner VALUES (1, 'ann'), (2, 'bob'), (9, 'eve')")
        found = tg.statement(QUESTION, "team.note", where={"region": "EU"}, min_score=-1).subquery()
        owner = sqlalchemy.table("owner", sqlalchemy.column("note"), sqlalchemy.column("name"))
        joined = (
            sqlalchemy.select(owner.c.name, found.c.score)
            .join(found, found.c.id == owner.c.note)
            .where(found.c.committed_at.is_not(None), found.c.price.is_(None))
            .order_by(found.c.score.desc())
        )
        assert [row.name for row in run_sqlalchemy(tg.client._dsn, joined)] == ["ann", "bob"]
        assert run_sqlalchemy(notes.reader("tidegate_reader"), sqlalchemy.select(sqlalchemy.literal(1)))
        with pytest.raises(sqlalchemy.exc.ProgrammingError, match="not offered|permission denied"):
            run_sqlalchemy(notes.reader("tidegate_reader"), joined)
        admin.execute("DELETE FROM team.note WHERE id = 1")
        assert [row.name for row in run_sqlalchemy(tg.client._dsn, joined)] == ["bob"]
        with pytest.raises(UsageError, match="not offered"):
            tg.statement(QUESTION, "team.none")


def run_sqlalchemy(dsn: str, statement: "sqlalchemy.Executable") -> list[Any]:
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))
    try:
        with engine.connect() as connection:
            return list(connection.execute(statement).all())
    finally:
        engine.dispose()


class TestSeveralModels:
    """The local model under another name: what is compared is the same, and each model embeds the question once."""

    @pytest.fixture
    def models(self, notes: Notes) -> WatchedModels:
        notes.tide.admin.execute("CREATE TABLE team.memo (LIKE team.note INCLUDING ALL)")
        models = WatchedModels(notes.tide.embedders.of(MODEL))
        text = SIMPLE_CONTRACT.replace("team.note", "team.memo").replace("note\n", "memo\n")
        text = text.replace("physicalName: note", "physicalName: memo").replace(MODEL, "openai/other")
        apply_plan(notes.tide.admin, make_plan(notes.tide.admin, notes.tide.contract(text), models.of("openai/other")))
        notes.add("A memo: refunds take 14 days.", table="memo", first=1)
        return models

    def test_each_embeds_once(self, kind: type, notes: Notes, models: WatchedModels) -> None:
        with Opened(kind, notes.reader(), Settings(_env_file=None), embedders=models) as tg:
            hits = tg.search(QUESTION, 3)
            assert [models.of(model).texts for model in (MODEL, "openai/other")] == [[QUESTION], [QUESTION]]
            assert {hit.product for hit in hits} == {"team.note", "team.memo"}
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            assert {hit.product for hit in tg.search(QUESTION, products=["team.memo"])} == {"team.memo"}
            assert models.of(MODEL).texts == [QUESTION]

    def test_one_that_does_not_answer(self, kind: type, notes: Notes, models: WatchedModels) -> None:
        models.of("openai/other").away = True
        with Opened(kind, notes.reader(), Settings(_env_file=None), embedders=models) as tg:
            with pytest.raises(
                tidegate.EmbedderUnavailable, match='"openai/other" does not answer.* searched: team.note'
            ):
                tg.search(QUESTION)
            assert ids(tg.search(QUESTION, products=["team.note"])) == [1, 3, 2]

    def test_a_model_that_changes_in_between(self, kind: type, notes: Notes, models: WatchedModels) -> None:
        embed = models.of(MODEL).embed

        def switching(texts: Sequence[str]) -> Vectors:
            notes.tide.admin.execute("UPDATE tidegate.product SET model = 'openai/new' WHERE product = 'team.note'")
            return embed(texts)

        models.of(MODEL).embed = switching  # type: ignore[method-assign]
        with Opened(kind, notes.reader(), Settings(_env_file=None), embedders=models) as tg:
            assert ids(tg.search(QUESTION, products=["team.note"])) == [1, 3, 2]
            assert models.of("openai/new").texts == [QUESTION]


class TestRecency:
    def test_an_old_index_is_refused(self, tg: Opened, notes: Notes) -> None:
        with pytest.raises(StaleIndex, match="no watermark yet"):
            tg.search(QUESTION, fresh_within="1h")
        notes.watermark("90 minutes")
        notes.tide.admin.execute("UPDATE team.note SET title = 'x' WHERE id = 9")
        assert len(tg.search(QUESTION, fresh_within="2h")) == 3
        for call in (tg.search, tg.ask):
            with pytest.raises(
                StaleIndex, match=r'"team.note" is as of .* 1 h 30 min ago; .* allows 1 s.*tidegate run'
            ) as caught:
                call(QUESTION, fresh_within="1s")
            assert caught.value.product == "team.note"
            assert caught.value.as_of is not None
            assert caught.value.age is not None
            assert 5400 <= caught.value.age.total_seconds() < 5460

    def test_an_index_in_which_all_is_that_was_committed_is_fresh(self, tg: Opened, notes: Notes) -> None:
        """as_of moves with commits and heartbeats only; between them the position tells."""
        notes.watermark("1 minute")
        notes.tide.admin.execute("UPDATE tidegate.watermark SET lsn = pg_current_wal_insert_lsn() + 100000000::numeric")
        assert len(tg.search(QUESTION, fresh_within="1s")) == 3
        notes.tide.admin.execute("UPDATE tidegate.product SET source_server = 'elsewhere'")
        notes.tide.admin.execute("UPDATE tidegate.watermark SET source = 'elsewhere'")
        with pytest.raises(StaleIndex):  # positions of another server are not of this one
            tg.search(QUESTION, fresh_within="1s")

    def test_reading_ones_own_writes(self, tg: Opened, notes: Notes) -> None:
        notes.watermark("0s")
        assert len(tg.search(QUESTION, after="0/1")) == 3
        lsn = notes.tide.one("SELECT (pg_current_wal_insert_lsn() + 100000000::numeric)::text")
        waited = []
        while not waited or (min(waited) >= 2 and len(waited) < 10):  # the default, or a machine that is busy
            began = time.monotonic()
            with pytest.raises(NotIndexedYet, match=rf"up to {lsn} is in the index .* after 200 ms") as caught:
                tg.search(QUESTION, after=lsn, wait="200ms")
            waited.append(time.monotonic() - began)
            assert caught.value.lsn == lsn
        assert 0.2 <= min(waited) < 2

        def later() -> None:
            time.sleep(0.3)
            notes.tide.admin.execute("UPDATE tidegate.watermark SET lsn = %s", [lsn])

        worker = threading.Thread(target=later)
        worker.start()
        assert len(tg.search(QUESTION, after=lsn, wait="20s", products=["team.note"])) == 3
        worker.join()


class TestLostConnections:
    def test_are_made_again(self, tg: Opened, notes: Notes) -> None:
        expected = ids(tg.search(QUESTION))
        for _ in range(2):
            notes.tide.admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert ids(tg.search(QUESTION)) == expected

    def test_are_told_where_they_cannot(self, kind: type, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(surface, "CONNECT_TIMEOUT_S", 0.5)
        settings, reader = Settings(_env_file=None), notes.reader()
        name = psycopg.conninfo.conninfo_to_dict(reader)["user"]
        with Opened(kind, reader, settings, embedders=notes.tide.embedders) as tg:
            assert tg.search(QUESTION)
            notes.tide.admin.execute(f"ALTER ROLE {name} NOLOGIN")  # type: ignore[arg-type]
            notes.tide.admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [name]
            )
            with pytest.raises(ConnectionFailed, match="no connection to the database"):
                tg.search(QUESTION)
            notes.tide.admin.execute(f"ALTER ROLE {name} LOGIN")  # type: ignore[arg-type]


class TestViews:
    def test_as_role(self, kind: type, notes: Notes) -> None:
        notes.reader()
        service = notes.reader("tidegate_reader")
        europe, states = (notes.reader(regions=[region]) for region in ("EU", "US"))
        names = [dsn.split("user=")[1].split()[0] for dsn in (europe, states, service)]
        for name in names[:2]:
            notes.tide.admin.execute(f"GRANT {name} TO {names[2]} WITH INHERIT FALSE")  # type: ignore[arg-type]
        with Opened(kind, service, Settings(_env_file=None), embedders=notes.tide.embedders) as tg:
            assert tg.search(QUESTION) == []
            with tg.as_role(names[0]) as one, tg.as_role(names[1]) as other:
                assert (ids(one.search(QUESTION)), ids(other.search(QUESTION))) == ([1, 3, 2], [9])
                assert other.ask(QUESTION).text == "Refunds of the US take 90 days. [1]"
                assert other.read(QUESTION)[1].citations[0].key == {"id": 9}
            with pytest.raises(UsageError, match="view of the client has ended"):
                one.search(QUESTION)
            with tg.as_role("tidegate_owner") as owner, pytest.raises(UsageError, match="may not act as"):
                owner.search(QUESTION)
            assert tg.search(QUESTION) == []
            assert tg.why_nothing().startswith("no product is offered")

    def test_a_token_that_says_nothing(self, tg: Opened) -> None:
        with pytest.raises(UsageError, match="no JWT"):
            tg.client.as_token("é")
        with tg.as_token("nonsense") as me:
            assert me.search(QUESTION) != []  # not a gateway: it is the login that counts


def test_a_role_for_all_of_the_client(kind: type, notes: Notes) -> None:
    reader = notes.reader(regions=["US"])
    name = reader.split("user=")[1].split()[0]
    with Opened(kind, notes.tide.dsn, Settings(_env_file=None), role=name, embedders=notes.tide.embedders) as tg:
        assert ids(tg.search(QUESTION)) == [9]


def test_what_cannot_be_opened(kind: type, notes: Notes, server_dsn: str) -> None:
    settings = Settings(_env_file=None)
    with pytest.raises(ConnectionFailed, match="may not act as"):
        Opened(kind, notes.reader(), settings, role="tidegate_owner")
    with pytest.raises(ConnectionFailed, match="cannot connect"):
        Opened(kind, "postgresql://nobody@127.0.0.1:9/none", settings)
    with pytest.raises(UsageError, match="DSN is not understood"):
        Opened(kind, "host", settings)
    with pytest.raises(NotInitialised, match="tidegate init"):
        Opened(kind, server_dsn, settings)


def test_a_closed_client_stays_closed(kind: type, notes: Notes) -> None:
    tg = Opened(kind, notes.reader(), Settings(_env_file=None), embedders=notes.tide.embedders)
    with tg, tg.as_token("x") as view:
        assert tg.search(QUESTION) != []
        tg.close()
        for asked in (tg, view):
            with pytest.raises(UsageError, match="is closed" if kind is Client else "is not open"):
                asked.search(QUESTION)
        tg.close()


def test_a_superuser_is_told_that_rules_hold_for_her(kind: type, notes: Notes) -> None:
    with Opened(kind, notes.tide.dsn, Settings(_env_file=None), embedders=notes.tide.embedders) as tg:
        assert tg.search(QUESTION) == []
        assert "for superusers, too; ask as somebody" in tg.why_nothing()


def test_many_at_once(kind: type, notes: Notes) -> None:
    """More calls than the pool has connections."""
    if kind is Client:
        with Client(notes.reader(), Settings(_env_file=None), embedders=notes.tide.embedders) as tg:
            found: list[list[int]] = []
            threads = [threading.Thread(target=lambda: found.append(ids(tg.search(QUESTION)))) for _ in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    else:

        async def gathered() -> list[list[int]]:
            settings = Settings(_env_file=None)
            async with AsyncClient(notes.reader(), settings, embedders=notes.tide.embedders) as tg:
                return [ids(hits) for hits in await asyncio.gather(*(tg.search(QUESTION) for _ in range(12)))]

        found = asyncio.run(gathered())
    assert found == [[1, 3, 2]] * 12


def test_the_loop_goes_on_while_the_database_and_the_model_work(notes: Notes) -> None:
    waits = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query ~ 'wait_for' AND pid <> pg_backend_pid()"

    async def ticks() -> None:
        settings = Settings(_env_file=None)
        async with AsyncClient(notes.reader(), settings, embedders=notes.tide.embedders) as tg:
            with pytest.raises(UsageError, match="open already"):
                await tg.__aenter__()
            notes.watermark("0s")
            with pytest.raises(NotIndexedYet):
                await tg.search(QUESTION, after="FFFF/0", wait="100ms")
            waiting = asyncio.create_task(tg.search(QUESTION, after="FFFF/0", wait="60s"))
            while not waiting.done() and not notes.tide.one(waits):
                await asyncio.sleep(0.01)
            for _ in range(10):
                await asyncio.sleep(0.01)
            assert not waiting.done()
            assert notes.tide.one(waits) == 1
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert ids(await tg.search(QUESTION)) == [1, 3, 2]
        with pytest.raises(UsageError, match="async with"):
            await tg.search(QUESTION)

    asyncio.run(ticks())


def test_the_loop_goes_on_while_a_model_works(notes: Notes) -> None:
    ticked = threading.Event()
    seen: list[bool] = []

    class Slow(Embedders):
        def of(self, model: str):  # type: ignore[no-untyped-def]
            ticked.clear()
            seen.append(ticked.wait(30))
            return notes.tide.embedders.of(model)

    async def ticks() -> None:
        settings = Settings(_env_file=None)
        async with AsyncClient(notes.reader(), settings, embedders=Slow(settings)) as tg:
            task = asyncio.create_task(tg.search(QUESTION))
            while not task.done():
                ticked.set()
                await asyncio.sleep(0.01)
            assert ids(task.result()) == [1, 3, 2]

    asyncio.run(ticks())
    assert seen
    assert all(seen)


def test_the_package_offers_both(notes: Notes) -> None:
    with tidegate.connect(notes.reader()) as tg:
        assert isinstance(tg, tidegate.Client)

    async def open_() -> None:
        async with tidegate.connect_async(notes.reader()) as tg:
            assert isinstance(tg, tidegate.AsyncClient)
            async with tg.as_token("x") as me:
                assert isinstance(me, tidegate.AsyncClient)

    asyncio.run(open_())
    for name in tidegate.__all__:
        assert getattr(tidegate, name) is not None
        assert name in dir(tidegate)
    with pytest.raises(AttributeError):
        tidegate.Nothing  # noqa: B018

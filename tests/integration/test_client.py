"""Both clients, blocking and awaited: the same calls, the same results, the same errors."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from tests.conftest import Tide
from tests.integration.notes import Notes, notes_of
from tests.integration.surface import Opened

import tidegate
from tidegate.database import ConnectionFailed, NotInitialised
from tidegate.errors import UsageError
from tidegate.query.async_client import AsyncClient
from tidegate.query.catalog import SearchRefused
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
        began = time.monotonic()
        with pytest.raises(NotIndexedYet, match=rf"up to {lsn} is in the index .* after 200 ms") as caught:
            tg.search(QUESTION, after=lsn, wait="200ms")
        assert 0.2 <= time.monotonic() - began < 2
        assert caught.value.lsn == lsn

        def later() -> None:
            time.sleep(0.3)
            notes.tide.admin.execute("UPDATE tidegate.watermark SET lsn = %s", [lsn])

        worker = threading.Thread(target=later)
        worker.start()
        assert len(tg.search(QUESTION, after=lsn, wait="20s", products=["team.note"])) == 3
        worker.join()


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
    async def ticks() -> int:
        count = 0
        settings = Settings(_env_file=None)
        async with AsyncClient(notes.reader(), settings, embedders=notes.tide.embedders) as tg:
            with pytest.raises(UsageError, match="open already"):
                await tg.__aenter__()
            notes.watermark("0s")
            task = asyncio.create_task(tg.search(QUESTION, after="FFFF/0", wait="500ms"))
            while not task.done():
                count += 1
                await asyncio.sleep(0.01)
            with pytest.raises(NotIndexedYet):
                await task
            waiting = asyncio.create_task(tg.search(QUESTION, after="FFFF/0", wait="60s"))
            await asyncio.sleep(0.2)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert ids(await tg.search(QUESTION)) == [1, 3, 2]
        with pytest.raises(UsageError, match="async with"):
            await tg.search(QUESTION)
        return count

    assert asyncio.run(ticks()) > 10


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
    with pytest.raises(AttributeError):
        tidegate.Nothing  # noqa: B018

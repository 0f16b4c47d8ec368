"""A budget of tokens a day: new texts wait for tomorrow, nothing else does, and nothing old is searchable meanwhile."""

from typing import Any

import pytest
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide, wait_until
from tests.integration.embedder import WatchedModel, WatchedModels
from tests.integration.offer import offer
from tests.integration.test_verify import verified

from tidegate.index.embedding.local_model import MODEL
from tidegate.observe.dead_letters import list_dead_letters

BUDGET = "      - {property: budget, vendor: tidegate, value: {tokens: %s, policy: %s}}\n      - property: rowAccess"
SENTENCES = [
    f"On day {n} the {thing} was moved to hall {n * 3 % 17}." for n in range(30) for thing in ("crane", "press")
]


def budgeted(tokens: int, policy: str) -> str:
    return SIMPLE_CONTRACT.replace("      - property: rowAccess", BUDGET % (tokens, policy))


@pytest.fixture
def notes(tide: Tide) -> WatchedModel:
    """team.note under a budget of 2,000 tokens, of which row 1 has taken some 1,000 and nothing is left."""
    tide.embedders = models = WatchedModels(tide.embedders.of(MODEL))
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute("INSERT INTO team.note (id, body) VALUES (1, %s)", [" ".join(SENTENCES)])
    tide.apply(budgeted(2000, "queue"))
    tide.run()
    tide.live("team.note")
    spend(tide, 2000)
    models.of(MODEL).texts.clear()
    return models.of(MODEL)


def spend(tide: Tide, tokens: int) -> None:
    """As another worker would have counted it; a negative number gives it back."""
    wait_until(lambda: tide.one("SELECT count(*) FROM tidegate.cost_bucket") > 0, 5, "figures are written")
    tide.admin.execute("UPDATE tidegate.cost_bucket SET tokens = tokens + %s", [tokens])
    budgets = tide.pipelines[-1]._worker._figures.budgets
    spent = "SELECT sum(tokens) FROM tidegate.cost_bucket"
    wait_until(lambda: budgets._spent.get("team.note") == tide.one(spent), 10, "the worker has read it")


def state(tide: Tide) -> list[tuple[Any, ...]]:
    return tide.rows("SELECT key, state FROM tidegate.ledger ORDER BY key")


def test_new_texts_wait_and_nothing_else(tide: Tide, notes: WatchedModel) -> None:
    run = tide.admin.execute
    before = tide.rows("SELECT chunk_no, content FROM rag_team.note ORDER BY 1")
    edited = [*SENTENCES[:30], "Something else happened here.", *SENTENCES[31:]]
    run("UPDATE team.note SET body = %s, region = 'US' WHERE id = 1", [" ".join(edited)])
    run("INSERT INTO team.note (id, body) VALUES (2, 'never seen before')")
    run("INSERT INTO team.note (id, body) VALUES (3, %s)", [before[0][1]])
    tide.caught_up()
    assert notes.texts == []
    # What is searchable of row 1 is of its new version, and under its new rules.
    found = tide.rows("SELECT content, region FROM rag_team.note WHERE id = 1")
    chunks = notes.splitter(200, 0, None, None).chunks(" ".join(edited))
    assert {region for _, region in found} == {"US"}
    assert {content for content, _ in found} == set(chunks) & {content for _, content in before}
    assert 0 < len(found) < len(chunks)
    assert tide.rows("SELECT count(*) FROM rag_team.note WHERE id = 2") == [(0,)]
    # Its text was embedded before: the cache has it.
    assert tide.rows("SELECT content FROM rag_team.note WHERE id = 3") == [(before[0][1],)]
    assert state(tide) == [('{"id":1}', "waiting"), ('{"id":2}', "waiting"), ('{"id":3}', "indexed")]
    letters = list_dead_letters(tide.admin)
    assert [(letter.key, letter.kind) for letter in letters] == [('{"id":1}', "budget"), ('{"id":2}', "budget")]
    midnight = "SELECT date_trunc('day', clock_timestamp(), 'UTC') + interval '1 day'"
    assert all(abs((letter.retry_at - tide.one(midnight)).total_seconds()) < 5 for letter in letters if letter.retry_at)

    assert verified(tide).ok

    # Access changes and deletes go on, however often; the wait stays until midnight.
    for region in ("EU", "APAC"):
        run("UPDATE team.note SET region = %s", [region])
        tide.caught_up()
        assert {row[0] for row in tide.rows("SELECT DISTINCT region FROM rag_team.note")} == {region}
    assert all(
        abs((letter.retry_at - tide.one(midnight)).total_seconds()) < 5
        for letter in list_dead_letters(tide.admin)
        if letter.retry_at
    )
    run("DELETE FROM team.note WHERE id = 2")
    tide.caught_up()
    assert [letter.key for letter in list_dead_letters(tide.admin)] == ['{"id":1}']
    assert notes.texts == []

    # The next day.
    spend(tide, -2000)
    wait_until(lambda: list_dead_letters(tide.admin) == [], 10, "nothing waits any more")
    assert tide.rows("SELECT chunk_no, content, region FROM rag_team.note WHERE id = 1 ORDER BY 1") == [
        (number, content, "APAC") for number, content in enumerate(chunks)
    ]
    assert state(tide) == [('{"id":1}', "indexed"), ('{"id":2}', "deleted"), ('{"id":3}', "indexed")]


def test_a_waiting_row_is_deleted_and_removed_from_the_table_is_gone(tide: Tide, notes: WatchedModel) -> None:
    tide.admin.execute("UPDATE team.note SET body = body || ' One more.' WHERE id = 1")
    tide.caught_up()
    assert tide.one("SELECT count(*) FROM rag_team.note") > 0
    tide.admin.execute("DELETE FROM team.note")
    tide.caught_up()
    assert tide.one("SELECT count(*) FROM rag_team.note") == 0
    assert list_dead_letters(tide.admin) == []


@pytest.mark.parametrize(("tokens", "policy"), [(100_000, "queue"), (2000, "warn")])
def test_a_raised_budget_is_not_waited_for(tide: Tide, notes: WatchedModel, tokens: int, policy: str) -> None:
    run = tide.admin.execute
    run("UPDATE team.note SET body = 'Something else.' WHERE id = 1")
    run("INSERT INTO team.note (id, body) SELECT n, 'note ' || n FROM generate_series(2, 250) n")
    tide.caught_up()
    assert len(list_dead_letters(tide.admin)) == 250
    assert tide.one("SELECT count(*) FROM rag_team.note") == 0
    tide.apply(budgeted(tokens, policy))
    wait_until(lambda: list_dead_letters(tide.admin) == [], 20, "nothing waits any more")
    assert tide.one("SELECT count(*) FROM rag_team.note WHERE content IN ('Something else.', 'note ' || id)") == 250


def test_another_product_and_the_policy_warn_are_not_held_up(tide: Tide, notes: WatchedModel) -> None:
    run = tide.admin.execute
    run("CREATE TABLE team.item (id int PRIMARY KEY, title text)")
    tide.apply(offer("team.item", {"id": "integer", "title": "text"}, embed=["title"]))
    tide.apply(budgeted(1, "warn"))
    tide.live("team.item")
    run("INSERT INTO team.item VALUES (1, 'without a budget')")
    run("INSERT INTO team.note (id, body) VALUES (5, 'beyond the budget')")
    tide.caught_up()
    assert sorted(notes.texts) == ["beyond the budget", "without a budget"]
    assert list_dead_letters(tide.admin) == []

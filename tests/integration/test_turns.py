"""One product's flood does not starve another, nor its own deletes."""

import time
from collections.abc import Sequence

from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide, wait_until
from tests.integration.embedder import WatchedModel, WatchedModels
from tests.integration.offer import offer

from tidegate.index.embedding.embedder import Vectors
from tidegate.index.embedding.local_model import MODEL

FLOOD = 1200


def test_a_flood_of_one_product_holds_up_neither_another_nor_a_delete(tide: Tide) -> None:
    tide.embedders = models = WatchedModels(tide.embedders.of(MODEL))
    run = tide.admin.execute
    run(SIMPLE_TABLE)
    run("CREATE TABLE team.item (id int PRIMARY KEY, title text)")
    tide.apply(SIMPLE_CONTRACT)
    tide.apply(offer("team.item", {"id": "integer", "title": "text"}, embed=["title"]))
    run("INSERT INTO team.note (id, title) VALUES (100000, 'goes')")
    slow(models.of(MODEL))
    tide.run()
    tide.live("team.note")
    tide.live("team.item")
    run("INSERT INTO team.note (id, title) SELECT n, 'note ' || n FROM generate_series(1, %s) n", [FLOOD])
    indexed = "SELECT count(*) FROM rag_team.note"
    wait_until(lambda: tide.one(indexed) > 20, 20, "the flood is being indexed")
    for turn in range(3):
        before = tide.one(indexed)
        run("INSERT INTO team.item VALUES (%s, %s)", [turn, f"item {turn}"])
        if turn == 0:
            run("DELETE FROM team.note WHERE id = 100000")
        wait_until(lambda n=turn: tide.one("SELECT count(*) FROM rag_team.item") > n, 30, "the other product's row")  # type: ignore[misc]
        # Without turns a batch of 512 rows is between it and the model.
        assert tide.one(indexed) - before < 300
    assert tide.one("SELECT count(*) FROM rag_team.note WHERE id = 100000") == 0
    assert tide.one(indexed) < FLOOD
    tide.caught_up(60)
    assert tide.one(indexed) == FLOOD
    assert len(models.of(MODEL).texts) == len(set(models.of(MODEL).texts))


def slow(model: WatchedModel) -> None:
    """It takes 10 ms a text more."""
    embed = model.embed

    def slower(texts: Sequence[str]) -> Vectors:
        time.sleep(0.01 * len(texts))
        return embed(texts)

    model.embed = slower  # type: ignore[method-assign]

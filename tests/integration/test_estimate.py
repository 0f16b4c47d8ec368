"""What a plan says that its backfill costs."""

import pytest
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide

from tidegate.govern import estimate as module
from tidegate.govern.estimate import Estimate, estimate
from tidegate.govern.plan import make_plan
from tidegate.index.embedding.local_model import MODEL

WORDS = "repeat('some words of row ' || n || '. ', n)"


def estimated(tide: Tide, text: str, **options: bool) -> Estimate | None:
    contract = tide.bumped(tide.contract(text))
    embedder = tide.embedders.of(contract.embedding.model)
    return estimate(tide.admin, make_plan(tide.admin, contract, embedder, **options), embedder)


def test_rows_chunks_and_tokens_of_a_small_table(tide: Tide) -> None:
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute(f"INSERT INTO team.note (id, body) SELECT n, {WORDS} FROM generate_series(1, 60) n")
    splitter = tide.embedders.of(MODEL).splitter(200, 0)
    texts = [chunk for (body,) in tide.rows("SELECT body FROM team.note") for chunk in splitter.chunks(body)]
    found = estimated(tide, SIMPLE_CONTRACT)
    assert found is not None
    assert (found.rows, found.sampled, found.embedded, found.usd) == (60, 60, True, 0.0)
    assert (found.chunks, found.tokens) == (len(texts), sum(map(splitter.tokens, texts)))
    assert "at no price" in found.sentence

    tide.apply(SIMPLE_CONTRACT)
    assert estimated(tide, SIMPLE_CONTRACT) is None
    carried = SIMPLE_CONTRACT.replace("name: secret, logicalType: string, physicalType: text, classification: restricted",
                                      "name: secret, logicalType: string, physicalType: text, tags: [filter]")  # fmt: skip
    unchanged = estimated(tide, carried)
    assert unchanged is not None
    assert not unchanged.embedded
    assert "only what is missing" in unchanged.sentence
    for text, options in ((SIMPLE_CONTRACT.replace("tokens: 200", "tokens: 100"), {}), (carried, {"rebuild": True})):
        anew = estimated(tide, text, **options)
        assert anew is not None
        assert anew.embedded
        assert anew.tokens == found.tokens


def test_a_large_table_is_sampled(tide: Tide, monkeypatch: pytest.MonkeyPatch) -> None:
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute(
        f"INSERT INTO team.note (id, body) SELECT n, {WORDS.replace(', n)', ', n % 20)')} FROM generate_series(1, 9000) n"
    )
    tide.admin.execute("ANALYZE team.note")
    whole = estimated(tide, SIMPLE_CONTRACT)
    monkeypatch.setattr(module, "_WHOLE", 3000)
    found = estimated(tide, SIMPLE_CONTRACT)
    assert whole is not None
    assert found is not None
    assert found.rows == whole.rows == 9000
    assert found.sampled == module.SAMPLE_ROWS
    assert 0.6 < found.tokens / whole.tokens < 1.6


def test_a_source_that_cannot_be_sampled_in_time_gives_none(tide: Tide, monkeypatch: pytest.MonkeyPatch) -> None:
    tide.admin.execute(SIMPLE_TABLE)
    tide.admin.execute(
        "INSERT INTO team.note (id, body) SELECT n, repeat('word ', 300) FROM generate_series(1, 3000) n"
    )
    monkeypatch.setattr(module, "_TIMEOUT_MS", 1)
    assert estimated(tide, SIMPLE_CONTRACT) is None
    assert tide.one("SHOW statement_timeout") == "0"

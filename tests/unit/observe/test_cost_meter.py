"""What is counted, and how tokens are estimated where nothing counts them."""

import pytest

from tidegate.index.embedding.price import price_per_token
from tidegate.observe.cost import ProductCost
from tidegate.observe.cost_meter import FIGURES, CostMeter

WHERE = ("team.note", "local/x")
OTHER = ("team.item", "local/x")


def test_figures_are_summed_by_product_and_given_once():
    meter = CostMeter()
    assert meter.drain() is None
    meter.add(WHERE, changes=3, coalesced=2, indexed=1, naive_texts=6, naive_characters=400)
    meter.add(WHERE, changes=1, unchanged=1)
    meter.add(OTHER, backfilled=1)
    meter.embedded(WHERE, ["one two", "three"], lambda text: len(text.split()))
    drained = meter.drain()
    assert drained is not None
    assert drained.keys() == {"product", "model", *FIGURES}
    assert (drained["product"], drained["model"]) == (["team.note", "team.item"], ["local/x", "local/x"])
    assert {name: drained[name][0] for name in FIGURES if drained[name][0]} == {
        "changes": 4, "coalesced": 2, "unchanged": 1, "indexed": 1, "texts": 2, "tokens": 3,
        "naive_texts": 6, "naive_tokens": 100,
    }  # fmt: skip
    assert meter.drain() is None


def test_tokens_are_estimated_by_what_was_counted_of_the_product():
    meter = CostMeter()
    assert meter.estimate(WHERE, 1000) == 250
    meter.embedded(WHERE, ["x" * 1000] * 500, lambda text: len(text) // 2)
    meter.drain()
    assert 490 <= meter.estimate(WHERE, 1000) <= 500
    assert meter.estimate(OTHER, 1000) == 250


def test_shares_and_money():
    cost = ProductCost("team.note", "openai/x", 10, 0, 0, 0, 6, 4, 30, 1, 3, 600, 80, 9000, 2e-8)
    assert cost.cache_hit_rate == 0.25
    assert cost.share_embedded == 3 / 80
    assert cost.usd == pytest.approx(1.2e-5)
    assert cost.naive_usd == pytest.approx(1.8e-4)
    nothing = ProductCost("team.note", "odd/x", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert (nothing.cache_hit_rate, nothing.share_embedded, nothing.usd, nothing.naive_usd) == (None,) * 4


def test_a_local_model_costs_nothing():
    assert price_per_token("local/all-minilm-l6-v2") == 0.0

"""Recall and nDCG against values worked out by hand."""

import numpy as np
import pytest

from tidegate.bench.recall import Truth, ndcg

# Four rows at 0, 30, 60 and 90 degrees; the question is at 0.
ANGLES = np.radians([0, 30, 60, 90])
VECTORS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)
QUERY = VECTORS[:1]
EVERYONE = np.ones(4, dtype=np.bool_)


def test_all_of_the_nearest_is_one_whatever_the_order() -> None:
    truth = Truth(VECTORS, EVERYONE, QUERY, 2)
    assert truth.recall(0, [1, 0]) == 1.0


def test_a_far_row_counts_for_nothing_and_a_row_counts_once() -> None:
    truth = Truth(VECTORS, EVERYONE, QUERY, 2)
    assert truth.recall(0, [0, 3]) == 0.5
    assert truth.recall(0, [0, 0]) == 0.5
    assert truth.recall(0, [3, 2]) == 0.0
    assert truth.recall(0, []) == 0.0


def test_only_the_first_k_count() -> None:
    assert Truth(VECTORS, EVERYONE, QUERY, 2).recall(0, [3, 2, 0, 1]) == 0.0


def test_the_nearest_are_those_of_the_visible() -> None:
    visible = np.array([False, True, False, True])
    truth = Truth(VECTORS, visible, QUERY, 2)
    assert truth.wanted == 2
    assert truth.recall(0, [1, 3]) == 1.0


def test_fewer_visible_rows_than_k_are_all_there_is_to_find() -> None:
    truth = Truth(VECTORS, np.array([False, True, False, False]), QUERY, 2)
    assert truth.wanted == 1
    assert truth.recall(0, [1]) == 1.0
    assert truth.recall(0, []) == 0.0


def test_a_row_that_is_not_visible_is_an_error_and_not_a_miss() -> None:
    with pytest.raises(ValueError, match="row 0 was found by somebody who may not see it"):
        Truth(VECTORS, np.array([False, True, True, True]), QUERY, 2).recall(0, [0])


def test_either_of_two_equal_rows_is_right() -> None:
    twins = np.concatenate([VECTORS, VECTORS[1:2]])
    truth = Truth(twins, np.ones(5, dtype=np.bool_), QUERY, 2)
    assert truth.recall(0, [0, 1]) == truth.recall(0, [0, 4]) == 1.0


def test_truth_is_the_same_over_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    made = np.random.default_rng(1).standard_normal((500, 8)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    visible = np.random.default_rng(2).random(500) < 0.3
    nearest = [row for row in np.argsort(-(made @ made[0])) if visible[row]][:10]
    monkeypatch.setattr("tidegate.bench.recall._BLOCK", 64)
    truth = Truth(made, visible, made[:1], 10)
    assert truth.recall(0, nearest) == 1.0
    farthest = [row for row in range(500) if visible[row] and row not in nearest][:5]
    assert truth.recall(0, [*nearest[:5], *farthest]) == 0.5


def test_ndcg_by_hand() -> None:
    gains = {"a": 3.0, "b": 2.0, "c": 1.0}
    best = 3 / 1 + 2 / 1.5849625 + 1 / 2
    assert ndcg(["a", "b", "c"], gains) == 1.0
    assert ndcg(["c", "x", "a"], gains) == pytest.approx((1 / 1 + 3 / 2) / best)
    assert ndcg(["x", "y"], gains) == 0.0
    assert ndcg(["x", "a"], gains, k=1) == 0.0
    assert ndcg(["b"], gains, k=1) == pytest.approx(2 / 3)
    assert ndcg(["a"], {}) == 0.0

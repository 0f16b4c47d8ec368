"""The mean distance of two chunks, against all pairs one by one."""

import itertools

import numpy as np
import pytest

from tidegate.index.model_scale import mean_distance


def test_all_pairs() -> None:
    vectors = np.random.default_rng(7).normal(size=(12, 5)).astype(np.float32) + 1
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [1 - float(unit[a] @ unit[b]) for a, b in itertools.combinations(range(12), 2)]
    assert mean_distance(vectors) == pytest.approx(np.mean(pairs), abs=1e-5)


def test_the_same_text_is_no_distance() -> None:
    assert mean_distance(np.ones((4, 3), dtype=np.float32)) == pytest.approx(0, abs=1e-6)

"""Generated vectors that lie as those of texts do: clusters of uneven size within topics, of few effective dimensions.

A point is its cluster's centre and noise whose variance falls off over the directions, as the spectrum of real
embeddings does; isotropic noise in 384 dimensions would make all points of a cluster equally far from each other, and
"the nearest ten" a lottery.
"""

import numpy as np

from tidegate.index.embedding.embedder import Vectors

_TOPICS, _CLUSTERS = 100, 2000
_SPREAD = 0.75
"""Length of the noise; the centre has length 1."""
_FALL = 0.7
"""The n-th direction's standard deviation is n to the power of minus this."""
_BLOCK = 50_000


def clustered(count: int, dimension: int, seed: int, part: int = 0) -> Vectors:
    """Vectors of length 1, `(count, dimension) float32`.

    Args:
        part: another sample (queries, say) of the same clusters.
    """
    shape = np.random.default_rng(seed)
    topics = _unit(shape.standard_normal((_TOPICS, dimension), dtype=np.float32))
    own = _unit(shape.standard_normal((_CLUSTERS, dimension), dtype=np.float32))
    centres = _unit(topics[np.arange(_CLUSTERS) % _TOPICS] + own)
    weights = 1.0 / (10 + shape.permutation(_CLUSTERS)) ** 0.6
    directions, _ = np.linalg.qr(shape.standard_normal((dimension, dimension)))
    scale = np.arange(1, dimension + 1) ** -_FALL
    noise = (directions * (scale * _SPREAD / np.linalg.norm(scale))).T.astype(np.float32)

    chosen = np.random.default_rng((seed, 1 + part))
    made = np.empty((count, dimension), dtype=np.float32)
    for first in range(0, count, _BLOCK):
        size = min(_BLOCK, count - first)
        of = chosen.choice(_CLUSTERS, size, p=weights / weights.sum())
        made[first : first + size] = _unit(
            centres[of] + chosen.standard_normal((size, dimension), dtype=np.float32) @ noise
        )
    return made


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit

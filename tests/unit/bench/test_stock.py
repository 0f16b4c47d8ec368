"""What benchmarks of search are made of: shares, vectors, passages, their cache."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from tidegate.bench.churn import Churn
from tidegate.bench.clusters import clustered
from tidegate.bench.collection import Collection
from tidegate.bench.entitlement import PRINCIPALS, SCOPES, scopes_in_runs, scopes_mixed
from tidegate.bench.passages import LONGEST, SHORTEST, passages, split
from tidegate.bench.vector_cache import VectorCache
from tidegate.index.embedding.embedder import Splitter, Vectors

PROSE = (
    "The tide comes in twice a day and leaves behind what it can no longer carry. Whoever walks along the shore "
    "in the morning finds wood, weed and now and then a bottle. None of it was there the evening before, and none of "
    "it will be there the evening after. The gate in the dyke stands open at ebb and shuts by itself when the water "
    "rises. Nobody has to watch it, which is why everybody trusts it."
)


@pytest.mark.parametrize("scopes", [scopes_in_runs(200_000), scopes_mixed(200_000, 1)])
def test_principals_see_the_share_that_they_are_called_by(scopes: np.ndarray) -> None:
    shares = [float(principal.sees(scopes).mean()) for principal in PRINCIPALS]
    assert shares == pytest.approx([1, 0.2, 0.03, 0.02, 0.005, 0.0005], rel=0.02)


def test_three_percent_lie_in_forty_scopes() -> None:
    spread = next(principal for principal in PRINCIPALS if "40" in principal.label)
    assert len(set(spread.scopes)) == 40


def test_generated_vectors_are_clustered_repeatable_and_held_out() -> None:
    made, again, held_out = clustered(3000, 64, 1), clustered(3000, 64, 1), clustered(50, 64, 1, part=1)
    assert np.array_equal(made, again)
    assert np.linalg.norm(made, axis=1) == pytest.approx(np.ones(3000), abs=1e-5)
    nearest = (held_out @ made.T).max(axis=1)
    assert 0.3 < np.median(nearest) < 0.999  # near something, equal to nothing


def test_a_tenth_changes_and_the_shares_stay() -> None:
    rows = 2000
    collection = Collection([f"row {n}" for n in range(rows)], clustered(rows, 16, 1), scopes_mixed(rows, 1))
    before = np.bincount(collection.scope_of, minlength=len(SCOPES))
    churn = Churn.of(collection, 1)
    assert len(churn.rewritten) == len(churn.moved) == 100
    assert not set(churn.rewritten.tolist()) & set(churn.moved.tolist())
    churn.onto(collection, [f"other {n}" for n in range(100)], clustered(100, 16, 1, part=2))
    assert sum(body.startswith("other") for body in collection.bodies) == 100
    assert np.array_equal(np.bincount(collection.scope_of, minlength=len(SCOPES)), before)


def test_passages_are_prose_of_a_length_cut_between_sentences() -> None:
    found = list(split(f"def f(x):\n    return x + 1 / 2\n\n{PROSE}\n\n| a | table |\n\nToo short.\n\n\0{PROSE[:200]}"))
    assert len(found) == 2
    assert " ".join(found) == PROSE
    assert all(SHORTEST <= len(text) <= LONGEST for text in found)


def test_passages_come_from_documents_docstrings_and_manuals_once(tmp_path: Path) -> None:
    first, second = split(PROSE)
    (tmp_path / "man" / "man1").mkdir(parents=True)
    (tmp_path / "README.md").write_text(first)
    (tmp_path / "code.py").write_text(f'"""{second}"""\n\ndef f():\n    """{first}"""\n')
    manual = ".TH TIDE 1\n.SH DESCRIPTION\n" + PROSE.replace("gate", "\\fIsluice\\fR").replace(". ", ".\n")
    (tmp_path / "man" / "man1" / "tide.1.gz").write_bytes(gzip.compress(manual.encode()))
    found = passages(6, 1, [tmp_path])
    real = [passage.text for passage in found if passage.origin != "composed"]
    assert len(real) == 3
    assert set(real) == {first, second, second.replace("gate", "sluice")}
    assert sum(passage.origin == "composed" for passage in found) == 3
    assert found == passages(6, 1, [tmp_path])


class _Counting:
    """An embedder that counts what it is given."""

    model, dimension, max_tokens = "local/counting", 2, None

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def embed_bulk(self, texts: list[str]) -> Vectors:
        self.embedded += texts
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)

    def embed(self, texts: list[str]) -> Vectors:
        return self.embed_bulk(texts)

    def prepare(self) -> None: ...

    def splitter(self, tokens: int, overlap: int) -> Splitter:
        raise NotImplementedError


def test_a_text_is_embedded_once_whatever_was_cut_off(tmp_path: Path) -> None:
    embedder = _Counting()

    def embed(*texts: str) -> list[float]:
        return [float(row[0]) for row in VectorCache(tmp_path, embedder).embed(texts, lambda done: None)]

    assert embed("a", "bb", "a") == [1, 2, 1]
    assert embed("ccc", "bb") == [3, 2]
    assert embedder.embedded == ["a", "bb", "ccc"]
    (vectors,) = tmp_path.glob("*.f32")
    with vectors.open("ab") as file:  # a run that was killed between the two files
        file.write(b"\0" * 11)
    assert embed("dddd", "ccc", "a") == [4, 3, 1]
    (digests,) = tmp_path.glob("*.sha256")
    digests.write_bytes(digests.read_bytes()[:40])
    assert embed("a", "bb") == [1, 2]
    assert embedder.embedded == ["a", "bb", "ccc", "dddd", "bb"]

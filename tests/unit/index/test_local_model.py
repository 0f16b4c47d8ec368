"""The local model as it is shipped: what its vectors are, and that its files are checked."""

from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

from tidegate.index.embedding import local_model
from tidegate.index.embedding.embedder import ModelUnknown
from tidegate.index.embedding.local_model import DIMENSION, LocalModel


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel(threads=1)


def test_vectors_are_384_long_normalised_and_float32(model: LocalModel):
    vectors = model.embed(["a", "", "日本語 👩‍👩‍👧‍👦", "word " * 5000])
    assert vectors.shape == (4, DIMENSION) == (4, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert model.embed([]).shape == model.embed_bulk([]).shape == (0, 384)


def test_the_same_text_gives_the_same_vector_alone_and_in_company(model: LocalModel):
    texts = ["refunds are paid within 14 days", "the cat sat on the mat", "refunds are paid within 14 days"]
    together = model.embed(texts)
    assert (together[0] == together[2]).all()
    assert (together[0] == model.embed(texts[:1])[0]).all()
    assert np.allclose(together, model.embed_bulk(texts), atol=1e-3)


def test_bulk_waits_while_somebody_waits_but_not_for_ever(model: LocalModel, monkeypatch: pytest.MonkeyPatch):
    model.embed_bulk(["loads the model"])
    monkeypatch.setattr(local_model, "_PATIENCE_S", 30.0)
    with ThreadPoolExecutor(1) as other, model._first():
        bulk = other.submit(model.embed_bulk, ["behind"])
        assert wait([bulk], 0.5).not_done
        model._urgent -= 1  # as embed does at its end
        with model._way:
            model._way.notify_all()
        assert wait([bulk], 10).done
        model._urgent += 1
        monkeypatch.setattr(local_model, "_PATIENCE_S", 0.05)
        assert wait([other.submit(model.embed_bulk, ["impatient"])], 10).done
    assert model._urgent == 0


def test_near_in_meaning_is_near(model: LocalModel):
    question, answer, other = model.embed(
        ["how do I get my money back", "refunds are paid within 14 days", "the museum opens at nine on Sundays"]
    )
    assert question @ answer > question @ other + 0.1


def test_the_splitter_keeps_to_what_the_model_reads(model: LocalModel):
    assert model.max_tokens == 254
    chunks = model.splitter(model.max_tokens, 0).chunks("word " * 1000)
    encoder = local_model._tokenizer(truncate=False)
    assert max(len(encoder.encode(chunk).ids) for chunk in chunks) <= 256


def test_a_file_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch):
    package, name, _ = local_model._TOKENIZER_FILE
    monkeypatch.setattr(local_model, "_TOKENIZER_FILE", (package, name, "0" * 64))
    with pytest.raises(ModelUnknown, match=r"has sha256 be50c.*expected 0{64}; reinstall package"):
        LocalModel(threads=1).splitter(200, 0)


def test_a_file_that_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local_model, "_MODEL_FILE", ("tidegate", "no/model.onnx", "0"))
    with pytest.raises(ModelUnknown, match=r'model\.onnx of package "tidegate" is missing; reinstall'):
        LocalModel(threads=1).embed(["x"])

"""Embedding models behind litellm: `openai/…`, `ollama/…`, any OpenAI-compatible server."""

import logging
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

from tidegate.errors import UsageError
from tidegate.index.chunking import TokenSplitter
from tidegate.index.embedding.embedder import EmbedderUnavailable, ModelUnknown, Splitter, TextRefused, Vectors
from tidegate.index.embedding.litellm_module import litellm

log = logging.getLogger(__name__)


class LitellmModel:
    """A remote embedding model.

    Args:
        model: litellm's name of it, `provider/name`.
        api_base: base URL of a server that speaks the provider's protocol; None: the provider's own.
        timeout_s: of one call, seconds. A call is not repeated here: who calls knows what else waits.
        batch: texts in one call.
    """

    max_tokens: int | None = None

    def __init__(self, model: str, api_base: str | None, timeout_s: float, batch: int):
        self.model = model
        self._api_base = api_base
        self._timeout_s = timeout_s
        self._batch = batch

    @cached_property
    def dimension(self) -> int:
        """See Embedder: asks the model once.

        Raises:
            ModelUnknown: it refuses any text.
        """
        try:
            return int(self.embed(["dimension"]).shape[1])
        except TextRefused as refused:
            raise ModelUnknown(
                f"{refused}; is there such a model? Names are litellm's provider/name, e.g. "
                "openai/text-embedding-3-small, and TIDEGATE_API_BASE says where another server is"
            ) from None

    @cached_property
    def ruler(self) -> str | None:
        """See Embedder: the tiktoken encoding with which litellm counts for this model."""
        try:
            chosen = litellm().utils.select_tokenizer(self.model)
            encoding = import_module("litellm.litellm_core_utils.token_counter").openai_tokenizer_encoding(self.model)
        except (AttributeError, ImportError, UsageError):  # another release of litellm, or none
            return None
        return f"tiktoken {encoding.name}" if chosen["type"] == "openai_tokenizer" else None

    def prepare(self) -> None:
        """See Embedder."""
        litellm()

    def splitter(self, tokens: int, overlap: int, minimum: int | None = None, target: int | None = None) -> Splitter:
        """See Embedder: counted as litellm counts for this model (an estimate where it knows no tokenizer)."""
        return TokenSplitter(
            lambda text: litellm().token_counter(model=self.model, text=text), tokens, overlap, minimum, target
        )

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See Embedder."""
        parts = [self._call(texts[at : at + self._batch]) for at in range(0, len(texts), self._batch)]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), dtype=np.float32)

    embed_bulk = embed

    def _call(self, texts: Sequence[str]) -> Vectors:
        module = litellm()
        try:
            answer = module.embedding(
                model=self.model,
                input=list(texts),
                api_base=self._api_base,
                timeout=self._timeout_s,
                num_retries=0,
                max_retries=0,
                encoding_format="float",
            )
        except (module.exceptions.BadRequestError, module.exceptions.UnprocessableEntityError) as error:
            raise TextRefused(f'model "{self.model}" refuses a text: {_kind(error)}') from None
        except Exception as error:  # litellm maps every provider's errors, but not onto one base class
            raise EmbedderUnavailable(f'model "{self.model}" does not answer: {_kind(error)}') from None
        vectors = self._vectors(answer, len(texts))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        normalised: Vectors = (vectors / np.clip(lengths, 1e-12, None)).astype(np.float32)
        return normalised

    def _vectors(self, answer: Any, expected: int) -> Vectors:
        try:
            rows = sorted(answer.data, key=lambda row: int(row["index"]))
            vectors = np.asarray([row["embedding"] for row in rows], dtype=np.float32)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EmbedderUnavailable(
                f'model "{self.model}" gave an answer of another form: {type(error).__name__}'
            ) from None
        if vectors.ndim != 2 or len(vectors) != expected or not np.isfinite(vectors).all():
            raise EmbedderUnavailable(f'model "{self.model}" gave {len(vectors)} vectors for {expected} texts')
        return vectors


def _kind(error: BaseException) -> str:
    """The error without the text that was sent: providers like to quote it."""
    status = getattr(error, "status_code", None)
    return f"{type(error).__name__}{f' (HTTP {status})' if status else ''}"

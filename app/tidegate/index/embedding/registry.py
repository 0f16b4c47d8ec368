"""Model names to embedders."""

import threading

from tidegate.index.embedding.embedder import Embedder, ModelUnknown
from tidegate.index.embedding.litellm_model import LitellmModel
from tidegate.index.embedding.local_model import MODEL, LocalModel
from tidegate.settings import Settings


class Embedders:
    """The embedders in use, one a model, made when first asked for. Thread-safe."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._open: dict[str, Embedder] = {}
        self._lock = threading.Lock()

    def of(self, model: str) -> Embedder:
        """The embedder of a contract's `model`.

        Raises:
            ModelUnknown: `local/…` of another name, or no `provider/name`.
        """
        with self._lock:
            if model not in self._open:
                self._open[model] = self._make(model)
            return self._open[model]

    def _make(self, model: str) -> Embedder:
        if model == MODEL:
            return LocalModel()
        provider, slash, name = model.partition("/")
        if provider == "local" or not slash or not name:
            raise ModelUnknown(
                f'there is no embedding model "{model}"; the local one is "{MODEL}", others are litellm\'s '
                "provider/name, e.g. openai/text-embedding-3-small"
            )
        settings = self._settings
        return LitellmModel(model, settings.api_base, settings.embedding_timeout_s, settings.embedding_batch)

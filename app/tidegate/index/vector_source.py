"""Where the vectors of chunks come from: the batch itself, the cache, the model."""

from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.database import Connection
from tidegate.index.embedding.embedder import Embedder, EmbedderUnavailable
from tidegate.index.embedding_cache import EmbeddingCache, Vector
from tidegate.index.product import Product
from tidegate.observe.cost_meter import CostMeter


@dataclass(frozen=True, slots=True)
class Wanted:
    """A chunk's text whose vector is to be had."""

    product: Product
    hash: bytes
    text: str


class VectorSource:
    """The vectors of one batch after the other, of one model. A text is sent once, however many rows have it.

    Args:
        bulk: embed for throughput, behind what others embed.
    """

    def __init__(self, embedder: Embedder, cache: EmbeddingCache, meter: CostMeter, *, bulk: bool):
        self._embedder, self._cache, self._meter = embedder, cache, meter
        self._embed = embedder.embed_bulk if bulk else embedder.embed
        self._known: dict[bytes, Vector] = {}

    def begin(self, connection: Connection, wanted: Sequence[Wanted]) -> None:
        """Begins a batch: looks all its texts up. The connection is not used after it."""
        self._known = {}
        if wanted:
            hashes = {each.hash for each in wanted}
            self._known = self._cache.find(connection, self._embedder.model, hashes, wanted[0].product.dimension)

    def knows(self, wanted: Wanted) -> bool:
        """Whether the vector is there without the model."""
        return wanted.hash in self._known

    def missing(self, wanted: Sequence[Wanted]) -> list[Wanted]:
        """Those that the model will be asked for."""
        return list({each.hash: each for each in wanted if each.hash not in self._known}.values())

    def vectors(self, wanted: Sequence[Wanted]) -> list[Vector]:
        """A vector each.

        Raises:
            EmbedderUnavailable, TextRefused: see Embedder.
        """
        sent = self.missing(wanted)
        if sent:
            vectors = self._embed([each.text for each in sent])
            for each in sent:
                self._check(each.product, vectors.shape[1])
            new = {each.hash: vector for each, vector in zip(sent, vectors, strict=True)}
            self._known |= new
            self._cache.put(self._embedder.model, new)
            for product in {each.product.product_id: each.product for each in sent}.values():
                texts = [each.text for each in sent if each.product is product]
                self._meter.embedded(product.cost_place, texts, product.splitter.tokens)
        for product in {each.product.product_id: each.product for each in wanted}.values():
            asked = sum(each.product is product for each in wanted)
            saved = asked - sum(each.product is product for each in sent)
            if saved:
                self._meter.add(product.cost_place, cache_hits=saved)
        return [self._known[each.hash] for each in wanted]

    def _check(self, product: Product, dimension: int) -> None:
        if dimension != product.dimension:
            raise EmbedderUnavailable(
                f'model "{self._embedder.model}" gives {dimension} dimensions, product '
                f'"{product.contract.product}" was published with {product.dimension}'
            )

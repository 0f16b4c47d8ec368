"""What embedding cost, what was saved, and what it is in money."""

from dataclasses import dataclass, replace
from datetime import timedelta

from tidegate.database import Connection
from tidegate.index.embedding.price import price_per_token
from tidegate.sql import queries


@dataclass(frozen=True, slots=True)
class ProductCost:
    """One product's cost under one model; the figures are those of observe/cost_meter.py.

    Attributes:
        usd_per_token: None where no price is known.
    """

    product: str
    model: str
    changes: int
    coalesced: int
    deletes: int
    backfilled: int
    unchanged: int
    indexed: int
    chunks_reused: int
    cache_hits: int
    texts: int
    tokens: int
    naive_texts: int
    naive_tokens: int
    usd_per_token: float | None = None

    @property
    def cache_hit_rate(self) -> float | None:
        """Of the texts whose vectors were not stored already; None where there were none."""
        asked = self.cache_hits + self.texts
        return self.cache_hits / asked if asked else None

    @property
    def share_embedded(self) -> float | None:
        """Of the texts that embedding every change whole would have sent."""
        return self.texts / self.naive_texts if self.naive_texts else None

    @property
    def usd(self) -> float | None:
        """What the tokens cost."""
        return None if self.usd_per_token is None else self.tokens * self.usd_per_token

    @property
    def naive_usd(self) -> float | None:
        """What embedding every change whole would have cost."""
        return None if self.usd_per_token is None else self.naive_tokens * self.usd_per_token


def costs(connection: Connection, since: timedelta | None = None, product: str | None = None) -> list[ProductCost]:
    """All products' costs, for administrators. Whole hours: that in which `since` lies counts whole."""
    rows = connection.execute(queries("cost")["cost"], {"since": since, "product": product}).fetchall()
    return [replace(ProductCost(*row), usd_per_token=price_per_token(row[1])) for row in rows]

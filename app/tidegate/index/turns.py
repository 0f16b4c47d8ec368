"""Whose rows come next: of several products that wait, each has its turn, the one with the tightest SLA first."""

from collections.abc import Callable, Iterable
from itertools import zip_longest
from typing import TypeVar

from tidegate.index.product import Product

T = TypeVar("T")
_NO_SLA_MS = 60_000.0


def urgency(product: Product) -> float:
    """What the product promises, ms: the less, the sooner."""
    latency = product.contract.latency
    return latency.ms if latency is not None else _NO_SLA_MS


def in_turns(rows: Iterable[T], product_of: Callable[[T], Product]) -> list[T]:
    """One row of each product after the other, the tightest SLA first; each product's rows stay in their order."""
    groups: dict[int, list[T]] = {}
    products: dict[int, Product] = {}
    for row in rows:
        product = product_of(row)
        products.setdefault(product.product_id, product)
        groups.setdefault(product.product_id, []).append(row)
    ordered = [groups[product_id] for product_id in sorted(groups, key=lambda each: urgency(products[each]))]
    return [row for turn in zip_longest(*ordered) for row in turn if row is not None]

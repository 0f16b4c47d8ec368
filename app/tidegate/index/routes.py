"""Which indexes the events of a table go to."""

from collections.abc import Iterable

from tidegate.index.product import Product, Table


class Routes:
    """The indexes as the catalog had them, by their source table: one, or two while a second stands beside it.

    Both get every change, each in the lane of its model. Of two, a backfill is for the one that waits for it: the
    other has these rows, and writing them again would only wear it; or it takes them from the first (chunk_copy.py).
    """

    def __init__(self, products: Iterable[Product]):
        self.all = tuple(products)
        self._of: dict[Table, list[Product]] = {}
        for product in self.all:
            self._of.setdefault(product.table, []).append(product)
        self._suspended = {product.product_id for product in self.all if product.state == "suspended"}
        self._filled = {product.product_id for product in self.all if product.state == "live"}

    def knows(self, table: Table) -> bool:
        """Whether it is some product's table."""
        return table in self._of

    def of(self, table: Table, *, backfill: bool = False) -> list[Product]:
        """The indexes that take the table's events; of a backfill those that wait for one, if any does."""
        products = [p for p in self._of.get(table, ()) if p.product_id not in self._suspended]
        waiting = [p for p in products if p.product_id not in self._filled and not p.copied] if backfill else []
        return waiting or products

    @property
    def working(self) -> list[Product]:
        """Those that are not suspended."""
        return [product for product in self.all if product.product_id not in self._suspended]

    def suspend(self, product: Product) -> None:
        """It takes no more events."""
        self._suspended.add(product.product_id)

    def filled(self, product: Product) -> None:
        """Its backfill is in the index."""
        self._filled.add(product.product_id)

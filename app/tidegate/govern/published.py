"""Products by name, as somebody names them who may be wrong."""

from tidegate.contract.finding import did_you_mean
from tidegate.database import Connection
from tidegate.errors import UsageError
from tidegate.sql import queries


def require_published(connection: Connection, product: str | None) -> None:
    """Raises UsageError where there is no such product, or index of one; None is any."""
    if product is None:
        return
    names = [row[0] for row in connection.execute(queries("status")["products"])]
    if product not in names:
        near = did_you_mean(product, names)
        raise UsageError(f'product "{product}" is not published{near}; "tidegate status" lists those that are')

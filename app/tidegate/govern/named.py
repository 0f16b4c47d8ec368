"""What is named by somebody who may be wrong: products and roles. Whatever takes such a name, asks here."""

from collections.abc import Iterable

from tidegate.contract.finding import did_you_mean
from tidegate.database import Connection
from tidegate.errors import UnknownName
from tidegate.sql import queries


def require_published(connection: Connection, product: str | None) -> None:
    """There is a product of this name; None is any.

    Raises:
        UnknownName: there is none; says which is near.
    """
    if product is None:
        return
    names = [row[0] for row in connection.execute(queries("status")["products"])]
    if product not in names:
        near = did_you_mean(product, names)
        raise UnknownName(f'product "{product}" is not published{near}; "tidegate status" lists those that are')


def require_roles(connection: Connection, names: Iterable[str], attributes: str = "") -> None:
    """The server has roles of these names.

    Args:
        attributes: what the CREATE ROLE ends with that the message names, e.g. ` LOGIN`.

    Raises:
        UnknownName: one of them it has not.
    """
    asked = list(names)
    there = {row[0] for row in connection.execute(queries("govern")["role_exists"], {"roles": asked})}
    for name in asked:
        if name not in there:
            way_out = f'create it first: CREATE ROLE "{name}"{attributes}'
            raise UnknownName(f'there is no role "{name}"; {way_out}')

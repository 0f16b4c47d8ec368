"""The access index: from what rules ask to the codes of the chunks that it lets through, without a look at the table.

Its key columns are those that rules compare for equality; the row's key, its codes and all else that rules and filters
read are included, so that an index-only scan decides and ranks by itself.
"""

from collections.abc import Iterator

from psycopg import sql

from tidegate.contract.contract import Contract
from tidegate.contract.expression import And, Column, Compare, Expression, In, Member, Or, UserAttribute
from tidegate.contract.family import Family, family
from tidegate.contract.identifier import fit
from tidegate.index.product import Product
from tidegate.index.search_index import SearchIndex


def access_index(product: Product, columns: set[str]) -> Iterator[SearchIndex]:
    """The index; none where no rule compares a column with the caller. `columns`: of the chunk table."""
    contract = product.contract
    lead = [name for name in leading_columns(contract) if name in columns]
    if not lead:
        return
    plain = [
        column.name for column in contract.carried_columns if family(column.carried_type) is not Family.UNSUPPORTED
    ]
    included = [name for name in (*plain, "chunk_no", "codes") if name in columns and name not in lead]
    yield SearchIndex(
        fit(f"{contract.table}_access"),
        sql.SQL("({}) INCLUDE ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, lead)), sql.SQL(", ").join(map(sql.Identifier, included))
        ),
    )


def leading_columns(contract: Contract) -> tuple[str, ...]:
    """Columns that rules compare for equality with the caller; required rules, which always hold, come first."""
    rules = sorted(
        (rule for rule in contract.rules if rule.effect != "deny"), key=lambda rule: rule.effect != "require"
    )
    names = [name for rule in rules if rule.when is not None for name in _equalities(rule.when)]
    return tuple(dict.fromkeys(names))


def _equalities(expression: Expression) -> Iterator[str]:
    match expression:
        case And(terms) | Or(terms):
            for term in terms:
                yield from _equalities(term)
        case Compare("=", Column(name), UserAttribute()) | Compare("=", UserAttribute(), Column(name)):
            yield name
        case In(Column(name), UserAttribute()):
            yield name
        case Member(_, Column(name)):
            yield name
        case _:
            return

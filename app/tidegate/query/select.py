"""A search as a SQLAlchemy `Select` over the product's table, to be joined, filtered and run elsewhere."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Float, Integer, MetaData, Select, Table, Text, and_, cast, func, literal, null, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.types import TypeEngine, UserDefinedType

from tidegate.query.catalog import Offered
from tidegate.query.scope import Scope

_INTERNAL = frozenset({"content_hash", "position", "embedding", "codes"})
_FIRST = ("chunk_no", "content")
_LAST = ("committed_at", "indexed_at", "contract_version")


class _Named(UserDefinedType[Any]):
    """A type by the name that Postgres gives it."""

    cache_ok = True

    def __init__(self, name: str):
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


def select_of(
    product: Offered, columns: Sequence[tuple[str, str]], *, text: str | None, vectors: str | None, scope: Scope
) -> Select[Any]:
    """Key, chunk_no, content, score, distance, committed_at, …, and the carried columns of what `search` finds.

    The search is in it as `tidegate.search`, so that its rows, their order and their checks are the same.

    Args:
        columns: names and types of the chunk table's.
        text: the question's words, where they count.
        vectors: its vectors by model, as JSON.
    """
    types = {name: type_ for name, type_ in columns if name not in _INTERNAL}
    table = Table(
        product.chunk_table,
        MetaData(),
        *(Column(name, _type(type_)) for name, type_ in types.items()),
        schema=product.chunk_schema,
    )
    hit = func.tidegate.search(
        null(),
        literal(scope.k, Integer),
        cast([product.product], ARRAY(Text)),
        _given(text),
        cast(_given(scope.where), JSONB),
        literal(scope.consistency, Text),
        cast(_given(vectors), JSONB),
    ).table_valued(
        Column("key", JSONB),
        Column("chunk_no", Integer),
        Column("distance", Float),
        Column("consistency", Text),
        Column("score", Float),
        name="hit",
    )
    same = [
        table.c[name] == cast(hit.c.key.op("->>")(literal(name, Text)), _Named(types[name]))
        for name in product.key_columns
    ]
    carried = [name for name in types if name not in (*product.key_columns, *_FIRST, *_LAST)]
    found = (
        select(
            *(table.c[name] for name in (*product.key_columns, *_FIRST)),
            hit.c.score,
            hit.c.distance,
            hit.c.consistency,
            *(table.c[name] for name in (*_LAST, *carried)),
        )
        .join_from(hit, table, and_(*same, table.c.chunk_no == hit.c.chunk_no))
        .order_by(hit.c.score.desc(), *(table.c[name] for name in product.key_columns))
    )
    return found if scope.min_score is None else found.where(hit.c.score >= scope.min_score)


def _given(text: str | None) -> Any:
    return null() if text is None else literal(text, Text)


def _type(name: str) -> TypeEngine[Any]:
    """SQLAlchemy's type where it has one of this name, so that Python's operators mean what they say."""
    element, array, _ = name.partition("[]")
    known = ischema_names.get(element)
    if known is None:
        return _Named(name)
    return ARRAY(known()) if array else known()

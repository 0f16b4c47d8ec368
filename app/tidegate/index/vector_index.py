"""The HNSW index: for who may see much of a product that has grown so far that computing all distances is slow."""

from collections.abc import Iterator

from psycopg import sql

from tidegate.contract.identifier import fit
from tidegate.index.product import Product
from tidegate.index.search_index import SearchIndex

_MOST_DIMENSIONS = 4000
"""What pgvector's HNSW takes of halfvec; above, search goes by codes."""


def vector_index(product: Product, dimension: int, vector_schema: str) -> Iterator[SearchIndex]:
    """The index, of vectors in half precision; none where they are too long for one."""
    if dimension <= _MOST_DIMENSIONS:
        schema = sql.Identifier(vector_schema)
        yield SearchIndex(
            fit(f"{product.contract.table}_embedding_hnsw"),
            sql.SQL("USING hnsw ((embedding::{}.halfvec({})) {}.halfvec_cosine_ops)").format(
                schema, sql.Literal(dimension), schema
            ),
        )

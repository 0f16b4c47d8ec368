"""Questions to hits: each question embedded once a model, then `tidegate.search` in the database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Literal

import psycopg
from pgvector import Vector

from tidegate.database import Connection
from tidegate.errors import TidegateError, UsageError
from tidegate.index.embedding.registry import Embedders
from tidegate.query.hit import Hit

Consistency = Literal["strict", "eventual"]


class SearchRefused(TidegateError):
    """The database refused the search."""


def search(
    connection: Connection,
    embedders: Embedders,
    question: str,
    *,
    k: int,
    products: Sequence[str] | None,
    consistency: Consistency = "strict",
) -> list[Hit]:
    """The k rows nearest to the question, of those that the connection's role may see, nearest first.

    Products of several models are searched with one embedding of the question a model. Their cosine distances
    are then compared as they are, which is fair only among models of like make.

    Raises:
        UsageError: an empty question, a product that is not published or not offered to this role.
        SearchRefused: the database refused for another reason.
        EmbedderUnavailable: a remote model does not answer.
    """
    if not question.strip():
        raise UsageError("the question is empty")
    hits: list[Hit] = []
    with _refusals(connection):
        for model, names in _models(connection, products).items():
            vector = embedders.of(model).embed([question])[0]
            rows = connection.execute(
                "SELECT product, key, chunk_no, content, distance, committed_at, indexed_at, contract_version, "
                "consistency "
                "FROM tidegate.search(query => %s, k => %s, products => %s, consistency => %s)",
                [Vector(vector), k, names, consistency],
            ).fetchall()
            hits += [Hit(*row) for row in rows]
    return sorted(hits, key=lambda hit: (hit.distance, hit.product, str(hit.key)))[:k]


def as_of(connection: Connection, products: Sequence[str] | None) -> datetime | None:
    """Every change that was committed before this moment is in the index of all these products.

    None where one of them has no watermark yet.

    Raises:
        UsageError: the connection's role may not use tidegate.
    """
    with _refusals(connection):
        rows = connection.execute(
            "SELECT as_of FROM tidegate.freshness WHERE %(products)s::text[] IS NULL OR product = ANY (%(products)s)",
            {"products": None if products is None else list(products)},
        ).fetchall()
    moments = [row[0] for row in rows]
    return None if not moments or None in moments else min(moments)


@contextmanager
def _refusals(connection: Connection) -> Iterator[None]:
    """What the database refuses, said in the caller's words."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise UsageError(
            f'role "{_whoami(connection)}" may not use tidegate: {error.diag.message_primary}; '
            "an administrator grants it the role of a contract"
        ) from None
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise SearchRefused(f"the search was refused: {error.diag.message_primary}") from None


def why_nothing(connection: Connection, products: Sequence[str] | None) -> str:
    """One sentence on why a search may have found nothing."""
    with _refusals(connection):
        rows = connection.execute("SELECT product, state FROM tidegate.products ORDER BY 1").fetchall()
    asked = [(name, state) for name, state in rows if products is None or name in products]
    waiting = [name for name, state in asked if state in ("pending", "backfilling")]
    if not asked:
        return f'no product is offered to role "{_whoami(connection)}"'
    if waiting:
        return f'{", ".join(waiting)}: not all rows are indexed yet; is "tidegate run" at work?'
    return f'no row that role "{_whoami(connection)}" may see was found; tidegate.whoami() tells what is known of it'


def _models(connection: Connection, products: Sequence[str] | None) -> dict[str, list[str]]:
    rows = connection.execute("SELECT product, model, state, state_reason FROM tidegate.products ORDER BY 1").fetchall()
    offered = {row[0]: row for row in rows}
    if products is not None:
        unknown = [name for name in products if name not in offered]
        if unknown:
            raise UsageError(
                f'product "{unknown[0]}" is not published, or not offered to role "{_whoami(connection)}"; '
                f"there are: {', '.join(offered) or 'none'}"
            )
        for name in products:
            if offered[name][2] == "suspended":
                raise SearchRefused(f'product "{name}" is suspended: {offered[name][3]}')
    models: dict[str, list[str]] = {}
    for name, model, state, _ in rows:
        if state != "suspended" and (products is None or name in products):
            models.setdefault(model, []).append(name)
    return models


def _whoami(connection: Connection) -> str:
    row = connection.execute(
        "SELECT CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END"
    ).fetchone()
    assert row is not None
    return str(row[0])

"""Questions: search, similar and ask."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import typer

from tidegate import console
from tidegate.cli.options import As, Count, Dsn, Json, Products, given_dsn, load_settings
from tidegate.cli.program import app
from tidegate.cli.where import parse_where
from tidegate.errors import TidegateError

if TYPE_CHECKING:
    from tidegate.query.client import Client
    from tidegate.query.hit import Hit
    from tidegate.settings import Settings

Token = Annotated[
    str | None,
    typer.Option(
        "--token", envvar="TIDEGATE_TOKEN", help="JWT to ask with, through a gateway's login.", show_default=False
    ),
]
Consistent = Annotated[
    Literal["strict", "eventual"],
    typer.Option(envvar="TIDEGATE_CONSISTENCY", help="strict: hits are checked against the live rows."),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        envvar="TIDEGATE_WHERE",
        help="region=EU, 'price<100', 'region in EU,US', 'closed_at is null', or JSON; may be repeated.",
        show_default=False,
    ),
]
By = Annotated[
    Literal["vector", "keyword", "hybrid"],
    typer.Option(envvar="TIDEGATE_MODE", help="By meaning, by words (as web searches write them), or by both."),
]
MinScore = Annotated[
    float | None,
    typer.Option(envvar="TIDEGATE_MIN_SCORE", help="Leave out hits with a lower score.", show_default=False),
]
FreshWithin = Annotated[
    str | None,
    typer.Option(envvar="TIDEGATE_FRESH_WITHIN", help="Fail if the index is older, e.g. 1s.", show_default=False),
]


class _Bounds(TypedDict):
    where: dict[str, Any] | None
    min_score: float | None
    fresh_within: str | None


@contextmanager
def _client(dsn: str | None, settings: "Settings", role: str | None, token: str | None) -> "Iterator[Client]":
    from tidegate.query.client import Client

    with Client(given_dsn(dsn), settings, role=role) as client:
        if token is None:
            yield client
            return
        with client.as_token(token) as view:
            yield view


@app.command()
def search(
    question: Annotated[str, typer.Argument(help="What to find.")],
    dsn: Dsn = None,
    role: As = None,
    token: Token = None,
    k: Count = 10,
    product: Products = None,
    where: Where = None,
    mode: By = "vector",
    min_score: MinScore = None,
    fresh_within: FreshWithin = None,
    consistency: Consistent = "strict",
    explain: Annotated[
        bool, typer.Option("--explain", envvar="TIDEGATE_EXPLAIN", help="Print the search's SQL instead, for EXPLAIN.")
    ] = False,
    json_: Json = False,
) -> None:
    """Find the rows that fit a question best, of those that the role may see."""
    products, bounds = product or None, _bounds(where, min_score, fresh_within)
    with _client(dsn, load_settings(), role, token) as client:
        if explain:
            asked = client.search_statement(question, k, products, consistency, where=bounds["where"], mode=mode)
            print(asked)
            return
        hits = client.search(question, k, products, consistency, mode=mode, **bounds)
        if not hits:
            _explain_nothing(client, products, bounds, mode)
        _say_if_old(client, products)
    _print(hits, json_)


@app.command()
def similar(
    product: Annotated[str, typer.Argument(help="Product, e.g. support.ticket.")],
    key: Annotated[str, typer.Argument(help="The row: 42, id=1,region=EU, or JSON.")],
    dsn: Dsn = None,
    role: As = None,
    token: Token = None,
    k: Count = 10,
    among: Products = None,
    where: Where = None,
    min_score: MinScore = None,
    fresh_within: FreshWithin = None,
    consistency: Consistent = "strict",
    json_: Json = False,
) -> None:
    """Find the rows that are nearest in meaning to a row, of those that the role may see."""
    from tidegate.govern.explain import parse_key

    bounds = _bounds(where, min_score, fresh_within)
    with _client(dsn, load_settings(), role, token) as client:
        hits = client.similar(product, parse_key(key), k, among or None, consistency, **bounds)
        _say_if_old(client, among or None)
    _print(hits, json_)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to answer.")],
    dsn: Dsn = None,
    role: As = None,
    token: Token = None,
    k: Count = 5,
    product: Products = None,
    where: Where = None,
    mode: By = "vector",
    min_score: MinScore = None,
    fresh_within: FreshWithin = None,
    consistency: Consistent = "strict",
    llm: Annotated[
        str | None,
        typer.Option(envvar="TIDEGATE_LLM", help="litellm model that answers; none: extracted.", show_default=False),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", envvar="TIDEGATE_STREAM", help="Print the text as it comes.")
    ] = False,
    json_: Json = False,
) -> None:
    """Answer from the rows that the role may see, with citations, as_of and what was not found."""
    products, bounds = product or None, _bounds(where, min_score, fresh_within)
    with _client(dsn, load_settings(llm=llm), role, token) as client:
        if stream and not json_:
            pieces = client.ask(question, k, products, consistency, mode=mode, stream=True, **bounds)
            for piece in pieces:
                print(piece, end="", flush=True)
            print()
            answer = pieces.answer
        else:
            answer = client.ask(question, k, products, consistency, mode=mode, **bounds)
        if not answer.citations:
            _explain_nothing(client, products, bounds, mode)
        _say_if_old(client, products)
    if json_:
        console.print_json(console.answer_json(answer))
    elif stream:
        console.print_support(answer)
    else:
        console.print_answer(answer)


def _bounds(where: list[str] | None, min_score: float | None, fresh_within: str | None) -> _Bounds:
    return {"where": parse_where(where or ()), "min_score": min_score, "fresh_within": fresh_within}


def _explain_nothing(client: "Client", products: list[str] | None, bounds: _Bounds, mode: str) -> None:
    console.err.print(console.escape(client.why_nothing(products)))
    if bounds["where"] or bounds["min_score"] is not None or mode == "keyword":
        console.err.print("--where, --min-score and --mode keyword leave rows out, too")


def _say_if_old(client: "Client", products: list[str] | None) -> None:
    """What a program reads of the answer does not change; a cheap query or two, and no answer is lost to them."""
    import psycopg

    try:
        old = client.why_old(products)
    except (TidegateError, psycopg.Error):
        return
    if old is not None:
        console.err.print(console.escape(old))


def _print(hits: "list[Hit]", json_: bool) -> None:
    if json_:
        console.print_json([console.hit_json(hit) for hit in hits])
    else:
        console.print_hits(hits)

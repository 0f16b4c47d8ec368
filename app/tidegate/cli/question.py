"""Questions: search and ask."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tidegate import console
from tidegate.cli.options import As, Count, Dsn, Json, Products, given_dsn, load_settings
from tidegate.cli.program import app

if TYPE_CHECKING:
    from tidegate.query.client import Client
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
MinScore = Annotated[
    float | None,
    typer.Option(envvar="TIDEGATE_MIN_SCORE", help="Leave out hits with a lower score.", show_default=False),
]
FreshWithin = Annotated[
    str | None,
    typer.Option(envvar="TIDEGATE_FRESH_WITHIN", help="Fail if the index is older, e.g. 1s.", show_default=False),
]


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
    min_score: MinScore = None,
    fresh_within: FreshWithin = None,
    consistency: Consistent = "strict",
    json_: Json = False,
) -> None:
    """Find the rows that are nearest in meaning, of those that the role may see."""
    products = product or None
    with _client(dsn, load_settings(), role, token) as client:
        hits = client.search(question, k, products, consistency, min_score=min_score, fresh_within=fresh_within)
        if not hits:
            console.err.print(console.escape(client.why_nothing(products)))
    if json_:
        console.print_json([console.hit_json(hit) for hit in hits])
    else:
        console.print_hits(hits)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to answer.")],
    dsn: Dsn = None,
    role: As = None,
    token: Token = None,
    k: Count = 5,
    product: Products = None,
    min_score: MinScore = None,
    fresh_within: FreshWithin = None,
    consistency: Consistent = "strict",
    llm: Annotated[
        str | None,
        typer.Option(envvar="TIDEGATE_LLM", help="litellm model that answers; none: extracted.", show_default=False),
    ] = None,
    stream: Annotated[bool, typer.Option(envvar="TIDEGATE_STREAM", help="Print the text as it comes.")] = False,
    json_: Json = False,
) -> None:
    """Answer from the rows that the role may see, with citations, as_of and what was not found."""
    products = product or None
    with _client(dsn, load_settings(llm=llm), role, token) as client:
        arguments = (question, k, products, consistency)
        if stream and not json_:
            pieces = client.ask(*arguments, min_score=min_score, fresh_within=fresh_within, stream=True)
            for piece in pieces:
                print(piece, end="", flush=True)
            print()
            answer = pieces.answer
        else:
            answer = client.ask(*arguments, min_score=min_score, fresh_within=fresh_within)
        if not answer.citations:
            console.err.print(console.escape(client.why_nothing(products)))
    if json_:
        console.print_json(console.answer_json(answer))
    elif stream:
        console.print_support(answer)
    else:
        console.print_answer(answer)

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
    consistency: Annotated[
        Literal["strict", "eventual"],
        typer.Option(envvar="TIDEGATE_CONSISTENCY", help="strict: hits are checked against the live rows."),
    ] = "strict",
    json_: Json = False,
) -> None:
    """Find the rows that are nearest in meaning, of those that the role may see."""
    with _client(dsn, load_settings(), role, token) as client:
        hits = client.search(question, k, product or None, consistency)
        if not hits:
            console.err.print(console.escape(client.why_nothing(product or None)))
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
    llm: Annotated[
        str | None,
        typer.Option(envvar="TIDEGATE_LLM", help="litellm model that answers; none: extracted.", show_default=False),
    ] = None,
    json_: Json = False,
) -> None:
    """Answer from the rows that the role may see, with citations and as_of."""
    with _client(dsn, load_settings(llm=llm), role, token) as client:
        answer = client.ask(question, k, product or None)
        if not answer.citations:
            console.err.print(console.escape(client.why_nothing(product or None)))
    if json_:
        console.print_json(
            {
                "text": answer.text,
                "citations": [console.hit_json(hit) for hit in answer.citations],
                "as_of": answer.as_of,
                "model": answer.model,
            }
        )
    else:
        console.print_answer(answer)

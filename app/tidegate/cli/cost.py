"""What embedding costs."""

import re
from datetime import timedelta
from typing import Annotated

import typer

from tidegate import console
from tidegate.cli.options import Dsn, Json, OneProduct, control
from tidegate.cli.program import app
from tidegate.errors import UsageError

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@app.command()
def cost(
    since: Annotated[
        str | None,
        typer.Option(envvar="TIDEGATE_SINCE", help="As 12h, 7d, 4w ago; none: all (400 days).", show_default=False),
    ] = None,
    product: OneProduct = None,
    dsn: Dsn = None,
    json_: Json = False,
) -> None:
    """What was embedded and what that cost, and what embedding every change whole would have.

    By product and model: changes, rows whose text did not change, chunks that stayed, vectors from the cache, texts
    and tokens that were embedded; money where litellm knows the price. The naive tokens are an estimate.
    """
    from tidegate.govern.named import require_published
    from tidegate.observe.cost import costs

    with control(dsn) as connection:
        found = costs(connection, _period(since), product)
        if not found:  # what is published no more has its figures still
            require_published(connection, product)
    if json_:
        console.print_json(
            [
                {
                    **console.fields(one),
                    "cache_hit_rate": one.cache_hit_rate,
                    "share_embedded": one.share_embedded,
                    "usd": one.usd,
                    "naive_usd": one.naive_usd,
                }
                for one in found
            ]
        )
    else:
        console.print_costs(found)


def _period(text: str | None) -> timedelta | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})([mhdw])", text.strip())
    if match is None:
        raise UsageError(f'--since {text}: a number and m, h, d or w, e.g. "7d"')
    return timedelta(**{_UNITS[match[2]]: int(match[1])})

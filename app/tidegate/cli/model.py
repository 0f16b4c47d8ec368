"""Embedding models of products: a second index beside the first, and the switch between the two."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate import console
from tidegate.cli.options import Dsn, Json, control
from tidegate.cli.program import app
from tidegate.count import counted
from tidegate.errors import UsageError

if TYPE_CHECKING:
    from tidegate.govern.index_pair import Direction

model_app = typer.Typer(help="A product's embedding model, changed without downtime.", no_args_is_help=True)
app.add_typer(model_app, name="model")

Product = Annotated[str, typer.Argument(help="Product, domain.table.", show_default=False)]
Wait = Annotated[
    bool, typer.Option("--wait", envvar="TIDEGATE_WAIT", help="Wait until the other index is built and has caught up.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", envvar="TIDEGATE_MODEL_TIMEOUT_S", min=0, help="Seconds that --wait waits.")
]


@model_app.command("status")
def model_status(
    product: Annotated[str | None, typer.Argument(help="Product; none: all.", show_default=False)] = None,
    dsn: Dsn = None,
    json_: Json = False,
) -> None:
    """Under which models products are indexed, which of them is searched, and how far a second index is."""
    from tidegate.govern import model_status as status
    from tidegate.govern.named import require_published

    with control(dsn) as connection:
        require_published(connection, product)
        found = status.model_status(connection, product)
    if json_:
        console.print_json([{**console.fields(one), "lag_s": one.lag_s} for one in found])
        return
    for one in found:
        for line in console.model_lines(one):
            console.out.print(console.escape(line))


@model_app.command("switch")
def model_switch(
    product: Product, wait: Wait = False, timeout: Timeout = 3600.0, dsn: Dsn = None, json_: Json = False
) -> None:
    """Let searches go to the contract's model, in one transaction; refused until its index has caught up."""
    _switch(product, "switch", wait, timeout, dsn, json_)


@model_app.command("rollback")
def model_rollback(
    product: Product, wait: Wait = False, timeout: Timeout = 3600.0, dsn: Dsn = None, json_: Json = False
) -> None:
    """Let searches go back to the model before, whose index was kept current."""
    _switch(product, "rollback", wait, timeout, dsn, json_)


@model_app.command("drop")
def model_drop(
    product: Product,
    yes: Annotated[bool, typer.Option("--yes", "-y", envvar="TIDEGATE_YES", help="Do not ask.")] = False,
    dsn: Dsn = None,
) -> None:
    """Remove the index that is not searched; after that there is no way back to its model but building it anew."""
    from tidegate.govern.model_status import model_status
    from tidegate.govern.model_switch import drop

    with control(dsn) as connection:
        found = model_status(connection, product)
        second = found[0].second if found else None
        if second is not None and not yes:
            what = f"{product}: drops the index with {second.model}, {counted(second.chunks, 'chunk')}"
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise UsageError(f"{what}; nothing was changed, pass --yes to agree to this")
            if not typer.confirm(f"{what}. Do it?", err=True):
                raise UsageError("nothing was changed")
        model = drop(connection, product)
    console.err.print(console.escape(f"{product}: the index with {model} is gone"))


def _switch(product: str, direction: "Direction", wait: bool, timeout: float, dsn: str | None, json_: bool) -> None:
    from tidegate.govern.model_switch import switch

    said: list[str] = []

    def tell(what: str) -> None:
        if said[-1:] != [what]:
            said.append(what)
            console.err.print(console.escape(f"{product}: waits: {what}"))

    with control(dsn) as connection:
        done = switch(connection, product, direction, wait_s=timeout if wait else None, told=tell)
    if json_:
        console.print_json(done)
    else:
        console.out.print(console.escape(f"{product}: searched with {done.model} now, was {done.before}"))

"""Whether the index is what its source says."""

from typing import TYPE_CHECKING, Annotated

import typer

from tidegate import console
from tidegate.cli.options import Dsn, Json, given_dsn, load_settings
from tidegate.cli.program import EXIT_FAILED, app
from tidegate.errors import UnknownName

if TYPE_CHECKING:
    from tidegate.observe.verify import Verification


@app.command()
def verify(
    product: Annotated[str | None, typer.Argument(help="Product; none: all.", show_default=False)] = None,
    repair: Annotated[
        bool, typer.Option("--repair", envvar="TIDEGATE_REPAIR", help="Write wrong rows anew, through the ledger.")
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", envvar="TIDEGATE_ANEW", help="Do not go on where one was broken off.")
    ] = False,
    rows_per_s: Annotated[
        float,
        typer.Option(envvar="TIDEGATE_VERIFY_ROWS_PER_S", min=1, help="Rows read of the source a second, at most."),
    ] = 20_000,
    patience: Annotated[
        float,
        typer.Option(envvar="TIDEGATE_VERIFY_PATIENCE_S", min=0, help="Seconds that the index may lag behind."),
    ] = 30.0,
    dsn: Dsn = None,
    json_: Json = False,
) -> None:
    """Compare source and index, row by row: missing, stale, ghosts, wrongly carried. Exit 1 unless all is right.

    Reads in pages by key, and rows that are only on their way are none of it. Broken off, it goes on where it was.
    """
    from tidegate.observe.verify_all import verify_all

    settings = load_settings()
    verified: list[Verification] = []
    for verification in verify_all(
        given_dsn(dsn),
        settings,
        product,
        repair=repair,
        anew=anew,
        rows_per_s=rows_per_s,
        patience_s=patience,
        console=console.err,
    ):
        verified.append(verification)
        if not json_:
            console.print_verification(verification)
    if product is not None and not verified:
        raise UnknownName(f'product "{product}" is not published; "tidegate status" lists those that are')
    if json_:
        console.print_json({"products": [{"ok": one.ok, **console.fields(one)} for one in verified]})
    if not all(one.ok for one in verified):
        raise typer.Exit(EXIT_FAILED)

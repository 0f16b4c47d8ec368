"""What runs, and how it is: run, status, dead letters, a lost slot."""

import os
import sys
from typing import Annotated

import typer

from tidegate import console
from tidegate.cli.options import Dsn, Json, OneProduct, Slot, control, given_dsn, load_settings, stop_event
from tidegate.cli.program import EXIT_FAILED, app, complain, exit_code, letters_app
from tidegate.errors import TidegateError, UnknownName


@app.command()
def run(dsn: Dsn = None, slot: Slot = None) -> None:
    """Capture and index changes until SIGINT or SIGTERM: then write what was taken, acknowledge it, exit 0."""
    from tidegate.index.embedding.registry import Embedders
    from tidegate.pipeline import run_until

    stop = stop_event()
    settings = load_settings(slot=slot)
    code = 0
    try:
        run_until(
            stop,
            given_dsn(dsn),
            settings,
            Embedders(settings),
            started=lambda _: console.err.print("tidegate runs; SIGINT or SIGTERM ends it"),
        )
    except TidegateError as error:
        complain(error)
        code = exit_code(error)
    # The JVM's own threads do not end by themselves; everything that was taken is written and acknowledged.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@app.command()
def status(
    dsn: Dsn = None,
    slot: Slot = None,
    check: Annotated[
        bool,
        typer.Option("--check", envvar="TIDEGATE_CHECK", help="Exit 1 when something needs attention, and name it."),
    ] = False,
    json_: Json = False,
) -> None:
    """Products, rows, chunks, watermark, freshness against the SLA, dead letters.

    With --check, exit 1 when nothing reads the changes, a product is suspended, misses its SLA, is far behind or has
    dead letters, or a worker, source or connector is in trouble: a line each on stderr; in JSON, `attention`.
    """
    from tidegate.capture.slot import default_slot
    from tidegate.connectors import connector_states
    from tidegate.observe.attention import attention
    from tidegate.observe.fleet import fleet_status
    from tidegate.observe.status import capture_status, product_status

    settings = load_settings(slot=slot)
    with control(dsn) as connection:
        capture = capture_status(connection, settings.slot or default_slot(connection.info.dbname))
        products = product_status(connection)
        fleet = fleet_status(connection)
        connectors = connector_states(connection, settings)
    found = attention(capture, products, fleet, connectors, settings.heartbeat_ms / 1000)
    if json_:
        console.print_json(
            {
                "capture": capture,
                "products": products,
                "workers": fleet.workers,
                "partitions": fleet.partitions,
                "sources": fleet.sources,
                "connectors": connectors,
                "attention": found,
            }
        )
    else:
        console.print_status(capture, products)
        console.print_fleet(fleet)
        for name, state in connectors.items():
            line = state if isinstance(state, str) else console.connector_line(name, state)
            console.out.print(console.escape(line))
    if not check:
        return
    for sentence in found:
        console.err.print(console.escape(f"needs attention: {sentence}"))
    if found:
        raise typer.Exit(EXIT_FAILED)
    console.err.print("nothing needs attention")


@app.command("recover-slot")
def recover_slot_command(
    dsn: Dsn = None,
    slot: Slot = None,
    source: Annotated[
        str | None,
        typer.Option(
            envvar="TIDEGATE_SOURCE", help="Of this source of TIDEGATE_SOURCES; none: the index's.", show_default=False
        ),
    ] = None,
) -> None:
    """Start a new slot after one was lost; every product of the source is read again when its changes come again."""
    from contextlib import ExitStack

    from tidegate.capture.slot import recover_slot
    from tidegate.capture.source import sources
    from tidegate.database import connect

    with control(dsn) as connection, ExitStack() as stack:
        found = sources(load_settings(slot=slot), given_dsn(dsn), connection.info.dbname).get(source or "")
        if found is None:
            raise UnknownName(f'there is no source "{source}"; TIDEGATE_SOURCES names them with their DSNs')
        there = stack.enter_context(connect(found.dsn)) if source else None
        recover_slot(connection, found.slot, found.name, there)
    if source:
        console.err.print('the slot starts anew at the next "tidegate connect apply"; the source is read again')
        return
    console.err.print('the slot starts anew at the next "tidegate run"; all products are read again')


@letters_app.command("list")
def letters_list(
    dsn: Dsn = None,
    product: OneProduct = None,
    json_: Json = False,
) -> None:
    """Parked rows with their reasons."""
    from tidegate.govern.named import require_published
    from tidegate.observe.dead_letters import list_dead_letters

    with control(dsn) as connection:
        require_published(connection, product)
        letters = list_dead_letters(connection, product)
    if json_:
        console.print_json([console.letter_json(letter) for letter in letters])
    else:
        console.print_dead_letters(letters)


_Ids = Annotated[list[int] | None, typer.Argument(help="Numbers from the list; none: all.", show_default=False)]


@letters_app.command("retry")
def letters_retry(
    ids: _Ids = None,
    dsn: Dsn = None,
    product: OneProduct = None,
) -> None:
    """Let the worker read these rows from the source and index them again."""
    from tidegate.govern.named import require_published
    from tidegate.observe.dead_letters import retry_dead_letters

    with control(dsn) as connection:
        require_published(connection, product)
        count = retry_dead_letters(connection, product, ids or None)
    console.err.print(f'{count} to be tried again by "tidegate run"')


@letters_app.command("drop")
def letters_drop(
    ids: _Ids = None,
    dsn: Dsn = None,
    product: OneProduct = None,
) -> None:
    """Forget dead letters; the rows stay unsearchable until they change again."""
    from tidegate.govern.named import require_published
    from tidegate.observe.dead_letters import drop_dead_letters

    with control(dsn) as connection:
        require_published(connection, product)
        count = drop_dead_letters(connection, product, ids or None)
    console.err.print(f"{count} dropped")

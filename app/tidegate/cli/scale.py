"""Scaled out: workers of a consumer group, and the connectors that feed it."""

import sys
from typing import Annotated

import typer

from tidegate import console
from tidegate.cli.options import Dsn, Json, Slot, control, given_dsn, load_settings, stop_event
from tidegate.cli.program import EXIT_FAILED, app

connect_app = typer.Typer(help="Debezium's connectors on Kafka Connect, one a source database.", no_args_is_help=True)
app.add_typer(connect_app, name="connect")

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="TIDEGATE_CONNECT__URL", help="Kafka Connect's REST interface.", show_default=False),
]
Patience = Annotated[
    float, typer.Option("--timeout", envvar="TIDEGATE_CONNECT_TIMEOUT_S", help="Seconds to wait for running tasks.")
]


@app.command()
def worker(dsn: Dsn = None, slot: Slot = None) -> None:
    """Index changes from Kafka, sharing the partitions with other workers; SIGINT or SIGTERM ends it in order."""
    from tidegate.applying import Applying
    from tidegate.capture.kafka_client import servers
    from tidegate.group_pipeline import GroupPipeline
    from tidegate.index.embedding.registry import Embedders
    from tidegate.observe.metrics import serve
    from tidegate.pipeline import run_until

    stop = stop_event()
    settings = load_settings(slot=slot)
    servers(settings.kafka)
    given = given_dsn(dsn)
    if settings.metrics_port is not None:
        serve(given, settings.metrics_host, settings.metrics_port)
    run_until(
        stop,
        given,
        settings,
        Embedders(settings),
        started=lambda _: console.err.print("tidegate worker runs; SIGINT or SIGTERM ends it"),
        make=GroupPipeline,
        around=Applying(settings),
    )
    sys.stdout.flush()


@connect_app.command("apply")
def connect_apply(
    url: Url = None,
    dsn: Dsn = None,
    slot: Slot = None,
    timeout: Patience = 60.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", envvar="TIDEGATE_DRY_RUN", help="Show what would change; change nothing.")
    ] = False,
    json_: Json = False,
) -> None:
    """Create or update the connectors from contracts and settings, and wait until they run. Safe to repeat."""
    from tidegate.connectors import Connectors

    with control(dsn) as connection:
        changes = Connectors(connection, load_settings(slot=slot), url).apply(timeout, dry_run=dry_run)
    if json_:
        console.print_json(changes)
        return
    for change in changes:
        verb = "to be " if dry_run else ""
        state = "nothing to do" if not change.differences else verb + ("created" if change.created else "changed")
        console.out.print(console.escape(f"{change.connector}: {state}"))
        for difference in change.differences:
            console.out.print(console.escape(f"  {difference}"))


@connect_app.command("status")
def connect_status(url: Url = None, dsn: Dsn = None, slot: Slot = None, json_: Json = False) -> None:
    """How the connectors are, and why one failed. Exit 1 unless all run."""
    from tidegate.connectors import Connectors

    with control(dsn) as connection:
        states = Connectors(connection, load_settings(slot=slot), url).states()
    if json_:
        console.print_json(states)
    else:
        for name, state in states.items():
            console.out.print(console.escape(console.connector_line(name, state)))
    if not all(state is not None and state.running for state in states.values()):
        raise typer.Exit(EXIT_FAILED)


@connect_app.command("restart")
def connect_restart(url: Url = None, dsn: Dsn = None, slot: Slot = None, timeout: Patience = 60.0) -> None:
    """Restart the connectors and their tasks, and wait until they run."""
    from tidegate.connectors import Connectors

    with control(dsn) as connection:
        states = Connectors(connection, load_settings(slot=slot), url).restart(timeout)
    for state in states:
        console.err.print(f"{state.name} runs")


@connect_app.command("delete")
def connect_delete(url: Url = None, dsn: Dsn = None, slot: Slot = None) -> None:
    """Remove the connectors. The replication slots stay and hold WAL, so that nothing is missed."""
    from tidegate.connectors import Connectors

    with control(dsn) as connection:
        names = Connectors(connection, load_settings(slot=slot), url).delete()
    console.err.print(f"{', '.join(names)} removed; the slot stays" if names else "there was none")

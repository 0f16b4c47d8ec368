"""Without a server of one's own: the demonstration and the embedded Postgres."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from tidegate import console
from tidegate.cli.options import Json, load_settings
from tidegate.cli.program import EXIT_FAILED, app, local_app
from tidegate.errors import UsageError

Data = Annotated[
    Path | None,
    typer.Option(
        envvar="TIDEGATE_LOCAL_DATA",
        help="Folder of the embedded Postgres. Default: ~/.local/state/tidegate/postgres, or tidegate/postgres in "
        "$XDG_STATE_HOME; for root /var/lib/tidegate/postgres.",
        show_default=False,
    ),
]


@app.command()
def demo(
    keep: Annotated[
        bool,
        typer.Option("--keep", envvar="TIDEGATE_KEEP", help="Leave Postgres and tidegate running, and print the DSN."),
    ] = False,
) -> None:
    """Play the main job on an embedded Postgres with three domains, live and measured. Cleans up after itself."""
    from tidegate.local.demo.play import play
    from tidegate.local.postgres import default_data_folder

    # SIGTERM too must clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_FAILED))
    console.set_up_logging("WARNING")
    play(load_settings(), default_data_folder().with_name("demo") if keep else None)


@local_app.command("start")
def local_start(
    data: Data = None,
    port: Annotated[
        int | None,
        typer.Option(envvar="TIDEGATE_LOCAL_PORT", help="Port on 127.0.0.1; default: a free one.", show_default=False),
    ] = None,
) -> None:
    """Start the embedded Postgres and print its DSN."""
    from tidegate.local import postgres

    server = postgres.start(data or postgres.default_data_folder(), port)
    print(server.dsn)


@local_app.command("stop")
def local_stop(data: Data = None) -> None:
    """Stop the embedded Postgres; its data stays."""
    from tidegate.local import postgres

    stopped = postgres.stop(data or postgres.default_data_folder())
    console.err.print("stopped" if stopped else "was not running")


@local_app.command("status")
def local_status(data: Data = None, json_: Json = False) -> None:
    """Whether the embedded Postgres runs, and where. Exit 1 when it does not."""
    from tidegate.local import postgres

    found = postgres.status(data or postgres.default_data_folder())
    if json_:
        console.print_json(found)
    elif found.running:
        console.out.print(f"runs: pid {found.pid}, Postgres {found.version}, {found.data}\n{found.dsn}")
    else:
        console.out.print(f"does not run: {found.data}")
    if not found.running:
        raise typer.Exit(EXIT_FAILED)


@local_app.command("psql", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def local_psql(context: typer.Context, data: Data = None) -> None:
    """Open psql on the embedded Postgres; further arguments go to psql."""
    from tidegate.local import postgres

    found = postgres.status(data or postgres.default_data_folder())
    if found.dsn is None:
        raise UsageError("the embedded Postgres does not run; start it: tidegate local start")
    command = [*postgres.psql_command(), *context.args]
    os.execve(command[0], command, postgres.psql_environment(found.dsn))

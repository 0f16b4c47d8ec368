"""The program `tidegate`: its groups of commands, and how errors become messages and exit codes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tidegate import console
from tidegate.cli.options import load_settings
from tidegate.errors import TidegateError, UsageError

EXIT_FAILED, EXIT_USAGE, EXIT_CHANGES = 1, 2, 2

app = typer.Typer(
    name="tidegate",
    help="Rows of domain-owned Postgres tables, searchable by meaning within milliseconds of their commit.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
local_app = typer.Typer(help="The embedded Postgres by itself.", no_args_is_help=True)
principal_app = typer.Typer(help="Attributes of roles, which access rules compare rows with.", no_args_is_help=True)
letters_app = typer.Typer(help="Rows that could not be indexed.", no_args_is_help=True)
domain_app = typer.Typer(help="Teams that publish their own domain's contracts.", no_args_is_help=True)
submissions_app = typer.Typer(help="Contracts that teams handed in.")
bench_app = typer.Typer(
    help="Measurements: one JSON object each, beside a floor of the same run.", no_args_is_help=True
)
standards_app = typer.Typer(help="Standards that hold for all domains.", no_args_is_help=True)
app.add_typer(local_app, name="local")
app.add_typer(principal_app, name="principal")
app.add_typer(letters_app, name="dead-letters")
app.add_typer(standards_app, name="standards")
app.add_typer(domain_app, name="domain")
app.add_typer(submissions_app, name="submissions")
app.add_typer(bench_app, name="bench")


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    log_level: Annotated[
        str, typer.Option(envvar="TIDEGATE_LOG_LEVEL", help="DEBUG, INFO, WARNING or ERROR.")
    ] = "INFO",
) -> None:
    if version:
        from importlib.metadata import version as installed_version

        print(installed_version("tidegate"))
        raise typer.Exit
    console.set_up_logging(load_settings(log_level=log_level).log_level)


def main() -> None:
    """The entry point: turns errors into one message and an exit code (0 done, 1 failed, 2 usage)."""
    from dotenv import load_dotenv

    load_dotenv(Path(".env"))  # what the environment has already, stays
    try:
        app()
    except TidegateError as error:
        complain(error)
        sys.exit(exit_code(error))
    except Exception as error:
        import psycopg

        if not isinstance(error, psycopg.Error):
            raise
        console.err.print(console.escape(f"error: Postgres: {str(error).strip()}"))
        sys.exit(EXIT_FAILED)


@contextmanager
def two_means_changes() -> Iterator[None]:
    """For commands whose exit code 2 says that there are changes: whatever goes wrong in them is 1."""
    try:
        yield
    except UsageError as error:
        complain(error)
        raise typer.Exit(EXIT_FAILED) from None


def exit_code(error: TidegateError) -> int:
    """2 where the command was used wrongly, and so for every name that does not exist (UnknownName); else 1."""
    return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED


def complain(error: TidegateError) -> None:
    console.err.print(console.escape(f"error: {error}"))

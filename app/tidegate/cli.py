"""The command line, and the composition root: only here are objects wired together."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from tidegate import console
from tidegate.errors import TidegateError, UsageError
from tidegate.settings import Settings

EXIT_FAILED, EXIT_USAGE = 1, 2

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
bench_app = typer.Typer(
    help="Measurements: one JSON object each, beside a floor of the same run.", no_args_is_help=True
)
app.add_typer(local_app, name="local")
app.add_typer(principal_app, name="principal")
app.add_typer(letters_app, name="dead-letters")
app.add_typer(bench_app, name="bench")

Dsn = Annotated[
    str | None,
    typer.Option(envvar="TIDEGATE_DSN", help="Postgres, as URI or key=value.", show_default=False),
]
Slot = Annotated[
    str | None,
    typer.Option(envvar="TIDEGATE_SLOT", help="Replication slot; default tidegate_<database>.", show_default=False),
]
As = Annotated[
    str | None,
    typer.Option("--as", envvar="TIDEGATE_AS", help="Role to ask as (SET ROLE).", show_default=False),
]
Count = Annotated[int, typer.Option("-k", "--k", envvar="TIDEGATE_K", min=1, max=10000, help="Rows to find.")]
Products = Annotated[
    list[str] | None,
    typer.Option(
        "--product", envvar="TIDEGATE_PRODUCT", help="Product to search; may be repeated.", show_default=False
    ),
]
OneProduct = Annotated[
    str | None,
    typer.Option("--product", envvar="TIDEGATE_PRODUCT", help="Product; none: all.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", envvar="TIDEGATE_JSON", help="JSON to stdout.")]
Data = Annotated[
    Path | None,
    typer.Option(envvar="TIDEGATE_LOCAL_DATA", help="Folder of the embedded Postgres.", show_default=False),
]


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
    console.set_up_logging(_settings(log_level=log_level).log_level)


@app.command()
def init(
    dsn: Dsn = None,
    sql: Annotated[
        bool, typer.Option("--sql", envvar="TIDEGATE_SQL", help="Print the SQL instead; connects to nothing.")
    ] = False,
) -> None:
    """Create or upgrade the control schema: tables, roles, functions, publication. Safe to repeat."""
    from tidegate.database import connect
    from tidegate.govern.control_schema import initialisation_script, initialise

    if sql:
        print(initialisation_script())
        return
    with connect(_dsn(dsn)) as connection:
        initialise(connection)
        console.err.print(f'database "{connection.info.dbname}" is ready; next: tidegate apply contracts/')


@app.command()
def apply(
    contracts: Annotated[list[Path], typer.Argument(help="Contract files or folders (*.odcs.yaml).")],
    dsn: Dsn = None,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            envvar="TIDEGATE_REBUILD",
            help="Make the chunk table anew where a change cannot be made in place.",
        ),
    ] = False,
    sql: Annotated[
        bool,
        typer.Option("--sql", envvar="TIDEGATE_SQL", help="Print the SQL that would run; change nothing."),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            envvar="TIDEGATE_WAIT",
            help='Wait until the rows are indexed by a running "tidegate run".',
        ),
    ] = False,
) -> None:
    """Publish contracts: chunk table, policies, publication, backfill. Idempotent; a contract a transaction."""
    from tidegate.contract.odcs import load_contracts
    from tidegate.database import connect
    from tidegate.govern.apply import apply_plan
    from tidegate.govern.control_schema import require_current
    from tidegate.govern.plan import ContractUnfit, make_plan
    from tidegate.index.embedding.registry import Embedders

    loaded = load_contracts(contracts)
    embedders = Embedders(_settings())
    with connect(_dsn(dsn)) as connection:
        require_current(connection)
        # All are checked before the first is applied: a contract that does not fit changes nothing.
        misfits = []
        for contract in loaded:
            try:
                make_plan(connection, contract, embedders.of(contract.embedding.model), rebuild=rebuild)
            except ContractUnfit as misfit:
                misfits.append(str(misfit))
        if misfits:
            raise ContractUnfit("\n".join(misfits))
        for contract in loaded:
            plan = make_plan(connection, contract, embedders.of(contract.embedding.model), rebuild=rebuild)
            if sql:
                print(plan.sql(connection) + ";" if plan.steps else f"-- {contract.product}: nothing to do")
                continue
            for warning in contract.warnings:
                console.err.print(f"{contract.product}: warning: {warning}")
            apply_plan(connection, plan)
            for line in plan.summary or ("nothing to do",):
                console.out.print(f"{contract.product}: {line}")
        if wait and not sql:
            from tidegate.observe.backfill import wait_until_live

            wait_until_live(connection, [contract.product for contract in loaded], console.err)


@app.command()
def run(dsn: Dsn = None, slot: Slot = None) -> None:
    """Capture and index changes until SIGINT or SIGTERM: then write what was taken, acknowledge it, exit 0."""
    from tidegate.index.embedding.registry import Embedders
    from tidegate.pipeline import run_until

    stop = _stop_event()
    settings = _settings(slot=slot)
    code = 0
    try:
        run_until(
            stop,
            _dsn(dsn),
            settings,
            Embedders(settings),
            started=lambda _: console.err.print("tidegate runs; SIGINT or SIGTERM ends it"),
        )
    except TidegateError as error:
        _complain(error)
        code = _exit_code(error)
    # The JVM's own threads do not end by themselves; everything that was taken is written and acknowledged.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@app.command()
def search(
    question: Annotated[str, typer.Argument(help="What to find.")],
    dsn: Dsn = None,
    role: As = None,
    k: Count = 10,
    product: Products = None,
    consistency: Annotated[
        Literal["strict", "eventual"],
        typer.Option(envvar="TIDEGATE_CONSISTENCY", help="strict: hits are checked against the live rows."),
    ] = "strict",
    json_: Json = False,
) -> None:
    """Find the rows that are nearest in meaning, of those that the role may see."""
    from tidegate.query.client import Client

    with Client(_dsn(dsn), _settings(), role=role) as client:
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
    k: Count = 5,
    product: Products = None,
    llm: Annotated[
        str | None,
        typer.Option(envvar="TIDEGATE_LLM", help="litellm model that answers; none: extracted.", show_default=False),
    ] = None,
    json_: Json = False,
) -> None:
    """Answer from the rows that the role may see, with citations and as_of."""
    from tidegate.query.client import Client

    with Client(_dsn(dsn), _settings(llm=llm), role=role) as client:
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


@app.command()
def status(dsn: Dsn = None, slot: Slot = None, json_: Json = False) -> None:
    """Products, rows, chunks, watermark, freshness against the SLA, dead letters."""
    from tidegate.capture.slot import default_slot
    from tidegate.database import connect
    from tidegate.govern.control_schema import require_current
    from tidegate.observe.status import capture_status, product_status

    with connect(_dsn(dsn)) as connection:
        require_current(connection)
        capture = capture_status(connection, slot or _settings().slot or default_slot(connection.info.dbname))
        products = product_status(connection)
    if json_:
        console.print_json({"capture": capture, "products": products})
    else:
        console.print_status(capture, products)


@app.command("recover-slot")
def recover_slot_command(dsn: Dsn = None, slot: Slot = None) -> None:
    """Start a new slot after one was lost; every product is read again at the next "tidegate run"."""
    from tidegate.capture.slot import default_slot, recover_slot
    from tidegate.database import connect
    from tidegate.govern.control_schema import require_current

    with connect(_dsn(dsn)) as connection:
        require_current(connection)
        recover_slot(connection, slot or _settings().slot or default_slot(connection.info.dbname))
    console.err.print('the slot starts anew at the next "tidegate run"; all products are read again')


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
    play(_settings(), default_data_folder().with_name("demo") if keep else None)


@principal_app.command("set")
def principal_set(
    principal: Annotated[str, typer.Argument(help="A role; its members inherit.")],
    assignments: Annotated[list[str], typer.Argument(help="attribute=value or attribute=value,value")],
    dsn: Dsn = None,
) -> None:
    """Set attributes of a role, e.g. `principal set alice regions=EU,US clearance=2`."""
    from tidegate.database import connect
    from tidegate.govern.control_schema import require_current
    from tidegate.govern.principals import parse_assignments, set_attributes, unread_attributes

    with connect(_dsn(dsn)) as connection:
        require_current(connection)
        attributes = parse_assignments(assignments)
        set_attributes(connection, principal, attributes)
        for name in unread_attributes(connection, list(attributes)):
            console.err.print(f"note: no published rule reads user.{name}")


@principal_app.command("unset")
def principal_unset(
    principal: Annotated[str, typer.Argument(help="A role.")],
    attributes: Annotated[list[str] | None, typer.Argument(help="Attributes; none: all.", show_default=False)] = None,
    dsn: Dsn = None,
) -> None:
    """Remove attributes of a role."""
    from tidegate.database import connect
    from tidegate.govern.control_schema import require_current
    from tidegate.govern.principals import unset_attributes

    with connect(_dsn(dsn)) as connection:
        require_current(connection)
        count = unset_attributes(connection, principal, attributes or [])
    console.err.print(f"{count} removed")


@principal_app.command("show")
def principal_show(
    principal: Annotated[str, typer.Argument(help="A role.")], dsn: Dsn = None, json_: Json = False
) -> None:
    """Attributes of a role, its own and those it inherits."""
    from tidegate.database import connect
    from tidegate.govern.control_schema import require_current
    from tidegate.govern.principals import show_attributes

    with connect(_dsn(dsn)) as connection:
        require_current(connection)
        shown = show_attributes(connection, principal)
    if json_:
        console.print_json(shown)
    elif not shown:
        console.err.print(f"nothing is known of {principal}")
    for attribute, origins in () if json_ else shown.items():
        for origin, values in origins.items():
            console.out.print(console.escape(f"{attribute} = {','.join(values)}  ({origin})"))


@letters_app.command("list")
def letters_list(
    dsn: Dsn = None,
    product: OneProduct = None,
    json_: Json = False,
) -> None:
    """Parked rows with their reasons."""
    from tidegate.database import connect
    from tidegate.govern.control_schema import require_current
    from tidegate.observe.dead_letters import list_dead_letters

    with connect(_dsn(dsn)) as connection:
        require_current(connection)
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
    from tidegate.database import connect
    from tidegate.govern.control_schema import require_current
    from tidegate.observe.dead_letters import retry_dead_letters

    with connect(_dsn(dsn)) as connection:
        require_current(connection)
        count = retry_dead_letters(connection, product, ids or None)
    console.err.print(f'{count} to be tried again by "tidegate run"')


@letters_app.command("drop")
def letters_drop(
    ids: _Ids = None,
    dsn: Dsn = None,
    product: OneProduct = None,
) -> None:
    """Forget dead letters; the rows stay unsearchable until they change again."""
    from tidegate.database import connect
    from tidegate.govern.control_schema import require_current
    from tidegate.observe.dead_letters import drop_dead_letters

    with connect(_dsn(dsn)) as connection:
        require_current(connection)
        count = drop_dead_letters(connection, product, ids or None)
    console.err.print(f"{count} dropped")


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


BenchDsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        envvar="TIDEGATE_BENCH_DSN",
        show_default=False,
        help="Your own server, on which databases are made and dropped; default: a temporary embedded Postgres.",
    ),
]
Seed = Annotated[int, typer.Option(envvar="TIDEGATE_BENCH_SEED", help="Makes the texts; the same ones for a number.")]


@bench_app.command("freshness")
def bench_freshness(
    samples: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_SAMPLES", min=1, help="Updates that are counted.")
    ] = 500,
    rows: Annotated[int, typer.Option(envvar="TIDEGATE_BENCH_ROWS", min=1, help="Rows of the product.")] = 1000,
    warm_up: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_WARM_UP", min=0, help="Updates before that are not counted.")
    ] = 50,
    seed: Seed = 1,
    dsn: BenchDsn = None,
    json_: Json = False,
) -> None:
    """Commit to found by a search: single-row updates, one after the other. Floor: Debezium + embedding + commit."""
    from tidegate.bench.freshness import Freshness

    report = Freshness(samples=samples, rows=rows, warm_up=warm_up, seed=seed, dsn=dsn).run()
    console.print_json(report.as_json()) if json_ else report.print(console.out)


@bench_app.command("backfill")
def bench_backfill(
    rows: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_ROWS", min=300, help="Rows that are there before.")
    ] = 5000,
    floor_rows: Annotated[
        int,
        typer.Option(
            envvar="TIDEGATE_BENCH_FLOOR_ROWS", min=2, help="Of these, as many at most go through the raw embedder."
        ),
    ] = 4000,
    seed: Seed = 1,
    dsn: BenchDsn = None,
    json_: Json = False,
) -> None:
    """Rows per second into the index, and the memory it takes. Floor: the raw embedder on the same texts."""
    from tidegate.bench.backfill import Backfill

    report = Backfill(rows=rows, floor_rows=floor_rows, seed=seed, dsn=dsn).run()
    console.print_json(report.as_json()) if json_ else report.print(console.out)


def main() -> None:
    """The entry point: turns errors into one message and an exit code (0 done, 1 failed, 2 usage)."""
    from dotenv import load_dotenv

    load_dotenv(Path(".env"))  # what the environment has already, stays
    try:
        app()
    except TidegateError as error:
        _complain(error)
        sys.exit(_exit_code(error))
    except Exception as error:
        import psycopg

        if not isinstance(error, psycopg.Error):
            raise
        console.err.print(console.escape(f"error: Postgres: {str(error).strip()}"))
        sys.exit(EXIT_FAILED)


def _complain(error: TidegateError) -> None:
    console.err.print(console.escape(f"error: {error}"))


def _stop_event() -> threading.Event:
    """An event that SIGINT or SIGTERM sets.

    The handler itself takes no lock: it runs in the main thread, perhaps while that holds the event's.
    """
    stop = threading.Event()
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: received.append(number))

    def watch() -> None:
        while not received:
            time.sleep(0.05)
        stop.set()

    threading.Thread(target=watch, name="signals", daemon=True).start()
    return stop


def _exit_code(error: TidegateError) -> int:
    return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED


def _settings(**flags: object) -> Settings:
    """Settings from the environment and `.env`, with the flags that were given on top."""
    from pydantic import ValidationError

    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"])
        raise UsageError(f"TIDEGATE_{name.upper()}: {first['msg']}") from None


def _dsn(flag: str | None) -> str:
    dsn = flag or _settings().dsn
    if dsn is None:
        raise UsageError(
            "no database: pass --dsn, or set TIDEGATE_DSN (also in .env). "
            "To try without one of your own: tidegate local start"
        )
    return dsn


if __name__ == "__main__":
    main()

"""Control schema and contracts: init, plan, apply, drift."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate import console
from tidegate.cli.options import Dsn, Json, Slot, control, given_dsn, load_settings, write_text
from tidegate.cli.program import EXIT_CHANGES, app, two_means_changes
from tidegate.errors import TidegateError, UnknownName, UsageError

if TYPE_CHECKING:
    from tidegate.database import Connection
    from tidegate.govern.plan_set import PlanSet
    from tidegate.index.embedding.registry import Embedders


@app.command()
def init(
    dsn: Dsn = None,
    slot: Slot = None,
    source: Annotated[
        str | None,
        typer.Option(
            envvar="TIDEGATE_SOURCE",
            help="Prepare this source of TIDEGATE_SOURCES, a database that rows come from, instead of the index's.",
            show_default=False,
        ),
    ] = None,
    sql: Annotated[
        bool, typer.Option("--sql", envvar="TIDEGATE_SQL", help="Print the SQL instead; connects to nothing.")
    ] = False,
) -> None:
    """Create or upgrade the control schema: tables, roles, functions, publication. Safe to repeat."""
    from tidegate.capture.source import sources
    from tidegate.database import connect
    from tidegate.govern.control_schema import initialisation_script, initialise
    from tidegate.govern.source_database import prepare_source
    from tidegate.sql import script

    if sql:
        print(f"BEGIN;\n{script('source')}COMMIT;" if source else initialisation_script())
        return
    if source is not None:
        with control(dsn) as connection:
            found = sources(load_settings(slot=slot), given_dsn(dsn), connection.info.dbname).get(source)
        if found is None or not source:
            raise UnknownName(f'there is no source "{source}"; TIDEGATE_SOURCES names them with their DSNs')
        with connect(found.dsn) as there:
            prepare_source(there, found)
        console.err.print(console.escape(f'source "{source}" is ready; next: tidegate apply its contracts'))
        return
    with connect(given_dsn(dsn)) as connection:
        initialise(connection)
        console.err.print(f'database "{connection.info.dbname}" is ready; next: tidegate apply contracts/')


Contracts = Annotated[list[Path], typer.Argument(help="Contract files or folders (*.odcs.yaml).")]
StandardsFile = Annotated[
    Path | None,
    typer.Option(
        "--standards",
        envvar="TIDEGATE_STANDARDS",
        help="Put these standards in force; all published products follow.",
        show_default=False,
    ),
]
Rebuild = Annotated[
    bool,
    typer.Option(
        "--rebuild",
        envvar="TIDEGATE_REBUILD",
        help="Make the chunk table anew where a change cannot be made in place.",
    ),
]


@app.command()
@two_means_changes()
def plan(
    contracts: Contracts,
    dsn: Dsn = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", envvar="TIDEGATE_OUTPUT", help="Write the plan here, to be applied.", show_default=False
        ),
    ] = None,
    sql: Annotated[bool, typer.Option("--sql", envvar="TIDEGATE_SQL", help="Print the exact SQL, in order.")] = False,
    standards: StandardsFile = None,
    rebuild: Rebuild = False,
    json_: Json = False,
) -> None:
    """What `apply` would do, what it costs, and who gains and loses rows. Exit 0: nothing, 2: changes, 1: failed."""
    import json

    from tidegate.cli import domain
    from tidegate.govern.estimate import estimates
    from tidegate.govern.matrix import access_changes, count_matrix
    from tidegate.govern.plan_file import as_json
    from tidegate.govern.plan_report import plan_sql, print_plan

    if domain.hands_in(dsn):
        domain.hand_in_contracts(dsn, contracts, "plan", rebuild=rebuild, sql=sql, wait=True)
        return
    with control(dsn) as connection:
        plans, embedders = _planned(connection, contracts, standards, rebuild)
        matrices = {
            each.contract.product: count_matrix(connection, each) for each in plans.changing if access_changes(each)
        }
        costs = {} if sql else estimates(connection, plans, embedders)
        document = as_json(connection, plans, matrices, costs)
        if output is not None:
            write_text(output, json.dumps(document, ensure_ascii=False, indent=1) + "\n")
        if json_:
            console.print_json(document)
        elif sql:
            for line in plan_sql(connection, plans):
                print(line)
        else:
            print_plan(console.out, plans, matrices, costs)
        if output is not None:
            console.err.print(console.escape(f"wrote {output}; next: tidegate apply {output}"))
    if not plans.empty:
        raise typer.Exit(EXIT_CHANGES)


@app.command()
def apply(
    contracts: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Contract files or folders (*.odcs.yaml), or one plan (plan.json); with --submitted numbers of "
            "submissions.",
            show_default=False,
        ),
    ] = None,
    dsn: Dsn = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            "-y",
            envvar="TIDEGATE_YES",
            help="Do not ask. Without a terminal needed only where access to a published product widens, or a table "
            "or column of the index is dropped.",
        ),
    ] = False,
    standards: StandardsFile = None,
    rebuild: Rebuild = False,
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
    submitted: Annotated[
        bool,
        typer.Option("--submitted", envvar="TIDEGATE_SUBMITTED", help="Apply what domain teams handed in; none: all."),
    ] = False,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", envvar="TIDEGATE_NO_WAIT", help="Of a team: hand in, and do not wait."),
    ] = False,
) -> None:
    """Publish contracts: chunk table, policies, publication, backfill. Idempotent; a contract a transaction.

    Given a plan, runs exactly that plan, or nothing where the database changed since. The login of a domain's team
    hands its contracts in instead, for "tidegate run" or an administrator.
    """
    from tidegate.cli import domain

    if submitted:
        domain.decide_submitted(dsn, [str(number) for number in contracts or ()])
        return
    if not contracts:
        raise UsageError("no contracts: name files or folders (*.odcs.yaml)")
    if domain.hands_in(dsn):
        domain.hand_in_contracts(dsn, contracts, "apply", rebuild=rebuild, sql=sql, wait=not no_wait)
        return
    from tidegate.applying import Applying
    from tidegate.govern.plan_file import read_plan_file
    from tidegate.govern.plan_report import plan_sql
    from tidegate.govern.plan_set import apply_plans, make_plans, require_unchanged
    from tidegate.index.embedding.registry import Embedders

    with control(dsn) as connection:
        if _is_plan(contracts):
            if standards is not None or rebuild:
                raise UsageError("a plan has its own standards and rebuilds; make another plan")
            settings = load_settings()
            file = read_plan_file(contracts[0], settings.sources)
            embedders = Embedders(settings)
            plans = make_plans(connection, file.wanted, embedders)
            require_unchanged(connection, file.statements, plans)
        else:
            plans, embedders = _planned(connection, contracts, standards, rebuild)
            if not sql and not yes:
                _agree(connection, plans, embedders)
        if sql:
            for line in plan_sql(connection, plans):
                print(line)
            return
        for each in plans.plans:
            for warning in each.contract.warnings:
                console.err.print(console.escape(f"{each.contract.product}: warning: {warning}"))
        apply_plans(connection, plans, embedders, Applying(load_settings()).applying)
        for each in plans.plans:
            for line in each.summary if each.steps else ("nothing to do",):
                console.out.print(console.escape(f"{each.contract.product}: {line}"))
        if wait:
            from tidegate.observe.backfill import wait_until_live

            wait_until_live(connection, [each.contract.product for each in plans.plans], console.err)


def _planned(
    connection: "Connection", contracts: list[Path], standards: Path | None, rebuild: bool
) -> "tuple[PlanSet, Embedders]":
    from tidegate.contract.standards_file import load_standards
    from tidegate.govern.contract_files import load_against
    from tidegate.govern.plan_set import Wanted, known_contracts, make_plans
    from tidegate.index.embedding.registry import Embedders

    loaded = load_against(contracts, known_contracts(connection))
    settings = load_settings()
    wanted = Wanted(loaded, load_standards(standards) if standards else None, rebuild, settings.sources)
    embedders = Embedders(settings)
    return make_plans(connection, wanted, embedders), embedders


def _is_plan(paths: list[Path]) -> bool:
    plans = [path for path in paths if path.suffix == ".json"]
    if plans and len(paths) > 1:
        raise UsageError("one plan at a time, and nothing beside it")
    return bool(plans)


def _agree(connection: "Connection", plans: "PlanSet", embedders: "Embedders") -> None:
    """On a terminal, shows what will be done and asks; elsewhere only what widens or drops needs --yes."""
    from tidegate.govern.estimate import estimates
    from tidegate.govern.matrix import access_changes, count_matrix
    from tidegate.govern.plan_report import print_plan

    if plans.empty:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        if plans.doubtful:
            raise NotAgreed("\n".join((*plans.doubtful, "nothing was changed; pass --yes to agree to this")))
        return
    matrices = {
        each.contract.product: count_matrix(connection, each) for each in plans.changing if access_changes(each)
    }
    print_plan(console.err, plans, matrices, estimates(connection, plans, embedders))
    if not typer.confirm("Apply this?", err=True):
        raise NotAgreed("nothing was changed")


class NotAgreed(TidegateError):
    """Nobody agreed to the plan."""


@app.command()
@two_means_changes()
def drift(dsn: Dsn = None, json_: Json = False) -> None:
    """Whether the database is still as it was published: policies, privileges, owners, functions, ways around them.

    Exit 0: it is, 2: it is not (errors or warnings), 1: failed.
    """
    from tidegate.govern.drift import find_drift

    with control(dsn) as connection:
        findings = find_drift(connection, load_settings().sources)
    if json_:
        console.print_json(findings)
    for finding in () if json_ else findings:
        console.out.print(console.escape(f"{finding.level}: {finding.object}: {finding.sentence} [{finding.code}]"))
        if finding.way_out:
            console.out.print(console.escape(f"    {finding.way_out}"))
    if not findings and not json_:
        console.err.print("no drift")
    if any(finding.level != "info" for finding in findings):
        raise typer.Exit(EXIT_CHANGES)

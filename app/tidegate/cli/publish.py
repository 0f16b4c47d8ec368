"""Control schema and contracts: init, apply."""

from pathlib import Path
from typing import Annotated

import typer

from tidegate import console
from tidegate.cli.options import Dsn, control, given_dsn, load_settings
from tidegate.cli.program import app
from tidegate.errors import UsageError


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
    with connect(given_dsn(dsn)) as connection:
        initialise(connection)
        console.err.print(f'database "{connection.info.dbname}" is ready; next: tidegate apply contracts/')


@app.command()
def apply(
    contracts: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Contract files or folders (*.odcs.yaml); with --submitted numbers of submissions.", show_default=False
        ),
    ] = None,
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

    The login of a domain's team hands them in instead, for "tidegate run" or an administrator.
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
    from tidegate.contract.odcs import load_contracts
    from tidegate.govern.apply import apply_plan
    from tidegate.govern.plan import ContractUnfit, make_plan
    from tidegate.index.embedding.registry import Embedders
    from tidegate.observe.lineage import Lineage

    loaded = load_contracts(contracts)
    settings = load_settings()
    embedders = Embedders(settings)
    lineage = Lineage(settings.openlineage)
    with control(dsn) as connection:
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
            with lineage.applying(connection, plan):
                apply_plan(connection, plan)
            for line in plan.summary or ("nothing to do",):
                console.out.print(f"{contract.product}: {line}")
        if wait and not sql:
            from tidegate.observe.backfill import wait_until_live

            wait_until_live(connection, [contract.product for contract in loaded], console.err)

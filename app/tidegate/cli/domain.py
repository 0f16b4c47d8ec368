"""Federation: teams of domains, what they hand in, and what administrators decide of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tidegate import console
from tidegate.cli.options import Dsn, Json, control, given_dsn, load_settings
from tidegate.cli.program import EXIT_CHANGES, EXIT_FAILED, domain_app, submissions_app
from tidegate.count import counted
from tidegate.errors import UsageError

if TYPE_CHECKING:
    from tidegate.contract.contract import Contract
    from tidegate.govern.submission import Kind, Outcome

_REVIEWS = ("never", "widens", "always")


@domain_app.command("add")
def domain_add(
    domain: Annotated[str, typer.Argument(help="The domain, as contracts name it.")],
    role: Annotated[
        str, typer.Option("--role", envvar="TIDEGATE_TEAM_ROLE", help="The team's role; its members hand in.")
    ],
    review: Annotated[
        str,
        typer.Option(
            "--review", envvar="TIDEGATE_REVIEW", help="Which changes an administrator decides: never, widens, always."
        ),
    ] = "widens",
    dsn: Dsn = None,
) -> None:
    """Let the members of a role publish a domain's contracts. Again: changes role and review."""
    from tidegate.govern.team import add_domain

    if review not in _REVIEWS:
        raise UsageError(f'--review is "{review}"; it is one of {", ".join(_REVIEWS)}')
    with control(dsn) as connection:
        add_domain(connection, domain, role, review)
    console.err.print(console.escape(f"members of {role} hand in contracts of {domain}; reviewed: {review}"))


@domain_app.command("remove")
def domain_remove(domain: Annotated[str, typer.Argument(help="The domain.")], dsn: Dsn = None) -> None:
    """Let nobody hand in contracts of a domain any more; its products stay."""
    from tidegate.govern.team import remove_domain

    with control(dsn) as connection:
        remove_domain(connection, domain)
    console.err.print(console.escape(f"{domain} has no team any more; its products stay"))


@domain_app.command("list")
def domain_list(dsn: Dsn = None, json_: Json = False) -> None:
    """Domains, their teams, and what is reviewed."""
    from tidegate.govern.team import list_domains

    with control(dsn) as connection:
        domains = list_domains(connection)
    if json_:
        console.print_json(domains)
        return
    if not domains:
        console.err.print("no domain has a team; tidegate domain add DOMAIN --role ROLE")
    for found in domains:
        team = f"{found.team_role} ({', '.join(found.members) or 'nobody'})"
        console.out.print(
            console.escape(
                f"{found.domain}  team {team}  reviewed: {found.review}  {counted(found.products, 'product')}"
            )
        )


@submissions_app.callback(invoke_without_command=True)
def submissions(context: typer.Context, dsn: Dsn = None, json_: Json = False) -> None:
    """Contracts that teams handed in: list (also without a command), refuse. Applied: tidegate apply --submitted."""
    if context.invoked_subcommand is None:
        submissions_list(dsn=dsn, json_=json_)


@submissions_app.command("list")
def submissions_list(
    only_open: Annotated[
        bool, typer.Option("--open", envvar="TIDEGATE_OPEN", help="Only those that wait for a decision.")
    ] = False,
    dsn: Dsn = None,
    json_: Json = False,
) -> None:
    """Your team's submissions; for administrators all."""
    from tidegate.database import connect
    from tidegate.govern.submission import list_submissions

    with connect(given_dsn(dsn)) as connection:
        found = list_submissions(connection, only_open=only_open)
    if json_:
        console.print_json(found)
        return
    if not found:
        console.err.print("no submissions")
    for one in found:
        since = f"by {one.submitted_by} {console.moment(one.submitted_at)}"
        console.out.print(console.escape(f"{one.id}  {one.kind} {one.product}  {one.state}  {since}"))
        for line in (one.outcome or "").splitlines():
            console.out.print(console.escape(f"    {line}"))


@submissions_app.command("refuse")
def submissions_refuse(
    number: Annotated[int, typer.Argument(help="The submission's number.")],
    reason: Annotated[str, typer.Option("--reason", envvar="TIDEGATE_REASON", help="The submitter reads it.")],
    dsn: Dsn = None,
) -> None:
    """Refuse a submission that waits."""
    from tidegate.govern.submission import refuse

    with control(dsn) as connection:
        refuse(connection, number, reason)
    console.err.print(f"{number} refused")


def hands_in(dsn: str | None) -> bool:
    """Whether the login is a team's, which hands in what an administrator's would do by itself."""
    from tidegate.database import connect
    from tidegate.govern.submission import may_publish

    with connect(given_dsn(dsn)) as connection:
        return not may_publish(connection)


def hand_in_contracts(
    dsn: str | None, contracts: list[Path], kind: Literal["plan", "apply"], *, rebuild: bool, sql: bool, wait: bool
) -> None:
    """Hands the contracts in, one submission each, waits for what becomes of them, and prints it.

    Exits as an administrator's command does: 1 when one is refused, a plan with changes 2.
    """
    from tidegate.contract.odcs import load_contracts
    from tidegate.database import connect
    from tidegate.govern.submission import hand_in, wait_for_outcome

    loaded = load_contracts(contracts)
    # Shown, not done: its SQL is asked for as a plan.
    asked: Kind = "plan" if sql else kind
    code = 0
    with connect(given_dsn(dsn)) as connection:
        numbers = [(contract, hand_in(connection, contract, asked, rebuild=rebuild)) for contract in loaded]
        for contract, number in numbers:
            console.err.print(console.escape(f"{contract.product}: handed in as {number}"))
            if wait:
                with console.err.status("waiting for tidegate run, or an administrator …"):
                    outcome = wait_for_outcome(connection, number)
                code = max(code, _report(contract, outcome, sql=sql), key=_gravity)
    if not wait:
        console.err.print('what becomes of them: "tidegate submissions"')
    if code and not sql:
        raise typer.Exit(code)
    if code == EXIT_FAILED:
        raise typer.Exit(code)


def _gravity(code: int) -> int:
    return (0, EXIT_CHANGES, EXIT_FAILED).index(code)


def _report(contract: "Contract", outcome: "Outcome", *, sql: bool) -> int:
    plan = outcome.plan or {}
    if outcome.state == "refused":
        # Word for word as an administrator would read it.
        console.err.print(console.escape(f"error: {outcome.text}"))
        return EXIT_FAILED
    if sql:
        print(plan["sql"] + ";" if plan["sql"] else f"-- {contract.product}: nothing to do")
    else:
        for line in (outcome.text or "").splitlines():
            console.out.print(console.escape(f"{contract.product}: {line}"))
    return EXIT_CHANGES if outcome.state == "planned" and plan.get("sql") else 0


def decide_submitted(dsn: str | None, numbers: list[str]) -> None:
    """`tidegate apply --submitted [N …]`: decides these submissions, or all that wait."""
    from tidegate.applying import Applying
    from tidegate.govern.controller import Controller
    from tidegate.govern.submission import outcome as outcome_of
    from tidegate.index.embedding.registry import Embedders

    if not all(number.isdecimal() for number in numbers):
        raise UsageError("--submitted takes the numbers of submissions, or nothing: all that wait")
    settings = load_settings()
    controller = Controller(given_dsn(dsn), Embedders(settings), Applying(settings), settings.sources)
    with control(dsn) as connection:
        if numbers:
            chosen = [int(number) for number in numbers]
            for number in chosen:
                outcome_of(connection, number)  # all of them are there, or nothing is done
            decided = [(number, controller.decide(connection, number, reviewed=True)) for number in chosen]
        else:
            decided = [*controller.decide_waiting(connection, reviewed=True)]
    refused = False
    for number, outcome in decided:
        state = "does not wait for a decision" if outcome is None else outcome.state
        console.out.print(f"{number}: {state}")
        for line in "" if outcome is None else (outcome.text or "").splitlines():
            console.out.print(console.escape(f"    {line}"))
        refused = refused or outcome is None or outcome.state == "refused"
    if not decided:
        console.err.print("no submission waits")
    if refused:
        raise typer.Exit(EXIT_FAILED)

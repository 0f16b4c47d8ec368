"""Contracts before they are published: new, lint, diff, history, standards."""

from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate import console
from tidegate.cli.options import Dsn, Json, control, given_dsn, write_text
from tidegate.cli.program import EXIT_CHANGES, EXIT_FAILED, app, standards_app, two_means_changes
from tidegate.count import counted
from tidegate.errors import TidegateError, UsageError

if TYPE_CHECKING:
    from tidegate.contract.diff import Diff
    from tidegate.contract.standards import Standards


class LintFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    GITHUB = "github"
    SARIF = "sarif"


@app.command()
def new(
    product: Annotated[str, typer.Argument(help="domain.table of the product; the rows are in the domain's schema.")],
    dsn: Dsn = None,
    table: Annotated[
        str | None,
        typer.Option(
            envvar="TIDEGATE_TABLE", help="schema.table of the rows, where the product is called otherwise.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", envvar="TIDEGATE_OUTPUT", help="File, or - for stdout. Default: PRODUCT.odcs.yaml here.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", envvar="TIDEGATE_FORCE", help="Overwrite the file if it is there.")
    ] = False,
) -> None:  # fmt: skip
    """Write a contract for a table, to be edited: what to embed, filters, personal data and rules are guesses."""
    from tidegate.database import connect
    from tidegate.govern.draft import draft_contract

    file = None if output == "-" else Path(output or f"{product}.odcs.yaml")
    if file is not None and file.exists() and not force:
        raise UsageError(f"{file} is there already; pass --force to overwrite it, or --output for another place")
    with connect(given_dsn(dsn)) as connection:
        text = draft_contract(connection, product, table)
    if file is None:
        print(text, end="")
        return
    write_text(file, text)
    console.err.print(console.escape(f"wrote {file}; read it, then: tidegate lint {file} && tidegate apply {file}"))


@app.command()
def lint(
    contracts: Annotated[list[Path], typer.Argument(help="Contract files or folders (*.odcs.yaml).")],
    standards: Annotated[
        Path | None,
        typer.Option(
            envvar="TIDEGATE_STANDARDS", help="Standards to lint by; default: tidegate's own set.", show_default=False
        ),
    ] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published", envvar="TIDEGATE_PUBLISHED", help="Lint by the standards in force in the database."
        ),
    ] = False,
    format_: Annotated[
        LintFormat, typer.Option("--format", envvar="TIDEGATE_FORMAT", help="What is written to stdout.")
    ] = LintFormat.TEXT,
    strict: Annotated[bool, typer.Option("--strict", envvar="TIDEGATE_STRICT", help="Warnings fail too.")] = False,
    dsn: Dsn = None,
) -> None:
    """Check contracts and name everything that is wrong, with its line. Exit 1 where there is an error."""
    from tidegate.contract.lint import lint as run
    from tidegate.contract.lint_report import as_github, as_json, as_sarif, as_text

    result = run(contracts, _standards(standards, published, dsn))
    match format_:
        case LintFormat.TEXT:
            if result.findings:
                print(as_text(result))
        case LintFormat.JSON:
            console.print_json(as_json(result))
        case LintFormat.GITHUB:
            if result.findings:
                print(as_github(result))
        case LintFormat.SARIF:
            from importlib.metadata import version

            print(as_sarif(result, version("tidegate")))
    counts = as_json(result)
    said = ((len(result.files), "file"), (counts["errors"], "error"), (counts["warnings"], "warning"))
    console.err.print(", ".join(counted(number, noun) for number, noun in said))
    if result.fails(strict=strict):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def diff(
    contract: Annotated[Path, typer.Argument(help="A contract file.")],
    against: Annotated[
        Path | None,
        typer.Option(
            envvar="TIDEGATE_AGAINST", help="The other contract; default: the published version.", show_default=False
        ),
    ] = None,
    exit_code: Annotated[
        bool,
        typer.Option("--exit-code", envvar="TIDEGATE_EXIT_CODE", help="Exit 2 where there are changes, 0 where none."),
    ] = False,
    dsn: Dsn = None,
    json_: Json = False,
) -> None:
    """What a contract changes, each change with its class, and the smallest version that allows it.

    Exit 1 where the contract's version is refused (too small a step, or already published with another content).
    """
    with two_means_changes() if exit_code else nullcontext():
        found, problems = _compared(contract, against, dsn, json_)
    if problems:
        raise typer.Exit(EXIT_FAILED)
    if exit_code and (found is None or found.changes):
        raise typer.Exit(EXIT_CHANGES)


def _compared(contract: Path, against: Path | None, dsn: str | None, json_: bool) -> "tuple[Diff | None, list[str]]":
    """Prints what the contract changes; returns it, and why its version is refused."""
    from tidegate.contract.diff import check_bump
    from tidegate.contract.diff import diff as compare
    from tidegate.contract.odcs import load_contract

    loaded = load_contract(contract)
    found: Diff | None = None
    if against is not None:
        old = load_contract(against)
        if old.product != loaded.product:
            raise UsageError(f"{against} is about {old.product}, {contract} about {loaded.product}")
        found, problems = compare(old, loaded), list(check_bump(old, loaded))
    else:
        from tidegate.govern.version_gate import published_diff, version_problems

        with control(dsn) as connection:
            found, problems = published_diff(connection, loaded), version_problems(connection, loaded)
    _print_diff(loaded.product, found, problems, json_)
    return found, problems


def _print_diff(product: str, found: "Diff | None", problems: list[str], json_: bool) -> None:
    if json_:
        console.print_json(
            {
                "product": product,
                "published": None if found is None else str(found.old),
                "version": None if found is None else str(found.new),
                "class": None if found is None else found.kind,
                "bump": None if found is None else found.bump.name,
                "required": None if found is None else str(found.required),
                "problems": problems,
                "changes": [] if found is None else [change.as_json() for change in found.changes],
            }
        )
        return
    if found is None:
        console.out.print(console.escape(f"{product} is new; any version may be its first"))
    elif not found.changes:
        console.out.print(console.escape(f"{product}: no changes"))
    else:
        for change in found.changes:
            console.out.print(console.escape(f"{change.kind:<9}{change.bump.name:<6} {change.sentence}"))
        console.out.print(
            console.escape(
                f"{product}: {found.kind}; {found.bump.name}: from {found.old} to {found.required} or higher"
            )
        )
    for problem in problems:
        console.err.print(console.escape(f"error: {problem}"))


@app.command()
def history(
    product: Annotated[str, typer.Argument(help="A product, e.g. support.ticket.")],
    show: Annotated[
        str | None,
        typer.Option(envvar="TIDEGATE_SHOW", help="Print the contract of this version instead.", show_default=False),
    ] = None,
    dsn: Dsn = None,
    json_: Json = False,
) -> None:
    """The published versions of a product: who, when, and what changed. Newest first."""
    from tidegate.govern.history import product_history, version_text

    with control(dsn) as connection:
        if show is not None:
            print(version_text(connection, product, show), end="")
            return
        versions = product_history(connection, product)
    if json_:
        console.print_json(versions)
        return
    for version in versions:
        mark = "  (in force)" if version.in_force else ""
        console.out.print(
            console.escape(
                f"{version.version}  {console.moment(version.applied_at)}  {version.applied_by}  "
                f"{version.change_class or 'NEW'}{mark}"
            )
        )
        for change in version.changes:
            console.out.print(console.escape(f"    {change['class']}: {change['sentence']}"))


@standards_app.command("show-default")
def standards_show_default() -> None:
    """Print the standards that tidegate brings, to begin a standards.yaml with."""
    from tidegate.contract.standards_file import default_text

    print(default_text(), end="")


@standards_app.command("check")
def standards_check(file: Annotated[Path, typer.Argument(help="A standards file.")]) -> None:
    """Read a standards file; name everything that is wrong with it."""
    from tidegate.contract.standards_file import load_standards

    loaded = load_standards(file)
    console.err.print(console.escape(f"{file}: {len(loaded.checks)} checks, {len(loaded.rules)} rules"))


@standards_app.command("show")
def standards_show(dsn: Dsn = None) -> None:
    """Print the standards in force in the database."""
    from tidegate.govern.standards import published_standards

    with control(dsn) as connection:
        found = published_standards(connection)
    if found is None:
        console.err.print(
            "no standards are in force; an administrator publishes them: tidegate apply … --standards FILE"
        )
        raise typer.Exit(EXIT_FAILED)
    print(found.standards.text, end="")


def _standards(file: Path | None, published: bool, dsn: str | None) -> "Standards":
    from tidegate.contract.standards_file import default_standards, load_standards

    if file is not None and published:
        raise UsageError("--standards and --published: one of the two")
    if published:
        from tidegate.govern.standards import published_standards

        with control(dsn) as connection:
            found = published_standards(connection)
        if found is None:
            raise TidegateError("no standards are in force in this database; lint without --published")
        return found.standards
    return load_standards(file) if file is not None else default_standards()

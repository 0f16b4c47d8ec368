"""A plan as people read it: what each product gets, and who sees more or less."""

import itertools
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tidegate.count import counted
from tidegate.database import Connection
from tidegate.govern.estimate import Estimate
from tidegate.govern.matrix import Matrix
from tidegate.govern.plan_set import PlanSet, statements


def print_plan(
    console: Console, plans: PlanSet, matrices: Mapping[str, Matrix], estimates: Mapping[str, Estimate] | None = None
) -> None:
    """Summary, cost and matrix; unchanged products by their number."""
    if plans.standards is not None:
        console.print(f"standards: puts {escape(plans.standards.path)} in force")
    for plan in plans.changing:
        product = plan.contract.product
        before = f"{plan.published.version} → " if plan.published else ""
        kind = plan.change_class or ("new" if plan.published is None else "")
        console.print(f"[bold]{product}[/bold] {before}{plan.contract.version}  {kind}")
        for change in plan.changes:
            console.print(f"  {change.kind}: {escape(change.sentence)}")
        for line in plan.summary:
            console.print(f"  {escape(line)}")
        if estimates and product in estimates:
            console.print(f"  {escape(estimates[product].sentence)}")
        if product in matrices:
            _print_matrix(console, matrices[product])
    unchanged = len(plans.plans) - len(plans.changing)
    if unchanged:
        console.print(f"{unchanged} product{'s' if unchanged > 1 else ''}: nothing to do")


def _print_matrix(console: Console, matrix: Matrix) -> None:
    if matrix.rows is not None and matrix.access:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
        for name in ("role", "sees", "gains", "loses", "then"):
            table.add_column(name, justify="left" if name == "role" else "right")
        for each in matrix.access:
            gained = f"[yellow]+{each.gained:,}[/yellow]" if each.gained else "-"
            lost = f"-{each.lost:,}" if each.lost else "-"
            name = escape(each.role) if each.named else f"  {escape(each.role)}"
            table.add_row(name, f"{each.before:,}", gained, lost, f"{each.after:,}")
        console.print(f"  of {counted(matrix.rows, 'row')}:")
        console.print(table)
    for clear in matrix.clear:
        if clear.before != clear.after:
            verb = "sees" if clear.after else "no longer sees"
            console.print(f"  {escape(clear.role)} {verb} the clear values of {escape(clear.column)}")
    for note in matrix.notes:
        console.print(f"  note: {escape(note)}")


def plan_sql(connection: Connection, plans: PlanSet) -> Iterator[str]:
    """The statements in order, each product under its name, with the role that runs them."""
    ran = statements(connection, plans)
    for product, lines in ran.items():
        for source, part in itertools.groupby(lines, key=lambda line: line[2]):
            yield f"-- {product}" + (f", on {source}" if source else "")
            yield "BEGIN;"
            as_owner = False
            for text, owned, _ in part:
                if owned != as_owner:
                    yield "SET LOCAL ROLE tidegate_owner;" if owned else "SET LOCAL ROLE NONE;"
                    as_owner = owned
                yield f"{text.rstrip().rstrip(';')};"
            yield "COMMIT;"
    for plan in plans.plans:
        if not plan.steps:
            yield f"-- {plan.contract.product}: nothing to do"

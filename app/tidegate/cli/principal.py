"""Who is who: attributes of roles."""

from typing import Annotated

import typer

from tidegate import console
from tidegate.cli.options import Dsn, Json, control
from tidegate.cli.program import principal_app


@principal_app.command("set")
def principal_set(
    principal: Annotated[str, typer.Argument(help="A role; its members inherit.")],
    assignments: Annotated[list[str], typer.Argument(help="attribute=value or attribute=value,value")],
    dsn: Dsn = None,
) -> None:
    """Set attributes of a role, e.g. `principal set alice regions=EU,US clearance=2`."""
    from tidegate.govern.principals import as_assignments, parse_assignments, set_attributes, unread_attributes

    with control(dsn) as connection:
        attributes = parse_assignments(assignments)
        set_attributes(connection, principal, attributes)
        console.err.print(console.escape(f"{principal} has {as_assignments(attributes)}"))
        for name in unread_attributes(connection, list(attributes)):
            console.err.print(f"note: no published rule reads user.{name}")


@principal_app.command("unset")
def principal_unset(
    principal: Annotated[str, typer.Argument(help="A role.")],
    attributes: Annotated[list[str] | None, typer.Argument(help="Attributes; none: all.", show_default=False)] = None,
    dsn: Dsn = None,
) -> None:
    """Remove attributes of a role."""
    from tidegate.govern.principals import unset_attributes

    with control(dsn) as connection:
        count = unset_attributes(connection, principal, attributes or [])
    console.err.print(f"{count} removed")


@principal_app.command("show")
def principal_show(
    principal: Annotated[str, typer.Argument(help="A role.")], dsn: Dsn = None, json_: Json = False
) -> None:
    """Attributes of a role, its own and those it inherits."""
    from tidegate.govern.principals import show_attributes

    with control(dsn) as connection:
        shown = show_attributes(connection, principal)
    if json_:
        console.print_json(shown)
    elif not shown:
        console.err.print(f"nothing is known of {principal}")
    for attribute, origins in () if json_ else shown.items():
        for origin, values in origins.items():
            console.out.print(console.escape(f"{attribute} = {','.join(values)}  ({origin})"))


@principal_app.command("list")
def principal_list(dsn: Dsn = None, json_: Json = False) -> None:
    """All roles that have attributes of their own, and these."""
    from tidegate.govern.principals import list_principals

    with control(dsn) as connection:
        found = list_principals(connection)
    if json_:
        console.print_json(found)
    elif not found:
        console.err.print('no role has attributes; "tidegate principal set" gives some')
    for one in () if json_ else found:
        console.out.print(console.escape(one.sentence))

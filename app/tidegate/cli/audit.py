"""What was changed, by whom; and emergency access."""

import json
from typing import Annotated

import typer

from tidegate import console
from tidegate.cli.options import Dsn, Json, OneProduct, control
from tidegate.cli.program import app
from tidegate.errors import UsageError


@app.command()
def audit(
    dsn: Dsn = None,
    since: Annotated[
        str | None,
        typer.Option(envvar="TIDEGATE_SINCE", help="2d, 12h, 90m, or a moment in ISO 8601.", show_default=False),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            envvar="TIDEGATE_KIND",
            help="apply, model, product, principal, token, domain, standards or break-glass.",
            show_default=False,
        ),
    ] = None,
    product: OneProduct = None,
    most: Annotated[int, typer.Option("--most", envvar="TIDEGATE_MOST", min=1, help="Events at most.")] = 1000,
    json_: Json = False,
) -> None:
    """Every apply, change of who is who, and break-glass: who, when, before, after. Newest first."""
    from tidegate.govern.audit import audit_events, read_since

    moment = read_since(since) if since else None
    with control(dsn) as connection:
        events = audit_events(connection, since=moment, kind=kind, product=product, most=most)
    if json_:
        console.print_json(events)
        return
    for event in events:
        subject = " ".join(part for part in (event.product, event.contract_version, event.subject) if part)
        reason = f'  "{event.reason}"' if event.reason else ""
        console.out.print(console.escape(f"{console.moment(event.at)}  {event.actor}  {event.kind}  {subject}{reason}"))
        for name, value in (("before", event.before), ("after", event.after)):
            if value is not None:
                shown = console.shorten(json.dumps(value, ensure_ascii=False), 200)
                console.out.print(console.escape(f"    {name}: {shown}"))
    if not events:
        console.err.print("nothing recorded")


@app.command("break-glass")
def break_glass(
    principal: Annotated[
        str | None,
        typer.Option("--as", envvar="TIDEGATE_AS", help="The login that needs to see; none: list.", show_default=False),
    ] = None,
    reason: Annotated[
        str, typer.Option(envvar="TIDEGATE_REASON", help="Why; kept in the audit.", show_default=False)
    ] = "",
    minutes: Annotated[
        int, typer.Option(envvar="TIDEGATE_MINUTES", min=1, max=480, help="Until it ends by itself.")
    ] = 30,
    product: Annotated[
        list[str] | None,
        typer.Option("--product", envvar="TIDEGATE_PRODUCT", help="Only these products.", show_default=False),
    ] = None,
    end_: Annotated[bool, typer.Option("--end", envvar="TIDEGATE_END", help="End it now.")] = False,
    dsn: Dsn = None,
    json_: Json = False,
) -> None:
    """Let one login see all rows for some minutes: logged, expiring; policies stay. Without --as: who can now.

    Clear values of masked columns stay closed.
    """
    from tidegate.govern.break_glass import begin, end, open_grants

    with control(dsn) as connection:
        if principal is None:
            if end_ or reason:
                raise UsageError("break-glass is for one login; name it: --as LOGIN")
            grants = open_grants(connection)
            if json_:
                console.print_json(grants)
                return
            for grant in grants:
                scope = ", ".join(grant.products) if grant.products else "all products"
                until = console.moment(grant.expires_at)
                console.out.print(
                    console.escape(
                        f'{grant.principal}  {scope}  until {until}  by {grant.granted_by}: "{grant.reason}"'
                    )
                )
            if not grants:
                console.err.print("nobody")
            return
        if end_:
            count = end(connection, principal)
            console.err.print(console.escape(f"{count} ended for {principal}"))
            return
        until = console.moment(begin(connection, principal, reason, minutes, product))
        scope = ", ".join(product) if product else "all products"
        console.err.print(
            console.escape(
                f"{principal} sees all rows of {scope} until {until}; end it: break-glass --as {principal} --end"
            )
        )

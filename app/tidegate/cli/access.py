"""Questions of administrators about others: why somebody sees a row, and who can."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate import console
from tidegate.cli.options import Dsn, Json, control
from tidegate.cli.program import app
from tidegate.count import counted
from tidegate.errors import UsageError

Product = Annotated[str, typer.Argument(help="Product, e.g. support.ticket.")]


@app.command("explain-access")
def explain_access(
    product: Product,
    role: Annotated[
        str | None, typer.Option("--as", envvar="TIDEGATE_AS", help="A role of the server.", show_default=False)
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            envvar="TIDEGATE_KEY",
            help="The row: 42, id=1,region=EU, or JSON; none: in general.",
            show_default=False,
        ),
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option(
            "--roles",
            envvar="TIDEGATE_ROLES",
            help="Instead of --as: somebody with these roles, a,b.",
            show_default=False,
        ),
    ] = None,
    attributes: Annotated[
        list[str] | None,
        typer.Option(
            "--attribute",
            envvar="TIDEGATE_ATTRIBUTE",
            help="With --roles: regions=EU,US; may be repeated.",
            show_default=False,
        ),
    ] = None,
    token_claims: Annotated[
        Path | None,
        typer.Option(
            "--token-claims",
            envvar="TIDEGATE_TOKEN_CLAIMS",
            help="Instead of --as: a file with a token's claims.",
            show_default=False,
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    dsn: Dsn = None,
    json_: Json = False,
) -> None:
    """Which rule lets somebody see a row, which stops her, and the values that decided."""
    from tidegate.govern import explain
    from tidegate.govern.principals import parse_assignments

    given = [choice for choice in (role, roles, token_claims) if choice is not None]
    if len(given) != 1:
        raise UsageError("say who asks: one of --as ROLE, --roles a,b and --token-claims FILE")
    if attributes and roles is None:
        raise UsageError("--attribute goes with --roles: a role of the server has its own (tidegate principal show)")
    wanted = None if key is None else explain.parse_key(key)
    with control(dsn) as connection:
        if role is not None:
            explained = explain.explain_role(connection, role, product, wanted)
        elif token_claims is not None:
            claims = explain.read_claims(token_claims.read_text(encoding="utf-8"))
            explained = explain.explain_claims(connection, claims, product, wanted)
        else:
            named = [name.strip() for name in (roles or "").split(",") if name.strip()]
            known = parse_assignments(attributes or [])
            explained = explain.explain_given(connection, named, known, product, wanted)
    console.print_json(explained) if json_ else _print(explained)


@app.command("who-can-see")
def who_can_see(
    product: Product,
    key: Annotated[str, typer.Option("--key", envvar="TIDEGATE_KEY", help="The row: 42, id=1,region=EU, or JSON.")],
    dsn: Dsn = None,
    json_: Json = False,
) -> None:
    """All roles that see a row now, and by which rule; superusers and BYPASSRLS apart."""
    from tidegate.govern import explain

    with control(dsn) as connection:
        seers = explain.who_can_see(connection, product, explain.parse_key(key))
    if json_:
        console.print_json(seers)
        return
    if not any(seer.sees for seer in seers):
        console.out.print(f"nobody sees it: there is no row of the key {console.escape(key)} in the index")
    elif not any(seer.how in ("rule", "break-glass") for seer in seers):
        console.out.print("no role sees it by a rule")
    for seer in sorted(seers, key=lambda seer: (seer.how not in ("rule", "break-glass"), seer.how, seer.role)):
        kind = {True: "login", False: "group role", None: "its people could, with the attributes that fit"}[seer.login]
        by = f"rule {', '.join(seer.rules)}" if seer.how == "rule" else seer.how
        if seer.how == "token issuer":
            by = f"token issuer, rule {', '.join(seer.rules)}"
        unfound = "" if seer.finds or seer.finds is None else "; a strict search does not find it"
        console.out.print(console.escape(f"{seer.role}  ({kind})  {by}{unfound}"))


def _print(found: dict[str, Any]) -> None:
    caller = found["caller"]
    who = caller.get("role") or caller.get("principal") or "somebody with these roles"
    say = console.out.print
    if found["key"] is not None and not found["source"]["found"] and not found["index"]["found"]:
        nowhere, *more = found["because"]
        say(console.escape(f"{nowhere}  ({found['product']} {found['contract_version']})"))
        for reason in more:
            say(console.escape(f"  {reason}"))
        return  # no rule was asked
    if found["key"] is None:
        say(
            console.escape(
                f"{who}: {found['visible_rows']} of {counted(found['rows'], 'row')} of {found['product']} by its rules"
            )
        )
    else:
        verdict = "sees it, by plain SQL" if found["sees"] else "does not see it"
        search = "a strict search finds it" if found["finds"] else "a strict search does not find it"
        say(console.escape(f"{who}: {verdict}; {search}  ({found['product']} {found['contract_version']})"))
    for reason in found["because"]:
        say(console.escape(f"  {reason}"))
    say(console.escape(f"roles: {', '.join(caller['roles']) or 'none'}"))
    for name, values in sorted(caller["attributes"].items()):
        say(console.escape(f"user.{name} = {','.join(values)}"))
    for name in found["missing_attributes"]:
        say(console.escape(f"user.{name} is missing"))
    for rule in found["rules"]:
        to = f" to {', '.join(rule['roles'])}" if rule["roles"] else ""
        when = f" when {rule['when']}" if rule["when"] else ""
        say(console.escape(f"{rule['effect']} {rule['rule']}{to}{when}"))
        truth = {True: "true", False: "false", None: "unknown"}[rule["condition"]]
        if found["key"] is None:
            rows = rule["rows"]
            shares = f"true of {counted(rows['true'], 'row')}, false of {rows['false']}, unknown of {rows['unknown']}"
            say(console.escape(f"    {rule['outcome']}: {shares}{_why(rule)}"))
        else:
            say(console.escape(f"    {rule['outcome']}: the condition is {truth}{_why(rule)}"))


def _why(rule: dict[str, Any]) -> str:
    return f" ({rule['why']})" if rule["why"] else ""

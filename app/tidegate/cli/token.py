"""Signed tokens: issuers, keys, and tokens to try them with."""

import sys
from datetime import datetime, timedelta
from typing import Annotated

import typer

from tidegate import console
from tidegate.cli.options import Dsn, Json, control, load_settings
from tidegate.cli.program import app
from tidegate.errors import UsageError

token_app = typer.Typer(help="Signed tokens of applications that serve many people.", no_args_is_help=True)
issuer_app = typer.Typer(help="Whose tokens are believed, and what their claims mean.", no_args_is_help=True)
key_app = typer.Typer(help="Keys that sign tokens; several of an issuer may overlap.", no_args_is_help=True)
app.add_typer(token_app, name="token")
token_app.add_typer(issuer_app, name="issuer")
token_app.add_typer(key_app, name="key")

Stdin = Annotated[
    bool, typer.Option("--stdin", envvar="TIDEGATE_TOKEN_KEY_STDIN", help="Read the secret from standard input.")
]
Kid = Annotated[str, typer.Argument(help="The key's id.")]


@issuer_app.command("set")
def issuer_set(
    issuer: Annotated[str, typer.Argument(help="What the claim iss must be.")],
    audience: Annotated[str, typer.Option(envvar="TIDEGATE_TOKEN_AUDIENCE", help="What aud must be, or hold.")],
    principal_claim: Annotated[
        str, typer.Option(envvar="TIDEGATE_TOKEN_PRINCIPAL_CLAIM", help="The claim that names the principal.")
    ] = "sub",
    roles_claim: Annotated[
        str | None,
        typer.Option(
            envvar="TIDEGATE_TOKEN_ROLES_CLAIM",
            help="The claim with the roles, e.g. realm_access.roles; a dot in a name is written \\.",
            show_default=False,
        ),
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            envvar="TIDEGATE_TOKEN_ROLE",
            help="VALUE=ROLE: what a value of that claim stands for; no other is a role.",
            show_default=False,
        ),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            envvar="TIDEGATE_TOKEN_ATTRIBUTE",
            help="ATTRIBUTE=CLAIM: where user.ATTRIBUTE of the rules comes from.",
            show_default=False,
        ),
    ] = None,
    max_minutes: Annotated[
        int, typer.Option(envvar="TIDEGATE_TOKEN_MAX_MINUTES", min=1, max=1440, help="Longest time from iat to exp.")
    ] = 60,
    dsn: Dsn = None,
) -> None:
    """Declare an issuer. A declaration that is there is replaced as a whole."""
    from tidegate.govern.token_issuer import TokenIssuer, parse_attribute_map, parse_role_map, set_issuer

    declared = TokenIssuer(
        issuer,
        audience,
        principal_claim,
        roles_claim,
        parse_role_map(role or []),
        parse_attribute_map(attribute or []),
        timedelta(minutes=max_minutes),
    )
    with control(dsn) as connection:
        set_issuer(connection, declared)
    console.err.print(console.escape(f'"{issuer}" is declared; next: tidegate token key add {issuer}'))


@issuer_app.command("list")
def issuer_list(dsn: Dsn = None, json_: Json = False) -> None:
    """Issuers and what their claims mean."""
    from tidegate.govern.token_issuer import list_issuers

    with control(dsn) as connection:
        issuers = list_issuers(connection)
    shown = [
        {
            "issuer": issuer.issuer,
            "audience": issuer.audience,
            "principal_claim": issuer.principal_claim,
            "roles_claim": issuer.roles_claim,
            "role_map": dict(issuer.role_map),
            "attribute_map": dict(issuer.attribute_map),
            "max_minutes": issuer.max_lifetime.total_seconds() / 60,
        }
        for issuer in issuers
    ]
    if json_:
        console.print_json(shown)
    for one in () if json_ else shown:
        console.out.print(console.escape("  ".join(f"{name}={value}" for name, value in one.items())))


@issuer_app.command("remove")
def issuer_remove(issuer: Annotated[str, typer.Argument(help="The issuer.")], dsn: Dsn = None) -> None:
    """Believe an issuer no more; its keys go with it."""
    from tidegate.govern.token_issuer import remove_issuer

    with control(dsn) as connection:
        remove_issuer(connection, issuer)
    console.err.print(console.escape(f'"{issuer}" and its keys are removed'))


@key_app.command("add")
def key_add(
    issuer: Annotated[str, typer.Argument(help="Whose key it is.")],
    kid: Annotated[
        str | None,
        typer.Option(envvar="TIDEGATE_TOKEN_NEW_KID", help="Its id; default: a new one.", show_default=False),
    ] = None,
    gateway: Annotated[
        list[str] | None,
        typer.Option(
            envvar="TIDEGATE_TOKEN_GATEWAY",
            help="Login in whose sessions alone the key counts; may be repeated.",
            show_default=False,
        ),
    ] = None,
    not_before: Annotated[
        datetime | None,
        typer.Option(envvar="TIDEGATE_TOKEN_NOT_BEFORE", help="UTC; default: now.", show_default=False),
    ] = None,
    not_after: Annotated[
        datetime | None,
        typer.Option(envvar="TIDEGATE_TOKEN_NOT_AFTER", help="UTC; default: until revoked.", show_default=False),
    ] = None,
    stdin: Stdin = False,
    dsn: Dsn = None,
    json_: Json = False,
) -> None:
    """Add a key, beside those that there are. Its secret is made here and shown once, or read by --stdin."""
    import uuid

    from tidegate.govern.token_key import add_key
    from tidegate.signing_key import SigningKey

    kid = kid or uuid.uuid4().hex[:12]
    key = SigningKey(kid, _read_secret()) if stdin else SigningKey.generate(kid)
    with control(dsn) as connection:
        add_key(
            connection,
            issuer,
            key,
            gateways=gateway or (),
            not_before=_utc(not_before),
            not_after=_utc(not_after),
        )
    shown = {"kid": kid} if stdin else {"kid": kid, "secret": key.secret.decode()}
    if json_:
        console.print_json(shown)
        return
    console.out.print(console.escape(f"TIDEGATE_TOKEN_KID={kid}"))
    if not stdin:
        console.out.print(console.escape(f"TIDEGATE_TOKEN_KEY={shown['secret']}"))
        console.err.print("the secret is not shown again")


@key_app.command("list")
def key_list(dsn: Dsn = None, json_: Json = False) -> None:
    """Keys and whether they count; never a secret."""
    from tidegate.govern.token_key import list_keys

    with control(dsn) as connection:
        keys = list_keys(connection)
    if json_:
        console.print_json(
            [
                {
                    "kid": key.kid,
                    "issuer": key.issuer,
                    "gateways": key.gateways,
                    "state": key.state,
                    "not_before": key.not_before,
                    "not_after": key.not_after,
                    "revoked_at": key.revoked_at,
                    "added_by": key.added_by,
                    "added_at": key.added_at,
                }
                for key in keys
            ]
        )
    for key in () if json_ else keys:
        until = f", until {key.not_after:%Y-%m-%d %H:%M:%S}" if key.not_after and key.state == "good" else ""
        where = ", ".join(key.gateways) if key.gateways else "every gateway"
        console.out.print(console.escape(f"{key.kid}  {key.issuer}  {key.state}{until}  ({where})"))


@key_app.command("revoke")
def key_revoke(
    kid: Kid,
    after: Annotated[
        int | None,
        typer.Option(
            "--after",
            envvar="TIDEGATE_TOKEN_AFTER",
            min=1,
            help="Minutes in which its tokens may run out; none: at once.",
            show_default=False,
        ),
    ] = None,
    dsn: Dsn = None,
) -> None:
    """End a key: at once and for good, or when the tokens that it signed have run out."""
    from tidegate.govern.token_key import revoke_key

    with control(dsn) as connection:
        revoke_key(connection, kid, after=None if after is None else timedelta(minutes=after))
    console.err.print(console.escape(f'"{kid}" ' + ("is revoked" if after is None else f"ends in {after} minutes")))


@token_app.command("mint")
def mint(
    kid: Annotated[str, typer.Option(envvar="TIDEGATE_TOKEN_KID", help="The key to sign with.")],
    claim: Annotated[
        list[str] | None,
        typer.Option(envvar="TIDEGATE_CLAIM", help="NAME=VALUE, the value as JSON or as text; may be repeated."),
    ] = None,
    minutes: Annotated[int, typer.Option(envvar="TIDEGATE_MINUTES", min=1, help="How long it counts.")] = 5,
    stdin: Stdin = False,
    dsn: Dsn = None,
) -> None:
    """Sign a token, to test with: iss, aud, iat and exp as the key's issuer has them, and these claims.

    The secret comes from TIDEGATE_TOKEN_KEY or, with --stdin, from standard input.
    """
    import time

    from tidegate.govern.token_key import issuer_of
    from tidegate.signing_key import SigningKey

    # No flag: other users of the machine see a command's arguments.
    secret = load_settings().token_key
    if not stdin and secret is None:
        raise UsageError("no secret to sign with: set TIDEGATE_TOKEN_KEY, or pass it by --stdin")
    key = SigningKey(kid, _read_secret() if stdin or secret is None else secret.get_secret_value().encode())
    with control(dsn) as connection:
        issuer = issuer_of(connection, kid)
    now = int(time.time())
    times = {"iss": issuer.issuer, "aud": issuer.audience, "iat": now, "exp": now + 60 * minutes}
    print(key.sign(times | dict(_claim(text) for text in claim or [])))


def _claim(text: str) -> tuple[str, object]:
    import json

    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f'"{text}" is no claim; write NAME=VALUE')
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _read_secret() -> bytes:
    return sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r")


def _utc(moment: datetime | None) -> datetime | None:
    from datetime import UTC

    return moment and moment.replace(tzinfo=UTC)

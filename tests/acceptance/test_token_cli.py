"""`tidegate token …` as an administrator has it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jwt
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.acceptance.conftest import COMMAND, Command

from tidegate.database import connect

ISSUER = "https://app.example.com/"
DECLARE = ("token", "issuer", "set", ISSUER, "--audience", "tidegate", "--roles-claim", "roles", "--role", "agents=token_cli_agent",
           "--attribute", "regions=org.regions")  # fmt: skip


@pytest.fixture
def tidegate(tmp_path: Path, bare: str) -> Iterator[Command]:
    command = Command(tmp_path, bare)
    command.ok("init")
    with connect(bare) as admin:
        admin.execute(
            "CREATE ROLE token_cli_agent; CREATE ROLE token_cli_app LOGIN PASSWORD 'p' IN ROLE tidegate_gateway"
        )
        yield command
        admin.execute("DROP ROLE token_cli_agent; DROP ROLE token_cli_app")


def whoami(dsn: str, token: str) -> object:
    with psycopg.connect(make_conninfo(dsn, user="token_cli_app", password="p")) as session:
        session.execute("SELECT set_config('tidegate.jwt', %s, true)", [token])
        return session.execute("SELECT principal, roles, attributes FROM tidegate.whoami()").fetchone()


def test_from_an_issuer_to_a_person_and_back(tidegate: Command, bare: str) -> None:
    assert tidegate.ok(*DECLARE).out == ""
    made = tidegate.ok("token", "key", "add", ISSUER, "--gateway", "token_cli_app")
    environment = dict(line.split("=", 1) for line in made.out.splitlines())
    assert len(environment["TIDEGATE_TOKEN_KEY"]) >= 32
    claims = ("--claim", "sub=alice", "--claim", 'roles=["agents"]', "--claim", 'org={"regions":["EU"]}')
    token = tidegate.ok("token", "mint", *claims, **environment).out.strip()
    decoded = jwt.decode(token, environment["TIDEGATE_TOKEN_KEY"], ["HS256"], audience="tidegate", issuer=ISSUER)
    assert decoded["sub"] == "alice"
    assert whoami(bare, token) == ("alice", ["token_cli_agent"], {"regions": ["EU"]})

    # A key that the application made itself, beside the first; the secret comes by standard input only.
    secret = "x" * 40
    command = [str(COMMAND), "token", "key", "add", ISSUER, "--kid", "own", "--stdin"]
    done = subprocess.run(
        command,
        input=secret + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=tidegate.folder,
        env=tidegate.environ(),
    )
    assert done.stdout == "TIDEGATE_TOKEN_KID=own\n"
    assert secret not in done.stdout + done.stderr
    listed = tidegate.ok("token", "key", "list", "--json").out
    assert {key["kid"]: key["gateways"] for key in json.loads(listed)} == {
        environment["TIDEGATE_TOKEN_KID"]: ["token_cli_app"],
        "own": None,
    }
    assert secret not in listed
    assert environment["TIDEGATE_TOKEN_KEY"] not in listed

    tidegate.ok("token", "key", "revoke", environment["TIDEGATE_TOKEN_KID"])
    assert whoami(bare, token) == (None, [], {})


def test_used_wrongly(tidegate: Command) -> None:
    done = tidegate("token", "mint", "--kid", "none")
    assert done.code == 2
    assert "set TIDEGATE_TOKEN_KEY, or pass it by --stdin" in done.err.replace("\n", " ")

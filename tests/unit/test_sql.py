"""The static SQL: named queries load, and functions are made as the style asks."""

import ast
import re
from pathlib import Path

import pytest

import tidegate
from tidegate.contract.odcs import parse_contract
from tidegate.folder import folder
from tidegate.govern.chunk_table import functions
from tidegate.govern.control_schema import FUNCTION_SCRIPTS, initialisation_script, schema_head
from tidegate.govern.migrations import newest
from tidegate.sql import VECTOR_SCHEMA_TOKEN, queries, script

FILES = sorted(path.stem for path in folder("sql").glob("*.sql"))
NAMED = [name for name in FILES if queries(name)]
APP = Path(tidegate.__file__).parent
FUNCTION = re.compile(
    r"CREATE OR REPLACE FUNCTION\s+([\w.%$\"]+).*?(?:\$(\w*)\$.*?\$\2\$|AS '(?:''|[^'])*')\s*;?", re.DOTALL
)
PINNED = "SET search_path = pg_catalog, pg_temp"


def made(text: str) -> list[tuple[str, str]]:
    """Name and text of each function that the SQL makes."""
    return [(found[1], found[0]) for found in FUNCTION.finditer(text)]


def test_there_are_scripts_and_named_queries():
    assert {*FUNCTION_SCRIPTS, "roles", "publication", "worker", "govern", "status"} <= set(FILES)
    assert {"worker", "govern", "status"} <= set(NAMED)


def test_the_newest_migration_is_the_one_that_alembic_goes_to():
    assert schema_head() == newest()


@pytest.mark.parametrize("name", NAMED)
def test_every_named_query_is_one_statement_of_its_own_name(name: str):
    headings = re.findall(r"^-- (\w+) --$", script(name), re.MULTILINE)
    assert len(headings) == len(set(headings)) == len(queries(name))
    for heading, text in queries(name).items():
        code = re.sub(r"--[^\n]*|'[^']*'|\$\$.*?\$\$", "", text, flags=re.DOTALL)
        assert code.strip(), heading
        assert ";" not in code, heading


@pytest.mark.parametrize("name", NAMED)
def test_every_named_query_is_used(name: str):
    code = "\n".join(path.read_text(encoding="utf-8") for path in APP.rglob("*.py"))
    assert [query for query in queries(name) if f'"{query}"' not in code] == []


@pytest.mark.parametrize("name", FILES)
def test_definers_pin_their_path_and_say_why(name: str):
    for function, text in made(script(name)):
        if "SECURITY DEFINER" in text:
            assert PINNED in text, function
            comment = re.search(
                rf"COMMENT ON FUNCTION {re.escape(function)}\(.*?\) IS\s+'((?:''|[^'])*)'", script(name)
            )
            assert comment is not None, function
            assert "efiner" in comment[1] or "tidegate.attribute_text" in comment[1], function
        assert "IMMUTABLE" not in text, function


def test_that_the_definers_were_found():
    names = {
        function for name in FUNCTION_SCRIPTS for function, text in made(script(name)) if "SECURITY DEFINER" in text
    }
    assert {
        "tidegate.principal",
        "tidegate.acts_as",
        "tidegate.attribute_texts",
        "tidegate.whoami",
        "tidegate.wait_for",
    } <= names


@pytest.mark.parametrize("name", FUNCTION_SCRIPTS)
def test_everything_that_is_made_is_commented(name: str):
    text = script(name)
    for kind, thing in re.findall(r"CREATE (?:OR REPLACE )?(FUNCTION|VIEW|TYPE|SCHEMA)\s+([\w.%$]+)", text):
        assert f"COMMENT ON {kind} {thing}" in text, thing


def test_the_generated_definers_pin_their_path():
    data = Path(__file__).parent / "contract" / "data" / "support.ticket.odcs.yaml"
    texts = [statement.as_string(None) for statement in functions(parse_contract(data.read_bytes(), str(data)))]
    definers = [text for text in texts if "SECURITY DEFINER" in text]
    assert definers
    for text in definers:
        assert PINNED in text
    assert "COMMENT ON FUNCTION" in "\n".join(texts)


def test_no_sql_in_the_package_makes_a_definer_without_a_path():
    """Every string of the package that says SECURITY DEFINER and makes a function."""
    found = 0
    for path in APP.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and "CREATE OR REPLACE FUNCTION" in node.value
            ):
                found += 1
                assert "SECURITY DEFINER" not in node.value or PINNED in node.value, path
    assert found >= 2


def test_the_printed_script_is_complete():
    text = initialisation_script()
    assert VECTOR_SCHEMA_TOKEN not in text
    for part in (
        "CREATE TABLE tidegate.product",
        "tidegate.search(",
        "CREATE PUBLICATION tidegate",
        "SET ROLE tidegate_owner",
    ):
        assert part in text

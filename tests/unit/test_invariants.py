"""Each of the ten invariants names tests, and these exist."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_each_invariant_has_tests_that_exist() -> None:
    sections = re.split(r"^(\d+)\. ", (TESTS / "INVARIANTS.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    named = dict(zip(map(int, sections[::2]), sections[1::2], strict=True))
    assert list(named) == list(range(1, 11))
    for number, text in named.items():
        references = re.findall(r"^ +- tests/(\S+?\.py)(?:::(\w+))?$", text, flags=re.MULTILINE)
        assert len(references) == text.count("\n   - "), number
        assert references, number
        for file, test in references:
            tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
            functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert not test or test in functions, f"{number}: {file}::{test}"

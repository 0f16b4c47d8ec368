"""Which rules are told as tests of texts, and that no other is."""

import pytest

from tidegate.contract.grammar import parse
from tidegate.contract.typecheck import check
from tidegate.govern.rule_catalog import simple_tests

TYPES = {
    **{"region": "text", "code": "varchar(3)", "pad": "char(4)", "mail": "public.citext", "mood": "support.mood"},
    **{"number": "bigint", "flag": "boolean"},
}
MANY = {"column": "region", "attribute": "regions"}
ONE = {"column": "code", "attribute": "code", "only": True}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("row.region in user.regions", [MANY]),
        ("row.code = user.code", [ONE]),
        ("user.code = row.code", [ONE]),
        ("row.region in user.regions and row.code = user.code", [MANY, ONE]),
        ("row.code = 'a' and row.region in ['x', 'y']",
         [{"column": "code", "values": ["a"]}, {"column": "region", "values": ["x", "y"]}]),
        ("row.region in user.regions or row.code = user.code", None),
        ("row.region in user.regions and row.flag", None),
        ("not row.code = user.code", None),
        ("row.code != user.code", None),
        ("row.code > user.code", None),
        ("row.pad = user.pad", None),
        ("row.mail = user.mail", None),
        ("row.mail in user.mails", None),
        ("row.mood = user.mood", None),
        ("row.number in user.numbers", None),
        ("row.number = 3", None),
        ("row.code = row.region", None),
        ("row.region is null", None),
    ],
)  # fmt: skip
def test_a_condition(text, expected):
    assert simple_tests(check(parse(text), TYPES)) == expected


def test_none_is_no_test():
    assert simple_tests(None) == []

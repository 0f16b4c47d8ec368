"""Filters of the command line."""

import pytest

from tidegate.cli.where import parse_where
from tidegate.errors import UsageError


@pytest.mark.parametrize(
    ("texts", "where"),
    [
        ([], None),
        (["region=EU"], {"region": "EU"}),
        (["title=a = b, c"], {"title": "a = b, c"}),
        (["title="], {"title": ""}),
        (["price<100"], {"price": {"lt": "100"}}),
        (["price >= 10", "price<=20"], {"price": {"gte": "10", "lte": "20"}}),
        (["price>10", "region!=US"], {"price": {"gt": "10"}, "region": {"ne": "US"}}),
        (["region in EU, US"], {"region": ["EU", "US"]}),
        (["closed_at is null", "x IS NOT NULL"], {"closed_at": None, "x": {"ne": None}}),
        (['{"price": {"lt": 5}}', "region=EU"], {"price": {"lt": 5}, "region": "EU"}),
    ],
)
def test_filters(texts: list[str], where: object):
    assert parse_where(texts) == where


@pytest.mark.parametrize(
    "texts", [["region"], ["=EU"], ["{"], ["a b=c"], ["region=EU", "region=US"], ["p<1", "p<2"], ["p=1", "p<2"]]
)
def test_what_is_no_filter(texts: list[str]):
    with pytest.raises(UsageError, match="--where"):
        parse_where(texts)

"""Numbers of things, as people read them."""

import pytest

from tidegate.count import counted


@pytest.mark.parametrize(("number", "said"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1200, "1,200 rows")])
def test_one_is_no_plural(number: int, said: str) -> None:
    assert counted(number, "row") == said


def test_an_irregular_plural() -> None:
    assert [counted(n, "index", "indexes") for n in (1, 2)] == ["1 index", "2 indexes"]

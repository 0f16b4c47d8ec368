"""Which of a table's two indexes take an event."""

from dataclasses import replace
from typing import cast

from tests.conftest import SIMPLE_CONTRACT

from tidegate.contract.odcs import parse_contract
from tidegate.index.embedding.embedder import Embedder
from tidegate.index.product import Product
from tidegate.index.routes import Routes

CONTRACT = parse_contract(SIMPLE_CONTRACT.encode(), "test.odcs.yaml")
TABLE = ("", "team", "note")


def product(number: int, state: str) -> Product:
    contract = replace(CONTRACT, beside=number > 1)
    return Product(number, contract, 384, state, cast(Embedder, None))


def numbers(products: list[Product]) -> list[int]:
    return [product.product_id for product in products]


def test_changes_go_to_both_and_a_backfill_to_the_one_that_waits_for_it():
    routes = Routes([product(1, "live"), product(2, "backfilling")])
    assert routes.knows(TABLE)
    assert not routes.knows(("", "team", "other"))
    assert numbers(routes.of(TABLE)) == [1, 2]
    assert numbers(routes.of(TABLE, backfill=True)) == [2]
    routes.filled(routes.all[1])
    # Somebody had the table read, and nobody here asked for it.
    assert numbers(routes.of(TABLE, backfill=True)) == [1, 2]


def test_one_that_is_suspended_takes_nothing_and_the_other_all():
    routes = Routes([product(1, "live"), product(2, "suspended")])
    assert numbers(routes.of(TABLE)) == [1]
    routes.suspend(routes.all[0])
    assert routes.of(TABLE) == routes.working == []


def test_two_indexes_have_the_same_names_in_two_schemas():
    first, second = product(1, "live").contract, product(2, "live").contract
    assert (first.chunk_schema, second.chunk_schema) == ("rag_team", "beside_team")
    assert first.function_schema == second.function_schema == "rag_team"
    assert first.from_spec(second.to_spec()) == second
    assert "beside" not in first.to_spec()

"""The product that is measured: a table of domain `bench`, filled, published and searched as a user would."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pgvector import Vector

from tidegate.bench.texts import Text
from tidegate.contract.odcs import load_contracts
from tidegate.database import Connection, connect, register_vectors
from tidegate.govern.apply import apply_plan
from tidegate.govern.plan import make_plan
from tidegate.govern.principals import set_attributes
from tidegate.index.embedding.embedder import Vectors
from tidegate.index.embedding.registry import Embedders

PRODUCT = "bench.product"
MODEL = "local/all-minilm-l6-v2"
READER = "bench_reader_of_tidegate"
REGIONS = ("EU", "US", "APAC")
CONTRACT = Path(__file__).with_name("product.odcs.yaml")

_TABLE = """
    CREATE SCHEMA bench;
    CREATE TABLE bench.product (
        id bigint PRIMARY KEY, region text NOT NULL, price numeric(10,2) NOT NULL,
        name text NOT NULL, description text NOT NULL);
"""
_SEARCH = "SELECT key, content FROM tidegate.search(query => %s, k => %s, products => '{bench.product}')"


def create_table(connection: Connection, texts: Sequence[Text], seed: int) -> None:
    """The table with a row a text; ids count from 1."""
    chosen = random.Random(seed)
    connection.execute(_TABLE)
    with connection.cursor().copy("COPY bench.product FROM STDIN") as copy:
        for number, text in enumerate(texts, 1):
            price = f"{chosen.uniform(3, 900):.2f}"
            copy.write_row((number, chosen.choice(REGIONS), price, text.name, text.description))
    connection.execute("ANALYZE bench.product")


def publish(connection: Connection, embedders: Embedders) -> None:
    """Applies the contract; the reader's role may see every region."""
    (contract,) = load_contracts([CONTRACT])
    apply_plan(connection, make_plan(connection, contract, embedders.of(contract.embedding.model)))
    set_attributes(connection, READER, {"regions": REGIONS})


class Reader:
    """Searches with the rights of a reader, row-level security included. A context manager."""

    def __init__(self, dsn: str):
        self._connection = connect(dsn, role=READER, application="tidegate bench")
        register_vectors(self._connection)

    def search(self, vector: Vectors, k: int = 1) -> list[tuple[dict[str, Any], str]]:
        """Keys and contents of the k nearest rows."""
        return self._connection.execute(_SEARCH, [Vector(vector.astype(np.float32)), k]).fetchall()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

"""What of a changed row's chunks stays: matched by the hash of their text, wherever they now stand."""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import psycopg
from psycopg import sql

from tidegate.index.product import Product

Kept = Mapping[int, int]
"""Chunk number in the new version → number under which the same text is stored."""


def text_hash(text: str) -> bytes:
    """What identifies a chunk's text, in the chunk table and in the cache."""
    return sha256(text.encode()).digest()


def match(stored: Sequence[tuple[int, bytes]], hashes: Sequence[bytes]) -> dict[int, int]:
    """Which stored chunks (number, hash) serve the new ones; equal texts in their order, each once."""
    waiting: dict[bytes, list[int]] = {}
    for number, digest in sorted(stored, reverse=True):
        waiting.setdefault(digest, []).append(number)
    return {number: waiting[digest].pop() for number, digest in enumerate(hashes) if waiting.get(digest)}


def renumbering(kept: Kept) -> list[tuple[int, int]]:
    """Steps (from, to) that bring the stored chunks to their new numbers, no two of them ever on the same number.

    A circle is broken by a number below zero, which only the transaction itself ever sees.
    """
    source = {new: old for new, old in kept.items() if new != old}
    target = {old: new for new, old in source.items()}
    steps = []

    def follow(free: int) -> None:
        while free in source:
            old = source.pop(free)
            steps.append((old, free))
            free = old

    for new in [new for new in source if new not in target]:
        follow(new)
    while source:
        first = next(iter(source))
        steps.append((first, -1 - first))
        source[target[first]] = -1 - first
        follow(first)
    return steps


class StoredChunks:
    """Reads the numbers and hashes of rows' chunks: of the text that stands there, whatever its stored hash says."""

    def __init__(self, product: Product):
        types = product.contract.column_types
        names = [sql.Identifier(name) for name in product.key_names]
        places = [sql.Identifier(f"key_{number}") for number, _ in enumerate(names)]
        self._statement = sql.SQL(
            "SELECT n.place, c.chunk_no, sha256(convert_to(c.content, 'UTF8')) "
            "FROM unnest({arrays}) WITH ORDINALITY AS n ({places}, place) JOIN {table} AS c ON {match}"
        ).format(
            arrays=sql.SQL(", ").join([sql.SQL("%s::text[]")] * len(names)),
            places=sql.SQL(", ").join(places),
            table=product.chunk_table,
            match=sql.SQL(" AND ").join(
                sql.SQL("c.{} = n.{}::{}").format(name, place, sql.SQL(types[column]))
                for name, place, column in zip(names, places, product.key_names, strict=True)
            ),
        )

    def of(self, connection: psycopg.Connection, keys: Sequence[tuple[str, ...]]) -> list[list[tuple[int, bytes]]]:
        """Number and hash of each chunk of each row, in the order of `keys`."""
        found: list[list[tuple[int, bytes]]] = [[] for _ in keys]
        columns = [list(column) for column in zip(*keys, strict=True)]
        for place, number, digest in connection.execute(self._statement, columns):
            found[place - 1].append((number, bytes(digest)))
        return found

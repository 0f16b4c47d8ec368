"""Source against index: every row that is missing, stale, a ghost or wrongly carried, by name; and its repair.

Two passes, in pages by key: over the source, which finds what is missing, stale or wrongly carried; over the chunks,
which finds ghosts. The source gives keys, hashes and carried columns; the ledger has the hash of what was indexed.
How far a comparison is stands in the database, so that one that was broken off goes on where it was.

The index may lag behind its source, and rightly so. What differs is therefore looked at again once the watermark has
passed the moment at which it was seen: only where neither side has moved by then, something is wrong.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from tidegate.database import Connection
from tidegate.errors import TidegateError
from tidegate.index.indexer import Indexer
from tidegate.index.mend import mend
from tidegate.index.product import Product
from tidegate.observe.comparison import Difference, Problem, compare
from tidegate.observe.index_rows import IndexRow, IndexRows
from tidegate.observe.source_rows import Key, SourceRow, SourceRows, ledger_key
from tidegate.sql import queries

PAGE_ROWS = 500
_ROUNDS = 8
_POLL_S = 0.02
Stage = Literal["source", "index"]
Seen = dict[Key, tuple[SourceRow | None, IndexRow]]
"""Rows as both sides have them."""


class IndexBehind(TidegateError):
    """The index does not follow its source, so nothing can be said of what differs."""


class VerifyBusy(TidegateError):
    """Another comparison of the product is at work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A wrong row. `columns`: those that are wrongly carried. `repaired`: it is as it should be now."""

    key: Any
    problem: Problem
    columns: tuple[str, ...]
    repaired: bool


@dataclass(frozen=True, slots=True)
class Verification:
    """What a comparison found.

    Attributes:
        skipped: why the product was not compared; None: it was.
        compared: rows of the source and rows with chunks that were looked at.
        moving: rows that changed so often that nothing can be said of them.
        parked: rows that are not indexed for a reason that their dead letter gives.
        resumed: whether it went on where an earlier one was broken off.
    """

    product: str
    skipped: str | None = None
    compared: int = 0
    findings: tuple[Finding, ...] = ()
    moving: int = 0
    parked: int = 0
    resumed: bool = False

    @property
    def ok(self) -> bool:
        """Whether the index is as it should be, by now."""
        return self.skipped is None and all(finding.repaired for finding in self.findings)


@dataclass
class Verifier:
    """Compares one product.

    Args:
        connection: to the index, as the worker, in autocommit mode.
        source: to the database that has the source.
        rows_per_s: how many rows of the source are read a second at most.
        patience_s: how long the index may take to follow.
        indexer: repairs; None: nothing is repaired.
        look: told now and then of rows compared, and of about how many there are.
    """

    connection: Connection
    source: Connection
    product: Product
    rows_per_s: float = 20_000
    patience_s: float = 30.0
    page_rows: int = PAGE_ROWS
    indexer: Indexer | None = None
    look: Callable[[int, int], None] = lambda compared, total: None
    _moving: int = field(default=0, init=False)

    def run(self, *, anew: bool = False) -> Verification:
        """Compares, and repairs if it is to.

        Args:
            anew: from the start, also where an earlier comparison was broken off.

        Raises:
            IndexBehind: something differs, and the index did not follow in time.
            SourceUnreadable: the source is not as the contract says.
            VerifyBusy: somebody else is at it.
        """
        name = self.product.name
        state, reason = self._one("state")
        if state == "suspended":
            return Verification(name, skipped=f"suspended: {reason}")
        if state != "live":
            return Verification(name, skipped="its backfill is not done; compare it afterwards")
        with self._alone():
            stage, after, compared, resumed = self._begin(anew)
            self._source = SourceRows(self.source, self.product)
            self._index = IndexRows(self.connection, self.product)
            if resumed:
                self._settle_found()
            total = 2 * self._source.estimate()
            passes: tuple[tuple[Stage, Callable[[Key | None], list[Key]]], ...] = (
                ("source", self._source_page),
                ("index", self._index_page),
            )
            for at, page in passes[0 if stage == "source" else 1 :]:
                while keys := page(after):
                    after = keys[-1]
                    compared += len(keys)
                    self._progress(at, after, compared)
                    self.look(compared, max(total, compared))
                after = None
                self._progress("index", None, compared)
            self._progress("index", None, compared, finished=True)
            self.look(compared, compared)
        (parked,) = self._one("parked")
        return Verification(name, None, compared, self._findings(), self._moving, parked, resumed)

    def _source_page(self, after: Key | None) -> list[Key]:
        began = time.monotonic()
        rows = self._source.page(after, self.page_rows)
        found = self._index.of(list(rows))
        self._settle({key: (row, found[key]) for key, row in rows.items() if self._differs(row, found[key])})
        if len(rows) == self.page_rows:
            time.sleep(max(0.0, began + len(rows) / self.rows_per_s - time.monotonic()))
        return list(rows)

    def _index_page(self, after: Key | None) -> list[Key]:
        began = time.monotonic()
        keys = self._index.page(after, self.page_rows)
        rows = self._source.of(keys)
        gone = [key for key in keys if key not in rows]
        found = self._index.of(gone)
        self._settle({key: (None, found[key]) for key in gone if self._differs(None, found[key])})
        if len(keys) == self.page_rows:
            time.sleep(max(0.0, began + len(keys) / self.rows_per_s - time.monotonic()))
        return keys

    def _settle_found(self) -> None:
        """Looks again at what was found before this one was broken off, perhaps without repairing it."""
        rows = self.connection.execute(queries("verify")["take_unrepaired"], self._parameters()).fetchall()
        keys: list[Key] = [tuple(str(value) for value in json.loads(row[0]).values()) for row in rows]
        self._settle(self._look_again(keys))

    def _differs(self, row: SourceRow | None, found: IndexRow) -> Difference | None:
        return compare(self.product.contract, row, found)

    def _settle(self, suspects: Seen) -> None:
        """Tells what is wrong from what is on its way; writes it down, repaired or not."""
        wrong = self._confirmed(suspects)
        if not wrong:
            return
        repaired: set[Key] = set()
        if self.indexer is not None:
            positions = {ledger_key(self.product, key): index.position for key, (_, index) in wrong.items()}
            mend(self.connection, self.product, self.indexer, positions)
            left = self._confirmed(self._look_again(list(wrong)))
            found = self._index.of(list(wrong))
            # What is parked now differs no more, but is not repaired.
            repaired = {key for key in wrong if key not in left and not found[key].parked}
        rows = {key: self._differs(*wrong[key]) for key in wrong}
        self.connection.execute(
            queries("verify")["found"],
            {
                "product_id": self.product.product_id,
                "keys": [ledger_key(self.product, key) for key in rows],
                "problems": [difference.problem if difference else None for difference in rows.values()],
                "columns": [_array(difference.columns) if difference else None for difference in rows.values()],
                "repaired": [key in repaired for key in rows],
            },
        )

    def _confirmed(self, suspects: Seen) -> Seen:
        """Those that differ while neither side moves, although the index has followed."""
        wrong: Seen = {}
        for _ in range(_ROUNDS):
            if not suspects:
                return wrong
            self._await(self._source.position())
            still = self._look_again(list(suspects))
            wrong |= {key: seen for key, seen in still.items() if seen == suspects[key]}
            suspects = {key: seen for key, seen in still.items() if key not in wrong}
        self._moving += len(suspects)
        return wrong

    def _look_again(self, keys: list[Key]) -> Seen:
        rows = self._source.of(keys)
        found = self._index.of(keys)
        return {key: (rows.get(key), found[key]) for key in keys if self._differs(rows.get(key), found[key])}

    def _await(self, position: str) -> None:
        """Waits until everything that was committed before is in the index. Heartbeats move it if nothing else does."""
        lane, source = self.product.contract.embedding.model, self.product.source
        deadline = time.monotonic() + self.patience_s
        while True:
            row = self.connection.execute(
                queries("verify")["reached"], {"lsn": position, "lane": lane, "source": source}
            ).fetchone()
            if row is not None and row[0]:
                return
            if time.monotonic() > deadline:
                stands = "nowhere yet" if row is None or row[1] is None else f"at {row[1]}"
                raise IndexBehind(
                    f"{self.product.contract.product}: the index stands {stands}, its source at {position}, and did "
                    f"not follow in {self.patience_s:.0f} s: what differs may be on its way. "
                    'Is "tidegate run" (or a worker) alive? "tidegate status" tells; then verify again, it goes on'
                )
            time.sleep(_POLL_S)

    def _begin(self, anew: bool) -> tuple[Stage, Key | None, int, bool]:
        parameters = self._parameters()
        row = None if anew else self.connection.execute(queries("verify")["resume"], parameters).fetchone()
        if row is not None:
            return row[0], None if row[1] is None else tuple(row[1]), row[2], True
        with self.connection.transaction():
            self.connection.execute(queries("verify")["start"], parameters)
            self.connection.execute(queries("verify")["forget_findings"], parameters)
        return "source", None, 0, False

    def _progress(self, stage: Stage, after: Key | None, compared: int, *, finished: bool = False) -> None:
        self.connection.execute(
            queries("verify")["progress"],
            {
                **self._parameters(),
                "stage": stage,
                "after": None if after is None else list(after),
                "compared": compared,
                "finished": finished,
            },
        )

    def _findings(self) -> tuple[Finding, ...]:
        rows = self.connection.execute(queries("verify")["findings"], self._parameters()).fetchall()
        return tuple(Finding(json.loads(row[0]), Problem(row[1]), tuple(row[2]), row[3]) for row in rows)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._one("begun") != (True,):
            raise VerifyBusy(f'"{self.product.contract.product}" is being compared by another "tidegate verify"')
        try:
            yield
        finally:
            if not self.connection.closed:
                self._one("ended")

    def _one(self, name: str) -> tuple[Any, ...]:
        row = self.connection.execute(queries("verify")[name], self._parameters()).fetchone()
        assert row is not None
        return row

    def _parameters(self) -> dict[str, Any]:
        return {"product_id": self.product.product_id, "version": self.product.contract.version}


def _array(names: Sequence[str]) -> str:
    """Column names (plain identifiers) as an array's text."""
    return "{" + ",".join(names) + "}"

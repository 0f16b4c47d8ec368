"""Searches that go on for a whole benchmark, each judged: did it fail, was it short, under which model was it made."""

import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tidegate.bench.embedding_server import embed
from tidegate.database import connect
from tidegate.query.client import Client
from tidegate.settings import Settings

K = 10
Work = Callable[[random.Random], None]
_CLOSE = 1e-3


@dataclass(frozen=True, slots=True)
class Search:
    """One search: when it began and ended, by the monotonic clock. `model`: under which all hits are; None: mixed."""

    began: float
    ended: float
    hits: int
    model: str | None

    @property
    def ms(self) -> float:
        return (self.ended - self.began) * 1000


@dataclass
class Searchers:
    """So many threads that search without pause.

    Half of them are the Python client, which embeds each question itself; half are SQL, strict and eventual in turn,
    which brings the question's vector of every model.

    Args:
        models: contracts' names of the models that there may be.
    """

    dsn: str
    role: str
    product: str
    models: Sequence[str]
    questions: Sequence[str]
    settings: Settings
    searches: list[Search] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, count: int) -> None:
        for number in range(count):
            work = self._by_client if number % 2 else self._by_sql
            thread = threading.Thread(target=self._work, args=(work, number), name=f"searcher-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _work(self, search: Work, number: int) -> None:
        chosen = random.Random(number)
        while not self._done.is_set():
            try:
                search(chosen)
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")

    def _by_client(self, chosen: random.Random) -> None:
        with Client(self.dsn, self.settings, role=self.role) as client:
            while not self._done.is_set():
                question = chosen.choice(self.questions)
                began = time.monotonic()
                hits = client.search(question, K, [self.product])
                ended = time.monotonic()
                self._judge(question, began, ended, [(hit.content, hit.distance or 0.0) for hit in hits])

    def _by_sql(self, chosen: random.Random) -> None:
        with connect(self.dsn, role=self.role, application="tidegate bench") as connection:
            while not self._done.is_set():
                question = chosen.choice(self.questions)
                vectors = {model: embed(_name(model), [question])[0].tolist() for model in self.models}
                way = chosen.choice(("strict", "eventual"))
                began = time.monotonic()
                hits = connection.execute(
                    "SELECT content, distance FROM tidegate.search(vectors => %s::jsonb, k => %s, products => %s, "
                    "consistency => %s)",
                    [json.dumps(vectors), K, [self.product], way],
                ).fetchall()
                self._judge(question, began, time.monotonic(), hits)

    def _judge(self, question: str, began: float, ended: float, hits: Sequence[tuple[str, float]]) -> None:
        texts = [text for text, _ in hits]
        found = None
        for model in self.models:
            vectors = embed(_name(model), [question, *texts])
            distances = 1 - vectors[1:] @ vectors[0]
            if all(abs(float(d) - own) < _CLOSE for d, (_, own) in zip(distances, hits, strict=True)):
                found = model
        self.searches.append(Search(began, ended, len(hits), found if hits else None))


def _name(model: str) -> str:
    """What the provider calls it."""
    return model.partition("/")[2]

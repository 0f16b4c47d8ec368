"""The demonstration itself: what happens, shown as it happens, with measured times."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tidegate.console import escape, out, shorten
from tidegate.count import counted
from tidegate.database import Connection, connect
from tidegate.errors import TidegateError
from tidegate.index.embedding.registry import Embedders
from tidegate.local.demo import stage as staging
from tidegate.local.demo.stage import Stage
from tidegate.observe.status import product_status
from tidegate.query.answer import Answer
from tidegate.query.client import Client
from tidegate.query.hit import Hit
from tidegate.settings import Settings

_PATIENCE_S = 10.0
T = TypeVar("T")


class NotSeen(TidegateError):
    """A change did not become visible."""


def play(settings: Settings, keep: Path | None = None) -> None:
    """Plays the whole demonstration; cleans up, or with `keep` leaves everything running in that folder.

    Raises:
        NotSeen, RunEnded: something did not happen as it should.
    """
    began = time.monotonic()
    embedders = Embedders(settings)
    with staging.server(keep) as server, tempfile.TemporaryDirectory(prefix="tidegate-demo-") as scratch:
        _say(f"Postgres {server.version} with pgvector runs on 127.0.0.1:{server.port}", began)
        dsn = staging.create_domains(server.dsn)
        log = (keep or Path(scratch)) / "run.log"
        plans = staging.publish(dsn, embedders)
        for plan in plans:
            out.print(
                f"  published {plan.contract.product} {plan.contract.version}, readable by rule "
                f"for {', '.join(plan.contract.roles)}"
            )
        _say('Three domains published; "tidegate run" starts (Debezium engine and worker)', began)
        stage = staging.run(dsn, log)
        try:
            with connect(dsn) as admin:
                staging.wait_until_live(stage, admin)
                counts = ", ".join(f"{p.product} {p.rows}" for p in product_status(admin))
                _say(f"Rows indexed: {counts}", began)
                _Scenes(dsn, settings, embedders, stage, admin).all()
        except BaseException:
            stage.stop()
            raise
        if keep is None:
            stage.stop()
        _farewell(stage, keep, dsn)
    _say("Done", began)


class _Scenes:
    def __init__(self, dsn: str, settings: Settings, embedders: Embedders, stage: Stage, admin: Connection):
        self._alice = Client(dsn, settings, role="alice", embedders=embedders)
        self._bob = Client(dsn, settings, role="bob", embedders=embedders)
        self._stage = stage
        self._admin = admin

    def all(self) -> None:
        with self._alice, self._bob:
            # The first search of each connects and loads; that is not what is measured.
            for person in (self._alice, self._bob):
                person.search("warm up", k=1)
            self._new_row()
            self._price_update()
            self._deleted_row()
            self._two_people()
            self._freshness()

    def _new_row(self) -> None:
        _scene("A new row is found by meaning")
        question = "something to sleep between two trees"
        _before("alice", question, self._alice.search(question, 1, ["shop.product"]))
        _sql("INSERT INTO shop.product VALUES ('HMK-01', 'Canopy Hammock', …)")
        began = self._commit(
            "INSERT INTO shop.product VALUES ('HMK-01', 'Canopy Hammock', 'camping', "
            "'A hammock with a mosquito net and straps that do not hurt the bark; "
            "holds 180 kilograms.', 89.00, 35, true, 33.00)"
        )
        hits, ms = self._until(
            began,
            lambda: self._alice.search(question, 1, ["shop.product"]),
            lambda hits: hits[0].key == {"sku": "HMK-01"},
        )
        _found("alice", question, hits, ms)

    def _price_update(self) -> None:
        _scene("A price update changes what is found, and what ask answers")
        question = "How much does the Stormline rain jacket cost?"
        _answer("alice", question, self._alice.ask(question, 1, ["shop.product"]))
        _sql("UPDATE shop.product SET price = 149.00, stock = 12 WHERE sku = 'JKT-01'")
        began = self._commit("UPDATE shop.product SET price = 149.00, stock = 12 WHERE sku = 'JKT-01'")
        answer, ms = self._until(
            began,
            lambda: self._alice.ask(question, 1, ["shop.product"]),
            lambda answer: "149.00" in answer.text,
        )
        _answer("alice", question, answer, ms)

    def _deleted_row(self) -> None:
        _scene("A deleted row is gone, at its commit")
        question = "my refund has not arrived"
        hits = self._alice.search(question, 2, ["support.ticket"])
        _before("alice", question, hits)
        gone = dict(hits[0].key)
        statement = "DELETE FROM support.ticket WHERE id = %s"
        _sql(statement.replace("%s", str(gone["id"])))
        began = self._commit(statement, gone["id"])
        found, ms = self._until(
            began,
            lambda: self._alice.search(question, 2, ["support.ticket"]),
            lambda hits: all(dict(hit.key) != gone for hit in hits),
        )
        _found("alice", question, found, ms)
        _, ms = self._until(
            began,
            lambda: self._alice.search(question, 24, ["support.ticket"], "eventual"),
            lambda hits: all(dict(hit.key) != gone for hit in hits),
        )
        out.print(f"  out of the index itself {ms:.0f} ms after the commit")

    def _two_people(self) -> None:
        _scene("Two people ask the same, and each gets what the contracts let them see")
        for question in (
            "I am waiting for my money back",
            "how much discount may be granted for a complaint?",
        ):
            products = ["support.ticket"] if "money" in question else ["policy.rule"]
            for name, person in (("alice", self._alice), ("bob", self._bob)):
                hits = person.search(question, 2, products)
                _before(name, question, hits)
        out.print("  alice: regions EU, clearance 1; bob: regions US, clearance 2")

    def _freshness(self) -> None:
        _scene("Freshness of each product against its SLA, after some more changes")
        for number in range(20):
            for statement in (
                "UPDATE shop.product SET stock = stock + 1 WHERE sku = 'BTL-01'",
                "UPDATE support.ticket SET body = body || ' Any news?' WHERE id = 13",
                "UPDATE policy.rule SET body = body || ' ' WHERE id = 3",
            ):
                self._admin.execute(statement)
            time.sleep(0.02 + 0.001 * number)
        self._admin.execute("SELECT tidegate.wait_for(pg_current_wal_insert_lsn(), '10s')")
        time.sleep(1.5)  # the worker writes its figures once a second
        for p in product_status(self._admin):
            verdict = {True: "within", False: "MISSED", None: "no change"}[p.within_sla]
            out.print(
                f"  {p.product:<15} {counted(p.changes, 'change'):>11}  p50 {p.p50_ms or 0:>4.0f} ms  "
                f"p95 {p.p95_ms or 0:>4.0f} ms  "
                f"p99 {p.p99_ms or 0:>4.0f} ms   SLA p{p.sla_percentile:g} {p.sla_ms} ms: {verdict}"
            )
        busy = os.getloadavg()[0]
        if busy > (os.cpu_count() or 1):
            out.print(f"  (this machine is busy: load {busy:.1f} on {os.cpu_count()} cores; figures suffer)")

    def _commit(self, statement: str, *parameters: object) -> float:
        self._admin.execute(statement, parameters)
        return time.perf_counter()

    def _until(self, began: float, look: Callable[[], T], seen: Callable[[T], bool]) -> tuple[T, float]:
        """Looks until it is seen; gives what was seen and how long after `began` the look ended, in ms."""
        while True:
            result = look()
            ms = (time.perf_counter() - began) * 1000
            if seen(result):
                return result, ms
            self._stage.check()
            if ms > _PATIENCE_S * 1000:
                raise NotSeen(f"a change was not visible after {_PATIENCE_S:.0f} s; see {self._stage.log}")


def _say(text: str, began: float) -> None:
    out.print(f"[bold]{escape(text)}[/bold]  ({time.monotonic() - began:.1f} s)")


def _scene(title: str) -> None:
    out.print(f"\n[bold]{escape(title)}[/bold]")


def _sql(text: str) -> None:
    out.print(f"  sql> {escape(text)}")


def _before(name: str, question: str, hits: list[Hit]) -> None:
    out.print(f"  {name} searches “{escape(question)}”")
    _hits(hits)


def _found(name: str, question: str, hits: list[Hit], ms: float) -> None:
    out.print(f"  {name} searches “{escape(question)}”: [green]changed {ms:.0f} ms after the commit[/green]")
    _hits(hits)


def _hits(hits: list[Hit]) -> None:
    for hit in hits:
        out.print(f"    {hit.score:.2f} {escape(hit.citation)}  {escape(shorten(hit.content, 110))}")
    if not hits:
        out.print("    nothing")


def _answer(name: str, question: str, answer: Answer, ms: float | None = None) -> None:
    changed = "" if ms is None else f": [green]changed {ms:.0f} ms after the commit[/green]"
    out.print(f"  {name} asks “{escape(question)}”{changed}")
    out.print(f"    {escape(shorten(answer.text, 220))}")
    out.print(f"    cites {escape(', '.join(hit.citation for hit in answer.citations))}")


def _farewell(stage: Stage, keep: Path | None, dsn: str) -> None:
    out.print("\n[bold]Go on by hand[/bold]")
    program = _program()
    if keep is None:
        out.print(f"  {program} demo --keep     leaves all of this running, and prints the DSN (or: make demo KEEP=1)")
        out.print(f"  {program} local start     an empty embedded Postgres; then init, apply, run (see README)")
        return
    out.print(escape(f"  export TIDEGATE_DSN='{dsn}'"))
    out.print(f'  {program} search "a present for a child" --as alice -k 3')
    out.print(f'  {program} ask "how long may I return goods?" --as bob')
    out.print(f"  {program} status")
    out.print(escape(f'  {program} local psql --data "{keep}" -d {staging.DATABASE}'))
    out.print(escape(f'Stop it: kill {stage.process.pid}; {program} local stop --data "{keep}"'))
    out.print(escape(f"Its data stays in {keep}; the next demo --keep makes it anew."))


def _program() -> str:
    """How this program is called: by its name where that is on the PATH, else by its place."""
    called = Path(sys.argv[0])
    if shutil.which("tidegate") or not called.exists():
        return "tidegate"
    return str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called)

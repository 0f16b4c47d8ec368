"""Plans and applies what domain teams hand in, with the controller's rights and under the team's name.

Order of work of one submission: lint, check whose it is, plan (a remote model may be asked: in no transaction);
then, in one transaction, check again whose it is, apply, write down who published it and what came of it. Killed
before that commits, the submission is as it was, and is taken again.
"""

import logging
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import psycopg
from psycopg.types.json import Jsonb

from tidegate.contract.contract import Contract
from tidegate.contract.odcs import parse_contract
from tidegate.database import Connection, connect
from tidegate.errors import TidegateError
from tidegate.govern.apply import apply_plan
from tidegate.govern.plan import Plan, make_plan, setting_in_force
from tidegate.govern.review import why_review
from tidegate.govern.submission import Outcome, may_publish
from tidegate.govern.team import NotYours, Team, check
from tidegate.index.embedding.registry import Embedders
from tidegate.sql import queries

log = logging.getLogger(__name__)

_LOOK_S = 0.5
_LOOK_ANYWAY_EVERY = 20
_RETRY_S = 5.0
_FINISH_S = 10.0


class Around(Protocol):
    """What goes on around a plan."""

    def applying(self, connection: Connection, plan: Plan) -> AbstractContextManager[None]:
        """Entered around each plan that is applied."""


class Controller:
    """Decides submissions. `start` takes them as they come, in a thread of its own.

    Args:
        sources: the databases other than the index's that rows may come from: a team publishes none of theirs.
    """

    def __init__(self, dsn: str, embedders: Embedders, around: Around, sources: Mapping[str, str] | None = None):
        self._dsn = dsn
        self._sources = sources or {}
        self._around = around
        self._embedders = embedders
        self._static = queries("controller")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="controller", daemon=True)

    def start(self) -> None:
        """Starts taking submissions; again: nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Finishes the one in hand, and ends. What takes longer is left undone: it is taken again."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_FINISH_S)

    def decide_waiting(self, connection: Connection, *, reviewed: bool = False) -> list[tuple[int, Outcome]]:
        """Decides all that wait, in the order in which they came.

        Args:
            reviewed: by an administrator, who thereby approves those that waited for a review too.
        """
        numbers = [row[0] for row in connection.execute(self._static["waiting"], {"reviewed": reviewed})]
        decided = ((number, self.decide(connection, number, reviewed=reviewed)) for number in numbers)
        return [(number, outcome) for number, outcome in decided if outcome is not None]

    def decide(self, connection: Connection, number: int, *, reviewed: bool = False) -> Outcome | None:
        """Decides one submission; None where it does not wait, or somebody else has it in hand."""
        if connection.execute(self._static["take"], {"id": number}).fetchone() != (True,):
            return None
        try:
            row = connection.execute(self._static["submission"], {"id": number}).fetchone()
            if row is None or row[8] not in (("submitted", "review") if reviewed else ("submitted",)):
                return None
            outcome = self._decide(connection, row, reviewed)
        finally:
            if not connection.closed:
                connection.execute(self._static["give_back"], {"id": number})
        facts = {"submission": number, "product": row[3], "by": row[7], "state": outcome.state}
        log.info("submission decided", extra=facts)
        return outcome

    def _decide(self, connection: Connection, row: Any, reviewed: bool) -> Outcome:
        number, kind, domain, product, file_name, text, rebuild, submitter, _, role, review = row
        try:
            if role is None:
                raise NotYours(f'{file_name}: {product}: domain "{domain}" has no team any more')
            team = Team(domain, role, submitter)
            contract = parse_contract(text.encode(), file_name)
            check(connection, team, product, contract, self._sources)
            plan = self._plan(connection, contract, rebuild, submitter)
            planned = {"sql": plan.sql(connection), "summary": list(plan.summary)}
            words = _words(plan)
            if kind == "plan":
                return self._record(connection, number, Outcome("planned", words, planned))
            reason = None if reviewed else why_review(review, self._published(connection, product), plan)
            if reason is not None:
                return self._record(
                    connection, number, Outcome("review", f"waits for an administrator: {reason}", planned)
                )
            outcome = Outcome("applied", words, planned)
            with self._around.applying(connection, plan), connection.transaction():
                check(connection, team, product, contract, self._sources)
                self._apply(connection, plan, contract, rebuild, submitter)
                self._record(connection, number, outcome)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except TidegateError as error:
            return self._record(connection, number, Outcome("refused", str(error), None))
        except psycopg.Error as error:
            return self._record(connection, number, Outcome("refused", f"Postgres: {str(error).strip()}", None))
        return outcome

    def _plan(self, connection: Connection, contract: Contract, rebuild: bool, actor: str) -> Plan:
        embedder = self._embedders.of(contract.embedding.model)
        setting = setting_in_force(connection, actor)
        of = self._embedders.of
        return make_plan(connection, contract, embedder, rebuild=rebuild, setting=setting, embedder_of=of)

    def _apply(self, connection: Connection, plan: Plan, contract: Contract, rebuild: bool, actor: str) -> None:
        apply_plan(connection, plan, again=lambda: self._plan(connection, contract, rebuild, actor))
        credit = {"actor": actor, "product": contract.product, "version": contract.version, "text": contract.text}
        connection.execute(self._static["credit"], credit)

    def _published(self, connection: Connection, product: str) -> Contract | None:
        row = connection.execute(self._static["published_spec"], {"product": product}).fetchone()
        return None if row is None else Contract.from_spec(row[0])

    def _record(self, connection: Connection, number: int, outcome: Outcome) -> Outcome:
        plan = None if outcome.plan is None else Jsonb(outcome.plan)
        connection.execute(
            self._static["decide"], {"id": number, "state": outcome.state, "outcome": outcome.text, "plan": plan}
        )
        return outcome

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                with connect(self._dsn, application="tidegate controller") as connection:
                    if not may_publish(connection):
                        log.info("submissions are left to administrators: this login may not publish")
                        return
                    self._take_as_they_come(connection)
            except (psycopg.Error, TidegateError) as error:
                log.warning("controller waits", extra={"reason": str(error), "retry_s": _RETRY_S})
                self._stopping.wait(_RETRY_S)

    def _take_as_they_come(self, connection: Connection) -> None:
        connection.execute("LISTEN tidegate_submission")
        turn = 0
        while not self._stopping.is_set():
            # Now and then without being told: a notification is lost with its connection.
            if turn % _LOOK_ANYWAY_EVERY == 0:
                self.decide_waiting(connection)
            told = any(True for _ in connection.notifies(timeout=_LOOK_S, stop_after=1))
            turn = 0 if told else turn + 1


def _words(plan: Plan) -> str:
    warnings = (f"warning: {warning}" for warning in plan.contract.warnings)
    return "\n".join((*warnings, *(plan.summary or ("nothing to do",))))

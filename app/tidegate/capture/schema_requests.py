"""What a schema registry is being asked for, in threads of their own: who reads other records need not wait for it."""

import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field

from tidegate.backoff import Backoff
from tidegate.capture.schema_registry import RegisteredSchema, RegistryAway, SchemaRegistry, SchemaUnknown

log = logging.getLogger(__name__)

_AT_ONCE_S = 0.25
_FIRST_S, _MOST_S = 0.5, 15.0
_UNKNOWN_S = 1.0
_REQUESTS = 1_000


class SchemaAwaited(RegistryAway):
    """The schema registry was asked for a schema and has not answered yet."""


@dataclass
class _Request:
    """`again`: when what failed may be asked for again; `late`: it was waited for already."""

    answer: "Future[RegisteredSchema]"
    pauses: Backoff = field(default_factory=lambda: Backoff(_FIRST_S, _MOST_S))
    again: float | None = None
    late: bool = False


class SchemaRequests:
    """Asks for a schema once at a time, and with pauses where that fails. For one thread."""

    def __init__(self, registry: SchemaRegistry):
        self._registry = registry
        self._open: OrderedDict[int, _Request] = OrderedDict()

    def schema(self, number: int) -> RegisteredSchema:
        """The schema with this id. Waits a quarter of a second at most.

        Raises:
            SchemaAwaited: it has not come yet.
            SchemaUnknown: the registry said a second ago at most that it has none.
            RegistryAway: it said anything else, or nothing; it is asked again after a pause.
        """
        request = self._open.pop(number, None)
        if request is None:
            request = _Request(self._ask(number))
        elif request.again is not None and time.monotonic() >= request.again:
            request = _Request(self._ask(number), request.pauses)
        try:
            return request.answer.result(0 if request.late else _AT_ONCE_S)
        except TimeoutError:
            request.late = True
            self._keep(number, request)
            raise SchemaAwaited(f"the schema registry has not answered yet, asked for schema {number}") from None
        except (RegistryAway, SchemaUnknown) as error:
            if request.again is None:
                pause = _UNKNOWN_S if isinstance(error, SchemaUnknown) else request.pauses.next()
                request.again = time.monotonic() + pause
                log.warning("schema registry fails", extra={"reason": str(error), "retry_s": pause})
            self._keep(number, request)
            raise

    def _keep(self, number: int, request: _Request) -> None:
        self._open[number] = request
        if len(self._open) > _REQUESTS:
            self._open.popitem(last=False)

    def _ask(self, number: int) -> "Future[RegisteredSchema]":
        answer: Future[RegisteredSchema] = Future()

        def ask() -> None:
            try:
                answer.set_result(self._registry.schema(number))
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=ask, name=f"schema:{number}", daemon=True).start()
        return answer

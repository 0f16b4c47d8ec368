"""Kafka Connect's REST interface: what tidegate asks of it."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.errors import TidegateError, TransientError

_TIMEOUT_S = 15.0
_POLL_S = 0.2
_REBALANCE_S = 30.0


class ConnectAway(TransientError):
    """Kafka Connect does not answer."""


class ConnectRefused(TidegateError):
    """Kafka Connect refused a request."""


class ConnectorFailed(TidegateError):
    """A connector, or a task of it, has failed."""


@dataclass(frozen=True, slots=True)
class ConnectorState:
    """How a connector is.

    Attributes:
        reason: of the first failure, in a line.
        unconverted: it failed because a record could not be converted.
    """

    name: str
    state: str
    tasks: tuple[str, ...]
    worker: str | None
    reason: str | None
    unconverted: bool = False

    @property
    def running(self) -> bool:
        return self.state == "RUNNING" and bool(self.tasks) and set(self.tasks) == {"RUNNING"}

    @property
    def failed(self) -> bool:
        return "FAILED" in (self.state, *self.tasks)


class Connect:
    """A Connect cluster. A rebalance of its workers (409) is waited for."""

    def __init__(self, url: str):
        self._url = url.rstrip("/")

    def config(self, name: str) -> dict[str, str] | None:
        """The connector's configuration; None: there is no such connector."""
        found: dict[str, str] | None = self._call("GET", f"/connectors/{name}/config")
        return found

    def put(self, name: str, config: Mapping[str, str]) -> None:
        """Creates the connector, or gives it this configuration.

        Raises:
            ConnectRefused: the configuration is not valid; says which property and why.
        """
        self._call("PUT", f"/connectors/{name}/config", config)

    def state(self, name: str) -> ConnectorState | None:
        """How it is; None: there is no such connector."""
        found = self._call("GET", f"/connectors/{name}/status")
        if found is None:
            return None
        parts = [found["connector"], *found["tasks"]]
        traces = [part["trace"] for part in parts if part.get("trace")]
        return ConnectorState(
            name,
            found["connector"]["state"],
            tuple(task["state"] for task in found["tasks"]),
            found["connector"].get("worker_id"),
            explain(traces[0]) if traces else None,
            any("convertTransformedRecord" in trace for trace in traces),
        )

    def restart(self, name: str) -> bool:
        """Restarts the connector and its tasks; False: there is none."""
        return self._call("POST", f"/connectors/{name}/restart?includeTasks=true") is not None

    def delete(self, name: str) -> bool:
        """Removes the connector and the place that Connect has noted for it; False: there was none.

        The slot keeps the place: another connector goes on from there, and repeats rather than misses. A place
        that Connect still knew of would be the wrong one on another server, or behind a slot that was made anew.
        """
        if self._call("PUT", f"/connectors/{name}/stop") is None:
            return False
        deadline = time.monotonic() + _REBALANCE_S
        while True:
            try:
                self._call("DELETE", f"/connectors/{name}/offsets")
                break
            except ConnectRefused:
                # Its task has not ended yet.
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_S)
        return self._call("DELETE", f"/connectors/{name}") is not None

    def wait_until_running(self, name: str, timeout: float, settle: float = 2.0) -> ConnectorState:
        """Waits until the connector and its task run, and have for `settle` seconds: what a task finds wrong with
        its database (a publication, a slot) it finds after its start.

        Raises:
            ConnectorFailed: one of them failed, with the reason; or they do not run in time.
        """
        deadline = time.monotonic() + timeout
        since: float | None = None
        while True:
            state = self.state(name)
            if state is None or not state.running:
                since = None
            elif since is None:
                since = time.monotonic()
            if state is not None and since is not None and time.monotonic() >= since + settle:
                return state
            if state is not None and state.failed:
                raise ConnectorFailed(
                    f'connector "{name}" failed: {(state.reason or "no reason given").rstrip(".")}. '
                    "When that is mended: tidegate connect restart"
                )
            if time.monotonic() > deadline:
                raise ConnectorFailed(
                    f'connector "{name}" is {"not there" if state is None else state.state.lower()} and '
                    f"has no running task after {timeout:.0f} s; see the log of Kafka Connect at {self._url}"
                )
            time.sleep(_POLL_S)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer; None where there is no such thing. An empty answer is `{}`."""
        deadline = time.monotonic() + _REBALANCE_S
        while True:
            request = urllib.request.Request(
                self._url + path,
                method=method,
                data=None if body is None else json.dumps(body).encode(),
                headers={"Content-Type": "application/json", "Accept": "application/json"},
            )
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                    text = answer.read()
                    return json.loads(text) if text else {}
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    error.close()
                    return None
                message = _message(error)
                if error.code != 409 or time.monotonic() > deadline:
                    raise ConnectRefused(f"Kafka Connect at {self._url} refused {method} {path}: {message}") from None
                time.sleep(_POLL_S)
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", error)
                raise ConnectAway(
                    f"Kafka Connect at {self._url} does not answer: {reason}; is the URL right, and does it run?"
                ) from None


def explain(trace: str) -> str:
    """The cause of a Java stack trace, in a line."""
    lines = [line.strip() for line in trace.splitlines() if line.strip() and not line.strip().startswith("at ")]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    line = (causes or lines or ["no reason given"])[-1]
    name, colon, rest = line.partition(": ")
    return f"{name.rpartition('.')[2]}{colon}{rest}"


def _message(error: urllib.error.HTTPError) -> str:
    with error:
        try:
            return " ".join(str(json.loads(error.read())["message"]).split())
        except (ValueError, KeyError, TypeError):
            return f"HTTP {error.code}"

"""Both clients behind one way to use them, so that each test is run on each."""

import asyncio
import inspect
from typing import Any

from tidegate.query.async_client import AsyncClient
from tidegate.query.client import Client
from tidegate.query.run import AsyncStream
from tidegate.query.surface import Surface
from tidegate.settings import Settings


class Asking:
    """A client, or a view of one: calls block, whichever it is."""

    def __init__(self, client: Surface, runner: asyncio.Runner | None):
        self.client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            result = method(*arguments, **options)
            if self._runner is not None and inspect.isawaitable(result):
                return self._runner.run(_awaited(result))
            return _View(result, self._runner) if name.startswith("as_") else result

        return call

    def read(self, *arguments: Any, **options: Any) -> tuple[list[str], Any]:
        """The pieces of a streamed answer, and the answer."""
        stream = self.client.ask(*arguments, stream=True, **options)  # type: ignore[attr-defined]
        if isinstance(stream, AsyncStream):
            assert self._runner is not None
            return self._runner.run(_collected(stream)), stream.answer
        return list(stream), stream.answer


class _View:
    def __init__(self, view: Any, runner: asyncio.Runner | None):
        self._view, self._runner = view, runner

    def __enter__(self) -> Asking:
        if self._runner is None:
            return Asking(self._view.__enter__(), None)
        return Asking(self._runner.run(self._view.__aenter__()), self._runner)

    def __exit__(self, *error: Any) -> None:
        if self._runner is None:
            self._view.__exit__(*error)
        else:
            self._runner.run(self._view.__aexit__(*error))


class Opened(Asking):
    """A client of this kind, open; closes as a context."""

    def __init__(self, kind: type[Client] | type[AsyncClient], dsn: str, settings: Settings, **options: Any):
        if kind is Client:
            super().__init__(Client(dsn, settings, **options), None)
            return
        runner = asyncio.Runner()
        try:
            super().__init__(runner.run(AsyncClient(dsn, settings, **options).__aenter__()), runner)
        except BaseException:
            runner.close()
            raise

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        finally:
            if self._runner is not None:
                self._runner.close()


async def _awaited(result: Any) -> Any:
    return await result


async def _collected(stream: "AsyncStream[Any]") -> list[str]:
    return [piece async for piece in stream]

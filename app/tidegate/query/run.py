"""Steps, driven: by blocking, or by awaiting. All that differs between the two clients is here and in their pools."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from tidegate.errors import UsageError
from tidegate.query.steps import Effect, Piece, Progress, Steps

T = TypeVar("T")
Perform = Callable[[Effect], Any]
PerformAsync = Callable[[Effect], Awaitable[Any]]


class _Stream(Generic[T]):
    """What both streams have: the answer, once all pieces were read."""

    def __init__(self, steps: Steps[T]):
        self._progress = Progress(steps)

    @property
    def answer(self) -> T:
        """The whole answer, with its citations.

        Raises:
            UsageError: not all pieces were read yet.
        """
        if not self._progress.done:
            raise UsageError("the answer is not complete: read the stream to its end first")
        return self._progress.result


class Stream(_Stream[T]):
    """Pieces of an answer's text as they come; at the end `answer`. May be closed before."""

    def __init__(self, steps: Steps[T], perform: Perform):
        super().__init__(steps)
        self._perform = perform

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        while (effect := self._progress.due()) is not None:
            if isinstance(effect, Piece):
                self._progress.give(None)
                return effect.text
            try:
                result = self._perform(effect)
            except Exception as error:
                self._progress.fail(error)
            else:
                self._progress.give(result)
        raise StopIteration

    def close(self) -> None:
        """Reads no further."""
        self._progress.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncStream(_Stream[T]):
    """As Stream, by `async for`."""

    def __init__(self, steps: Steps[T], perform: PerformAsync):
        super().__init__(steps)
        self._perform = perform

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while (effect := self._progress.due()) is not None:
            if isinstance(effect, Piece):
                self._progress.give(None)
                return effect.text
            try:
                result = await self._perform(effect)
            except Exception as error:
                self._progress.fail(error)
            else:
                self._progress.give(result)
        raise StopAsyncIteration

    async def close(self) -> None:
        """Reads no further."""
        self._progress.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def run(steps: Steps[T], perform: Perform) -> T:
    """What the steps return, by blocking."""
    with Stream(steps, perform) as stream:
        for _ in stream:
            pass
        return stream.answer


async def run_async(steps: Steps[T], perform: PerformAsync) -> T:
    """What the steps return, by awaiting."""
    async with AsyncStream(steps, perform) as stream:
        async for _ in stream:
            pass
        return stream.answer

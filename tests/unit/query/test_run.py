"""Steps, driven: the same whether by blocking or by awaiting."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from tidegate.errors import UsageError
from tidegate.query.async_client import AsyncClient
from tidegate.query.client import Client
from tidegate.query.run import AsyncStream, Stream, run, run_async
from tidegate.query.steps import Effect, Piece, Steps, Work, work

closed: list[str] = []


def calm() -> Steps[int]:
    try:
        first = yield from work(lambda: 20)
        yield Piece("a")
        try:
            yield from work(lambda: 1 // 0)
        except ZeroDivisionError:
            yield Piece("b")
        return first + 1
    finally:
        closed.append("calm")


def failing() -> Steps[int]:
    return (yield from work(lambda: 1 // 0))


def perform(effect: Effect) -> Any:
    assert isinstance(effect, Work)
    return effect.function()


async def perform_async(effect: Effect) -> Any:
    await asyncio.sleep(0)
    return perform(effect)


async def read_async(steps: Steps[int]) -> tuple[list[str], int]:
    stream = AsyncStream(steps, perform_async)
    return [piece async for piece in stream], stream.answer


def read(steps: Steps[int]) -> tuple[list[str], int]:
    stream = Stream(steps, perform)
    return list(stream), stream.answer


@pytest.mark.parametrize("reading", [read, lambda steps: asyncio.run(read_async(steps))], ids=["sync", "async"])
def test_pieces_come_and_the_answer_at_the_end(reading: Callable[[Steps[int]], tuple[list[str], int]]):
    assert reading(calm()) == (["a", "b"], 21)
    with pytest.raises(ZeroDivisionError):
        reading(failing())


def test_without_a_reader_there_is_the_result():
    assert run(calm(), perform) == asyncio.run(run_async(calm(), perform_async)) == 21


def test_an_answer_needs_the_whole_stream():
    closed.clear()
    with Stream(calm(), perform) as stream:
        assert next(stream) == "a"
        with pytest.raises(UsageError, match="to its end first"):
            _ = stream.answer
    assert closed == ["calm"]
    assert list(stream) == []
    with pytest.raises(UsageError):
        _ = stream.answer


def test_a_cancelled_call_gives_up_its_steps():
    closed.clear()

    def endless() -> Steps[int]:
        try:
            while True:
                yield from work(int)
        finally:
            closed.append("endless")

    async def cancelled() -> None:
        task = asyncio.create_task(run_async(endless(), perform_async))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert closed == ["endless"]


def public(kind: type) -> dict[str, Any]:
    return {name: member for name, member in inspect.getmembers(kind) if not name.startswith("_")}


def test_both_clients_have_the_same_surface():
    sync, awaited = public(Client), public(AsyncClient)
    assert sync.keys() == awaited.keys()
    assert {
        "search",
        "similar",
        "statement",
        "search_statement",
        "ask",
        "why_nothing",
        "why_old",
        "as_token",
        "as_role",
        "exchange",
        "close",
    } <= sync.keys()
    for name, method in sync.items():
        other = awaited[name]
        assert inspect.signature(method).parameters == inspect.signature(other).parameters, name
        assert method.__doc__, name
        assert method.__doc__ == other.__doc__, name
        if method is not other and name != "ask":
            assert inspect.iscoroutinefunction(other), name
    assert inspect.signature(Client.__init__) == inspect.signature(AsyncClient.__init__)

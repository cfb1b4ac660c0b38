"""The queues alone, with clients that are coroutines: who is served, who shares, who is dropped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request

from earthgen.errors import OverloadedError, RequestCancelledError
from tileserver.admission import Cancelled, Slots, TileQueue


class Client:
    """A connection that stays open until `leave` is called."""

    def __init__(self) -> None:
        self._left = asyncio.Event()
        self.request = Request({"type": "http"}, self._receive)

    def leave(self) -> None:
        self._left.set()

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}


class Held:
    """Work that goes on until it is released or nobody wants it."""

    def __init__(self, result: bytes = b"tile") -> None:
        self.begun = threading.Event()
        self.release = threading.Event()
        self.dropped = False
        self._result = result

    def __call__(self, cancelled: Cancelled) -> bytes:
        self.begun.set()
        while not self.release.wait(0.005):
            if cancelled():
                self.dropped = True
                raise RequestCancelledError("nobody wants it")
        return self._result


def run(scenario: Callable[[TileQueue], Awaitable[None]], threads: int = 1, limit: int = 2) -> None:
    queue = TileQueue(threads, limit, lambda waiting: 10 * waiting, "test")
    try:
        asyncio.run(_within_a_minute(scenario(queue)))
    finally:
        queue.close()


async def _within_a_minute(scenario: Awaitable[None]) -> None:
    await asyncio.wait_for(scenario, 60)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


def test_a_result_is_shared_by_those_who_ask_for_the_same() -> None:
    async def scenario(queue: TileQueue) -> None:
        work, never = Held(), Held()
        first = asyncio.create_task(queue.run(Client().request, "a", work))
        await until(work.begun.is_set)
        second = asyncio.create_task(queue.run(Client().request, "a", never))
        await asyncio.sleep(0)
        work.release.set()
        assert await first == (b"tile", False)
        assert await second == (b"tile", True)
        assert not never.begun.is_set()

    run(scenario)


def test_one_of_two_clients_may_leave_without_loss_to_the_other() -> None:
    async def scenario(queue: TileQueue) -> None:
        work, leaving = Held(), Client()
        first = asyncio.create_task(queue.run(leaving.request, "a", work))
        await until(work.begun.is_set)
        second = asyncio.create_task(queue.run(Client().request, "a", work))
        await asyncio.sleep(0)
        leaving.leave()
        with pytest.raises(RequestCancelledError):
            await first
        await asyncio.sleep(0.05)
        work.release.set()
        assert await second == (b"tile", True)
        assert not work.dropped

    run(scenario)


def test_running_work_learns_that_its_last_client_left() -> None:
    async def scenario(queue: TileQueue) -> None:
        work, client = Held(), Client()
        task = asyncio.create_task(queue.run(client.request, "a", work))
        await until(work.begun.is_set)
        client.leave()
        with pytest.raises(RequestCancelledError):
            await task
        await until(lambda: work.dropped)
        # The same tile can be asked for anew at once.
        again = Held()
        again.release.set()
        assert await queue.run(Client().request, "a", again) == (b"tile", False)

    run(scenario)


def test_waiting_work_without_clients_is_never_begun_and_frees_its_place() -> None:
    async def scenario(queue: TileQueue) -> None:
        running, waiting, client = Held(), Held(), Client()
        tasks = [asyncio.create_task(queue.run(Client().request, "a", running))]
        await until(running.begun.is_set)
        leaving = [asyncio.create_task(queue.run(client.request, key, waiting)) for key in "bc"]
        await until(lambda: queue.waiting == 2)
        with pytest.raises(OverloadedError, match="2 tiles wait") as refusal:
            await queue.run(Client().request, "d", waiting)
        assert refusal.value.retry_after == 20
        client.leave()
        assert all(
            isinstance(error, RequestCancelledError) for error in await asyncio.gather(*leaving, return_exceptions=True)
        )
        assert queue.waiting == 0
        running.release.set()
        await asyncio.gather(*tasks)
        assert not waiting.begun.is_set()

    run(scenario)


def test_errors_reach_everybody_who_waits() -> None:
    async def scenario(queue: TileQueue) -> None:
        begun, release = threading.Event(), threading.Event()

        def fail(_: Cancelled) -> bytes:
            begun.set()
            release.wait()
            raise ValueError("broken")

        first = asyncio.create_task(queue.run(Client().request, "a", fail))
        await until(begun.is_set)
        second = asyncio.create_task(queue.run(Client().request, "a", fail))
        await asyncio.sleep(0)
        release.set()
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
        assert [str(error) for error in outcomes] == ["broken", "broken"]

    run(scenario)


def test_closing_drops_what_waits_and_finishes_what_runs() -> None:
    async def scenario(queue: TileQueue) -> None:
        running, waiting = Held(), Held()
        first = asyncio.create_task(queue.run(Client().request, "a", running))
        await until(running.begun.is_set)
        second = asyncio.create_task(queue.run(Client().request, "b", waiting))
        await until(lambda: queue.waiting == 1)
        closing = asyncio.create_task(asyncio.to_thread(queue.close))
        with pytest.raises(OverloadedError, match="shutting down"):
            await second
        running.release.set()
        assert await first == (b"tile", False)
        await closing
        with pytest.raises(OverloadedError, match="shutting down"):
            await queue.run(Client().request, "c", waiting)

    run(scenario)


def test_slots_are_bounded_and_given_back() -> None:
    async def scenario() -> None:
        slots = Slots(running=1, waiting=1, retry_after=7)
        leave_first = asyncio.Event()

        async def hold(client: Client, until_set: asyncio.Event) -> Cancelled:
            async with slots.hold(client.request) as cancelled:
                await until_set.wait()
            return cancelled

        first = asyncio.create_task(hold(Client(), leave_first))
        await until(lambda: not slots.idle)
        impatient = Client()
        second = asyncio.create_task(hold(impatient, asyncio.Event()))
        await until(lambda: slots.waiting == 1)
        with pytest.raises(OverloadedError) as refusal:
            await hold(Client(), leave_first)
        assert refusal.value.retry_after == 7
        impatient.leave()
        with pytest.raises(RequestCancelledError):
            await second
        third = asyncio.create_task(hold(Client(), leave_first))
        await until(lambda: slots.waiting == 1)
        leave_first.set()
        await asyncio.gather(first, third)
        assert slots.idle

    asyncio.run(_within_a_minute(scenario()))


def test_whoever_holds_a_slot_learns_that_the_client_left() -> None:
    async def scenario() -> None:
        client = Client()
        async with Slots(running=1, waiting=0).hold(client.request) as cancelled:
            assert not cancelled()
            client.leave()
            await until(cancelled)

    asyncio.run(_within_a_minute(scenario()))

"""Who is served when more is asked for than can be made: bounded queues that clients can leave.

Tiles wait in a `TileQueue`: newest first, because the newest are what a map shows now; equal requests
share one place; a place is given up when its last client goes away. Requests for areas wait in `Slots`.
Both refuse at once when full, before anything is allocated.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from earthgen.errors import OverloadedError, RequestCancelledError

Cancelled = Callable[[], bool]
Work = Callable[[Cancelled], bytes]

_T = TypeVar("_T")

_OLDEST_EVERY = 4
"""Every so many jobs the oldest goes first, so that a steady stream of newer ones starves nobody."""


@dataclass(eq=False, slots=True)
class _Job:
    key: str
    work: Work
    waiters: int = 1
    result: Future[bytes] = field(default_factory=Future)

    def abandoned(self) -> bool:
        return self.waiters == 0


class TileQueue:
    """Threads that make tiles, and a bounded number of tiles that wait for them.

    Args:
        threads: jobs that run at a time.
        limit: jobs that may wait.
        retry_after: seconds after which a refused client may try again, for a number of waiting jobs.
        name: of the threads.
    """

    def __init__(self, threads: int, limit: int, retry_after: Callable[[int], int], name: str) -> None:
        self._limit = limit
        self._retry_after = retry_after
        self._condition = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._jobs: dict[str, _Job] = {}
        self._taken = 0
        self._closed = False
        self._threads = [threading.Thread(target=self._serve, name=f"{name}-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that no thread has begun."""
        return len(self._waiting)

    async def run(self, request: Request, key: str, work: Work) -> tuple[bytes, bool]:
        """The result of `work` for `key`, and whether another request had begun it.

        Raises:
            OverloadedError: too many jobs wait already.
            RequestCancelledError: the client went away.
        """
        job, shared = self._join(key, work)
        try:
            result = asyncio.wrap_future(job.result)
            # Of an answer that nobody waits for any more, asyncio would log that nobody has looked at it.
            result.add_done_callback(lambda done: done.cancelled() or done.exception())
            # Without the shield, leaving early would cancel the job for everybody who shares it.
            return await _unless_gone(request, asyncio.shield(result)), shared
        finally:
            self._leave(job)

    def close(self) -> None:
        """Refuse new jobs, drop waiting ones and wait for running ones."""
        with self._condition:
            self._closed = True
            dropped = list(self._waiting)
            self._waiting.clear()
            self._condition.notify_all()
        for job in dropped:
            job.result.set_exception(OverloadedError("the server is shutting down"))
        for thread in self._threads:
            thread.join()

    def _join(self, key: str, work: Work) -> tuple[_Job, bool]:
        with self._condition:
            if self._closed:
                raise OverloadedError("the server is shutting down")
            job = self._jobs.get(key)
            if job is not None and not job.abandoned():
                job.waiters += 1
                return job, True
            waiting = len(self._waiting)
            if waiting >= self._limit:
                seconds = self._retry_after(waiting)
                raise OverloadedError(
                    f"{waiting} tiles wait already, and at most {self._limit} may; try again in {seconds} s", seconds
                )
            job = self._jobs[key] = _Job(key, work)
            self._waiting.append(job)
            self._condition.notify()
            return job, False

    def _leave(self, job: _Job) -> None:
        with self._condition:
            job.waiters -= 1
            if job.waiters == 0:
                # Found by identity; a job that runs is no longer there and learns it from `abandoned`.
                with contextlib.suppress(ValueError):
                    self._waiting.remove(job)
                self._forget(job)

    def _forget(self, job: _Job) -> None:
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]

    def _take(self) -> _Job | None:
        with self._condition:
            while not self._waiting and not self._closed:
                self._condition.wait()
            if not self._waiting:
                return None
            self._taken += 1
            return self._waiting.popleft() if self._taken % _OLDEST_EVERY == 0 else self._waiting.pop()

    def _serve(self) -> None:
        while (job := self._take()) is not None:
            try:
                outcome: bytes | Exception = job.work(job.abandoned)
            except Exception as error:
                outcome = error
            if isinstance(outcome, Exception):
                job.result.set_exception(outcome)
            else:
                job.result.set_result(outcome)
            # Only now: whoever comes in between shares the result and does not begin anew.
            with self._condition:
                self._forget(job)


class Slots:
    """A bounded number of requests at work and a bounded number that wait to be.

    Args:
        running: requests at work at a time.
        waiting: requests that may wait.
        retry_after: seconds after which a refused client may try again.
        what: the requests' name for those who are refused.
    """

    def __init__(self, running: int, waiting: int, retry_after: int = 5, what: str = "requests for areas") -> None:
        self._free = asyncio.Semaphore(running)
        self._limit = waiting
        self._retry_after = retry_after
        self._what = what
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return self._waiting

    @contextlib.asynccontextmanager
    async def hold(self, request: Request) -> AsyncIterator[Cancelled]:
        """Wait for a slot and hold it; yields a callable that says whether the client has gone away.

        Raises:
            OverloadedError: too many requests wait already.
            RequestCancelledError: the client went away before its turn.
        """
        if self._free.locked() and self._waiting >= self._limit:
            raise OverloadedError(
                f"{self._waiting} {self._what} wait already, and at most {self._limit} may; "
                f"try again in {self._retry_after} s",
                self._retry_after,
            )
        self._waiting += 1
        try:
            await _unless_gone(request, asyncio.ensure_future(self._free.acquire()))
        finally:
            self._waiting -= 1
        gone = threading.Event()
        watch = asyncio.create_task(_gone(request))
        watch.add_done_callback(lambda _: gone.set())
        try:
            yield gone.is_set
        finally:
            watch.cancel()
            self._free.release()


async def _unless_gone(request: Request, result: asyncio.Future[_T]) -> _T:
    """The result, or RequestCancelledError as soon as the client has closed its connection."""
    watch = asyncio.create_task(_gone(request))
    pending: list[asyncio.Future[Any]] = [result, watch]
    try:
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise RequestCancelledError("the client closed the connection before its answer was ready")
        return result.result()
    finally:
        watch.cancel()
        if not result.done():
            result.cancel()


async def _gone(request: Request) -> None:
    """Return once the client has closed its connection; the request's body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

"""Who is served when more is asked for than can be made: bounded queues that clients can leave.

Tiles wait in a `TileQueue`: clients take turns, and of one client's tiles the newest comes first, because the newest
are what a map shows now; equal requests share one place; a place is given up when its last client goes away. Requests
for areas wait in `Slots`, where clients take turns too. Both refuse at once when full, before anything is allocated.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from earthgen.errors import OverloadedError, RequestCancelledError
from tileserver.clients import ClientLimitError, Clients
from tileserver.fairness import FairQueue

Cancelled = Callable[[], bool]
Work = Callable[[Cancelled], bytes]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Share:
    """What one client may have of a queue.

    Attributes:
        running: its jobs that run at a time; None: as many as there are.
        waiting: its jobs that may wait; None: as many as there may be.
        charged: whether a job counts as something made for it, of which it may have so many a minute.
    """

    running: int | None = None
    waiting: int | None = None
    charged: bool = False


@dataclass(eq=False, slots=True)
class _Job:
    key: str
    work: Work
    payer: str
    waiters: Counter[str] = field(default_factory=Counter)
    result: Future[bytes] = field(default_factory=Future)
    # What logs and traces know of the request goes along to the thread that works for it.
    context: Context = field(default_factory=copy_context)

    def abandoned(self) -> bool:
        return not self.waiters


class TileQueue:
    """Threads that make tiles, and a bounded number of tiles that wait for them.

    When it is full and somebody comes who has fewer tiles waiting than another, the other's oldest tile makes room: a
    client that asks for much cannot keep one out that asks for little.

    Args:
        threads: jobs that run at a time.
        limit: jobs that may wait.
        retry_after: seconds after which a refused client may try again, for a number of waiting jobs.
        name: of the threads.
        clients: tells clients apart; None: by their address.
        share: what each may have.
    """

    def __init__(
        self,
        threads: int,
        limit: int,
        retry_after: Callable[[int], int],
        name: str,
        clients: Clients | None = None,
        share: Share | None = None,
    ) -> None:
        self._limit = limit
        self._retry_after = retry_after
        self._clients = clients or Clients()
        self._share = share or Share()
        self._condition = threading.Condition()
        self._waiting: FairQueue[_Job] = FairQueue(self._share.running)
        self._jobs: dict[str, _Job] = {}
        self._running = 0
        self._closed = False
        self._threads = [threading.Thread(target=self._serve, name=f"{name}-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that no thread has begun."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._running and not self._waiting

    async def run(self, request: Request, key: str, work: Work) -> tuple[bytes, bool]:
        """The result of `work` for `key`, and whether another request had begun it.

        Raises:
            OverloadedError: too many jobs wait already.
            ClientLimitError: too many of this client's do, or it has had as much made as it may.
            RequestCancelledError: the client went away.
        """
        client = self._clients.of(request)
        job, shared = self._join(client, key, work)
        try:
            result = asyncio.wrap_future(job.result)
            # Of an answer that nobody waits for any more, asyncio would log that nobody has looked at it.
            result.add_done_callback(lambda done: done.cancelled() or done.exception())
            # Without the shield, leaving early would cancel the job for everybody who shares it.
            return await _unless_gone(request, asyncio.shield(result)), shared
        finally:
            self._leave(client, job)

    def close(self) -> None:
        """Refuse new jobs, drop waiting ones and wait for running ones."""
        with self._condition:
            self._closed = True
            dropped = list(self._waiting.items())
            for job in dropped:
                self._waiting.remove(job)
            self._condition.notify_all()
        for job in dropped:
            job.result.set_exception(OverloadedError("the server is shutting down"))
        for thread in self._threads:
            thread.join()

    def _join(self, client: str, key: str, work: Work) -> tuple[_Job, bool]:
        with self._condition:
            if self._closed:
                raise OverloadedError("the server is shutting down")
            job = self._jobs.get(key)
            if job is not None and not job.abandoned():
                job.waiters[client] += 1
                if job in self._waiting:
                    # Now it comes in whichever client's turn is first.
                    self._waiting.add(client, job)
                return job, True
            self._check_share(client)
            outdone = self._make_room(client)
            if self._share.charged:
                self._clients.charge(client)
            if outdone is not None:
                self._drop(outdone)
            job = self._jobs[key] = _Job(key, work, client)
            job.waiters[client] += 1
            self._waiting.add(client, job)
            self._condition.notify()
            return job, False

    def _check_share(self, client: str) -> None:
        own, most = self._waiting.waiting(client), self._share.waiting
        if most is not None and own >= most:
            seconds = self._retry_after(own)
            raise ClientLimitError(
                f"{own} of your tiles wait already, and at most {most} of one client may; try again in {seconds} s",
                seconds,
            )

    def _make_room(self, client: str) -> _Job | None:
        """The job that has to go if this client's is to wait; None if there is room."""
        waiting = len(self._waiting)
        if waiting < self._limit:
            return None
        greediest = self._waiting.greediest()
        if greediest is not None and self._waiting.waiting(greediest) > self._waiting.waiting(client) + 1:
            outdone = self._waiting.oldest_of(greediest)
            if outdone is not None:
                return outdone
        raise self._full(waiting)

    def _drop(self, job: _Job) -> None:
        self._waiting.remove(job)
        self._forget(job)
        if self._share.charged:
            self._clients.refund(job.payer)
        job.result.set_exception(self._full(self._limit))

    def _full(self, waiting: int) -> OverloadedError:
        seconds = self._retry_after(waiting)
        return OverloadedError(
            f"{waiting} tiles wait already, and at most {self._limit} may; try again in {seconds} s", seconds
        )

    def _leave(self, client: str, job: _Job) -> None:
        with self._condition:
            job.waiters[client] -= 1
            if job.waiters[client]:
                return
            del job.waiters[client]
            was_waiting = job in self._waiting
            # A job that runs is no longer there and learns it from `abandoned`.
            self._waiting.leave(client, job)
            if job.abandoned():
                if was_waiting and self._share.charged:
                    self._clients.refund(job.payer)
                self._forget(job)

    def _forget(self, job: _Job) -> None:
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]

    def _take(self) -> tuple[str, _Job] | None:
        with self._condition:
            while (taken := self._waiting.take()) is None and not self._closed:
                self._condition.wait()
            self._running += taken is not None
            return taken

    def _serve(self) -> None:
        while (taken := self._take()) is not None:
            client, job = taken
            try:
                outcome: bytes | Exception = job.context.run(job.work, job.abandoned)
            except Exception as error:
                outcome = error
            if isinstance(outcome, Exception):
                job.result.set_exception(outcome)
            else:
                job.result.set_result(outcome)
            # Only now: whoever comes in between shares the result and does not begin anew.
            with self._condition:
                self._running -= 1
                self._forget(job)
                self._waiting.done(client)
                # The client may have tiles waiting that had to wait for this one.
                self._condition.notify()


class Slots:
    """A bounded number of requests at work and a bounded number that wait to be; clients take turns.

    Args:
        running: requests at work at a time.
        waiting: requests that may wait.
        retry_after: seconds after which a refused client may try again.
        what: the requests' name for those who are refused.
        clients: tells clients apart; None: by their address.
        share: what each may have.
    """

    def __init__(
        self,
        running: int,
        waiting: int,
        retry_after: int = 5,
        what: str = "requests for areas",
        clients: Clients | None = None,
        share: Share | None = None,
    ) -> None:
        self._free = running
        self._limit = waiting
        self._retry_after = retry_after
        self._what = what
        self._clients = clients or Clients()
        self._share = share or Share()
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue(self._share.running, newest_first=False)
        self._running = 0

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Whether no request waits or is at work."""
        return not self._running and not self._queue

    @contextlib.asynccontextmanager
    async def hold(self, request: Request) -> AsyncIterator[Cancelled]:
        """Wait for a slot and hold it; yields a callable that says whether the client has gone away.

        Raises:
            OverloadedError: too many requests wait already.
            ClientLimitError: too many of this client's do, or it has had as much made as it may.
            RequestCancelledError: the client went away before its turn.
        """
        client = self._clients.of(request)
        turn = self._enter(client)
        try:
            await _unless_gone(request, asyncio.shield(turn))
        except BaseException:
            self._give_up(client, turn)
            raise
        gone = threading.Event()
        watch = asyncio.create_task(_gone(request))
        watch.add_done_callback(lambda _: gone.set())
        try:
            yield gone.is_set
        finally:
            watch.cancel()
            self._release(client)

    def _enter(self, client: str) -> asyncio.Future[None]:
        """A place in the queue: a future that is done when its turn has come, which may be at once."""
        own, most, at_once = self._queue.waiting(client), self._share.waiting, self._share.running
        at_work = self._running < self._free and (at_once is None or self._queue.running(client) < at_once)
        if not at_work:
            if most is not None and own >= most:
                raise ClientLimitError(self._refusal(f"{own} of your", f"{most} of one client"), self._retry_after)
            if len(self._queue) >= self._limit:
                raise OverloadedError(self._refusal(f"{len(self._queue)}", f"{self._limit}"), self._retry_after)
        if self._share.charged:
            self._clients.charge(client)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.add(client, turn)
        self._admit()
        return turn

    def _refusal(self, there: str, most: str) -> str:
        return f"{there} {self._what} wait already, and at most {most} may; try again in {self._retry_after} s"

    def _admit(self) -> None:
        while self._running < self._free and (taken := self._queue.take()) is not None:
            self._running += 1
            taken[1].set_result(None)

    def _give_up(self, client: str, turn: asyncio.Future[None]) -> None:
        """The client left before it was told of its turn, which may have come meanwhile."""
        if self._share.charged:
            self._clients.refund(client)
        if turn.done():
            self._release(client)
        else:
            self._queue.leave(client, turn)

    def _release(self, client: str) -> None:
        self._running -= 1
        self._queue.done(client)
        self._admit()


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

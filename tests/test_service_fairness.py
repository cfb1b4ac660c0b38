"""Fairness between clients: whose turn it is, how much one client may have, and who is a client."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from starlette.requests import Request

from earthgen.errors import OverloadedError, RequestCancelledError
from tests.browser import serve
from tests.fake_engine import FakeEngine
from tests.test_service_admission import Client, Held, until
from tileserver import Settings, create_app
from tileserver.admission import Share, Slots, TileQueue
from tileserver.clients import ClientLimitError, Clients
from tileserver.fairness import FairQueue

names = st.sampled_from(["ann", "bob", "cas"])


@given(greedy=st.integers(0, 200), polite=st.integers(1, 8), others=st.integers(0, 4), newest=st.booleans())
def test_a_polite_client_waits_one_round_for_each_of_its_items(
    greedy: int, polite: int, others: int, newest: bool
) -> None:
    queue: FairQueue[str] = FairQueue(newest_first=newest)
    for client in ["greedy", *map(str, range(others))]:
        for item in range(greedy):
            queue.add(client, f"{client} {item}")
    for item in range(polite):
        queue.add("polite", f"polite {item}")
    turns = []
    while taken := queue.take():
        turns.append(taken[0])
    # Never more than one turn of each other client before the polite one's next.
    waits = [index for index, client in enumerate(turns) if client == "polite"]
    assert len(waits) == polite
    assert all(wait - before <= others + 2 for before, wait in zip([-1, *waits], waits, strict=False))


@given(st.integers(1, 60))
def test_a_client_s_newest_comes_first_and_its_oldest_is_not_forgotten(count: int) -> None:
    queue: FairQueue[int] = FairQueue()
    taken = []
    for item in range(count):
        queue.add("ann", item)
    # However many newer ones come: with each turn comes another.
    for item in range(count, 5 * count):
        entry = queue.take()
        assert entry is not None
        taken.append(entry[1])
        queue.add("ann", item)
    assert taken[:3] == [count - 1, count, count + 1][: len(taken)]
    assert set(range(count)) <= set(taken) | {count - 2}


class Fairness(RuleBasedStateMachine):
    """Any order of coming, leaving, running and finishing, against lists that are easy to believe."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue(at_once=2)
        self.lines: dict[str, list[int]] = {"ann": [], "bob": [], "cas": []}
        self.running: Counter[str] = Counter()
        self.taken: set[int] = set()
        self.since: Counter[str] = Counter()

    @rule(client=names, item=st.integers(0, 30))
    def add(self, client: str, item: int) -> None:
        if item in self.taken:
            return
        self.queue.add(client, item)
        if item not in self.lines[client]:
            self.lines[client].append(item)

    @rule(client=names, item=st.integers(0, 30))
    def leave(self, client: str, item: int) -> None:
        self.queue.leave(client, item)
        if item in self.lines[client]:
            self.lines[client].remove(item)

    @rule(item=st.integers(0, 30))
    def remove(self, item: int) -> None:
        self.queue.remove(item)
        for line in self.lines.values():
            if item in line:
                line.remove(item)

    @rule()
    def take(self) -> None:
        able = {client for client, line in self.lines.items() if line and self.running[client] < 2}
        taken = self.queue.take()
        if taken is None:
            assert not able
            return
        client, item = taken
        assert client in able and item in self.lines[client] and item not in self.taken
        for line in self.lines.values():
            if item in line:
                line.remove(item)
        self.running[client] += 1
        self.taken.add(item)

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from([name for name, count in self.running.items() if count]))
        self.queue.done(client)
        self.running[client] -= 1

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.queue) == len({item for line in self.lines.values() for item in line})
        for client, line in self.lines.items():
            assert self.queue.waiting(client) == len(line)
            assert self.queue.running(client) == self.running[client]
        assert self.queue.clients == sum(1 for name, line in self.lines.items() if line or self.running[name])


TestFairness = Fairness.TestCase


def asking(address: str = "198.51.100.1", headers: dict[str, str] | None = None) -> Request:
    """A request that was made from an address."""
    raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    return Request({"type": "http", "client": (address, 1234), "headers": raw})


class Caller(Client):
    """A connection from an address."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.request = Request({"type": "http", "client": (address, 1), "headers": []}, self._receive)


def run(scenario: Callable[[TileQueue], Awaitable[None]], **options: Any) -> None:
    defaults: dict[str, Any] = {"threads": 1, "limit": 4, "retry_after": lambda waiting: waiting, "name": "test"}
    queue = TileQueue(**(defaults | options))

    async def within_a_minute() -> None:
        await asyncio.wait_for(scenario(queue), 60)

    try:
        asyncio.run(within_a_minute())
    finally:
        queue.close()


def test_clients_take_turns_whatever_one_of_them_asks_for() -> None:
    order: list[str] = []

    def noted(name: str) -> Callable[[Any], bytes]:
        def work(_: Any) -> bytes:
            order.append(name)
            return b""

        return work

    async def scenario(queue: TileQueue) -> None:
        first = Held()
        tasks = [asyncio.create_task(queue.run(Caller("192.0.2.1").request, "first", first))]
        await until(first.begun.is_set)
        for index in range(10):
            name = f"greedy {index}"
            tasks.append(asyncio.create_task(queue.run(Caller("192.0.2.1").request, name, noted(name))))
        for index in range(2):
            name = f"polite {index}"
            tasks.append(asyncio.create_task(queue.run(Caller("192.0.2.2").request, name, noted(name))))
        await until(lambda: queue.waiting == 12)
        first.release.set()
        await asyncio.gather(*tasks)
        assert [name.split()[0] for name in order[:4]] in (
            ["polite", "greedy", "polite", "greedy"],
            ["greedy", "polite", "greedy", "polite"],
        )

    run(scenario, limit=20)


def test_a_full_queue_makes_room_for_a_client_with_less_and_charges_nobody_for_what_was_dropped() -> None:
    clients = Clients(per_minute=6)

    async def scenario(queue: TileQueue) -> None:
        running, work = Held(), Held()
        work.release.set()
        greedy, polite = Caller("192.0.2.1").request, Caller("192.0.2.2").request
        first = asyncio.create_task(queue.run(greedy, "first", running))
        await until(running.begun.is_set)
        crowd = [asyncio.create_task(queue.run(greedy, f"greedy {index}", work)) for index in range(4)]
        await until(lambda: queue.waiting == 4)
        with pytest.raises(OverloadedError, match="4 tiles wait"):
            await queue.run(greedy, "one more", work)
        welcome = asyncio.create_task(queue.run(polite, "polite", work))
        # Its oldest goes; the client that had the most is told to come back.
        with pytest.raises(OverloadedError, match="4 tiles wait") as dropped:
            await crowd[0]
        assert not isinstance(dropped.value, ClientLimitError)
        running.release.set()
        assert await welcome == (b"tile", False)
        await asyncio.gather(first, *crowd[1:])
        # Four were begun, of six: two are left.
        for _ in range(2):
            clients.charge(clients.of(greedy))
        with pytest.raises(ClientLimitError):
            clients.charge(clients.of(greedy))

    run(scenario, clients=clients, share=Share(charged=True))


def test_a_client_may_have_so_many_waiting_and_another_one_more() -> None:
    async def scenario(queue: TileQueue) -> None:
        running, work = Held(), Held()
        work.release.set()
        one, other = Caller("192.0.2.1").request, Caller("192.0.2.2").request
        tasks = [asyncio.create_task(queue.run(one, "first", running))]
        await until(running.begun.is_set)
        tasks += [asyncio.create_task(queue.run(one, key, work)) for key in "ab"]
        await until(lambda: queue.waiting == 2)
        with pytest.raises(ClientLimitError, match="2 of your tiles wait already, and at most 2 of one client") as many:
            await queue.run(one, "c", work)
        assert many.value.retry_after == 2
        # What waits already may be asked for again, and by whomever.
        tasks.append(asyncio.create_task(queue.run(one, "a", work)))
        tasks.append(asyncio.create_task(queue.run(other, "c", work)))
        await until(lambda: queue.waiting == 3)
        running.release.set()
        await asyncio.gather(*tasks)

    run(scenario, share=Share(waiting=2))


def test_a_client_may_have_so_many_running_and_others_get_the_other_threads() -> None:
    async def scenario(queue: TileQueue) -> None:
        works = {key: Held() for key in "abc"}
        one, other = Caller("192.0.2.1").request, Caller("192.0.2.2").request
        tasks = [asyncio.create_task(queue.run(one, key, works[key])) for key in "ab"]
        await until(lambda: works["a"].begun.is_set() or works["b"].begun.is_set())
        tasks.append(asyncio.create_task(queue.run(other, "c", works["c"])))
        await until(works["c"].begun.is_set)
        assert sum(works[key].begun.is_set() for key in "ab") == 1
        for work in works.values():
            work.release.set()
        await asyncio.gather(*tasks)

    run(scenario, threads=3, share=Share(running=1))


def test_what_two_clients_wait_for_comes_in_the_first_turn_of_either_and_outlives_one_of_them() -> None:
    async def scenario(queue: TileQueue) -> None:
        running, shared, crowd = Held(), Held(), Held()
        greedy, polite, leaving = Caller("192.0.2.1").request, Caller("192.0.2.2").request, Caller("192.0.2.1")
        tasks = [asyncio.create_task(queue.run(greedy, "first", running))]
        await until(running.begun.is_set)
        asked = asyncio.create_task(queue.run(leaving.request, "shared", shared))
        await until(lambda: queue.waiting == 1)
        tasks += [asyncio.create_task(queue.run(greedy, f"{index}", crowd)) for index in range(3)]
        await until(lambda: queue.waiting == 4)
        both = asyncio.create_task(queue.run(polite, "shared", shared))
        await asyncio.sleep(0.02)
        leaving.leave()
        with pytest.raises(RequestCancelledError):
            await asked
        assert queue.waiting == 4
        running.release.set()
        # At most one turn of the other client comes before it, though that has three tiles waiting.
        await until(lambda: crowd.begun.is_set() or shared.begun.is_set())
        crowd.release.set()
        await until(shared.begun.is_set)
        assert queue.waiting >= 2
        shared.release.set()
        assert await both == (b"tile", True)
        await asyncio.gather(*tasks)

    run(scenario)


def test_slots_are_given_in_turns_and_a_client_may_wait_for_so_many() -> None:
    async def scenario() -> None:
        slots = Slots(running=1, waiting=8, share=Share(waiting=3))
        order: list[str] = []
        free = asyncio.Event()

        async def hold(address: str) -> None:
            async with slots.hold(Caller(address).request):
                order.append(address)
                await free.wait()

        tasks = [asyncio.create_task(hold("192.0.2.1")) for _ in range(4)]
        await until(lambda: slots.waiting == 3)
        with pytest.raises(ClientLimitError, match="3 of your requests for areas wait already, and at most 3 of one"):
            await hold("192.0.2.1")
        tasks.append(asyncio.create_task(hold("192.0.2.2")))
        await until(lambda: slots.waiting == 4)
        free.set()
        await asyncio.gather(*tasks)
        # One was at work, one turn of each follows.
        assert order.index("192.0.2.2") <= 2
        assert slots.idle

    asyncio.run(asyncio.wait_for(scenario(), 60))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    per_minute=st.integers(1, 300),
    steps=st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), min_size=1, max_size=30),
)
def test_no_client_begins_more_in_any_time_than_its_rate_allows(
    per_minute: int, steps: list[tuple[float, int]]
) -> None:
    clock = Clock()
    clients = Clients(per_minute=per_minute, clock=clock)
    begun: list[float] = []
    for pause, asked in steps:
        clock.now += pause
        for _ in range(asked):
            try:
                clients.charge("ann")
                begun.append(clock.now)
            except ClientLimitError as refusal:
                # Whoever comes back when told is let in.
                later = Clients(per_minute=per_minute, clock=clock)
                later._buckets.update({name: type(b)(b.left, b.at) for name, b in clients._buckets.items()})
                now, clock.now = clock.now, clock.now + refusal.retry_after
                later.charge("ann")
                clock.now = now
                break
    for index, start in enumerate(begun):
        for count, end in enumerate(begun[index:], 1):
            assert count <= per_minute * (1 + (end - start) / 60) + 1e-4
    # Another client has all of its own.
    for _ in range(per_minute):
        clients.charge("bob")


def test_a_clock_that_jumps_back_gives_nothing_and_takes_nothing() -> None:
    clock = Clock()
    clients = Clients(per_minute=1, clock=clock)
    clients.charge("ann")
    clock.now -= 3600
    with pytest.raises(ClientLimitError) as refusal:
        clients.charge("ann")
    assert refusal.value.retry_after <= 60
    clock.now += 60
    clients.charge("ann")


def test_a_client_is_a_key_or_an_address() -> None:
    clients = Clients(keys=["a-known-key-0123456"])
    assert clients.of(asking("192.0.2.1")) != clients.of(asking("192.0.2.2"))
    # A household has all of its network of 64 bits.
    assert clients.of(asking("2001:db8::1")) == clients.of(asking("2001:db8::ffff:1"))
    assert clients.of(asking("2001:db8::1")) != clients.of(asking("2001:db8:0:1::1"))
    assert clients.of(asking("::ffff:192.0.2.1")) == clients.of(asking("192.0.2.1"))
    bearer = clients.of(asking("192.0.2.1", {"Authorization": "Bearer a-known-key-0123456"}))
    assert bearer == clients.of(asking("192.0.2.9", {"X-API-Key": "a-known-key-0123456"}))
    assert "a-known-key" not in bearer
    # Keys that nobody gave out would make as many clients as somebody likes.
    assert clients.of(asking("192.0.2.1", {"X-API-Key": "anything"})) == clients.of(asking("192.0.2.1"))
    assert Clients().of(Request({"type": "http"})) == clients.of(Request({"type": "http", "headers": []}))


def test_clients_are_forgotten_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tileserver.clients._REMEMBERED", 100)
    clients = Clients(per_minute=1)
    for index in range(1000):
        clients.charge(f"address {index}")
    assert len(clients._buckets) == 100


def tile(x: int) -> str:
    return f"/worlds/planet/tiles/WebMercatorQuad/12/{x}/1500.png?seed=7"


@contextmanager
def running(engine: FakeEngine, **settings: Any) -> Iterator[httpx.Client]:
    with serve(create_app(Settings(**settings), lambda _: engine)) as base:
        with httpx.Client(base_url=base, timeout=60) as client:
            yield client
        engine.gate.set()


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def test_a_greedy_client_over_http_is_told_to_wait_and_a_polite_one_is_served_first() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    with running(engine, tile_threads=1, client_queue=3) as http, ThreadPoolExecutor(8) as pool:

        def ask(x: int, address: str) -> Future[httpx.Response]:
            return pool.submit(http.get, tile(x), headers={"X-Forwarded-For": address})

        held = [ask(0, "192.0.2.1")]
        eventually(lambda: engine.calls == 1)
        held += [ask(x, "192.0.2.1") for x in (1, 2, 3)]
        eventually(lambda: http.get("/activity").json()["waiting_tiles"] == 3)
        refused = ask(4, "192.0.2.1").result()
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert "3 of your tiles wait" in refused.json()["detail"]
        assert refused.headers["cache-control"] == "no-store"
        polite = ask(5, "192.0.2.2")
        eventually(lambda: http.get("/activity").json()["waiting_tiles"] == 4)
        engine.gate.set()
        assert {answer.result().status_code for answer in [*held, polite]} == {200}
        order = [box.column // 256 for box in engine.order]
        assert order.index(5) <= 2 and len(order) == 5


def test_a_client_that_left_is_not_computed_and_not_charged() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    with running(engine, tile_threads=1, client_rate=2) as http, ThreadPoolExecutor(4) as pool:
        first = pool.submit(http.get, tile(0))
        eventually(lambda: engine.calls == 1)
        for x in (1, 2, 3):
            with httpx.Client(base_url=http.base_url) as leaving, pytest.raises(httpx.ReadTimeout):
                leaving.get(tile(x), timeout=0.3)
            eventually(lambda: http.get("/activity").json()["waiting_tiles"] == 0)
        engine.gate.set()
        assert first.result().status_code == 200
        assert http.get(tile(4)).status_code == 200
        assert [box.column // 256 for box in engine.order] == [0, 4]
        refused = http.get(tile(5))
        assert refused.status_code == 429
        assert "2 tiles or areas a minute" in refused.json()["detail"]
        assert 1 <= int(refused.headers["retry-after"]) <= 31
        # What is there costs nothing, and areas count with tiles.
        assert http.get(tile(4)).headers["x-cache"] == "HIT"
        assert http.get("/worlds/planet/point/7,46").status_code == 429


def test_only_a_trusted_proxy_says_who_the_client_is() -> None:
    for trusted, own in (("192.0.2.0/24", False), ("127.0.0.0/8", True)):
        settings = Settings(trusted_proxies=(trusted,), client_rate=1)  # type: ignore[arg-type]
        config: Any = {"proxy_headers": False}
        with serve(create_app(settings, lambda _: FakeEngine()), **config) as base:
            statuses = [
                httpx.get(base + tile(x), headers={"X-Forwarded-For": f"198.51.100.{x}"}).status_code for x in (1, 2)
            ]
            assert statuses == [200, 200 if own else 429]
            # The last that is no proxy of ours counts; what stands before it anybody could have written.
            forged = httpx.get(base + tile(3), headers={"X-Forwarded-For": "203.0.113.9, 198.51.100.1"})
            assert forged.status_code == 429


def test_the_api_says_that_it_may_answer_429() -> None:
    document = create_app(Settings(), lambda _: FakeEngine()).openapi()
    route = document["paths"]["/worlds/{world}/tiles/{tileMatrixSetId}/{z}/{x}/{y}.{format}"]["get"]
    assert "Retry-After" in route["responses"]["429"]["description"]


def test_a_proxy_that_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="trusted_proxies"):
        Settings(trusted_proxies=("everybody",))  # type: ignore[arg-type]

"""Two hundred people on one server: they pan, zoom, lose patience and leave, on cold and on warm caches (locust).

    python -m benchmarks.load_map [--clients 200] [--cold-seconds 180] [--warm-seconds 60]

Starts a server of the shipped weights with an empty cache on this machine; nothing else can be asked. Each client has
an address of its own, six connections as a browser has them, and looks at one view of twenty tiles after another
around a few dozen places; who is told to come back does, who has waited for some seconds moves on and closes its
connections. The warm half looks again at what the cold half has made. Then it is counted: latency, answers whose bytes
differ from what an engine of its own makes, windows made more than once, memory, and tiles made for nobody.
"""

from __future__ import annotations

# First, since it makes sockets and locks cooperative before anybody else has imported them.
from locust import FastHttpUser, task  # isort: skip
from locust.env import Environment  # isort: skip

import hashlib
import itertools
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import gevent
import gevent.pool
import httpx
import numpy as np
import typer

from benchmarks.load import COLUMNS, CONNECTIONS, ROWS, TIMEOUT_S, wait_until_ready, windows_in
from earthgen.engine import Engine
from earthgen.pyramid import ROOT_ZOOM, tile_box
from earthgen.world import World
from tileserver.rendering import encode_tile

WORLD = World(root="earth", seed=7)
PLACES = 40
PATIENCE_S = (2.0, 15.0)
"""Seconds after which somebody moves on, whether the view is complete or not."""
SPAWNED_PER_SECOND = 50
QUIET_S = 5.0

_SERVER = (
    "import sys; from pathlib import Path; from tileserver import Settings, serve;"
    "serve(Settings(cache=Path(sys.argv[1]), weights=sys.argv[2] or None), port=0,"
    " announce=lambda address: print(address, flush=True))"
)

Address = tuple[int, int, int]


@dataclass
class Tally:
    """What the clients of one run have met."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    outcomes: Counter[str] = field(default_factory=Counter)
    digests: dict[Address, set[str]] = field(default_factory=lambda: defaultdict(set))
    abandoned: set[Address] = field(default_factory=set)


class Crowd:
    """What all clients of a run share: where they go, and what they write down."""

    tally = Tally()
    known: tuple[Address, ...] = ()
    """If given, tiles that were answered before: nobody goes elsewhere."""
    numbers = itertools.count()


class MapUser(FastHttpUser):
    """Somebody with a map."""

    abstract = True
    concurrency = CONNECTIONS
    network_timeout = 300.0

    def on_start(self) -> None:
        """Get an address and a place to begin with."""
        self.number = next(Crowd.numbers)
        self.random = random.Random(self.number)
        self.headers = {"X-Forwarded-For": f"198.18.{self.number // 250}.{self.number % 250 + 1}"}
        self.zoom, self.x, self.y = self._place()

    @task
    def look(self) -> None:
        """One view: ask for its tiles, wait as long as patience lasts, leave what is not there by then."""
        pool = gevent.pool.Pool(CONNECTIONS)
        addresses = self._view()
        left = gevent.spawn(lambda: [pool.spawn(self._fetch, address) for address in addresses])
        try:
            with gevent.Timeout(self.random.uniform(*PATIENCE_S), False):
                left.join()
                pool.join()
        finally:
            late = not left.ready() or len(pool) > 0
            left.kill()
            pool.kill()
            if late:
                # As a browser does: a request that is taken back closes its connection.
                self.client.client.clientpool.close()
        self._move()

    def _place(self) -> Address:
        """One of the places that people go to; many go to the same."""
        if Crowd.known:
            return self.random.choice(Crowd.known)
        place = random.Random(self.random.randrange(PLACES))
        zoom = place.randint(4, 14)
        return zoom, place.randrange(2**zoom), place.randrange(2**zoom // 4, 3 * 2**zoom // 4)

    def _view(self) -> list[Address]:
        if Crowd.known:
            # Neighbours in the list are neighbours on the ground, mostly.
            start = self.random.randrange(len(Crowd.known))
            return list(itertools.islice(itertools.cycle(Crowd.known), start, start + COLUMNS * ROWS))
        size = 2**self.zoom
        return [
            (self.zoom, (self.x + column) % size, min(size - 1, max(0, self.y + row)))
            for row in range(ROWS)
            for column in range(COLUMNS)
        ]

    def _move(self) -> None:
        kind = self.random.random()
        if kind < 0.15:
            self.zoom, self.x, self.y = self._place()
        elif kind < 0.3 and self.zoom < 16:
            self.zoom, self.x, self.y = self.zoom + 1, 2 * self.x, 2 * self.y
        else:
            self.x, self.y = self.x + self.random.choice((-2, 2)), self.y + self.random.choice((-1, 1))

    def _fetch(self, address: Address) -> None:
        """One tile, asked for again as often as the server says that there is too much to do."""
        z, x, y = address
        tally = Crowd.tally
        while True:
            start = time.perf_counter()
            try:
                answer = self.client.get(
                    f"/worlds/earth/tiles/WebMercatorQuad/{z}/{x}/{y}.webp?seed=7",
                    name="tile",
                    headers=self.headers,
                )
            except gevent.GreenletExit:
                tally.outcomes["left"] += 1
                tally.abandoned.add(address)
                raise
            seconds = time.perf_counter() - start
            headers: Any = answer.headers
            if answer.status_code == 200:
                state = str(headers["x-cache"])
                tally.outcomes[state] += 1
                tally.seconds[state].append(seconds)
                tally.digests[address].add(hashlib.sha256(answer.content or b"").hexdigest())
                return
            tally.outcomes[str(answer.status_code)] += 1
            tally.seconds["refused"].append(seconds)
            if answer.status_code not in (429, 503):
                return
            try:
                gevent.sleep(float(str(headers["retry-after"])))
            except gevent.GreenletExit:
                tally.abandoned.add(address)
                raise


def run(base: str, clients: int, seconds: float, known: tuple[Address, ...] = ()) -> Tally:
    """Let so many people look around for so long."""
    Crowd.tally, Crowd.known, Crowd.numbers = Tally(), known, itertools.count()
    user = type("OneMapUser", (MapUser,), {"host": base, "abstract": False})
    environment = Environment(user_classes=[user])
    runner = environment.create_local_runner()
    runner.start(clients, spawn_rate=SPAWNED_PER_SECOND)
    gevent.sleep(seconds)
    runner.quit()
    return Crowd.tally


def metric(base: str, name: str, **labels: str) -> float:
    """The sum of the samples of a metric that have some labels."""
    total = 0.0
    for line in httpx.get(f"{base}/metrics", timeout=TIMEOUT_S).text.splitlines():
        match = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if match and all(f'{key}="{value}"' in (match[1] or "") for key, value in labels.items()):
            total += float(match[2])
    return total


def peak_bytes(pid: int) -> int:
    """Most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def report(name: str, tally: Tally, seconds: float) -> None:
    """Print what one run has met."""
    typer.echo(f"\n{name}: " + "  ".join(f"{key} {count}" for key, count in tally.outcomes.most_common()))
    answered = sum(len(values) for state, values in tally.seconds.items() if state != "refused")
    typer.echo(f"tiles a second   {answered / seconds:.1f}")
    for state, values in sorted(tally.seconds.items()):
        p50, p95, p99 = np.percentile(values, (50, 95, 99)) * 1000
        typer.echo(f"{state:<9} n {len(values):6d}   p50 {p50:8.0f} ms   p95 {p95:8.0f} ms   p99 {p99:8.0f} ms")


def wrong(tally: Tally, engine: Engine, most: int) -> tuple[int, int, int]:
    """Tiles answered with two kinds of bytes; of a sample, those that differ from an engine of its own; the sample."""
    changed = sum(len(digests) > 1 for digests in tally.digests.values())
    sample = random.Random(0).sample(sorted(tally.digests), min(most, len(tally.digests)))
    differ = 0
    for address in sample:
        own = hashlib.sha256(encode_tile(engine.tile(WORLD, *address), "webp")).hexdigest()
        differ += own not in tally.digests[address]
    return changed, differ, len(sample)


def main(
    clients: Annotated[int, typer.Option(min=1, max=1000, help="People at a time.")] = 200,
    cold_seconds: Annotated[float, typer.Option(min=5, max=3600, help="Of the run on an empty cache.")] = 180,
    warm_seconds: Annotated[float, typer.Option(min=5, max=3600, help="Of the run over what it made.")] = 60,
    weights: Annotated[str | None, typer.Option(help="Folder of weights; the shipped ones if absent.")] = None,
    checked: Annotated[int, typer.Option(min=0, help="Tiles that are made again and compared.")] = 48,
) -> None:
    """Put a crowd on a server of this machine and count what it did."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-c", _SERVER, str(folder), weights or ""], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            base = process.stdout.readline().strip().rstrip("/")
            if not base:
                raise typer.BadParameter("the server did not start; its message is above")
            wait_until_ready(base)
            # The world's root takes seconds and is made once; it is not what is measured.
            httpx.get(f"{base}/worlds/earth/tiles/WebMercatorQuad/0/0/0.webp?seed=7", timeout=300).raise_for_status()
            before = peak_bytes(process.pid)
            cold = run(base, clients, cold_seconds)
            # What the crowd has left in the server's ears is heard first.
            finish(base)
            gone = metric(base, "earthgen_request_seconds_count", status="499")
            warm = run(base, clients, warm_seconds, tuple(sorted(cold.digests))) if cold.digests else Tally()
            finish(base)
            computed = metric(base, "earthgen_windows_computed_total")
            peak = peak_bytes(process.pid)
        finally:
            process.terminate()
            process.wait()
        report(f"cold, {clients} clients", cold, cold_seconds)
        report(f"warm, {clients} clients", warm, warm_seconds)
        kept = windows_in(folder)
        # Coarser ones are the root's own, and always there.
        never = {tile for tile in cold.abandoned if tile[0] > ROOT_ZOOM} - set(cold.digests) - set(warm.digests)
        with Engine.open(weights, folder, threads=1) as engine:
            in_vain = sum(engine.is_ready(WORLD, tile_box(*address)) for address in never)
        with Engine.open(weights) as engine:
            both: dict[str, Any] = {"cold": wrong(cold, engine, checked), "warm": wrong(warm, engine, checked)}
    for run_name, (changed, differ, sample) in both.items():
        typer.echo(
            f"\n{run_name}: {changed} tiles with two kinds of bytes, {differ} of {sample} unlike an engine's own"
        )
    typer.echo(f"windows computed {computed:.0f}, kept {kept}, more than once {max(0, computed - kept):.0f}")
    typer.echo(f"requests that ended with their client (499): {gone:.0f}")
    typer.echo(f"tiles that everybody who asked had left: {len(never)}, there all the same: {in_vain}")
    typer.echo(f"memory at the start {before / 2**20:.0f} MiB, most {peak / 2**20:.0f} MiB")


def finish(base: str) -> None:
    """Wait until nothing has been at work for a while: requests of people who have left are still being read."""
    deadline, quiet_since, done = time.monotonic() + TIMEOUT_S, time.monotonic(), -1
    while time.monotonic() < deadline and time.monotonic() - quiet_since < QUIET_S:
        now = httpx.get(f"{base}/activity", timeout=TIMEOUT_S).json()
        if now["running"] or now["queued"] or now["waiting_tiles"] or now["done"] != done:
            quiet_since, done = time.monotonic(), now["done"]
        gevent.sleep(0.2)


if __name__ == "__main__":
    typer.run(main)

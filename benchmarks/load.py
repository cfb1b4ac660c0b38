"""Map-like load on a server of this machine: latency, tiles per second, hits, refusals, and the cost of a cached tile.

    python -m benchmarks.load [--viewers 2] [--views 8] [--seconds 120] [--url http://127.0.0.1:8000]

Each viewer looks at one view after another: about twenty tiles over six connections, as a browser has
them, and every second view moves on early and leaves its open requests. Places, zooms and moves come from
a seed, the run ends after so many seconds or views, whichever is first, and only this machine may be asked.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import numpy as np
import typer

CONNECTIONS = 6
COLUMNS, ROWS = 5, 4
"""Tiles of one view: a window of 1280 x 1024 pixels."""
TIMEOUT_S = 300
LARGEST_WINDOW_BYTES = 1 << 20
"""The world's root lies in the cache, too, and is larger."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_SERVER = (
    "import sys; from pathlib import Path; from tileserver import Settings, serve;"
    "serve(Settings(cache=Path(sys.argv[1]), client_rate=0), port=0, workers=int(sys.argv[2]),"
    " announce=lambda address: print(address, flush=True))"
)


@dataclass
class Tally:
    """What happened to the requests of a run."""

    seconds: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)


def views(random_source: random.Random, count: int) -> Iterator[list[str]]:
    """Tile addresses of one view after another: a jump to a place, then pans and zooms around it."""
    zoom, x, y = 3, 3, 3
    for view in range(count):
        if view % 4 == 0:
            zoom = random_source.randint(4, 16)
            x, y = random_source.randrange(2**zoom), random_source.randrange(2**zoom // 4, 3 * 2**zoom // 4)
        elif view % 4 == 2 and zoom < 18:
            zoom, x, y = zoom + 1, 2 * x, 2 * y
        else:
            x, y = x + random_source.choice((-3, 3)), y + random_source.choice((-2, 2))
        size = 2**zoom
        yield [
            f"{zoom}/{(x + column) % size}/{min(size - 1, max(0, y + row))}"
            for row in range(ROWS)
            for column in range(COLUMNS)
        ]


async def look_around(base: str, seed: int, count: int, tally: Tally) -> None:
    """One viewer."""
    random_source = random.Random(seed)
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=TIMEOUT_S) as client:
        for view, addresses in enumerate(views(random_source, count)):
            tasks = [asyncio.create_task(fetch(client, address, tally)) for address in addresses]
            if view % 2:
                # The map moves on: what half of the view's tiles were waiting for is no longer wanted.
                await asyncio.wait(tasks, timeout=0.5)
                for task in tasks[::2]:
                    task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                for task in tasks:
                    task.cancel()


async def fetch(client: httpx.AsyncClient, address: str, tally: Tally) -> None:
    """One tile; its outcome is HIT, MISS, DEDUP, left, or an HTTP status."""
    start = time.perf_counter()
    try:
        answer = await client.get(f"/worlds/earth/tiles/WebMercatorQuad/{address}.webp?seed=7")
    except asyncio.CancelledError:
        tally.outcomes["left"] += 1
        raise
    if answer.status_code == 200:
        tally.seconds.append(time.perf_counter() - start)
        tally.outcomes[answer.headers["x-cache"]] += 1
    else:
        tally.outcomes[str(answer.status_code)] += 1


async def press(base: str, viewers: int, count: int, limit_s: float) -> tuple[Tally, float, float]:
    """All viewers at once, for at most `limit_s` seconds; also the longest time that /healthz took meanwhile.

    Returns:
        What happened, seconds in all, and seconds of the slowest answer of /healthz.
    """
    tally = Tally()
    slowest = 0.0

    async def watch() -> None:
        nonlocal slowest
        async with httpx.AsyncClient(base_url=base, timeout=TIMEOUT_S) as client:
            while True:
                start = time.perf_counter()
                (await client.get("/healthz")).raise_for_status()
                slowest = max(slowest, time.perf_counter() - start)
                await asyncio.sleep(0.2)

    watcher = asyncio.create_task(watch())
    start = time.perf_counter()
    viewing = [asyncio.create_task(look_around(base, seed, count, tally)) for seed in range(viewers)]
    _, late = await asyncio.wait(viewing, timeout=limit_s)
    for task in late:
        task.cancel()
    await asyncio.gather(*viewing, return_exceptions=True)
    seconds = time.perf_counter() - start
    watcher.cancel()
    return tally, seconds, slowest


def cached_tile(base: str, repeats: int = 300) -> tuple[list[float], list[float]]:
    """Seconds of a tile that is ready: as the client sees them, and as the server's own clock does."""
    address = "/worlds/earth/tiles/WebMercatorQuad/10/530/360.png?seed=7"
    seen, own = [], []
    with httpx.Client(base_url=base, timeout=TIMEOUT_S) as client:
        client.get(address).raise_for_status()
        for _ in range(repeats):
            start = time.perf_counter()
            answer = client.get(address)
            seen.append(time.perf_counter() - start)
            own.append(float(answer.headers["server-timing"].rpartition("total;dur=")[2]) / 1000)
    return seen, own


@contextmanager
def own_server(workers: int) -> Iterator[str]:
    """A server of the shipped weights with an empty cache folder."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, folder, str(workers)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip().rstrip("/")
            if not address:
                raise typer.BadParameter("the server did not start; its message is above")
            wait_until_ready(address)
            yield address
        finally:
            process.terminate()
            process.wait()


def wait_until_ready(base: str) -> None:
    """Return once the server answers /readyz."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{base}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise typer.BadParameter(f"{base} was not ready within {TIMEOUT_S} s")


def windows_in(cache: Path) -> int:
    """Finished windows in a cache folder."""
    files = (path for path in (cache / "pixels").rglob("*") if path.is_file())
    return sum(file.stat().st_size < LARGEST_WINDOW_BYTES for file in files)


def report(name: str, seconds: list[float]) -> None:
    """One line of a distribution."""
    if seconds:
        p50, p95 = np.percentile(seconds, (50, 95)) * 1000
        typer.echo(f"{name:<34} p50 {p50:9.1f} ms   p95 {p95:9.1f} ms   least {min(seconds) * 1000:9.1f} ms")


def measure(base: str, viewers: int, count: int, limit_s: float) -> None:
    """Run the load and print what came of it."""
    tally, seconds, slowest = asyncio.run(press(base, viewers, count, limit_s))
    answered = len(tally.seconds)
    typer.echo(
        f"{viewers} viewers, up to {count} views each: {sum(tally.outcomes.values())} requests in {seconds:.1f} s"
    )
    typer.echo("outcomes                           " + "  ".join(f"{k} {n}" for k, n in tally.outcomes.most_common()))
    typer.echo(f"tiles per second                   {answered / seconds:.1f}")
    if answered:
        ready = tally.outcomes["HIT"] + tally.outcomes["DEDUP"]
        typer.echo(f"share not generated for itself     {ready / answered:.2f}")
    report("tile under load", tally.seconds)
    typer.echo(f"slowest /healthz meanwhile         {slowest * 1000:.1f} ms")
    seen, own = cached_tile(base)
    report("cached tile, as the client sees it", seen)
    report("cached tile, inside the server", own)


def main(
    viewers: Annotated[int, typer.Option(min=1, max=32, help="Viewers at a time.")] = 2,
    views: Annotated[int, typer.Option(min=1, max=200, help="Views that each looks at, 20 tiles each.")] = 8,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="Seconds after which the viewers stop.")] = 120,
    url: Annotated[
        str | None, typer.Option(help="A running server of this machine; by default one is started.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Workers of the server that is started.")] = 1,
) -> None:
    """Put a bounded, map-like load on a server of this machine."""
    if url is None:
        with own_server(workers) as base:
            measure(base, viewers, views, seconds)
        return
    if urlsplit(url).hostname not in LOOPBACK:
        raise typer.BadParameter(f"{url} is not this machine; allowed hosts: {', '.join(LOOPBACK)}")
    measure(url.rstrip("/"), viewers, views, seconds)


if __name__ == "__main__":
    typer.run(main)

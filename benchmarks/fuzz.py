"""A hundred thousand requests that make little sense (worlds, GeoJSON, exports, query strings) to the app itself.

    python -m benchmarks.fuzz [--count 100000] [--seed 0]

The app runs in this process over an engine that paints instead of generating, so what is tried is everything in front
of the engine. Inputs come from a seed: values that make sense, changed in one or several places, and values that never
did. Routes that look at imagery need weights and are left out. It ends with exit code 1 if anything was answered with
5xx or not within the time limit.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import resource
import string
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import httpx
import typer
from fastapi import FastAPI

from earthgen.pyramid import MAX_ZOOM
from earthgen.world import MAX_SEED
from tests.fake_engine import FakeEngine
from tileserver import Settings, create_app

LIMIT_S = 60
"""Seconds after which a request counts as hanging; generous, because machines can be busy."""
NEEDS_WEIGHTS = ("/find", "/perception/", "/agent", "/caption", "/segment")
NEWS_EVERY = 2_000
SHOWN = 20
"""Failures that are printed."""

_ODD_NUMBERS = (0, -1, 1, 2**31, 2**63, MAX_SEED, MAX_SEED + 1, 10**400, 0.5, -0.0, 1e-308, 1e308, math.inf, math.nan)
_ODD_TEXTS = (
    "",
    " ",
    "\x00",
    "\u202e",
    "\ud800",
    "é" * 600,
    "a" * 513,
    "../../etc/passwd",
    "%00",
    "'; --",
    "{}",
    "null",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    body: bytes | None = None
    kind: str = "query"


@dataclass
class Seen:
    """What came of all."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    slowest: tuple[float, str] = (0.0, "")
    hungriest: tuple[float, str] = (0.0, "")
    began_mib: float = 0.0


class Inputs:
    """Inputs of a seed."""

    def __init__(self, app: FastAPI, seed: int) -> None:
        self._random = random.Random(seed)
        self._routes = [
            (method.upper(), path, operation.get("parameters", []))
            for path, operations in app.openapi()["paths"].items()
            for method, operation in operations.items()
            if method == "get" and not any(part in path for part in NEEDS_WEIGHTS)
        ]

    def next(self) -> Asked:
        """One more."""
        kinds: tuple[Callable[[], Asked], ...] = (self.world, self.geojson, self.export, self.query)
        return self._random.choice(kinds)()

    def world(self) -> Asked:
        """A world's value."""
        value: Any = {
            "root": self._random.choice(["earth", "planet", "prompt"]),
            "seed": self._random.randrange(MAX_SEED),
        }
        if value["root"] == "prompt":
            value |= {"prompt": "a harbour town", "gsd": self._random.choice([0.5, 1, 10])}
        if self._random.random() < 0.5:
            value["edits"] = [self._edit() for _ in range(self._random.randint(1, 3))]
        if self._random.random() < 0.2:
            value["layout"] = self._collection()
        return Asked("POST", "/worlds", self._written(self._changed(value)), "world")

    def geojson(self) -> Asked:
        """A feature for a route that takes one."""
        route = self._random.choice(["statistics", "feature.png", "feature/16x16.tif", "feature.jpg"])
        value = self._changed(self._feature(self._ring()))
        path = f"/worlds/{self._random.choice(['earth', 'planet'])}/{route}"
        if self._random.random() < 0.5:
            path += f"?zoom={self._random.randint(0, MAX_ZOOM)}"
        return Asked("POST", path, self._written(value), "geojson")

    def export(self) -> Asked:
        """What an export would cost, and every fourth time the export itself."""
        west, south = self._random.uniform(-180, 179), self._random.uniform(-85, 84)
        size, first = 10 ** self._random.uniform(-4, 1), self._random.randint(0, MAX_ZOOM)
        value: dict[str, Any] = {
            "bbox": [west, south, west + size, south + size],
            "zooms": [first, first + self._random.randint(0, 2)],
        }
        more = {
            "file": self._random.choice(["pmtiles", "mbtiles", "tif"]),
            "image": self._random.choice(["png", "webp", "jpg"]),
            "quality": self._random.randint(1, 100),
            "band": self._random.choice(["landcover", None]),
        }
        value |= {name: item for name, item in more.items() if self._random.random() < 0.5}
        path = f"/worlds/{self._random.choice(['earth', 'planet'])}/exports"
        if self._random.random() < 0.75:
            path += "/plan"
        return Asked("POST", path, self._written(self._changed(value)), "export")

    def query(self) -> Asked:
        """A route of the document with values that it allows and others."""
        method, path, parameters = self._random.choice(self._routes)
        query: list[tuple[str, str]] = []
        for parameter in parameters:
            value = self._parameter(parameter)
            if parameter["in"] == "path":
                # Two dots would be taken for the folder above by the client.
                written = quote(value, safe="", errors="surrogatepass").replace("..", "%2E%2E") or "%20"
                path = path.replace(f"{{{parameter['name']}}}", written)
            elif parameter["in"] == "query" and (parameter.get("required") or self._random.random() < 0.3):
                query += [(parameter["name"], value)] * self._random.choice([1, 1, 1, 2])
        if self._random.random() < 0.1:
            query.append((self._text(), self._text()))
        return Asked(method, f"{path}?{urlencode(query, errors='surrogatepass')}" if query else path)

    def _parameter(self, parameter: dict[str, Any]) -> str:
        name, schema = parameter["name"], parameter.get("schema", {})
        sensible: dict[str, list[str]] = {
            "world": ["earth", "planet", "prompt"],
            "tileMatrixSetId": ["WebMercatorQuad"],
            "z": [str(self._random.randint(0, MAX_ZOOM))],
            "x": [str(self._random.randint(0, 15))],
            "y": [str(self._random.randint(0, 15))],
            "format": ["png", "webp", "jpg", "tif"],
            "lon": [str(self._random.uniform(-180, 180))],
            "lat": [str(self._random.uniform(-85, 85))],
            "minx": ["7"],
            "miny": ["46"],
            "maxx": ["7.1"],
            "maxy": ["46.1"],
            "width": ["16"],
            "height": ["16"],
            "bidx": ["1", "3"],
            "expression": ["b1+b2", "b1/(b1-b1)", "(b1>3)*b2", "b1;b2;b3"],
            "band": ["landcover"],
            "date": ["2026-05-01"],
            "prompt": ["a harbour town"],
            "gsd": ["1"],
        }
        kind = self._random.random()
        if kind < 0.6 and name in sensible:
            return self._random.choice(sensible[name])
        allowed = schema.get("enum") or [s for part in schema.get("anyOf", []) for s in part.get("enum", [])]
        if kind < 0.75 and allowed:
            return str(self._random.choice(allowed))
        if kind < 0.9:
            return str(self._number())
        return self._text()

    def _number(self) -> float:
        kind = self._random.random()
        if kind < 0.4:
            return self._random.choice(_ODD_NUMBERS)
        return self._random.randint(-300, 300) if kind < 0.7 else self._random.uniform(-400, 400)

    def _text(self) -> str:
        if self._random.random() < 0.5:
            return self._random.choice(_ODD_TEXTS)
        letters = string.printable + "äß漢\U0001f30d"
        return "".join(self._random.choices(letters, k=self._random.randint(0, 40)))

    def _anything(self, depth: int = 0) -> Any:
        kind = self._random.randrange(7 if depth < 4 else 5)
        if kind == 5:
            return [self._anything(depth + 1) for _ in range(self._random.randint(0, 4))]
        if kind == 6:
            return {self._text(): self._anything(depth + 1) for _ in range(self._random.randint(0, 4))}
        return (None, self._random.random() < 0.5, self._number(), self._text(), self._random.randint(-9, 9))[kind]

    def _ring(self) -> list[list[float]]:
        longitude, latitude = self._random.uniform(-180, 180), self._random.uniform(-85, 85)
        size = 10 ** self._random.uniform(-5, 1.5)
        corners = [
            [longitude + size * self._random.uniform(-1, 1), latitude + size * self._random.uniform(-1, 1)]
            for _ in range(self._random.randint(3, 12))
        ]
        return [*corners, corners[0]]

    def _feature(self, ring: list[list[float]]) -> dict[str, Any]:
        kind = self._random.choice(["Polygon", "Polygon", "MultiPolygon", "Point", "LineString"])
        coordinates: Any = {"Polygon": [ring], "MultiPolygon": [[ring]], "Point": ring[0], "LineString": ring}[kind]
        return {"type": "Feature", "properties": {}, "geometry": {"type": kind, "coordinates": coordinates}}

    def _collection(self) -> dict[str, Any]:
        kinds = ["forest", "water", "road", "building", "houses", "farmland"]
        features = [
            self._feature(self._ring()) | {"properties": {"kind": self._random.choice(kinds)}}
            for _ in range(self._random.randint(1, 4))
        ]
        return {"type": "FeatureCollection", "features": features}

    def _edit(self) -> dict[str, Any]:
        edit: dict[str, Any] = {
            "action": self._random.choice(["snow", "prompt", "remove", "seed", "infill"]),
            "polygon": self._ring(),
        }
        if self._random.random() < 0.5:
            edit |= {"prompt": "a solar farm", "seed": self._random.randrange(100)}
        if self._random.random() < 0.3:
            edit |= {"valid_from": "2026-05-01", "valid_until": self._random.choice(["2026-04-01", "2027-01-01"])}
        return edit

    def _changed(self, value: Any) -> Any:
        """The value as it is, changed in up to three places, or something else altogether."""
        kind = self._random.random()
        if kind < 0.05:
            return self._anything()
        for _ in range(0 if kind < 0.25 else self._random.randint(1, 3)):
            value = self._changed_once(value)
        return value

    def _changed_once(self, value: Any) -> Any:
        if isinstance(value, dict) and value and self._random.random() < 0.9:
            key = self._random.choice(list(value))
            kind = self._random.random()
            if kind < 0.1:
                return {name: item for name, item in value.items() if name != key}
            if kind < 0.2:
                return value | {self._text(): self._anything()}
            return value | {key: self._changed_once(value[key])}
        if isinstance(value, list) and value and self._random.random() < 0.9:
            index = self._random.randrange(len(value))
            kind = self._random.random()
            if kind < 0.1:
                return value[:index] + value[index + 1 :]
            if kind < 0.2:
                return value * self._random.choice([2, 50])
            return [*value[:index], self._changed_once(value[index]), *value[index + 1 :]]
        if isinstance(value, int | float) and not isinstance(value, bool) and self._random.random() < 0.6:
            return self._number()
        return self._anything()

    def _written(self, value: Any) -> bytes:
        body = json.dumps(value).encode("utf-8", "surrogatepass")
        kind = self._random.random()
        if kind < 0.03:
            return body[: self._random.randrange(len(body) + 1)]
        if kind < 0.05:
            at = self._random.randrange(len(body) + 1)
            return body[:at] + self._random.randbytes(3) + body[at:]
        return body


async def press(count: int, seed: int) -> Seen:
    """Make the requests, one after the other."""
    # Exports are small, and as many go on as one client may have: the rest is refused.
    settings = Settings(max_pixels=1 << 16, max_worlds=1_000_000, client_rate=0, export_tiles=64)
    app = create_app(settings, lambda _: FakeEngine())
    inputs = Inputs(app, seed)
    seen = Seen()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://fuzz"))
        # Bands bring torch with them, once; its seconds and bytes are no request's fault.
        (await client.get("/worlds/earth/point/7,46?band=landcover")).raise_for_status()
        seen.began_mib = _most_mib()
        for index in range(1, count + 1):
            await _one(client, inputs.next(), seen)
            if index % NEWS_EVERY == 0:
                typer.echo(f"{index} requests, {seen.failed} failed, {_most_mib():.0f} MiB", err=True)
    return seen


async def _one(client: httpx.AsyncClient, asked: Asked, seen: Seen) -> None:
    headers = {"Content-Type": "application/json"} if asked.body is not None else {}
    start, memory = time.perf_counter(), _most_mib()
    try:
        url = httpx.URL(asked.path)
    except httpx.InvalidURL:
        # Longer than the client itself lets anybody ask.
        seen.statuses.setdefault(asked.kind, Counter())[0] += 1
        return
    try:
        call = client.request(asked.method, url, content=asked.body, headers=headers)
        answer = await asyncio.wait_for(call, LIMIT_S)
        status, said = answer.status_code, answer.text[:300]
    except TimeoutError:
        status, said = 599, f"no answer within {LIMIT_S} s"
    seconds = time.perf_counter() - start
    seen.statuses.setdefault(asked.kind, Counter())[status] += 1
    shown = f"{asked.method} {asked.path[:300]} {(asked.body or b'')[:300]!r}"
    seen.slowest = max(seen.slowest, (seconds, shown))
    seen.hungriest = max(seen.hungriest, (_most_mib() - memory, shown))
    if status >= 500:
        seen.failed += 1
        if len(seen.failures) < SHOWN:
            seen.failures.append(f"{status} {asked.method} {asked.path[:300]} {(asked.body or b'')[:600]!r}: {said}")
        # Whole and at once: a run that is stopped has still told what to try again.
        typer.echo(f"{status} after {seconds:.1f} s: {said}: {asked}", err=True)


def _most_mib() -> float:
    """Most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(
    count: Annotated[int, typer.Option(min=1, help="Requests.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the inputs.")] = 0,
) -> None:
    """Ask the app for what makes little sense."""
    import logging

    # What fails is printed below; a traceback for each request is not needed.
    logging.disable(logging.ERROR)
    start = time.perf_counter()
    seen = asyncio.run(press(count, seed))
    seconds = time.perf_counter() - start
    typer.echo(f"{count} requests in {seconds:.0f} s, {count / seconds:.0f} a second")
    for kind, statuses in sorted(seen.statuses.items()):
        typer.echo(f"{kind:<8} " + "  ".join(f"{status or 'not sent'}: {n}" for status, n in sorted(statuses.items())))
    typer.echo(f"slowest {seen.slowest[0]:.2f} s: {seen.slowest[1]}")
    typer.echo(f"memory at the start {seen.began_mib:.0f} MiB, most {_most_mib():.0f} MiB")
    typer.echo(f"most for one request {seen.hungriest[0]:.0f} MiB: {seen.hungriest[1]}")
    typer.echo(f"answered with 5xx or not at all: {seen.failed}")
    for failure in seen.failures:
        typer.echo(failure)
    raise typer.Exit(1 if seen.failed else 0)


if __name__ == "__main__":
    typer.run(main)

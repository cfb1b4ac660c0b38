"""Stand-ins for the tile server, for the map: painted tiles, no generation.

`create_fake_app` has the addresses that a map without edits uses and answers them by itself. `create_painted_app` is
the service itself, with worlds, edits, dates and errors, over an engine that paints.

    python -m tests.fake_tileserver [port]

serves the map over the second, for working on the page without weights.
"""

from __future__ import annotations

import asyncio
import io
import json
import mimetypes
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from PIL import Image, ImageDraw
from starlette.responses import StreamingResponse

from earthgen.pyramid import Box, point_pixel, world_size
from earthgen.world import World
from tests.fake_engine import Cancelled, FakeEngine
from tileserver.app import create_app
from tileserver.settings import Settings

STATIC = Path(__file__).parent.parent / "tileserver" / "static"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REGISTERED = {
    "id": "0123456789abcdef0123",
    "name": "0123456789abcdef0123",
    "root": "planet",
    "seed": 2**63 - 2,
    "version": "1",
}
WORLDS = [
    {"id": "earth", "name": "earth", "root": "earth", "seed": 0, "version": "1"},
    {"id": "planet", "name": "planet", "root": "planet", "seed": 0, "version": "1"},
    REGISTERED,
]
WATER, SAND, FOREST, ROCK, ICE = (18, 52, 92), (196, 168, 120), (52, 88, 42), (110, 98, 84), (236, 240, 244)


def create_fake_app() -> FastAPI:
    """The routes that the map uses."""
    app = FastAPI()
    mimetypes.add_type("text/javascript", ".mjs")

    @app.middleware("http")
    async def strict(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    @app.get("/")
    def index() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/worlds")
    def worlds() -> dict[str, Any]:
        return {"worlds": WORLDS}

    @app.get("/worlds/{name}")
    def world(name: str) -> dict[str, Any]:
        for known in WORLDS:
            if known["name"] == name:
                return {"qualities": ["draft", "standard"], **known}
        raise HTTPException(404, f"no world is called {name!r}")

    @app.get("/activity")
    def activity() -> dict[str, Any]:
        return {
            "running": [{"zoom": 12, "row": 5, "column": 7}],
            "queued": 3,
            "done": 40,
            "seconds_per_window": 0.4,
        }

    @app.get("/worlds/{name}/tiles/WebMercatorQuad/{z}/{x}/{y}.webp")
    def tile(name: str, z: int, x: int, y: int, seed: int = 0) -> Response:
        return Response(paint(world(name)["root"], seed, z, x, y), media_type="image/webp")

    @app.get("/worlds/{name}/preview.png")
    def preview(name: str, seed: int = 0) -> Response:
        return Response(paint(world(name)["root"], seed, 0, 0, 0, "png"), media_type="image/png")

    app.mount("/static", StaticFiles(directory=STATIC))
    return app


@lru_cache(maxsize=4096)
def paint(root: str, seed: int, z: int, x: int, y: int, kind: str = "webp") -> bytes:
    """A 256x256 tile of smooth continents that depend on root and seed; the same ground looks the same at any zoom."""
    buffer = io.BytesIO()
    Image.fromarray(painted([seed, root == "planet"], Box(z, 256 * y, 256 * x, 256, 256))).save(buffer, kind)
    return buffer.getvalue()


def painted(entropy: list[int], box: Box) -> npt.NDArray[np.uint8]:
    """Pixels (h, w, 3) of smooth continents, different for each entropy."""
    size = world_size(box.zoom)
    columns, rows = np.meshgrid(
        (box.column + np.arange(box.width) + 0.5) / size, (box.row + np.arange(box.height) + 0.5) / size
    )
    height = _waves(columns, rows, np.random.default_rng(entropy))
    latitude = np.abs(np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * rows)))))
    warm = (latitude < 35) & (np.sin(9 * columns + 7 * rows) > 0)
    image = np.empty((box.height, box.width, 3), np.uint8)
    image[:] = WATER
    for where, colour in (
        (height > 0, FOREST),
        ((height > 0) & warm, SAND),
        (height > 0.9, ROCK),
        (latitude > 66, ICE),
    ):
        image[where] = colour
    shade = 1 + 0.12 * np.sin(height * 40) * (height > 0)
    return (image * shade[..., None]).clip(0, 255).astype(np.uint8)


def _waves(
    columns: npt.NDArray[np.float64], rows: npt.NDArray[np.float64], random: np.random.Generator
) -> npt.NDArray[np.float64]:
    height = np.full(columns.shape, -0.15)
    for octave in range(14):
        across, down = 2**octave * random.integers(1, 3), 2**octave * random.uniform(0.7, 1.6)
        phase, turn = random.uniform(0, 2 * np.pi, 2)
        wave = np.sin(2 * np.pi * across * columns + phase) * np.sin(2 * np.pi * down * rows + turn)
        height += wave * 0.62**octave
    return height


EDIT_COLOURS = {
    "prompt": (150, 70, 160),
    "reseed": (90, 130, 60),
    "remove": (130, 130, 130),
    "snow": (250, 250, 252),
    "haze": (190, 200, 205),
    "burn": (40, 30, 25),
    "flood": (30, 70, 110),
    "summer": (70, 140, 50),
    "autumn": (180, 100, 40),
}


class PaintedEngine(FakeEngine):
    """Continents in place of worlds, and a plain colour for each action inside its polygon."""

    def pixels(self, world: World, box: Box, *, cancelled: Cancelled | None = None) -> npt.NDArray[np.uint8]:
        super().pixels(world, box, cancelled=cancelled)
        entropy = [world.seed, *world.root.encode(), *world.prompt.encode()]
        image = Image.fromarray(painted(entropy, box))
        pen = ImageDraw.Draw(image)
        for edit in world.at().edits:
            corners = [point_pixel(longitude, latitude, box.zoom) for longitude, latitude in edit.polygon]
            pen.polygon([(column - box.column, row - box.row) for row, column in corners], EDIT_COLOURS[edit.action])
        return np.asarray(image)


@dataclass
class FakeFinder:
    """Finds a place a step; while `gate` is cleared it stops before the next one."""

    total: int = 6
    gate: threading.Event = field(default_factory=threading.Event)
    asked: list[dict[str, str]] = field(default_factory=list)
    given_up: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    async def lines(self) -> AsyncIterator[str]:
        """Findings as the service streams them, the best place last found."""
        places: list[dict[str, float]] = []
        finished = False
        try:
            for done in range(1, self.total + 1):
                place = {"longitude": 10.0 + done, "latitude": 20.0, "zoom": 9, "x": 0, "y": 0, "score": done / 10}
                places.insert(0, place)
                yield json.dumps({"done": done, "total": self.total, "places": places[:4]}) + "\n"
                while done < self.total and not self.gate.is_set():
                    await asyncio.sleep(0.01)
            finished = True
        finally:
            self.given_up += not finished


def create_painted_app(finder: FakeFinder | None = None, settings: Settings | None = None) -> FastAPI:
    """The service over a painting engine, with a search that finds the same places everywhere."""
    finder = finder or FakeFinder()
    app = create_app(settings or Settings(), lambda settings: PaintedEngine())

    async def find(request: Request) -> StreamingResponse:
        finder.asked.append(dict(request.query_params) | {"world": request.path_params["world"]})
        return StreamingResponse(finder.lines(), media_type="application/x-ndjson")

    # Before the service's own, which would need weights to compare pictures with words.
    app.router.routes.insert(0, APIRoute("/worlds/{world}/find", find))
    return app


if __name__ == "__main__":
    uvicorn.run(create_painted_app(), port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, log_level="warning")

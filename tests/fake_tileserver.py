"""A stand-in for the tile server with the same addresses: painted tiles, no generation.

    python -m tests.fake_tileserver [port]

serves the map over it, for working on the page without weights.
"""

from __future__ import annotations

import io
import mimetypes
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image

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
                return known
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
    fraction = (np.arange(256) + 0.5) / 256
    columns, rows = np.meshgrid((x + fraction) / 2**z, (y + fraction) / 2**z)
    height = _waves(columns, rows, np.random.default_rng([seed, root == "planet"]))
    latitude = np.abs(np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * rows)))))
    warm = (latitude < 35) & (np.sin(9 * columns + 7 * rows) > 0)
    image = np.empty((256, 256, 3), np.uint8)
    image[:] = WATER
    for where, colour in (
        (height > 0, FOREST),
        ((height > 0) & warm, SAND),
        (height > 0.9, ROCK),
        (latitude > 66, ICE),
    ):
        image[where] = colour
    shade = 1 + 0.12 * np.sin(height * 40) * (height > 0)
    buffer = io.BytesIO()
    Image.fromarray((image * shade[..., None]).clip(0, 255).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


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


if __name__ == "__main__":
    uvicorn.run(create_fake_app(), port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, log_level="warning")

"""A stand-in for the engine: colours from addresses, in microseconds, with optional delay and counting.

A pixel's colour depends on its own address only, so crops, sizes and orders agree as they do in the real
engine; "generation" is a set of boxes that have been asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from earthgen.errors import RequestCancelledError, WorldError
from earthgen.pyramid import ROOT_ZOOM, Box, Window, point_pixel, tile_box, windows_of, world_size
from earthgen.world import Quality, World

Cancelled = Callable[[], bool]


@dataclass(frozen=True)
class FakeActivity:
    running: tuple[Window, ...]
    queued: int
    done: int
    seconds_per_window: float


@dataclass
class FakeEngine:
    """Counts what it is asked for; `gate`, while cleared, holds every generation back."""

    delay: float = 0.0
    weights_id: str = "fakeweights"
    fingerprint: str = "fake engine 1"
    calls: int = 0
    generated: int = 0
    cancelled: int = 0
    closed: bool = False
    gate: threading.Event = field(default_factory=threading.Event)
    order: list[Box] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()
        self._lock = threading.Lock()
        self._finished: set[tuple[str, Box]] = set()
        self._running: list[Box] = []

    @property
    def qualities(self) -> tuple[Quality, ...]:
        return ("draft", "standard")

    @property
    def cached_bytes(self) -> int:
        with self._lock:
            return sum(3 * box.width * box.height for _, box in self._finished)

    def forget(self) -> None:
        """Start anew: nothing made, nothing counted."""
        with self._lock:
            self.calls = self.generated = self.cancelled = 0
            self.order.clear()
            self._finished.clear()

    def tile(
        self, world: World, z: int, x: int, y: int, *, size: int = 256, cancelled: Cancelled | None = None
    ) -> npt.NDArray[np.uint8]:
        box = tile_box(z, x, y) if size == 256 else Box(z + 1, y * size, x * size, size, size)
        return self.pixels(world, box, cancelled=cancelled)

    def pixels(self, world: World, box: Box, *, cancelled: Cancelled | None = None) -> npt.NDArray[np.uint8]:
        if world.prompt and world.root != "prompt":
            raise WorldError("these weights know no text: prompt must be empty")
        with self._lock:
            self.calls += 1
            self.order.append(box)
            self._running.append(box)
        try:
            if not self.is_ready(world, box):
                self._generate(world, box, cancelled)
        finally:
            with self._lock:
                self._running.remove(box)
        return colours(world, box)

    def _generate(self, world: World, box: Box, cancelled: Cancelled | None) -> None:
        while not self.gate.wait(0.01):
            if cancelled and cancelled():
                with self._lock:
                    self.cancelled += 1
                raise RequestCancelledError("nobody waits for it any more")
        time.sleep(self.delay)
        with self._lock:
            self.generated += (world.id, box) not in self._finished
            self._finished.add((world.id, box))

    def point(
        self, world: World, longitude: float, latitude: float, *, zoom: int = 18, cancelled: Cancelled | None = None
    ) -> tuple[int, int, int]:
        row, column = point_pixel(longitude, latitude, zoom)
        red, green, blue = self.pixels(world, Box(zoom, row, column, 1, 1), cancelled=cancelled)[0, 0]
        return int(red), int(green), int(blue)

    def prepare(self, world: World, box: Box, *, cancelled: Cancelled | None = None) -> None:
        self.pixels(world, box, cancelled=cancelled)

    def is_ready(self, world: World, box: Box) -> bool:
        with self._lock:
            return box.zoom <= ROOT_ZOOM or (world.id, box) in self._finished

    def activity(self) -> FakeActivity:
        with self._lock:
            windows = tuple(next(windows_of(box)) for box in self._running)
            return FakeActivity(windows, 0, self.generated, self.delay)

    def close(self) -> None:
        self.closed = True


def colours(world: World, box: Box) -> npt.NDArray[np.uint8]:
    """Pixels (h, w, 3) of a box: smooth in the address, different for each world, columns wrapped."""
    rows = np.arange(box.row, box.row + box.height)[:, None]
    columns = (np.arange(box.column, box.column + box.width) % world_size(box.zoom))[None, :]
    shift = int(world.id[:2], 16)
    red = (rows + shift) % 251
    green = (columns + 3 * shift) % 241
    blue = (rows // 16 + columns // 16 + box.zoom * 8) % 256
    return np.stack(np.broadcast_arrays(red, green, blue), axis=-1).astype(np.uint8)

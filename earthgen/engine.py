"""The engine: world in, pixels out.

`Engine.pixels` is the one path by which pixels are made. It works out which windows a box of pixels
needs, level by level down from the root, leaves out what the store has, and has the rest computed by a
few threads, coarse levels first. Requests that need the same window share its computation.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from affine import Affine
from rasterio.crs import CRS

from earthgen.cascade import CascadeStep
from earthgen.errors import AddressError, RequestCancelledError, RequestTooLargeError, WorldError
from earthgen.pyramid import (
    LEVEL_ZOOMS,
    MAX_ZOOM,
    ROOT_ZOOM,
    SCALE,
    TILE_SIZE,
    WINDOW_SIZE,
    Bounds,
    Box,
    Window,
    bounds_box,
    box_mercator_bounds,
    check_bounds,
    check_zoom,
    level_zoom,
    point_pixel,
    tile_box,
    windows_of,
    world_size,
    zoom_for_gsd,
)
from earthgen.roots import open_root
from earthgen.store import PixelStore, StoreCounts
from earthgen.weights import load_weights
from earthgen.world import World

Pixels = npt.NDArray[np.uint8]
Cancelled = Callable[[], bool]

BYTES_VERSION = 1
"""Counts changes of this package that change pixels; part of the fingerprint."""
MAX_REQUEST_PIXELS = 1 << 26
"""Pixels that one call may ask for: 8192 x 8192. Larger regions are written window by window."""
WEB_MERCATOR = CRS.from_epsg(3857)

_KEPT_ROOTS = 2
"""Roots kept in memory as they are: 67 MB each, means included."""
_CANCEL_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Region:
    """Georeferenced pixels.

    Attributes:
        pixels: uint8 (h, w, 3).
        transform: from (column, row) to EPSG:3857 metres.
        crs: EPSG:3857.
        box: the global pixels that they are.
    """

    pixels: Pixels
    transform: Affine
    crs: CRS
    box: Box


@dataclass(frozen=True, slots=True)
class Activity:
    """What an engine is doing.

    Attributes:
        running: windows that are being computed.
        queued: windows that wait for a thread.
        done: windows computed since the engine was opened.
        seconds_per_window: moving average of the time a window takes; 0 before the first.
    """

    running: tuple[Window, ...]
    queued: int
    done: int
    seconds_per_window: float


@dataclass(slots=True)
class _Job:
    """A window on its way, and how many requests wait for it."""

    future: Future[Pixels]
    waiters: int


class Engine:
    """Generates and remembers pixels of worlds; safe to call from many threads.

    Use `Engine.open`; an engine is a context manager and should be closed.
    """

    def __init__(self, step: CascadeStep, weights_id: str, store: PixelStore, threads: int, fingerprint: str) -> None:
        self.weights_id = weights_id
        self.fingerprint = fingerprint
        self._step = step
        self._store = store
        # Each thread that computes is told too: OpenMP keeps its thread count per thread.
        self._pool = ThreadPoolExecutor(threads, "earthgen-window", torch.set_num_threads, (1,))
        self._lock = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._running: dict[str, Window] = {}
        self._done = 0
        self._seconds_per_window = 0.0
        self._roots: dict[str, list[Pixels]] = {}
        self._root_gates: dict[str, threading.Lock] = {}
        self._closed = False

    @classmethod
    def open(
        cls,
        weights: str | Path | None = None,
        cache: str | Path | None = None,
        *,
        memory_bytes: int = 256 << 20,
        disk_bytes: int = 4 << 30,
        threads: int | None = None,
        device: str | None = None,
    ) -> Self:
        """Load weights and open a cache.

        torch is set to one thread for the whole process: windows, not the insides of one window, are
        what runs in parallel, so the bytes do not depend on the number of cores.

        Args:
            weights: None for the shipped ones, a folder, or `hf:OWNER/NAME`.
            cache: folder for finished windows; None keeps them in memory only.
            memory_bytes: bound of the memory cache.
            disk_bytes: bound of the folder.
            threads: windows computed at a time; None takes the number of usable cores.
            device: torch device; None takes a GPU if there is one.

        Raises:
            WeightsError: the weights cannot be loaded.
        """
        torch.set_num_threads(1)
        loaded = load_weights(weights)
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        kind = torch.cuda.get_device_name() if chosen.type == "cuda" else torch.backends.cpu.get_cpu_capability()
        fingerprint = _digest(f"{BYTES_VERSION}|{loaded.id}|{torch.__version__}|{chosen.type}|{kind}|float32")
        store = PixelStore(Path(cache) if cache is not None else None, memory_bytes, disk_bytes)
        threads = threads or len(os.sched_getaffinity(0))
        return cls(CascadeStep(loaded.net, chosen), loaded.id, store, threads, fingerprint)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop queued work, wait for the windows that are running, and end the threads."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def tile(
        self, world: World, z: int, x: int, y: int, *, size: int = TILE_SIZE, cancelled: Cancelled | None = None
    ) -> Pixels:
        """A tile.

        Args:
            world: which world.
            z: zoom, 0..18.
            x: column of tiles, 0..2**z - 1.
            y: row of tiles, 0..2**z - 1.
            size: 256, or 512 for the same ground with the pixels of zoom z + 1.
            cancelled: asked now and then while waiting; when it says True, queued work is dropped.

        Returns:
            uint8 (size, size, 3).

        Raises:
            AddressError: no such tile or size.
            WorldError: the weights cannot make this world.
            RequestCancelledError: `cancelled` said so.
        """
        box = tile_box(z, x, y)
        if size == TILE_SIZE:
            return self.pixels(world, box, cancelled=cancelled)
        if size != 2 * TILE_SIZE:
            raise AddressError(f"tile size {size}; {TILE_SIZE} and {2 * TILE_SIZE} are allowed")
        if z == MAX_ZOOM:
            raise AddressError(f"tile size {size} at zoom {z} needs pixels of zoom {z + 1}; zooms end at {MAX_ZOOM}")
        return self.pixels(world, Box(z + 1, 2 * box.row, 2 * box.column, size, size), cancelled=cancelled)

    def region(
        self,
        world: World,
        bounds: Bounds,
        *,
        zoom: int | None = None,
        gsd: float | None = None,
        cancelled: Cancelled | None = None,
    ) -> Region:
        """The pixels that cover bounds, at a zoom or at least as fine as a GSD at the middle latitude.

        Args:
            world: which world.
            bounds: west, south, east, north in degrees.
            zoom: 0..18; exactly one of zoom and gsd.
            gsd: metres per pixel.
            cancelled: see `tile`.

        Raises:
            AddressError: bounds or resolution out of range.
            RequestTooLargeError: more than MAX_REQUEST_PIXELS pixels.
        """
        box = region_box(bounds, zoom=zoom, gsd=gsd)
        pixels = self.pixels(world, box, cancelled=cancelled)
        return Region(pixels, box_transform(box), WEB_MERCATOR, box)

    def point(
        self,
        world: World,
        longitude: float,
        latitude: float,
        *,
        zoom: int = MAX_ZOOM,
        cancelled: Cancelled | None = None,
    ) -> tuple[int, int, int]:
        """Red, green, blue of the pixel at a place."""
        row, column = point_pixel(longitude, latitude, zoom)
        red, green, blue = self.pixels(world, Box(zoom, row, column, 1, 1), cancelled=cancelled)[0, 0]
        return int(red), int(green), int(blue)

    def pixels(self, world: World, box: Box, *, cancelled: Cancelled | None = None) -> Pixels:
        """The pixels of a box: uint8 (height, width, 3). Columns wrap at 180 degrees; rows must exist.

        Raises:
            AddressError: rows or zoom outside the world, or an empty box.
            RequestTooLargeError: more than MAX_REQUEST_PIXELS pixels.
            WorldError: the weights cannot make this world.
            RequestCancelledError: `cancelled` said so, or the engine was closed.
        """
        self._check(world, box)
        level = _level_box(box)
        if level.zoom > ROOT_ZOOM:
            whole = self._level_pixels(world, level, cancelled)
            return whole if level.zoom == box.zoom else _mean(whole, 1 << level.zoom - box.zoom)
        return _crop(self._root(world)[ROOT_ZOOM - box.zoom], box)

    def is_ready(self, world: World, box: Box) -> bool:
        """Whether `pixels` would have nothing to generate."""
        self._check(world, box)
        level = _level_box(box)
        if level.zoom == ROOT_ZOOM:
            root_id = open_root(world).id
            return root_id in self._roots or self._store.get(_root_key(root_id)) is not None
        return all(self._store.get(self._key(world, window)) is not None for window in windows_of(level))

    def activity(self) -> Activity:
        """What the engine is doing now."""
        with self._lock:
            running = tuple(self._running.values())
            return Activity(running, len(self._jobs) - len(running), self._done, round(self._seconds_per_window, 4))

    @property
    def counts(self) -> StoreCounts:
        """Hits, computations and faults of the cache since the engine was opened."""
        return self._store.counts

    def _check(self, world: World, box: Box) -> None:
        check_zoom(box.zoom)
        if box.height < 1 or box.width < 1:
            raise AddressError(f"box of {box.height} x {box.width} pixels is empty")
        size = world_size(box.zoom)
        if box.row < 0 or box.row + box.height > size or box.width > size:
            raise AddressError(
                f"rows {box.row}..{box.row + box.height - 1}, {box.width} columns: zoom {box.zoom} has {size} of each"
            )
        if box.height * box.width > MAX_REQUEST_PIXELS:
            raise RequestTooLargeError(
                f"{box.height} x {box.width} pixels; at most {MAX_REQUEST_PIXELS} in one request"
            )
        if world.prompt:
            raise WorldError("these weights know no text: prompt must be empty")
        if world.edits:
            raise WorldError("these weights know no text: edits must be empty")

    def _key(self, world: World, window: Window) -> str:
        stream = _stream(self.fingerprint, world)
        return f"{stream}/{window.zoom}/{window.row >> 5}-{window.column >> 5}/{window.row}-{window.column}"

    def _root(self, world: World) -> list[Pixels]:
        """The root and its exact means: zooms 4, 3, 2, 1, 0.

        A planet takes seconds to make; worlds with other roots do not wait for it.
        """
        root = open_root(world)
        with self._lock:
            levels = self._roots.get(root.id)
            gate = self._root_gates.setdefault(root.id, threading.Lock())
        if levels is not None:
            return levels
        with gate:
            levels = self._roots.get(root.id)
            if levels is None:
                size = world_size(ROOT_ZOOM)
                whole = self._store.get_or_compute(
                    _root_key(root.id), lambda: root.pixels(Box(ROOT_ZOOM, 0, 0, size, size))
                )
                levels = [whole] + [_mean(whole, 2**zooms) for zooms in range(1, ROOT_ZOOM + 1)]
                with self._lock:
                    while len(self._roots) >= _KEPT_ROOTS:
                        forgotten = next(iter(self._roots))
                        del self._roots[forgotten], self._root_gates[forgotten]
                    self._roots[root.id] = levels
            return levels

    def _level_pixels(self, world: World, box: Box, cancelled: Cancelled | None) -> Pixels:
        """Pixels of a box on a cascade level below the root."""
        have: dict[Window, Pixels] = {}
        missing_by_level: list[list[Window]] = []
        needed: Iterable[Window] = windows_of(box)
        zoom = box.zoom
        while zoom > ROOT_ZOOM:
            missing = []
            for window in needed:
                pixels = self._store.get(self._key(world, window))
                if pixels is None:
                    missing.append(window)
                else:
                    have[window] = pixels
            if not missing:
                break
            missing_by_level.append(missing)
            zoom -= LEVEL_ZOOMS
            parents = (windows_of(_rows_within(self._step.parent_box(window))) for window in missing)
            needed = sorted({parent for group in parents for parent in group}) if zoom > ROOT_ZOOM else ()
        for missing in reversed(missing_by_level):
            have.update(self._compute(world, missing, have, cancelled))
        return _stitch(box, have)

    def _compute(
        self, world: World, windows: list[Window], have: dict[Window, Pixels], cancelled: Cancelled | None
    ) -> dict[Window, Pixels]:
        """Compute windows of one level whose parents are in `have` (or are the root); share what others compute."""
        waiting: dict[Future[Pixels], tuple[str, Window]] = {}
        done: dict[Window, Pixels] = {}
        try:
            for window in windows:
                key = self._key(world, window)
                waiting[self._join_job(key, world, window, have)] = (key, window)
            while waiting:
                if self._closed or (cancelled is not None and cancelled()):
                    raise RequestCancelledError("the request was withdrawn before its pixels were made")
                finished, _ = wait(
                    waiting, timeout=_CANCEL_POLL_SECONDS if cancelled else 1.0, return_when=FIRST_COMPLETED
                )
                for future in finished:
                    key, window = waiting.pop(future)
                    self._leave_job(key, future)
                    done[window] = future.result()
        finally:
            for future, (key, _) in waiting.items():
                self._leave_job(key, future)
        return done

    def _join_job(self, key: str, world: World, window: Window, have: dict[Window, Pixels]) -> Future[Pixels]:
        parents = self._parents(world, window, have)
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                if self._closed:
                    raise RequestCancelledError("the engine is closed")
                job = self._jobs[key] = _Job(self._pool.submit(self._run, key, world, window, parents), 0)
            job.waiters += 1
            return job.future

    def _leave_job(self, key: str, future: Future[Pixels]) -> None:
        """One request waits no longer; the last one to leave takes a job that has not begun off the queue."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.future is not future:
                return  # Finished: `_run` has taken it out, and another request may have put a new one there.
            job.waiters -= 1
            if job.waiters == 0 and job.future.cancel():
                del self._jobs[key]

    def _parents(self, world: World, window: Window, have: dict[Window, Pixels]) -> Pixels:
        box = self._step.parent_box(window)
        inside = _rows_within(box)
        pixels = _crop(self._root(world)[0], inside) if box.zoom == ROOT_ZOOM else _stitch(inside, have)
        # Beyond the projection's edges the last row goes on.
        above, below = inside.row - box.row, box.row + box.height - inside.row - inside.height
        return np.pad(pixels, ((above, below), (0, 0), (0, 0)), mode="edge") if above or below else pixels

    def _run(self, key: str, world: World, window: Window, parents: Pixels) -> Pixels:
        """In a pool thread: compute and store one window."""
        with self._lock:
            self._running[key] = window
        begun = time.perf_counter()
        try:
            return self._store.get_or_compute(key, lambda: self._step.window(world.seed, window, parents))
        finally:
            seconds = time.perf_counter() - begun
            with self._lock:
                del self._running[key], self._jobs[key]
                self._done += 1
                weight = 0.1 if self._seconds_per_window else 1.0
                self._seconds_per_window += weight * (seconds - self._seconds_per_window)


def region_box(bounds: Bounds, *, zoom: int | None = None, gsd: float | None = None) -> Box:
    """The pixels that `Engine.region` gives for bounds and exactly one of zoom and GSD.

    Raises:
        AddressError: both or none of zoom and gsd, or one of the arguments out of range.
    """
    if (zoom is None) == (gsd is None):
        raise AddressError("give exactly one of zoom and gsd")
    check_bounds(bounds)
    if zoom is None and gsd is not None:
        zoom = zoom_for_gsd(gsd, (bounds[1] + bounds[3]) / 2)
    assert zoom is not None
    return bounds_box(bounds, zoom)


def box_transform(box: Box) -> Affine:
    """From (column, row) of a box to EPSG:3857 metres."""
    left, _, right, top = box_mercator_bounds(box)
    gsd = (right - left) / box.width
    return Affine(gsd, 0.0, left, 0.0, -gsd, top)


def _root_key(root_id: str) -> str:
    return f"roots/{root_id}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@lru_cache(maxsize=256)
def _stream(fingerprint: str, world: World) -> str:
    """Names everything, but the address, that a window's pixels depend on."""
    return _digest(f"{fingerprint}|{world.canonical_json}")


def _level_box(box: Box) -> Box:
    """What `box` is made of: the same ground on its cascade level, or at the root's zoom."""
    zoom = level_zoom(box.zoom)
    factor = 1 << zoom - box.zoom
    return Box(zoom, box.row * factor, box.column * factor, box.height * factor, box.width * factor)


def _rows_within(box: Box) -> Box:
    """The part of a box whose rows exist."""
    top, bottom = max(0, box.row), min(world_size(box.zoom), box.row + box.height)
    return Box(box.zoom, top, box.column, bottom - top, box.width)


def _mean(pixels: Pixels, factor: int) -> Pixels:
    """The rounded mean of blocks of factor x factor pixels; factor is a power of 2 that divides both sides."""
    total: npt.NDArray[Any] = pixels.astype(np.uint16 if factor <= SCALE else np.uint32)
    for _ in range(factor.bit_length() - 1):
        total = total[::2] + total[1::2]
        total = total[:, ::2] + total[:, 1::2]
    mean: Pixels = ((total + factor * factor // 2) // (factor * factor)).astype(np.uint8)
    return mean


def _crop(world_pixels: Pixels, box: Box) -> Pixels:
    """A box out of all pixels of its zoom; columns wrap."""
    rows = world_pixels[box.row : box.row + box.height]
    columns = np.arange(box.column, box.column + box.width) % world_pixels.shape[1]
    return np.ascontiguousarray(rows[:, columns])


def _stitch(box: Box, have: dict[Window, Pixels]) -> Pixels:
    """A box out of windows; columns wrap."""
    size = world_size(box.zoom)
    out = np.empty((box.height, box.width, 3), dtype=np.uint8)
    for row in range(box.row // WINDOW_SIZE, math.ceil((box.row + box.height) / WINDOW_SIZE)):
        top, bottom = max(box.row, row * WINDOW_SIZE), min(box.row + box.height, (row + 1) * WINDOW_SIZE)
        for column in range(box.column // WINDOW_SIZE, math.ceil((box.column + box.width) / WINDOW_SIZE)):
            left, right = max(box.column, column * WINDOW_SIZE), min(box.column + box.width, (column + 1) * WINDOW_SIZE)
            pixels = have[Window(box.zoom, row, column % (size // WINDOW_SIZE))]
            out[top - box.row : bottom - box.row, left - box.column : right - box.column] = pixels[
                top - row * WINDOW_SIZE : bottom - row * WINDOW_SIZE,
                left - column * WINDOW_SIZE : right - column * WINDOW_SIZE,
            ]
    return out

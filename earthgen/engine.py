"""The engine: world in, pixels out.

`Engine.pixels` is the one path by which pixels are made. It asks the world's plan which parts a box of pixels
consists of and what they are made from, down to the root, leaves out what the store has, and has the rest computed
by a few threads, each part as soon as its inputs are there. Requests that need the same part share its computation.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from affine import Affine
from rasterio.crs import CRS

from earthgen.backends import backend_version, check_backend
from earthgen.cascade import CascadeStep
from earthgen.editing import placed
from earthgen.errors import AddressError, RequestCancelledError, RequestTooLargeError, WeightsError
from earthgen.plan import Kit, Part, Plan, mean, stitch
from earthgen.prompting import PromptRoot, Words, open_prompt_root
from earthgen.pyramid import (
    MAX_ZOOM,
    ROOT_ZOOM,
    TILE_SIZE,
    WINDOW_SIZE,
    Bounds,
    Box,
    Window,
    bounds_box,
    box_mercator_bounds,
    check_bounds,
    level_zoom,
    point_pixel,
    tile_box,
    windows_of,
    world_size,
    zoom_for_gsd,
)
from earthgen.roots import open_root
from earthgen.shared_store import SharedStore
from earthgen.store import PixelStore, StoreCounts
from earthgen.tracing import span
from earthgen.weights import load_qualities
from earthgen.world import QUALITIES, STANDARD, Quality, World

Pixels = npt.NDArray[np.uint8]
Cancelled = Callable[[], bool]

BYTES_VERSION = 3
"""Counts changes of this package that change pixels; part of the fingerprint."""
MAX_REQUEST_PIXELS = 1 << 26
"""Pixels that one call may ask for: 8192 x 8192. Larger regions are written window by window."""
WEB_MERCATOR = CRS.from_epsg(3857)

_KEPT_ROOTS = 2
"""Roots kept in memory as they are: 67 MB each, means included."""
_CANCEL_POLL_SECONDS = 0.05
_logger = logging.getLogger(__name__)


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

    def __init__(
        self, kits: Mapping[Quality, Kit], weights_id: str, store: PixelStore, threads: int, fingerprint: str
    ) -> None:
        self.weights_id = weights_id
        self.fingerprint = fingerprint
        self._kits = kits
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
        prompt_weights: str | Path | None = None,
        backend: str = "torch",
        store: str | None = None,
    ) -> Self:
        """Load weights and open a cache.

        torch is set to one thread for the whole process: windows, not the insides of one window, are
        what runs in parallel, so the bytes do not depend on the number of cores.

        Args:
            weights: of the cascade: None for the shipped ones, a folder, or `hf:OWNER/NAME`.
            cache: folder for finished windows; None keeps them in memory only.
            memory_bytes: bound of the memory cache.
            disk_bytes: bound of the folder.
            threads: windows computed at a time; None takes the number of usable cores.
            device: torch device; None takes a GPU if there is one.
            prompt_weights: of what worlds by prompt start from, as `weights`; a latent-diffusion checkpoint of
                Stable Diffusion 2's layout is allowed too.
            backend: what runs the cascade's layers: "torch", or "openvino" (CPU only, an extra of the package).
                Its pixels differ from torch's by a grey level here and there and are cached apart.
            store: where machines share finished windows, behind the cache: `file:///folder` or `s3://bucket/prefix`;
                see `earthgen.shared_store`.

        Raises:
            WeightsError: the weights cannot be loaded.
            BackendError: no such backend here.
            StoreError: the store's address makes no sense, or nobody answers there.
        """
        torch.set_num_threads(1)
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        runner = check_backend(backend, chosen)
        shared = SharedStore(store) if store else None
        made = load_qualities(weights)
        threads = threads or len(os.sched_getaffinity(0))
        kind = torch.cuda.get_device_name() if chosen.type == "cuda" else torch.backends.cpu.get_cpu_capability()
        numbers = "|".join(["float32", *filter(None, [backend_version(runner)])])
        prompts, why_not = _prompt_root(prompt_weights, chosen.type)
        steps: dict[str, Kit] = {}
        for how in made.values():
            # Qualities that are made alike share their pixels.
            if how.id in steps:
                continue
            fingerprint = _digest(f"{BYTES_VERSION}|{how.id}|{torch.__version__}|{chosen.type}|{kind}|{numbers}")
            net = how.weights.net
            step = CascadeStep(net, chosen, runner, threads, how.sigmas)
            steps[how.id] = Kit(fingerprint, step, net.config["text_width"] > 0, prompts, why_not)
        kits = {quality: steps[how.id] for quality, how in made.items()}
        pixels = PixelStore(Path(cache) if cache is not None else None, memory_bytes, disk_bytes, shared)
        # The kit's own names the bytes of worlds without text, whose cache other prompt weights leave valid.
        parts = [kit.fingerprint for kit in steps.values()] + ([prompts.weights_id] if prompts else [])
        whole = _digest("|".join(parts)) if len(parts) > 1 else parts[0]
        return cls(kits, made[STANDARD].weights.id, pixels, threads, whole)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop queued work, wait for the windows that are running and for the shared store, and end the threads."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._store.close()

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

        Of a world with dates they show the edits that never end; ask for `world.at(date)` to see another day.

        Raises:
            AddressError: rows or zoom outside the world, or an empty box.
            RequestTooLargeError: more than MAX_REQUEST_PIXELS pixels.
            WorldError: the weights cannot make this world.
            RequestCancelledError: `cancelled` said so, or the engine was closed.
        """
        _check(world, box)
        plan = self._plan(world)
        parts = _parts(plan, box)
        have = self._evaluate(plan, parts.values(), cancelled)
        side = WINDOW_SIZE >> level_zoom(box.zoom, world.root_zoom) - box.zoom
        windows = {window: plan.means(part, have[part], box.zoom) for window, part in parts.items()}
        if world.root == "prompt" or box.zoom > ROOT_ZOOM:
            return stitch(box, windows, side)
        # The root's own means; windows are only those that an edit touches.
        pixels = _crop(self._root(world)[ROOT_ZOOM - box.zoom], box)
        for window, changed in windows.items():
            at = Box(box.zoom, window.row * side, window.column * side, side, side)
            inside = placed(np.ones((side, side, 1), dtype=np.bool_), at, box)
            np.copyto(pixels, placed(changed, at, box), where=inside)
        return pixels

    def prepare(self, world: World, box: Box, *, cancelled: Cancelled | None = None) -> None:
        """Make what `pixels` would have to, one window after another: every other thread stays free for other calls.

        Raises:
            EarthgenError: what `pixels` raises.
        """
        _check(world, box)
        plan = self._plan(world)
        self._evaluate(plan, _parts(plan, box).values(), cancelled, at_once=1)

    def is_ready(self, world: World, box: Box) -> bool:
        """Whether `pixels` would have nothing to generate or to fetch from the shared store."""
        _check(world, box)
        plan = self._plan(world)
        if world.root != "prompt" and box.zoom <= ROOT_ZOOM:
            root_id = open_root(world).id
            if root_id not in self._roots and self._store.get(_root_key(root_id)) is None:
                return False
        return all(self._store.get(plan.key(part)) is not None for part in _parts(plan, box).values())

    def activity(self) -> Activity:
        """What the engine is doing now."""
        with self._lock:
            running = tuple(self._running.values())
            return Activity(running, len(self._jobs) - len(running), self._done, round(self._seconds_per_window, 4))

    @property
    def counts(self) -> StoreCounts:
        """Hits, computations and faults of the cache since the engine was opened."""
        return self._store.counts

    @property
    def draws(self) -> bool:
        """Whether the weights draw fields, roads and trees; see `earthgen.countryside`."""
        return self._kits[STANDARD].step.draws

    def scene_cover(self, world: World, box: Box) -> Pixels | None:
        """What the words of a world by prompt have put on pixels, see `PromptRoot.cover`; None where nobody knows."""
        prompts = self._kits[world.quality].prompts
        if world.root != "prompt" or prompts is None:
            return None
        _check(world, box)
        return prompts.cover(world.seed, Words(world.prompt, world.negative, world.guidance), world.root_zoom, box)

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """The qualities whose pixels differ from the standard ones, and "standard", from least work to most."""
        own = self._kits[STANDARD].fingerprint
        return tuple(name for name in QUALITIES if name == STANDARD or self._kits[name].fingerprint != own)

    @property
    def cached_bytes(self) -> int:
        """Bytes of finished windows that are kept in memory."""
        return self._store.cached_bytes

    def _plan(self, world: World) -> Plan:
        return Plan(world.at(), self._kits[world.quality], lambda: self._root(world)[0])

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
                levels = [whole] + [mean(whole, 2**zooms) for zooms in range(1, ROOT_ZOOM + 1)]
                with self._lock:
                    while len(self._roots) >= _KEPT_ROOTS:
                        forgotten = next(iter(self._roots))
                        del self._roots[forgotten], self._root_gates[forgotten]
                    self._roots[root.id] = levels
            return levels

    def _evaluate(
        self, plan: Plan, wanted: Iterable[Part], cancelled: Cancelled | None, at_once: int | None = None
    ) -> dict[Part, Pixels]:
        """Parts and all that they had to be made from: found, shared with other requests, or made."""
        have: dict[Part, Pixels] = {}
        missing: dict[Part, tuple[Part, ...]] = {}
        waiting = list(wanted)
        while waiting:
            # A level at a time: a shared store is asked for all of its parts at once.
            keys: dict[Part, str] = {}
            for part in waiting:
                if part in have or part in missing:
                    continue
                pixels = plan.ready(part)
                if pixels is None:
                    keys[part] = plan.key(part)
                else:
                    have[part] = pixels
            found = self._store.get_many(list(keys.values()))
            waiting = []
            for part, key in keys.items():
                if key in found:
                    have[part] = found[key]
                else:
                    missing[part] = plan.inputs(part)
                    waiting.extend(missing[part])
        if missing:
            self._make(plan, missing, have, cancelled, at_once)
        return have

    def _make(
        self,
        plan: Plan,
        missing: dict[Part, tuple[Part, ...]],
        have: dict[Part, Pixels],
        cancelled: Cancelled | None,
        at_once: int | None,
    ) -> None:
        """Make the missing parts, each as soon as its inputs are there, and put them where the others are.

        `at_once` bounds how many of them are made at a time; None: as many as there are threads.
        """
        lacking = {part: {needed for needed in inputs if needed in missing} for part, inputs in missing.items()}
        users: dict[Part, list[Part]] = {}
        for part, inputs in lacking.items():
            for needed in inputs:
                users.setdefault(needed, []).append(part)
        # Coarse levels first, row by row.
        ready = sorted((part for part, inputs in lacking.items() if not inputs), key=lambda part: part.window)
        waiting: dict[Future[Pixels], tuple[str, Part]] = {}
        try:
            while ready or waiting:
                begun = ready if at_once is None else ready[: at_once - len(waiting)]
                ready = ready[len(begun) :]
                for part in begun:
                    key = plan.key(part)
                    waiting[self._join_job(key, plan, part, {i: have[i] for i in missing[part]})] = (key, part)
                if self._closed or (cancelled is not None and cancelled()):
                    raise RequestCancelledError("the request was withdrawn before its pixels were made")
                finished, _ = wait(
                    waiting, timeout=_CANCEL_POLL_SECONDS if cancelled else 1.0, return_when=FIRST_COMPLETED
                )
                for future in finished:
                    key, part = waiting.pop(future)
                    self._leave_job(key, future)
                    have[part] = future.result()
                    for user in users.get(part, ()):
                        lacking[user].discard(part)
                        if not lacking[user]:
                            ready.append(user)
        finally:
            for future, (key, _) in waiting.items():
                self._leave_job(key, future)

    def _join_job(self, key: str, plan: Plan, part: Part, inputs: dict[Part, Pixels]) -> Future[Pixels]:
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                if self._closed:
                    raise RequestCancelledError("the engine is closed")
                make = partial(plan.make, part, inputs)
                # What logs and traces know of the request goes along.
                future = self._pool.submit(copy_context().run, self._run, key, part.window, make)
                job = self._jobs[key] = _Job(future, 0)
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

    def _run(self, key: str, window: Window, make: Callable[[], Pixels]) -> Pixels:
        """In a pool thread: compute and store one part, unless another process or machine has meanwhile."""
        made = False

        def make_and_tell() -> Pixels:
            nonlocal made
            pixels = make()
            made = True
            return pixels

        with self._lock:
            self._running[key] = window
        begun = time.perf_counter()
        try:
            with span("window", zoom=window.zoom, row=window.row, column=window.column):
                return self._store.get_or_compute(key, make_and_tell)
        finally:
            seconds = time.perf_counter() - begun
            with self._lock:
                del self._running[key], self._jobs[key]
                if made:
                    self._done += 1
                    weight = 0.1 if self._seconds_per_window else 1.0
                    self._seconds_per_window += weight * (seconds - self._seconds_per_window)


def _prompt_root(weights: str | Path | None, device: str) -> tuple[PromptRoot | None, str]:
    """The prompt root, or why there is none. Only weights that were named must be there."""
    try:
        return open_prompt_root(weights, device), ""
    except WeightsError as error:
        if weights is not None:
            raise
        _logger.info("no worlds by prompt: %s", error)
        return None, "no weights for prompts come with this installation"


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


def _check(world: World, box: Box) -> None:
    """Refuse boxes that a world does not have, and those that would take more than one request may."""
    world.check_zoom(box.zoom)
    if box.height < 1 or box.width < 1:
        raise AddressError(f"box of {box.height} x {box.width} pixels is empty")
    size = world_size(box.zoom)
    if box.row < 0 or box.row + box.height > size or box.width > size:
        raise AddressError(
            f"rows {box.row}..{box.row + box.height - 1}, {box.width} columns: zoom {box.zoom} has {size} of each"
        )
    # Means of a root that is made window by window cost what they are made from.
    finer = max(0, world.root_zoom - box.zoom) if world.root == "prompt" else 0
    if box.height * box.width << 2 * finer > MAX_REQUEST_PIXELS:
        made_from = f", made from {1 << 2 * finer} each" if finer else ""
        raise RequestTooLargeError(
            f"{box.height} x {box.width} pixels{made_from}; at most {MAX_REQUEST_PIXELS} in one request"
        )


def _parts(plan: Plan, box: Box) -> dict[Window, Part]:
    """The parts that a box is shown from: its windows, or those of the level whose means it consists of.

    At zooms where the root's picture has its own means, only the windows that an edit touches.
    """
    root_zoom = plan.world.root_zoom
    factor = 1 << level_zoom(box.zoom, root_zoom) - box.zoom
    level = Box(
        level_zoom(box.zoom, root_zoom), *(factor * value for value in (box.row, box.column, box.height, box.width))
    )
    if plan.world.root != "prompt" and level.zoom == ROOT_ZOOM:
        if not plan.depth:
            return {}
        edited = {window for layer in plan.layers for window in windows_of(layer.box_at(ROOT_ZOOM))}
        parts = {window: plan.exact(window) for window in sorted(edited.intersection(windows_of(level)))}
        return {window: part for window, part in parts.items() if part.depth}
    if level.zoom == box.zoom:
        return {window: plan.pixels(window) for window in windows_of(level)}
    return {window: plan.exact(window) for window in windows_of(level)}


def _crop(world_pixels: Pixels, box: Box) -> Pixels:
    """A box out of all pixels of its zoom; columns wrap."""
    rows = world_pixels[box.row : box.row + box.height]
    columns = np.arange(box.column, box.column + box.width) % world_pixels.shape[1]
    return np.ascontiguousarray(rows[:, columns])

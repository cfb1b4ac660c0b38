"""What one server process holds while it runs: the engine, the worlds, the queues and the encoded tiles."""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import LRUCache
from starlette.requests import Request

from earthgen.bands import BANDS_VERSION, BandView, bands_digest
from earthgen.errors import RegistryError, WeightsError
from earthgen.pyramid import Box
from earthgen.registry import WorldRegistry
from earthgen.world import World
from tileserver.admission import Cancelled, Share, Slots, TileQueue
from tileserver.clients import Clients
from tileserver.export_jobs import Bounded, ExportJobs, Source
from tileserver.metrics import Metrics
from tileserver.reader import WorldEngine
from tileserver.rendering import ENCODERS
from tileserver.settings import Settings
from tileserver.warmup import WarmUp
from tileserver.watching import Watcher

if TYPE_CHECKING:
    from perception.agent.planning import Planner

EngineFactory = Callable[[Settings], WorldEngine]

FINGERPRINT_VARIABLE = "EARTHGEN_WORKER_FINGERPRINT"
"""What the engines of all workers of a server must be, lest one that is started later serves other pixels."""
_VERSION_CHARACTERS = 12
_LONGEST_RETRY_S = 60
STUCK_S = 300
"""Seconds in which the same windows are at work and none is finished, after which the engine counts as stuck."""


def open_engine(settings: Settings) -> WorldEngine:
    """Open the real engine, which loads the network: the one place of this package that imports it.

    Raises:
        WeightsError: they cannot be loaded, or are not those of the other workers.
        StoreError: the shared store cannot be reached.
    """
    from earthgen.engine import Engine

    engine = Engine.open(
        settings.weights,
        settings.cache,
        memory_bytes=settings.memory_bytes,
        disk_bytes=settings.disk_bytes,
        threads=settings.threads,
        prompt_weights=settings.prompt_weights,
        backend=settings.backend,
        store=settings.store,
    )
    expected = os.environ.get(FINGERPRINT_VARIABLE, engine.fingerprint)
    if engine.fingerprint != expected:
        engine.close()
        raise WeightsError(
            f"the weights here make engine {engine.fingerprint} and the other workers run {expected}: they have "
            "changed since the server was started; restart it"
        )
    return engine


@dataclass(frozen=True, slots=True)
class MadeTile:
    """An encoded tile and how it came to be.

    Attributes:
        content: the image file.
        cache: "HIT" if nothing had to be generated, "MISS" if something had, "DEDUP" if another request was
            already having it made.
        seconds: from the request's arrival to the encoded bytes.
        queued: how much of it the tile waited for its turn; None if this request did not have it made.
    """

    content: bytes
    cache: str
    seconds: float
    queued: float | None = None

    @property
    def timing(self) -> str:
        """The Server-Timing header, in milliseconds."""
        parts = [("tile", self.seconds)]
        if self.queued is not None:
            parts += [("queue", self.queued), ("make", self.seconds - self.queued)]
        return ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in parts)


class Service:
    """One process's share of the server; made by the app's lifespan, closed by `close`.

    Args:
        settings: of the server.
        engine: closed with the service.
    """

    def __init__(self, settings: Settings, engine: WorldEngine) -> None:
        self.settings = settings
        self.engine = engine
        self.metrics = Metrics()
        self.started = time.monotonic()
        self._last_seen: tuple[object, float] = (None, self.started)
        self.registry = WorldRegistry(settings.cache, limit=settings.max_worlds)
        self._band_weights = bands_digest(settings.band_weights)
        self.version = _digest(engine.fingerprint, ENCODERS, f"{BANDS_VERSION} {self._band_weights}")[
            :_VERSION_CHARACTERS
        ]
        """Changes whenever the same address could give other bytes; the `v` of tile addresses."""
        self.clients = Clients(settings.api_keys, settings.client_rate or None)
        share = Share(waiting=settings.client_region_queue, charged=True)
        self.slots = Slots(settings.region_threads, settings.region_queue, clients=self.clients, share=share)
        # A search goes on for minutes; areas must not wait behind it.
        self.searches = Slots(
            settings.search_threads, settings.search_queue, what="searches", clients=self.clients, share=share
        )
        # So does a comparison of two pictures.
        self.detections = Slots(
            settings.detect_threads, settings.detect_queue, what="detections", clients=self.clients, share=share
        )
        self.watcher = Watcher(settings.perception_weights)
        # What is ready must not wait behind what has to be generated.
        self._ready = TileQueue(2, 4 * settings.tile_queue, lambda _: 1, "ready", self.clients)
        self._threads = settings.tile_threads or max(2, settings.threads or len(os.sched_getaffinity(0)))
        share = Share(settings.client_threads, settings.client_queue, charged=True)
        self._cold = TileQueue(self._threads, settings.tile_queue, self._retry_after, "generate", self.clients, share)
        self._warm_up = WarmUp(engine, lambda: self.idle) if settings.warm_up else None
        self._lock = threading.Lock()
        self._bands: dict[str, BandView] = {}
        self._planner: Planner | None = None
        self._opening = threading.Lock()
        self._encoded: LRUCache[str, bytes] = LRUCache(settings.encoded_bytes, getsizeof=len)
        # Last: it begins at once with what an earlier process left.
        self.exports = ExportJobs(
            None if settings.cache is None else settings.cache / "exports",
            self.source,
            Bounded(
                settings.export_threads,
                settings.export_queue,
                settings.client_exports,
                settings.export_tiles,
                settings.export_bytes,
                settings.exports_bytes,
                settings.export_lifetime,
            ),
            charge=self.clients.charge,
            busy=lambda: self.waiting > 0 or self.slots.waiting > 0,
            working=not settings.read_only,
        )

    @property
    def waiting(self) -> int:
        """Tiles that wait to be generated."""
        return self._cold.waiting

    @property
    def encoded_bytes(self) -> int:
        """Bytes of encoded tiles in memory."""
        return int(self._encoded.currsize)

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything that is made."""
        queues = (self._ready, self._cold, self.slots, self.searches, self.detections)
        return all(queue.idle for queue in queues) and self.exports.idle

    @property
    def warmed(self) -> int:
        """Tiles that were made before anybody asked for them."""
        return self._warm_up.made if self._warm_up else 0

    def queues(self) -> dict[str, int]:
        """How many requests of each kind wait for their turn."""
        return {
            "tiles": self.waiting,
            "areas": self.slots.waiting,
            "searches": self.searches.waiting,
            "detections": self.detections.waiting,
        }

    def trouble(self) -> str:
        """Why no requests should be sent here, in a few words; "" if there is no reason."""
        try:
            self.registry.names()
        except RegistryError:
            return "the registered worlds cannot be read"
        now = self.engine.activity()
        seen = (now.done, tuple(now.running))
        before, since = self._last_seen
        if seen != before or not now.running:
            self._last_seen = (seen, time.monotonic())
            return ""
        seconds = time.monotonic() - since
        return f"the same windows have been at work for {seconds:.0f} s" if seconds > STUCK_S else ""

    def band(self, name: str) -> BandView:
        """A band of the engine's worlds.

        Raises:
            InvalidRequestError: no such band, or one without weights.
            WeightsError: its weights are damaged, or not those that the server was started with.
        """
        view = self._bands.get(name)
        if view is None:
            if bands_digest(self.settings.band_weights) != self._band_weights:
                # Its values would stand under tags and addresses of others.
                raise WeightsError("weights of bands have changed since the server was started; restart it")
            view = self._bands[name] = BandView(self.engine, name, self.settings.band_weights)
        return view

    def source(self, band: str | None) -> Source:
        """What the pixels of an export come from: the engine, or a band; errors are those of `band`."""
        return self.engine if band is None else self.band(band)

    def language_planner(self) -> Planner | None:
        """The language model that plans for the agent, opened once; None if the settings name none.

        Raises:
            WeightsError: it cannot be opened.
            InvalidRequestError: its address or its name there makes no sense.
        """
        settings = self.settings
        if settings.agent_llm is None:
            return None
        with self._opening:
            if self._planner is None:
                from perception.agent.language import open_planner

                self._planner = open_planner(
                    settings.agent_llm, settings.agent_model, settings.agent_key, timeout=settings.agent_timeout
                )
            return self._planner

    def provenance(self, world: World, band: BandView | None = None) -> str:
        """The X-Earthgen header: what made the pixels of a world, or the values of a band of it."""
        return f"synthetic; world={world.id}; weights={(band or self.engine).weights_id}"

    def etag(self, world: World, *address: object) -> str:
        """A strong entity tag, known before anything is generated."""
        return f'"{_digest(self.version, world.id, *address)[:32]}"'

    async def tile(
        self, request: Request, key: str, world: World, box: Box, make: Callable[[Cancelled], bytes]
    ) -> MadeTile:
        """An encoded tile: from memory, from finished windows, or generated when its turn comes.

        Args:
            request: of the client that waits.
            key: names the bytes.
            world: of the tile.
            box: the pixels that the tile shows.
            make: generates and encodes.

        Raises:
            OverloadedError: too many tiles wait already.
            RequestCancelledError: the client went away.
        """
        start = time.perf_counter()
        queued: float | None = None

        def make_and_keep(cancelled: Cancelled) -> bytes:
            nonlocal queued
            queued = time.perf_counter() - start
            content = make(cancelled)
            self._keep(key, content)
            return content

        def make_if_ready(cancelled: Cancelled) -> bytes:
            return make_and_keep(cancelled) if self.engine.is_ready(world, box) else b""

        cache = "HIT"
        content = self._kept(key)
        if not content:
            content, _ = await self._ready.run(request, key, make_if_ready)
        # While that was found out, another request may have had the tile made.
        content = content or self._kept(key)
        if not content:
            content, shared = await self._cold.run(request, key, make_and_keep)
            cache = "DEDUP" if shared else "MISS"
        return MadeTile(content, cache, time.perf_counter() - start, queued if cache == "MISS" else None)

    def shown(self, request: Request, world: World, tile: Box) -> None:
        """Note a tile that a client has been shown, since its map will probably show the ones beside it next."""
        if self._warm_up:
            self._warm_up.seen(self.clients.of(request), world, tile)

    def close(self) -> None:
        """Finish what runs, drop what waits and close the engine."""
        if self._warm_up:
            self._warm_up.close()
        self.exports.close()
        self._ready.close()
        self._cold.close()
        self.engine.close()

    def _keep(self, key: str, content: bytes) -> None:
        with self._lock:
            if len(content) <= self._encoded.maxsize:
                self._encoded[key] = content

    def _kept(self, key: str) -> bytes:
        with self._lock:
            return self._encoded.get(key, b"")

    def _retry_after(self, waiting: int) -> int:
        """Seconds in which about half of the queue is done, if each tile needs about four windows."""
        seconds = 2 * waiting * self.engine.activity().seconds_per_window / self._threads
        return min(_LONGEST_RETRY_S, max(1, math.ceil(seconds)))


def _digest(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()

"""What one server process counts about itself, in Prometheus's text format.

With several workers the counts are kept in files of the folder that PROMETHEUS_MULTIPROC_DIR names, so that whichever
worker is asked answers for all; `tileserver.serve` makes that folder.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from earthgen.pyramid import MAX_ZOOM

if TYPE_CHECKING:
    from tileserver.service import Service

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
REFUSALS = frozenset({401, 403, 413, 429, 503, 507})
"""Status codes of requests that were understood and not let in."""

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ZOOMS = frozenset(map(str, range(MAX_ZOOM + 1)))
_LATENCY = "earthgen_request_seconds"


@dataclass(frozen=True, slots=True)
class Latency:
    """Tiles that were answered alike: how many, and how long they took on average."""

    zoom: int
    cache: str
    count: int
    mean_s: float


class Metrics:
    """Counters of one process; `registry` is its own, so that two apps in a process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._done = 0
        self._latency = Histogram(
            _LATENCY,
            "Seconds from a request's arrival to the end of its answer.",
            ("method", "route", "zoom", "cache", "status"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._refused = Counter(
            "earthgen_refused_requests",
            "Requests that were not let in: no key, read-only, too large, too many, no room.",
            ("route", "status"),
            registry=self.registry,
        )
        self._windows = Counter(
            "earthgen_windows_computed", "Windows of the cascade that were computed.", registry=self.registry
        )
        self._warmed_before = 0
        self._warmed = Counter(
            "earthgen_tiles_warmed", "Tiles that were made before anybody asked for them.", registry=self.registry
        )
        self._queue = self._gauge("earthgen_queue_length", "Requests or windows that wait for their turn.", ("queue",))
        self._running = self._gauge("earthgen_windows_running", "Windows that are being computed.")
        self._cache = self._gauge("earthgen_cache_bytes", "Bytes kept in memory.", ("kind",))

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry, multiprocess_mode="livesum")

    def answered(self, scope: Any, status: int, cache: str, seconds: float) -> None:
        """Count one answer.

        Args:
            scope: the request's ASGI scope, after routing.
            status: of the answer.
            cache: its X-Cache header, or "".
            seconds: that it took.
        """
        route = route_of(scope)
        zoom = scope.get("path_params", {}).get("z", "")
        # Labels come from closed lists, never from what a client may write.
        labels = (scope["method"], route, zoom if zoom in _ZOOMS else "", cache.lower(), str(status))
        self._latency.labels(*labels).observe(seconds)
        if status in REFUSALS:
            self._refused.labels(route, str(status)).inc()

    def refresh(self, service: Service) -> None:
        """Take over what the service knows of its queues, its engine and its caches."""
        now = service.engine.activity()
        with self._lock:
            self._windows.inc(max(0, now.done - self._done))
            self._done = max(self._done, now.done)
            warmed = service.warmed
            self._warmed.inc(max(0, warmed - self._warmed_before))
            self._warmed_before = max(self._warmed_before, warmed)
        self._running.set(len(now.running))
        for queue, length in {"windows": now.queued, **service.queues()}.items():
            self._queue.labels(queue).set(length)
        self._cache.labels("windows").set(service.engine.cached_bytes)
        self._cache.labels("encoded").set(service.encoded_bytes)

    def exposition(self) -> bytes:
        """Everything in Prometheus's text format; of all workers, where there are several."""
        return generate_latest(self._everything())

    def tile_latencies(self) -> list[Latency]:
        """Answered tiles by zoom and cache state; of all workers, where there are several."""
        sums: dict[tuple[int, str], list[float]] = {}
        for family in self._everything().collect():
            for sample in family.samples if family.name == _LATENCY else ():
                labels = sample.labels
                if not labels.get("zoom") or not labels["cache"] or labels["status"] != "200":
                    continue
                entry = sums.setdefault((int(labels["zoom"]), labels["cache"]), [0.0, 0.0])
                if sample.name.endswith("_count"):
                    entry[0] += sample.value
                elif sample.name.endswith("_sum"):
                    entry[1] += sample.value
        return [
            Latency(zoom, cache, int(count), seconds / max(count, 1.0))
            for (zoom, cache), (count, seconds) in sorted(sums.items())
        ]

    def _everything(self) -> CollectorRegistry:
        folder = os.environ.get(FOLDER_VARIABLE)
        if folder is None:
            return self.registry
        _bury_the_dead(Path(folder))
        registry = CollectorRegistry()
        collector: Collector = MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        assert collector is not None
        return registry


def route_of(scope: Any) -> str:
    """A request's route as its template, so that there are as many as there are routes."""
    route = getattr(scope.get("route"), "path", "")
    if route:
        inside = "world" in scope.get("path_params", {}) and not route.startswith("/worlds/{world}")
        # Routers that are included under a prefix keep their own paths.
        return f"/worlds/{{world}}{route}" if inside else str(route)
    return "/static" if scope["path"].startswith("/static/") else "none"


def _bury_the_dead(folder: Path) -> None:
    """Forget the queues and caches of workers that have died; what they counted stays."""
    for file in folder.glob("gauge_live*.db"):
        pid = int(file.stem.rsplit("_", 1)[1])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            continue

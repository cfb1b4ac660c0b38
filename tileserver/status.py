"""The routes that tell how the server is: for balancers, for Prometheus, for the map and for people."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import time
from typing import Any

from fastapi import APIRouter, HTTPException
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from tileserver.dependencies import service_of
from tileserver.service import Service

router = APIRouter(tags=["status"])

_NO_STORE = {"Cache-Control": "no-store"}
_REFRESH_S = 5
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 46rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; } th { font-weight: 500; }
td, th { border-top: 1px solid #8884; padding: .25rem .8rem .25rem 0; text-align: left; }
td { font-variant-numeric: tabular-nums; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.good { color: #137a3c; } .bad { color: #b3261e; }
@media (prefers-color-scheme: dark) {
  body { background: #111; color: #ddd; } a { color: #8bf; } .good { color: #6fdc98; } .bad { color: #ff8a80; }
}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"


@router.get("/healthz")
async def healthz() -> JSONResponse:
    """The process answers; never waits for a thread or for the engine."""
    return JSONResponse({"status": "ok"}, headers=_NO_STORE)


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Whether requests should be sent here: the engine is open and moves on, and the worlds can be read."""
    service = service_of(request)
    trouble = await run_in_threadpool(service.trouble)
    if trouble:
        raise HTTPException(503, trouble, {"Retry-After": "10"})
    content = {"status": "ready", "weights": service.engine.weights_id, "version": service.version}
    return JSONResponse(content, headers=_NO_STORE)


@router.get("/activity")
async def activity(request: Request) -> JSONResponse:
    """What this worker generates now: running windows, queues, windows done, seconds per window."""
    service = service_of(request)
    now = service.engine.activity()
    content: dict[str, Any] = {
        "running": [dataclasses.asdict(window) for window in now.running],
        "queued": now.queued,
        "done": now.done,
        "seconds_per_window": now.seconds_per_window,
        **{f"waiting_{queue}": length for queue, length in service.queues().items()},
    }
    return JSONResponse(content, headers=_NO_STORE)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(request: Request) -> Response:
    """Counters and gauges in Prometheus's text format; of all workers, where there are several."""
    service = service_of(request)
    service.metrics.refresh(service)
    return Response(service.metrics.exposition(), headers=_NO_STORE | {"Content-Type": CONTENT_TYPE_LATEST})


@router.get("/status", response_class=HTMLResponse)
def status(request: Request) -> HTMLResponse:
    """The same for people, as a page that renews itself."""
    return HTMLResponse(_page(service_of(request)), headers=_NO_STORE | {"Content-Security-Policy": _POLICY})


def _page(service: Service) -> str:
    now = service.engine.activity()
    trouble = service.trouble()
    state = f"<p class=bad>Not ready: {html.escape(trouble)}.</p>" if trouble else "<p class=good>Ready.</p>"
    zooms = ", ".join(f"zoom {zoom}" for zoom in sorted({window.zoom for window in now.running}))
    rows = {
        "Up for": _duration(time.monotonic() - service.started),
        "Weights": service.engine.weights_id,
        "Version of the pixels": service.version,
        "Windows computed": f"{now.done:,}, {now.seconds_per_window:.2f} s each lately",
        "Windows at work": f"{len(now.running)}{f' ({zooms})' if zooms else ''}, {now.queued} wait",
        **{f"Waiting {queue}": f"{length}" for queue, length in service.queues().items()},
        "Unfinished exports": f"{service.exports.unfinished}",
        "Memory of finished windows": f"{service.engine.cached_bytes / 2**20:.1f} MiB",
        "Memory of encoded tiles": f"{service.encoded_bytes / 2**20:.1f} MiB",
    }
    facts = "".join(f"<tr><th scope=row>{name}<td>{html.escape(value)}" for name, value in rows.items())
    tiles = "".join(
        f"<tr><td>{entry.zoom}<td>{entry.cache}<td>{entry.count:,}<td>{entry.mean_s * 1000:,.1f}"
        for entry in service.metrics.tile_latencies()
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>earthgen: status</title>"
        f"<meta name=viewport content='width=device-width'><meta http-equiv=refresh content={_REFRESH_S}>"
        f"<style>{_STYLE}</style><main><h1>earthgen</h1>{state}<table>{facts}</table>"
        "<h2>Tiles answered</h2><table><thead><tr><th scope=col>Zoom<th scope=col>Cache<th scope=col>Tiles"
        f"<th scope=col>Mean, ms<tbody>{tiles or '<tr><td colspan=4>none yet'}</table>"
        "<p><a href='metrics'>Metrics</a>, <a href='docs'>API</a>, <a href='./'>map</a>. All imagery is synthetic."
        "</main>"
    )


def _duration(seconds: float) -> str:
    minutes = int(seconds) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"

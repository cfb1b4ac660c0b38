"""The application: one engine, the routes of its worlds, the map, and what surrounds them."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from earthgen import __version__
from tileserver import bands, detect, find, generate, worlds
from tileserver.dependencies import service_of
from tileserver.errors import add_exception_handlers
from tileserver.factory import WorldFactory
from tileserver.middleware import AnswerHeaders, BodyLimit, HeadAsGet
from tileserver.pages import REFERENCE_POLICY, STATIC_FOLDER, MapFiles, reference_page
from tileserver.service import EngineFactory, Service, open_engine
from tileserver.settings import Settings

DESCRIPTION = "Generated Earths as map tiles. All imagery is synthetic."
_NO_STORE = {"Cache-Control": "no-store"}


def create_app(settings: Settings | None = None, engine_factory: EngineFactory = open_engine) -> FastAPI:
    """Make an app; its engine is opened when the app starts and closed when it stops.

    Args:
        settings: of the server; read from the environment if absent.
        engine_factory: opens the engine.
    """
    settings = settings or Settings()
    app = FastAPI(
        title="earthgen",
        description=DESCRIPTION,
        version=__version__,
        lifespan=partial(_lifespan, settings=settings, engine_factory=engine_factory),
        # FastAPI's own pages load their scripts from other people's servers.
        docs_url=None,
        redoc_url=None,
    )
    _add_layers(app, settings)
    add_exception_handlers(app)
    _add_status_routes(app)
    app.include_router(worlds.router)
    app.include_router(generate.router)
    app.include_router(find.router, prefix="/worlds/{world}")
    app.include_router(bands.router, prefix="/worlds/{world}")
    app.include_router(detect.router)
    app.include_router(detect.world_router, prefix="/worlds/{world}")
    factory = WorldFactory(router_prefix="/worlds/{world}", name="world", attribution=settings.attribution)
    app.include_router(factory.router, prefix="/worlds/{world}", tags=["one world"])
    _add_pages(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI, settings: Settings, engine_factory: EngineFactory) -> AsyncIterator[None]:
    engine = await run_in_threadpool(engine_factory, settings)
    service = Service(settings, engine)
    app.state.service = service
    try:
        yield
    finally:
        app.state.service = None
        await run_in_threadpool(service.close)


def _add_layers(app: FastAPI, settings: Settings) -> None:
    """The layers around the routes; the last one added is the outermost."""
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(
        GZipMiddleware, minimum_size=1000, exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, "image/tiff")
    )
    app.add_middleware(AnswerHeaders)
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET"],
        allow_headers=["*"],
        expose_headers=["ETag", "Retry-After", "Server-Timing", "X-Cache", "X-Earthgen", "Content-Bbox", "Content-Crs"],
    )


def _add_status_routes(app: FastAPI) -> None:
    @app.get("/healthz", tags=["status"])
    async def healthz() -> JSONResponse:
        """The process answers; never waits for a thread or for the engine."""
        return JSONResponse({"status": "ok"}, headers=_NO_STORE)

    @app.get("/readyz", tags=["status"])
    async def readyz(request: Request) -> JSONResponse:
        """The engine is open."""
        service = service_of(request)
        content = {"status": "ready", "weights": service.engine.weights_id, "version": service.version}
        return JSONResponse(content, headers=_NO_STORE)

    @app.get("/activity", tags=["status"])
    async def activity(request: Request) -> JSONResponse:
        """What this worker generates now: running windows, queues, windows done, seconds per window."""
        service = service_of(request)
        now = service.engine.activity()
        content: dict[str, Any] = {
            "running": [dataclasses.asdict(window) for window in now.running],
            "queued": now.queued,
            "done": now.done,
            "seconds_per_window": now.seconds_per_window,
            "waiting_tiles": service.waiting,
            "waiting_areas": service.slots.waiting,
            "waiting_searches": service.searches.waiting,
            "waiting_detections": service.detections.waiting,
        }
        return JSONResponse(content, headers=_NO_STORE)


def _add_pages(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference_page(app.openapi()), headers={"Content-Security-Policy": REFERENCE_POLICY})

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return FileResponse(STATIC_FOLDER / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", MapFiles(), name="static")

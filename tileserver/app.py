"""The application: one engine, the routes of its worlds, the map, and what surrounds them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.responses import FileResponse, HTMLResponse, Response
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from earthgen import __version__
from tileserver import agent, bands, detect, export, find, generate, segment, status, tracing, worlds
from tileserver.errors import add_exception_handlers
from tileserver.factory import WorldFactory
from tileserver.middleware import AnswerHeaders, BodyLimit, HeadAsGet, Observed
from tileserver.pages import REFERENCE_POLICY, STATIC_FOLDER, MapFiles, reference_page, service_worker
from tileserver.service import EngineFactory, Service, open_engine
from tileserver.settings import Settings

DESCRIPTION = "Generated Earths as map tiles. All imagery is synthetic."


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
        # Its own spans and logs hold queries, and so people's prompts: see tileserver.tracing.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    _add_layers(app, settings)
    add_exception_handlers(app)
    app.include_router(status.router)
    app.include_router(worlds.router)
    app.include_router(generate.router)
    app.include_router(find.router, prefix="/worlds/{world}")
    app.include_router(bands.router, prefix="/worlds/{world}")
    app.include_router(detect.router)
    app.include_router(detect.world_router, prefix="/worlds/{world}")
    app.include_router(segment.world_router, prefix="/worlds/{world}")
    app.include_router(agent.router, prefix="/worlds/{world}")
    app.include_router(export.router)
    app.include_router(export.world_router, prefix="/worlds/{world}")
    factory = WorldFactory(router_prefix="/worlds/{world}", name="world", attribution=settings.attribution)
    app.include_router(factory.router, prefix="/worlds/{world}", tags=["one world"])
    _add_pages(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI, settings: Settings, engine_factory: EngineFactory) -> AsyncIterator[None]:
    stop_tracing = tracing.start() if tracing.wanted() else None
    engine = await run_in_threadpool(engine_factory, settings)
    service = Service(settings, engine)
    app.state.service = service
    try:
        yield
    finally:
        app.state.service = None
        await run_in_threadpool(service.close)
        if stop_tracing:
            await run_in_threadpool(stop_tracing)


def _add_layers(app: FastAPI, settings: Settings) -> None:
    """The layers around the routes; the last one added is the outermost."""
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(
        GZipMiddleware,
        minimum_size=1000,
        # Packed already, and asked for in parts, which must be those of the file.
        exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, *export.MEDIA_TYPES.values()),
    )
    app.add_middleware(Observed, access_log=settings.access_log)
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET"],
        allow_headers=["*"],
        expose_headers=[
            "ETag",
            "Retry-After",
            "Server-Timing",
            "X-Cache",
            "X-Earthgen",
            "X-Request-ID",
            "Content-Bbox",
            "Content-Crs",
        ],
    )
    if tracing.wanted():
        app.add_middleware(tracing.Traced)
    app.add_middleware(AnswerHeaders)
    if settings.trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(map(str, settings.trusted_proxies)))


def _add_pages(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference_page(app.openapi()), headers={"Content-Security-Policy": REFERENCE_POLICY})

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return FileResponse(STATIC_FOLDER / "index.html", headers={"Cache-Control": "no-cache"})

    # Under the page's own folder, which is all that such a script may look after.
    @app.get("/service-worker.js", include_in_schema=False)
    async def worker() -> Response:
        return Response(service_worker(), media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    app.mount("/static", MapFiles(), name="static")

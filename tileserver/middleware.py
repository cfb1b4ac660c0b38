"""Pure ASGI layers around every route: a bound on request bodies, and headers that all answers share."""

from __future__ import annotations

import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tileserver.logs import accepted_id, request_id
from tileserver.metrics import route_of
from tileserver.service import Service

_access_logger = logging.getLogger("tileserver.access")

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # MapLibre decodes tiles in workers that it may start from a blob, and hands pictures over as blobs.
        "worker-src 'self' blob:",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

NO_DOCUMENT_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Of what is no page and no script: should a browser ever show it as one, it can do nothing."""

_FIXED_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # For browsers that do not know frame-ancestors.
    "X-Frame-Options": "DENY",
}


def add_security_headers(headers: MutableHeaders) -> None:
    """Say what browsers may do with an answer; a policy that is there already stays."""
    headers.update(_FIXED_HEADERS)
    # A script's own policy is what governs the worker that is started from it.
    in_the_map = headers.get("content-type", "").startswith(("text/html", "text/javascript"))
    headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY if in_the_map else NO_DOCUMENT_POLICY)


class BodyLimit:
    """Answers 413 to a request body of more than `limit` bytes, before it is parsed or kept.

    Bodies here are small JSON values, so one that fits is read whole and handed on.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, then go on or refuse."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        length = int(declared) if declared.isdigit() else 0
        parts: list[bytes] = []
        more = length <= self._limit
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            parts.append(message.get("body", b""))
            length = max(length, sum(map(len, parts)))
            more = message.get("more_body", False) and length <= self._limit
        if length > self._limit:
            detail = f"request body has {length} bytes or more; at most {self._limit} are allowed"
            await JSONResponse({"detail": detail}, 413, {"Connection": "close"})(scope, receive, send)
            return
        body: Message | None = {"type": "http.request", "body": b"".join(parts), "more_body": False}

        async def replay() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            message, body = body, None
            return message

        await self._app(scope, replay, send)


class HeadAsGet:
    """Answers HEAD wherever GET is answered, without the body: GDAL and monitors ask so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask inside for what outside wants the headers of."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_headers)


class Observed:
    """Counts every answer in the service's metrics and, if wanted, writes a line about it.

    Args:
        app: what is observed.
        access_log: whether to write lines.
    """

    def __init__(self, app: ASGIApp, access_log: bool) -> None:
        self._app = app
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Watch the answer go by."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        # What has ended without an answer has failed: the layer outside of all others answers for it.
        status, cache = 500, ""

        async def send_watched(message: Message) -> None:
            nonlocal status, cache
            if message["type"] == "http.response.start":
                status = message["status"]
                cache = Headers(raw=message["headers"]).get("x-cache", "")
            await send(message)

        try:
            await self._app(scope, receive, send_watched)
        finally:
            seconds = time.perf_counter() - start
            service = getattr(scope["app"].state, "service", None)
            if isinstance(service, Service):
                service.metrics.answered(scope, status, cache, seconds)
                service.metrics.refresh(service)
            if self._access_log:
                _log(scope, status, cache, seconds)


def _log(scope: Scope, status: int, cache: str, seconds: float) -> None:
    """One line; without the query, which may hold a person's prompt."""
    # As it came, percent signs and all: the decoded path could hold a new line.
    path = scope.get("raw_path", b"").split(b"?")[0].decode("ascii", "backslashreplace")
    fields = {
        "method": scope["method"],
        "path": path,
        "route": route_of(scope),
        "status": status,
        "seconds": round(seconds, 6),
        "cache": cache or None,
        "client": (scope.get("client") or [None])[0],
    }
    _access_logger.info(
        "%s %s %d %.1f ms %s", scope["method"], path, status, seconds * 1000, cache or "-", extra={"fields": fields}
    )


class AnswerHeaders:
    """Headers of every answer: its id, what browsers may do with it, its time, and that errors are never stored.

    A route dependency may leave more headers for a successful answer in `request.state.headers`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers as the answer starts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        # Shared with every layer inside, also with those that are handed a copy of the scope.
        state = scope.setdefault("state", {})
        state["request_id"] = own_id = accepted_id(Headers(scope=scope).get("x-request-id", ""))
        # Not taken back: what the server logs about a request that failed comes after this layer.
        request_id.set(own_id)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in state.get("headers", {}).items() if message["status"] < 400 else ():
                    headers.setdefault(name, value)
                headers["X-Request-ID"] = own_id
                add_security_headers(headers)
                headers.setdefault("X-Earthgen", "synthetic")
                headers.append("Server-Timing", f"total;dur={(time.perf_counter() - start) * 1000:.2f}")
                if message["status"] >= 400:
                    headers["Cache-Control"] = "no-store"
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self._app(scope, receive, send_with_headers)

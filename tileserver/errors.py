"""Exceptions to HTTP answers: one table, one sentence of JSON `detail` each.

A client's mistake names the value and what is allowed; a failure of ours is logged in full and
answered briefly. No error is ever cached (see `tileserver.middleware`).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from rasterio.errors import RasterioError
from rio_tiler.errors import InvalidColorFormat, InvalidExpression, InvalidFormat, MissingBands, RioTilerError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from earthgen.errors import (
    AddressError,
    EarthgenError,
    InvalidRequestError,
    OverloadedError,
    RegistryError,
    RequestCancelledError,
    RequestTooLargeError,
    UnknownWorldError,
    WeightsError,
    WorldError,
)
from perception.errors import UnknownModelError
from tileserver.clients import ClientLimitError
from tileserver.middleware import add_security_headers

CLIENT_GONE = 499
"""What the log says when the client closed the connection first; nobody receives it."""

STATUS_CODES: dict[type[Exception], int] = {
    InvalidRequestError: 422,
    AddressError: 400,
    WorldError: 422,
    RequestTooLargeError: 413,
    UnknownWorldError: 404,
    UnknownModelError: 422,
    OverloadedError: 503,
    ClientLimitError: 429,
    RequestCancelledError: CLIENT_GONE,
    RegistryError: 500,
    WeightsError: 500,
    EarthgenError: 500,
    InvalidExpression: 400,
    InvalidFormat: 400,
    InvalidColorFormat: 400,
    MissingBands: 400,
    RioTilerError: 400,
    RasterioError: 500,
}

_MAX_SHOWN_CHARACTERS = 80
_logger = logging.getLogger(__name__)


def add_exception_handlers(app: FastAPI) -> None:
    """Answer every exception of `STATUS_CODES`, bad parameters, file errors and anything unforeseen with JSON."""
    for error, status in STATUS_CODES.items():
        app.add_exception_handler(error, _handler(status))
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(OSError, _file_error)
    app.add_exception_handler(Exception, _unforeseen)


def _handler(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, error: Exception) -> Response:
        if status >= 500 and not isinstance(error, OverloadedError):
            _logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        headers = {"Retry-After": str(error.retry_after)} if isinstance(error, OverloadedError) else None
        return JSONResponse({"detail": str(error)}, status, headers)

    return handle


async def _bad_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"detail": "; ".join(map(_sentence, error.errors()))}, 422)


def _sentence(error: dict[str, Any]) -> str:
    """One parameter's complaint: its name, its value, what is allowed."""
    location = [str(part) for part in error["loc"] if part not in ("path", "query", "body")]
    name = ".".join(location) or "request"
    if error["type"] == "missing":
        return f"{name} is missing"
    shown = repr(error.get("input"))
    if len(shown) > _MAX_SHOWN_CHARACTERS:
        shown = shown[:_MAX_SHOWN_CHARACTERS] + "..."
    return f"{name} is {shown}: {error['msg']}"


async def _file_error(request: Request, error: Exception) -> Response:
    """A disk that is full, read-only or broken: say which, without naming our folders to the world."""
    assert isinstance(error, OSError)
    _logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return JSONResponse({"detail": f"storage failed: {error.strerror or type(error).__name__}"}, 507 if full else 500)


async def _unforeseen(request: Request, error: Exception) -> Response:
    # Answered outside every layer of ours, so it brings their headers itself.
    detail = f"internal error ({type(error).__name__}); the server's log has more"
    headers = {"Cache-Control": "no-store", "X-Request-ID": getattr(request.state, "request_id", "")}
    answer = JSONResponse({"detail": detail}, 500, headers)
    add_security_headers(answer.headers)
    return answer


def not_found(error: AddressError) -> HTTPException:
    """A tile address outside the pyramid is a resource that does not exist."""
    return HTTPException(404, str(error))

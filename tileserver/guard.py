"""Who may write: everybody, holders of a key, or nobody."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, HTTPException
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request

from tileserver.dependencies import service_of

_bearer = HTTPBearer(auto_error=False, description="A key of EARTHGEN_API_KEYS, where the server has any.")
_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same, for clients that cannot send Bearer.")


async def may_write(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    key: Annotated[str | None, Depends(_header)],
) -> None:
    """Route dependency of whatever leaves something on the server.

    Raises:
        HTTPException: 403 if the server is read-only, 401 if it wants a key and this is none of them.
    """
    settings = service_of(request).settings
    if settings.read_only:
        raise HTTPException(
            403, "this server is read-only: it keeps no worlds and no exports; worlds by parameters need no keeping"
        )
    if not settings.api_keys:
        return
    given = (bearer.credentials if bearer else key or "").encode()
    # All are compared, in a time that does not depend on how much of one was right.
    if not any([hmac.compare_digest(given, known.encode()) for known in settings.api_keys]):
        what = "is not known" if given else "is needed"
        raise HTTPException(
            401, f"a key {what} to write here; send it as Authorization: Bearer", {"WWW-Authenticate": "Bearer"}
        )

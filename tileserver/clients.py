"""Who a request is from, and how much each of them may have made.

A client is the holder of a known key, otherwise an address: of IPv6 its network of 64 bits, since one household
has all of it. Behind a proxy the address is the one that a trusted proxy names, see `Settings.trusted_proxies`.
"""

from __future__ import annotations

import hmac
import ipaddress
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from cachetools import LRUCache
from starlette.requests import HTTPConnection

from earthgen.errors import OverloadedError

IPV6_PREFIX = 64
_REMEMBERED = 65_536
"""Clients whose use is remembered; whoever is forgotten starts anew, so forgetting refuses nobody."""
_MINUTE_S = 60.0
_HAIR = 1e-6


class ClientLimitError(OverloadedError):
    """One client asks for more than its share; others are served."""


@dataclass(slots=True)
class _Bucket:
    """Generations that a client has left, at a time."""

    left: float
    at: float


class Clients:
    """Tells clients apart and counts what is made for each.

    Args:
        keys: that make their holders clients of their own, wherever they ask from.
        per_minute: generations that one client may begin in a minute, which it may also do at once; None: no bound.
        clock: seconds.
    """

    def __init__(
        self, keys: Sequence[str] = (), per_minute: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._keys = [key.encode() for key in keys]
        self._per_minute = per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: LRUCache[str, _Bucket] = LRUCache(_REMEMBERED)

    def of(self, connection: HTTPConnection) -> str:
        """A name of the client that a request came from."""
        if self._keys and (holder := self._holder(connection)):
            return holder
        address = connection.client.host if connection.client else ""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            # A socket without addresses, or a proxy that names its clients otherwise.
            return f"address {address[:64]}"
        if isinstance(parsed, ipaddress.IPv6Address):
            if parsed.ipv4_mapped is None:
                return f"address {ipaddress.ip_network((int(parsed), IPV6_PREFIX), strict=False)}"
            parsed = parsed.ipv4_mapped
        return f"address {parsed}"

    def charge(self, client: str) -> None:
        """Count one generation.

        Raises:
            ClientLimitError: the client has begun as many as it may.
        """
        if self._per_minute is None:
            return
        with self._lock:
            bucket = self._filled(client)
            # A hair of tolerance: whoever comes back to the second is let in.
            if bucket.left < 1.0 - _HAIR:
                seconds = max(1, math.ceil((1.0 - bucket.left) * _MINUTE_S / self._per_minute))
                raise ClientLimitError(
                    f"you have had as much made as one client may, {self._per_minute} tiles or areas a minute; "
                    f"try again in {seconds} s",
                    seconds,
                )
            bucket.left -= 1.0

    def refund(self, client: str) -> None:
        """Take one generation back, since it was never begun."""
        if self._per_minute is not None:
            with self._lock:
                bucket = self._filled(client)
                bucket.left = min(float(self._per_minute), bucket.left + 1.0)

    def _filled(self, client: str) -> _Bucket:
        assert self._per_minute is not None
        now, most = self._clock(), float(self._per_minute)
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = self._buckets[client] = _Bucket(most, now)
        bucket.left = min(most, bucket.left + max(0.0, now - bucket.at) * most / _MINUTE_S)
        bucket.at = now
        return bucket

    def _holder(self, connection: HTTPConnection) -> str:
        """A name of whoever brings a known key; "" otherwise. Unknown keys make nobody a client of their own."""
        scheme, _, credentials = connection.headers.get("authorization", "").partition(" ")
        bearer = credentials.strip() if scheme.lower() == "bearer" else ""
        given = (bearer or connection.headers.get("x-api-key", "")).encode()
        found = [key for key in self._keys if hmac.compare_digest(given, key)]
        return f"key {sha256(found[0]).hexdigest()[:16]}" if found else ""

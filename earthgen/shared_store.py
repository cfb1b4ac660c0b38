"""Finished pixels that machines share: a folder that all of them see, or a bucket that speaks S3.

It lies behind each machine's own store. An entry is bound to its key and checked when it is read, so a flipped
bit, a torn or a renamed object is the same as none: the pixels are made again and put in its place. A store that
fails or is slow while it is in use is left alone for a while; that costs speed, never an answer. Writes go on behind
the computation and are waited for by `close`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from cachetools import TTLCache
from obstore.store import LocalStore, S3Store

from earthgen.entries import Pixels, decode_entry, encode_entry
from earthgen.errors import StoreError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_READERS = 16
_WRITERS = 4
_PENDING_WRITES = 64
"""Entries that may wait to be written; a computation that is ahead of the store by more waits for it."""
_PAUSE_S = 30.0
"""For how long a store that failed is left alone."""
_SLOW_S = 3.0
"""An answer that takes longer is a failure: a window is made sooner than that."""
_SLOW_BYTES_PER_S = 1 << 20
"""Large entries, such as the picture that a world starts from, have as much longer as this allows."""
_MISS_S = 5.0
"""For how long an entry that was not there is not asked for again."""
_CLIENT: ClientConfig = {"connect_timeout": "3s", "timeout": "20s"}
_RETRIES: RetryConfig = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=1),
        "base": 2,
    },
}
_FAILURES = (OSError, obstore.exceptions.BaseError)

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class SharedCounts:
    """What a shared store has done since it was opened."""

    hits: int = 0
    written: int = 0
    damaged: int = 0
    errors: int = 0


class SharedStore:
    """Arrays by key in a folder or a bucket; safe to use from many threads.

    Credentials, region and endpoint of a bucket come from the usual variables: AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL.

    Args:
        url: `file:///folder`, made if it is not there, or `s3://bucket/prefix`.

    Raises:
        StoreError: another kind of address, or nobody answers there.
    """

    def __init__(self, url: str) -> None:
        self.counts = SharedCounts()
        self._objects = _open(url)
        self._lock = threading.Lock()
        self._reading = _Health(f"the shared store {url} cannot be read")
        self._writing = _Health(f"the shared store {url} cannot be written")
        self._missed: TTLCache[str, bool] = TTLCache(1 << 16, _MISS_S)
        self._readers = ThreadPoolExecutor(_READERS, "earthgen-shared-read")
        self._writers = ThreadPoolExecutor(_WRITERS, "earthgen-shared-write")
        self._room = threading.BoundedSemaphore(_PENDING_WRITES)

    def read(self, key: str) -> Pixels | None:
        """The entry under a key, or None if there is no good one or the store does not answer."""
        with self._lock:
            if key in self._missed or self._reading.resting:
                return None
        begun = time.monotonic()
        try:
            data = bytes(obstore.get(self._objects, key).bytes())
        except FileNotFoundError:
            with self._lock:
                self._answered(self._reading, begun, 0)
                self._missed[key] = True
            return None
        except _FAILURES as error:
            with self._lock:
                self.counts.errors += 1
                self._reading.failed(error)
            return None
        pixels = decode_entry(data, key)
        with self._lock:
            self._answered(self._reading, begun, len(data))
            if pixels is None:
                self.counts.damaged += 1
                self._missed[key] = True
            else:
                self.counts.hits += 1
        if pixels is None:
            logger.warning("shared entry %s is damaged; it is made again", key)
        return pixels

    def read_many(self, keys: Sequence[str]) -> dict[str, Pixels]:
        """Those of some entries that are there, asked for side by side."""
        found = zip(keys, self._readers.map(self.read, keys), strict=True)
        return {key: pixels for key, pixels in found if pixels is not None}

    def write(self, key: str, pixels: Pixels) -> None:
        """Have an entry written soon; the array must not change any more."""
        with self._lock:
            if self._writing.resting:
                return
        self._room.acquire()
        try:
            self._writers.submit(self._put, key, pixels)
        except RuntimeError:  # Closed: a window that was running then is lost to the others only.
            self._room.release()

    def close(self) -> None:
        """Wait until what was to be written is written."""
        self._writers.shutdown(wait=True)
        self._readers.shutdown(wait=True)

    def _put(self, key: str, pixels: Pixels) -> None:
        try:
            with self._lock:
                if self._writing.resting:
                    return
            data = encode_entry(pixels, key)
            begun = time.monotonic()
            obstore.put(self._objects, key, data)
        except _FAILURES as error:
            with self._lock:
                self.counts.errors += 1
                self._writing.failed(error)
        else:
            with self._lock:
                self.counts.written += 1
                self._answered(self._writing, begun, len(data))
                self._missed.pop(key, None)
        finally:
            self._room.release()

    def _answered(self, health: _Health, begun: float, size: int) -> None:
        """Note an answer with so many bytes; one that took too long counts as a failure, whatever it says."""
        seconds = time.monotonic() - begun
        if seconds <= _SLOW_S + size / _SLOW_BYTES_PER_S:
            health.worked()
            return
        self.counts.errors += 1
        health.failed(TimeoutError(f"an answer took {seconds:.1f} s"))


class _Health:
    """Whether a store works; one that failed rests, and only the first failure of a row is told."""

    def __init__(self, trouble: str) -> None:
        self._trouble = trouble
        self._failing = False
        self._until = 0.0

    @property
    def resting(self) -> bool:
        return self._failing and time.monotonic() < self._until

    def worked(self) -> None:
        self._failing = False

    def failed(self, error: Exception) -> None:
        if not self._failing:
            logger.warning("%s (%s); going on without, to be tried again in %d s", self._trouble, _say(error), _PAUSE_S)
        self._failing = True
        self._until = time.monotonic() + _PAUSE_S


def _open(url: str) -> LocalStore | S3Store:
    parts = urlsplit(url)
    if parts.username is not None:
        raise StoreError("the store's address must not hold credentials; give them in AWS_ACCESS_KEY_ID and so on")
    folder = parts.scheme == "file" and parts.netloc in ("", "localhost") and len(parts.path) > 1
    bucket = parts.scheme == "s3" and bool(parts.netloc)
    if not (folder or bucket) or parts.query or parts.fragment:
        raise StoreError(f"store is {url!r}; file:///folder and s3://bucket/prefix are allowed")
    try:
        if folder:
            return LocalStore(unquote(parts.path), mkdir=True)
        objects = S3Store.from_url(url, client_options=_client_options(), retry_config=_RETRIES)
        # Nothing has that name; a bucket that is missing, closed to us or out of reach says so here.
        for _ in obstore.list(objects, prefix="is-anybody-there"):
            pass
        return objects
    except (*_FAILURES, ValueError) as error:
        raise StoreError(f"the shared store {url} cannot be used: {_say(error)}") from error


def _client_options() -> ClientConfig:
    """Whoever names an endpoint without TLS means it."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
    return {**_CLIENT, "allow_http": True} if endpoint.startswith("http://") else _CLIENT


def _say(error: Exception) -> str:
    """An error in one line; the client adds pages of its insides, and S3 a document."""
    return str(error).partition("\n")[0].partition("<?xml")[0].strip(" :")[:300]

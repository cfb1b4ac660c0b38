"""Finished pixels: memory over a folder, over what machines share; each entry computed once at a time.

An entry is a uint8 array under a key that names its content, so an entry can be thrown away, moved or
made twice and is still the same bytes. On disk an entry carries its shape and a checksum: what a crash
or a bad disk has damaged is noticed, dropped and made again. A store that cannot be written to (full,
read-only) costs speed, never an answer.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import obstore
from cachetools import LRUCache
from filelock import FileLock, Timeout
from obstore.store import LocalStore

from earthgen.entries import Pixels, decode_entry, encode_entry
from earthgen.shared_store import SharedCounts, SharedStore

_LOCK_STRIPES = 1024
_SCAN_SHARE = 0.05
"""Share of the disk bound that a process writes between two looks at the whole folder."""
_KEEP_SHARE = 0.9
"""Share of the disk bound that is kept when entries are thrown away."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class StoreCounts:
    """What a store has done since it was opened."""

    memory_hits: int = 0
    disk_hits: int = 0
    computed: int = 0
    damaged: int = 0
    write_errors: int = 0
    evicted: int = 0
    shared: SharedCounts = field(default_factory=SharedCounts)


class PixelStore:
    """Arrays by key, in memory over a folder.

    Args:
        folder: where entries outlive the process, shared by any number of processes; None keeps all in memory.
        memory_bytes: bound of the memory layer.
        disk_bytes: bound of the folder; the oldest entries go first.
        shared: where machines share entries, closed with the store; asked for what is not here, given what is
            computed here.
    """

    def __init__(
        self, folder: Path | None, memory_bytes: int, disk_bytes: int, shared: SharedStore | None = None
    ) -> None:
        self.counts = StoreCounts() if shared is None else StoreCounts(shared=shared.counts)
        self._shared = shared
        self._memory: LRUCache[str, Pixels] = LRUCache(memory_bytes, getsizeof=lambda pixels: pixels.nbytes + 256)
        self._lock = threading.Lock()
        self._disk_bytes = disk_bytes
        self._unscanned = disk_bytes  # The first write looks at the folder.
        self._objects: LocalStore | None = None
        self._locks: Path | None = None
        if folder is not None:
            self._open_folder(folder)

    @property
    def cached_bytes(self) -> int:
        """Bytes that the memory layer holds now."""
        return int(self._memory.currsize)

    def get(self, key: str) -> Pixels | None:
        """The entry under a key if this machine has it; the shared store is not asked."""
        with self._lock:
            pixels = self._memory.get(key)
            if pixels is not None:
                self.counts.memory_hits += 1
                return pixels
        pixels = self._read(key)
        if pixels is not None:
            with self._lock:
                self.counts.disk_hits += 1
            self._remember(key, pixels)
        return pixels

    def get_many(self, keys: Sequence[str]) -> dict[str, Pixels]:
        """Those of some entries that are here or in the shared store."""
        found: dict[str, Pixels] = {}
        absent: list[str] = []
        for key in dict.fromkeys(keys):
            pixels = self.get(key)
            if pixels is None:
                absent.append(key)
            else:
                found[key] = pixels
        if absent and self._shared is not None:
            for key, pixels in self._shared.read_many(absent).items():
                self._write(key, pixels)
                self._remember(key, pixels)
                found[key] = pixels
        return found

    def get_or_compute(self, key: str, compute: Callable[[], Pixels]) -> Pixels:
        """The entry under a key; made by `compute` if it is nowhere, while other processes wait for it.

        `compute` must not call the store: locks are striped and must not nest.
        """
        pixels = self.get(key)
        if pixels is not None:
            return pixels
        with self._process_lock(key):
            pixels = self._read(key)
            if pixels is None:
                # Another machine may have been faster since `get_many` asked.
                pixels = self._shared.read(key) if self._shared is not None else None
                if pixels is None:
                    pixels = self._computed(key, compute)
                self._write(key, pixels)
        self._remember(key, pixels)
        return pixels

    def close(self) -> None:
        """Wait for what is on its way to the shared store."""
        if self._shared is not None:
            self._shared.close()

    def _computed(self, key: str, compute: Callable[[], Pixels]) -> Pixels:
        pixels = compute()
        pixels.flags.writeable = False
        with self._lock:
            self.counts.computed += 1
        if self._shared is not None:
            self._shared.write(key, pixels)
        return pixels

    def _open_folder(self, folder: Path) -> None:
        try:
            (folder / "locks").mkdir(parents=True, exist_ok=True)
            self._objects = LocalStore(folder / "pixels", mkdir=True)
            self._locks = folder / "locks"
        except (OSError, obstore.exceptions.BaseError) as error:
            self._write_failed(error)
            if (folder / "pixels").is_dir():
                self._objects = LocalStore(folder / "pixels")

    def _remember(self, key: str, pixels: Pixels) -> None:
        with self._lock:
            if pixels.nbytes + 256 <= self._memory.maxsize:
                self._memory[key] = pixels

    def _process_lock(self, key: str) -> FileLock | nullcontext[None]:
        if self._locks is None:
            return nullcontext()
        stripe = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "little") % _LOCK_STRIPES
        return _TolerantLock(self._locks / f"{stripe:04d}.lock")

    def _read(self, key: str) -> Pixels | None:
        if self._objects is None:
            return None
        try:
            data = bytes(obstore.get(self._objects, key).bytes())
        except FileNotFoundError:
            return None
        except (OSError, obstore.exceptions.BaseError) as error:
            logger.warning("cache entry %s cannot be read: %s", key, error)
            return None
        pixels = decode_entry(data)
        if pixels is None:
            with self._lock:
                self.counts.damaged += 1
            logger.warning("cache entry %s is damaged; it is thrown away and made again", key)
            self._delete(key)
        return pixels

    def _write(self, key: str, pixels: Pixels) -> None:
        if self._objects is None:
            return
        data = encode_entry(pixels)
        try:
            obstore.put(self._objects, key, data)
        except (OSError, obstore.exceptions.BaseError) as error:
            self._write_failed(error)
            return
        self._unscanned += len(data)
        if self._unscanned > self._disk_bytes * _SCAN_SHARE:
            self._unscanned = 0
            self._evict()

    def _delete(self, key: str) -> None:
        if self._objects is None:
            return
        try:
            obstore.delete(self._objects, key)
        except FileNotFoundError:
            pass  # Another process was first.
        except (OSError, obstore.exceptions.BaseError) as error:
            self._write_failed(error)

    def _evict(self) -> None:
        """Throw the oldest entries away until the folder is well below its bound; one process at a time."""
        if self._objects is None or self._locks is None:
            return
        try:
            with FileLock(self._locks / "evict.lock", timeout=0):
                entries = [entry for page in obstore.list(self._objects) for entry in page]
                total = sum(entry["size"] for entry in entries)
                if total <= self._disk_bytes:
                    return
                # What a clock that was ahead has dated would stay for ever, and everything newer go before it.
                now = datetime.now(UTC)
                for entry in sorted(entries, key=lambda e: (e["last_modified"] <= now, e["last_modified"])):
                    if total <= self._disk_bytes * _KEEP_SHARE:
                        break
                    self._delete(entry["path"])
                    total -= entry["size"]
                    with self._lock:
                        self.counts.evicted += 1
        except Timeout:
            return  # Another process is at it.
        except (OSError, obstore.exceptions.BaseError) as error:
            self._write_failed(error)

    def _write_failed(self, error: Exception) -> None:
        with self._lock:
            self.counts.write_errors += 1
            first = self.counts.write_errors == 1
        if first:
            logger.warning("the cache cannot be written (%s); going on without", error)


class _TolerantLock(FileLock):
    """A file lock that lets work go on where locks cannot be made: then work may be done twice, to the same bytes."""

    def __enter__(self) -> _TolerantLock:
        try:
            super().__enter__()
        except OSError as error:
            logger.warning("no lock on %s (%s); going on without", self.lock_file, error)
        return self

"""A read-only Zarr 3 store whose chunks are generated when they are read."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from earthgen.export.tiles import TileSource
from earthgen.export.zarr_layout import ArrayLayout, WorldLayout

LISTED_CHUNKS = 1 << 16
"""Arrays of at most so many chunks name them in `list` and `list_prefix`."""
_DOCUMENT = "zarr.json"


class Source(Protocol):
    """Where a store's pixels come from; equal ones give equal pixels."""

    def colours(self) -> TileSource:
        """The engine."""

    def band(self, name: str) -> TileSource:
        """A band's values."""


class WorldStore(Store):
    """The whole hierarchy of a world, every chunk of which exists; see `earthgen.export.zarr_layout`.

    Reading a chunk asks the engine for its tile and gives the tile's bytes. Writing is refused. Chunks are far too many
    to be listed: `list` and `list_prefix` name the documents, and the chunks of arrays that have no more than
    LISTED_CHUNKS; `list_dir` names everything directly below a place.

    Args:
        layout: what lies where.
        source: makes the pixels; it must be possible to pickle it if the store is to be sent to other processes.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True
    # All documents are at hand; one that joins them would only be read in vain.
    supports_consolidated_metadata = False

    def __init__(self, layout: WorldLayout, source: Source) -> None:
        super().__init__(read_only=True)
        self._layout = layout
        self._source = source
        self._views: dict[str, TileSource] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WorldStore) and (self._layout, self._source) == (other._layout, other._source)

    def __hash__(self) -> int:
        return hash(self.__dask_tokenize__())

    def __repr__(self) -> str:
        return f"<WorldStore {self}>"

    def __str__(self) -> str:
        zooms = self._layout.zooms
        return f"earthgen world {self._layout.world.id}, zooms {zooms.start}-{zooms.stop - 1}"

    def __reduce__(self) -> tuple[Callable[..., WorldStore], tuple[WorldLayout, Source]]:
        return WorldStore, (self._layout, self._source)

    def __dask_tokenize__(self) -> tuple[str, ...]:
        layout = self._layout
        return (layout.world.id, layout.fingerprint, repr(layout.tiles), *(band.name for band in layout.bands))

    def with_read_only(self, read_only: bool = False) -> Store:
        """The same store; a generated world cannot be written.

        Raises:
            ValueError: one that can be written is asked for.
        """
        if not read_only:
            raise ValueError("the chunks of a world are generated: it can only be read")
        return WorldStore(self._layout, self._source)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes of a document or chunk, or a range of them; None if there is no such key."""
        content = self._document(key)
        if content is None:
            found = self._chunk(key)
            if found is None:
                return None
            stopped = threading.Event()
            try:
                content = await asyncio.to_thread(self._make, *found, stopped.is_set)
            finally:
                # Of a reader that was cancelled, queued windows are dropped.
                stopped.set()
        return prototype.buffer.from_bytes(_part(content, byte_range))

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Ranges of several keys."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Whether there is such a document or chunk; generates nothing."""
        return self._document(key) is not None or self._chunk(key) is not None

    async def getsize(self, key: str) -> int:
        """Bytes of a value; generates nothing.

        Raises:
            FileNotFoundError: no such key.
        """
        content = self._document(key)
        if content is not None:
            return len(content)
        found = self._chunk(key)
        if found is None:
            raise FileNotFoundError(key)
        return found[0].chunk_bytes

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse.

        Raises:
            ValueError: always.
        """
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refuse.

        Raises:
            ValueError: always.
        """
        self._check_writable()

    async def list(self) -> AsyncIterator[str]:
        """Documents, and chunks of arrays that have few."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """What `list` names that begins with a prefix."""
        for path in self._layout.groups:
            key = f"{path}/{_DOCUMENT}" if path else _DOCUMENT
            if key.startswith(prefix):
                yield key
        for path, array in self._layout.arrays.items():
            if not (path.startswith(prefix) or prefix.startswith(f"{path}/")):
                continue
            if f"{path}/{_DOCUMENT}".startswith(prefix):
                yield f"{path}/{_DOCUMENT}"
            if int(np.prod(array.grid, dtype=np.int64)) <= LISTED_CHUNKS:
                for chunk in array.chunk_keys():
                    if f"{path}/{chunk}".startswith(prefix):
                        yield f"{path}/{chunk}"

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Everything directly below a place."""
        place = prefix.strip("/")
        if place in self._layout.groups:
            yield _DOCUMENT
            below = f"{place}/" if place else ""
            for path in (*self._layout.groups, *self._layout.arrays):
                if path and path.startswith(below) and "/" not in path[len(below) :]:
                    yield path[len(below) :]
            return
        if place in self._layout.arrays:
            yield _DOCUMENT
            yield "c"
            return
        zoom, _, rest = place.partition("/")
        name, _, rest = rest.partition("/")
        array = self._layout.arrays.get(f"{zoom}/{name}")
        if array is not None:
            for word in array.names_below(rest):
                yield word

    def _document(self, key: str) -> bytes | None:
        place, slash, name = key.rpartition("/")
        if name != _DOCUMENT or (slash and not place):
            return None
        document: dict[str, Any] | None = self._layout.groups.get(place)
        if document is None and place in self._layout.arrays:
            document = self._layout.arrays[place].document()
        return None if document is None else json.dumps(document).encode()

    def _chunk(self, key: str) -> tuple[ArrayLayout, tuple[int, ...]] | None:
        zoom, _, rest = key.partition("/")
        name, _, rest = rest.partition("/")
        array = self._layout.arrays.get(f"{zoom}/{name}")
        index = None if array is None else array.index(rest)
        return None if array is None or index is None else (array, index)

    def _make(self, array: ArrayLayout, index: tuple[int, ...], cancelled: Callable[[], bool]) -> bytes:
        if array.dimensions[-2:] != ("y", "x"):
            return self._layout.coordinates(array, index).tobytes()
        left, top, _, _ = self._layout.tiles.range_at(array.zoom)
        view = self._views.get(array.name)
        if view is None:
            view = self._source.colours() if array.name == "rgb" else self._source.band(array.name)
            self._views[array.name] = view
        x, y = left + index[-1], top + index[-2]
        pixels: npt.NDArray[np.uint8] = view.tile(self._layout.world, array.zoom, x, y, cancelled=cancelled)
        return pixels.tobytes()


def _part(content: bytes, part: ByteRequest | None) -> bytes:
    match part:
        case None:
            return content
        case RangeByteRequest():
            return content[part.start : part.end]
        case OffsetByteRequest():
            return content[part.offset :]
        case SuffixByteRequest():
            return content[max(0, len(content) - part.suffix) :]

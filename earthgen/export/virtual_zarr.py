"""`earthgen.zarr`: a world as a Zarr store that xarray, dask and GIS libraries open, generated as it is read."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from earthgen.bands import BandView, PixelSource, available_band
from earthgen.engine import Engine
from earthgen.errors import ExportError
from earthgen.export.tiles import TileSource
from earthgen.export.tileset import TileSet
from earthgen.export.zarr_layout import WorldLayout
from earthgen.pyramid import MAX_ZOOM, Bounds
from earthgen.world import World

if TYPE_CHECKING:
    from earthgen.export.zarr_store import WorldStore

_WHOLE: Bounds = (-180.0, -90.0, 180.0, 90.0)


class ColourSource(TileSource, PixelSource, Protocol):
    """What a store needs of an engine."""


def zarr(
    world: World,
    engine: ColourSource | None = None,
    *,
    bounds: Bounds | None = None,
    zooms: tuple[int, int] | None = None,
    bands: tuple[str, ...] = (),
    weights: str | Path | None = None,
    cache: str | Path | None = None,
    threads: int | None = None,
    prompt_weights: str | Path | None = None,
    band_weights: Path | None = None,
    backend: str = "torch",
    store: str | None = None,
) -> WorldStore:
    """A world as a read-only Zarr 3 store in which every chunk of every zoom exists and is generated on read.

        planet = xarray.open_zarr(earthgen.zarr(World("planet", 7)), group="12")
        planet.rgb.sel(x=slice(1_270_000, 1_280_000), y=slice(5_990_000, 5_980_000)).compute()

    A group is a zoom. In it are `rgb` (band, y, x) and the chosen bands (y, x), 8-bit, a tile of 256 x 256 pixels a
    chunk; `x` and `y`, the centres of pixels in EPSG:3857; and `spatial_ref`. Whole planets have no `x` and `y` at
    zooms 16 to 18, where a coordinate would fill memory: give `bounds` there.

    Args:
        world: the world; of one with dates, the edits that never end: ask for `world.at(date)` to see another day.
        engine: where pixels come from; such a store cannot be sent to other processes. None opens one in each
            process that reads, by the arguments that follow; all such stores of a process share it.
        bounds: west, south, east, north in degrees, to cut the store to; whole tiles around them. None for the planet.
        zooms: the coarsest and the finest; None for all that the world has.
        bands: names of bands to show beside the colours, each from the zoom on from which it means anything.
        weights: see `Engine.open`.
        cache: see `Engine.open`.
        threads: see `Engine.open`.
        prompt_weights: see `Engine.open`.
        band_weights: folder of weights of bands that are preferred to the package's.
        backend: see `Engine.open`.
        store: see `Engine.open`.

    Raises:
        ExportError: the zarr package is not installed.
        AddressError: zooms that the world does not have, or bounds outside the pyramid.
        InvalidRequestError: a band that does not exist or has no weights.
        WeightsError: weights cannot be loaded.
        BackendError: no such backend here.
        StoreError: see `Engine.open`.
    """
    try:
        from earthgen.export.zarr_store import WorldStore
    except ImportError as error:
        raise ExportError(
            "a Zarr store needs a library that is not installed: pip install 'earthgen[export]'"
        ) from error
    coarsest, finest = (world.min_zoom, MAX_ZOOM) if zooms is None else zooms
    world.check_zoom(coarsest)
    tiles = TileSet.covering(_WHOLE if bounds is None else bounds, coarsest, finest)
    chosen = tuple(available_band(name, band_weights) for name in dict.fromkeys(bands))
    source: _OpenEngine | _Recipe
    if engine is not None:
        source = _OpenEngine(engine, band_weights)
    else:
        source = _Recipe(_text(weights), _text(cache), threads, _text(prompt_weights), band_weights, backend, store)
    views = (source.colours(), *(source.band(band.name) for band in chosen))
    weights_id = ", ".join(view.weights_id for view in views)
    fingerprint = "+".join(view.fingerprint for view in views)
    return WorldStore(WorldLayout(world.at(), tiles, chosen, weights_id, fingerprint), source)


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


@dataclass(frozen=True, slots=True)
class _OpenEngine:
    """An engine that its owner closes."""

    engine: ColourSource
    band_weights: Path | None

    def colours(self) -> TileSource:
        return self.engine

    def band(self, name: str) -> TileSource:
        return BandView(self.engine, name, self.band_weights)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError(
            "this store holds an open engine, which cannot be sent to another process;"
            " earthgen.zarr without an engine opens one in each process"
        )


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How to open an engine; each process opens it once and keeps it."""

    weights: str | None
    cache: str | None
    threads: int | None
    prompt_weights: str | None
    band_weights: Path | None
    backend: str
    store: str | None

    def colours(self) -> Engine:
        return _opened(self)

    def band(self, name: str) -> TileSource:
        return BandView(_opened(self), name, self.band_weights)


_opening = threading.Lock()
_engines: dict[_Recipe, Engine] = {}


def _opened(recipe: _Recipe) -> Engine:
    with _opening:
        if recipe not in _engines:
            _engines[recipe] = Engine.open(
                recipe.weights,
                recipe.cache,
                threads=recipe.threads,
                prompt_weights=recipe.prompt_weights,
                backend=recipe.backend,
                store=recipe.store,
            )
        return _engines[recipe]

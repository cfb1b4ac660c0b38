"""Earthgen: generated Earths as map tiles.

A world is an immutable value (root, seed, prompt, edits); the engine is a pure function from a world
and an address to pixels:

    from earthgen import Engine, World

    with Engine.open() as engine:
        pixels = engine.tile(World(root="earth", seed=7), 12, 2178, 1421)  # uint8 (256, 256, 3)

Names are loaded on first use, so that `import earthgen` costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earthgen.engine import Engine, Region
    from earthgen.errors import (
        AddressError,
        BackendError,
        EarthgenError,
        ExportError,
        ExportLimitError,
        InvalidRequestError,
        OverloadedError,
        RegistryError,
        RequestCancelledError,
        RequestTooLargeError,
        StoreError,
        UnknownWorldError,
        WeightsError,
        WorldError,
    )
    from earthgen.export.cog import export_cog
    from earthgen.export.cog_pyramid import export_cog_pyramid
    from earthgen.export.tiles import export_tiles
    from earthgen.export.virtual_zarr import zarr
    from earthgen.export.work import Limits
    from earthgen.pyramid import Bounds, Box, Window
    from earthgen.registry import WorldRegistry
    from earthgen.world import Edit, World

__version__ = "0.1.0"

__all__ = [
    "AddressError",
    "BackendError",
    "Bounds",
    "Box",
    "EarthgenError",
    "Edit",
    "Engine",
    "ExportError",
    "ExportLimitError",
    "InvalidRequestError",
    "Limits",
    "OverloadedError",
    "Region",
    "RegistryError",
    "RequestCancelledError",
    "RequestTooLargeError",
    "StoreError",
    "UnknownWorldError",
    "WeightsError",
    "Window",
    "World",
    "WorldError",
    "WorldRegistry",
    "export_cog",
    "export_cog_pyramid",
    "export_tiles",
    "zarr",
]

_HOMES = {
    "Bounds": "earthgen.pyramid",
    "Box": "earthgen.pyramid",
    "Edit": "earthgen.world",
    "Engine": "earthgen.engine",
    "Limits": "earthgen.export.work",
    "Region": "earthgen.engine",
    "Window": "earthgen.pyramid",
    "World": "earthgen.world",
    "WorldRegistry": "earthgen.registry",
    "export_cog": "earthgen.export.cog",
    "export_cog_pyramid": "earthgen.export.cog_pyramid",
    "export_tiles": "earthgen.export.tiles",
    "zarr": "earthgen.export.virtual_zarr",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'earthgen' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "earthgen.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

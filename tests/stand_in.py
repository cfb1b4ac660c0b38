"""An engine without a network: colours computed from global coordinates, so that any error of place shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from earthgen.pyramid import Box, tile_box, world_size
from earthgen.world import World


class CoordinateEngine:
    """Has the methods of `earthgen.Engine` that exports and the command line use."""

    weights_id = "stand-in"
    fingerprint = "stand-in-1"

    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self.closed = False

    def pixels(self, world: World, box: Box, *, cancelled: Callable[[], bool] | None = None) -> npt.NDArray[np.uint8]:
        self.boxes.append(box)
        rows = np.arange(box.row, box.row + box.height, dtype=np.int64)[:, None]
        columns = np.arange(box.column, box.column + box.width, dtype=np.int64)[None, :] % world_size(box.zoom)
        mixed = rows * 7919 + columns * 104729 + world.seed
        return np.stack([rows + 0 * columns, columns + 0 * rows, mixed // 13], axis=-1).astype(np.uint8)

    def tile(
        self, world: World, z: int, x: int, y: int, *, size: int = 256, cancelled: Callable[[], bool] | None = None
    ) -> npt.NDArray[np.uint8]:
        pixels = self.pixels(world, tile_box(z, x, y))
        return pixels.repeat(size // 256, axis=0).repeat(size // 256, axis=1)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> CoordinateEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

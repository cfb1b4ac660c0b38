"""Engines that break one promise each, so that the check that watches it can be seen to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from earthgen.pyramid import Box
from earthgen.weights import load_weights
from earthgen.world import World

Pixels = npt.NDArray[np.uint8]
Make = Callable[[World, Box], Pixels]


@dataclass
class Source:
    """An engine out of a function."""

    make: Make
    weights_id: str = "made-up"

    def pixels(self, world: World, box: Box, *, cancelled: Callable[[], bool] | None = None) -> Pixels:
        return self.make(world, box)


def with_seam(make: Make, zoom: int, column: int, levels: int = 16) -> Source:
    """Everything east of a column of a zoom is lighter, at every zoom alike, so that parents still fit."""

    def pixels(world: World, box: Box) -> Pixels:
        shift = box.zoom - zoom
        border = column << shift if shift >= 0 else column >> -shift
        east = np.arange(box.column, box.column + box.width) >= border
        # Half the contrast, so that nothing is clipped; means still fit within a grey level.
        return make(world, box) // 2 + np.uint8(levels) * east[None, :, None]

    return Source(pixels)


def with_another_zoom(make: Make, zoom: int, levels: int = 3) -> Source:
    """One zoom is lighter than the others."""

    def pixels(world: World, box: Box) -> Pixels:
        made = make(world, box)
        return np.minimum(made, 255 - levels) + np.uint8(levels) if box.zoom == zoom else made

    return Source(pixels)


def with_moved_edits(make: Make, degrees: float) -> Source:
    """Edits happen somewhat further east than they say."""

    def pixels(world: World, box: Box) -> Pixels:
        moved = [
            replace(edit, polygon=tuple((longitude + degrees, latitude) for longitude, latitude in edit.polygon))
            for edit in world.edits
        ]
        return make(replace(world, edits=tuple(moved)), box)

    return Source(pixels)


def save_shuffled_weights(folder: Path) -> Path:
    """The shipped cascade with the numbers of each of its tensors in another order."""
    net = load_weights(None).net
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            flat = parameter.flatten()
            parameter.copy_(flat[torch.randperm(len(flat), generator=generator)].view_as(parameter))
    net.save_pretrained(folder)
    return folder

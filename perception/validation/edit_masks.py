"""Which pixels of a box edits cover, and how much of each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from earthgen.editing import FEATHER, Layer, layers_of
from earthgen.pyramid import Box
from earthgen.world import Edit, World

Mask = npt.NDArray[np.bool_]


def shares(layer: Layer, box: Box) -> npt.NDArray[np.float64]:
    """How much of each pixel of a box at any zoom is an edit's, 0..1: (box.height, box.width).

    At zooms coarser than the edit's own a pixel that holds a part of it counts as a whole.
    """
    if box.zoom < layer.zoom:
        return layer.within(box).astype(np.float64)
    shift = box.zoom - layer.zoom
    rows = np.arange(box.row, box.row + box.height) >> shift
    columns = np.arange(box.column, box.column + box.width) >> shift
    entry = Box(
        layer.zoom, int(rows[0]), int(columns[0]), int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    )
    return layer.weights_in(entry)[np.ix_(rows - rows[0], columns - columns[0])] / FEATHER


def visible_edits(world: World, box: Box, least: int) -> list[tuple[Edit, Mask]]:
    """The edits that have at least `least` pixels of a box to themselves, with those pixels: bool (h, w).

    Later edits lie on top of earlier ones and take pixels from them.
    """
    covered = np.zeros((box.height, box.width), dtype=np.bool_)
    found: list[tuple[Edit, Mask]] = []
    for layer in reversed(layers_of(world)):
        if not layer.touches(box):
            continue
        share = shares(layer, box)
        mask = (share > 0.5) & ~covered
        covered |= share > 0
        if mask.sum() >= least:
            found.append((layer.edit, mask))
    return found[::-1]


def touched(world: World, box: Box) -> Mask:
    """Pixels of a box that may differ from the world without edits: bool (h, w)."""
    out = np.zeros((box.height, box.width), dtype=np.bool_)
    for layer in layers_of(world):
        if layer.touches(box):
            out |= layer.within(box)
    return out


def changed(before: World, after: World, box: Box) -> tuple[Mask, Mask]:
    """Pixels that edits of one of two worlds and not of the other cover by more than a half, and all that they touch.

    Edits that both have are no change, unless another one lies between them and the viewer.
    """
    most, any_of_it = (np.zeros((box.height, box.width), dtype=np.bool_) for _ in range(2))
    for world, other in ((before, after), (after, before)):
        for layer in layers_of(world):
            if layer.edit in other.edits or not layer.touches(box):
                continue
            most |= shares(layer, box) > 0.5
            any_of_it |= layer.within(box)
    return most, any_of_it

"""Scenes in pixels: what a prompt names, laid out by address.

Layouts are planned in units of the pixels at which the scene begins, so that a river or a shore is to be seen in a
picture of any resolution; what people build has its own size in metres. Ground is painted from below: covers, the forms
of the land, roads, then water with its shores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from earthgen.parcels import Floats, Keys, address_key
from earthgen.pyramid import Box
from earthgen.scenery.covers import cover
from earthgen.scenery.forms import AROUND, paved, raised
from earthgen.scenery.fractal import Sheet, fractal, stream
from earthgen.scenery.paint import CERTAIN, Codes, Plane, over
from earthgen.scenery.scene import Scene
from earthgen.scenery.waters import shore, surface, water_of

_PATCHES = 64.0
"""Units that the largest patches of one cover among others span."""
_BORDERS = 9.0
"""How sharply covers part: inverse temperature of a softmax over their scores."""
_NOTHING = 1 / 128
"""Share of a pixel below which a cover is not there."""
_DARKEST = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A scene in pixels.

    Attributes:
        light: red, green and blue, float32 (h, w, 3) in [0, 1].
        water: share of each pixel, float32 (h, w).
        codes: what covers most of it, uint8 (h, w): codes of `earthgen.bands.LAND_COVER`, 0 where that is not said.
    """

    light: Floats
    water: Floats
    codes: Codes


def picture_of(scene: Scene, seed: int, box: Box, zoom: int) -> Picture:
    """What pixels of a scene look like; any crop shows the same.

    Args:
        scene: of a prompt.
        seed: the world's.
        box: pixels of any zoom.
        zoom: at which the scene begins.
    """
    key = address_key(seed)
    wider, sheet = Sheet.of(box.grown(AROUND), zoom), Sheet.of(box, zoom)
    water = water_of(scene, key, wider)
    out: Plane = np.zeros((box.height, box.width, 3), dtype=np.float32)
    codes: Codes = np.zeros((box.height, box.width), dtype=np.uint8)
    if water is None or water.share.min() < 1:
        shares = _shares(scene, key, sheet)
        for (name, colour), share in zip(scene.covers, shares, strict=True):
            if share.any():
                ground = cover(name, colour, seed, key, box, zoom)
                out = out + share[..., None] * ground.light
                np.copyto(codes, ground.codes, where=share > CERTAIN)
        out = paved(raised(out, codes, scene, key, wider), codes, scene, key, sheet)
    if water is not None:
        out = over(shore(out, codes, water, scene, key, sheet), water.share, surface(water, scene, key, sheet))
    wet = np.zeros(out.shape[:2], dtype=np.float32) if water is None else water.share.astype(np.float32)
    return Picture(out.clip(_DARKEST, 1).astype(np.float32), wet, codes)


def _shares(scene: Scene, key: Keys, sheet: Sheet) -> list[Plane]:
    """How much of each pixel has which cover; they add up to 1."""
    count = len(scene.covers)
    if count == 1:
        return [np.ones((len(sheet.rows), len(sheet.columns)), dtype=np.float32)]
    scores = np.stack([fractal(stream(key, 60 + at), sheet, _PATCHES, 0.55) for at in range(count)])
    weights = np.exp(_BORDERS * (scores - scores.max(axis=0)))
    weights /= weights.sum(axis=0)
    weights[weights < _NOTHING] = 0
    return list(weights / weights.sum(axis=0))

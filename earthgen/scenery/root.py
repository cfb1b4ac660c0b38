"""The root that comes with the package: scenes, whose texture the cascade makes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from earthgen.cascade import CascadeStep
from earthgen.countryside import SMOOTH
from earthgen.drawn import AROUND, SHOWN, Draw, Drawn, beyond_smooth, block_means, texture_beside
from earthgen.parcels import smooth_step
from earthgen.prompting import Words, encoder_id
from earthgen.pyramid import SCALE, Box, Window
from earthgen.scenery.composition import picture_of
from earthgen.scenery.meaning import vocabulary
from earthgen.scenery.palette import shipped_palette
from earthgen.scenery.scene import Scene, scene_of

Pixels = npt.NDArray[np.uint8]

_INNER = slice(AROUND, -AROUND), slice(AROUND, -AROUND)
_ANOTHER = (26.0, 60.0)
"""Grey levels by which the mean of some parents differs from the scene's: ground begins to be, and is, another."""
_WATER_IS_CALM = 0.75
"""Share of the network's detail that water does without: it was taught on ground."""
VERSION = 1
"""Counts changes of this package that change pixels of scenes; part of the id."""


class SceneryRoot:
    """The prompt root of scenes; see `earthgen.prompting.PromptRoot`."""

    def __init__(self) -> None:
        self._palette = shipped_palette()

    @property
    def weights_id(self) -> str:
        """Content id of the palette, and which version of the plans."""
        return f"scenery-{VERSION}-{self._palette.id}"

    @property
    def id(self) -> str:
        """The same and the text encoder, which is loaded on the first call."""
        return f"{self.weights_id}-{encoder_id()}"

    def window(self, seed: int, window: Window, words: Words, step: CascadeStep) -> Pixels:
        """See `PromptRoot`: one step of the cascade below a scene that is as coarse as its parents."""
        scene = _scene(words)
        light = picture_of(scene, seed, step.parent_box(window), window.zoom).light
        parents = (255 * light).round().astype(np.uint8)
        return step.window(seed, window, parents, drawing=self.drawing(seed, words, window.zoom))

    def cover(self, seed: int, words: Words, zoom: int, box: Box) -> Pixels:
        """What covers the pixels of a box by construction, below a root at a zoom; see `PromptRoot`."""
        return picture_of(_scene(words), seed, box, zoom).codes

    def drawing(self, seed: int, words: Words, zoom: int) -> Draw:
        """What the scene adds to the detail of the cascade's levels below a zoom at which it begins."""
        scene = _scene(words)

        def drawn(box: Box, parents: Pixels) -> Drawn:
            picture = picture_of(scene, seed, box.grown(AROUND * SCALE), zoom)
            # Nothing of the scene on ground that has become another, by an edit.
            near = parents[SHOWN - AROUND : AROUND - SHOWN, SHOWN - AROUND : AROUND - SHOWN]
            apart = abs(ndimage.uniform_filter(near - 255 * block_means(picture.light), (SMOOTH, SMOOTH, 1)))
            same = 1 - smooth_step(apart.max(axis=-1)[_INNER], *_ANOTHER)
            detail = 2 * beyond_smooth(picture.light) * same.repeat(SCALE, 0).repeat(SCALE, 1)[..., None]
            texture = texture_beside(detail) * (1 - same * _WATER_IS_CALM * block_means(picture.water)[_INNER])
            return Drawn(np.moveaxis(detail, -1, 0).astype(np.float32), texture.astype(np.float32))

        return drawn


@lru_cache(maxsize=64)
def _scene(words: Words) -> Scene:
    negative = words.negative if words.guidance > 1 else ""
    return scene_of(vocabulary(), shipped_palette(), words.prompt, negative)

"""The root that comes with the package: scenes, whose texture the cascade makes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from earthgen.cascade import CascadeStep, Draw, Drawn
from earthgen.countryside import AROUND, SMOOTH
from earthgen.detail import join, smooth_detail
from earthgen.parcels import Floats, smooth_step
from earthgen.prompting import Words, encoder_id
from earthgen.pyramid import SCALE, Box, Window
from earthgen.scenery.composition import picture_of
from earthgen.scenery.meaning import vocabulary
from earthgen.scenery.palette import shipped_palette
from earthgen.scenery.scene import Scene, scene_of

Pixels = npt.NDArray[np.uint8]

_ANOTHER = (26.0, 60.0)
"""Grey levels by which the mean of some parents differs from the scene's: ground begins to be, and is, another."""
_SHARP = 0.08
"""Root mean square of a block's drawn detail, in units of [-1, 1], at which half of the network's is kept."""
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
            light, calm = (_blocks(plane).mean(axis=(1, 3)) for plane in (picture.light, picture.water))
            inner = slice(AROUND, -AROUND)
            # Nothing of the scene on ground that has become another, by an edit.
            apart = abs(ndimage.uniform_filter(parents - 255 * light, (SMOOTH, SMOOTH, 1))).max(axis=-1)
            same = 1 - smooth_step(apart[inner, inner], *_ANOTHER)
            # Parents are the scene and what levels above have added. The cascade makes both smooth: of the scene that
            # is taken away again, since here is how it really is.
            means = torch.from_numpy(np.moveaxis(2 * light, -1, 0)[None])
            smooth = join(means, smooth_detail(means))[0].numpy()
            edge = slice(AROUND * SCALE, -AROUND * SCALE)
            detail = (2 * np.moveaxis(picture.light, -1, 0) - smooth)[:, edge, edge]
            detail = detail.reshape(3, box.height // SCALE, SCALE, box.width // SCALE, SCALE)
            detail = (detail - detail.mean(axis=(2, 4), keepdims=True)) * same[:, None, :, None]
            # The network sharpens edges that it sees in its parents; where the scene has them, once is enough.
            sharp = np.sqrt(np.square(detail).mean(axis=(0, 2, 4)))
            texture = 1 - same * _WATER_IS_CALM * calm[inner, inner]
            texture /= 1 + np.square(ndimage.uniform_filter(sharp, 3, mode="nearest") / _SHARP)
            return Drawn(detail.reshape(3, box.height, box.width).astype(np.float32), texture.astype(np.float32))

        return drawn


def _blocks(plane: Floats) -> Floats:
    """(h, w, ...) as (h / 4, 4, w / 4, 4, ...)."""
    height, width, *rest = plane.shape
    return plane.reshape(height // SCALE, SCALE, width // SCALE, SCALE, *rest)


@lru_cache(maxsize=64)
def _scene(words: Words) -> Scene:
    negative = words.negative if words.guidance > 1 else ""
    return scene_of(vocabulary(), shipped_palette(), words.prompt, negative)

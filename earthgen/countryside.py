"""What grows on the land and what people have made of it, as detail that a level of the cascade adds to its own.

The network follows edges that its parents have and invents none (docs/quality.md): left alone, its farmland is
texture. So each level also gets its share of a plan of fields, roads and villages (`earthgen.parcels`): the plan's
colours less their means over blocks of 4x4, which the parents have got from the level before. Levels that are fine
enough to show the plan add up to the whole of it, blocks still average to their parents, and the network makes fields,
trees and roofs of what it finds in its parents.

Ground has it by what it looks like, from the colours of the parents: fields where it is neither dark nor bright and
something grows, crowns of trees where it is dark and green, nothing on water, sand, snow or rock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from earthgen.bands import LAND_COVER
from earthgen.crowns import crowns
from earthgen.parcels import Floats, Parcels, parcels, smooth_step
from earthgen.pyramid import SCALE, Box, world_size
from earthgen.world import World

FIRST_ZOOM = 12
"""The coarsest level that shows fields: 38 m a pixel at the equator."""
AROUND = 2
"""Parents at each side of one whose mean colour with its own says whether ground is tilled."""
SMOOTH = 2 * AROUND + 1
"""Parents along the side of the square whose colour is taken."""
_LEAST = 0.02
"""Share of tilled or wooded ground below which a window is left alone."""
_LEAN = 10.0
"""Grey levels by which a district's ground may be darker or lighter and still be what the district leans to."""
_TONE = 0.08
"""Of a field that is lighter than others by one standard deviation."""
_HUE = 0.028
"""Of a field that is browner by one."""
_CERTAIN = 0.5
"""Share of a pixel that something has to cover to be what the pixel shows."""
_CODES = {part.name: part.code for part in LAND_COVER}
_COPSE = -2.2
"""Tone and hue of fields with trees, in standard deviations."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What is drawn on a box of pixels, and how much of each; arrays (h, w).

    Attributes:
        plan: fields, roads and villages.
        trees: their light, or None where pixels are too coarse for them.
        light: of the ground, from 0 to 2.
        fields: share of the plan that shows.
        trees_share: share of the trees that shows.
        woods: share of woods, whose stands differ as fields do.
    """

    plan: Parcels
    trees: Floats | None
    light: Floats
    fields: Floats
    trees_share: Floats
    woods: Floats


def ground_of(seed: int, box: Box, parents: npt.NDArray[np.uint8]) -> Ground | None:
    """What is drawn on some pixels; None where nothing is. See `countryside`."""
    if box.zoom < FIRST_ZOOM:
        return None
    inner = slice(AROUND, -AROUND)
    colours = ndimage.uniform_filter(parents.astype(np.float32), (SMOOTH, SMOOTH, 1))[inner, inner]
    if max(tilled(colours, 1.0).max(), wooded(colours, -1.0).max()) < _LEAST:
        return None
    plan = parcels(seed, box)
    colours = colours.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    fields = tilled(colours, plan.lean)
    woods = wooded(colours, plan.lean) * (1 - fields)
    return Ground(
        plan,
        crowns(seed, box),
        colours.mean(axis=-1) / 127.5,
        fields,
        woods + fields * plan.farmed * plan.copse * (1 - plan.village),
        woods,
    )


def countryside(seed: int, box: Box, parents: npt.NDArray[np.uint8]) -> Floats | None:
    """The share of fields, roads, villages and trees that pixels add to their parents.

    Args:
        seed: the world's.
        box: the pixels, whole blocks of 4x4, of a cascade level.
        parents: uint8 (h / 4 + 2 * AROUND, w / 4 + 2 * AROUND, 3), those of the box and around it.

    Returns:
        float32 (3, h, w) in units of [-1, 1] pixels, of mean 0 in each 4x4 block; None where there is nothing.
    """
    ground = ground_of(seed, box, parents)
    if ground is None:
        return None
    drawn = ground.fields[..., None] * painted(ground.plan)
    drawn += (0.7 * _TONE * ground.woods * ground.plan.tone)[..., None]
    if ground.trees is not None:
        drawn += (0.22 * ground.trees_share * ground.trees)[..., None] * _colour(0.9, 1.0, 0.7)
    # In proportion to the light that the ground sends back.
    drawn *= ground.light[..., None]
    blocks = np.moveaxis(drawn, -1, 0).reshape(3, box.height // SCALE, SCALE, box.width // SCALE, SCALE)
    detail: Floats = (blocks - blocks.mean(axis=(2, 4), keepdims=True)).reshape(3, box.height, box.width)
    return detail


def cover_of(ground: Ground) -> npt.NDArray[np.uint8]:
    """What covers most of a pixel, where the drawing decides that: codes of LAND_COVER, (h, w), 0 elsewhere."""
    plan = ground.plan
    lived_on = ground.fields * plan.farmed * plan.village
    codes = np.zeros(plan.tone.shape, dtype=np.uint8)
    if ground.trees is not None:
        codes[ground.trees_share > _CERTAIN] = _CODES["trees"]
    ways = np.maximum(plan.track * plan.farmed * (1 - plan.village), plan.street * plan.farmed * plan.village)
    codes[ground.fields * np.maximum(plan.road, ways) > _CERTAIN] = _CODES["road"]
    codes[lived_on * plan.roof > _CERTAIN] = _CODES["building"]
    return codes


@runtime_checkable
class Drawing(Protocol):
    """An engine whose weights may draw; see `earthgen.engine.Engine`."""

    @property
    def draws(self) -> bool:
        """Whether its weights do."""
        ...

    def pixels(self, world: World, box: Box) -> npt.NDArray[np.uint8]:
        """uint8 (h, w, 3) of a box."""
        ...


def drawn_cover(engine: Drawing, world: World, box: Box) -> npt.NDArray[np.uint8]:
    """Roads, buildings and trees of a world that are there by construction, since the cascade drew them.

    Args:
        engine: that makes the world.
        world: any; those with a prompt have no drawing, and of those with edits nothing is said.
        box: pixels of any zoom.

    Returns:
        uint8 (h, w): codes of `earthgen.bands.LAND_COVER`, 0 where the drawing does not decide.
    """
    nothing = np.zeros((box.height, box.width), dtype=np.uint8)
    told = world.root == "prompt" or world.prompt or world.negative
    if not engine.draws or told or world.edits or box.zoom < FIRST_ZOOM:
        return nothing
    top, left = box.row % SCALE, box.column % SCALE
    height, width = (-(-(size + start) // SCALE) * SCALE for size, start in ((box.height, top), (box.width, left)))
    whole = Box(box.zoom, box.row - top, box.column - left, height, width)
    parents = whole.parent().grown(AROUND)
    below = min(parents.row, 0), min(0, world_size(parents.zoom) - parents.row - parents.height)
    inside = Box(parents.zoom, parents.row - below[0], parents.column, parents.height + sum(below), parents.width)
    colours = np.pad(engine.pixels(world, inside), ((-below[0], -below[1]), (0, 0), (0, 0)), mode="edge")
    ground = ground_of(world.seed, whole, colours)
    if ground is None:
        return nothing
    return cover_of(ground)[top : top + box.height, left : left + box.width]


def tilled(colours: Floats, lean: Floats | float) -> Floats:
    """How much ground looks as if it were tilled or lived on, by its mean colour.

    Args:
        colours: (h, w, 3), red, green and blue in [0, 255].
        lean: (h, w), of the district, from woods (-1) to fields (1); what is neither dark nor bright can be both.

    Returns:
        (h, w) in [0, 1].
    """
    red, green, blue = np.moveaxis(colours, -1, 0)
    light = _light(colours)
    open_land = smooth_step(light + _LEAN * lean, 60, 80) * (1 - smooth_step(light, 140, 170))
    grows = smooth_step(np.minimum(red, green) - blue, 8, 22) * (1 - smooth_step(red - green, 14, 34))
    share: Floats = open_land * grows
    return share


def wooded(colours: Floats, lean: Floats | float) -> Floats:
    """How much ground looks like woods: dark and green; see `tilled`."""
    red, green, blue = np.moveaxis(colours, -1, 0)
    dark = 1 - smooth_step(_light(colours) + _LEAN * lean, 66, 86)
    share: Floats = dark * smooth_step(green - np.maximum(red, blue), 4, 14)
    return share


def _light(colours: Floats) -> Floats:
    light: Floats = colours @ _colour(0.3, 0.59, 0.11)
    return light


def painted(plan: Parcels) -> Floats:
    """Colours of a plan, (h, w, 3), as differences to the ground's that are in proportion to its lightness."""
    tone, hue = (values + plan.copse * (_COPSE - values) for values in (plan.tone, plan.hue))
    light: Floats = _TONE * tone + 0.02 * plan.furrows * (1 - plan.copse)
    hue *= _HUE
    out: Floats = np.stack([light + hue, light - 0.35 * hue, 0.9 * light + 0.1 * hue], axis=-1)
    out = _over(out, plan.hedge, _colour(-0.22, -0.15, -0.16))
    out = _over(out, plan.track, _colour(0.20, 0.17, 0.18))
    if plan.village.any():
        out = _over(out, plan.village, _village(plan))
    return _over(out * plan.farmed[..., None], plan.road, _colour(0.24, 0.23, 0.32))


def _village(plan: Parcels) -> Floats:
    """Colours of gardens, roofs with their shadows, and streets."""
    garden = (plan.garden - 0.5)[..., None] * _colour(0.16, 0.10, 0.12) + _colour(0.03, 0.02, 0.05)
    tiles = np.where((plan.roof_hue < 0.5)[..., None], _colour(0.42, 0.0, -0.05), _colour(0.25, 0.22, 0.34))
    built = _over(garden, plan.shadow, _colour(-0.30, -0.26, -0.20))
    built = _over(built, plan.roof, tiles + (0.5 * plan.roof_tone - 0.2)[..., None])
    return _over(built, plan.street, _colour(0.26, 0.26, 0.36))


def _colour(red: float, green: float, blue: float) -> Floats:
    return np.array([red, green, blue], dtype=np.float32)


def _over(below: Floats, share: Floats, colour: Floats) -> Floats:
    """A colour laid over others, where it covers them."""
    return below + share[..., None] * (colour - below)

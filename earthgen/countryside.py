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

from earthgen.bands import CODES
from earthgen.crowns import crowns
from earthgen.drawn import AROUND, SHOWN, Drawn, beyond_smooth, block_means, texture_beside, without_means
from earthgen.land_kernels import LOOPS, fill_detail, fill_ground, fill_looks, fill_means, fill_painted, planes
from earthgen.landmarks import FIRST_ZOOM as LANDMARKS_ZOOM
from earthgen.landmarks import Landmarks, landmarks
from earthgen.parcels import Floats, Parcels, arrays_of, parcels, smooth_step
from earthgen.pyramid import MAX_ZOOM, SCALE, Box, world_size
from earthgen.shores import shore
from earthgen.world import World

FIRST_ZOOM = 12
"""The coarsest level that shows fields: 38 m a pixel at the equator."""
SMOOTH = 2 * AROUND + 1
"""Parents along the side of the square whose mean colour says whether ground is tilled."""
_WATER_IS_CALM, _TOWNS_ARE_CALM = 0.7, 0.35
"""Shares of the network's texture that rivers and towns do without."""
_SAND = 10.0, 26.0
"""Grey levels by which ground is redder than green where it begins to be, and is, sand; so of others below."""
_SNOW = 165.0, 195.0
"""Light of snow."""
_LEAST = 0.02
"""Share of tilled or wooded ground below which a window is left alone."""
_CERTAIN = 0.5
"""Share of a pixel that something has to cover to be what the pixel shows."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What is drawn on a box of pixels, and how much of each; arrays (h, w).

    Attributes:
        plan: fields, roads and villages; None where pixels are too coarse for them.
        trees: their light, or None where pixels are too coarse for them.
        light: of the ground, from 0 to 2.
        fields: share of the plan that shows.
        trees_share: share of the trees that shows.
        woods: share of woods, whose stands differ as fields do.
        landmarks: rivers and towns, if there are any, with AROUND blocks more at each side.
        landmarks_share: share of these that shows.
    """

    plan: Parcels | None
    trees: Floats | None
    light: Floats
    fields: Floats
    trees_share: Floats
    woods: Floats
    landmarks: Landmarks | None
    landmarks_share: Floats


def ground_of(seed: int, box: Box, parents: npt.NDArray[np.uint8]) -> Ground | None:
    """What is drawn on the land of some pixels; None where nothing is. See `countryside`."""
    if box.zoom < LANDMARKS_ZOOM:
        return None
    colours = np.empty((box.height // SCALE, box.width // SCALE, 3), dtype=np.float32)
    # A copy, since loops are compiled for arrays that may be written.
    near = slice(SHOWN - AROUND, AROUND - SHOWN)
    fill_means(np.array(parents[near, near], order="C"), AROUND, colours)
    drawn = landmarks(seed, box.grown(AROUND * SCALE))
    if drawn is not None:
        # Towns are grey and rivers dark: what the ground looks like is what it was before they were drawn.
        before = ndimage.uniform_filter(block_means(drawn.light), (SMOOTH, SMOOTH, 1), mode="nearest")
        # Sand and snow never had any.
        red, green = colours[..., 0], colours[..., 1]
        could = (1 - smooth_step(red - green, *_SAND)) * (1 - smooth_step(colours.mean(axis=-1), *_SNOW))
        colours /= 1 + could[..., None] * before[AROUND:-AROUND, AROUND:-AROUND]
    if max(tilled(colours, 1.0).max(), wooded(colours, -1.0).max()) < _LEAST:
        return None
    if box.zoom < FIRST_ZOOM:
        if drawn is None:
            return None
        wide = colours.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
        shown = np.maximum(tilled(wide, 0.0), wooded(wide, 0.0))
        return Ground(None, None, wide.mean(axis=-1) / np.float32(127.5), shown, shown, shown, drawn, shown)
    plan = parcels(seed, box)
    light, fields, trees_share, woods = planes(4, box.height, box.width)
    fill_ground(colours, arrays_of(plan), light, fields, trees_share, woods)
    shown = np.maximum(fields, woods)
    if drawn is not None:
        inner = drawn.cropped(AROUND * SCALE)
        left = (1 - inner.towns) * (1 - inner.rivers)
        for share in (fields, trees_share, woods):
            share *= left
    return Ground(plan, crowns(seed, box), light, fields, trees_share, woods, drawn, shown)


def countryside(seed: int, box: Box, parents: npt.NDArray[np.uint8]) -> Drawn | None:
    """The share of fields, roads, villages, trees, rivers, towns and shores that pixels add to their parents.

    Args:
        seed: the world's.
        box: the pixels, whole blocks of 4x4, of a cascade level.
        parents: uint8 (h / 4 + 2 * SHOWN, w / 4 + 2 * SHOWN, 3), those of the box and around it.

    Returns:
        What is drawn; None where there is nothing.
    """
    line = shore(seed, box, parents) if box.zoom >= LANDMARKS_ZOOM else None
    inland = _inland(seed, box, parents)
    if line is None:
        return inland
    texture = texture_beside(line)
    if inland is None:
        return Drawn(np.ascontiguousarray(np.moveaxis(line, -1, 0)), texture)
    kept = texture if inland.texture is None else texture * inland.texture
    return Drawn(inland.detail + np.moveaxis(line, -1, 0), kept)


def _inland(seed: int, box: Box, parents: npt.NDArray[np.uint8]) -> Drawn | None:
    """What is drawn of all but shores."""
    ground = ground_of(seed, box, parents)
    if ground is None:
        return None
    detail: Floats = np.zeros((3, box.height, box.width), dtype=np.float32)
    if ground.plan is not None:
        fill_detail(
            painted(ground.plan),
            ground.plan.tone,
            np.empty((0, 0), dtype=np.float32) if ground.trees is None else ground.trees,
            ground.light,
            ground.fields,
            ground.trees_share,
            ground.woods,
            detail,
        )
    if ground.landmarks is None:
        return Drawn(detail)
    strength = (ground.light * ground.landmarks_share)[..., None]
    sharp = without_means(beyond_smooth(ground.landmarks.light) * strength)
    inner = ground.landmarks.cropped(AROUND * SCALE)
    calm = block_means(ground.landmarks_share * (_WATER_IS_CALM * inner.rivers + _TOWNS_ARE_CALM * inner.towns))
    return Drawn(detail + np.moveaxis(sharp, -1, 0), texture_beside(sharp) * (1 - calm))


def compile_drawing() -> None:
    """Compile the loops that `countryside` runs, or load what an earlier process has compiled of them.

    That takes seconds the first time on a machine, a moment later. Without it the first window waits for the same.
    """
    box = Box(MAX_ZOOM, 0, 0, SCALE, SCALE)
    green = np.full((1 + 2 * SHOWN, 1 + 2 * SHOWN, 3), (110, 115, 75), dtype=np.uint8)
    for _ in LOOPS:
        try:
            countryside(0, box, green)
        except OSError:
            # No space to keep what has just been compiled. It runs all the same, so on to the next.
            continue
        return


def cover_of(ground: Ground) -> npt.NDArray[np.uint8]:
    """What covers most of a pixel, where the drawing decides that: codes of LAND_COVER, (h, w), 0 elsewhere."""
    plan = ground.plan
    codes = np.zeros(ground.light.shape, dtype=np.uint8)
    if ground.trees is not None:
        codes[ground.trees_share > _CERTAIN] = CODES["trees"]
    if plan is not None:
        ways = np.maximum(plan.track * plan.farmed * (1 - plan.village), plan.street * plan.farmed * plan.village)
        codes[ground.fields * np.maximum(plan.road, ways) > _CERTAIN] = CODES["road"]
        codes[ground.fields * plan.farmed * plan.village * plan.roof > _CERTAIN] = CODES["building"]
    if ground.landmarks is not None:
        inner = ground.landmarks.cropped(AROUND * SCALE)
        for built, share in inner.plans:
            codes[ground.landmarks_share * share * built.street > _CERTAIN] = CODES["road"]
            codes[ground.landmarks_share * share * built.roof > _CERTAIN] = CODES["building"]
        codes[ground.landmarks_share * inner.rivers > _CERTAIN] = CODES["water"]
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

    def scene_cover(self, world: World, box: Box) -> npt.NDArray[np.uint8] | None:
        """What the words of a world by prompt have put on its pixels, codes (h, w); None where nobody knows."""
        ...


def drawn_cover(engine: Drawing, world: World, box: Box) -> npt.NDArray[np.uint8]:
    """What covers a world by construction: of scenes, what their words put there; of others, what the cascade drew.

    Args:
        engine: that makes the world.
        world: any; of those with edits nothing is said.
        box: pixels of any zoom.

    Returns:
        uint8 (h, w): codes of `earthgen.bands.LAND_COVER`, 0 where the drawing does not decide.
    """
    nothing = np.zeros((box.height, box.width), dtype=np.uint8)
    if world.edits:
        return nothing
    if world.root == "prompt":
        known = engine.scene_cover(world, box)
        return nothing if known is None else known
    if not engine.draws or world.prompt or world.negative or box.zoom < LANDMARKS_ZOOM:
        return nothing
    top, left = box.row % SCALE, box.column % SCALE
    height, width = (-(-(size + start) // SCALE) * SCALE for size, start in ((box.height, top), (box.width, left)))
    whole = Box(box.zoom, box.row - top, box.column - left, height, width)
    parents = whole.parent().grown(SHOWN)
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
    return _looks(colours, lean)[0]


def wooded(colours: Floats, lean: Floats | float) -> Floats:
    """How much ground looks like woods: dark and green; see `tilled`."""
    return _looks(colours, lean)[1]


def _looks(colours: Floats, lean: Floats | float) -> tuple[Floats, Floats]:
    shape = colours.shape[:2]
    shares: Floats = np.empty((2, *shape), dtype=np.float32)
    leans = np.require(np.broadcast_to(lean, shape), np.float32, ("C", "W"))
    fill_looks(np.require(colours, np.float32, ("C", "W")), leans, *shares)
    return shares[0], shares[1]


def painted(plan: Parcels) -> Floats:
    """Colours of a plan, (h, w, 3), as differences to the ground's that are in proportion to its lightness."""
    colours: Floats = np.empty((*plan.tone.shape, 3), dtype=np.float32)
    fill_painted(arrays_of(plan), colours)
    return colours

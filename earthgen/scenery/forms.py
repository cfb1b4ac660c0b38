"""Forms of the land in scenes, and what is laid across it: mountains and hills, roads and runways."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from earthgen.bands import CODES
from earthgen.parcels import Keys, smooth_step
from earthgen.pyramid import EQUATOR_GSD, TILE_SIZE
from earthgen.scenery.fractal import Sheet, fractal, share, slopes, stream
from earthgen.scenery.paint import CERTAIN, Codes, Plane, over, rgb
from earthgen.scenery.scene import Scene

AROUND = 2
"""Pixels at each side of those that are made at which heights are looked at, too."""
_STROKE = 0.6
"""Of the way from one stroke of paint to the next."""
_EDGE = slice(AROUND, -AROUND)
_BESIDE = slice(AROUND - 1, 1 - AROUND)


def raised(ground: Plane, codes: Codes, scene: Scene, key: Keys, sheet: Sheet) -> Plane:
    """Ground with heights: lit from the north-west, bare where it is steep, white where it is high.

    Args:
        ground: colours (h, w, 3).
        codes: what covers it, (h, w); bare ground is written in, and nothing where snow may lie.
        scene: it stays as it is without mountains or hills.
        key: of the seed.
        sheet: its pixels, and AROUND more at each side.
    """
    mountains = "mountains" in scene.layouts
    if not mountains and "hills" not in scene.layouts:
        return ground
    height = fractal(stream(key, 20), sheet, 64.0, 0.55)
    if mountains:
        ridges = fractal(stream(key, 21), sheet, 32.0, 0.5)
        height = 0.9 * height + 0.8 * (0.8 - abs(ridges))
    down, right = (slope[_BESIDE, _BESIDE] / np.float32(sheet.pixel) for slope in slopes(height))
    height = height[_EDGE, _EDGE]
    if mountains:
        steep = smooth_step(np.hypot(down, right), 0.1, 0.35)
        covers = {name for name, _ in scene.covers}
        if "rock" not in covers:
            bare = 0.8 * steep * smooth_step(height, 0.0, 0.9)
            ground = over(ground, bare, scene.rock.mean)
            codes[bare > CERTAIN] = CODES["bare ground"]
        if "snow" in covers:
            white = smooth_step(height, -0.6, 0.7) * (1 - 0.8 * steep)
            ground = over(np.broadcast_to(0.8 * scene.rock.mean, ground.shape), white, scene.snow.mean)
            codes[:] = np.where(white > CERTAIN, 0, CODES["bare ground"])
    lit = np.tanh((3.2 if mountains else 2.5) * (down + right)) * (0.42 if mountains else 0.2)
    formed: Plane = ground * (1 + lit[..., None] * rgb(1, 1, 0.9))
    return formed


def paved(ground: Plane, codes: Codes, scene: Scene, key: Keys, sheet: Sheet) -> Plane:
    """Ground with roads or runways across it, as wide as they are, or as can be seen in the scene's own pixels.

    Args:
        ground: colours (h, w, 3).
        codes: what covers it, (h, w); roads and other paved ground are written in.
        scene: it stays as it is without roads or runways.
        key: of the seed.
        sheet: its pixels.
    """
    metre = sheet.around / (EQUATOR_GSD * TILE_SIZE)
    if "road" in scene.layouts:
        angle = share(stream(key, 30), 1) * np.pi
        bend = 5 * fractal(stream(key, 31), sheet, 128.0, 0.3, 32.0)
        main = _Lines(44.0, max(22 * metre, 1.2), rgb(0.52, 0.52, 0.5), 8 * metre)
        ground = main.over(ground, codes, sheet, angle, bend)
        small = _Lines(71.0, max(9 * metre, 0.7), rgb(0.6, 0.58, 0.53))
        ground = small.over(ground, codes, sheet, angle + np.pi / 2, bend)
    if "runway" in scene.layouts:
        angle = share(stream(key, 32), 1) * np.pi
        width = max(48 * metre, 2.2)
        taxiway = _Lines(56.0, 0.45 * width, rgb(0.55, 0.55, 0.53), code="other paved")
        ground = taxiway.over(ground, codes, sheet, angle, 3 * width)
        ground = replace(taxiway, apart=37.0).over(ground, codes, sheet, angle + np.pi / 2)
        runway = _Lines(56.0, width, rgb(0.42, 0.42, 0.43), 50 * metre, "other paved")
        ground = runway.over(ground, codes, sheet, angle)
    return ground


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """Parallel paved lines.

    Attributes:
        apart: units from one to the next.
        width: units.
        colour: (3,).
        dash: units from one stroke of white paint to the next along the middle; 0 for none.
        code: what it is, a name of `earthgen.bands.LAND_COVER`.
    """

    apart: float
    width: float
    colour: Plane
    dash: float = 0.0
    code: str = "road"

    def over(self, ground: Plane, codes: Codes, sheet: Sheet, angle: float, moved: Plane | float = 0.0) -> Plane:
        """Ground with the lines across it, at an angle, moved aside by some units."""
        away = abs((sheet.turned(angle, self.apart) + moved / self.apart) % 1 - 0.5) * self.apart
        wide = ((self.width + sheet.pixel) / 2 - away) / sheet.pixel
        covered = wide.clip(0, min(self.width / sheet.pixel, 1))
        ground = over(ground, covered, self.colour)
        codes[covered > CERTAIN] = CODES[self.code]
        half = 0.45 * sheet.around / (EQUATOR_GSD * TILE_SIZE)
        if not self.dash or sheet.pixel > 2.2 * half:
            return ground
        stroke = sheet.turned(angle + np.pi / 2, self.dash) % 1 < _STROKE
        paint = ((half - away) / sheet.pixel + 0.5).clip(0, 1) * stroke
        return over(ground, 0.8 * paint, rgb(0.85, 0.85, 0.82))

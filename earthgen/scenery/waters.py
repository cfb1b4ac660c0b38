"""Waters of scenes: seas, lakes and rivers with their shores, and piers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from earthgen.bands import CODES
from earthgen.parcels import Keys, smooth_step
from earthgen.scenery.forms import AROUND
from earthgen.scenery.fractal import Sheet, fractal, gradient_noise, share, slopes, stream
from earthgen.scenery.paint import CERTAIN, Codes, Plane, over, rgb
from earthgen.scenery.scene import SEAS, WATERS, Scene

_EDGE = slice(AROUND, -AROUND)
_BESIDE = slice(AROUND - 1, 1 - AROUND)
_PIERS = 9.0
"""Units from pier to pier."""
_FAR = 1e3
"""Units from any shore."""


@dataclass(frozen=True, slots=True, eq=False)
class Water:
    """Where water is; arrays (h, w).

    Attributes:
        dry: units from the shore, about; positive on land.
        share: of each pixel that is water.
    """

    dry: Plane
    share: Plane


def water_of(scene: Scene, key: Keys, sheet: Sheet) -> Water | None:
    """Where a scene has water; None for nowhere.

    Args:
        scene: of a prompt.
        key: of the seed.
        sheet: pixels, and AROUND more at each side.
    """
    layouts = scene.layouts
    if not layouts & WATERS:
        return None
    inner = Sheet(sheet.rows[_EDGE], sheet.columns[_EDGE], sheet.pixel, sheet.around)
    dry: Plane = np.full((len(inner.rows), len(inner.columns)), _FAR, dtype=np.float32)
    if layouts & (SEAS - {"sea"}):
        islands = "islands" in layouts
        smooth = bool(layouts & {"harbour", "beach"})
        level = fractal(stream(key, 40), sheet, 64.0, 0.35 if smooth else 0.5)
        level = level - np.float32(0.75 if islands else 0.0)
        dry = np.minimum(dry, _from_shore(level, 0.03, sheet.pixel))
        if "harbour" in layouts:
            dry = np.maximum(dry, _piers(dry, stream(key, 45), inner))
    elif "sea" in layouts:
        dry = -dry
    if "lake" in layouts:
        level = np.float32(0.45) - fractal(stream(key, 41), sheet, 64.0, 0.42)
        dry = np.minimum(dry, _from_shore(level, 0.03, sheet.pixel))
    if layouts & {"river", "delta"}:
        bed = fractal(stream(key, 42), sheet, 64.0, 0.3, 4.0)
        half = 3.5 + gradient_noise(stream(key, 43), inner, 64.0).clip(-2, 2)
        dry = np.minimum(dry, abs(_from_shore(bed, 0.02, sheet.pixel)) - half)
    return Water(dry, (0.5 - dry / sheet.pixel).clip(0, 1).astype(np.float32))


def shore(ground: Plane, codes: Codes, water: Water, scene: Scene, key: Keys, sheet: Sheet) -> Plane:
    """Ground with sand beside water, which is written into the codes of what covers it, as the water is."""
    codes[water.share > CERTAIN] = CODES["water"]
    if "harbour" in scene.layouts:
        return ground
    beach = "beach" in scene.layouts
    wide = (7.0 if beach else 1.2) * (1 + 0.4 * gradient_noise(stream(key, 44), sheet, 16.0).clip(-2, 2))
    sandy = 1 - smooth_step((water.dry / wide).astype(np.float32), 0.5, 1.0)
    strength = 0.9 if beach else 0.6 if scene.layouts & SEAS else 0.3
    codes[(strength * sandy > CERTAIN) & (water.share <= CERTAIN)] = CODES["bare ground"]
    return over(ground, strength * sandy, 0.55 * scene.sand.mean + 0.45 * rgb(0.78, 0.74, 0.66))


def surface(water: Water, scene: Scene, key: Keys, sheet: Sheet) -> Plane:
    """Colours of water, (h, w, 3): paler where it is shallow, with waves and surf where pixels are fine enough."""
    at_sea = bool(scene.layouts & SEAS)
    regional = fractal(stream(key, 50), sheet, 128.0, 0.5)[..., None]
    base = scene.water.mean + 0.25 * regional * scene.water.among
    shallow = np.exp(-(-water.dry).clip(0, 60) / (5.0 if at_sea else 2.0))
    base = over(base, 0.45 * shallow, rgb(0.34, 0.47, 0.46) if at_sea else 1.25 * scene.water.mean)
    # Crests are longer than they are apart.
    stretched = Sheet(2.0 * sheet.rows, sheet.columns, sheet.pixel, sheet.around)
    waves = fractal(stream(key, 51), stretched, 4.0, 0.7)
    out: Plane = base * (1 + 0.035 * waves[..., None])
    if at_sea:
        surf = smooth_step(shallow.astype(np.float32), 0.86, 0.97) * smooth_step(waves, 0.0, 1.0)
        out = over(out, 0.4 * surf, rgb(0.8, 0.83, 0.83))
    return out


def _from_shore(level: Plane, least: float, pixel: float) -> Plane:
    """About how many units pixels are from where a level is 0.

    Args:
        level: (h, w), and AROUND more at each side.
        least: slope a unit that is taken where it is flatter, so that flat ground is not far from everywhere.
        pixel: units of one.
    """
    down, right = (slope[_BESIDE, _BESIDE] for slope in slopes(level))
    distance: Plane = level[_EDGE, _EDGE] / np.maximum(np.hypot(down, right) / np.float32(pixel), np.float32(least))
    return distance


def _piers(dry: Plane, key: Keys, sheet: Sheet) -> Plane:
    """Units to the edges of piers, positive on them: straight strips that reach out from the shore."""
    across = sheet.turned(share(key, 1) * np.pi, _PIERS)
    piers: Plane = np.minimum(0.9 - abs(across % 1 - 0.5) * _PIERS, dry + 14)
    return piers

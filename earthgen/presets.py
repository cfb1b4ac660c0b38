"""Presets of edits: snow, haze, burn, flood, summer and autumn, as transforms of the pixels that are there.

A preset is a formula, not a network: it mixes each pixel with a colour, by shares that depend on the pixel itself
(is it water, does something grow, how bright is it) and on noise addressed by position, so that cover is patchy
and has texture. Numbers were chosen by eye on imagery from 0.6 to 40 m a pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from earthgen.noise import NoiseField
from earthgen.pyramid import Box, world_size
from earthgen.world import Action

Pixels = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float64]

GRAIN_STREAM = 8
"""The stream of NoiseField that the texture of single pixels is taken from."""
PATCH_STREAM = 9
"""The stream of NoiseField that patches are taken from."""
_PATCH_PERIODS = (64, 16)
"""Pixels between the lattice points of patches; powers of 2, so that they fit around the world."""


def apply_preset(action: Action, pixels: Pixels, seed: int, box: Box) -> Pixels:
    """What is there under a preset.

    Args:
        action: one of PRESETS.
        pixels: uint8 (box.height, box.width, 3), what is there without it.
        seed: chooses patches and texture.
        box: where the pixels are; the result of a part is the part of the result.

    Returns:
        uint8 (box.height, box.width, 3).
    """
    grain = NoiseField(seed, box.zoom, GRAIN_STREAM).normal(
        box.row, box.column, box.height, box.width, 1, wrap=world_size(box.zoom)
    )[0]
    changed = PRESETS[action](pixels.astype(np.float64), grain.astype(np.float64), _patches(seed, box))
    result: Pixels = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
    return result


def _snow(rgb: Field, grain: Field, patches: Field) -> Field:
    """White but for open water; dark crowns and walls show through."""
    bright = rgb.mean(axis=-1)
    cover = 0.88 + 0.08 * patches - 0.6 * _water(rgb) - 0.35 * _between(70, 25, bright)
    shade = 1.0 + np.clip((bright - 110.0) / 110.0, -1, 1) * 0.06 + 0.012 * grain
    return _mixed(rgb, _colour(236, 240, 246) * shade[..., None], cover)


def _haze(rgb: Field, grain: Field, patches: Field) -> Field:
    """A bright veil, thicker in places."""
    return _mixed(rgb, _colour(199, 205, 212), 0.55 + 0.12 * patches)


def _burn(rgb: Field, grain: Field, patches: Field) -> Field:
    """Char and ash where something grew; water and bare bright ground keep most of their colour."""
    fuel = 0.9 - 0.8 * _water(rgb) - 0.5 * _between(150, 210, rgb.mean(axis=-1))
    ash = 0.7 * _between(0.3, 2.4, patches + 0.25 * grain)
    ground = _mixed(np.broadcast_to(_colour(44, 38, 35), rgb.shape), _colour(112, 106, 102), ash)
    grey = rgb.mean(axis=-1, keepdims=True)
    return _mixed(rgb, 0.75 * ground + 0.25 * (0.4 * rgb + 0.3 * grey), fuel)


def _flood(rgb: Field, grain: Field, patches: Field) -> Field:
    """Muddy water over everything but what is brightest, roofs above all."""
    dry = _between(165, 215, rgb.mean(axis=-1))
    water = _colour(104, 92, 70) + 5.0 * patches[..., None] + 1.5 * grain[..., None]
    return _mixed(rgb, water, 0.93 - 0.55 * dry)


def _summer(rgb: Field, grain: Field, patches: Field) -> Field:
    """Greener where it is dull: brown and grey ground of middling brightness."""
    bright = rgb.mean(axis=-1)
    dull = 1.0 - _between(20, 70, np.ptp(rgb, axis=-1))
    bare = _between(40, 70, bright) * (1.0 - _between(150, 190, bright)) * (1.0 - _water(rgb))
    green = _colour(0.96, 1.25, 0.75) * bright[..., None] * (1.02 + 0.03 * patches[..., None])
    return _mixed(rgb, green, bare * (0.25 + 0.35 * dull + 0.1 * patches) + 0.3 * _green(rgb))


def _autumn(rgb: Field, grain: Field, patches: Field) -> Field:
    """Ochre and rust where it is green, in patches; conifers, the darkest green, stay."""
    bright = rgb.mean(axis=-1)
    turned = _green(rgb) * (0.25 + 0.75 * _between(35, 70, bright)) * (0.8 + 0.15 * patches + 0.08 * grain)
    hue = _between(-1.2, 1.2, patches + 0.5 * grain)
    leaves = _mixed(np.broadcast_to(_colour(1.25, 1.03, 0.5), rgb.shape), _colour(1.38, 0.84, 0.5), hue)
    return _mixed(rgb, leaves * (bright[..., None] + 6.0), turned)


PRESETS: dict[Action, Callable[[Field, Field, Field], Field]] = {
    "snow": _snow,
    "haze": _haze,
    "burn": _burn,
    "flood": _flood,
    "summer": _summer,
    "autumn": _autumn,
}
"""From (h, w, 3) in 0..255, texture (h, w) and patches (h, w), both about of unit variance, to (h, w, 3)."""


def _patches(seed: int, box: Box) -> Field:
    """Smooth noise of two sizes of patches, about of unit variance: (h, w)."""
    layers = [_smooth(NoiseField(seed, box.zoom, PATCH_STREAM + i), box, p) for i, p in enumerate(_PATCH_PERIODS)]
    total: Field = 1.15 * (layers[0] + 0.7 * layers[1])
    return total


def _smooth(noise: NoiseField, box: Box, period: int) -> Field:
    """Noise at every `period`-th pixel, blended in between with weights that are flat at the lattice points."""
    (top, rows), (left, columns) = (_cells(start, length, period) for start, length in _sides(box))
    wrap = world_size(box.zoom) // period
    lattice = noise.normal(top, left, int(rows[0].max()) + 2, int(columns[0].max()) + 2, 1, wrap=wrap)[0]
    (r, down), (c, right) = rows, columns
    upper = _mixed_plain(lattice[np.ix_(r, c)], lattice[np.ix_(r, c + 1)], right[None, :])
    lower = _mixed_plain(lattice[np.ix_(r + 1, c)], lattice[np.ix_(r + 1, c + 1)], right[None, :])
    return _mixed_plain(upper, lower, down[:, None])


def _sides(box: Box) -> tuple[tuple[int, int], tuple[int, int]]:
    return (box.row, box.height), (box.column, box.width)


def _cells(start: int, length: int, period: int) -> tuple[int, tuple[npt.NDArray[np.int64], Field]]:
    """The first lattice point, and for each pixel the cell counted from there and the share of the next point."""
    pixels = np.arange(start, start + length)
    share = (pixels % period + 0.5) / period
    return start // period, (pixels // period - start // period, share * share * (3.0 - 2.0 * share))


def _mixed_plain(one: Field, other: Field, share: Field) -> Field:
    return one + (other - one) * share


def _mixed(one: Field, other: Field, share: Field) -> Field:
    """(h, w, 3) towards another colour by a share (h, w), which is cut to 0..1."""
    return one + (other - one) * np.clip(share, 0.0, 1.0)[..., None]


def _between(low: float, high: float, value: Field) -> Field:
    """0 at `low`, 1 at `high`, smooth in between; falls where `low` is the larger."""
    share = np.clip((value - low) / (high - low), 0.0, 1.0)
    result: Field = share * share * (3.0 - 2.0 * share)
    return result


def _colour(red: float, green: float, blue: float) -> Field:
    return np.array([red, green, blue], dtype=np.float64)


def _water(rgb: Field) -> Field:
    """How much a pixel looks like open water: dark, and bluer than it is red."""
    return _between(5, 30, rgb[..., 2] - rgb[..., 0]) * _between(130, 80, rgb.mean(axis=-1))


def _green(rgb: Field) -> Field:
    """How much a pixel looks like something that grows: greener than it is red or blue."""
    return _between(0, 14, rgb[..., 1] - 0.5 * (rgb[..., 0] + rgb[..., 2]))

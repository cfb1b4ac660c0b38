"""Make `earthgen/roots/earth.jp2`: NASA's Blue Marble in Web Mercator, graded, with water in place of the sea floor.

    python -m training.roots.earth [--output PATH] [--rate 24]

Children average to their parent exactly, so the tones here rule every finer level. Blue Marble is far darker
over forest and sea than aerial pictures are, and it shows the sea floor. So the land goes through one tone
curve a colour, and the sea is painted anew: a slowly varying blue that knows latitude, the distance to the
coast and, softly, where the water is shallow. Coral banks and turbid water, which Blue Marble shows in their
true colour, are kept. The mask of the water is read from the picture itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from scipy.interpolate import PchipInterpolator

from earthgen.pyramid import EQUATOR_GSD, ROOT_ZOOM, row_latitudes
from earthgen.roots import EARTH_MARGIN
from earthgen.roots.sea import colour, row_colours
from training.roots.sources import SIZE, Floats, picture, to_mercator

OUTPUT = Path(__file__).parents[2] / "earthgen" / "roots" / "earth.jp2"

_PAD = 16
_NICK = (slice(2549, 2557), slice(-4, None))
"""Rows and columns of a dark nick in the source, at 180 degrees on the Ross Ice Shelf."""

# Blue Marble level -> root level for red, green and blue; anchored on rain forest (22, 35, 9), boreal forest
# (42, 49, 24), European and American farmland (49, 60, 24) and (58, 66, 33), the Australian desert (109, 68, 39),
# the Sahara (182, 154, 119) and ice (253, 253, 253).
TONE_CURVES: tuple[tuple[tuple[float, float], ...], ...] = (
    ((0, 30), (22, 54), (42, 73), (58, 93), (109, 150), (158, 184), (182, 200), (220, 222), (255, 238)),
    ((0, 38), (35, 76), (49, 87), (66, 104), (90, 125), (126, 152), (154, 174), (210, 216), (255, 242)),
    ((0, 37), (9, 48), (24, 61), (39, 76), (91, 113), (119, 138), (200, 207), (255, 246)),
)


def matte(source: Floats, relief: Floats) -> tuple[Floats, Floats, Floats]:
    """Separate Blue Marble into land and water.

    Args:
        source: (h, w, 3) Blue Marble.
        relief: (h, w, 3) ETOPO1, which tells islands from dark spots in the source's polar seas.

    Returns:
        The share of land (h, w), 0 .. 1; the land's own colour (h, w, 3) with the water mixed out of coast pixels;
        and the water's departure from the colours of the painted sea floor (h, w, 3), 0 where there is none.
    """
    source = source.copy()
    source[_NICK] = source[_NICK[0], :1]
    # Some columns from the other side, so that nothing ends at 180 degrees.
    source, relief = (np.pad(image, ((0, 0), (_PAD, _PAD), (0, 0)), mode="wrap") for image in (source, relief))
    red, blue = source[..., 0], source[..., 2]
    # Painted sea floor and black lakes are bluer than any land; snow is bluish too, but bright in red.
    blueness = blue - 1.12 * red
    certain_water = (blueness > 8) & (red < 120)
    certain_land = blueness < 1
    certain_water |= (source.max(-1) < 26) & (blue >= red)
    spots = _polar_spots(source, relief, ~certain_water)
    certain_water |= spots
    certain_land &= ~certain_water
    # Take the certainty off at the border, where pixels are mixtures.
    core_water = ndimage.binary_erosion(certain_water, np.ones((3, 3)))
    core_land = ndimage.binary_erosion(certain_land, np.ones((3, 3)))
    # Where land or water is too narrow to have a core, all of it counts.
    narrow_water = certain_water & ~ndimage.binary_dilation(core_water, iterations=3)
    narrow_land = certain_land & ~ndimage.binary_dilation(core_land, iterations=3)
    water_colour = _local_mean(source, core_water | narrow_water)
    land_colour = _local_mean(source, core_land | narrow_land)
    axis = land_colour - water_colour
    share = ((source - water_colour) * axis).sum(-1) / np.maximum((axis * axis).sum(-1), 60.0)
    share = np.clip(share, 0, 1)
    share[core_water], share[core_land] = 0, 1
    unmixed = (source - (1 - share[..., None]) * water_colour) / np.maximum(share[..., None], 0.5)
    trust = np.clip((share - 0.3) / 0.5, 0, 1)[..., None]
    land = np.clip(trust * unmixed + (1 - trust) * land_colour, 0, 255)

    # The painted floor runs along one line of colours; what is greener and brighter than that is real shallow water.
    level = np.clip((blue - 20.0) / (127.0 - 20.0), 0, 1)
    floor = np.stack([2 + 25 * level, 6 + 63 * level, 20 + 107 * level], axis=-1)
    departure = np.clip(source - floor, 0, None)
    departure = np.where((departure[..., 1] > 9)[..., None] & certain_water[..., None], departure, 0)
    # Beyond 52 degrees, and far from land, what departs is the shading of the painted floor, not the water.
    latitude = np.abs(90 - (np.arange(source.shape[0]) + 0.5) * 180 / source.shape[0])
    departure *= np.clip((52 - latitude) / 4, 0, 1)[:, None, None]
    offshore = ndimage.distance_transform_edt(~core_land)
    departure *= np.clip((22 - offshore) / 6, 0, 1)[..., None]
    share[spots] = 0
    inner = slice(_PAD, -_PAD)
    share, land, departure = (plane[:, inner].astype(np.float32) for plane in (share, land, departure))
    return share, land, departure


def _polar_spots(source: Floats, relief: Floats, land: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Small dark patches of apparent land beyond 60 degrees where ETOPO1 has sea: shadows of the painted floor."""
    labels, count = ndimage.label(land)
    every = np.arange(count + 1)
    rows = np.broadcast_to(np.arange(source.shape[0])[:, None], land.shape)
    latitude = np.abs(90 - (ndimage.mean(rows, labels, every) + 0.5) * 180 / source.shape[0])
    at_sea = ndimage.mean(relief[..., 2] > relief[..., 0] + 12, labels, every)
    bright = ndimage.mean(source.max(-1), labels, every)
    spot = (np.bincount(labels.ravel(), minlength=count + 1) < 150) & (latitude > 60) & (at_sea > 0.7) & (bright < 95)
    spot[0] = False
    return np.asarray(spot[labels])


def sea(share: Floats, shallow: Floats) -> Floats:
    """Colour of the water everywhere.

    Args:
        share: (SIZE, SIZE) share of land.
        shallow: (SIZE, SIZE) 0 .. 1, where the sea is shallow.

    Returns:
        (SIZE, SIZE, 3) in 0 .. 255, smooth.
    """
    latitude = row_latitudes(ROOT_ZOOM, 0, SIZE)
    deep, coast = row_colours(latitude)
    gsd_km = (EQUATOR_GSD / 2**ROOT_ZOOM / 1000 * np.cos(np.radians(latitude)))[:, None]
    pad = SIZE // 8
    distance_km = ndimage.distance_transform_edt(np.pad(share < 0.5, ((0, 0), (pad, pad)), mode="wrap"))[:, pad:-pad]
    distance_km = distance_km * gsd_km
    near = np.exp(-distance_km / 22) * 0.30 + np.exp(-distance_km / 140) * 0.14
    near = smooth(near.astype(np.float32), 1.2)
    weight = near + 0.20 * smooth(shallow, 7.0) + 0.06 * smooth(shallow, 30.0)

    # Currents and plankton: a level or two, hundreds of kilometres wide.
    rng = np.random.Generator(np.random.Philox(key=20041001))
    drift = sum(
        amplitude * _unit(smooth(rng.standard_normal((SIZE, SIZE), dtype=np.float32), sigma))
        for sigma, amplitude in ((90.0, 0.9), (35.0, 0.6), (12.0, 0.35))
    )
    return colour(deep, coast, weight, np.asarray(drift, dtype=np.float32))


def grade_land(land: Floats) -> Floats:
    """Blue Marble's land through the tone curves."""
    levels = np.arange(256)
    tables = [PchipInterpolator(*zip(*curve, strict=True))(levels) for curve in TONE_CURVES]
    return np.stack([np.interp(land[..., k], levels, tables[k]) for k in range(3)], -1).astype(np.float32)


def smooth(plane: Floats, sigma: float) -> Floats:
    """Gaussian blur that wraps in columns; wide blurs run on a reduced plane."""
    reduce = max(1, int(2 ** np.floor(np.log2(sigma / 3)))) if sigma >= 6 else 1
    if reduce > 1:
        small = plane.reshape(plane.shape[0] // reduce, reduce, plane.shape[1] // reduce, reduce).mean((1, 3))
        small = ndimage.gaussian_filter(small, sigma / reduce, mode=("nearest", "wrap"))
        wrapped = np.pad(small, ((4, 4), (4, 4)), mode="wrap")
        wrapped[:4], wrapped[-4:] = wrapped[4], wrapped[-5]
        positions = (np.arange(plane.shape[0]) + 0.5) / reduce - 0.5 + 4
        for axis in (0, 1):
            low = np.floor(positions).astype(int)
            part = (positions - low).astype(np.float32)
            part = part[:, None] if axis == 0 else part[None]
            wrapped = np.take(wrapped, low, axis) * (1 - part) + np.take(wrapped, low + 1, axis) * part
        return wrapped.astype(np.float32)
    return np.asarray(ndimage.gaussian_filter(plane, sigma, mode=("nearest", "wrap")))


def shallows(relief: Floats) -> Floats:
    """Where ETOPO1's colours say that the sea is shallow, 0 .. 1; (h, w)."""
    red, green, blue = (relief[..., k] for k in range(3))
    is_sea = blue > red + 12
    return np.where(is_sea, np.clip((green - 185) / 35, 0, 1), 0).astype(np.float32)


def make() -> npt.NDArray[np.uint8]:
    """The graded Earth, uint8 (SIZE, SIZE, 3)."""
    relief = picture("etopo1")
    share, land, departure = matte(picture("bmng"), relief)
    planes = np.concatenate(
        [share[..., None], grade_land(land) * share[..., None], departure, shallows(relief)[..., None]], -1
    )
    warped = to_mercator(planes)
    share, weighted_land, departure = warped[..., 0], warped[..., 1:4], warped[..., 4:7]
    land = np.clip(weighted_land / np.maximum(share, 0.1)[..., None], 0, 255)
    # Two rounds of JPEG and a warp have blurred the coasts: half of that is taken back.
    share = np.clip((share - 0.5) * 1.5 + 0.5, 0, 1)
    coral = np.clip(np.stack([smooth(departure[..., k], 0.8) for k in range(3)], -1), 0, None)
    water = sea(share, np.clip(warped[..., 7], 0, 1)) + np.array((0.55, 0.7, 0.6), np.float32) * coral
    picture_out = share[..., None] * land + (1 - share[..., None]) * water
    return np.asarray(np.clip(np.rint(_close_seam(picture_out)), 0, 255), dtype=np.uint8)


def _close_seam(picture_in: Floats) -> Floats:
    """The picture without the source's own faint step across 180 degrees: half of it is faded out on each side."""
    slope = (picture_in[:, 1] - picture_in[:, 0] + picture_in[:, -1] - picture_in[:, -2]) / 2
    excess = np.clip(picture_in[:, 0] - picture_in[:, -1] - slope, -8, 8)
    excess = ndimage.gaussian_filter1d(excess, 1.5, axis=0)[:, None]
    ramp = (0.5 * (1 - np.arange(16) / 16))[None, :, None].astype(np.float32)
    result = picture_in.copy()
    result[:, :16] -= ramp * excess
    result[:, -16:] += ramp[:, ::-1] * excess
    return result


def _local_mean(source: Floats, mask: npt.NDArray[np.bool_]) -> Floats:
    """Mean colour of the masked pixels around each pixel; that of the nearest one where none is near."""
    weight = ndimage.gaussian_filter(mask.astype(np.float32), 2.0, mode=("nearest", "wrap"))
    index = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    nearest = source[index[0], index[1]]
    blurred = [ndimage.gaussian_filter(source[..., k] * mask, 2.0, mode=("nearest", "wrap")) for k in range(3)]
    trust = np.clip(weight / 0.05, 0, 1)[..., None]
    mean = trust * np.stack(blurred, -1) / np.maximum(weight, 1e-4)[..., None] + (1 - trust) * nearest
    return np.asarray(mean, dtype=np.float32)


def _unit(plane: Floats) -> Floats:
    return np.asarray((plane - plane.mean()) / plane.std(), dtype=np.float32)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the graded picture of the Earth in Web Mercator.")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--rate", type=float, default=24.0, help="how many times smaller than the pixels")
    arguments = parser.parse_args()
    # The wavelet mirrors a picture at its borders; over the seam at 180 degrees it has to see what is there.
    image = Image.fromarray(np.pad(make(), ((0, 0), (EARTH_MARGIN, EARTH_MARGIN), (0, 0)), mode="wrap"))
    # JPEG 2000 knows no blocks, whose borders the levels below would enlarge and keep; its integer wavelet (5/3)
    # has a lattice of its own at this rate.
    image.save(arguments.output, irreversible=True, quality_mode="rates", quality_layers=[arguments.rate], mct=1)
    print(f"{arguments.output}: {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""Print the numbers of docs/roots.md: the Earth's root and some planets side by side.

    python -m training.roots.statistics [--seeds 1 2 3 4]

Land is its share of the area between 85 N and 85 S. Spectra are one-dimensional, along parallels between 30 S and
30 N, and their slopes are fitted between wavelengths of 60 and 1500 km. Colours are means over area.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from earthgen.roots import planet
from earthgen.roots.colour import load_model
from earthgen.roots.grid import Plane, row_area, row_latitude, row_spacing_km
from earthgen.roots.terrain import terrain
from training.roots.planet import earth_planes
from training.roots.sources import SIZE

WAVELENGTHS_KM = (60.0, 1500.0)


def spectral_slope(plane: Plane) -> float:
    """Slope of log power over log wavenumber along the parallels of the tropics."""
    rows = np.flatnonzero(np.abs(np.degrees(row_latitude(SIZE))) < 30)[::4]
    power = (np.abs(np.fft.rfft(plane[rows], axis=1)) ** 2).mean(0)[1:]
    wavelength = SIZE * float(row_spacing_km(SIZE)[rows].mean()) / np.arange(1, len(power) + 1)
    # Equal weight for equal ratios of wavelengths.
    edges = np.geomspace(*WAVELENGTHS_KM, 13)
    means, centres = [], []
    for low, high in pairwise(edges):
        inside = (wavelength >= low) & (wavelength < high)
        means.append(np.log(power[inside].mean()))
        centres.append(np.log(1 / np.sqrt(low * high)))
    return float(np.polyfit(centres, means, 1)[0])


def describe(name: str, land: Plane, height: Plane, picture: npt.NDArray[np.uint8]) -> str:
    """One row of the table."""
    area = np.broadcast_to(row_area(SIZE), land.shape)
    dry = land > 0.9
    share = float((area * land).sum() / area.sum())
    low = float(area[dry & (height < 0.5)].sum() / area[dry].sum())
    high = float(area[dry & (height > 2.0)].sum() / area[dry].sum())
    colours = []
    for mask in (dry, land < 0.05):
        colours.append(", ".join(f"{np.average(picture[..., k][mask], weights=area[mask]):.0f}" for k in range(3)))
    luminance = picture.astype(np.float32) @ np.array((0.3, 0.59, 0.11), dtype=np.float32)
    return (
        f"| {name} | {share:.2f} | {np.average(height[dry], weights=area[dry]):.2f} | {low:.2f} | {high:.2f} | "
        f"{spectral_slope(height):.2f} | {spectral_slope(luminance):.2f} | {colours[0]} | {colours[1]} |"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure the roots.")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3, 4])
    arguments = parser.parse_args()
    print(
        "| root | land | mean height, km | land < 0.5 km | land > 2 km | slope, height | slope, brightness "
        "| mean land colour | mean sea colour |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    print(describe("Earth", *earth_planes()), flush=True)
    for seed in arguments.seeds:
        started = time.process_time()
        picture = planet.render(seed)
        seconds = time.process_time() - started
        ground = terrain(seed, load_model().tensors["hypsometry.land"])
        print(describe(f"planet {seed}", ground.land, ground.height, picture), f"({seconds:.1f} CPU s)", flush=True)


if __name__ == "__main__":
    main()

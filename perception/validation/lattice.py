"""Does the network's lattice show? Power at its frequencies is compared with power at the others nearby.

The network halves its resolution twice on blocks of 4 x 4 pixels, so what its lattice leaves in a picture repeats every
16 pixels of a level: it is power at multiples of 1/16 cycles a pixel, which spectra of landscapes do not single out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from earthgen.pyramid import WINDOW_SIZE
from perception.validation.findings import Check, Value, at_most, worst
from perception.validation.seams import window_side
from perception.validation.subject import Subject

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]

PERIOD = 16
"""Pixels of a level after which the network's lattice repeats."""
_PASS, _FAIL = 1.5, 2.0
_LEAST_SIDE = 128
"""Pixels along a side of the region from which on a spectrum has enough frequencies."""
_LEAST_PERIOD = 4
_NEAR, _TOO_NEAR = 6, 2
"""Frequencies on each side that a frequency is compared with, and those next to it that are left out."""
_LOWEST = 4
"""Frequencies below this are the landscape's own shape."""


def lattice(subject: Subject) -> Check:
    """Compare the spectrum of the region at the lattice's frequencies with the rest, at every zoom."""
    rows: list[dict[str, Value]] = []
    verdicts = []
    for zoom in subject.zooms:
        box = subject.box(zoom)
        period = PERIOD * window_side(zoom, subject.world.root_zoom) // WINDOW_SIZE
        if period < _LEAST_PERIOD or min(box.height, box.width) < _LEAST_SIDE or zoom <= subject.world.root_zoom - 3:
            continue
        luma = subject.pixels(subject.now, box).astype(np.float64).mean(axis=2)
        peaks = [lattice_peaks(part, period) for part in (luma, luma.T)]
        on, off = (max(pair[which] for pair in peaks) for which in (0, 1))
        verdicts.append(at_most(on / off, _PASS, _FAIL))
        rows.append(
            {
                "zoom": zoom,
                "period, pixels": period,
                "strongest lattice frequency over its neighbours": round(on, 2),
                "strongest other frequency over its neighbours": round(off, 2),
                "ratio": round(on / off, 2),
                "verdict": verdicts[-1],
            }
        )
    found = "; ".join(f"zoom {row['zoom']}: {row['ratio']}" for row in rows)
    return Check(
        "lattice",
        "Lattice",
        "Does a pattern repeat with the blocks of the network?",
        worst(verdicts),
        f"strongest frequency of the lattice over the strongest other one: {found}"
        if rows
        else f"the region has less than {_LEAST_SIDE} x {_LEAST_SIDE} pixels of a generated zoom",
        f"passes up to {_PASS:g}, fails above {_FAIL:g}, warns between",
        "24 places of the real-Earth world at zooms 12 to 18: the shipped weights lie at 0.3 to 1.4, the same weights"
        " in another order at 2.1 to 4.9",
        tuple(rows),
    )


def lattice_peaks(luma: Array, period: int) -> tuple[float, float]:
    """How far the strongest lattice frequency along rows, and the strongest other one, stand above those nearby.

    Args:
        luma: grey levels (h, w).
        period: pixels along a row after which the lattice repeats; w is cut to a multiple of it.

    Returns:
        Ratios of power, the mean over rows, to the median of the frequencies nearby.
    """
    width = luma.shape[1] // period * period
    rows = luma[:, :width] - luma[:, :width].mean()
    # A picture without contrast has no power at all; 1e-9 makes its ratios 1.
    power = (np.abs(np.fft.rfft(rows * np.hanning(width), axis=1)) ** 2).mean(axis=0) + 1e-9
    ratios = np.array([_over_nearby(power, index) for index in range(len(power))])
    on = np.arange(len(power)) % (width // period) == 0
    on[0] = False
    off = ~(on | np.roll(on, 1) | np.roll(on, -1))
    off[:_LOWEST] = False
    return float(ratios[on].max()), float(ratios[off].max())


def _over_nearby(power: Array, index: int) -> float:
    low, high = max(1, index - _NEAR), min(len(power), index + _NEAR + 1)
    near = [power[other] for other in range(low, high) if abs(other - index) > _TOO_NEAR]
    return float(power[index] / np.median(near))

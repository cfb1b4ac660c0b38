"""Do the borders of windows show? Gradients across them are compared with those across other lines of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from earthgen.pyramid import SCALE, WINDOW_SIZE, Box, level_zoom
from perception.validation.drawing import MISSED, fitted
from perception.validation.findings import Check, Figure, Value, Verdict, at_most, worst
from perception.validation.subject import Subject

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]

_PASS, _FAIL = 1.10, 1.25
"""Gradient across window borders over that across other lines."""
_LINE_FAIL = 1.5
"""How much stronger than every other line a single border must be to count as a seam."""
_LINE_WARN = 1.2
_NEIGHBOURS = 4
"""Lines on each side with which a line is compared."""
_LEAST_SIDE = 16
"""Pixels of a window's side from which on its borders can be told from other lines."""
_FLOOR = 0.25
"""Grey levels below which a difference is rounding."""


@dataclass(frozen=True, slots=True)
class _Lines:
    """Lines between pixels, along one axis.

    Attributes:
        places: of the second pixel of each, from the box's edge.
        border: whether windows meet there.
        gradient: mean absolute difference across it.
        jump: gradient, or the step of the mean colour if that stands out more, over what lines nearby have.
    """

    places: npt.NDArray[np.int64]
    border: npt.NDArray[np.bool_]
    gradient: Array
    jump: Array


def seams(subject: Subject) -> Check:
    """Compare window borders with other borders of blocks, at every zoom of the region."""
    rows: list[dict[str, Value]] = []
    figures: list[Figure] = []
    verdicts: list[Verdict] = []
    for zoom in subject.zooms:
        box = subject.box(zoom)
        side = window_side(zoom, subject.world.root_zoom)
        block = max(1, SCALE * side // WINDOW_SIZE)
        if zoom < subject.world.root_zoom - 3 or side < _LEAST_SIDE:
            continue
        pixels = subject.pixels(subject.now, box)
        axes = [_lines(pixels, box.column, side, block), _lines(pixels.swapaxes(0, 1), box.row, side, block)]
        if not any(lines.border.any() for lines in axes):
            continue
        borders, elsewhere = (
            np.concatenate([lines.gradient[lines.border == which] for lines in axes]) for which in (True, False)
        )
        ratio = float((borders.mean() + _FLOOR) / (elsewhere.mean() + _FLOOR))
        border_jumps, other_jumps = (
            np.concatenate([lines.jump[lines.border == which] for lines in axes]) for which in (True, False)
        )
        # The strongest of many lines is high by chance: a border has to stand out of the strongest of the others.
        usual = max(1.0, float(other_jumps.max()))
        strongest = float(border_jumps.max()) / usual
        verdict = worst([at_most(ratio, _PASS, _FAIL), at_most(strongest, _LINE_WARN, _LINE_FAIL)])
        verdicts.append(verdict)
        rows.append(
            {
                "zoom": zoom,
                "borders": len(borders),
                "other lines": len(elsewhere),
                "border over other lines": round(ratio, 3),
                "strongest border over strongest other line": round(strongest, 3),
                "verdict": verdict,
            }
        )
        limit = _LINE_WARN * usual
        caption = f"Zoom {zoom}: borders of windows are marked at the edge; red lines stand out"
        figures.append(Figure(fitted(_drawn(pixels, axes, limit)), caption))
    found = "; ".join(
        f"zoom {row['zoom']}: {row['border over other lines']}, strongest"
        f" {row['strongest border over strongest other line']}"
        for row in rows
    )
    return Check(
        "seams",
        "Seams",
        "Is the gradient across the borders of windows as strong as across other lines of the same lattice of blocks?",
        worst(verdicts),
        found or "no border of windows lies in the region at the zooms that are looked at",
        f"passes if borders have at most {_PASS:g} times the gradient of other lines and no border stands out more than"
        f" {_LINE_WARN:g} times; fails above {_FAIL:g} or {_LINE_FAIL:g} times; warns between",
        "1 is no seam; the shipped weights lie at 0.94 to 1.06 over ten places a zoom (docs/benchmarks.md), and single borders"
        " are held against the strongest other line of the same picture",
        tuple(rows),
        tuple(figures),
    )


def window_side(zoom: int, root_zoom: int) -> int:
    """Pixels along the side of a window as seen at a zoom."""
    return WINDOW_SIZE >> level_zoom(zoom, root_zoom) - zoom


def _lines(pixels: Pixels, first: int, side: int, block: int) -> _Lines:
    """The lines between columns of a picture (h, w, 3) at borders of blocks; `first` is its first column in the world."""
    values = pixels.astype(np.float64)
    places = np.array([at for at in range(1, pixels.shape[1]) if (first + at) % block == 0], dtype=np.int64)
    differences = values[:, places] - values[:, places - 1]
    gradient = np.abs(differences).mean(axis=(0, 2))
    # A seam of tone shifts the mean of a whole line, which texture does not.
    step = np.abs(differences.mean(axis=0)).max(axis=1)
    jump = np.maximum(_over_neighbours(gradient), _over_neighbours(step, gradient))
    return _Lines(places, (first + places) % side == 0, gradient, jump)


def _over_neighbours(values: Array, scale: Array | None = None) -> Array:
    """Each value over the mean of those nearby, or over the mean of another quantity nearby."""
    scale = values if scale is None else scale
    out = np.ones_like(values)
    for index in range(len(values)):
        low, high = max(0, index - _NEIGHBOURS), index + _NEIGHBOURS + 1
        near = np.delete(scale[low:high], index - low)
        if near.size:
            out[index] = (values[index] + _FLOOR) / (near.mean() + _FLOOR)
    return out


def _drawn(pixels: Pixels, axes: list[_Lines], limit: float) -> Pixels:
    out = pixels.copy()
    tick = max(4, min(out.shape[:2]) // 40)
    for lines, view in zip(axes, (out, out.swapaxes(0, 1)), strict=True):
        for place, border, jump in zip(lines.places, lines.border, lines.jump, strict=True):
            if border and jump > limit:
                view[:, place] = MISSED
            elif border:
                view[:tick, place] = view[-tick:, place] = (255, 255, 255)
    return out

"""Do the borders of windows show? Gradients across them are compared with those across other lines of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from earthgen.pyramid import SCALE, WINDOW_SIZE, level_zoom
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
LATTICE = 32
"""Pixels of a level between the lines that window borders are compared with; see benchmarks/seams.py."""
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
        lattice: whether the network's coarsest blocks meet there, as they do at the borders of windows.
        excess: gradient over what lines nearby have.
        step: grey levels by which the mean colour jumps more than at lines nearby.
    """

    places: npt.NDArray[np.int64]
    border: npt.NDArray[np.bool_]
    lattice: npt.NDArray[np.bool_]
    gradient: Array
    excess: Array
    step: Array


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
        border, lattice = _joined(axes, "border"), _joined(axes, "lattice")
        like_borders = lattice & ~border
        if not border.any() or not like_borders.any():
            continue
        gradient = _joined(axes, "gradient")
        ratio = float((gradient[border].mean() + _FLOOR) / (gradient[like_borders].mean() + _FLOOR))
        # The strongest of many lines is high by chance: a border has to stand out of the strongest of the others.
        stands_out = np.maximum(
            *(_joined(axes, what) / _joined(axes, what)[~border].max() for what in ("excess", "step"))
        )
        strongest = float(stands_out[border].max())
        verdict = worst([at_most(ratio, _PASS, _FAIL), at_most(strongest, _LINE_WARN, _LINE_FAIL)])
        verdicts.append(verdict)
        rows.append(
            {
                "zoom": zoom,
                "borders": int(border.sum()),
                "like lines": int(like_borders.sum()),
                "border over like lines": round(ratio, 3),
                "strongest border over strongest other line": round(strongest, 3),
                "verdict": verdict,
            }
        )
        caption = f"Zoom {zoom}: borders of windows are marked at the edge; red lines stand out"
        figures.append(Figure(fitted(_drawn(pixels, axes, stands_out > _LINE_WARN)), caption))
    found = "; ".join(
        f"zoom {row['zoom']}: {row['border over like lines']}, strongest"
        f" {row['strongest border over strongest other line']}"
        for row in rows
    )
    return Check(
        "seams",
        "Seams",
        "Is the gradient across the borders of windows as strong as across other lines of the network's lattice, and"
        " does no single border stand out?",
        worst(verdicts),
        found or "no border of windows lies in the region at the zooms that are looked at",
        f"passes if borders have at most {_PASS:g} times the gradient of like lines and no border stands out more than"
        f" {_LINE_WARN:g} times; fails above {_FAIL:g} or {_LINE_FAIL:g} times; warns between",
        "1 is no seam; the shipped weights lie at 0.94 to 1.06 over ten places a zoom (docs/benchmarks.md), and single"
        " borders are held against the strongest other line of the same picture",
        tuple(rows),
        tuple(figures),
    )


def window_side(zoom: int, root_zoom: int) -> int:
    """Pixels along the side of a window as seen at a zoom."""
    return WINDOW_SIZE >> level_zoom(zoom, root_zoom) - zoom


def _lines(pixels: Pixels, first: int, side: int, block: int) -> _Lines:
    """Lines between columns of a picture (h, w, 3) at borders of blocks; its first column is the world's `first`."""
    values = pixels.astype(np.float64)
    places = np.array([at for at in range(1, pixels.shape[1]) if (first + at) % block == 0], dtype=np.int64)
    differences = values[:, places] - values[:, places - 1]
    gradient = np.abs(differences).mean(axis=(0, 2))
    mean_steps = differences.mean(axis=0)
    step = np.abs(mean_steps - np.stack([_nearby(each) for each in mean_steps.T], axis=1)).max(axis=1)
    at = first + places
    excess = (gradient + _FLOOR) / (_nearby(gradient) + _FLOOR)
    return _Lines(
        places, at % side == 0, at % max(1, side * LATTICE // WINDOW_SIZE) == 0, gradient, excess, step + _FLOOR
    )


def _nearby(values: Array) -> Array:
    """For each value the mean of those before and after it; of a single one the value itself."""
    out = values.copy()
    for index in range(len(values)):
        near = np.delete(values[max(0, index - _NEIGHBOURS) : index + _NEIGHBOURS + 1], min(index, _NEIGHBOURS))
        if near.size:
            out[index] = near.mean()
    return out


def _joined(axes: list[_Lines], what: str) -> npt.NDArray[Any]:
    """Something about the lines of both axes."""
    return np.concatenate([getattr(lines, what) for lines in axes])


def _drawn(pixels: Pixels, axes: list[_Lines], stands_out: npt.NDArray[np.bool_]) -> Pixels:
    out = pixels.copy()
    tick = max(4, min(out.shape[:2]) // 40)
    parts = np.split(stands_out, [len(axes[0].places)])
    for lines, loud, view in zip(axes, parts, (out, out.swapaxes(0, 1)), strict=True):
        for place in lines.places[lines.border]:
            view[:tick, place] = view[-tick:, place] = (255, 255, 255)
        for place in lines.places[lines.border & loud]:
            view[:, place] = MISSED
    return out

"""Does zooming change the world? Children have to average to the pixels of the coarser zooms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from earthgen.pyramid import LEVEL_ZOOMS, Box
from perception.validation.drawing import fitted
from perception.validation.findings import Check, Figure, Value, at_most, worst
from perception.validation.subject import Subject

Pixels = npt.NDArray[np.uint8]

_GREY_LEVELS = 1.0
"""How far a mean may lie from its parent: what the project promises for every zoom."""
_ROUNDING = 1e-6
_STEPS = (1, LEVEL_ZOOMS)


def parents(subject: Subject) -> Check:
    """Compare the region with itself one and two zooms coarser, at every zoom and in every state."""
    rows: list[dict[str, Value]] = []
    figures: list[Figure] = []
    verdicts = []
    for zoom in subject.zooms:
        for step in _STEPS:
            if zoom - step < subject.world.min_zoom:
                continue
            box = _whole_parents(subject.box(zoom), step)
            coarse = Box(box.zoom - step, *(value >> step for value in (box.row, box.column, box.height, box.width)))
            for moment in subject.moments:
                apart = _apart(subject.pixels(moment, box), subject.engine.pixels(moment.world, coarse), step)
                verdicts.append(at_most(float(apart.max()), _GREY_LEVELS + _ROUNDING, _GREY_LEVELS + _ROUNDING))
                rows.append(
                    {
                        "zoom": zoom,
                        "parents at zoom": zoom - step,
                        "state": moment.name,
                        "parents": coarse.height * coarse.width,
                        "largest difference, grey levels": round(float(apart.max()), 3),
                        "mean difference": round(float(apart.mean()), 4),
                        "parents that differ too much": int((apart.max(axis=2) > _GREY_LEVELS + _ROUNDING).sum()),
                        "verdict": verdicts[-1],
                    }
                )
                if verdicts[-1] == "fail":
                    wrong = np.repeat((apart.max(axis=2, keepdims=True) > _GREY_LEVELS + _ROUNDING) * 255, 3, axis=2)
                    caption = f"Zoom {zoom - step}, {moment.name}: white where children do not average to their parent"
                    figures.append(Figure(fitted(wrong.astype(np.uint8)), caption))
    most = max((row["largest difference, grey levels"] for row in rows), default=None)  # type: ignore[type-var]
    return Check(
        "parents",
        "Parents and children",
        "Do the pixels of each zoom average to those of the coarser zooms?",
        worst(verdicts),
        f"largest difference {most} grey levels over {len(rows)} comparisons"
        if rows
        else "the world has no coarser zooms than those that are looked at",
        f"passes up to {_GREY_LEVELS:g} grey level, fails above",
        "what the engine promises by construction",
        tuple(rows),
        tuple(figures),
    )


def _whole_parents(box: Box, step: int) -> Box:
    """The smallest box that holds one and consists of whole pixels `step` zooms coarser."""
    row, column = box.row >> step, box.column >> step
    bottom, right = (box.row + box.height - 1 >> step) + 1, (box.column + box.width - 1 >> step) + 1
    return Box(box.zoom, row << step, column << step, bottom - row << step, right - column << step)


def _apart(children: Pixels, parent: Pixels, step: int) -> npt.NDArray[np.float64]:
    """Grey levels (h, w, 3) between parents and the means of their children."""
    side = 1 << step
    height, width = parent.shape[:2]
    means = children.astype(np.float64).reshape(height, side, width, side, 3).mean(axis=(1, 3))
    apart: npt.NDArray[np.float64] = np.abs(means - parent)
    return apart

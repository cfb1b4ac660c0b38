"""Is the lake where the lake was asked for? A referring segmenter looks for the prompt of each edit."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from perception.validation.drawing import ASKED, FOUND, fitted, outlined, tinted
from perception.validation.edit_masks import visible_edits
from perception.validation.findings import Check, Figure, Value, at_least, worst
from perception.validation.prompt_adherence import LEAST_PIXELS
from perception.validation.subject import Subject

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_PASS, _FAIL = 0.5, 0.25
_MOST_SIDE = 1024
"""Pixels along a side of the picture in which an edit is looked for: the edit and as much again around it."""


class Segmented(Protocol):
    """What a segmenter says of a picture and a phrase: `mask`, bool (h, w)."""

    @property
    def mask(self) -> Any: ...  # noqa: D102


class Segmenter(Protocol):
    """Finds what a phrase names; `perception.load("rsrefseg")` is one."""

    def segment(self, image: Pixels, phrase: str) -> Segmented:
        """Look for a phrase in uint8 (h, w, 3)."""
        ...


def segmentation(subject: Subject, segmenter: Segmenter | None, why_not: str = "") -> Check:
    """Look for the prompt of every edit by prompt that is in sight, in the picture of the edit and its surroundings."""
    rows: list[dict[str, Value]] = []
    figures: list[Figure] = []
    verdicts = []
    for zoom in subject.zooms if segmenter is not None else ():
        assert segmenter is not None
        box = subject.box(zoom)
        for number, (edit, mask) in enumerate(visible_edits(subject.now.world, box, LEAST_PIXELS)):
            if edit.action != "prompt":
                continue
            part = _around(mask)
            picture, asked = np.ascontiguousarray(subject.pixels(subject.now, box)[part]), mask[part]
            found = np.asarray(segmenter.segment(picture, edit.prompt).mask, dtype=np.bool_)
            both, either = int((found & asked).sum()), int((found | asked).sum())
            iou = both / either
            verdicts.append(at_least(iou, _PASS, _FAIL))
            rows.append(
                {
                    "zoom": zoom,
                    "edit": number + 1,
                    "prompt": edit.prompt,
                    "IoU": round(iou, 3),
                    "precision": round(both / max(1, int(found.sum())), 3),
                    "recall": round(both / int(asked.sum()), 3),
                    "IoU of everything": round(float(asked.mean()), 3),
                    "verdict": verdicts[-1],
                }
            )
            seen = outlined(tinted(picture, found, FOUND), asked, ASKED, max(1, min(asked.shape) // 200))
            figures.append(Figure(fitted(seen), f'Zoom {zoom}, "{edit.prompt}": asked for (yellow) and found (purple)'))
    said = "; ".join(f"zoom {row['zoom']}, {row['prompt']}: IoU {row['IoU']}" for row in rows)
    return Check(
        "segmentation",
        "Prompts of edits, by RSRefSeg",
        "Does referring segmentation find the prompt of each edit where the edit is?",
        worst(verdicts),
        why_not or said or "no edit by prompt is in sight",
        f"passes from an IoU of {_PASS:g} on, fails below {_FAIL:g}, warns between; the worst edit counts",
        "half is where the field counts a mask as found (precision at 0.5); what the segmenter reaches on held-out"
        " pictures is in its card",
        tuple(rows),
        tuple(figures),
    )


def _around(mask: Mask) -> tuple[slice, slice]:
    """The bounds of a mask and half as much again on each side, at most _MOST_SIDE along a side."""
    parts = []
    for axis in (1, 0):
        places = np.flatnonzero(mask.any(axis=axis))
        first, length, size = int(places[0]), int(places[-1] - places[0]) + 1, mask.shape[1 - axis]
        start, end = max(0, first - length // 2), min(size, first + length + length // 2)
        if end - start > _MOST_SIDE:
            start = min(max(0, first + length // 2 - _MOST_SIDE // 2), size - _MOST_SIDE)
            end = start + _MOST_SIDE
        parts.append(slice(start, end))
    return parts[0], parts[1]

"""Do edits change what they cover, and nothing else? Two states of the world against the masks of the edits between.

Outside the edits no byte may move: that is exact. Inside, a change detector has to see what the edits did.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from perception.detector import ChangeDetector
from perception.pair import Pair
from perception.validation.drawing import ASKED, FOUND, MISSED, beside, fitted, outlined, tinted
from perception.validation.edit_masks import changed
from perception.validation.findings import Check, Figure, Value, Verdict, at_least, at_most, worst
from perception.validation.subject import Subject

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

MOST_SIDE = 512
"""Pixels along a side of the part of the region in which changes are looked for, around the middle of the edits."""
_PASS, _FAIL = 0.5, 0.25
_STILL_PASS, _STILL_FAIL = 0.01, 0.05


def edit_bounds(subject: Subject) -> Check:
    """Count pixels that differ between two states although no edit between the two touches them."""
    rows: list[dict[str, Value]] = []
    figures: list[Figure] = []
    verdicts: list[Verdict] = []
    for zoom in subject.zooms:
        box = subject.box(zoom)
        for before, after in subject.pairs:
            _, may_differ = changed(before.world, after.world, box)
            first, second = (subject.pixels(moment, box) for moment in (before, after))
            differs = (first != second).any(axis=2)
            astray = differs & ~may_differ
            verdicts.append("fail" if astray.any() else "pass")
            rows.append(
                {
                    "zoom": zoom,
                    "from": before.name,
                    "to": after.name,
                    "pixels": differs.size,
                    "touched by edits": int(may_differ.sum()),
                    "that differ": int(differs.sum()),
                    "that differ outside": int(astray.sum()),
                    "verdict": verdicts[-1],
                }
            )
            if astray.any():
                picture = outlined(tinted(second, astray, MISSED, 0.8), may_differ, ASKED, 2)
                caption = (
                    f"Zoom {zoom}, {before.name} to {after.name}: edits (yellow), and what moved outside them (red)"
                )
                figures.append(Figure(fitted(picture), caption))
    outside = sum(int(row["that differ outside"] or 0) for row in rows)
    return Check(
        "edit-bounds",
        "Bounds of edits",
        "Does any byte differ where no edit is?",
        worst(verdicts),
        f"{outside} pixels differ outside of the edits" if rows else "there are no two states to compare",
        "passes if none differs, fails otherwise",
        "what the engine promises by construction",
        tuple(rows),
        tuple(figures),
    )


def change_agreement(subject: Subject, detectors: Sequence[ChangeDetector], why_not: str = "") -> Check:
    """Compare what detectors find between two states with the edits between the two."""
    rows: list[dict[str, Value]] = []
    figures: list[Figure] = []
    verdicts: list[Verdict] = []
    for zoom in subject.zooms if detectors else ():
        box = subject.box(zoom)
        for before, after in subject.pairs:
            asked, touched = changed(before.world, after.world, box)
            part = window_around(asked, MOST_SIDE)
            asked, open_ = asked[part], (touched & ~asked)[part]
            first, second = (np.ascontiguousarray(subject.pixels(each, box)[part]) for each in (before, after))
            pair = Pair(first, second)
            of_this: list[Verdict] = []
            seen: list[Pixels] = []
            for detector in detectors:
                found = detector.detect(pair).mask
                row, verdict = _compared(found, asked, open_)
                of_this.append(verdict)
                seen.append(outlined(tinted(pair.after, found, FOUND), asked, ASKED, 2))
                rows.append({"zoom": zoom, "from": before.name, "to": after.name, "detector": detector.name, **row})
            # A change that one detector sees is there to be seen.
            verdicts.append(next(verdict for verdict in ("pass", "warn", "fail") if verdict in of_this))
            names = ", ".join(detector.name for detector in detectors)
            states = f"Zoom {zoom}, {before.name} and {after.name}"
            caption = f"{states}, then edits (yellow) and what was found (purple) by {names}"
            figures.append(Figure(fitted(beside([pair.before, pair.after, *seen]), 1280), caption))
    found_text = "; ".join(f"zoom {row['zoom']}, {row['detector']}: F1 {row['F1']}" for row in rows)
    reason = why_not or ("" if subject.pairs else "there are no two states to compare: give edits, or two dates")
    return Check(
        "change",
        "Changes, by detectors",
        "Does a change detector find the edits between two states, and nothing where there are none?",
        worst(verdicts),
        reason or found_text,
        f"passes from F1 = {_PASS:g} on, fails below {_FAIL:g}, warns between; where no edit is in sight, passes up to"
        f" {_STILL_PASS:.0%} of false alarms and fails above {_STILL_FAIL:.0%}; the best detector counts, and the worst"
        " pair",
        "on held-out pairs of the engine the shipped detectors reach F1 0.80 (cdmamba) and 0.69 (semantic-cd), see"
        " docs/change.md",
        tuple(rows),
        tuple(figures),
    )


def _compared(found: Mask, asked: Mask, open_: Mask) -> tuple[dict[str, Value], Verdict]:
    """Scores over pixels that are not open: those on which an edit fades in count neither way."""
    counted = ~open_
    both = int((found & asked & counted).sum())
    alarms, misses = int((found & ~asked & counted).sum()), int((~found & asked & counted).sum())
    false_alarms = alarms / max(1, int((~asked & counted).sum()))
    row: dict[str, Value] = {"edited": round(float(asked.mean()), 3), "false alarms": round(false_alarms, 4)}
    if not asked.any():
        verdict = at_most(false_alarms, _STILL_PASS, _STILL_FAIL)
        return row | {"IoU": None, "F1": None, "verdict": verdict}, verdict
    f1 = 2 * both / (2 * both + alarms + misses)
    verdict = at_least(f1, _PASS, _FAIL)
    return row | {"IoU": round(both / (both + alarms + misses), 3), "F1": round(f1, 3), "verdict": verdict}, verdict


def window_around(mask: Mask, most: int) -> tuple[slice, slice]:
    """A part of a mask's array of at most `most` along a side, around the middle of what is set, or of the array."""
    parts = []
    for axis in (1, 0):
        size = mask.shape[1 - axis]
        places = np.flatnonzero(mask.any(axis=axis))
        middle = int(places[0] + places[-1]) // 2 if places.size else size // 2
        length = min(size, most)
        start = min(max(0, middle - length // 2), size - length)
        parts.append(slice(start, start + length))
    return parts[0], parts[1]

"""Does a region look like real imagery of its ground sampling distance? Two checks: anomaly, and the spectrum."""

from __future__ import annotations

import numpy as np

from earthgen.pyramid import Box
from perception.validation.anomaly import QUANTILES, SIDE, THRESHOLD, AnomalyScorer, Scores, cut_squares
from perception.validation.drawing import fitted, heat
from perception.validation.findings import Check, Figure, Value, at_most, worst
from perception.validation.subject import Subject, gsd_of

_TITLE = "Anomaly against real imagery"
_ASKS = (
    f"How far does each square of {SIDE} pixels lie from real imagery of its ground sampling distance, in the"
    " texture that the first stages of an ImageNet network see?"
)
_SPECTRUM_ASKS = (
    "Does power fall with frequency as in real imagery of the same ground sampling distance? Too steep is blurred, too"
    " flat is noisy."
)
_PASSES = "passes if the median square is at most 1, fails if it is above {fails}, warns between"
_ORIGIN = (
    "1 is the distance below which {first:.0%} of held-out real crops of the band lie, the second number that of"
    " {second:.0%}, or {near:g} if that is more"
)
_STEEP, _STEEPER = 2.0, 3.0
_FAIL = QUANTILES.index(0.99)
_NEAR = 1.25
"""Fails above this at least: where held-out crops are of few pictures, their highest quantiles lie close together."""


def realism(subject: Subject, scorer: AnomalyScorer | None, why_not: str = "") -> tuple[Check, Check]:
    """The two checks.

    Args:
        subject: what is looked at.
        scorer: None if there are no statistics.
        why_not: the reason for that.
    """
    boxes = [subject.box(zoom) for zoom in subject.zooms]
    large = [box for box in boxes if min(box.height, box.width) >= SIDE]
    if scorer is None or not large:
        reason = why_not or f"the region has less than {SIDE} x {SIDE} pixels at every zoom that is looked at"
        origin = _ORIGIN.format(first=QUANTILES[THRESHOLD], second=QUANTILES[_FAIL], near=_NEAR)
        return (
            Check("anomaly", _TITLE, _ASKS, "not applicable", reason, _PASSES.format(fails="a second number"), origin),
            Check(
                "spectrum", "Power spectrum", _SPECTRUM_ASKS, "not applicable", reason, _spectrum_passes(), _ORIGIN_S
            ),
        )
    reference = scorer.reference
    rows: list[dict[str, Value]] = []
    slopes: list[dict[str, Value]] = []
    figures: list[Figure] = []
    verdicts, slope_verdicts, limits = [], [], []
    for box in large:
        pixels, gsd = subject.pixels(subject.now, box), gsd_of(box)
        scores = scorer.squares(cut_squares(pixels), gsd)
        band = reference.band(gsd)
        limit = max(_NEAR, float(reference.distances[band, 0, _FAIL] / reference.distances[band, 0, THRESHOLD]))
        limits.append(limit)
        anomaly = _median(scores, "anomaly")
        verdicts.append(at_most(anomaly, 1.0, limit))
        rows.append(
            {
                "zoom": box.zoom,
                "GSD, m": round(gsd, 3),
                "squares": len(scores),
                "anomaly, median": round(anomaly, 3),
                "largest": round(max(score.anomaly for score in scores), 3),
                "above 1": f"{np.mean([score.anomaly > 1 for score in scores]):.0%}",
                "fails above": round(limit, 3),
                "Mahalanobis, median": round(_median(scores, "mahalanobis"), 3),
                "clipped": f"{np.mean([score.clipped for score in scores]):.2%}",
                "saturation": round(_median(scores, "saturation"), 3),
                "verdict": verdicts[-1],
            }
        )
        slope = _median(scores, "slope")
        slope_verdicts.append(at_most(abs(slope), _STEEP, _STEEPER))
        slopes.append(
            {
                "zoom": box.zoom,
                "GSD, m": round(gsd, 3),
                "slope, standard deviations": round(slope, 2),
                "steepest": round(min(score.slope for score in scores), 2),
                "flattest": round(max(score.slope for score in scores), 2),
                "verdict": slope_verdicts[-1],
            }
        )
        places = [(top, left, SIDE) for top, left in _corners(box)]
        caption = f"Zoom {box.zoom}: anomaly of each square; green is 0, yellow 1, red 2, purple 3 and more"
        figures.append(Figure(fitted(heat(pixels, places, [score.anomaly for score in scores])), caption))
    found = "; ".join(f"zoom {row['zoom']}: median {row['anomaly, median']}, {row['above 1']} above 1" for row in rows)
    said = "; ".join(f"zoom {row['zoom']}: {row['slope, standard deviations']:+}" for row in slopes)
    fails = ", ".join(f"{limit:.2f}" for limit in sorted(set(limits)))
    return (
        Check(
            "anomaly",
            _TITLE,
            _ASKS,
            worst(verdicts),
            found,
            _PASSES.format(fails=fails),
            _ORIGIN.format(first=QUANTILES[THRESHOLD], second=QUANTILES[_FAIL], near=_NEAR)
            + f" (statistics {reference.id}, {reference.about.get('held_out', '?')} crops a band)",
            tuple(rows),
            tuple(figures),
        ),
        Check(
            "spectrum",
            "Power spectrum",
            _SPECTRUM_ASKS,
            worst(slope_verdicts),
            f"slope of the median square in standard deviations of real crops: {said}",
            _spectrum_passes(),
            _ORIGIN_S,
            tuple(slopes),
        ),
    )


_ORIGIN_S = "mean and standard deviation of the slope over real crops of the band"


def _spectrum_passes() -> str:
    return f"passes within {_STEEP:g} standard deviations, fails beyond {_STEEPER:g}, warns between"


def _median(scores: list[Scores], name: str) -> float:
    return float(np.median([getattr(score, name) for score in scores]))


def _corners(box: Box) -> list[tuple[int, int]]:
    """Top and left of the squares that `cut_squares` cuts."""
    tops, lefts = ([*range(0, size - SIDE, SIDE), size - SIDE] for size in (box.height, box.width))
    return [(top, left) for top in tops for left in lefts]

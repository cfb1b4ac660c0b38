"""Scores of an item by what looks at worlds (`perception.validation`), to keep it or not.

A score is a function of the item's pictures and masks alone: networks run on one thread, on the pictures of one item at
a time, so it does not matter who scores what when. Scores are rounded before they are compared, as the manifest has
them.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from perception.validation.anomaly import SIDE, shipped_scorer
from trainingsets.errors import DumpSpecError
from trainingsets.keeping import parse
from trainingsets.sample import Sample
from trainingsets.spec import DumpSpec
from trainingsets.tasks import Item, task_of

if TYPE_CHECKING:
    from perception.detector import ChangeDetector

_OF_PICTURES = ("anomaly", "mahalanobis", "slope", "clipped", "saturation")
_DIGITS = 4
_STILL = 0.01
"""Share of false alarms up to which a detector rightly finds nothing."""
_DETECTOR = "cdmamba"

Scores = dict[str, float | None]


def names_of(spec: DumpSpec) -> tuple[str, ...]:
    """The scores that a dump's items are kept by, in the order of their first use."""
    return tuple(dict.fromkeys(condition.name for condition in parse(spec.keep_if)))


def check_scores(spec: DumpSpec) -> None:
    """Raise DumpSpecError unless a dump's items have the scores that they are kept by."""
    names = names_of(spec)
    if names and spec.task == "multi-view":
        raise DumpSpecError(f"keep-if names {names[0]}, which is for pictures from above; multi-view has none")
    if set(names) & set(_OF_PICTURES) and spec.size < SIDE:
        raise DumpSpecError(f"keep-if needs pictures of at least {SIDE} pixels for {names[0]}; size is {spec.size}")
    if "class_p" in names and set(spec.roots) != {"prompt"}:
        raise DumpSpecError("keep-if names class_p, which worlds of root prompt alone have; leave the other roots out")
    if "change_f1" in names and not task_of(spec.task).paired:
        raise DumpSpecError(f"keep-if names change_f1, which task {spec.task} does not have: it has no two dates")


def scored_by(spec: DumpSpec) -> dict[str, str]:
    """What scores depend on, by name; nothing for a dump that keeps everything."""
    names = names_of(spec)
    ids = []
    if set(names) & set(_OF_PICTURES):
        ids.append(f"anomaly-{shipped_scorer().reference.id}")
    if "class_p" in names:
        from earthgen.tower import image_tower

        ids.append(image_tower().id)
    if "change_f1" in names:
        ids.append(_detector_id())
    return {"scores": "+".join(ids)} if ids else {}


def scores_of(item: Item, sample: Sample) -> Scores:
    """The scores that the item's dump keeps by, rounded; None for one that is no number."""
    names = names_of(item.spec)
    found: dict[str, float] = {}
    if set(names) & set(_OF_PICTURES):
        found |= _of_pictures(item, sample)
    if "class_p" in names:
        found["class_p"] = _class_p(item, sample)
    if "change_f1" in names:
        found["change_f1"] = _change_f1(sample)
    return {name: round(found[name], _DIGITS) if math.isfinite(found[name]) else None for name in names}


def is_kept(spec: DumpSpec, scores: Scores) -> bool:
    """Whether an item with these scores is kept."""
    return all(condition.holds(scores) for condition in parse(spec.keep_if))


def _of_pictures(item: Item, sample: Sample) -> dict[str, float]:
    """Scores of the worst picture; small ones, such as the coarse one of super-resolution, have none."""
    scores = [
        shipped_scorer().score(view.pixels, item.metres * (item.spec.size / view.pixels.shape[1]))
        for view in sample.views.values()
        if min(view.pixels.shape[:2]) >= SIDE
    ]
    return {name: max(abs(getattr(score, name)) for score in scores) for name in _OF_PICTURES}


def _class_p(item: Item, sample: Sample) -> float:
    from earthgen.tower import image_tower
    from perception.validation.words import cosines, others, rank_p_value

    tower = image_tower()
    # The first picture: edits of later ones show something else.
    view = next(iter(sample.views.values()))
    prompt = view.world.prompt
    near = cosines(tower, [view.pixels], item.metres, [prompt, *others(tower, [prompt])])[0]
    return rank_p_value(float(near[0]), near[1:])


@functools.cache
def _detector() -> ChangeDetector:
    from perception.registry import load_detector

    return load_detector(_DETECTOR)


def _detector_id() -> str:
    import hashlib

    from perception.checkpoint import FILE
    from perception.registry import MODELS

    folder = MODELS[_DETECTOR].weights
    if folder is None:
        raise DumpSpecError(f"keep-if names change_f1, and no weights of {_DETECTOR} ship with this version")
    return f"{_DETECTOR}-{hashlib.sha256((folder / FILE).read_bytes()).hexdigest()[:12]}"


def _change_f1(sample: Sample) -> float:
    from earthgen.conditioning import one_thread
    from perception.pair import Pair

    before, after = (sample.views[role].pixels for role in ("before", "after"))
    with one_thread():
        found = _detector().detect(Pair(before, after)).mask
    asked = sample.masks["change"] > 0
    if not asked.any():
        return float(np.mean(found) <= _STILL)
    return float(2 * (found & asked).sum() / (found.sum() + asked.sum()))

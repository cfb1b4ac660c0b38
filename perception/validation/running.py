"""The validators in order, with what they need: loaded once, and left out with a reason where it is absent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from earthgen.errors import InvalidRequestError, WeightsError
from earthgen.pyramid import Bounds
from earthgen.tower import ImageTower, image_tower
from earthgen.world import World
from perception.errors import DependencyError, first_line
from perception.registry import MODELS, load, load_captioner, load_detector
from perception.validation.anomaly import AnomalyScorer, shipped_scorer
from perception.validation.caption_agreement import caption_agreement
from perception.validation.change_agreement import change_agreement, edit_bounds
from perception.validation.class_adherence import class_adherence
from perception.validation.drawing import fitted
from perception.validation.findings import Check, Figure, Report, Value
from perception.validation.lattice import lattice
from perception.validation.parents import parents
from perception.validation.prompt_adherence import prompt_adherence
from perception.validation.realism import realism
from perception.validation.seams import seams
from perception.validation.segmentation import segmentation
from perception.validation.subject import PixelSource, Subject, gsd_of, subject_of

CHECKS = (
    "anomaly",
    "spectrum",
    "seams",
    "lattice",
    "parents",
    "class",
    "prompt",
    "segmentation",
    "edit-bounds",
    "change",
    "caption",
)
"""Every check by name, in the order of reports."""
DETECTORS = ("cdmamba", "semantic-cd")
CAPTIONERS = ("rscama", "mci", "semantic-cc")
SEGMENTER = "rsrefseg"

Progress = Callable[[int, int], None]
Tool = TypeVar("Tool")


@dataclass(slots=True)
class Tools:
    """What the validators look with; what is None is found among what ships.

    Attributes:
        tower: pictures and texts in one space.
        scorer: statistics of real imagery.
        detectors: that find changes.
        captioners: that describe changes.
        segmenter: that finds what a phrase names.
    """

    tower: ImageTower | None = None
    scorer: AnomalyScorer | None = None
    detectors: Sequence[Any] | None = None
    captioners: Sequence[Any] | None = None
    segmenter: Any = None


def validate(
    engine: PixelSource,
    world: World,
    bounds: Bounds | None = None,
    *,
    zooms: Sequence[int] | None = None,
    dates: Sequence[str] = (),
    checks: Sequence[str] = CHECKS,
    tools: Tools | None = None,
    progress: Progress | None = None,
) -> Report:
    """Look at a region of a world.

    Args:
        engine: makes the pixels.
        world: which world, its edits with their dates.
        bounds: west, south, east, north in degrees; None is the picture of a world by prompt, or all of another one.
        zooms: to look at; None takes the finest at which the region has at most 1280 x 1280 pixels.
        dates: ISO dates from early to late; neighbours are compared. Without any, the edits that never end hold,
            and the world is compared with itself without edits.
        checks: names of CHECKS.
        tools: what to look with; None for what ships.
        progress: called with checks done and checks in all.

    Raises:
        InvalidRequestError: bounds, zooms, dates or checks that make no sense.
        WeightsError: the image tower or the statistics of real imagery are damaged.
    """
    unknown = [name for name in checks if name not in CHECKS]
    if unknown or not checks:
        raise InvalidRequestError(f"checks are {', '.join(unknown) or 'none'}; allowed: {', '.join(CHECKS)}")
    subject = subject_of(engine, world, bounds, zooms, dates)
    tools = tools or Tools()
    steps: tuple[tuple[tuple[str, ...], Callable[[], Sequence[Check]]], ...] = (
        (("anomaly", "spectrum"), lambda: _realism(subject, tools)),
        (("seams",), lambda: [seams(subject)]),
        (("lattice",), lambda: [lattice(subject)]),
        (("parents",), lambda: [parents(subject)]),
        (("class",), lambda: [_with(_tower(tools), lambda *it: class_adherence(subject, *it))]),
        (("prompt",), lambda: [_with(_tower(tools), lambda *it: prompt_adherence(subject, *it))]),
        (("segmentation",), lambda: [_with(_segmenter(tools), lambda *it: segmentation(subject, *it))]),
        (("edit-bounds",), lambda: [edit_bounds(subject)]),
        (("change",), lambda: [_change(subject, tools)]),
        (("caption",), lambda: [_caption(subject, tools)]),
    )
    wanted = [(names, run) for names, run in steps if set(names) & set(checks)]
    found: list[Check] = []
    for done, (_, run) in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted))
        found += [check for check in run() if check.name in checks]
    if progress is not None:
        progress(len(wanted), len(wanted))
    return Report(world.to_dict(), _about(subject, tools), tuple(found), tuple(_views(subject)))


def _about(subject: Subject, tools: Tools) -> dict[str, Value]:
    about: dict[str, Value] = {
        "world": subject.world.id,
        "weights": subject.engine.weights_id,
        "bounds": ", ".join(f"{value:.6f}" for value in subject.bounds),
        "zooms": ", ".join(map(str, subject.zooms)),
        "states": "; ".join(moment.name for moment in subject.moments),
        "compared": "; ".join(f"{before.name} and {after.name}" for before, after in subject.pairs) or "nothing",
        "edits": len(subject.now.world.edits),
    }
    if tools.tower is not None:
        about["image tower"] = tools.tower.id
    if tools.scorer is not None:
        about["statistics of real imagery"] = tools.scorer.reference.id
    return about


def _views(subject: Subject) -> list[Figure]:
    boxes = [subject.box(zoom) for zoom in subject.zooms]
    return [
        Figure(
            fitted(subject.pixels(subject.now, box)),
            f"Zoom {box.zoom}: {box.width} x {box.height} pixels of {gsd_of(box):.3g} m",
        )
        for box in boxes
    ]


def _with(tool: tuple[Tool | None, str], check: Callable[..., Check]) -> Check:
    """A check with its tool, or without and with the reason why."""
    return check(*tool)


def _tower(tools: Tools) -> tuple[ImageTower | None, str]:
    if tools.tower is None:
        tools.tower = image_tower()
    return tools.tower, ""


def _realism(subject: Subject, tools: Tools) -> Sequence[Check]:
    if tools.scorer is None:
        tools.scorer = shipped_scorer()
    return realism(subject, tools.scorer)


def _segmenter(tools: Tools) -> tuple[Any, str]:
    if tools.segmenter is None:
        tools.segmenter, why_not = _opened(SEGMENTER, load)
        return tools.segmenter, why_not
    return tools.segmenter, ""


def _change(subject: Subject, tools: Tools) -> Check:
    why_not = ""
    if tools.detectors is None:
        tools.detectors, why_not = _all_opened(DETECTORS, load_detector)
    return change_agreement(subject, tools.detectors, why_not)


def _caption(subject: Subject, tools: Tools) -> Check:
    why_not = ""
    if tools.captioners is None:
        tools.captioners, why_not = _all_opened(CAPTIONERS, load_captioner)
    text = _tower(tools)[0] if tools.captioners else None
    return caption_agreement(subject, tools.captioners, None if text is None else text.text, why_not)


def _all_opened(names: Sequence[str], open_: Callable[[str], Tool]) -> tuple[list[Tool], str]:
    """Those of some models that can be opened; the reasons if none can."""
    opened: list[Tool] = []
    reasons: list[str] = []
    for name in names:
        tool, why_not = _opened(name, open_)
        if tool is not None:
            opened.append(tool)
        else:
            reasons.append(why_not)
    return opened, "" if opened else "; ".join(reasons)


def _opened(name: str, open_: Callable[[str], Tool]) -> tuple[Tool | None, str]:
    """A model, or why there is none: it is not known, has no weights here, or needs a package."""
    if name not in MODELS:
        return None, f"this version has no model {name}"
    if MODELS[name].weights is None:
        return None, f"no weights of {name} ship with this version"
    try:
        return open_(name), ""
    except (WeightsError, DependencyError, InvalidRequestError) as error:
        return None, f"{name} cannot be opened: {first_line(error)}"

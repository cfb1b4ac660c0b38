"""Who looks at a scene: the models that have weights, chosen by name or by what there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from earthgen.errors import WeightsError
from perception.agent.scene import Scene
from perception.captioner import Caption, ChangeCaptioner
from perception.detection import Detection
from perception.detector import ChangeDetector, Progress
from perception.naming import NamedChanges
from perception.pair import Pair
from perception.registry import CHANGE_CAPTIONING, MODELS, check_finds_change, load_captioner, load_detector

PREFERRED = ("mci", "semantic-cd", "cdmamba")
"""Detectors in the order in which one is taken if nobody chooses."""
NAMER = "semantic-cd"
"""Names what changed where another detector finds that something did."""
SECOND = ("cdmamba", "semantic-cd")
"""Detectors in the order in which one is taken for a second opinion."""

Folder = Callable[[str], Path | None]
"""From the name of a model to the folder of its weights, or None."""


def shipped(name: str) -> Path | None:
    """The folder of the weights that ship with the package."""
    return MODELS[name].weights


def chosen_detector(folder: Folder, name: str | None = None) -> str:
    """The detector that answers.

    Args:
        folder: of the weights of each model.
        name: of the one that was chosen; None takes the best that there is.

    Raises:
        UnknownModelError: no model of that name.
        InvalidRequestError: it has another task.
        WeightsError: no detector has weights.
    """
    if name is not None:
        check_finds_change(name)
        return name
    found = next((one for one in PREFERRED if folder(one) is not None), None)
    if found is None:
        raise WeightsError(f"none of {', '.join(PREFERRED)} has weights here, so nobody can look for changes")
    return found


def namer_of(folder: Folder, detector: str) -> str | None:
    """The detector that names classes for one that does not; None if it does, or there is none."""
    named = MODELS[detector].task == "semantic change detection"
    return None if named or folder(NAMER) is None else NAMER


def second_detector(folder: Folder, first: str) -> str | None:
    """The detector for a second opinion, or None."""
    return next((one for one in SECOND if one != first and folder(one) is not None), None)


def captioner_names(folder: Folder) -> list[str]:
    """Captioners that have weights."""
    return [name for name, model in MODELS.items() if model.task in CHANGE_CAPTIONING and folder(name) is not None]


def open_scene(
    pair: Pair,
    model: str | None = None,
    weights: str | Path | None = None,
    *,
    gsd: float | None = None,
    folder: Folder = shipped,
    progress: Progress | None = None,
) -> Scene:
    """A scene with the models that have weights.

    Captioners and the second detector are loaded when a question needs them.

    Args:
        pair: two pictures.
        model: the detector; None takes the best that there is.
        weights: of the detector, as `perception.load` takes them.
        gsd: metres per pixel, for pictures without a reference system.
        folder: of the weights of each model.
        progress: of detections.

    Raises:
        UnknownModelError, InvalidRequestError, WeightsError: the detector cannot be had.
    """
    name = chosen_detector(folder, model)
    detector = load_detector(name, weights if weights is not None else folder(name))
    namer, other = namer_of(folder, name), second_detector(folder, name)
    if namer is not None:
        detector = NamedChanges(detector, load_detector(namer, folder(namer)))
    return Scene(
        pair,
        detector,
        [LateCaptioner(captioner, folder(captioner)) for captioner in captioner_names(folder)],
        None if other is None else LateDetector(other, folder(other)),
        gsd=gsd,
        any_classes=bool(detector.classes),
        progress=progress,
    )


class LateCaptioner:
    """A captioner that is loaded when it is first asked.

    Args:
        name: in the registry.
        weights: their folder.
    """

    def __init__(self, name: str, weights: Path | None) -> None:
        self.name = name
        self._weights = weights
        self._loaded: ChangeCaptioner | None = None

    def caption(self, pair: Pair, *, beams: int = 1) -> Caption:
        """See `ChangeCaptioner.caption`.

        Raises:
            WeightsError: it cannot be loaded, or says nothing without a language model.
        """
        if self._loaded is None:
            self._loaded = load_captioner(self.name, self._weights)
        return self._loaded.caption(pair, beams=beams)


class LateDetector:
    """A detector that is loaded when it is first asked.

    Args:
        name: in the registry.
        weights: their folder.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, name: str, weights: Path | None) -> None:
        self.name = name
        self._weights = weights
        self._loaded: ChangeDetector | None = None

    def detect(
        self,
        pair: Pair,
        *,
        classes: Sequence[str] | None = None,
        tile: int = 256,
        overlap: int = 64,
        progress: Progress | None = None,
    ) -> Detection:
        """See `ChangeDetector.detect`.

        Raises:
            WeightsError: it cannot be loaded.
        """
        if self._loaded is None:
            self._loaded = load_detector(self.name, self._weights)
        return self._loaded.detect(pair, classes=classes, tile=tile, overlap=overlap, progress=progress)

"""What looks at worlds: change detection, captioning, referring segmentation.

    import perception

    pair = perception.read_pair("before.tif", "after.tif")
    model = perception.load("cdmamba", weights="weights/")
    model.detect(pair).write_geotiff("change.tif")
    perception.load("mci", weights="weights/").caption(pair).text
    perception.load("rsrefseg").segment(perception.read_image("place.tif"), "the river").write("river.geojson")

Names are loaded on first use, so that `import perception` costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perception.captioner import Caption, ChangeCaptioner, ChangeInterpreter
    from perception.detection import Detection
    from perception.detector import ChangeDetector
    from perception.errors import (
        AgentError,
        ClassListError,
        DependencyError,
        ImageError,
        PairError,
        PhraseError,
        PlannerError,
        PromptError,
        QuestionError,
        SceneError,
        UnknownModelError,
    )
    from perception.pair import Labels, Pair, read_image, read_pair
    from perception.registry import MODELS, Model, load
    from perception.segmentation import Segmentation
    from perception.segmenter import ReferringSegmenter

__all__ = [
    "MODELS",
    "AgentError",
    "Caption",
    "ChangeCaptioner",
    "ChangeDetector",
    "ChangeInterpreter",
    "ClassListError",
    "DependencyError",
    "Detection",
    "ImageError",
    "Labels",
    "Model",
    "Pair",
    "PairError",
    "PhraseError",
    "PlannerError",
    "PromptError",
    "QuestionError",
    "ReferringSegmenter",
    "SceneError",
    "Segmentation",
    "UnknownModelError",
    "load",
    "read_image",
    "read_pair",
]

_HOMES = {
    "Caption": "perception.captioner",
    "ChangeCaptioner": "perception.captioner",
    "ChangeDetector": "perception.detector",
    "ChangeInterpreter": "perception.captioner",
    "Detection": "perception.detection",
    "Labels": "perception.pair",
    "MODELS": "perception.registry",
    "Model": "perception.registry",
    "Pair": "perception.pair",
    "ReferringSegmenter": "perception.segmenter",
    "Segmentation": "perception.segmentation",
    "load": "perception.registry",
    "read_image": "perception.pair",
    "read_pair": "perception.pair",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'perception' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "perception.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

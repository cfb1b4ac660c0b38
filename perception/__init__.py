"""What looks at worlds: change detection now, captioning and segmentation later.

    import perception

    pair = perception.read_pair("before.tif", "after.tif")
    model = perception.load("cdmamba", weights="weights/")
    model.detect(pair).write_geotiff("change.tif")

Names are loaded on first use, so that `import perception` costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perception.detection import Detection
    from perception.errors import ClassListError, DependencyError, ImageError, PairError, UnknownModelError
    from perception.pair import Labels, Pair, read_image, read_pair

__all__ = [
    "ClassListError",
    "DependencyError",
    "Detection",
    "ImageError",
    "Labels",
    "Pair",
    "PairError",
    "UnknownModelError",
    "read_image",
    "read_pair",
]

_HOMES = {
    "Detection": "perception.detection",
    "Labels": "perception.pair",
    "Pair": "perception.pair",
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

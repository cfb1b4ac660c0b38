"""Every model of the package: what it does, where it comes from, its weights and their terms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from earthgen.errors import InvalidRequestError, WeightsError
from perception.captioner import ChangeCaptioner, ChangeInterpreter
from perception.checkpoint import CARD, FILE
from perception.detector import BinaryDetector, ChangeDetector
from perception.errors import UnknownModelError
from perception.sources import local_source, own_classes

if TYPE_CHECKING:
    from perception.segmenter import ReferringSegmenter

Task = Literal[
    "binary change detection",
    "semantic change detection",
    "change captioning",
    "change detection and captioning",
    "referring segmentation",
]
CHANGE_DETECTION: tuple[Task, ...] = (
    "binary change detection",
    "semantic change detection",
    "change detection and captioning",
)
"""Tasks whose models have `detect`."""
CHANGE_CAPTIONING: tuple[Task, ...] = ("change captioning", "change detection and captioning")
"""Tasks whose models have `caption`."""
SEGMENTATION: tuple[Task, ...] = ("referring segmentation",)
"""Tasks whose models have `segment`."""
_WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True, slots=True)
class Model:
    """A registered model.

    Attributes:
        name: what `load` takes.
        title: what people call it.
        task: what it does.
        paper: where it is described.
        fidelity: how near this implementation is to it.
        licence: of the weights that ship.
    """

    name: str
    title: str
    task: Task
    paper: str
    fidelity: str
    licence: str

    @property
    def weights(self) -> Path | None:
        """Folder of the weights that ship with the package, or None if none do."""
        folder = _WEIGHTS / self.name
        return folder if (folder / FILE).is_file() else None

    @property
    def card(self) -> str | None:
        """Text of the weights' card, or None if no weights ship."""
        return None if self.weights is None else (self.weights / CARD).read_text(encoding="utf-8")


MODELS = {
    model.name: model
    for model in (
        Model(
            name="cdmamba",
            title="CDMamba",
            task="binary change detection",
            paper="Zhang et al., CDMamba, IEEE TGRS 63 (2025), arXiv 2406.04207",
            fidelity="complete: the published configuration has the published tensors and reads the public checkpoints",
            licence="Apache-2.0",
        ),
        Model(
            name="semantic-cd",
            title="after Semantic-CD",
            task="semantic change detection",
            paper="Zhu et al., Semantic-CD, IGARSS 2025, arXiv 2501.06808",
            fidelity="reconstruction: no code or sizes are public; the abstract's parts, filled in after CAT-Seg",
            licence="Apache-2.0",
        ),
        Model(
            name="rscama",
            title="RSCaMa",
            task="change captioning",
            paper="Liu et al., RSCaMa, IEEE GRSL 21 (2024), arXiv 2404.18895",
            fidelity="complete: all three language decoders; reads the public checkpoints",
            licence="Apache-2.0",
        ),
        Model(
            name="mci",
            title="Change-Agent's MCI",
            task="change detection and captioning",
            paper="Liu et al., Change-Agent, IEEE TGRS 62 (2024), arXiv 2403.19646",
            fidelity="complete: the published tensors that compute; reads the public checkpoint",
            licence="Apache-2.0",
        ),
        Model(
            name="semantic-cc",
            title="Semantic-CC",
            task="change detection and captioning",
            paper="Zhu et al., Semantic-CC, IEEE TGRS 62 (2024), arXiv 2407.14032",
            fidelity="the wiring of the authors' code, sizes free; no weights are public",
            licence="Apache-2.0",
        ),
        Model(
            name="rsrefseg",
            title="RSRefSeg",
            task="referring segmentation",
            paper="Chen et al., RSRefSeg, IGARSS 2025, arXiv 2501.06809",
            fidelity="complete: published sizes on a SigLIP and a SAM by path; reads checkpoints of the authors' code",
            licence="Apache-2.0",
        ),
    )
}


def check_finds_change(name: str) -> None:
    """Refuse the name of a model that cannot be asked to `detect`.

    Raises:
        UnknownModelError: no model of that name.
        InvalidRequestError: it has another task.
    """
    _check_task(name, CHANGE_DETECTION, "find changes")


def check_describes_change(name: str) -> None:
    """Refuse the name of a model that cannot be asked to `caption`.

    Raises:
        UnknownModelError: no model of that name.
        InvalidRequestError: it has another task.
    """
    _check_task(name, CHANGE_CAPTIONING, "describe changes")


def check_segments(name: str) -> None:
    """Refuse the name of a model that cannot be asked to `segment`.

    Raises:
        UnknownModelError: no model of that name.
        InvalidRequestError: it has another task.
    """
    _check_task(name, SEGMENTATION, "segment what a phrase names")


def _check_task(name: str, tasks: tuple[Task, ...], ability: str) -> None:
    able = [model.name for model in MODELS.values() if model.task in tasks]
    if name not in MODELS:
        raise UnknownModelError(f"no model is called {name!r}; there are {', '.join(able)}")
    if name not in able:
        raise InvalidRequestError(f"{name} is for {MODELS[name].task}; models that {ability}: {', '.join(able)}")


def describe(model: Model, weights: Path | None) -> dict[str, Any]:
    """A model as JSON, for those who choose one.

    Args:
        model: of MODELS.
        weights: folder of its weights, or None if there are none.

    Returns:
        Its attributes; `available`, whether there are weights; `classes`, what these weights look for unless told
        otherwise; `any_classes`, whether they can be told otherwise.

    Raises:
        WeightsError: the weights are damaged.
    """
    return {
        "name": model.name,
        "title": model.title,
        "task": model.task,
        "paper": model.paper,
        "fidelity": model.fidelity,
        "licence": model.licence,
        "available": weights is not None,
        "classes": [] if weights is None else list(own_classes(weights)),
        "any_classes": model.task == "semantic change detection",
    }


@overload
def load(
    name: Literal["cdmamba", "semantic-cd"],
    weights: str | Path | None = None,
    *,
    device: str = "cpu",
    tower: str | Path | None = None,
) -> ChangeDetector: ...
@overload
def load(name: Literal["rscama"], weights: str | Path | None = None, *, device: str = "cpu") -> ChangeCaptioner: ...
@overload
def load(
    name: Literal["mci", "semantic-cc"],
    weights: str | Path | None = None,
    *,
    device: str = "cpu",
    language: str | Path | None = None,
) -> ChangeInterpreter: ...
@overload
def load(
    name: Literal["rsrefseg"],
    weights: str | Path | None = None,
    *,
    device: str = "cpu",
    encoders: str | Path | None = None,
) -> ReferringSegmenter: ...
@overload
def load(
    name: str,
    weights: str | Path | None = None,
    *,
    device: str = "cpu",
    tower: str | Path | None = None,
    language: str | Path | None = None,
    encoders: str | Path | None = None,
) -> ChangeDetector | ChangeCaptioner | ReferringSegmenter: ...
def load(
    name: str,
    weights: str | Path | None = None,
    *,
    device: str = "cpu",
    tower: str | Path | None = None,
    language: str | Path | None = None,
    encoders: str | Path | None = None,
) -> ChangeDetector | ChangeCaptioner | ReferringSegmenter:
    """Open a model.

    Args:
        name: see MODELS.
        weights: a folder or file of weights, or `hf:OWNER/NAME`; None for the ones that ship. `cdmamba`, `rscama` and
            `mci` also take a public checkpoint, the latter two with its `vocab.json` beside it.
        device: a torch device.
        tower: for weights of `semantic-cd` that sit on an OpenCLIP model, where that is: a folder, or
            `open_clip:MODEL:FILE`.
        language: for `semantic-cc`, the language model that its weights were trained with: a folder of transformers
            or a GGUF file; without one it only finds changes.
        encoders: for weights of `rsrefseg` that sit on a SigLIP or a CLIP, its folder in transformers' layout.

    Raises:
        UnknownModelError: no model of that name.
        WeightsError: no weights ship and none were given, or they cannot be used.
    """
    model = MODELS.get(name)
    if model is None:
        raise UnknownModelError(f"no model is called {name!r}; there are {', '.join(MODELS)}")
    chosen = weights if weights is not None else model.weights
    if chosen is None:
        raise WeightsError(f"no weights of {name} ship with this version; give a folder with {FILE}")
    source = local_source(chosen)
    if name == "cdmamba":
        from perception import cdmamba

        return BinaryDetector(name, cdmamba.load(source), cdmamba.MULTIPLE, device)
    if name == "rscama":
        from perception import rscama

        return rscama.RSCaMaCaptioner(rscama.load(source), device)
    if name == "mci":
        from perception import mci

        return mci.MCIInterpreter(mci.load(source), device)
    if name == "semantic-cc":
        from perception import semantic_cc

        return semantic_cc.SemanticCCInterpreter(*semantic_cc.load(source, language), device)
    if name == "rsrefseg":
        from perception import rsrefseg
        from perception.segmenter import ReferringSegmenter

        return ReferringSegmenter(rsrefseg.load(source, encoders), device)
    from perception import semantic_cd

    return semantic_cd.SemanticDetector(*semantic_cd.load(source, tower), device)


def load_detector(
    name: str, weights: str | Path | None = None, *, device: str = "cpu", tower: str | Path | None = None
) -> ChangeDetector:
    """Open a model that finds changes; see `load`.

    Raises:
        InvalidRequestError: it has another task.
    """
    check_finds_change(name)
    return cast(ChangeDetector, load(name, weights, device=device, tower=tower))


def load_captioner(
    name: str, weights: str | Path | None = None, *, device: str = "cpu", language: str | Path | None = None
) -> ChangeCaptioner:
    """Open a model that describes changes; see `load`.

    Raises:
        InvalidRequestError: it has another task.
    """
    check_describes_change(name)
    found = load(name, weights, device=device, language=language)
    assert isinstance(found, ChangeCaptioner)
    return found


def load_segmenter(
    name: str, weights: str | Path | None = None, *, device: str = "cpu", encoders: str | Path | None = None
) -> ReferringSegmenter:
    """Open a model that finds what a phrase names; see `load`.

    Raises:
        InvalidRequestError: it has another task.
    """
    check_segments(name)
    return cast("ReferringSegmenter", load(name, weights, device=device, encoders=encoders))

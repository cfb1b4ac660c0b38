"""Weights: the shipped ones, a folder, or a hub name, all through the same code.

A weights folder holds what diffusers writes: `config.json` and `diffusion_pytorch_model.safetensors`. Folders `draft`
and `best` inside it may hold, in the same layout, the networks of those qualities. Without them the one network serves
all: with half as many steps for `draft`, with twice as many for `best`, and alike if it takes one step only.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError

from earthgen.denoiser import DetailDenoiser
from earthgen.errors import WeightsError
from earthgen.world import QUALITIES, STANDARD, Quality

WEIGHTS = Path(__file__).parent / "weights"
"""The weights that come with the package, one folder a network."""
SHIPPED = WEIGHTS / "cascade"
"""The cascade's."""
HUB_PREFIX = "hf:"
_CONFIG_NAME = "config.json"
_TENSORS_NAME = "diffusion_pytorch_model.safetensors"


Net = TypeVar("Net", bound=ModelMixin)


@dataclass(frozen=True, slots=True)
class Weights(Generic[Net]):
    """A loaded network and the id of its content (12 hexadecimal characters)."""

    net: Net
    id: str
    source: str


def load_weights(source: str | Path | None = None) -> Weights[DetailDenoiser]:
    """Load the cascade's network: the shipped one, a folder's, or `hf:OWNER/NAME`'s; see `load_model`."""
    return load_model(DetailDenoiser, source, SHIPPED)


@dataclass(frozen=True, slots=True)
class Made:
    """How pixels of a quality are made.

    Attributes:
        weights: the network.
        sigmas: falling noise levels, ending in 0, at which it is run.
    """

    weights: Weights[DetailDenoiser]
    sigmas: tuple[float, ...]

    @property
    def id(self) -> str:
        """Names network and levels: the weights' own id where the levels are those of its configuration."""
        own = tuple(self.weights.net.config["sigmas"])
        return self.weights.id if self.sigmas == own else f"{self.weights.id}@{','.join(map(repr, self.sigmas))}"


def load_qualities(source: str | Path | None = None) -> dict[Quality, Made]:
    """Load the cascade's networks for every quality.

    Args:
        source: as `load_model`'s; its folders `draft` and `best` may hold networks of their own.

    Raises:
        WeightsError: see `load_model`.
    """
    folder = weights_folder(source, SHIPPED)
    standard = load_weights(source)
    made: dict[Quality, Made] = {}
    for quality in QUALITIES:
        if quality != STANDARD and (folder / quality).is_dir():
            weights = load_weights(folder / quality)
            made[quality] = Made(weights, tuple(weights.net.config["sigmas"]))
        else:
            made[quality] = Made(standard, levels_of(quality, tuple(standard.net.config["sigmas"])))
    return made


def levels_of(quality: Quality, sigmas: Sequence[float]) -> tuple[float, ...]:
    """The noise levels of a quality for a network that is to be sampled at `sigmas`: falling, ending in 0.

    Half as many steps for "draft" and twice as many for "best", over the same range and equally spaced in the logarithm
    between the given ones; a network of one step has no others.
    """
    steps = len(sigmas) - 1
    wanted = {"draft": math.ceil(steps / 2), "standard": steps, "best": 2 * steps}[quality]
    if wanted == steps or steps == 1:
        return tuple(sigmas)
    places = np.linspace(0, steps - 1, wanted)
    between = np.exp(np.interp(places, np.arange(steps), np.log(sigmas[:-1])))
    return (*(float(level) for level in between), 0.0)


def weights_folder(source: str | Path | None, shipped: Path) -> Path:
    """The folder of a source: a path, `hf:OWNER/NAME` (downloaded or found in the hub's cache), or None.

    Raises:
        WeightsError: the hub does not have it.
    """
    return _hub_folder(str(source)) if str(source).startswith(HUB_PREFIX) else Path(source or shipped)


def load_model(kinds: type[Net] | tuple[type[Net], ...], source: str | Path | None, shipped: Path) -> Weights[Net]:
    """Load a network of a kind, or of one of several.

    Args:
        kinds: the network's class, or those it may have.
        source: None for the shipped weights, a folder, or `hf:OWNER/NAME` for a hub repository of the
            same layout (downloaded or found in the hub's cache).
        shipped: the folder that None stands for.

    Raises:
        WeightsError: nothing is there, a file is truncated or corrupt, or the layout is another one.
    """
    folder = weights_folder(source, shipped)
    config_path, tensors_path = folder / _CONFIG_NAME, folder / _TENSORS_NAME
    for path in (config_path, tensors_path):
        if not path.is_file():
            raise WeightsError(
                f"no weights at {folder}: {path.name} is missing; "
                f"a folder with {_CONFIG_NAME} and {_TENSORS_NAME} is needed"
            )
    try:
        class_name = json.loads(config_path.read_bytes()).get("_class_name")
    except (ValueError, AttributeError) as error:
        raise WeightsError(f"{config_path} is not a JSON object: {error}") from error
    known = {kind.__name__: kind for kind in (kinds if isinstance(kinds, tuple) else (kinds,))}
    if class_name not in known:
        raise WeightsError(f"{config_path} describes a {class_name}; a {' or a '.join(known)} is needed")
    own_id = weights_id(folder)
    # What does not fit is one sentence below, not pages of names.
    logger = logging.getLogger("diffusers.models.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        loaded: Any = known[class_name].from_pretrained(
            folder, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        net, info = loaded
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise WeightsError(f"{tensors_path} cannot be loaded: {_first_line(error)}") from error
    finally:
        logger.setLevel(level)
    wrong = sorted({*info["missing_keys"], *info["unexpected_keys"]})
    if wrong:
        raise WeightsError(
            f"{tensors_path} does not fit its {_CONFIG_NAME}: {len(wrong)} tensors missing or unknown, first {wrong[0]}"
        )
    # Tensors may be views of the file, and would become others if it were overwritten while they are in use.
    for tensor in (*net.parameters(), *net.buffers()):
        tensor.data = tensor.data.clone()
    if weights_id(folder) != own_id:
        raise WeightsError(f"the weights at {folder} were changed while they were loaded; load them again")
    return Weights(net, own_id, str(source or "shipped"))


def weights_id(folder: Path) -> str:
    """Content id of a weights folder: 12 hexadecimal characters of the SHA-256 of both files."""
    digest = hashlib.sha256()
    for name in (_CONFIG_NAME, _TENSORS_NAME):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:12]


def _hub_folder(source: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    name = source.removeprefix(HUB_PREFIX)
    try:
        names = [_CONFIG_NAME, _TENSORS_NAME]
        inside = [f"{quality}/{file}" for quality in QUALITIES if quality != STANDARD for file in names]
        return Path(snapshot_download(name, allow_patterns=names + inside))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise WeightsError(f"hub weights {name!r} cannot be had: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

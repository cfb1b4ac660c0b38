"""Weights: the shipped ones, a folder, or a hub name, all through the same code.

A weights folder holds what diffusers writes: `config.json` and `diffusion_pytorch_model.safetensors`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError

from earthgen.denoiser import DetailDenoiser
from earthgen.errors import WeightsError

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
    folder = _hub_folder(str(source)) if str(source).startswith(HUB_PREFIX) else Path(source or shipped)
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
    try:
        loaded: Any = known[class_name].from_pretrained(
            folder, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        net, info = loaded
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise WeightsError(f"{tensors_path} cannot be loaded: {_first_line(error)}") from error
    wrong = sorted({*info["missing_keys"], *info["unexpected_keys"]})
    if wrong:
        raise WeightsError(
            f"{tensors_path} does not fit its {_CONFIG_NAME}: {len(wrong)} tensors missing or unknown, first {wrong[0]}"
        )
    return Weights(net, weights_id(folder), str(source or "shipped"))


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
        return Path(snapshot_download(name, allow_patterns=[_CONFIG_NAME, _TENSORS_NAME]))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise WeightsError(f"hub weights {name!r} cannot be had: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

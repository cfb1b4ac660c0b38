"""LoRA folders (Hu et al. 2021, arXiv 2106.09685) of the diffusers and PEFT layouts, added into the weights.

An update is W + (alpha / r) B A. It is added once, after loading, so that sampling costs nothing more and PEFT
need not be installed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from earthgen.errors import WeightsError
from earthgen.latent.checkpoint import PICKLE_SUFFIXES, read_json, require_tensors

DIFFUSERS_LORA = "pytorch_lora_weights.safetensors"
PEFT_LORA = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"

# The spellings that diffusers and PEFT have used; A is also called down, and B up.
_SPELLINGS = (
    re.compile(r"^(?P<module>.+)\.lora_(?P<half>[AB])(?:\.default)?\.weight$"),
    re.compile(r"^(?P<module>.+)\.lora(?:_linear_layer)?\.(?P<half>down|up)\.weight$"),
    re.compile(r"^(?P<module>.+)\.processor\.(?P<leaf>to_[qkv]|to_out)_lora\.(?P<half>down|up)\.weight$"),
)
_ALPHA = re.compile(r"^(?P<module>.+)\.alpha$")


@dataclass(slots=True)
class _Update:
    """One layer's A (r, in, ...), B (out, r, ...), and what its product is multiplied by besides 1 / r."""

    a: torch.Tensor | None = None
    b: torch.Tensor | None = None
    alpha: float | None = None


@torch.no_grad()
def fuse_lora(folder: Path, models: Mapping[str, torch.nn.Module], scale: float = 1.0) -> list[Path]:
    """Add the updates of a LoRA folder to the weights of models, in place.

    Args:
        folder: holds `pytorch_lora_weights.safetensors` (diffusers) or `adapter_model.safetensors` with
            `adapter_config.json` (PEFT).
        models: "unet" and "text_encoder"; a name without either prefix is the text encoder's if it begins with
            text_model, else the U-Net's.
        scale: strength; 0 changes nothing.

    Returns:
        The files that were read.

    Raises:
        WeightsError: a file is missing, a pickle or damaged, or an update is of a kind or for a layer that
            is not known. Nothing is changed then.
    """
    path, numbers = _open_layout(folder)
    updates = _read_updates(path)
    planned = []
    for name, update in sorted(updates.items()):
        if update.a is None or update.b is None:
            raise WeightsError(f"{path}: the update of {name} has only one of its two matrices")
        weight = _find_weight(path, name, models)
        rank = update.a.shape[0]
        if update.b.flatten(1).shape[1] != rank or (update.b.shape[0], *update.a.shape[1:]) != tuple(weight.shape):
            raise WeightsError(
                f"{path}: the update of {name} is made of {tuple(update.b.shape)} and {tuple(update.a.shape)}, "
                f"which does not make the {tuple(weight.shape)} of that layer"
            )
        alpha = numbers.alpha(name, rank) if update.alpha is None else update.alpha
        strength = scale * alpha / (math.sqrt(rank) if numbers.rank_stabilised else rank)
        planned.append((weight, update.a, update.b, strength))
    for weight, a, b, strength in planned:
        # For convolutions A is (r, in, h, w) and B (out, r, 1, 1).
        delta = torch.tensordot(b.flatten(1), a, dims=1)
        weight.copy_((weight.float() + strength * delta.to(weight.device)).to(weight.dtype))
    config = folder / PEFT_CONFIG
    return [config, path] if path.name == PEFT_LORA else [path]


@dataclass(frozen=True, slots=True)
class _Numbers:
    """What a folder says about strengths: alpha for all layers of a prefix, and for single layers."""

    alphas: Mapping[str, float]
    patterns: Mapping[str, float]
    rank_stabilised: bool = False

    def alpha(self, name: str, rank: int) -> float:
        for pattern, value in self.patterns.items():
            if re.search(rf"(^|\.){pattern}$", name):
                return value
        prefix = name.split(".", maxsplit=1)[0]
        return self.alphas.get(prefix, self.alphas.get("", float(rank)))


def _open_layout(folder: Path) -> tuple[Path, _Numbers]:
    if (folder / PEFT_CONFIG).is_file() or (folder / PEFT_LORA).is_file():
        config = read_json(folder / PEFT_CONFIG)
        if config.get("peft_type") != "LORA" or config.get("use_dora"):
            kind = "DoRA" if config.get("use_dora") else config.get("peft_type")
            raise WeightsError(f"{folder / PEFT_CONFIG} describes a {kind} adapter; plain LoRA is needed")
        path = require_tensors(folder, PEFT_LORA)
        return path, _numbers(path, {"": config})
    if not (folder / DIFFUSERS_LORA).is_file() and not any(
        entry.suffix in PICKLE_SUFFIXES for entry in folder.iterdir()
    ):
        raise WeightsError(f"{folder} has neither {DIFFUSERS_LORA} nor {PEFT_LORA}: it is no LoRA folder")
    path = require_tensors(folder, DIFFUSERS_LORA)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    # diffusers writes one flat object of all configurations: "unet.lora_alpha", "text_encoder.r", and so on.
    try:
        flat = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError as error:
        raise WeightsError(f"{path}: its adapter metadata is not JSON") from error
    configs: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        prefix, _, field = key.partition(".")
        configs.setdefault(prefix, {})[field] = value
    return path, _numbers(path, configs)


def _numbers(path: Path, configs: Mapping[str, Mapping[str, Any]]) -> _Numbers:
    alphas: dict[str, float] = {}
    patterns: dict[str, float] = {}
    stabilised = set()
    for prefix, config in configs.items():
        if config.get("use_dora"):
            raise WeightsError(f"{path} holds a DoRA adapter; plain LoRA is needed")
        stabilised.add(bool(config.get("use_rslora")))
        try:
            if "lora_alpha" in config:
                alphas[prefix] = float(config["lora_alpha"])
            patterns |= {name: float(value) for name, value in (config.get("alpha_pattern") or {}).items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise WeightsError(f"{path}: an alpha of its configuration is not a number") from error
    return _Numbers(alphas, patterns, stabilised == {True})


def _read_updates(path: Path) -> dict[str, _Update]:
    updates: dict[str, _Update] = {}
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118  # not a mapping
            tensor = file.get_tensor(key).float()
            plain = key.removeprefix("base_model.model.")
            if match := _ALPHA.match(plain):
                if tensor.numel() != 1:
                    raise WeightsError(f"{path}: {key} has shape {tuple(tensor.shape)}; one number is needed")
                updates.setdefault(match["module"], _Update()).alpha = float(tensor)
                continue
            match = next((found for spelling in _SPELLINGS if (found := spelling.match(plain))), None)
            if match is None:
                raise WeightsError(
                    f"{path} holds {key!r}, which is no LoRA matrix of the diffusers or PEFT layouts; "
                    "convert other layouts with diffusers first"
                )
            module = match["module"]
            if leaf := match.groupdict().get("leaf"):
                module = f"{module}.{'to_out.0' if leaf == 'to_out' else leaf}"
            update = updates.setdefault(module, _Update())
            if match["half"] in ("A", "down"):
                update.a = tensor
            else:
                update.b = tensor
    if not updates:
        raise WeightsError(f"{path} holds no LoRA matrices")
    return updates


def _find_weight(path: Path, name: str, models: Mapping[str, torch.nn.Module]) -> torch.Tensor:
    prefix, _, rest = name.partition(".")
    if prefix in models:
        model, layer = models[prefix], rest
    else:
        model, layer = models["text_encoder" if prefix == "text_model" else "unet"], name
    # transformers 5 no longer wraps the text tower in a module of this name.
    for candidate in (layer, layer.removeprefix("text_model.")):
        try:
            weight = model.get_submodule(candidate).weight
        except AttributeError:
            continue
        if isinstance(weight, torch.Tensor):
            return weight
    raise WeightsError(f"{path} updates {name}, a layer that the checkpoint does not have")

"""Checkpoints that are complete and atomic: written beside the old one, then renamed over it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin

from earthgen.denoiser import DetailDenoiser


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values; a crash leaves the previous one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint back; no code in it is executed."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def network_config(net: ConfigMixin) -> dict[str, Any]:
    """The network's configuration as plain values, without what diffusers remembers about files."""
    return {name: value for name, value in net.config.items() if not name.startswith("_")}


def with_text(net: DetailDenoiser, width: int) -> DetailDenoiser:
    """The network, or a copy of it that hears text vectors of that width and as yet heeds none."""
    if net.config["text_width"] == width:
        return net
    hearing = DetailDenoiser.from_config({**network_config(net), "text_width": width})
    missing, unexpected = hearing.load_state_dict(net.state_dict(), strict=False)
    if unexpected or any(not name.startswith("row_embedding.text") for name in missing):
        raise ValueError(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    return cast(DetailDenoiser, hearing)

"""Tiny random band networks, saved as the real ones are."""

from __future__ import annotations

from pathlib import Path

import torch

from earthgen.bandnet import BandNet
from earthgen.bands import BANDS


def tiny_band_net(name: str, seed: int = 0, margin: int = 16) -> BandNet:
    """A network of the real layout with a few thousand random weights, none of them zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net: BandNet = BandNet(
            band=name,
            codes=tuple(item.code for item in BANDS[name].classes),
            channels=(8, 8, 8),
            blocks=(1, 1, 1, 1, 1),
            kernel=3,
            embedding=8,
            margin=margin,
        )
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
    return net


def save_tiny_bands(folder: Path, *names: str, seed: int = 0, margin: int = 16) -> Path:
    """Weights of bands as a folder with one folder a band."""
    for name in names:
        tiny_band_net(name, seed, margin).save_pretrained(folder / name)
    return folder

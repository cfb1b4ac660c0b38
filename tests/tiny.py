"""A tiny random network and a procedural root: the real engine, fast enough for hundreds of examples."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from earthgen.cascade import CascadeStep
from earthgen.denoiser import DetailDenoiser
from earthgen.engine import Engine
from earthgen.errors import WeightsError
from earthgen.prompting import Words
from earthgen.pyramid import ROOT_ZOOM, Box, Window, world_size
from earthgen.world import World


def tiny_net(seed: int = 0, **configuration: Any) -> DetailDenoiser:
    """A network of the real layout with a few thousand random weights, none of them zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes: dict[str, Any] = {
            "channels": (8, 8, 8),
            "blocks": (1, 1, 1, 1, 1),
            "kernel": 3,
            "expansion": 2,
            "embedding": 8,
            "detail_std": (0.1,) * 45,
            "sigmas": (3.0, 0.7, 0.0),
            "margin": 4,
        }
        net: DetailDenoiser = DetailDenoiser(**sizes | configuration)
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
    return net


class RippleRoot:
    """A root without a picture: smooth colours that wrap at 180 degrees and differ by seed."""

    def __init__(self, seed: int) -> None:
        self.id = f"ripple-{seed}"
        self._seed = seed

    def pixels(self, box: Box) -> npt.NDArray[np.uint8]:
        assert box.zoom == ROOT_ZOOM
        size = world_size(ROOT_ZOOM)
        rows = 2 * np.pi * np.clip(np.arange(box.row, box.row + box.height), 0, size - 1)[:, None] / size
        columns = 2 * np.pi * np.arange(box.column, box.column + box.width)[None, :] / size
        pixels = np.empty((box.height, box.width, 3), dtype=np.uint8)
        for channel, waves in enumerate((2, 5, 11)):
            a, b = waves * columns, 3 * waves * rows + self._seed % 97
            # sin(a + b), without 16 million sines.
            pixels[..., channel] = 128 + 90 * (np.sin(a) * np.cos(b) + np.cos(a) * np.sin(b)).astype(np.float32)
        return pixels


class RipplePrompts:
    """A prompt root without a network: ripples whose colours depend on the words, the seed and the address."""

    weights_id = "ripples"
    id = "ripples-1"

    def drawing(self, seed: int, words: Words, zoom: int) -> None:
        return None

    def cover(self, seed: int, words: Words, zoom: int, box: Box) -> None:
        return None

    def window(self, seed: int, window: Window, words: Words, step: CascadeStep) -> npt.NDArray[np.uint8]:
        box = window.box
        shift = zlib.crc32(repr((seed, words)).encode()) % 6283 / 1000
        rows = np.arange(box.row, box.row + box.height)[:, None] / 19
        # A whole number of waves around the world, so that 180 degrees is no edge.
        columns = np.arange(box.column, box.column + box.width)[None, :] * (2 * np.pi / 64)
        waves = [np.sin(rows * k + shift) * np.cos(columns * k + k * shift) for k in (1, 2, 3)]
        return (128 + 80 * np.stack(waves, axis=-1)).astype(np.uint8)


def ripple_prompts(weights: str | Path | None = None, device: str = "cpu") -> RipplePrompts:
    """Stands in for `earthgen.prompting.open_prompt_root`."""
    return RipplePrompts()


def no_prompts(weights: str | Path | None = None, device: str = "cpu") -> RipplePrompts:
    """An installation without weights for prompts."""
    raise WeightsError("no weights")


def ripple_root(world: World) -> RippleRoot:
    """Stands in for `earthgen.roots.open_root`."""
    return RippleRoot(world.seed)


def save_tiny_weights(folder: Path, seed: int = 0, **configuration: Any) -> Path:
    """Write the tiny network as a weights folder."""
    tiny_net(seed, **configuration).save_pretrained(folder)
    return folder


def open_tiny(folder: Path, cache: Path | None = None, **options: Any) -> Engine:
    """An engine over tiny weights."""
    return Engine.open(folder, cache, device="cpu", **options)

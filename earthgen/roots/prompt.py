"""The prompt root: pixels from text and ground sampling distance alone, on an unbounded plane.

A local network turns noise, a text vector and the ground sampling distance of each row into the 48
coefficients of each 4x4 block: the mean colour and the detail of `earthgen.detail`. There is no parent and
no picture of the whole: the noise is addressed like the cascade's, so windows agree without being told of
each other, and any window of the plane can be made first. The network is run once (an adversarially
trained generator, after StyleGAN-T, Sauer et al. 2023, arXiv 2301.09515: text enters as modulation).

Text and resolution are conditions of their own: training drops each independently (dynamic condition
adaptation, Text2Earth, arXiv 2501.00895), so either may be missing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

from earthgen.conditioning import Guide
from earthgen.detail import DETAIL_CHANNELS, join
from earthgen.errors import AddressError
from earthgen.noise import NoiseField
from earthgen.pyramid import SCALE, Box, Window, ground_sampling_distance, row_latitudes, world_size
from earthgen.unet import LocalUNet, RowEmbedding
from earthgen.weights import WEIGHTS, load_model

SHIPPED = WEIGHTS / "prompt"
"""The weights that come with the package."""
UNKNOWN_LOG2_GSD = -8.0
"""Stands for no resolution, as level 0 does in Text2Earth; far below what the pyramid has."""
NOISE_LAYERS: tuple[tuple[int, int], ...] = ((1, 24), (4, 16), (16, 8))
"""Noise is given at three scales: (positions a value spans, channels), so that large shapes have a seed too."""
_NOISE_CHANNELS = sum(channels for _, channels in NOISE_LAYERS)
_NOISE_STREAM = 2
"""First stream of the noise fields, one a layer; stream 0 is the cascade's."""
_ORDINARY_TONE = (-0.35, -0.25, -0.45)
"""Red, green, blue in [-1, 1] of an ordinary picture, where the untrained network starts."""

DrawNoise = Callable[[int, int, int, int, int, int], torch.Tensor]
"""(layer, channels, row, column, height, width), in the layer's own grid, to (b, channels, height, width)."""


def layered_noise(draw: DrawNoise, row: int, column: int, height: int, width: int) -> torch.Tensor:
    """Noise of all layers for a rectangle of positions, the coarse ones interpolated.

    Args:
        draw: gives the normal noise of a layer.
        row: first row of positions; a multiple of the coarsest layer's span, as all four.
        column: first column.
        height: rows.
        width: columns.

    Returns:
        (b, 48, height, width).
    """
    layers = []
    for index, (span, channels) in enumerate(NOISE_LAYERS):
        if row % span or column % span or height % span or width % span:
            raise AddressError(f"rectangle {row}, {column}, {height} x {width} is not aligned to {span} positions")
        top, left, rows, columns = row // span, column // span, height // span, width // span
        if span == 1:
            layers.append(draw(index, channels, top, left, rows, columns))
            continue
        # One more value on each side, so that interpolation never sees where the rectangle ends.
        values = draw(index, channels, top - 1, left - 1, rows + 2, columns + 2)
        smooth = F.interpolate(values, scale_factor=span, mode="bilinear", align_corners=False)
        layers.append(smooth[:, :, span : span + height, span : span + width])
    return torch.cat(layers, dim=1)


class PromptGenerator(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers declares config_name twice
    """From noise, text and ground sampling distance to pixels.

    Args:
        channels: widths of the three resolutions.
        blocks: blocks of the stages: fine, middle, coarse, middle, fine.
        kernel: side of the depthwise kernels, in positions.
        expansion: widening inside a block.
        embedding: width of the row embedding.
        text_width: width of the text vectors.
        detail_std: 45 units in which detail leaves the network.
        margin: positions at each side of a window whose values depend visibly on where it was cut; a
            multiple of the coarsest noise layer's span.
    """

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, int, int] = (64, 128, 256),
        blocks: tuple[int, int, int, int, int] = (1, 2, 4, 2, 2),
        kernel: int = 7,
        expansion: int = 3,
        embedding: int = 256,
        text_width: int = 384,
        detail_std: tuple[float, ...] = (0.1,) * DETAIL_CHANNELS,
        margin: int = 16,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.row_embedding = RowEmbedding(embedding, text_width)
        self.unet = LocalUNet(_NOISE_CHANNELS, 3 + DETAIL_CHANNELS, channels, blocks, embedding, kernel, expansion)

    def forward(self, noise: torch.Tensor, log2_gsd: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Coefficients of each block.

        Args:
            noise: (b, 48, h, w) from `layered_noise`.
            log2_gsd: (b, h), log2 of the pixels' metres for each row of blocks, or UNKNOWN_LOG2_GSD.
            text: (b, text_width), unit vectors, or rows of zeros for no text.

        Returns:
            (b, 48, h, w): three of the mean colour, then 45 of detail, each about of unit variance.
        """
        nothing = torch.zeros(len(noise), device=noise.device)
        rows = self.row_embedding(nothing, log2_gsd, nothing, text)
        out: torch.Tensor = self.unet(noise, rows)
        return out

    def picture(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Coefficients (b, 48, h, w) to an image (b, 3, 4h, 4w), about in [-1, 1]."""
        tone = torch.tensor(_ORDINARY_TONE).to(coefficients)[None, :, None, None]
        mean = torch.tanh(torch.atanh(tone) + 0.5 * coefficients[:, :3])
        std = torch.tensor(self.config["detail_std"]).to(coefficients)[None, :, None, None]
        return join(mean, coefficients[:, 3:] * std)


class PromptStep:
    """Makes root windows of prompt worlds, one at a time, each a pure function of its arguments.

    Args:
        net: the network.
        weights_id: content id of its weights.
        device: where to compute.
    """

    def __init__(self, net: PromptGenerator, weights_id: str, device: torch.device) -> None:
        self.id = weights_id
        self._device = device
        self._net = net
        self._net.to(device=device)  # type: ignore[call-arg]  # diffusers wraps `to` without its types
        self._net.eval().requires_grad_(False)
        self._margin: int = net.config["margin"]
        self._text_width: int = net.config["text_width"]

    @classmethod
    def open(cls, weights: str | Path | None = None, device: str | torch.device = "cpu") -> Self:
        """Load weights.

        Args:
            weights: None for the shipped ones, a folder, or `hf:OWNER/NAME`.
            device: torch device.

        Raises:
            WeightsError: the weights cannot be loaded.
        """
        loaded = load_model(PromptGenerator, weights, SHIPPED)
        return cls(loaded.net, loaded.id, torch.device(device))

    @torch.inference_mode()
    def window(self, seed: int, window: Window, guide: Guide) -> npt.NDArray[np.uint8]:
        """The pixels of a root window.

        Args:
            seed: the world's.
            window: which one, at any zoom.
            guide: prompt, negative prompt and guidance scale.

        Returns:
            uint8 (WINDOW_SIZE, WINDOW_SIZE, 3).
        """
        box = window.box.grown(self._margin * SCALE).parent()
        wrap = world_size(box.zoom)

        def draw(layer: int, channels: int, row: int, column: int, height: int, width: int) -> torch.Tensor:
            field = NoiseField(seed, window.zoom, _NOISE_STREAM + layer)
            values = field.normal(row, column, height, width, channels, wrap=wrap // NOISE_LAYERS[layer][0])
            return torch.from_numpy(values)[None]

        noise = layered_noise(draw, box.row, box.column, box.height, box.width).to(self._device)
        log2_gsd = torch.from_numpy(row_log2_gsd(window.zoom, box))[None].to(self._device)

        def told(text: npt.NDArray[np.float32]) -> torch.Tensor:
            coefficients: torch.Tensor = self._net(
                noise, log2_gsd, torch.from_numpy(text.copy())[None].to(self._device)
            )
            return coefficients

        coefficients = told(guide.text_or_zero(self._text_width))
        if guide.scale != 1.0:
            away = told(guide.negative_or_zero(self._text_width))
            coefficients = away + guide.scale * (coefficients - away)
        inner = slice(self._margin, -self._margin)
        image = self._net.picture(coefficients[:, :, inner, inner])[0].float().cpu()
        return np.asarray(((image + 1.0) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0))


def row_log2_gsd(zoom: int, box: Box) -> npt.NDArray[np.float32]:
    """log2 of the metres of a pixel of `zoom`, for each row of a box of blocks."""
    gsd = ground_sampling_distance(zoom, 0.0) * np.cos(np.radians(row_latitudes(box.zoom, box.row, box.height)))
    return np.log2(gsd).astype(np.float32)

"""A prompt root that denoises: pixels from text and ground sampling distance alone, on an unbounded plane.

The second kind of local prompt root; `earthgen.roots.prompt` is the first, whose weights ship. A small diffusion
network (EDM, Karras et al. 2022, arXiv 2206.00364) denoises the 48 coefficients of each 4x4 block: the mean colour
and the detail of `earthgen.detail`. There is no parent and no picture of the whole. The plane is cut into windows
that overlap, and sampling into phases: in a phase each window is denoised alone, from noise that is addressed by
position; the next phase begins from the blend of all windows that touch one's own (InfiniteDiffusion, Goslin, arXiv
2512.08309). So a window is a pure function of its address, neighbours agree, and any place of the plane can be made
first.

Text and resolution are conditions of their own: training drops each independently (dynamic condition adaptation,
Text2Earth, arXiv 2501.00895), so either may be missing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from cachetools import LRUCache
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

from earthgen.conditioning import Guide
from earthgen.detail import DETAIL_CHANNELS, from_lightness_chroma, join, split, to_lightness_chroma
from earthgen.noise import NoiseField
from earthgen.overlap import Place, Plane, blend, covering
from earthgen.pyramid import Box, Window, world_size
from earthgen.roots.prompt import row_log2_gsd
from earthgen.sampler import dpm_solver_2m
from earthgen.unet import LocalUNet, RowEmbedding

STATE_CHANNELS = 3 + DETAIL_CHANNELS
"""Of a block: lightness and two chroma axes of its mean, then its detail."""
STRIDE = 32
"""Blocks from one window to the next; it divides every zoom's world."""
OVERLAP = 8
"""Blocks that two neighbours share."""
SIDE = STRIDE + OVERLAP
"""Blocks along a window."""
_NOISE_STREAM = 5
"""First stream of the noise fields, one a phase; those below are the cascade's and the other prompt root's."""
_GUIDED = 1
"""Phases, from the first on, in which guidance acts: it decides what is where, and there is little left to decide
later (Kynkaanniemi et al. 2024, arXiv 2404.07724, on guidance in an interval of noise levels)."""
_KEPT_BYTES = 64 << 20
"""Memory for finished windows."""


class PromptDenoiser(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers declares config_name twice
    """A denoiser of blocks, conditioned on text and ground sampling distance.

    Its state has unit variance in the lightness of means and less in everything finer or more coloured: `spread`
    to the power of a half, between the variances of pictures, where layout drowns everything else, and equal ones,
    where all scales would be decided at once.

    Args:
        channels: widths of the three resolutions.
        blocks: blocks of the stages: fine, middle, coarse, middle, fine.
        kernel: side of the depthwise kernels, in positions.
        expansion: widening inside a block.
        embedding: width of the row embedding.
        text_width: width of the text vectors.
        centre: mean of the three mean-colour coefficients over real pictures.
        spread: standard deviations of the 48 coefficients over real pictures.
        phases: noise levels at which the network is called, phase by phase, falling; 1 is the standard
            deviation of the lightness of means.
    """

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, int, int] = (64, 128, 256),
        blocks: tuple[int, int, int, int, int] = (2, 2, 4, 2, 2),
        kernel: int = 5,
        expansion: int = 3,
        embedding: int = 256,
        text_width: int = 384,
        centre: tuple[float, ...] = (0.0,) * 3,
        spread: tuple[float, ...] = (1.0,) * STATE_CHANNELS,
        phases: tuple[tuple[float, ...], ...] = ((20.0, 8.0, 3.5, 1.6, 0.8), (0.8, 0.35, 0.14, 0.05)),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.row_embedding = RowEmbedding(embedding, text_width)
        self.unet = LocalUNet(STATE_CHANNELS, STATE_CHANNELS, channels, blocks, embedding, kernel, expansion)

    def _spread(self, like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(self.config["spread"]).to(like)[None, :, None, None]

    def _centre(self, like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(self.config["centre"]).to(like)[None, :, None, None]

    def unit(self, like: torch.Tensor) -> torch.Tensor:
        """Standard deviation of each channel of a state, (1, 48, 1, 1); the first is 1."""
        spread = self._spread(like)
        return (spread / spread[:, :1]).sqrt()

    def state(self, image: torch.Tensor) -> torch.Tensor:
        """The clean state (b, 48, h, w) of an image (b, 3, 4h, 4w) in [-1, 1]."""
        mean, detail = split(image)
        coefficients = torch.cat([to_lightness_chroma(mean) - self._centre(image), detail], dim=1)
        return coefficients * (self.unit(image) / self._spread(image))

    def picture(self, state: torch.Tensor) -> torch.Tensor:
        """The image (b, 3, 4h, 4w), about in [-1, 1], of a state (b, 48, h, w)."""
        coefficients = state * (self._spread(state) / self.unit(state))
        return join(from_lightness_chroma(coefficients[:, :3] + self._centre(state)), coefficients[:, 3:])

    def forward(
        self, state: torch.Tensor, sigma: torch.Tensor, log2_gsd: torch.Tensor, text: torch.Tensor
    ) -> torch.Tensor:
        """The raw network F, without preconditioning.

        Args:
            state: (b, 48, h, w), scaled to unit variance; h and w multiples of 4.
            sigma: (b,), noise levels.
            log2_gsd: (b, h), log2 of the pixels' metres for each row of blocks, or UNKNOWN_LOG2_GSD.
            text: (b, text_width), unit vectors, or rows of zeros for no text.

        Returns:
            (b, 48, h, w).
        """
        rows = self.row_embedding(sigma.log(), log2_gsd, torch.zeros_like(sigma), text)
        out: torch.Tensor = self.unet(state, rows)
        return out

    def scales(self, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """EDM's c_skip, c_out and c_in (table 1) for noise levels (b,), each channel with its own sigma_data."""
        unit, level = self.unit(sigma).square(), sigma.square()[:, None, None, None]
        total = unit + level
        return unit / total, (level * unit / total).sqrt(), total.rsqrt()

    def denoise(
        self, state: torch.Tensor, sigma: torch.Tensor, log2_gsd: torch.Tensor, text: torch.Tensor
    ) -> torch.Tensor:
        """The expected clean state, of the noisy one; arguments as `forward`."""
        skip, out, enter = self.scales(sigma)
        return skip * state + out * self.forward(enter * state, sigma, log2_gsd, text)


class DenoisedStep:
    """Makes pixels of prompt worlds, each a pure function of its address.

    Safe to call from many threads, which take turns.

    Args:
        net: the network.
        weights_id: content id of its weights.
        device: where to compute.
    """

    def __init__(self, net: PromptDenoiser, weights_id: str, device: torch.device) -> None:
        self.id = weights_id
        self._device = device
        self._net = net
        self._net.to(device=device)  # type: ignore[call-arg]  # diffusers wraps `to` without its types
        self._net.eval().requires_grad_(False)
        self._text_width: int = net.config["text_width"]
        self._phases: list[tuple[float, ...]] = [tuple(phase) for phase in net.config["phases"]]
        self._lock = threading.Lock()
        self._kept: LRUCache[tuple[object, ...], Plane] = LRUCache(_KEPT_BYTES, lambda plane: plane.nbytes)

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
        with self._lock:
            state = self._blended(len(self._phases), seed, guide, window.box.parent())
        image = self._net.picture(torch.from_numpy(state)[None].to(self._device))[0].float().cpu()
        return np.asarray(((image + 1.0) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0))

    def _blended(self, phase: int, seed: int, guide: Guide, box: Box) -> Plane:
        """What the first `phase` phases make of a box of blocks, float32 (48, height, width)."""
        rows = covering(box.row, box.height, STRIDE, OVERLAP)
        columns = covering(box.column, box.width, STRIDE, OVERLAP)
        return blend(
            box.row,
            box.column,
            box.height,
            box.width,
            STRIDE,
            OVERLAP,
            self._windows(phase, seed, guide, box.zoom, [(row, column) for row in rows for column in columns]),
        )

    def _windows(
        self, phase: int, seed: int, guide: Guide, zoom: int, places: list[Place]
    ) -> Iterable[tuple[Place, Plane]]:
        for row, column in places:
            wrapped = (row, column % (world_size(zoom) // STRIDE))
            key = (phase, seed, zoom, *wrapped, *_key(guide))
            found = self._kept.get(key)
            if found is None:
                found = self._denoised(phase, seed, guide, zoom, wrapped)
                self._kept[key] = found
            yield (row, column), found

    def _denoised(self, phase: int, seed: int, guide: Guide, zoom: int, place: Place) -> Plane:
        """The window at a place after so many phases."""
        box = Box(zoom, place[0] * STRIDE, place[1] * STRIDE, SIDE, SIDE)
        levels = self._phases[phase - 1]
        # The zoom of the pixels; that of blocks, which positions count in, is coarser.
        pixel_zoom = zoom + 2
        field = NoiseField(seed, pixel_zoom, _NOISE_STREAM + phase - 1)
        values = field.normal(box.row, box.column, SIDE, SIDE, STATE_CHANNELS, wrap=world_size(zoom))
        noise = torch.from_numpy(values)[None].to(self._device)
        around = None
        if phase > 1:
            around = torch.from_numpy(self._blended(phase - 1, seed, guide, box))[None].to(self._device)
        guided = phase <= _GUIDED and guide.scale != 1.0
        texts = [guide.text_or_zero(self._text_width)]
        if guided:
            texts.append(guide.negative_or_zero(self._text_width))
        text = torch.from_numpy(np.stack(texts)).to(self._device)
        log2_gsd = torch.from_numpy(row_log2_gsd(pixel_zoom, box)).to(self._device).expand(len(texts), -1)

        def denoise(state: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            count = len(texts)
            answers = self._net.denoise(state.expand(count, -1, -1, -1), sigma.expand(count), log2_gsd, text)
            return answers[1:] + guide.scale * (answers[:1] - answers[1:]) if guided else answers

        state = dpm_solver_2m(denoise, noise, (*levels, 0.0), around)
        return np.asarray(state[0].float().cpu())


def _key(guide: Guide) -> tuple[object, ...]:
    """What of a guide decides the pixels."""
    vectors = (None if vector is None else vector.tobytes() for vector in (guide.text, guide.negative))
    return (*vectors, guide.scale)

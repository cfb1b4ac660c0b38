"""One cascade step: a window of children from the stored pixels of their parents.

A window's pixels are a pure function of the weights, the world's seed, the window's address and the
parents' bytes. The window is computed with a margin on each side, whose values depend on where the
window was cut, and the margin is thrown away.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from earthgen.backends import Backend, install
from earthgen.countryside import compile_drawing, countryside
from earthgen.denoiser import Condition, DetailDenoiser, Preconditioned
from earthgen.detail import DETAIL_CHANNELS, join, quantise, smooth_detail, to_unit
from earthgen.drawn import SHOWN, Draw
from earthgen.noise import NoiseField
from earthgen.pyramid import SCALE, Box, Window, ground_sampling_distance, row_latitudes, world_size
from earthgen.sampler import Denoise, dpm_solver_2m

if TYPE_CHECKING:
    from earthgen.conditioning import Guide


class CascadeStep:
    """Applies the network to windows, one at a time.

    On a CPU it computes in float32 with the memory layout that gives the same bytes on every call;
    whoever calls it keeps torch to one thread a window, since float32 sums depend on the thread count.

    Args:
        net: the network; its configuration names the margin.
        device: where to compute.
        backend: what runs the network's layers; it takes their place in `net`.
        threads: windows that may be computed at a time.
        sigmas: falling noise levels, ending in 0, to sample at; None takes those of the network's configuration.

    Attributes:
        draws: whether it adds fields, roads and trees; see `earthgen.countryside`.
    """

    def __init__(
        self,
        net: DetailDenoiser,
        device: torch.device,
        backend: Backend = "torch",
        threads: int = 1,
        sigmas: tuple[float, ...] | None = None,
    ) -> None:
        self._device = device
        self._net = net
        self._net.to(device=device)  # type: ignore[call-arg]  # diffusers wraps `to` without its types
        self._net.eval().requires_grad_(False)
        install(backend, self._net, threads)
        self._model = Preconditioned(self._net)
        self._sigmas: tuple[float, ...] = tuple(net.config["sigmas"]) if sigmas is None else sigmas
        self._margin: int = net.config["margin"]
        self.draws: bool = net.config["countryside"]
        if self.draws:
            compile_drawing()
        if backend != "torch":
            # All windows have one shape: what a backend compiles for it is there before anybody waits for a tile. It is
            # compared with torch on this window, so that is one of the kind that the network has learnt: busy ground.
            some = Window(12, 4, 4)
            box = self.parent_box(some)
            ground = np.random.default_rng(0).integers(60, 180, (box.height, box.width, 3), dtype=np.uint8)
            self.window(0, some, ground)

    def parent_box(self, window: Window) -> Box:
        """The parents that a window needs, margin included; rows may leave the world."""
        return window.box.grown(self._margin * SCALE).parent()

    @torch.inference_mode()
    def window(
        self,
        seed: int,
        window: Window,
        parents: npt.NDArray[np.uint8],
        guide: Guide | None = None,
        drawing: Draw | None = None,
    ) -> npt.NDArray[np.uint8]:
        """The pixels of a window.

        Args:
            seed: the world's.
            window: which one.
            parents: uint8 (h, w, 3), the pixels of `parent_box(window)`.
            guide: what a prompt says; None says nothing. Only for a network with a `text_width`.
            drawing: what is added to the network's detail; None for what the weights draw by themselves.

        Returns:
            uint8 (WINDOW_SIZE, WINDOW_SIZE, 3); each 4x4 block averages to exactly its parent's bytes.
        """
        box = self.parent_box(window)
        noise = NoiseField(seed, window.zoom).normal(
            box.row, box.column, box.height, box.width, DETAIL_CHANNELS, wrap=world_size(box.zoom)
        )
        parent = to_unit(parents).to(self._device)
        # The GSD of the children, row by row, so that it does not jump where windows meet.
        equator_gsd = ground_sampling_distance(window.zoom, 0.0)
        gsd = equator_gsd * np.cos(np.radians(row_latitudes(box.zoom, box.row, box.height)))
        log2_gsd = torch.from_numpy(np.log2(gsd).astype(np.float32))[None].to(self._device)
        state = dpm_solver_2m(
            self._denoiser(parent, log2_gsd, guide), torch.from_numpy(noise)[None].to(self._device), self._sigmas
        )
        texture = state * self._net.detail_scale(parent, log2_gsd)
        smooth = smooth_detail(parent)
        inner = slice(self._margin, -self._margin)
        parent, texture, smooth = (part[:, :, inner, inner] for part in (parent, texture, smooth))
        drawn = None
        if drawing is None and self.draws and guide is None:
            drawing = partial(countryside, seed)
        if drawing is not None:
            around = slice(max(0, self._margin - SHOWN), min(0, SHOWN - self._margin) or None)
            # Networks with a smaller margin see less, and so do their drawings.
            beyond = max(0, SHOWN - self._margin)
            shown = np.pad(parents[around, around], ((beyond, beyond), (beyond, beyond), (0, 0)), mode="edge")
            drawn = drawing(window.box, shown)
        if drawn is not None and drawn.texture is not None:
            texture = texture * torch.from_numpy(drawn.texture).to(self._device)
        image = join(parent, texture + smooth)
        if drawn is not None:
            image = image + torch.from_numpy(drawn.detail)[None].to(self._device)
        return quantise(image.float().cpu(), parents[inner, inner])

    def _denoiser(self, parent: torch.Tensor, log2_gsd: torch.Tensor, guide: Guide | None) -> Denoise:
        """The network with its condition bound; text guides without a classifier (Ho & Salimans 2022, equation 6)."""

        def bound(text: npt.NDArray[np.float32] | None) -> Denoise:
            told = None if text is None else torch.from_numpy(text)[None].to(self._device)
            condition = Condition(parent, log2_gsd, torch.zeros(1, device=self._device), told)
            return lambda x, sigma: self._model(x, sigma, condition)

        if guide is None:
            return bound(None)
        towards = bound(guide.text)
        if guide.scale == 1.0:
            return towards
        away = bound(guide.negative)

        def guided(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            base = away(x, sigma)
            return base + guide.scale * (towards(x, sigma) - base)

        return guided

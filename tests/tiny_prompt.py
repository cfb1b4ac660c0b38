"""Tiny random networks of both kinds of prompt root."""

from __future__ import annotations

import torch

from earthgen.roots.denoised import STATE_CHANNELS, PromptDenoiser
from earthgen.roots.prompt import PromptGenerator


def tiny_generator() -> PromptGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net: PromptGenerator = PromptGenerator(
            channels=(8, 8, 8), blocks=(1, 1, 1, 1, 1), kernel=3, expansion=2, embedding=8, text_width=6
        )
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
    return net


def tiny_denoiser() -> PromptDenoiser:
    spread = (0.5, 0.1, 0.1, *(0.2 / (1 + channel % 15) for channel in range(STATE_CHANNELS - 3)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net: PromptDenoiser = PromptDenoiser(
            channels=(8, 8, 8),
            blocks=(1, 1, 1, 1, 1),
            kernel=3,
            expansion=2,
            embedding=8,
            text_width=6,
            centre=(-0.3, 0.0, 0.0),
            spread=spread,
            phases=((5.0, 1.0), (0.6, 0.1)),
        )
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
    return net

"""Few-step samplers as pure functions over any denoiser `(x, sigma) -> x0`.

The state is kept in float32; no sampler draws random numbers: noise is an argument.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch

Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps a noisy state (b, c, h, w) and its noise levels (b,) to the expected clean state (b, c, h, w)."""


def karras_sigmas(steps: int, sigma_max: float = 20.0, sigma_min: float = 0.05, rho: float = 5.0) -> tuple[float, ...]:
    """Falling noise levels, spaced as Karras et al. 2022, equation 5, then 0.

    Args:
        steps: how often the network runs, at least 1.
        sigma_max: first level, in standard deviations of the data.
        sigma_min: last level before 0.
        rho: how far the spacing leans towards small levels.

    Returns:
        steps + 1 numbers, the last one 0.
    """
    if steps < 1:
        raise ValueError(f"{steps} sampling steps; at least 1 is needed")
    if steps == 1:
        return (sigma_max, 0.0)
    first, last = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (*((first + index / (steps - 1) * (last - first)) ** rho for index in range(steps)), 0.0)


def dpm_solver_2m(
    denoise: Denoise, noise: torch.Tensor, sigmas: Sequence[float], around: torch.Tensor | None = None
) -> torch.Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2): one network call a step.

    Args:
        denoise: the denoiser, its condition bound.
        noise: (b, c, h, w), standard normal.
        sigmas: falling noise levels that end in 0, as `karras_sigmas` gives them.
        around: a clean state to begin from, where a phase goes on from another's result; None begins from noise alone.

    Returns:
        A sample (b, c, h, w).
    """
    x = noise * sigmas[0] if around is None else around + noise * sigmas[0]
    previous: torch.Tensor | None = None
    previous_step = 0.0
    for sigma, following in itertools.pairwise(sigmas):
        denoised = denoise(x, torch.full((x.shape[0],), sigma, device=x.device))
        if following == 0:
            return denoised
        # In units of lambda = -log(sigma) the exact solution weighs old state and data by ratio and 1 - ratio.
        ratio = following / sigma
        step = float(torch.log(torch.tensor(sigma / following, dtype=torch.float64)))
        data = denoised
        if previous is not None:
            extrapolation = step / (2 * previous_step)
            data = (1 + extrapolation) * denoised - extrapolation * previous
        x = ratio * x + (1 - ratio) * data
        previous, previous_step = denoised, step
    return x

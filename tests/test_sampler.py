"""Samplers: exact where the answer is known, pure, and the arithmetic of a second implementation."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st

from earthgen.sampler import dpm_solver_2m, karras_sigmas


@given(steps=st.integers(2, 30), top=st.floats(1, 80), bottom=st.floats(0.002, 0.5))
def test_sigmas_fall_from_the_first_to_the_last_and_then_to_0(steps: int, top: float, bottom: float) -> None:
    sigmas = karras_sigmas(steps, top, bottom)
    assert len(sigmas) == steps + 1
    assert sigmas[0] == pytest.approx(top)
    assert sigmas[-2] == pytest.approx(bottom)
    assert sigmas[-1] == 0
    assert all(a > b for a, b in itertools.pairwise(sigmas))


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        karras_sigmas(0)


def test_gaussian_data_come_out_with_their_mean_and_deviation() -> None:
    mean, deviation = 2.0, 0.5

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        s = sigma[:, None, None, None] ** 2
        return (deviation**2 * x + s * mean) / (deviation**2 + s)

    noise = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    sample = dpm_solver_2m(denoise, noise, karras_sigmas(60, 40.0, 0.01))
    assert float(sample.mean()) == pytest.approx(mean, abs=0.05)
    assert float(sample.std()) == pytest.approx(deviation, abs=0.02)


def test_one_step_is_the_denoised_noise() -> None:
    noise = torch.randn(2, 3, 4, 4)
    sample = dpm_solver_2m(lambda x, sigma: x / sigma[:, None, None, None], noise, karras_sigmas(1, 5.0))
    assert torch.allclose(sample, noise)


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    dpm_solver_2m(lambda x, sigma: 0.5 * x, torch.ones(1, 1, 4, 4), karras_sigmas(5))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("steps", [2, 3, 6, 12])
def test_it_is_diffusers_multistep_solver(steps: int) -> None:
    scheduler: Any = EDMDPMSolverMultistepScheduler(
        sigma_min=0.05, sigma_max=20.0, sigma_data=1.0, rho=5.0, solver_order=2, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(steps)
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x / (1 + sigma[:, None, None, None])) * 1.5

    x = noise * scheduler.sigmas[0]
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        c_skip, c_out = 1 / (sigma**2 + 1), sigma / math.sqrt(sigma**2 + 1)
        raw = (denoise(x, sigma[None]) - c_skip * x) / c_out
        x = scheduler.step(raw, timestep, x, return_dict=False)[0]
    ours = dpm_solver_2m(denoise, noise, [float(sigma) for sigma in scheduler.sigmas])
    assert torch.allclose(ours, x, atol=2e-3)

"""The network: local, told its scale row by row, preconditioned as EDM says, saved and loaded whole."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from earthgen.denoiser import Condition, DetailDenoiser, Preconditioned
from earthgen.detail import local_contrast
from earthgen.unet import ALIGNMENT, sinusoid
from tests.tiny import tiny_net

KNOTS = ((0.0, 1.0, 0.5), (4.0, 3.0, 1.0))


@pytest.fixture(scope="module")
def net() -> DetailDenoiser:
    return tiny_net().eval()


def example(count: int = 2, side: int = 16, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    random = torch.Generator().manual_seed(seed)
    parent = torch.rand(count, 3, side, side, generator=random) * 2 - 1
    log2_gsd = torch.rand(count, 1, generator=random) * 10 + torch.zeros(count, side)
    state = torch.randn(count, 45, side, side, generator=random)
    return state, torch.rand(count, generator=random) + 0.5, Condition(parent, log2_gsd, torch.zeros(count))


def of_one(condition: Condition, index: int) -> Condition:
    part = slice(index, index + 1)
    return Condition(condition.parent[part], condition.log2_gsd[part], condition.parent_noise[part])


@torch.no_grad()
def test_a_batch_of_two_is_two_batches_of_one(net: DetailDenoiser) -> None:
    state, sigma, condition = example()
    both = net(state, sigma.log(), condition)
    for index in range(2):
        alone = net(state[index : index + 1], sigma[index : index + 1].log(), of_one(condition, index))
        assert torch.allclose(both[index], alone[0], atol=1e-5)


def test_gradients_reach_every_parameter(net: DetailDenoiser) -> None:
    state, sigma, condition = example()
    condition = Condition(condition.parent, condition.log2_gsd, torch.ones(2))
    net.zero_grad()
    net(state, sigma.log(), condition).square().mean().backward()
    without = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    net.zero_grad()
    assert without == []


@torch.no_grad()
def test_it_sees_no_further_than_its_kernels_reach(net: DetailDenoiser) -> None:
    state, sigma, condition = example(1, side=96)
    changed = state.clone()
    changed[..., :8] += 1
    # Fine stages reach 1 + 1 positions and the two outer convolutions 2; middle stages 2 x 2, the coarse one 4,
    # and each halving may carry a change to the far side of its block.
    reach = 1 + 1 + 2 + 4 + 4 + 4 + ALIGNMENT
    difference = (net(changed, sigma.log(), condition) - net(state, sigma.log(), condition)).abs()
    assert difference[..., :8].max() > 1e-3
    assert difference[..., 8 + reach :].max() == 0


@torch.no_grad()
def test_a_shift_by_whole_blocks_shifts_the_output(net: DetailDenoiser) -> None:
    state, sigma, condition = example(1, side=96)
    shifted = Condition(condition.parent.roll(ALIGNMENT, dims=-1), condition.log2_gsd, condition.parent_noise)
    plain = net(state, sigma.log(), condition).roll(ALIGNMENT, dims=-1)
    moved = net(state.roll(ALIGNMENT, dims=-1), sigma.log(), shifted)
    assert torch.allclose(plain[..., 32:64], moved[..., 32:64], atol=1e-5)


@torch.no_grad()
def test_scale_noise_level_and_parent_noise_matter(net: DetailDenoiser) -> None:
    state, sigma, condition = example(1)
    plain = net(state, sigma.log(), condition)
    others = [
        net(state, sigma.log() + 1, condition),
        net(state, sigma.log(), Condition(condition.parent, condition.log2_gsd + 3, condition.parent_noise)),
        net(state, sigma.log(), Condition(condition.parent, condition.log2_gsd, condition.parent_noise + 1)),
    ]
    for other in others:
        assert (other - plain).abs().mean() > 1e-4


@torch.no_grad()
def test_preconditioning_keeps_data_at_no_noise_and_ignores_the_input_at_much(net: DetailDenoiser) -> None:
    model = Preconditioned(net)
    state, _, condition = example(1)
    assert torch.allclose(model(state, torch.full((1,), 1e-4), condition), state, atol=1e-3)
    s = torch.tensor([2.0])
    raw = net(state / 5**0.5, s.log(), condition)
    assert torch.allclose(model(state, s, condition), state / 5 + 2 / 5**0.5 * raw, atol=1e-5)
    assert float(model.loss_weight(s)) == pytest.approx(5 / 4)


@torch.no_grad()
def test_busy_parents_call_for_more_detail_by_the_configured_line() -> None:
    net = DetailDenoiser(
        channels=(8, 8, 8), blocks=(1, 1, 1, 1, 1), embedding=8, detail_std=(0.5,) * 45, contrast=KNOTS
    )
    parent = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.2
    busy = local_contrast(parent)
    for log2_gsd, offset, slope in ((-1.0, 1.0, 0.5), (2.0, 2.0, 0.75), (9.0, 3.0, 1.0)):
        scale = net.detail_scale(parent, torch.full((1, 16), log2_gsd))
        expected = 0.5 * (offset + slope * busy).clamp(-5, 1.5).exp()
        assert torch.allclose(scale, expected.expand_as(scale), rtol=1e-4)


def test_sinusoid_has_the_periods_it_was_given() -> None:
    features = sinusoid(torch.tensor([0.0, 2.0, 32.0]), 6, 2.0, 32.0)
    assert features.shape == (3, 6)
    assert torch.allclose(features[0], torch.tensor([1.0, 1, 1, 0, 0, 0]))
    assert torch.allclose(features[1, 0], features[0, 0], atol=1e-5)
    assert torch.allclose(features[2, 2], features[0, 2], atol=1e-5)


@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(net: DetailDenoiser, tmp_path: Path) -> None:
    net.save_pretrained(tmp_path)
    back = DetailDenoiser.from_pretrained(tmp_path).eval()
    state, sigma, condition = example()
    assert torch.equal(back(state, sigma.log(), condition), net(state, sigma.log(), condition))
    assert list(back.config["sigmas"]) == [3.0, 0.7, 0.0]


def test_it_can_learn_a_handful_of_samples() -> None:
    net = tiny_net()
    model = Preconditioned(net)
    state, _, condition = example(4, side=8)
    sigma = torch.full((4,), 1.0)
    noise = torch.randn(state.shape, generator=torch.Generator().manual_seed(5))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = (
            model.loss_weight(sigma) * (model(state + noise, sigma, condition) - state).square().mean(dim=(1, 2, 3))
        ).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@torch.no_grad()
def test_detail_is_fainter_over_open_water_and_only_there() -> None:
    net = DetailDenoiser(channels=(8, 8, 8), blocks=(1, 1, 1, 1, 1), embedding=8, water_calm=2.0)
    grain = 0.05 * torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    scales = {}
    for name, colour in (("sea", (17, 46, 78)), ("forest", (53, 75, 47)), ("snow", (239, 244, 249))):
        parent = torch.tensor(colour)[None, :, None, None] / 127.5 - 1 + grain
        scales[name] = float(net.detail_scale(parent, torch.zeros(1, 16)).mean())
    assert scales["sea"] == pytest.approx(math.exp(-2) * scales["forest"], rel=0.1)
    assert scales["snow"] == pytest.approx(scales["forest"], rel=0.1)

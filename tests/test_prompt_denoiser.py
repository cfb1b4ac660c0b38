"""The prompt root that denoises: windows agree with their neighbours and are pure functions of their arguments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from earthgen.conditioning import Guide
from earthgen.errors import WeightsError
from earthgen.prompting import Words, open_prompt_root
from earthgen.pyramid import WINDOW_SIZE, Window
from earthgen.roots.denoised import STATE_CHANNELS, DenoisedStep, PromptDenoiser


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


def step() -> DenoisedStep:
    return DenoisedStep(tiny_denoiser(), "tiny", torch.device("cpu"))


def vector(index: int) -> npt.NDArray[np.float32]:
    one_hot: npt.NDArray[np.float32] = np.eye(6, dtype=np.float32)[index]
    return one_hot


def test_a_state_is_the_picture_in_other_numbers() -> None:
    net = tiny_denoiser()
    image = torch.rand(2, 3, 32, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert torch.allclose(net.picture(net.state(image)), image, atol=1e-5)


def test_a_state_has_the_spread_that_preconditioning_counts_on() -> None:
    net = tiny_denoiser()
    spread, centre = torch.tensor(net.config["spread"]), torch.tensor(net.config["centre"])
    normal = torch.randn(4, STATE_CHANNELS, 32, 32, generator=torch.Generator().manual_seed(1))
    state = normal * net.unit(normal)
    assert float(net.unit(normal)[0, 0, 0, 0]) == 1.0
    again = net.state(net.picture(state))
    assert torch.allclose(again, state, atol=1e-4)
    colours = net.picture(state).mean(dim=(2, 3)).sum(dim=1) / 3**0.5
    assert torch.allclose(colours, centre[:1].expand(4), atol=6 * float(spread[0]) / 32)


@pytest.mark.parametrize("sigma", [0.02, 1.0, 20.0])
def test_preconditioning_keeps_variances(sigma: float) -> None:
    net = tiny_denoiser()
    skip, out, enter = net.scales(torch.tensor([sigma]))
    unit = net.unit(skip)
    # EDM's requirements (section 5, appendix B.6): what enters, and what F has to answer, have unit variance.
    assert torch.allclose(enter.square() * (unit.square() + sigma**2), torch.ones_like(unit), atol=1e-4)
    target = ((1 - skip).square() * unit.square() + skip.square() * sigma**2) / out.square()
    assert torch.allclose(target, torch.ones_like(unit), atol=1e-3)


def test_windows_meet_without_a_seam() -> None:
    made = step()
    left, right = (made.window(3, Window(12, 40, column), Guide(vector(0))).astype(int) for column in (70, 71))
    across = np.abs(left[:, -1] - right[:, 0]).mean()
    inside = np.abs(np.diff(left, axis=1)[:, 3::4]).mean()
    assert left.shape == (WINDOW_SIZE, WINDOW_SIZE, 3)
    # A cut would make neighbours as different as strangers: three times and more.
    assert 0.8 * inside < across < 1.25 * inside


def test_a_window_depends_on_seed_text_and_address_and_on_nothing_else() -> None:
    window = Window(12, 40, 70)
    first = step().window(3, window, Guide(vector(0)))
    made = step()
    made.window(9, Window(12, 1, 1), Guide(vector(2)))
    assert np.array_equal(made.window(3, window, Guide(vector(0))), first)
    for other in (
        made.window(4, window, Guide(vector(0))),
        made.window(3, window, Guide(vector(1))),
        made.window(3, Window(12, 40, 72), Guide(vector(0))),
    ):
        assert not np.array_equal(other, first)


def test_guidance_of_one_is_no_guidance_and_more_goes_further_from_the_negative() -> None:
    made, window = step(), Window(12, 40, 70)
    plain = made.window(3, window, Guide(vector(0)))
    assert np.array_equal(made.window(3, window, Guide(vector(0), vector(1), 1.0)), plain)
    negative = made.window(3, window, Guide(vector(1))).astype(float)
    guided = made.window(3, window, Guide(vector(0), vector(1), 3.0)).astype(float)
    assert np.abs(guided - negative).mean() > np.abs(plain - negative).mean()


def test_columns_wrap() -> None:
    made = step()
    assert np.array_equal(
        made.window(3, Window(6, 40, 0), Guide(vector(0))),
        made.window(3, Window(6, 40, 64 * 256 // WINDOW_SIZE), Guide(vector(0))),
    )


def test_a_folder_says_which_kind_of_root_it_is(tmp_path: Path) -> None:
    net: PromptDenoiser = PromptDenoiser(
        channels=(8, 8, 8), blocks=(1, 1, 1, 1, 1), kernel=3, embedding=8, phases=((4.0, 1.0), (0.5,))
    )
    net.save_pretrained(tmp_path / "denoiser")
    root = open_prompt_root(tmp_path / "denoiser")
    words = Words("a desert", guidance=2)
    assert np.array_equal(root.window(3, Window(12, 40, 70), words), root.window(3, Window(12, 40, 70), words))
    config = tmp_path / "denoiser" / "config.json"
    config.write_text(config.read_text().replace("PromptDenoiser", "BandNet"))
    with pytest.raises(WeightsError, match="a PromptGenerator or a PromptDenoiser is needed"):
        open_prompt_root(tmp_path / "denoiser")

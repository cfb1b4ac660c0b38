"""The denoiser of the prompt root: its state, its preconditioning, and how a folder says that it is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from earthgen.cascade import CascadeStep
from earthgen.errors import WeightsError
from earthgen.prompting import Words, open_prompt_root
from earthgen.pyramid import Window
from earthgen.roots.denoised import STATE_CHANNELS, PromptDenoiser
from tests.tiny import tiny_net
from tests.tiny_prompt import tiny_denoiser


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


def test_a_folder_says_which_kind_of_root_it_is(tmp_path: Path) -> None:
    net: PromptDenoiser = PromptDenoiser(
        channels=(8, 8, 8), blocks=(1, 1, 1, 1, 1), kernel=3, embedding=8, phases=((4.0, 1.0), (0.5,))
    )
    net.save_pretrained(tmp_path / "denoiser")
    root = open_prompt_root(tmp_path / "denoiser")
    words = Words("a desert", guidance=2)
    window, step = Window(12, 40, 70), CascadeStep(tiny_net(), torch.device("cpu"))
    assert np.array_equal(root.window(3, window, words, step), root.window(3, window, words, step))
    # All that it knows is in the root.
    assert root.drawing(3, words, 12) is None
    config = tmp_path / "denoiser" / "config.json"
    config.write_text(config.read_text().replace("PromptDenoiser", "BandNet"))
    with pytest.raises(WeightsError, match="a PromptGenerator or a PromptDenoiser is needed"):
        open_prompt_root(tmp_path / "denoiser")

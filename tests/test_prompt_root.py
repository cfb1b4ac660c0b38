"""Both kinds of prompt root: windows that agree with their neighbours and are pure functions of their arguments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from earthgen.conditioning import Guide
from earthgen.errors import AddressError, WeightsError
from earthgen.noise import NoiseField
from earthgen.pyramid import WINDOW_SIZE, Window
from earthgen.roots.denoised import DenoisedStep
from earthgen.roots.prompt import PromptStep, layered_noise
from earthgen.unet import LocalUNet
from tests.tiny_prompt import tiny_denoiser, tiny_generator

NewStep = Callable[[], PromptStep | DenoisedStep]


@pytest.fixture(params=["generator", "denoiser"])
def new_step(request: pytest.FixtureRequest) -> NewStep:
    """Makes either kind of root, always the same one: what is shown with it holds for both."""
    if request.param == "generator":
        return lambda: PromptStep(tiny_generator(), "tiny", torch.device("cpu"))
    return lambda: DenoisedStep(tiny_denoiser(), "tiny", torch.device("cpu"))


def vector(index: int) -> npt.NDArray[np.float32]:
    one_hot: npt.NDArray[np.float32] = np.eye(6, dtype=np.float32)[index]
    return one_hot


def draw(layer: int, channels: int, row: int, column: int, height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(NoiseField(5, 12, layer).normal(row, column, height, width, channels))[None]


def test_a_crop_of_the_noise_is_the_noise_of_the_crop() -> None:
    whole = layered_noise(draw, 0, 16, 64, 64)
    part = layered_noise(draw, 16, 48, 32, 16)
    assert torch.allclose(whole[:, :, 16:48, 32:48], part, atol=1e-6)


def test_coarse_noise_needs_aligned_rectangles() -> None:
    with pytest.raises(AddressError, match="not aligned to 4"):
        layered_noise(draw, 2, 0, 32, 32)


def test_windows_meet_without_a_seam(new_step: NewStep) -> None:
    made = new_step()
    left, right = (made.window(3, Window(12, 40, column), Guide(vector(0))).astype(int) for column in (70, 71))
    across = np.abs(left[:, -1] - right[:, 0]).mean()
    inside = np.abs(np.diff(left, axis=1)[:, 3::4]).mean()
    assert left.shape == (WINDOW_SIZE, WINDOW_SIZE, 3)
    # A cut would make neighbours as different as strangers: three times and more.
    assert 0.8 * inside < across < 1.25 * inside


def test_a_window_depends_on_seed_text_and_address_and_on_nothing_else(new_step: NewStep) -> None:
    window = Window(12, 40, 70)
    first = new_step().window(3, window, Guide(vector(0)))
    made = new_step()
    made.window(9, Window(12, 1, 1), Guide(vector(2)))
    assert np.array_equal(made.window(3, window, Guide(vector(0))), first)
    for other in (
        made.window(4, window, Guide(vector(0))),
        made.window(3, window, Guide(vector(1))),
        made.window(3, Window(12, 40, 72), Guide(vector(0))),
    ):
        assert not np.array_equal(other, first)


def test_guidance_of_one_is_no_guidance_and_more_goes_further_from_the_negative(new_step: NewStep) -> None:
    made, window = new_step(), Window(12, 40, 70)
    plain = made.window(3, window, Guide(vector(0)))
    assert np.array_equal(made.window(3, window, Guide(vector(0), vector(1), 1.0)), plain)
    negative = made.window(3, window, Guide(vector(1))).astype(float)
    guided = made.window(3, window, Guide(vector(0), vector(1), 3.0)).astype(float)
    assert np.abs(guided - negative).mean() > np.abs(plain - negative).mean()


def test_columns_wrap(new_step: NewStep) -> None:
    made = new_step()
    assert np.array_equal(
        made.window(3, Window(6, 40, 0), Guide(vector(0))),
        made.window(3, Window(6, 40, 64 * 256 // WINDOW_SIZE), Guide(vector(0))),
    )


def test_missing_weights_are_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"config\.json is missing"):
        PromptStep.open(tmp_path)


def test_an_unknown_upsampling_is_refused() -> None:
    with pytest.raises(ValueError, match="interpolate, unfold"):
        LocalUNet(3, 3, (8, 8, 8), (1, 1, 1, 1, 1), 8, 3, 2, "nearest")  # type: ignore[arg-type]

"""What quality is measured by says what it should about pictures that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.measures import (
    coherence,
    colour_distance,
    edge_length,
    kid,
    memorisation,
    repetition,
    spectral_slope,
    spectrum_distance,
    squareness,
)

SIDE = 128


def noise(count: int = 4, seed: int = 0) -> torch.Tensor:
    return (torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) - 0.5).clamp(-1, 1)


def red_noise(slope: float, seed: int = 0) -> torch.Tensor:
    """Noise whose power falls with frequency to the power of `slope`."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = 1.0
    white = np.fft.rfft2(random.normal(size=(8, SIDE, SIDE)))
    pictures = np.fft.irfft2(white * frequency ** (slope / 2))
    scaled = torch.from_numpy(pictures / np.abs(pictures).max()).float()
    return scaled[:, None].expand(-1, 3, -1, -1)


def squares(angle: float) -> torch.Tensor:
    """Square fields turned by an angle."""
    places = torch.arange(8 * SIDE) / 8.0
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    turned = [
        rows * np.cos(angle) + columns * np.sin(angle),
        columns * np.cos(angle) - rows * np.sin(angle),
    ]
    fields = ((turned[0] // 20).long() + (turned[1] // 20).long()) % 2
    smooth = torch.nn.functional.avg_pool2d((fields.float() - 0.5)[None, None], 8)
    return smooth.expand(2, 3, -1, -1)


@pytest.mark.parametrize("slope", [-1.0, -2.0, -3.0])
def test_the_spectral_slope_is_that_of_the_noise(slope: float) -> None:
    assert spectral_slope(red_noise(slope)) == pytest.approx(slope, abs=0.15)


def test_equal_populations_are_at_no_distance_and_brighter_or_blurred_ones_are() -> None:
    real = red_noise(-2.0)
    assert spectrum_distance(real, real) == colour_distance(real, real) == 0.0
    assert colour_distance(real + 0.2, real) == pytest.approx(0.5 * 0.2 * 127.5, rel=1e-3)
    # Half the amplitude is a quarter of the power everywhere.
    assert spectrum_distance(real * 0.5, real) == pytest.approx(np.log(4.0), rel=1e-3)


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.7])
def test_fields_are_square_and_coherent_whichever_way_they_lie(angle: float) -> None:
    assert squareness(squares(angle)) > 0.7 > 0.2 > squareness(noise())
    assert coherence(squares(angle)) > coherence(noise()) + 0.2
    assert edge_length(squares(angle)) > edge_length(noise())


def test_tiles_that_repeat_are_noticed() -> None:
    assert repetition(noise()[:, :, :32, :32].repeat(1, 1, 4, 4)) > 0.5 > 0.1 > repetition(noise())


def test_copies_of_training_pictures_are_noticed() -> None:
    random = torch.Generator().manual_seed(0)
    training, held_out = (torch.randn(16, 6, generator=random) for _ in range(2))
    assert memorisation(training[:8], held_out, training) < 0.01
    assert memorisation(held_out, held_out, training) == pytest.approx(1.0)


def test_kid_grows_with_the_distance_of_two_populations() -> None:
    random = torch.Generator().manual_seed(0)
    real, other = (torch.randn(64, 32, generator=random) for _ in range(2))
    near, far = kid(real, other + 0.2)[0], kid(real, other + 1.0)[0]
    assert abs(kid(real, other)[0]) < near < far

"""The detail transform: invertible, orthonormal, and exact in stored bytes."""

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from earthgen.detail import _smallest, join, quantise, smooth_detail, split, to_unit


def test_join_undoes_split() -> None:
    image = torch.rand(2, 3, 32, 48) * 2 - 1
    assert torch.allclose(join(*split(image)), image, atol=1e-6)


def test_the_parent_is_the_block_mean() -> None:
    image = torch.rand(2, 3, 32, 48) * 2 - 1
    assert torch.allclose(split(image)[0], F.avg_pool2d(image, 4), atol=1e-6)


def test_white_noise_stays_white() -> None:
    image = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    channels = split(image)[1][0].flatten(1)
    assert torch.allclose(channels @ channels.T / channels.shape[1], torch.eye(45), atol=0.08)


def test_smooth_detail_is_the_detail_of_bicubic_upsampling() -> None:
    parent = torch.rand(1, 3, 12, 10) * 2 - 1
    up = F.interpolate(parent, scale_factor=4, mode="bicubic", align_corners=False)
    assert torch.allclose(smooth_detail(parent), split(up)[1], atol=1e-6)


@given(
    parent=npst.arrays(np.uint8, (3, 4, 3)),
    amplitude=st.floats(0, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_stored_children_average_exactly_to_their_parent(parent: np.ndarray, amplitude: float, seed: int) -> None:
    detail = amplitude * torch.randn(1, 45, 3, 4, generator=torch.Generator().manual_seed(seed))
    children = quantise(join(to_unit(parent), detail), parent)
    sums = children.reshape(3, 4, 4, 4, 3).sum(axis=(1, 3), dtype=np.int64)
    assert np.array_equal(sums, 16 * parent.astype(np.int64))


def test_rounding_moves_no_value_by_a_grey_level_inside_the_range() -> None:
    parent = np.full((8, 8, 3), 128, dtype=np.uint8)
    image = join(to_unit(parent), 0.2 * torch.randn(1, 45, 8, 8, generator=torch.Generator().manual_seed(1)))
    exact = ((image[0] + 1) * 127.5).permute(1, 2, 0).numpy()
    assert np.abs(quantise(image, parent) - exact).max() < 1.0


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 5, 1000]))
def test_remainders_are_rounded_up_as_a_stable_sort_ranks_them(seed: int, distinct: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, distinct, (7, 16)).astype(np.float64)  # Few distinct values: ties everywhere.
    count = random.integers(0, 17, (7, 1))
    order = np.argsort(values, axis=-1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(16), order.shape), axis=-1)
    assert np.array_equal(_smallest(values, count), rank < count)

"""Noise by address: the published vectors of its generator, and every crop being the same noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthgen.noise import NoiseField, philox4x32

# Random123 1.14, tests/kat_vectors, "philox4x32 10": counter, key, expected words.
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_philox_gives_the_published_words(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    c0, c1, c2, c3 = (np.array([word], dtype=np.uint32) for word in counter)
    assert tuple(int(word[0]) for word in philox4x32((c0, c1, c2, c3), key)) == expected


@given(
    seed=st.integers(0, 2**63 - 1),
    row=st.integers(-1000, 2**24),
    column=st.integers(-1000, 2**24),
    top=st.integers(0, 8),
    left=st.integers(0, 8),
)
def test_a_crop_is_the_crop_of_the_whole(seed: int, row: int, column: int, top: int, left: int) -> None:
    field = NoiseField(seed, 10)
    whole = field.normal(row, column, 12, 13, 7)
    crop = field.normal(row + top, column + left, 12 - top, 13 - left, 7)
    assert np.array_equal(whole[:, top:, left:], crop)


@given(column=st.integers(-500, 500))
def test_columns_wrap_around_the_world(column: int) -> None:
    field = NoiseField(3, 6)
    assert np.array_equal(field.normal(0, column, 2, 5, 3, wrap=100), field.normal(0, column + 100, 2, 5, 3, wrap=100))


def test_seeds_levels_and_streams_are_independent() -> None:
    fields = [
        NoiseField(1, 6),
        NoiseField(2, 6),
        NoiseField(1, 8),
        NoiseField(1, 6, stream=1),
        NoiseField(1 + 2**32, 6),
    ]
    draws = np.stack([field.normal(0, 0, 64, 64, 8).ravel() for field in fields])
    correlation = np.corrcoef(draws)
    assert np.abs(correlation - np.eye(len(fields))).max() < 0.03


def test_noise_is_standard_normal_and_white() -> None:
    noise = NoiseField(5, 12).normal(-200, 7, 256, 256, 6).astype(np.float64)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert abs((noise**4).mean() - 3) < 0.1
    for shifted in (noise[:, 1:] * noise[:, :-1], noise[:, :, 1:] * noise[:, :, :-1], noise[1:] * noise[:-1]):
        assert abs(shifted.mean()) < 0.01


def test_too_many_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 1024"):
        NoiseField(0, 0).normal(0, 0, 1, 1, 1025)

"""Shores: a line where parents only have a gradient, and nothing where there is no water beside land."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthgen.countryside import countryside
from earthgen.drawn import SHOWN
from earthgen.pyramid import Box
from earthgen.shores import shore

SEA, LAND = np.array((25, 48, 84)), np.array((122, 120, 82))


def coast(box: Box, angle: float, place: float, width: float = 3.0) -> npt.NDArray[np.uint8]:
    """Parents of a box: sea that becomes land over some of them, across a line."""
    rows, columns = (
        np.arange(start // 4 - SHOWN, (start + size) // 4 + SHOWN) - start // 4
        for start, size in ((box.row, box.height), (box.column, box.width))
    )
    across = np.cos(angle) * (rows[:, None] - 16) + np.sin(angle) * (columns[None, :] - 16) - place
    share = (0.5 + across / width).clip(0, 1)[..., None]
    return np.asarray((SEA + share * (LAND - SEA)).round(), dtype=np.uint8)


def box_at(zoom: int, row: int = 20_000, column: int = 31_000, side: int = 128) -> Box:
    return Box(zoom, 4 * row, 4 * column, side, side)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    zoom=st.sampled_from([10, 12, 14, 16, 18]),
    angle=st.floats(0, 6.3),
    place=st.floats(-10, 10),
)
def test_blocks_keep_their_means_and_children_are_water_or_land(
    seed: int, zoom: int, angle: float, place: float
) -> None:
    box = box_at(zoom)
    parents = coast(box, angle, place)
    detail = shore(seed, box, parents)
    assert detail is not None and detail.shape == (128, 128, 3) and detail.dtype == np.float32
    blocks = detail.reshape(32, 4, 32, 4, 3)
    assert abs(blocks.mean(axis=(1, 3))).max() < 1e-5
    # The line is seen: children beside it are as far apart as sea and land nearly are, in both directions.
    assert 127.5 * np.ptp(detail[..., 0]) > 0.5 * (LAND - SEA)[0]
    # Away from it nothing is drawn.
    share = parents[SHOWN:-SHOWN, SHOWN:-SHOWN, 0]
    whole = (share == SEA[0]) | (share == LAND[0])
    assert abs(blocks.transpose(0, 2, 1, 3, 4)[whole]).mean() < 0.01 * abs(blocks).max()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), down=st.integers(0, 16), right=st.integers(0, 16), angle=st.floats(0, 6.3))
def test_any_crop_has_the_same_shore(seed: int, down: int, right: int, angle: float) -> None:
    box = box_at(14)
    parents = coast(box, angle, 0.0)
    whole = shore(seed, box, parents)
    part = shore(
        seed,
        Box(14, box.row + 4 * down, box.column + 4 * right, 64, 64),
        parents[down : down + 16 + 2 * SHOWN, right : right + 16 + 2 * SHOWN],
    )
    assert whole is not None
    inside = whole[4 * down : 4 * down + 64, 4 * right : 4 * right + 64]
    # To the last bits: sums over arrays of another length are added up otherwise.
    assert (abs((0 if part is None else part) - inside) < 1e-3).mean() > 0.999


def test_seeds_have_other_lines_of_the_same_shore() -> None:
    box = box_at(14)
    one, other = (shore(seed, box, coast(box, 0.3, 0.0)) for seed in (1, 2))
    assert one is not None and other is not None
    assert not np.array_equal(one, other)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.2


@pytest.mark.parametrize("colour", [tuple(SEA), tuple(LAND), (235, 238, 242), (45, 70, 40)])
def test_without_water_beside_land_there_is_none(colour: tuple[int, int, int]) -> None:
    box = box_at(14)
    assert shore(7, box, np.full((32 + 2 * SHOWN, 32 + 2 * SHOWN, 3), colour, dtype=np.uint8)) is None
    # Fields beside woods are no shore.
    half = np.full((32 + 2 * SHOWN, 32 + 2 * SHOWN, 3), (110, 115, 75), dtype=np.uint8)
    half[:20] = (45, 70, 40)
    assert shore(7, box, half) is None


def test_the_land_behind_has_its_fields_and_the_network_does_not_sharpen_the_line_again() -> None:
    box = box_at(14)
    drawn = countryside(7, box, coast(box, 0.3, 0.0))
    line = shore(7, box, coast(box, 0.3, 0.0))
    assert drawn is not None and drawn.texture is not None and line is not None
    assert drawn.texture.shape == (32, 32) and 0 < drawn.texture.min() < 0.6 and drawn.texture.max() > 0.9
    sharp = abs(line).reshape(32, 4, 32, 4, 3).max(axis=(1, 3, 4))
    assert drawn.texture[sharp > 0.3].mean() < drawn.texture[sharp == 0].mean()

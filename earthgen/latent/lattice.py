"""Windows that overlap by half, and the tent that blends them (MultiDiffusion made lazy, arXiv 2512.08309).

Window k of a row begins at k * stride and is two strides long, so every place lies in two windows along each
axis and in four of the plane. The tent's weights are multiples of 1 / (4 stride**2): the four that meet at
a place sum to 1 exactly, and no weight has to be carried along.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
Place = tuple[int, int]
"""Row and column of a window, or of a block of windows; either may be negative."""


@cache
def tent(stride: int) -> Plane:
    """Weights of a window, float32 (2 * stride, 2 * stride): highest in the middle, never 0."""
    ramp = (np.arange(stride) + 0.5) / stride
    side = np.concatenate([ramp, ramp[::-1]])
    weights = np.outer(side, side).astype(np.float32)
    weights.setflags(write=False)
    return weights


def covering(first: int, length: int, stride: int) -> range:
    """The windows along one axis that share a place with first .. first + length - 1."""
    return range(first // stride - 1, (first + length - 1) // stride + 1)


def blend(row: int, column: int, height: int, width: int, stride: int, windows: Iterable[tuple[Place, Plane]]) -> Plane:
    """Average windows over a rectangle.

    Args:
        row: first row of the rectangle.
        column: first column.
        height: rows.
        width: columns.
        stride: half the side of a window.
        windows: all that touch the rectangle, each (c, 2 * stride, 2 * stride), always in the same order: float
            sums depend on it, and bytes must not depend on the rectangle.

    Returns:
        float32 (c, height, width).
    """
    canvas: Plane | None = None
    weights = tent(stride)
    for (window_row, window_column), values in windows:
        if canvas is None:
            canvas = np.zeros((len(values), height, width), dtype=np.float32)
        top, left = window_row * stride - row, window_column * stride - column
        rows = slice(max(0, top), min(height, top + 2 * stride))
        columns = slice(max(0, left), min(width, left + 2 * stride))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        inner = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        canvas[:, rows, columns] += weights[inner] * values[:, *inner]
    if canvas is None:
        raise ValueError("no windows to blend")
    return canvas

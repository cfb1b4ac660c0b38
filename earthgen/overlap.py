"""Windows that overlap, and the weights that blend them (MultiDiffusion made lazy, arXiv 2512.08309).

Window k of a row begins at k * stride and is stride + overlap long, so every place lies in one window along each
axis or in two. Weights rise and fall over the overlap: those that meet at a place sum to 1, and no weight has to
be carried along. With an overlap as long as the stride they are a tent.
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
def ramp(stride: int, overlap: int) -> Plane:
    """Weights of a window, float32 (stride + overlap, stride + overlap): 1 where it is alone, never 0."""
    rise = (np.arange(overlap) + 0.5) / overlap
    side = np.concatenate([rise, np.ones(stride - overlap), rise[::-1]])
    weights = np.outer(side, side).astype(np.float32)
    weights.setflags(write=False)
    return weights


def covering(first: int, length: int, stride: int, overlap: int) -> range:
    """The windows along one axis that share a place with first .. first + length - 1."""
    return range((first - overlap) // stride, (first + length - 1) // stride + 1)


def blend(
    row: int,
    column: int,
    height: int,
    width: int,
    stride: int,
    overlap: int,
    windows: Iterable[tuple[Place, Plane]],
) -> Plane:
    """Average windows over a rectangle.

    Args:
        row: first row of the rectangle.
        column: first column.
        height: rows.
        width: columns.
        stride: from one window to the next.
        overlap: what two windows share, at most the stride.
        windows: all that touch the rectangle, each (c, stride + overlap, stride + overlap), always in the same
            order: float sums depend on it, and bytes must not depend on the rectangle.

    Returns:
        float32 (c, height, width).
    """
    canvas: Plane | None = None
    weights = ramp(stride, overlap)
    side = stride + overlap
    for (window_row, window_column), values in windows:
        if canvas is None:
            canvas = np.zeros((len(values), height, width), dtype=np.float32)
        top, left = window_row * stride - row, window_column * stride - column
        rows = slice(max(0, top), min(height, top + side))
        columns = slice(max(0, left), min(width, left + side))
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

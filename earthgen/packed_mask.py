"""Masks that stay in memory: their blocks of one value are a number, the others are compressed.

A polygon's mask is empty or full nearly everywhere, and the 16 million pixels that it may have come to some ten
thousand bytes; parts of it are unpacked in the time that it takes to copy them.
"""

from __future__ import annotations

import sys
import zlib

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.uint8]

_SIDE = 128
_BLOCK_OVERHEAD = sys.getsizeof(b"") + 8


class PackedMask:
    """A mask of few values.

    Args:
        values: uint8 (height, width).

    Attributes:
        shape: height and width.
        nbytes: about how much memory it takes.
    """

    def __init__(self, values: Values) -> None:
        self.shape = values.shape
        height, width = values.shape
        self._blocks = [
            [_packed(values[top : top + _SIDE, left : left + _SIDE]) for left in range(0, width, _SIDE)]
            for top in range(0, height, _SIDE)
        ]
        self.nbytes = sum(_BLOCK_OVERHEAD + (len(block) if isinstance(block, bytes) else 0) for block in self._flat())

    def cut(self, rows: range, columns: range) -> Values:
        """A part of it, (len(rows), len(columns)); both ranges lie within the mask and have no gaps."""
        out = np.empty((len(rows), len(columns)), dtype=np.uint8)
        for i in _blocks_of(rows):
            for j in _blocks_of(columns):
                down, across = _shared(i, rows, self.shape[0]), _shared(j, columns, self.shape[1])
                block = self._block(i, j)
                if isinstance(block, np.ndarray):
                    block = block[_slice(down, i * _SIDE), _slice(across, j * _SIDE)]
                out[_slice(down, rows.start), _slice(across, columns.start)] = block
        return out

    def _block(self, i: int, j: int) -> Values | int:
        block = self._blocks[i][j]
        if isinstance(block, int):
            return block
        height, width = min(_SIDE, self.shape[0] - i * _SIDE), min(_SIDE, self.shape[1] - j * _SIDE)
        return np.frombuffer(zlib.decompress(block), dtype=np.uint8).reshape(height, width)

    def _flat(self) -> list[bytes | int]:
        return [block for row in self._blocks for block in row]


def _packed(block: Values) -> bytes | int:
    first = int(block[0, 0])
    return first if (block == first).all() else zlib.compress(block.tobytes())


def _blocks_of(pixels: range) -> range:
    """The blocks that a range of pixels touches."""
    return range(pixels.start // _SIDE, -(-pixels.stop // _SIDE)) if pixels else range(0)


def _shared(block: int, pixels: range, length: int) -> range:
    """The pixels of a block that lie in a range."""
    return range(max(block * _SIDE, pixels.start), min((block + 1) * _SIDE, pixels.stop, length))


def _slice(pixels: range, start: int) -> slice:
    return slice(pixels.start - start, pixels.stop - start)

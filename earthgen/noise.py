"""Gaussian noise addressed by position: any crop, in any order, in any process, is the same noise.

The source is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), a
counter-based generator: a position is a counter, the world's seed is the key, and Box-Muller turns the
words into normal deviates. Nothing is a stream, so nothing has to be drawn first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Ten rounds of Philox4x32 on arrays of counters.

    Args:
        counter: four uint32 arrays of shapes that broadcast together.
        key: two 32-bit words.

    Returns:
        Four uint32 arrays of the broadcast shape.
    """
    # Not broadcast yet: a word that depends on the row alone stays one number a row until a round mixes it.
    c0, c1, c2, c3 = (word.astype(np.uint64) for word in counter)
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0 = (product1 >> _SHIFT) ^ c1 ^ np.uint64(k0)
        c2 = (product0 >> _SHIFT) ^ c3 ^ np.uint64(k1)
        c1, c3 = product1 & _LOW, product0 & _LOW
        k0, k1 = (k0 + _KEY_STEPS[0]) & 0xFFFFFFFF, (k1 + _KEY_STEPS[1]) & 0xFFFFFFFF
    w0, w1, w2, w3 = (word.astype(np.uint32) for word in np.broadcast_arrays(c0, c1, c2, c3))
    return w0, w1, w2, w3


@dataclass(frozen=True, slots=True)
class NoiseField:
    """Standard normal noise over an unbounded plane of positions.

    Attributes:
        seed: 0 .. 2**64 - 1, the world's.
        level: 0 .. 255, usually the zoom of the children.
        stream: 0 .. 255, one for each use of noise on a level.
    """

    seed: int
    level: int
    stream: int = 0

    def normal(
        self, row: int, column: int, height: int, width: int, channels: int, *, wrap: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Noise of a rectangle of positions.

        Args:
            row: first row, any 32-bit integer.
            column: first column, any 32-bit integer.
            height: rows.
            width: columns.
            channels: values at each position, at most 1024.
            wrap: columns around the world; a column counts modulo this.

        Returns:
            float32 (channels, height, width).
        """
        if not 1 <= channels <= 1024:
            raise ValueError(f"{channels} noise channels; 1 to 1024 are allowed")
        rows = np.arange(row, row + height, dtype=np.int64)
        columns = np.arange(column, column + width, dtype=np.int64)
        if wrap is not None:
            columns %= wrap
        groups = -(-channels // 4)
        tags = np.arange(groups, dtype=np.uint32) | np.uint32(self.stream << 16) | np.uint32(self.level << 24)
        words = philox4x32(
            (
                columns.astype(np.uint32)[None, None, :],
                rows.astype(np.uint32)[None, :, None],
                tags[:, None, None],
                np.zeros(1, dtype=np.uint32)[:, None, None],
            ),
            (self.seed & 0xFFFFFFFF, self.seed >> 32 & 0xFFFFFFFF),
        )
        # Box-Muller, in place; half a unit is added so that the logarithm never sees 0.
        values = np.empty((groups, 4, height, width), dtype=np.float32)
        for first in (0, 2):
            radius, angle = ((word.astype(np.float64) + 0.5) * 2.0**-32 for word in words[first : first + 2])
            np.log(radius, out=radius)
            radius *= -2.0
            np.sqrt(radius, out=radius)
            angle *= 2.0 * np.pi
            np.multiply(radius, np.cos(angle), out=values[:, first], casting="same_kind")
            np.multiply(radius, np.sin(angle, out=angle), out=values[:, first + 1], casting="same_kind")
        return values.reshape(groups * 4, height, width)[:channels]

"""Texts that pictures are compared with, and how near the image tower puts them.

A cosine to a text alone says little: some texts lie near every picture. So a text is always compared with others that
it might have been: the words that layouts are painted with and those that a search tells its finds from, less the ones
that mean nearly the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from earthgen.finding import ALTERNATIVES
from earthgen.layout import CLASSES
from earthgen.tower import ImageTower

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]

VOCABULARY: tuple[str, ...] = tuple(dict.fromkeys([*(kind.prompt for kind in CLASSES.values()), *ALTERNATIVES]))
"""What else a picture might have been asked to show."""
ALIKE = 0.6
"""Cosine of two texts from which on they mean nearly the same; as in `earthgen.finding`."""


def others(tower: ImageTower, texts: Sequence[str]) -> list[str]:
    """The vocabulary without what means nearly the same as one of some texts."""
    likeness = tower.text.encode_batch(list(VOCABULARY)) @ tower.text.encode_batch(list(texts)).T
    return [word for word, near in zip(VOCABULARY, likeness.max(axis=1), strict=True) if near < ALIKE]


def cosines(tower: ImageTower, pictures: Sequence[Pixels], gsd: float, texts: Sequence[str]) -> Array:
    """Cosine of each picture with each text: (pictures, texts)."""
    vectors = tower.embed(pictures, gsd)
    return (vectors @ tower.text.encode_batch(list(texts)).T).astype(np.float64)


def rank_p_value(own: float, null: Array) -> float:
    """Chance that a text drawn from the others does at least as well, if the own one is drawn like them.

    The own value counts as one draw, so that the smallest p is 1 / (n + 1) (Phipson & Smyth 2010).
    """
    return float((1 + (null >= own).sum()) / (1 + len(null)))

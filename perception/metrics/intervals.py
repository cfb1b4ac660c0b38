"""How sure a score is: the percentile bootstrap (Efron & Tibshirani 1993, chapter 13)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from earthgen.errors import InvalidRequestError


def bootstrap_interval(
    samples: npt.NDArray[Any],
    score: Callable[[npt.NDArray[Any]], float],
    *,
    seed: int,
    draws: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Draw whole samples with replacement and look where the score falls.

    Pixels of one image resemble each other, so the unit that is drawn must be the image (or, better, the place).

    Args:
        samples: (n, ...), one count or value for each image or place.
        score: from (n, ...), the drawn samples, to a number.
        seed: of the draws.
        draws: how many.
        level: share of draws inside the interval.

    Returns:
        Lower and upper end.
    """
    if len(samples) == 0:
        raise InvalidRequestError("no samples, so no interval; give at least one")
    random = np.random.default_rng(seed)
    drawn = [score(samples[random.integers(0, len(samples), len(samples))]) for _ in range(draws)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

"""A planet from a seed alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from earthgen.errors import WorldError


def version() -> str:
    """Changes whenever the bytes of a planet may change."""
    return "0"


def render(seed: int) -> npt.NDArray[np.uint8]:
    """The planet of a seed."""
    raise WorldError("generated planets are not ready yet; root 'earth' is allowed")

"""Colours of things by their names, as measured on real pictures (`training.palette`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load

from earthgen.errors import WeightsError

Values = npt.NDArray[np.float32]

_SHARPNESS = 14.0
"""How much more the nearest noun counts than the next: the inverse temperature of a softmax over cosines."""


@dataclass(frozen=True, slots=True, eq=False)
class Colour:
    """What ground of a kind looks like; light from 0 to 1.

    Attributes:
        mean: red, green and blue, (3,).
        among: standard deviations of these from place to place, (3,).
        inside: standard deviation of light within a place.
    """

    mean: Values
    among: Values
    inside: float


@dataclass(frozen=True, slots=True, eq=False)
class Palette:
    """Colours of nouns.

    Attributes:
        id: content id.
        nouns: n of them.
        vectors: of their text, unit (n, width).
        mean, among: (n, 3), see `Colour`.
        inside: (n,).
    """

    id: str
    nouns: tuple[str, ...]
    vectors: Values
    mean: Values
    among: Values
    inside: Values

    @classmethod
    def shipped(cls) -> Self:
        """The palette that comes with the package.

        Raises:
            WeightsError: the file is missing or damaged.
        """
        path = resources.files("earthgen") / "weights" / "scenery" / "palette.safetensors"
        try:
            data = path.read_bytes()
            with resources.as_file(path) as file, safe_open(file, framework="np") as opened:
                nouns = opened.metadata()["nouns"].split("\n")
            tensors = {name: value.astype(np.float32) for name, value in load(data).items()}
            return cls(hashlib.sha256(data).hexdigest()[:12], tuple(nouns), **tensors)
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise WeightsError(f"earthgen's colours of scenes, palette.safetensors, cannot be read: {error}") from error

    def colour(self, text: Values, among: Sequence[str]) -> Colour:
        """The colour of what a text says, out of those that some nouns have.

        Args:
            text: unit (width,).
            among: nouns of the palette.
        """
        rows = np.array([self.nouns.index(noun) for noun in among])
        share = np.exp(_SHARPNESS * (self.vectors[rows] @ text))
        share = (share / share.sum()).astype(np.float32)
        return Colour(share @ self.mean[rows], share @ self.among[rows], float(share @ self.inside[rows]))


@cache
def shipped_palette() -> Palette:
    """`Palette.shipped`, read once."""
    return Palette.shipped()

"""Whether the network's lattice shows: how gradients of children spread over places in blocks and windows.

A picture of the ground has the same mean gradient at every column and row. One that is made in blocks of 4x4
children, by a network that halves its resolution on a lattice of 16 pixels, need not; discriminators with
strides of 2 to 16 on the same lattice hardly see it. So the gradient at each of the 16 places is measured,
and the places with more than their share are taught to have less.
"""

from __future__ import annotations

from typing import Any

import torch

from earthgen.pyramid import SCALE
from earthgen.unet import ALIGNMENT

PERIOD = SCALE * ALIGNMENT
"""Pixels after which the lattice repeats."""


def lattice_gradients(image: torch.Tensor) -> torch.Tensor:
    """How strong gradients are at each place of the lattice.

    Args:
        image: (b, c, h, w), its first pixel on the lattice, h and w more than PERIOD.

    Returns:
        (b, 2, PERIOD), across columns and across rows: the mean absolute difference between the pixels p - 1 and p
        with p = 0, 1, ... modulo PERIOD.
    """
    columns = image.diff(dim=3).abs().mean(dim=(1, 2))
    rows = image.diff(dim=2).abs().mean(dim=(1, 3))
    return torch.stack(
        [
            torch.stack([across[:, (place - 1) % PERIOD :: PERIOD].mean(dim=1) for place in range(PERIOD)], dim=1)
            for across in (columns, rows)
        ],
        dim=1,
    )


class Lattice:
    """Running means of gradients at the places of the lattice, band by band.

    A single picture is uneven by chance, which is no fault: what is held against it is the running mean, in
    which strong pictures count as much as they show.

    Args:
        bands: how many bands.
        memory: weight of the past in a running mean.
    """

    def __init__(self, bands: int, memory: float = 0.98) -> None:
        self._gradients = torch.full((bands, 2, PERIOD), 1e-3)
        self._memory = memory

    @property
    def _shares(self) -> torch.Tensor:
        """Gradients over their mean, (bands, 2, PERIOD); 1 everywhere is even."""
        return self._gradients / self._gradients.mean(dim=2, keepdim=True)

    def unevenness(self, image: torch.Tensor, bands: list[int]) -> torch.Tensor:
        """About the sum of squared deviations of the running shares from 1, and remember.

        Args:
            image: (n, 3, h, w) as `lattice_gradients` takes it, with gradient.
            bands: of each.
        """
        gradients = lattice_gradients(image)
        for one, band in zip(gradients.detach(), bands, strict=True):
            self._gradients[band].lerp_(one, 1 - self._memory)
        usual = self._gradients[bands].mean(dim=2, keepdim=True)
        return ((self._shares[bands] - 1) * gradients / usual).sum(dim=(1, 2)).mean()

    def excess(self) -> torch.Tensor:
        """Root mean square deviation of the running means from even, over bands, axes and places."""
        return (self._shares - 1).square().mean().sqrt()

    def shares_by_place(self) -> list[list[float]]:
        """For each band the shares of the PERIOD places, both axes averaged; for logs."""
        return [[round(value, 3) for value in band] for band in self._shares.mean(dim=1).tolist()]

    def state_dict(self) -> dict[str, Any]:
        """Everything in it, for a checkpoint."""
        return {"gradients": self._gradients}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of a checkpoint."""
        self._gradients = state["gradients"]

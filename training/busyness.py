"""How busy children are, compared with real pictures of their band as whole populations.

Each level of a chain takes the strength of its detail from the parent that the level above invented. A
level that is a little too calm makes the next calmer, and discriminators that see pictures at an even contrast
do not mind. So the local strength of detail is compared directly: the value of rank q among what the
chain makes of a band should be the value of rank q among real pictures of the band, which is the optimal
transport of one number (Peyre & Cuturi 2019, section 2.6). Calm places stay calm, as long as not all are.

The same is done for how colourful detail is beside its lightness, and how fine: strength alone is also had by
coloured noise, which the level below makes into coloured ground.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from earthgen.detail import to_lightness_chroma

_BLOCK = 16
"""Side in pixels of the blocks whose detail is summed up."""
_FLOOR = 0.5 / 127.5
STATISTICS = 7


def busyness(image: torch.Tensor) -> torch.Tensor:
    """What local detail is like: natural logarithms of root mean squares and of their ratios.

    Args:
        image: (b, 3, h, w) in [-1, 1], h and w multiples of 16.

    Returns:
        (b, 7, h * w / 256), a value a block: lightness detail of one pixel and of two pixels; the two chroma axes
        beside it, of one pixel and of two; and lightness of one pixel beside that of two.
    """
    axes = to_lightness_chroma(image)
    halved = F.avg_pool2d(axes, 2)
    quartered = F.avg_pool2d(halved, 2)
    fine = axes - F.interpolate(halved, scale_factor=2, mode="nearest")
    middle = halved - F.interpolate(quartered, scale_factor=2, mode="nearest")
    energies = [F.avg_pool2d(fine.square(), _BLOCK), F.avg_pool2d(middle.square(), _BLOCK // 2)]
    strength = 0.5 * (torch.cat(energies, dim=1) + _FLOOR**2).log().flatten(2)
    fine_light, middle_light = strength[:, :1], strength[:, 3:4]
    colour = [strength[:, 1:3] - fine_light, strength[:, 4:] - middle_light]
    return torch.cat([fine_light, middle_light, *colour, fine_light - middle_light], dim=1)


class Busyness:
    """The populations of the last pictures of each band, real and made.

    Args:
        bands: how many bands.
        capacity: pictures remembered a band.
        blocks: values a picture has of each statistic.
    """

    def __init__(self, bands: int, capacity: int, blocks: int) -> None:
        self._known = {kind: torch.zeros(bands, capacity, STATISTICS, blocks) for kind in ("real", "fake")}
        self._counts = {kind: torch.zeros(bands, dtype=torch.int64) for kind in ("real", "fake")}

    def distance(self, fake: torch.Tensor, real: torch.Tensor, bands: list[int]) -> torch.Tensor:
        """Mean distance of made pictures' values to the real values of their rank, and remember both.

        Args:
            fake: (n, 3, h, w) in [-1, 1], with gradient.
            real: (n, 3, h, w) of the same bands.
            bands: of each.
        """
        values, real_values = busyness(fake), busyness(real)
        self._remember("fake", values.detach(), bands)
        self._remember("real", real_values.detach(), bands)
        distances = []
        for value, band in zip(values, bands, strict=True):
            population, truth = self._population("fake", band), self._population("real", band)
            rank = torch.searchsorted(population, value.detach().contiguous()).float() / (population.shape[1] - 1)
            target = truth.gather(1, (rank.clamp(0, 1) * (truth.shape[1] - 1)).round().long())
            distances.append((value - target).abs().mean())
        return torch.stack(distances).mean()

    def _remember(self, kind: str, values: torch.Tensor, bands: list[int]) -> None:
        known, counts = self._known[kind], self._counts[kind]
        for value, band in zip(values, bands, strict=True):
            known[band, int(counts[band]) % known.shape[1]] = value
            counts[band] += 1

    def _population(self, kind: str, band: int) -> torch.Tensor:
        """Sorted values (7, n)."""
        filled = min(int(self._counts[kind][band]), self._known[kind].shape[1])
        return self._known[kind][band, :filled].transpose(0, 1).flatten(1).sort(dim=1).values.contiguous()

    def state_dict(self) -> dict[str, Any]:
        """Everything in it, for a checkpoint."""
        return {"known": self._known, "counts": self._counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of a checkpoint."""
        self._known, self._counts = state["known"], state["counts"]

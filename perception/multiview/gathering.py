"""What an image encoder saw of a place, gathered from all true pictures that show the place.

One picture's features of a roof depend on where it was taken from, and what a field renders at a new pose is blurred,
which an encoder that knows photographs sees, too. So a place is looked up in each picture that the field was fitted to.
Where the field's own depth there agrees that it is the place that is seen, the feature counts, and the mean is what is
known of the place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from perception.multiview.cameras import Camera
from perception.multiview.prior import Basis, Encoder

_NEAR = 1.5
"""Metres by which a place may be off what a picture shows and still be that."""


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """Pictures with features.

    Attributes:
        cameras: of v pictures.
        depths: of the field at their pixels, metres along the axis, (v, h, w).
        maps: features, (v, c, h', w'), of any size.
    """

    cameras: Sequence[Camera]
    depths: torch.Tensor
    maps: torch.Tensor

    @classmethod
    def of(cls, cameras: Sequence[Camera], depths: torch.Tensor, pictures: torch.Tensor, encoder: Encoder) -> Gathered:
        """Look at pictures (v, 3, h, w) in 0..1, and keep the principal components of what is seen."""
        maps = [encoder(picture[None]) for picture in pictures]
        basis = Basis.of(maps)
        kept = torch.cat([basis(one, *one.shape[-2:]) for one in maps])
        return cls(cameras, depths, kept.permute(0, 3, 1, 2).contiguous())

    @torch.no_grad()
    def at(self, places: torch.Tensor, without: int | None = None) -> torch.Tensor:
        """What was seen of places.

        Args:
            places: metres, (n, 3).
            without: the number of a picture that does not count. What is learned from a picture's labels has to do
                without that picture, or it would be learned from better features than there are at a new pose.

        Returns:
            Mean features and 1, or zeros where no picture shows a place, (n, c + 1).
        """
        points = places.double().numpy()
        total, count = torch.zeros(len(places), self.maps.shape[1]), torch.zeros(len(places))
        for number, camera in enumerate(self.cameras):
            if number == without:
                continue
            rows, columns, depths = camera.project(points)
            at = np.stack([(columns + 0.5) / camera.width, (rows + 0.5) / camera.height], axis=1) * 2 - 1
            inside = (np.abs(at) < 1).all(axis=1) & (depths > 0)
            chosen = torch.tensor(np.nonzero(inside)[0])
            grid = torch.tensor(at[inside], dtype=torch.float32)[None, None]
            shown = _looked_up(self.depths[number][None, None], grid)[:, 0]
            seen = (torch.tensor(depths[inside], dtype=torch.float32) - shown).abs() < _NEAR
            chosen, grid = chosen[seen], grid[:, :, seen]
            total[chosen] += _looked_up(self.maps[number : number + 1], grid)
            count[chosen] += 1
        return torch.cat([total / count.clamp_min(1)[:, None], (count > 0).float()[:, None]], dim=1)


def _looked_up(maps: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """A map (1, c, h, w) at places (1, 1, n, 2) of it, -1 to 1 between its edges: (n, c)."""
    return F.grid_sample(maps, grid, padding_mode="border", align_corners=False)[0, :, 0].t()

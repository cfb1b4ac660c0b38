"""An implicit field of density and colour over a scene's box, and volume rendering of it.

Features of a place are products of what three planes say of it (Fridovich-Keil et al., K-Planes, CVPR 2023), at two
scales; small networks make density and colour of them. Ground and walls are lit by one sun and shine nowhere, so colour
does not depend on where one looks from. A grid of densities that the field had lately says where along a ray it is
worth asking, as occupancy grids do (Mueller et al., Instant NGP, 2022). Sizes are for one thread of a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

_PLANES = ((0, 1), (0, 2), (1, 2))
"""Axes of the planes: x and y, x and z, y and z."""
_LOWEST, _FALL = 1.0, 16.0
"""Logarithm of the density, a metre, that is expected at the bottom of the box, and by how much it falls to the top."""


@dataclass(frozen=True, slots=True)
class FieldConfig:
    """Sizes of a field.

    Attributes:
        sides: points along x and y of the planes of each scale.
        heights: points along z.
        channels: of each plane.
        hidden: units of the networks.
        told: numbers that density's network tells colour's and semantics'.
        bins: parts of a ray in which the grid of densities is asked.
        samples: places on a ray at which the field is asked.
        guide: points of the grid of densities along z, y and x.
    """

    sides: tuple[int, ...] = (64, 192)
    heights: tuple[int, ...] = (16, 48)
    channels: int = 12
    hidden: int = 48
    told: int = 15
    bins: int = 96
    samples: int = 24
    guide: tuple[int, int, int] = (40, 112, 112)

    @property
    def width(self) -> int:
        """Numbers that a place has: its features, and what density's network tells."""
        return len(self.sides) * self.channels + self.told


class Rays(NamedTuple):
    """Rays: origins (r, 3), directions (r, 3) in metres, of length 1 along the camera's axis."""

    origins: torch.Tensor
    directions: torch.Tensor


class Samples(NamedTuple):
    """Places on rays.

    Attributes:
        depths: along the camera's axis, metres (r, s).
        weights: what each adds to the ray, (r, s), the sum at most 1.
        places: in the box from -1 to 1, (r, s, 3).
        features: of the places, (r, s, width).
        colours: 0..1, (r, s, 3).
    """

    depths: torch.Tensor
    weights: torch.Tensor
    places: torch.Tensor
    features: torch.Tensor
    colours: torch.Tensor


class Rendered(NamedTuple):
    """What rays see: colours (r, 3) in 0..1 on white, depths (r,) in metres, opacities (r,)."""

    colours: torch.Tensor
    depths: torch.Tensor
    opacities: torch.Tensor


class Field(nn.Module):
    """Density and colour in a box.

    Args:
        config: sizes.
        box: the lowest and the highest corner in metres, (2, 3).
    """

    box: torch.Tensor
    guide: torch.Tensor

    def __init__(self, config: FieldConfig, box: torch.Tensor) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("box", box.float())
        # Everywhere may be something until the field has been asked.
        self.register_buffer("guide", torch.full((1, 1, *config.guide), 0.05))
        self.planes = nn.ParameterList(
            nn.Parameter(torch.empty(1, config.channels, height if 2 in axes else side, side).uniform_(0.1, 0.5))
            for side, height in zip(config.sides, config.heights, strict=True)
            for axes in _PLANES
        )
        features = len(config.sides) * config.channels
        self.density_net = nn.Sequential(
            nn.Linear(features, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1 + config.told)
        )
        self.colour_net = nn.Sequential(
            nn.Linear(config.width, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 3), nn.Sigmoid()
        )

    def placed(self, points: torch.Tensor) -> torch.Tensor:
        """Points (..., 3) in metres to the box's -1 to 1."""
        low, high = self.box
        found: torch.Tensor = 2 * (points - low) / (high - low) - 1
        return found

    def density(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Places (n, 3) from -1 to 1 to densities (n,), a metre, and features (n, width)."""
        scales = []
        for number in range(len(self.config.sides)):
            product: torch.Tensor | float = 1.0
            for index, axes in enumerate(_PLANES):
                plane = self.planes[number * len(_PLANES) + index]
                found = F.grid_sample(
                    plane, places[None, None][..., axes], mode="bilinear", padding_mode="border", align_corners=True
                )
                product = product * found[0, :, 0]
            assert isinstance(product, torch.Tensor)
            scales.append(product)
        features = torch.cat(scales).t()
        out = self.density_net(features)
        # At first dense at the bottom of the box alone: ground is low, and air is above it. What is opaque all over
        # from the start hides the ground for good under a layer of paint. Later up to a density that stops everything
        # within centimetres.
        logs = out[:, 0] + _LOWEST - _FALL * (places[:, 2] + 1) / 2
        return torch.exp(logs.clamp(-12, 4)), torch.cat([features, out[:, 1:]], dim=1)

    def sample(self, rays: Rays, chance: torch.Generator | None = None) -> Samples:
        """Ask the field along rays.

        Args:
            rays: r of them.
            chance: draws places; None takes the middles.
        """
        near, far = crossings(rays, self.box)
        edges = self._edges(rays, near, far, chance)
        depths = (edges[:, 1:] + edges[:, :-1]) / 2
        lengths = (edges[:, 1:] - edges[:, :-1]) * rays.directions.norm(dim=1, keepdim=True)
        places = self.placed(rays.origins[:, None] + depths[..., None] * rays.directions[:, None])
        densities, features = self.density(places.reshape(-1, 3))
        colours = self.colour_net(features).view(*places.shape)
        optical = densities.view_as(depths) * lengths
        # w_i = T_i (1 - exp(-sigma_i delta_i)), T_i = exp(-sum of those before): Max 1995, as NeRF has it.
        before = torch.cumsum(optical, dim=1) - optical
        weights = torch.exp(-before) * (1 - torch.exp(-optical))
        return Samples(depths, weights, places, features.view(*depths.shape, -1), colours)

    @torch.no_grad()
    def _edges(self, rays: Rays, near: torch.Tensor, far: torch.Tensor, chance: torch.Generator | None) -> torch.Tensor:
        """Ends of the parts of rays that are worth asking in, (r, samples + 1), by what the grid says of densities."""
        bins, samples = self.config.bins, self.config.samples
        span = (far - near).clamp_min(1e-3)
        ends = torch.linspace(0, 1, bins + 1)
        middles = near[:, None] + (ends[:-1] + 0.5 / bins) * span[:, None]
        places = self.placed(rays.origins[:, None] + middles[..., None] * rays.directions[:, None])
        found = F.grid_sample(self.guide, places[None, :, :, None], padding_mode="border", align_corners=True)
        optical = found[0, 0, ..., 0] * span[:, None] / bins * rays.directions.norm(dim=1, keepdim=True)
        before = torch.cumsum(optical, dim=1) - optical
        weights = torch.exp(-before) * (1 - torch.exp(-optical))
        # Neighbours count, too: a surface moves while it is learned.
        spread = F.max_pool1d(weights[:, None], 3, 1, 1)[:, 0] + 0.02 / bins + 0.01 * weights.mean(dim=1, keepdim=True)
        total = torch.cumsum(spread, dim=1)
        total = F.pad(total / total[:, -1:], (1, 0))
        steps = torch.linspace(0, 1, samples + 1).expand(len(near), -1)
        if chance is not None:
            jitter = torch.rand(len(near), samples + 1, generator=chance) - 0.5
            steps = (steps + jitter / samples).clamp(0, 1)
        upper = torch.searchsorted(total, steps.contiguous(), right=True).clamp(1, bins)
        low, high = total.gather(1, upper - 1), total.gather(1, upper)
        share = ((steps - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
        return near[:, None] + (upper - 1 + share) / bins * span[:, None]

    @torch.no_grad()
    def refresh(self, chance: torch.Generator, share: int = 8) -> None:
        """Ask the field in one of `share` points of the grid of densities, and let the others fade."""
        depth, height, width = self.config.guide
        count = depth * height * width // share
        picked = torch.randint(depth * height * width, (count,), generator=chance)
        shape = torch.tensor([width, height, depth])
        at = torch.stack([picked % width, picked // width % height, picked // (width * height)], dim=1)
        jitter = torch.rand(count, 3, generator=chance) - 0.5
        places = (2 * (at + jitter) / (shape - 1) - 1).clamp(-1, 1)
        densities, _ = self.density(places)
        flat = self.guide.view(-1)
        flat[picked] = torch.maximum(0.8 * flat[picked], densities)

    def smoothness(self) -> torch.Tensor:
        """Mean square of differences between neighbours on the planes: a scalar that is small where they are smooth."""
        parts = [
            (plane[:, :, 1:] - plane[:, :, :-1]).square().mean() + (plane[..., 1:] - plane[..., :-1]).square().mean()
            for plane in self.planes
        ]
        return torch.stack(parts).sum()


def rendered(samples: Samples) -> Rendered:
    """What rays see, by volume rendering on white."""
    weights = samples.weights
    opacities = weights.sum(dim=1)
    colours = (weights[..., None] * samples.colours).sum(dim=1) + (1 - opacities)[:, None]
    depths = (weights * samples.depths).sum(dim=1) / opacities.clamp_min(1e-4)
    return Rendered(colours, depths, opacities)


def distortion(samples: Samples) -> torch.Tensor:
    """How far from each other along rays the places are that can be seen, in metres: a scalar that is 0 for surfaces.

    Equation 15 of Barron et al., Mip-NeRF 360 (CVPR 2022), without the part of single intervals:
    sum over i, j of w_i w_j |t_i - t_j|, in one pass, since depths are in order.
    """
    weights, depths = samples.weights, samples.depths
    before = torch.cumsum(weights, dim=1) - weights
    moments = torch.cumsum(weights * depths, dim=1) - weights * depths
    return 2 * (weights * (depths * before - moments)).sum(dim=1).mean()


def crossings(rays: Rays, box: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where rays enter and leave a box (2, 3): depths (r,); those that miss it leave where they enter."""
    # A direction of 0 along an axis is moved by a hair, which keeps infinities out of sums.
    small = rays.directions.abs() < 1e-9
    directions = torch.where(small, torch.full_like(rays.directions, 1e-9), rays.directions)
    ends = (box[:, None] - rays.origins) / directions
    near = ends.amin(dim=0).amax(dim=1).clamp_min(0.0)
    return near, torch.maximum(ends.amax(dim=0).amin(dim=1), near)

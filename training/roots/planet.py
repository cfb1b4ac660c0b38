"""Make `earthgen/roots/planet.safetensors`: what planets learn from the Earth.

    python -m training.roots.planet [--output PATH] [--steps 6000]

The Earth's relief (ETOPO1) gives its hypsometry and, through the same simple climate that planets use, the inputs
of a small network; the graded Blue Marble gives the colours it has to predict. The network learns a mean and a
spread (Gaussian negative log-likelihood). Two CPU minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from torch import nn

from earthgen.roots.climate import Climate, climate_of
from earthgen.roots.colour import CLIMATE_DOUBLINGS, FEATURES, HIDDEN, OUTPUTS, Ground, features
from earthgen.roots.grid import Plane, halve, row_area, row_spacing_km
from training.roots import earth
from training.roots.relief import elevation
from training.roots.sources import SIZE, picture, to_mercator

OUTPUT = Path(__file__).parents[2] / "earthgen" / "roots" / "planet.safetensors"
SAMPLES = 1_500_000
QUANTILES = 257


def earth_planes() -> tuple[Plane, Plane, Plane, npt.NDArray[np.uint8]]:
    """The Earth in Web Mercator: share of land, height and depth in kilometres (SIZE, SIZE), colours (SIZE, SIZE, 3)."""
    share, _, _ = earth.matte(picture("bmng"))
    metres = elevation(picture("etopo1"), share > 0.5)
    planes = to_mercator(np.stack([share, np.clip(metres, 0, None) * share, np.clip(-metres, 0, None)], -1))
    return np.clip(planes[..., 0], 0, 1), np.clip(planes[..., 1], 0, None) / 1000, planes[..., 2] / 1000, earth.make()


def earth_climate(land: Plane, height: Plane) -> Climate:
    """The Earth's climate on the coarse grid."""
    return climate_of(halve(land, CLIMATE_DOUBLINGS), halve(height, CLIMATE_DOUBLINGS))


def hypsometry(land: Plane, height: Plane, depth: Plane) -> dict[str, npt.NDArray[np.float32]]:
    """Heights of land and depths of the sea at equal steps of area."""
    area = np.broadcast_to(row_area(SIZE), land.shape)
    result = {}
    for name, mask, values in (("land", land > 0.9, height), ("sea", land < 0.1, depth)):
        order = np.argsort(values[mask])
        share = np.cumsum(area[mask][order])
        share /= share[-1]
        result[f"hypsometry.{name}"] = np.interp(np.linspace(0, 1, QUANTILES), share, values[mask][order]).astype(
            np.float32
        )
    return result


class Network(nn.Module):
    """Three linear layers; see earthgen.roots.colour for the meaning of the outputs."""

    def __init__(self) -> None:
        super().__init__()
        widths = (FEATURES, HIDDEN, HIDDEN, OUTPUTS)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, FEATURES) to (n, OUTPUTS)."""
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        out: torch.Tensor = self.layers[-1](x)
        return out


def negative_log_likelihood(out: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """Of colours (n, 3), 0 .. 1, under the Gaussians that the network gives; (n,)."""
    log_spread = out[:, 3:6].clamp(-6, 0)
    difference = colours - out[:, :3]
    red = difference[:, 0] * torch.exp(-log_spread[:, 0])
    green = (difference[:, 1] - out[:, 6] * red) * torch.exp(-log_spread[:, 1])
    blue = (difference[:, 2] - out[:, 7] * red - out[:, 8] * green) * torch.exp(-log_spread[:, 2])
    return 0.5 * (red**2 + green**2 + blue**2) + log_spread.sum(1)


def train(inputs: Plane, colours: Plane, steps: int) -> Network:
    """Fit the network to samples (n, FEATURES) and colours (n, 3), 0 .. 1; a tenth is held out and reported."""
    torch.manual_seed(0)
    x, y = torch.from_numpy(inputs), torch.from_numpy(colours)
    held = len(x) // 10
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for step in range(steps):
        index = torch.randint(held, len(x), (4096,))
        loss = negative_log_likelihood(network(x[index]), y[index]).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 1000 == 999:
            with torch.no_grad():
                out = network(x[:held])
                error = (out[:, :3] - y[:held]).abs().mean() * 255
                likelihood = negative_log_likelihood(out, y[:held]).mean()
            print(f"step {step + 1}: held-out nll {likelihood:.3f}, mean |error| {error:.2f} levels", flush=True)
    return network


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Learn the planets' colours and hypsometry from the Earth.")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--steps", type=int, default=6000)
    arguments = parser.parse_args()

    land, height, depth, colours = earth_planes()
    climate, ground = earth_climate(land, height), Ground.of(land, height)
    rng = np.random.Generator(np.random.Philox(key=1))
    # Equal chance for equal length on the ground: between equal pixels, which the poles would rule, and equal areas.
    chance = (land > 0.97) * row_spacing_km(SIZE)
    chosen = np.sort(rng.choice(chance.size, SAMPLES, p=(chance / chance.sum(dtype=np.float64)).ravel()))
    rows, columns = np.divmod(chosen, SIZE)
    samples = np.empty((SAMPLES, FEATURES), dtype=np.float32)
    for first in range(0, SIZE, 256):
        here = (rows >= first) & (rows < first + 256)
        samples[here] = features(ground, climate, first, 256)[rows[here] - first, columns[here]]
    order = rng.permutation(SAMPLES)
    network = train(samples[order], colours[rows, columns][order].astype(np.float32) / 255, arguments.steps)
    tensors = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    save_file({**tensors, **hypsometry(land, height, depth)}, arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()

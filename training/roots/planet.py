"""Make `earthgen/roots/planet.safetensors`: what planets learn from the Earth.

    python -m training.roots.planet [--output PATH] [--steps 6000]

The Earth's relief (ETOPO1) gives its hypsometry and, through the same simple climate that planets use, the inputs
of a small network; the graded Blue Marble gives the colours it has to predict. The network learns a mean and a
spread (Gaussian negative log-likelihood). Two CPU minutes.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from torch import nn

from earthgen.roots.climate import Climate, climate_of
from earthgen.roots.colour import CLIMATE_DOUBLINGS, FEATURES, HIDDEN, OUTPUTS, Ground, features
from earthgen.roots.grid import Plane, halve, row_area, row_latitude
from training.roots import earth
from training.roots.relief import elevation
from training.roots.sources import SIZE, picture, to_mercator

OUTPUT = Path(__file__).parents[2] / "earthgen" / "roots" / "planet.safetensors"
SAMPLES = 1_500_000
QUANTILES = 257
OCTAVES = 7


def earth_planes() -> tuple[Plane, Plane, npt.NDArray[np.uint8]]:
    """The Earth in Web Mercator: share of land, height in kilometres, colours."""
    share, _, _ = earth.matte(picture("bmng"))
    metres = elevation(picture("etopo1"), share > 0.5)
    planes = to_mercator(np.stack([share, np.clip(metres, 0, None) * share], -1))
    land, height = (np.asarray(planes[..., k], dtype=np.float32) for k in range(2))
    return np.clip(land, 0, 1), np.clip(height, 0, None) / 1000, earth.make()


def earth_climate(land: Plane, height: Plane) -> Climate:
    """The Earth's climate on the coarse grid."""
    return climate_of(halve(land, CLIMATE_DOUBLINGS), halve(height, CLIMATE_DOUBLINGS))


def hypsometry(land: Plane, height: Plane) -> dict[str, npt.NDArray[np.float32]]:
    """Heights of land in kilometres at QUANTILES equal steps of area."""
    dry = land > 0.9
    area = np.broadcast_to(row_area(SIZE), land.shape)[dry]
    order = np.argsort(height[dry])
    share = np.cumsum(area[order])
    heights = np.interp(np.linspace(0, 1, QUANTILES), share / share[-1], height[dry][order])
    return {"hypsometry.land": heights.astype(np.float32)}


def texture(
    network: Network, ground: Ground, climate: Climate, land: Plane, colours: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """How the Earth's departures from the mean colour vary with scale.

    Returns:
        (3, OCTAVES) amplitude of each independent colour noise in each octave, finest first: an octave's variance is
        what means over 2**k pixels lose when they become means over 2**(k + 1) pixels.
    """
    residual = np.zeros((SIZE, SIZE, 3), dtype=np.float32)
    for first in range(0, SIZE, 256):
        rows = slice(first, first + 256)
        inputs = torch.from_numpy(features(ground, climate, first, 256).reshape(-1, FEATURES))
        with torch.no_grad():
            out = network(inputs)
            target = torch.from_numpy(colours[rows].reshape(-1, 3).astype(np.float32) / 255)
            residual[rows] = torch.stack(whitened(out, target), -1).clamp(-4, 4).numpy().reshape(256, SIZE, 3)
    # Beyond 65 degrees the source is stretched, and ice has no texture of its own.
    inhabited = (np.abs(np.degrees(row_latitude(SIZE))) < 65)[:, None] & (land > 0.99)
    result = np.zeros((3, OCTAVES), dtype=np.float32)
    for colour in range(3):
        means, whole = residual[..., colour] * inhabited, inhabited
        for octave in range(OCTAVES):
            coarser, coarser_whole = halve(means, 1), halve(whole.astype(np.float32), 1) == 1
            spread = means - coarser.repeat(2, 0).repeat(2, 1)
            within = coarser_whole.repeat(2, 0).repeat(2, 1)
            result[colour, octave] = spread[within].std()
            means, whole = coarser, coarser_whole
        # What is left is wider than the coarsest octave and goes into it.
        result[colour, -1] = np.hypot(result[colour, -1], means[whole].std())
    return result


class Network(nn.Module):
    """Three linear layers; see earthgen.roots.colour for the meaning of the outputs."""

    def __init__(self) -> None:
        super().__init__()
        widths = (FEATURES, HIDDEN, HIDDEN, OUTPUTS)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, FEATURES) to (n, OUTPUTS)."""
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        out: torch.Tensor = self.layers[-1](x)
        return out


def whitened(out: torch.Tensor, colours: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The three independent normal deviates that turn the network's Gaussians (n, OUTPUTS) into colours (n, 3)."""
    log_spread = out[:, 3:6].clamp(-6, 0)
    difference = colours - out[:, :3]
    red = difference[:, 0] * torch.exp(-log_spread[:, 0])
    green = (difference[:, 1] - out[:, 6] * red) * torch.exp(-log_spread[:, 1])
    blue = (difference[:, 2] - out[:, 7] * red - out[:, 8] * green) * torch.exp(-log_spread[:, 2])
    return red, green, blue


def negative_log_likelihood(out: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """Of colours (n, 3), 0 .. 1, under the Gaussians that the network gives; (n,)."""
    red, green, blue = whitened(out, colours)
    return 0.5 * (red**2 + green**2 + blue**2) + out[:, 3:6].clamp(-6, 0).sum(1)


def train(inputs: Plane, colours: Plane, steps: int) -> Network:
    """Fit the network to samples (n, FEATURES) and colours (n, 3), 0 .. 1; a tenth is held out and reported."""
    torch.manual_seed(0)
    x, y = torch.from_numpy(inputs), torch.from_numpy(colours)
    held = len(x) // 10
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
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

    land, height, colours = earth_planes()
    climate, ground = earth_climate(land, height), Ground.of(land, height)
    rng = np.random.Generator(np.random.Philox(key=1))
    # Equal chance for equal areas, but less for ice sheets, which are all alike.
    chance = (land > 0.97) * row_area(SIZE) * np.where(colours.min(-1) > 225, 0.3, 1.0)
    chosen = np.sort(rng.choice(chance.size, SAMPLES, p=(chance / chance.sum()).ravel()))
    rows, columns = np.divmod(chosen, SIZE)
    samples = np.empty((SAMPLES, FEATURES), dtype=np.float32)
    for first in range(0, SIZE, 256):
        here = (rows >= first) & (rows < first + 256)
        samples[here] = features(ground, climate, first, 256)[rows[here] - first, columns[here]]
    order = rng.permutation(SAMPLES)
    network = train(samples[order], (colours[rows, columns][order] / 255).astype(np.float32), arguments.steps)
    tensors = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    tensors["texture"] = texture(network, ground, climate, land, colours)
    print("texture, finest octave first:", tensors["texture"].round(3).tolist())
    save_file({**tensors, **hypsometry(land, height)}, arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()

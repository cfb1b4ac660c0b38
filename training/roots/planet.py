"""Make `earthgen/roots/planet.safetensors`: what planets learn from the Earth.

    python -m training.roots.planet [--output PATH] [--steps 8000]

The Earth's relief (ETOPO1) gives its hypsometry and, through the same simple climate that planets use, the inputs
of a small network; the graded Blue Marble gives the colours it has to predict. The network is a mixture density
network: it maximises the likelihood of the Earth's colours under a few covers. Three CPU minutes.
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
from earthgen.roots.colour import COVERS, FEATURES, HIDDEN, OUTPUTS, Ground, features
from earthgen.roots.grid import Plane, halve, row_area, row_latitude
from earthgen.roots.terrain import DOUBLINGS
from training.roots import earth
from training.roots.relief import elevation
from training.roots.sources import SIZE, picture, to_mercator

OUTPUT = Path(__file__).parents[2] / "earthgen" / "roots" / "planet.safetensors"
SAMPLES = 1_500_000
QUANTILES = 257
OCTAVES = 7
COVER_COLOURS = ((54, 77, 49), (95, 105, 70), (195, 170, 132), (150, 108, 76), (130, 120, 100), (235, 238, 243))


def earth_planes() -> tuple[Plane, Plane, npt.NDArray[np.uint8]]:
    """The Earth in Web Mercator: share of land, height in kilometres, colours."""
    relief = picture("etopo1")
    share, _, _ = earth.matte(picture("bmng"), relief)
    metres = elevation(relief, share > 0.5)
    planes = to_mercator(np.stack([share, np.clip(metres, 0, None) * share], -1))
    land, height = (np.asarray(planes[..., k], dtype=np.float32) for k in range(2))
    return np.clip(land, 0, 1), np.clip(height, 0, None) / np.float32(1000), earth.make()


def earth_climate(land: Plane, height: Plane) -> Climate:
    """The Earth's climate on the coarse grid."""
    return climate_of(halve(land, DOUBLINGS), halve(height, DOUBLINGS))


def hypsometry(land: Plane, height: Plane) -> dict[str, npt.NDArray[np.float32]]:
    """Heights of land in kilometres at QUANTILES equal steps of area."""
    dry = land > 0.9
    area = np.broadcast_to(row_area(SIZE), land.shape)[dry]
    order = np.argsort(height[dry])
    share = np.cumsum(area[order])
    heights = np.interp(np.linspace(0, 1, QUANTILES), share / share[-1], height[dry][order])
    return {"hypsometry.land": heights.astype(np.float32)}


class Network(nn.Module):
    """Three linear layers and the covers' spreads; see earthgen.roots.colour for the meaning of the outputs."""

    def __init__(self) -> None:
        super().__init__()
        widths = (FEATURES, HIDDEN, HIDDEN, OUTPUTS)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        # Covers start as forest, steppe, sand, red soil, rock and snow, so that each finds work.
        start = torch.tensor(COVER_COLOURS) / 255
        with torch.no_grad():
            last = self.layers[-1]
            assert isinstance(last, nn.Linear)
            last.bias[COVERS:] = start.flatten()
            last.weight.mul_(0.3)
        self.log_diagonal = nn.Parameter(torch.full((COVERS, 3), -3.0))
        self.lower = nn.Parameter(torch.full((COVERS, 3), 0.02))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, FEATURES) to (n, OUTPUTS)."""
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        out: torch.Tensor = self.layers[-1](x)
        return out

    def spread(self) -> torch.Tensor:
        """Cholesky factors of the covers' covariances, (COVERS, 3, 3)."""
        factor = torch.diag_embed(self.log_diagonal.clamp(-4.6, -1.6).exp())
        rows, columns = torch.tensor([1, 2, 2]), torch.tensor([0, 0, 1])
        return factor.index_put((torch.arange(COVERS)[:, None], rows, columns), self.lower)

    def whitened(self, out: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
        """Standard deviates (n, COVERS, 3) of colours (n, 3) under each cover."""
        difference = colours[:, None] - out[:, COVERS:].reshape(-1, COVERS, 3)
        # One small triangular system for each cover, with all pixels as right-hand sides.
        deviates: torch.Tensor = torch.linalg.solve_triangular(self.spread(), difference.permute(1, 2, 0), upper=False)
        return deviates.permute(2, 0, 1)

    def log_likelihoods(self, out: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
        """Joint log-likelihood of each cover and the colour, (n, COVERS), up to a constant."""
        deviates = self.whitened(out, colours)
        volume = self.spread().diagonal(dim1=1, dim2=2).log().sum(1)
        joint: torch.Tensor = torch.log_softmax(out[:, :COVERS], 1) - 0.5 * (deviates**2).sum(2) - volume
        return joint


def texture(
    network: Network, ground: Ground, climate: Climate, land: Plane, colours: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """How the variation within covers is shared out among scales.

    Returns:
        (OCTAVES,) amplitudes, finest octave first, squares summing to 1: an octave's variance is what means over 2**k
        pixels lose when they become means over 2**(k + 1) pixels.
    """
    deviate = np.zeros((SIZE, SIZE), dtype=np.float32)
    for first in range(0, SIZE, 128):
        rows = slice(first, first + 128)
        inputs = torch.from_numpy(features(ground, climate, first, 128))
        target = torch.from_numpy(colours[rows].reshape(-1, 3).astype(np.float32) / 255)
        with torch.no_grad():
            out = network(inputs)
            likeliest = network.log_likelihoods(out, target).argmax(1)
            own = network.whitened(out, target)[torch.arange(len(out)), likeliest, 0]
        deviate[rows] = own.clamp(-4, 4).numpy().reshape(128, SIZE)
    # Beyond 60 degrees the source is stretched.
    whole = (np.abs(np.degrees(row_latitude(SIZE))) < 60)[:, None] & (land > 0.99)
    means = deviate * whole
    variances = []
    for _ in range(OCTAVES):
        coarser, coarser_whole = halve(means, 1), halve(whole.astype(np.float32), 1) == 1
        spread = means - coarser.repeat(2, 0).repeat(2, 1)
        variances.append(spread[coarser_whole.repeat(2, 0).repeat(2, 1)].var())
        means, whole = coarser, coarser_whole
    # What is left is wider than the coarsest octave and goes into it.
    variances[-1] += means[whole].var()
    return np.asarray(np.sqrt(np.array(variances) / sum(variances)), dtype=np.float32)


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
        loss = -network.log_likelihoods(network(x[index]), y[index]).logsumexp(1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 1000 == 999:
            with torch.no_grad():
                out = network(x[:held])
                share = out[:, :COVERS].softmax(1)
                mean = (share[..., None] * out[:, COVERS:].reshape(-1, COVERS, 3)).sum(1)
                error = (mean - y[:held]).abs().mean() * 255
                likelihood = network.log_likelihoods(out, y[:held]).logsumexp(1).mean()
            print(
                f"step {step + 1}: held-out log-likelihood {likelihood:.3f}, mean |error| {error:.2f} levels, "
                f"covers {share.mean(0).numpy().round(3).tolist()}",
                flush=True,
            )
    return network


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Learn the planets' colours and hypsometry from the Earth.")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--steps", type=int, default=8000)
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
        samples[here] = features(ground, climate, first, 256).reshape(256, SIZE, FEATURES)[
            rows[here] - first, columns[here]
        ]
    order = rng.permutation(SAMPLES)
    network = train(samples[order], (colours[rows, columns][order] / 255).astype(np.float32), arguments.steps)
    layers = {name: value.detach().numpy() for name, value in network.layers.state_dict(prefix="layers.").items()}
    tensors = {**layers, "spread": network.spread().detach().contiguous().numpy()}
    tensors["texture"] = texture(network, ground, climate, land, colours)
    print("texture, finest octave first:", tensors["texture"].round(3).tolist())
    save_file({**tensors, **hypsometry(land, height)}, arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()

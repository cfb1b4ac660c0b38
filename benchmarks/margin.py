"""How wide a margin the weights need: the same pixels from two differently cut windows.

    python -m benchmarks.margin

Parents are computed on a wide window and on one that is cut at a border; the table gives the mean and
the largest difference, in grey levels, at each distance from the cut. It justifies the `margin` in the
weights' configuration.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.seams import PLACES
from earthgen import Engine, World
from earthgen.denoiser import Condition, Preconditioned
from earthgen.detail import DETAIL_CHANNELS, join, smooth_detail, to_unit
from earthgen.noise import NoiseField
from earthgen.pyramid import Box, ground_sampling_distance, point_pixel
from earthgen.sampler import dpm_solver_2m
from earthgen.weights import load_weights

WIDE = 96
CUT = 32


@torch.inference_mode()
def children(model: Preconditioned, parents: torch.Tensor, noise: torch.Tensor, gsd: float) -> torch.Tensor:
    """Children in grey levels, (3, 4h, 4w), of parents (1, 3, h, w)."""
    height = parents.shape[2]
    condition = Condition(parents, torch.full((1, height), float(np.log2(gsd))), torch.zeros(1))
    state = dpm_solver_2m(lambda x, sigma: model(x, sigma, condition), noise, model.net.config["sigmas"])
    detail = state * model.net.detail_scale(parents, condition.log2_gsd) + smooth_detail(parents)
    return join(parents, detail)[0] * 127.5


def main(weights: Annotated[str | None, typer.Option(help="weights folder; default: the shipped ones")] = None) -> None:
    """Print the difference at each distance from a cut, for three levels."""
    torch.set_num_threads(1)
    model = Preconditioned(load_weights(weights).net.eval())
    world = World(seed=7)
    typer.echo("| zoom | distance from the cut (pixels) | mean difference | largest |\n|---|---|---|---|")
    with Engine.open(weights) as engine:
        for zoom in (8, 14, 18):
            by_distance: list[list[float]] = [[] for _ in range(20)]
            for _, longitude, latitude in PLACES[:6]:
                row, column = (value // 4 // 4 * 4 for value in point_pixel(longitude, latitude, zoom))
                box = Box(zoom - 2, row, column, WIDE, WIDE)
                parents = to_unit(engine.pixels(world, box))
                noise = torch.from_numpy(NoiseField(1, zoom).normal(row, column, WIDE, WIDE, DETAIL_CHANNELS))[None]
                gsd = ground_sampling_distance(zoom, latitude)
                whole = children(model, parents, noise, gsd)[:, :, 4 * CUT :]
                part = children(model, parents[..., CUT:], noise[..., CUT:], gsd)
                difference = (whole - part).abs()[:, 4 * 12 : -4 * 12]
                for distance in range(20):
                    by_distance[distance].append(float(difference[:, :, 4 * distance : 4 * distance + 4].mean()))
                    by_distance[distance].append(float(difference[:, :, 4 * distance : 4 * distance + 4].max()))
            for distance in (0, 1, 2, 4, 6, 8, 12, 16):
                values = by_distance[distance]
                typer.echo(f"| {zoom} | {4 * distance} | {np.mean(values[::2]):.3f} | {max(values[1::2]):.2f} |")


if __name__ == "__main__":
    typer.run(main)

"""Seconds and megabytes: cold, neighbouring and cached tiles, a block of tiles, and a plain loop beside it.

    python -m benchmarks.speed

Everything runs on this machine in one process. Wall time on shared machines swings: the table gives the
median and the 95th percentile, and the ratio to the plain loop comes from alternating runs.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import numpy as np
import torch
import typer
from diffusers import EDMDPMSolverMultistepScheduler
from tqdm import tqdm

from earthgen import Engine, World
from earthgen.denoiser import Condition, DetailDenoiser
from earthgen.detail import DETAIL_CHANNELS, join, smooth_detail, to_unit
from earthgen.pyramid import MAX_ZOOM, Box, ground_sampling_distance, point_pixel
from earthgen.weights import load_weights

WORLD = World(seed=11)


def far_places(count: int) -> list[tuple[float, float]]:
    """Places all over the globe, a golden-angle spiral between 60 south and 70 north."""
    return [((137.50776 * index + 10) % 360 - 180, float(lat)) for index, lat in enumerate(np.linspace(-55, 68, count))]


@contextmanager
def network_clock() -> Iterator[list[float]]:
    """Collects the seconds that each call of the network takes, over all threads."""
    seconds: list[float] = []
    plain = DetailDenoiser.forward

    def timed(net: DetailDenoiser, state: torch.Tensor, log_sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        begun = time.thread_time()
        result: torch.Tensor = plain(net, state, log_sigma, condition)
        seconds.append(time.thread_time() - begun)
        return result

    DetailDenoiser.forward = timed
    try:
        yield seconds
    finally:
        DetailDenoiser.forward = plain


@torch.inference_mode()
def plain_loop(net: DetailDenoiser, parents: np.ndarray, gsd: float, side: int = 64, stride: int = 48) -> np.ndarray:
    """What one would write first: diffusers' own scheduler over overlapping windows, averaged, one canvas of noise."""
    height, width, _ = parents.shape
    noise = torch.randn(1, DETAIL_CHANNELS, height, width)
    total = torch.zeros_like(noise)
    weight = torch.zeros(1, 1, height, width)
    parent = to_unit(parents)
    for top in sorted({*range(0, height - side, stride), height - side}):
        for left in sorted({*range(0, width - side, stride), width - side}):
            part = (slice(None), slice(None), slice(top, top + side), slice(left, left + side))
            scheduler: Any = EDMDPMSolverMultistepScheduler(
                sigma_min=net.config["sigmas"][-2], sigma_max=net.config["sigmas"][0] + 1e-3, sigma_data=1.0, rho=5.0
            )
            scheduler.set_timesteps(len(net.config["sigmas"]) - 1)
            x = noise[part] * scheduler.init_noise_sigma
            condition = Condition(parent[part], torch.full((1, side), float(np.log2(gsd))), torch.zeros(1))
            for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
                raw = net(scheduler.scale_model_input(x, timestep), sigma.log()[None], condition)
                x = scheduler.step(raw, timestep, x, return_dict=False)[0]
            total[part] += x
            weight[(*part[:1], slice(None), *part[2:])] += 1
    log2_gsd = torch.full((1, height), float(np.log2(gsd)))
    detail = total / weight * net.detail_scale(parent, log2_gsd) + smooth_detail(parent)
    return np.asarray(((join(parent, detail)[0] + 1) * 127.5).round().clamp(0, 255).byte())


def main(
    weights: Annotated[str | None, typer.Option(help="weights folder; default: the shipped ones")] = None,
    places: Annotated[int, typer.Option(min=2)] = 20,
    block: Annotated[int, typer.Option(min=1, help="tiles along the side of the z12 block")] = 16,
    backend: Annotated[str, typer.Option(help="torch or openvino")] = "torch",
) -> None:
    """Print the table."""
    cold: list[float] = []
    near: list[float] = []
    cached: list[float] = []
    for longitude, latitude in tqdm(far_places(places), desc="cold tiles", leave=False):
        row, column = point_pixel(longitude, latitude, MAX_ZOOM)
        x, y = column // 256, row // 256
        with Engine.open(weights, backend=backend) as engine:
            engine.pixels(WORLD, Box(4, 0, 0, 1, 1))  # The root's picture is decoded once a process.
            for times, tile in ((cold, x), (near, x + 1), (cached, x)):
                begun = time.perf_counter()
                engine.tile(WORLD, MAX_ZOOM, tile, y)
                times.append(time.perf_counter() - begun)
    typer.echo("| what | p50 (s) | p95 (s) |\n|---|---|---|")
    for name, times in (("cold z18 tile, empty cache", cold), ("its neighbour", near), ("a cached tile", cached)):
        typer.echo(f"| {name} | {np.quantile(times, 0.5):.4f} | {np.quantile(times, 0.95):.4f} |")

    with Engine.open(weights, backend=backend) as engine, network_clock() as network:
        row, column = point_pixel(8.0, 46.5, 12)
        side = 256 * block
        box = Box(12, row // 256 * 256, column // 256 * 256, side, side)
        begun, cpu = time.perf_counter(), time.process_time()
        engine.pixels(WORLD, box)
        wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    typer.echo(
        f"\nz12 block of {block}x{block} tiles: {block * block / wall:.2f} tiles/s "
        f"({wall:.1f} s, {len(network)} network calls)"
    )
    typer.echo(f"share of CPU time in the network: {sum(network) / cpu:.2f}")

    net = load_weights(weights).net.eval()
    ours, plain = [], []
    with Engine.open(weights, backend=backend) as engine:
        row, column = point_pixel(-93.5, 42.0, 12)
        for index in tqdm(range(3), desc="plain loop", leave=False):
            box = Box(12, row // 128 * 128, column // 128 * 128 + 4096 * (index + 1), 1024, 1024)
            parents = engine.pixels(WORLD, box.parent())
            # Warm the windows around the parents, so that one level is timed and not the chain above it.
            engine.pixels(WORLD, box.grown(64).parent())
            begun = time.perf_counter()
            engine.pixels(WORLD, box)
            ours.append(time.perf_counter() - begun)
            torch.set_num_threads(2)
            begun = time.perf_counter()
            plain_loop(net, parents, ground_sampling_distance(12, 42.0))
            plain.append(time.perf_counter() - begun)
            torch.set_num_threads(1)
    ratio = np.median([b / a for a, b in zip(ours, plain, strict=True)])
    typer.echo(
        f"one level, 1024 x 1024 pixels: {np.median(ours):.2f} s; "
        f"plain diffusers loop {np.median(plain):.2f} s; ratio {ratio:.2f}"
    )
    typer.echo(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    typer.run(main)

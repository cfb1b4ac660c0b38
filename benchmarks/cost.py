"""What pixels cost: operations and bytes of a window, windows of a request, and how far from the floor this core is.

    python -m benchmarks.cost [--backend torch --backend openvino]

The counts come from the network and the lattice of windows and are the same everywhere. The rates are measured
here, turn about and in one process; the H100's row is data-sheet arithmetic, nothing was run on one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import product
from typing import Annotated

import numpy as np
import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from earthgen import Engine, World
from earthgen.backends import check_backend, install
from earthgen.denoiser import Condition, DetailDenoiser
from earthgen.detail import DETAIL_CHANNELS
from earthgen.plan import rows_within
from earthgen.pyramid import (
    LEVEL_ZOOMS,
    MAX_ZOOM,
    ROOT_ZOOM,
    SCALE,
    TILE_SIZE,
    WINDOW_SIZE,
    Box,
    Window,
    point_pixel,
    tile_box,
    windows_of,
)
from earthgen.weights import load_weights

H100_FLOPS, H100_BYTES = 67e12, 3.35e12
"""float32 operations and bytes of memory a second of one H100 SXM: NVIDIA's data sheet, dense, without tensor cores."""
PLACE = (8.0, 46.5)
WORLD = World(seed=11)


def positions(net: DetailDenoiser, window: int = WINDOW_SIZE) -> int:
    """Positions along the side of a computed window, margins included."""
    side: int = window // SCALE + 2 * net.config["margin"]
    return side


def inputs(net: DetailDenoiser, side: int) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    """Something to run the network on."""
    parent = torch.rand(1, 3, side, side) * 2 - 1
    condition = Condition(parent, torch.full((1, side), 2.0), torch.zeros(1))
    return torch.randn(1, DETAIL_CHANNELS, side, side), torch.zeros(1), condition


@torch.inference_mode()
def operations(net: DetailDenoiser, side: int) -> int:
    """Multiplications and additions of one network call on side x side positions."""
    with FlopCounterMode(display=False) as counter:
        net(*inputs(net, side))
    return int(counter.get_total_flops())


@torch.inference_mode()
def moved_bytes(net: DetailDenoiser, side: int) -> tuple[int, int]:
    """Bytes of the weights, and of what the convolutions and matrix products of one call read and write besides."""
    moved = 0

    def count(_: torch.nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> None:
        nonlocal moved
        moved += 4 * (sum(tensor.numel() for tensor in given) + made.numel())

    layers = [layer for layer in net.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    net(*inputs(net, side))
    for hook in hooks:
        hook.remove()
    return 4 * sum(parameter.numel() for parameter in net.parameters()), moved


def needed_windows(box: Box, margin: int, size: int = WINDOW_SIZE) -> dict[int, int]:
    """How many windows of each level a box of an even zoom is made from, down from an empty cache.

    Args:
        box: at a level.
        margin: of the network, in positions.
        size: pixels along the side of a window, to see what another lattice would cost.
    """
    factor = size // WINDOW_SIZE
    counts: dict[int, int] = {}
    wanted = {(window.row // factor, window.column // factor) for window in windows_of(box)}
    for zoom in range(box.zoom, ROOT_ZOOM, -LEVEL_ZOOMS):
        counts[zoom] = len(wanted)
        above: set[Window] = set()
        for row, column in wanted:
            grown = Box(zoom, row * size, column * size, size, size).grown(margin * SCALE)
            above.update(windows_of(rows_within(grown.parent())))
        wanted = {(window.row // factor, window.column // factor) for window in above}
    return counts


def alternate(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, run turn about after a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 2):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            if turn >= 2:
                seconds[name].append(time.perf_counter() - begun)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def print_heads(*names: str) -> None:
    """The first two lines of a table."""
    typer.echo(f"\n| {' | '.join(names)} |\n|{'---|' * len(names)}")


def print_window(net: DetailDenoiser) -> int:
    """The cost of a window, and of windows of other sizes; returns the operations of a call."""
    steps = len(net.config["sigmas"]) - 1
    typer.echo(f"network calls a window: {steps}; margin {net.config['margin']} positions")
    typer.echo(
        "| window (pixels) | positions | GFLOP a call | overdraw | GFLOP a 256x256 tile | windows of a cold z18 tile |"
    )
    typer.echo("|---|---|---|---|---|---|")
    random = np.random.default_rng(0)
    tiles = [tile_box(MAX_ZOOM, *(int(v) for v in random.integers(2**16, 2**17, 2))) for _ in range(200)]
    for size in (WINDOW_SIZE, 2 * WINDOW_SIZE, 4 * WINDOW_SIZE):
        side = positions(net, size)
        flops = operations(net, side)
        overdraw = (side * SCALE / size) ** 2
        cold = np.mean([sum(needed_windows(tile, net.config["margin"], size).values()) for tile in tiles])
        tile = steps * flops * (TILE_SIZE / size) ** 2
        typer.echo(
            f"| {size} | {side}x{side} | {flops / 1e9:.2f} | {overdraw:.2f} | {tile / 1e9:.1f}"
            f" | {cold:.1f} ({steps * cold * flops / 1e9:.0f} GFLOP) |"
        )
    side = positions(net)
    weights, moved = moved_bytes(net, side)
    flops = operations(net, side)
    typer.echo(
        f"\nbytes a call: weights {weights / 1e6:.1f} MB, layers' inputs and outputs {moved / 1e6:.1f} MB unfused;"
    )
    typer.echo(f"{flops / (weights + moved):.0f} operations a byte if nothing stays in a cache")
    h100 = max(flops / H100_FLOPS, (weights + moved) / H100_BYTES)
    typer.echo(f"one H100, on paper only: {h100 * 1e6:.0f} us a call in float32")
    return flops


def print_floor(net: DetailDenoiser, backends: list[str], flops: int) -> None:
    """This core's rates, and each backend's ratio to the floor they give."""
    a, b = torch.randn(512, 512), torch.randn(512, 512)
    channels = net.config["channels"][0]
    side = positions(net)
    image, kernel = torch.randn(1, channels, side, side), torch.randn(channels, channels, 3, 3)
    example = inputs(net, side)
    runs: dict[str, Callable[[], object]] = {
        "matrix product": lambda: a @ b,
        "3x3 convolution": lambda: torch.conv2d(image, kernel, padding=1),
    }
    for name in backends:
        other = load_weights().net.eval().requires_grad_(False)
        other.load_state_dict(net.state_dict())
        install(check_backend(name, torch.device("cpu")), other, 1)
        runs[name] = lambda other=other: other(*example)  # type: ignore[misc]
    with torch.inference_mode():
        seconds = alternate(runs, 15)
    product_rate = 2 * 512**3 / seconds["matrix product"]
    convolution_rate = 2 * 9 * channels**2 * side**2 / seconds["3x3 convolution"]
    peak = max(product_rate, convolution_rate)
    typer.echo(
        f"\nfloor: one core's best of a 512 matrix product ({product_rate / 1e9:.0f} GFLOP/s) and a 3x3 convolution "
        f"({convolution_rate / 1e9:.0f} GFLOP/s); a call takes {flops / peak * 1e3:.1f} ms at least"
    )
    print_heads("backend", "ms a call", "GFLOP/s", "times the floor", "against the first")
    for name in backends:
        typer.echo(
            f"| {name} | {seconds[name] * 1e3:.1f} | {flops / seconds[name] / 1e9:.0f} | "
            f"{seconds[name] * peak / flops:.2f} | {seconds[backends[0]] / seconds[name]:.2f} |"
        )


def print_requests(margin: int) -> None:
    """Windows of a request by depth and size: counted, not run."""
    print_heads("zoom", "windows of an isolated tile", "a tile of a 4x4 block", "of 16x16", "isolated over 16x16")
    random = np.random.default_rng(1)
    for zoom in range(ROOT_ZOOM + LEVEL_ZOOMS, MAX_ZOOM + 1, LEVEL_ZOOMS):
        # Places at least 16 tiles from the poles' edges, where rows end.
        limit = 2**zoom
        means: list[float] = []
        for tiles in (1, 4, 16):
            corners = random.integers(limit // 8, limit - limit // 8 - 16, (40, 2)) // tiles * tiles
            counts = [
                sum(
                    needed_windows(
                        Box(zoom, *(int(v) * TILE_SIZE for v in corner), *(2 * [tiles * TILE_SIZE])), margin
                    ).values()
                )
                for corner in corners
            ]
            means.append(float(np.mean(counts)) / tiles**2)
        typer.echo(f"| {zoom} | {means[0]:.1f} | {means[1]:.2f} | {means[2]:.2f} | {means[0] / means[2]:.2f} |")


def print_measured(backends: list[str], weights: str | None, block: int) -> None:
    """Seconds of isolated and contiguous tiles, cold, for each backend and number of threads."""
    cores = len(os.sched_getaffinity(0))
    block_head = f"s a tile of a cold {block}x{block} block"
    print_heads(
        "backend", "threads", "s an isolated z18 tile, cold", block_head, "ratio", "s a tile below known parents"
    )
    row, column = (value // TILE_SIZE for value in point_pixel(*PLACE, MAX_ZOOM))
    for name, threads in product(backends, sorted({1, cores})):
        alone: list[float] = []
        for index in range(3):
            with Engine.open(weights, backend=name, threads=threads) as engine:
                engine.pixels(
                    WORLD, Box(ROOT_ZOOM + LEVEL_ZOOMS, 4000, 3000, 8, 8)
                )  # The root is read, the layers compiled.
                begun = time.perf_counter()
                engine.tile(WORLD, MAX_ZOOM, column + 4099 * (index + 1), row)
                alone.append(time.perf_counter() - begun)
        with Engine.open(weights, backend=name, threads=threads) as engine:
            engine.pixels(WORLD, Box(ROOT_ZOOM + LEVEL_ZOOMS, 4000, 3000, 8, 8))
            side = block * TILE_SIZE
            begun = time.perf_counter()
            engine.pixels(WORLD, Box(MAX_ZOOM, row // 4 * 4 * TILE_SIZE, column // 4 * 4 * TILE_SIZE, side, side))
            together = (time.perf_counter() - begun) / block**2
            # A tile in the middle of ground whose parents the block has made: four windows and no chain.
            parents = Box(
                MAX_ZOOM - LEVEL_ZOOMS, (row // 4 - 1) * TILE_SIZE, column // 4 * TILE_SIZE, TILE_SIZE, TILE_SIZE
            )
            engine.pixels(WORLD, parents.grown(WINDOW_SIZE))
            begun = time.perf_counter()
            engine.tile(WORLD, MAX_ZOOM, column // 4 * 4 + 1, row // 4 * 4 - 3)
            leaf = time.perf_counter() - begun
        isolated = float(np.median(alone))
        typer.echo(f"| {name} | {threads} | {isolated:.3f} | {together:.3f} | {isolated / together:.2f} | {leaf:.3f} |")


def main(
    weights: Annotated[str | None, typer.Option(help="weights folder; default: the shipped ones")] = None,
    backend: Annotated[list[str] | None, typer.Option(help="may be given several times; default: torch")] = None,
    block: Annotated[int, typer.Option(min=2, max=16, help="tiles along the side of the block that is timed")] = 4,
    counts_only: Annotated[
        bool, typer.Option("--counts-only", help="Count and measure rates, generate nothing.")
    ] = False,
) -> None:
    """Print the cost model and what this machine makes of it."""
    torch.set_num_threads(1)
    backends = backend or ["torch"]
    net = load_weights(weights).net.eval().requires_grad_(False)
    flops = print_window(net)
    print_requests(net.config["margin"])
    print_floor(net, backends, flops)
    if not counts_only:
        print_measured(backends, weights, block)


if __name__ == "__main__":
    typer.run(main)

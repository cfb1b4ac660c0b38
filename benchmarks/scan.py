"""How fast the selective scan is on this machine, beside the plain loop, the blocked scan and what memory allows.

    python -m benchmarks.scan
    python -m benchmarks.scan --threads 1

With --pair only the last table is printed: a pair of 256 x 256 pixels from end to end, through `detect`.

The sequence is that of CDMamba at its finest level on a 256 x 256 image: L = 65,536, E = 32 channels, N = 16 states.
The first table times the whole operator (softplus, recurrence, skip and gate), the second the recurrence alone, since
the rest is the same code for all. Rows alternate, so that a busy machine slows all of them alike. Both times are
medians; CPU time is summed over threads and is what one quiet core would need, and the ratios are of CPU times. The
plain loop is timed on a shorter sequence and scaled, since it is linear.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import torch
import typer

from perception.detector import BinaryDetector
from perception.registry import load_detector
from perception.scan import Implementation, Recurrence, available, recurrence, selective_scan

LOOP_LENGTH = 2048
"""Positions on which the plain loop is timed."""


def sequence(length: int, channels: int, states: int) -> dict[str, Any]:
    """Inputs of one scan, with the rates and time steps of a fresh Mamba block."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    return {
        "u": normal(1, channels, length),
        "delta": normal(1, channels, length),
        "A": -torch.arange(1, states + 1).float().repeat(channels, 1),
        "B": normal(1, states, length),
        "C": normal(1, states, length),
        "D": torch.ones(channels),
        "z": normal(1, channels, length),
        "delta_bias": torch.full((channels,), -4.0),
    }


def timed(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU seconds of each call, taken in turns after one call that is not counted."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if turn:
                seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: (float(np.median(some, axis=0)[0]), float(np.median(some, axis=0)[1])) for name, some in seconds.items()
    }


def bandwidth() -> float:
    """Bytes that this machine reads and writes in a second, from copying 256 MB."""
    source = torch.rand(1 << 26)
    target = torch.empty_like(source)
    _, best = timed({"copy": lambda: target.copy_(source)}, 5)["copy"]
    return 2 * source.nbytes / best


def forward_and_backward(inputs: dict[str, Any], implementation: Implementation) -> None:
    """One training step's worth of scan."""
    leaves: dict[str, Any] = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    y = selective_scan(**leaves, implementation=implementation)
    y.backward(torch.ones_like(y))


def alone(scan: Recurrence, values: dict[str, torch.Tensor]) -> Callable[[], object]:
    """A call of one implementation without what surrounds it."""
    u, delta, A, B, C = (values[name][None] for name in ("u", "delta", "A", "B", "C"))
    step = torch.nn.functional.softplus(delta - 4)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return scan(u, step, A, B, C, (False,))

    return call


def table(title: str, measured: dict[str, tuple[float, float]], loop_scale: float, limit: float) -> None:
    """Print one row an implementation; the loop's times are scaled, and `limit` is seconds at memory's speed."""
    measured = {**measured, "loop": (measured["loop"][0] * loop_scale, measured["loop"][1] * loop_scale)}
    typer.echo(f"| {title} | wall (ms) | CPU (ms) | loop / it | blocked / it | it / memory's {1e3 * limit:.1f} ms |")
    typer.echo("|---|---|---|---|---|---|")
    for name, (wall, cpu) in measured.items():
        typer.echo(
            f"| {name} | {1e3 * wall:.1f} | {1e3 * cpu:.1f} | {measured['loop'][1] / cpu:.1f}"
            f" | {measured['blocked'][1] / cpu:.1f} | {cpu / limit:.1f} |"
        )
    typer.echo("")


def end_to_end(repeats: int) -> None:
    """Print seconds of `detect` on a pair of 256 x 256, for what ships and for the published sizes at random."""
    import perception
    from perception import cdmamba, semantic_cd

    random = np.random.default_rng(0)
    images = random.integers(0, 255, (2, 256, 256, 3), dtype=np.uint8)
    pair = perception.Pair(images[0], images[1])
    detectors: dict[str, perception.ChangeDetector] = {
        f"{name}, shipped": load_detector(name)
        for name in (cdmamba.NAME, semantic_cd.NAME)
        if perception.MODELS[name].weights
    }
    published = cdmamba.CDMamba(cdmamba.published())
    detectors["cdmamba, published sizes"] = BinaryDetector("cdmamba", published, cdmamba.MULTIPLE)
    measured = timed(
        {name: lambda detector=detector: detector.detect(pair) for name, detector in detectors.items()},  # type: ignore[misc]
        repeats,
    )
    typer.echo("| a pair of 256 x 256 | parameters | wall (ms) | CPU (ms) |\n|---|---|---|---|")
    for name, detector in detectors.items():
        assert isinstance(detector, BinaryDetector | semantic_cd.SemanticDetector)
        parameters = sum(parameter.numel() for parameter in detector.net.parameters())
        wall, cpu = measured[name]
        typer.echo(f"| {name} | {parameters:,} | {1e3 * wall:.0f} | {1e3 * cpu:.0f} |")


def main(
    length: Annotated[int, typer.Option(min=1)] = 65_536,
    channels: Annotated[int, typer.Option(min=1)] = 32,
    states: Annotated[int, typer.Option(min=1)] = 16,
    threads: Annotated[int, typer.Option(min=1, help="threads of torch and of the kernel")] = 2,
    repeats: Annotated[int, typer.Option(min=1)] = 7,
    pair: Annotated[bool, typer.Option("--pair", help="only a pair from end to end")] = False,
) -> None:
    """Print the tables."""
    torch.set_num_threads(threads)
    if pair:
        end_to_end(repeats)
        return
    inputs, short = sequence(length, channels, states), sequence(min(length, LOOP_LENGTH), channels, states)
    names: list[Implementation] = [name for name in available() if name in ("blocked", "compiled")]

    def run(values: dict[str, Any], name: Implementation) -> Callable[[], object]:
        def call() -> torch.Tensor:
            with torch.inference_mode():
                return selective_scan(**values, implementation=name)

        return call

    scale = length / short["u"].shape[-1]
    speed = bandwidth()
    typer.echo(f"forward, L = {length}, E = {channels}, N = {states}, {threads} threads, float32")
    typer.echo(f"copying: {speed / 1e9:.1f} GB/s\n")
    moved = 2 * inputs["u"].nbytes + sum(inputs[name].nbytes for name in ("delta", "B", "C", "z"))
    whole = timed({"loop": run(short, "loop"), **{name: run(inputs, name) for name in names}}, repeats)
    table("whole operator", whole, scale, moved / speed)

    bare: dict[str, Callable[[], object]] = {"loop": alone(recurrence("loop"), short)}
    bare |= {name: alone(recurrence(name), inputs) for name in names}
    table("recurrence alone", timed(bare, repeats), scale, (moved - inputs["z"].nbytes) / speed)

    fastest = names[-1]
    both = timed({fastest: lambda: forward_and_backward(inputs, fastest)}, repeats)[fastest]
    typer.echo(f"forward and backward, {fastest}: {1e3 * both[0]:.1f} ms wall, {1e3 * both[1]:.1f} ms CPU")
    sizes = {size: sequence(size, channels, states) for size in (length // 4, length, 4 * length) if size}
    linear = timed({str(size): run(values, fastest) for size, values in sizes.items()}, repeats)
    typer.echo(f"\nnanoseconds of CPU a position and channel, {fastest}:")
    for size in sizes:
        typer.echo(f"  L = {size}: {1e9 * linear[str(size)][1] / (size * channels):.1f}")
    typer.echo("")
    end_to_end(repeats)


if __name__ == "__main__":
    typer.run(main)

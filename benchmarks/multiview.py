"""Fields of planned worlds beside a U-Net for single views and the same field without the encoder: held-out views.

    python -m benchmarks.multiview --out runs/multiview --write docs/views.md

Each scene is a planned world of its own (`perception.multiview.plan`), so classes are known by construction. All learn
from the same labelled views. mIoU is of the classes that occur in the held-out views, one confusion matrix a scene;
pixels that show nothing of the scene do not count. The U-Nets are given the true picture of a held-out view, the fields
its pose alone. Peak memory is the process's own, in a process for each method. Fields of a scene share the stage of
colours, whose seconds and peak memory count for each.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import typer
from torch import nn

from earthgen.bands import LAND_COVER
from earthgen.pyramid import Box, point_pixel
from perception.lite_pyramid import LitePyramid
from perception.multiview.posed import PosedSet, posed_set, read_views, write_views
from perception.multiview.teaching import augmented, rarity

SEEDS = (11, 12, 13)
METHODS = {
    "field": "field, the encoder's features and its decoder's pseudo-labels",
    "contrast": "... pseudo-labels by contrast (ours)",
    "features": "... no pseudo-labels",
    "plain": "the same field, no encoder: (b)",
    "convolution": "... no encoder, ray convolution",
    "unet": "U-Net, single views, from scratch: (a)",
    "lite-unet": "U-Net on the frozen EfficientNet-Lite0: (a)",
}
_SIDE, _SIZE, _VIEWS, _LABELLED = 256, 128, 24, 4
_UNET_STEPS = 400
_BEGIN, _END = "<!-- multiview begins -->", "<!-- multiview ends -->"


def make_scene(folder: Path, seed: int) -> None:
    """The posed views of a planned world, if they are not there yet."""
    if (folder / "transforms.json").is_file():
        return
    from earthgen.engine import Engine
    from perception.multiview.cameras import orbit
    from perception.multiview.plan import planned_world
    from perception.multiview.rendering import render_views
    from perception.multiview.scene import scene_of

    row, column = point_pixel(0.004 + 0.01 * seed, 0.004, 18)
    box = Box(18, row // 256 * 256, column // 256 * 256, _SIDE, _SIDE)
    with Engine.open(threads=1) as engine:
        scene = scene_of(engine, planned_world(box, seed), box)
    views = render_views(scene, orbit(scene, _VIEWS, _SIZE, seed))
    write_views(folder, posed_set(scene, views, _LABELLED))


# --- The U-Nets ---


class LiteUNet(nn.Module):
    """A U-Net's decoder on what a frozen EfficientNet-Lite0 sees."""

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        self.pyramid = LitePyramid((width, width, width, width))
        self.joins = nn.ModuleList(self._unit(2 * width, width) for _ in range(3))
        self.last = nn.Sequential(self._unit(width + 3, width), nn.Conv2d(width, classes, 1))

    @staticmethod
    def _unit(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures (b, 3, h, w) in 0..1 to logits (b, classes, h, w)."""
        large = F.interpolate(images, scale_factor=2.0, mode="bilinear")
        *finer, x = self.pyramid(2 * large - 1)
        for join, level in zip(self.joins, reversed(finer), strict=True):
            x = join(torch.cat([F.interpolate(x, level.shape[-2:], mode="bilinear"), level], dim=1))
        x = F.interpolate(x, images.shape[-2:], mode="bilinear")
        out: torch.Tensor = self.last(torch.cat([x, images], dim=1))
        return out


def unet_labels(posed: PosedSet, kind: str) -> list[npt.NDArray[np.uint8]]:
    """Labels of the held-out views by a U-Net that learned from the labelled ones."""
    torch.manual_seed(0)
    chance = torch.Generator().manual_seed(0)
    images = torch.tensor(np.stack([posed.views[n].colours for n in posed.labelled])).permute(0, 3, 1, 2) / 255
    labels = np.stack([posed.views[n].labels for n in posed.labelled])
    codes = np.setdiff1d(labels, [0])
    targets = torch.tensor(np.where(labels == 0, -1, np.searchsorted(codes, labels)))
    weights = rarity(targets, len(codes))
    net: nn.Module
    if kind == "unet":
        import segmentation_models_pytorch as smp  # type: ignore[import-untyped]

        net = smp.Unet("resnet18", encoder_weights=None, classes=len(codes))
    else:
        net = LiteUNet(len(codes))
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=2e-3, weight_decay=1e-2)
    for step in range(_UNET_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 20) * 0.05 ** (step / _UNET_STEPS)
        batch, truth = augmented(images, targets, chance)
        loss = F.cross_entropy(net(batch), truth, weights, ignore_index=-1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    found = []
    with torch.no_grad():
        for number in posed.held_out:
            picture = torch.tensor(posed.views[number].colours).permute(2, 0, 1)[None] / 255
            found.append(codes[net(picture).argmax(dim=1)[0].numpy()].astype(np.uint8))
    return found


# --- Scores ---


def miou(truths: Sequence[npt.NDArray[np.uint8]], found: Sequence[npt.NDArray[np.uint8]]) -> dict[str, float]:
    """IoU by class that occurs in the truth, and their mean as "mIoU"; where the truth is 0, nothing counts."""
    truth, guess = (np.concatenate([one.ravel() for one in many]) for many in (truths, found))
    guess, truth = guess[truth > 0], truth[truth > 0]
    scores = {}
    for part in LAND_COVER:
        if (truth == part.code).any():
            both = ((truth == part.code) & (guess == part.code)).sum()
            scores[part.name] = float(both / ((truth == part.code) | (guess == part.code)).sum())
    return scores | {"mIoU": float(np.mean(list(scores.values())))}


def psnr(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two pictures in dB."""
    return float(-10 * np.log10(np.mean((one.astype(np.float64) - other) ** 2) / 255**2 + 1e-12))


def measure(folder: Path, method: str) -> dict[str, Any]:
    """Fit and score one method on one scene."""
    torch.set_num_threads(1)
    posed = read_views(folder)
    truths = [posed.views[number] for number in posed.held_out]
    begun, cpu, peak = time.monotonic(), time.process_time(), 0.0
    line: dict[str, Any] = {"method": method, "scene": folder.name}
    if method in ("unet", "lite-unet"):
        labels = unet_labels(posed, method)
    else:
        from perception.multiview.running import FieldRun, FitSettings

        settings = FitSettings(
            head="convolution" if method == "convolution" else "transformer",
            prior=method in ("field", "contrast", "features"),
            pseudo="decoder" if method == "field" else "contrast" if method == "contrast" else "none",
        )
        run = FieldRun(posed, settings)
        colours = folder / "colour-stage.pt"
        if colours.is_file():
            # The first stage is the same for all fields of a scene.
            state = torch.load(colours, weights_only=True)
            run.field.load_state_dict(state["field"])
            run.step = settings.colour_steps
            line["colour_seconds"], line["colour_cpu_seconds"] = state["seconds"], state["cpu"]
            begun, cpu, peak = begun - state["seconds"], cpu - state["cpu"], state["peak_mb"]
        else:
            run.run(until=settings.colour_steps)
            spent = {"seconds": time.monotonic() - begun, "cpu": time.process_time() - cpu, "peak_mb": peak_mb()}
            torch.save({"field": run.field.state_dict(), **spent}, colours)
            line["colour_seconds"], line["colour_cpu_seconds"] = spent["seconds"], spent["cpu"]
        fitted = run.run()
        views = [fitted.render(truth.camera) for truth in truths]
        labels = [view.labels for view in views]
        line["psnr"] = float(np.mean([psnr(v.colours, t.colours) for v, t in zip(views, truths, strict=True)]))
        errors = [np.abs(v.depth - t.depth)[(t.depth > 0) & (v.depth > 0)] for v, t in zip(views, truths, strict=True)]
        line["depth_error"] = float(np.median(np.concatenate(errors)))
    line |= {"scores": miou([truth.labels for truth in truths], labels)}
    line |= {"seconds": time.monotonic() - begun, "cpu_seconds": time.process_time() - cpu}
    line["peak_mb"] = max(peak, peak_mb())
    return line


def peak_mb() -> float:
    """The largest memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(lines: Sequence[dict[str, Any]], scenes: Sequence[str]) -> str:
    """Markdown of all methods and scenes."""
    rows = [
        "| method | "
        + " | ".join(f"mIoU {name}" for name in scenes)
        + " | mIoU, mean | PSNR, dB | median depth error, m"
        " | CPU s a scene | peak MB |",
        "| --- |" + " --- |" * (len(scenes) + 5),
    ]
    for method, title in METHODS.items():
        mine = {line["scene"]: line for line in lines if line["method"] == method}
        if set(mine) != set(scenes):
            continue
        ordered = [mine[name] for name in scenes]
        scores = [line["scores"]["mIoU"] for line in ordered]

        def mean(key: str, form: str, ordered: list[dict[str, Any]] = ordered) -> str:
            return format(np.mean([line[key] for line in ordered]), form) if key in ordered[0] else ""

        cells = [*(f"{score:.3f}" for score in scores), f"{np.mean(scores):.3f}", mean("psnr", ".2f")]
        cells += [mean("depth_error", ".2f"), mean("cpu_seconds", ".0f"), mean("peak_mb", ".0f")]
        rows.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main(
    out: Annotated[Path, typer.Option(help="Folder of scenes and results; what is there is not made again.")],
    write: Annotated[Path | None, typer.Option(help="Markdown file whose marked part becomes the table.")] = None,
    seeds: Annotated[str, typer.Option(help="Of the scenes.")] = ",".join(map(str, SEEDS)),
    methods: Annotated[str, typer.Option(help="Which.")] = ",".join(METHODS),
    one: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Make scenes, fit, score, print the table."""
    if one is not None:
        scene, method = one.split("/")
        typer.echo(json.dumps(measure(out / scene, method)))
        return
    scenes = [f"seed-{seed}" for seed in seeds.split(",")]
    results = out / "results.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.is_file() else []
    for scene in scenes:
        make_scene(out / scene, int(scene.removeprefix("seed-")))
        for method in methods.split(","):
            if any((line["scene"], line["method"]) == (scene, method) for line in lines):
                continue
            command = [sys.executable, "-m", "benchmarks.multiview", "--out", str(out), "--one", f"{scene}/{method}"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            line = json.loads(done.stdout.splitlines()[-1])
            lines.append(line)
            with results.open("a") as file:
                file.write(json.dumps(line) + "\n")
            psnr_text = f", PSNR {line['psnr']:.2f}" if "psnr" in line else ""
            typer.echo(
                f"{scene} {method}: mIoU {line['scores']['mIoU']:.3f}{psnr_text}, {line['seconds']:.0f} s,"
                f" {line['peak_mb']:.0f} MB"
            )
    found = table(lines, scenes)
    typer.echo(found)
    if write is not None:
        text = write.read_text(encoding="utf-8")
        before, rest = text.split(_BEGIN)
        write.write_text(f"{before}{_BEGIN}\n{found}\n{_END}{rest.split(_END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

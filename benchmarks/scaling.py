"""What images seen and width buy: the cascade's diffusion stage at several widths, stopped at every tenfold of images.

    python -m benchmarks.scaling --data DIR --runs runs/scaling --page docs/quality.md

Each width is one run of `training.cascade` that is measured on the way: the loss on held-out crops, and the kernel
distance of x4 children of held-out parents, all bands together, sampled in six steps. Runs are resumed, and what has
been measured is kept beside them, so the command can be stopped and given again.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.measures import LiteFeatures, VggFeatures, features_of, kid
from benchmarks.populations import ancestors, children
from benchmarks.quality import table
from datasets.packs import imagery_folder
from datasets.pyramids import CropSampler, read_levels
from earthgen.denoiser import DetailDenoiser
from earthgen.detail import to_unit
from earthgen.weights import load_weights
from training.cascade import Settings, channels_of, train
from training.checkpoint import load_checkpoint

BEGIN, END = "<!-- scaling -->", "<!-- end of scaling -->"
_WARM_UP = 320
"""Images until the learning rate is reached: the recipe's 4,000 would leave the small counts without one."""
_SIDE = 64


def sampled(checkpoint: Path) -> DetailDenoiser:
    """The averaged network of a run."""
    state = load_checkpoint(checkpoint)
    net: DetailDenoiser = DetailDenoiser.from_config(state["config"])
    net.load_state_dict(state["ema"])
    net.eval()
    return net


@torch.inference_mode()
def distances(net: DetailDenoiser, crops: CropSampler, count: int) -> dict[str, list[float]]:
    """KID of x4 children to other real crops, bands together: mean and deviation, in VGG16 and in Lite0."""
    real, made = [], []
    for band in crops.bands:
        drawn = crops.draw(1, count, band)
        _, parents = ancestors(drawn, 1)
        made.append(children(net, parents, torch.from_numpy(drawn.gsd), 1, 0))
        real.append(to_unit(crops.draw(2, count, band).pixels))
    nets = {"vgg": VggFeatures(), "lite": LiteFeatures()}
    return {
        name: list(kid(features_of(features, torch.cat(real)), features_of(features, torch.cat(made))))
        for name, features in nets.items()
    }


def measured(data: Path | None, runs: Path, width: float, images: int, count: int, bfloat16: bool) -> dict[str, Any]:
    """One point: train until so many images, then measure; what is known is read."""
    out = runs / f"width-{width:g}"
    kept = out / f"point-{images}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    settings = replace(Settings(), width=width, warm_up=_WARM_UP, bfloat16=bfloat16)
    train(data, out, minutes=600, settings=settings, tick_images=images, images_limit=images)
    net = sampled(out / "checkpoint.pt")
    line = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    found = {
        "width": width,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "images": images,
        "hours": line["hours"],
        "loss": statistics.fmean(line["held_out"].values()),
        **distances(net, CropSampler(read_levels(imagery_folder(data), "val"), _SIDE, 0), count),
    }
    kept.write_text(json.dumps(found))
    return found


def known(runs: Path) -> list[dict[str, Any]]:
    """All points of a folder, of this call and of those before it."""
    points: list[dict[str, Any]] = [json.loads(path.read_text()) for path in runs.glob("width-*/point-*.json")]
    return sorted(points, key=lambda point: (point["width"], point["images"]))


def shipped(data: Path | None, runs: Path, count: int) -> dict[str, Any]:
    """The weights that ship, measured likewise."""
    weights = load_weights(None)
    kept = runs / f"shipped-{weights.id}.json"
    if not kept.exists():
        found = distances(weights.net.eval(), CropSampler(read_levels(imagery_folder(data), "val"), _SIDE, 0), count)
        kept.write_text(json.dumps(found))
    known_ones: dict[str, Any] = json.loads(kept.read_text())
    return known_ones


def exponent(points: Sequence[dict[str, Any]]) -> float:
    """Slope of log loss over log images, by least squares."""
    images, losses = ([math.log(point[key]) for point in points] for key in ("images", "loss"))
    return statistics.linear_regression(images, losses).slope


def report(points: Sequence[dict[str, Any]], ours: dict[str, Any]) -> Iterator[str]:
    """Lines of Markdown: a row a point, and one of the weights that ship."""
    heads = [
        "channels",
        "parameters",
        "images seen",
        "hours",
        "held-out loss",
        "KID x 1000, VGG16",
        "KID x 1000, Lite0",
    ]
    yield from table(
        heads,
        [
            [
                ", ".join(str(count) for count in channels_of(point["width"])),
                f"{point['parameters'] / 1e6:.1f} M",
                f"{point['images']:,}",
                f"{point['hours']:.2f}",
                f"{point['loss']:.3f}",
                *_kids(point),
            ]
            for point in points
        ]
        + [["what ships, after its adversarial tail", "", "", "", "", *_kids(ours)]],
    )
    for width in dict.fromkeys(point["width"] for point in points):
        own = [point for point in points if point["width"] == width]
        if len(own) > 1:
            fall = 1 - 10 ** exponent(own)
            yield f"- {own[0]['parameters'] / 1e6:.1f} M: ten times the images take {fall:.0%} off the loss."
    yield ""


def _kids(point: dict[str, Any]) -> list[str]:
    return [f"{point[name][0]:.0f} ± {point[name][1]:.0f}" for name in ("vgg", "lite")]


def main(
    runs: Annotated[Path, typer.Option(metavar="DIR", help="where the runs live; those that are there go on")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/; default $EARTHGEN_DATA")
    ] = None,
    widths: Annotated[str, typer.Option(help="multiples of the shipped width")] = "0.5,1,1.4",
    images: Annotated[str, typer.Option(help="images after which to measure")] = "160,1600,16000",
    count: Annotated[int, typer.Option(min=16, help="crops of each band")] = 24,
    bfloat16: Annotated[bool, typer.Option(help="quicker on a processor with bfloat16 instructions")] = False,
    page: Annotated[Path | None, typer.Option(metavar="FILE", help="a page whose table is replaced")] = None,
) -> None:
    """Train, measure, and print the table of all that the folder knows."""
    for width in widths.split(","):
        for number in images.split(","):
            measured(data, runs, float(width), int(number), count, bfloat16)
    points = known(runs)
    lines = "\n".join(report(points, shipped(data, runs, count)))
    typer.echo(lines)
    if page is not None:
        text = page.read_text(encoding="utf-8")
        before, begins, rest = text.partition(BEGIN)
        _, ends, after = rest.partition(END)
        if not (begins and ends):
            raise typer.BadParameter(f"{page} has no {BEGIN} and {END} to write between", param_hint="--page")
        page.write_text(f"{before}{BEGIN}\n\n{lines}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

"""How true pictures are, band by band, beside floors and ceilings: one command writes the page with its pictures.

    python -m benchmarks.quality --data DIR --regression runs/regression/weights --previous first=DIR -o docs/quality.md

The main table is the whole chain: tiles of each zoom whose every level was generated, beside held-out real
crops of that ground sampling distance. They are not the same places, and the packs hold more towns than the
Earth does, so look at differences between rows, and at the row "real" for what other real crops score. A
single x4 step, and two on its own output, from real parents follow; they flatter, because the parents know
where everything is.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import stlpips_pytorch.stlpips as stlpips
import torch
import torch.nn.functional as F
import typer
from torch import nn
from tqdm import tqdm

from benchmarks.measures import (
    Images,
    InceptionFeatures,
    LiteFeatures,
    VggFeatures,
    coherence,
    colour_distance,
    edge_length,
    features_of,
    fid,
    kid,
    memorisation,
    repetition,
    spectrum_distance,
    squareness,
)
from benchmarks.populations import CHAIN_SIDE, Place, ancestors, bicubic_chain, chain, children, land_places, open_net
from datasets.packs import imagery_folder
from datasets.pyramids import BAND_GSDS, CropSampler, read_levels
from earthgen import Engine, World
from earthgen.denoiser import DetailDenoiser
from earthgen.detail import to_unit
from earthgen.pyramid import ROOT_ZOOM, SCALE, Box
from earthgen.weights import SHIPPED, load_weights
from training.busyness import busyness
from training.sheets import save_rows
from training.sheets import to_bytes as to_rows

SHOWN = 6
"""Pictures of each kind on a sheet."""
_OURS = "earthgen"
SAID = "## What that says"
"""Heading of the words about the tables, at the end of the page."""


@dataclass(frozen=True)
class Nets:
    """What distances are taken in; Inception only if its weights were given. Features of real crops are kept."""

    vgg: nn.Module
    lite: nn.Module
    inception: nn.Module | None
    known: dict[tuple[int, int], tuple[Images, torch.Tensor]] = field(default_factory=dict)

    def features(self, net: nn.Module, images: Images) -> torch.Tensor:
        """Features of a population, once for each."""
        key = id(net), id(images)
        if key not in self.known:
            # The pictures are kept too: another population must not get their identity.
            self.known[key] = images, features_of(net, images)
        return self.known[key][1]

    def names(self) -> list[str]:
        """Heads of `cells`."""
        more = ["KID x 1000, Inception", "FID, Inception"] if self.inception else []
        return ["KID x 1000, VGG16", "KID x 1000, Lite0", *more]

    def cells(self, real: Images, other: Images) -> list[str]:
        """Distances of a population to the real one."""
        nets = (self.vgg, self.lite) if self.inception is None else (self.vgg, self.lite, self.inception)
        pairs = [kid(self.features(net, real), self.features(net, other)) for net in nets]
        cells = [f"{mean:.1f} ± {deviation:.1f}" for mean, deviation in pairs]
        return cells if self.inception is None else [*cells, f"{fid(self.inception, real, other):.1f}"]


def table(heads: Iterable[str], rows: Iterable[list[str]]) -> Iterator[str]:
    """Lines of a Markdown table."""
    heads = list(heads)
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


STRUCTURE: dict[str, Callable[[Images], float]] = {
    "detail": lambda x: float(busyness(x)[:, 0].mean()),
    "coherence": coherence,
    "squareness": squareness,
    "edge length": edge_length,
    "repetition": repetition,
}


def structure_cells(images: Images, real: Images) -> list[str]:
    """Statistics without networks: distances to the real population, then plain values."""
    plain = [f"{measure(images):.3f}" for measure in STRUCTURE.values()]
    return [f"{spectrum_distance(images, real):.2f}", f"{colour_distance(images, real):.1f}", *plain]


def chain_section(
    nets: Nets, levels: CropSampler, kinds: dict[str, Callable[[list[Place], int], Images]], count: int, sheet: Path
) -> Iterator[str]:
    """The whole chain, zoom by zoom, and its sheet: real crops above, ours below."""
    places = land_places(count)
    rows, pictures = [], []
    for band in sorted(levels.bands, reverse=True):
        zoom = ROOT_ZOOM + 2 * (len(BAND_GSDS) - band)
        real, other = (to_unit(levels.draw(number, count, band).pixels) for number in (1, 2))
        for name, make in [*kinds.items(), ("real", lambda *_, real=other: real)]:
            images = make(places, zoom)
            rows.append([str(zoom), name, *nets.cells(real, images), *structure_cells(images, real)])
            typer.echo(" | ".join(rows[-1]))
            if name in (_OURS, "real"):
                pictures.append(np.concatenate(list(to_rows(images[:SHOWN])), axis=1))
    save_rows(pictures, sheet, enlargement=1)
    yield from table(["zoom", "what", *nets.names(), "spectrum", "colour", *STRUCTURE], rows)


def step_section(
    nets: Nets,
    levels: CropSampler,
    training: CropSampler,
    makers: dict[str, Callable[[Images, torch.Tensor, int], Images]],
    steps: int,
    count: int,
    sheet: Path,
) -> Iterator[str]:
    """Children of real parents, band by band, and their sheet."""
    perceptual = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False).eval()

    def distance(a: Images, b: Images) -> float:
        return statistics.fmean(float(perceptual(x, y).mean()) for x, y in zip(a.split(16), b.split(16), strict=True))

    rows, pictures = [], []
    for band in tqdm(levels.bands, leave=False):
        crops = levels.draw(1, count, band)
        rest = to_unit(levels.draw(2, count, band).pixels)
        known = to_unit(training.draw(3, 4 * count, band).pixels) if band in training.bands else None
        real, source = ancestors(crops, steps)
        gsd = torch.from_numpy(crops.gsd)
        panels = [F.interpolate(source, scale_factor=SCALE**steps, mode="nearest")]
        for name, make in [*makers.items(), ("real", lambda *_, real=real: real)]:
            images = make(source, gsd, 0)
            again = make(source, gsd, 1)
            error = (F.avg_pool2d(images, SCALE**steps) - source).abs().mean() * 127.5
            # Real crops are compared with others of their band, and so is everything else.
            copied = (
                ""
                if known is None
                else f"{memorisation(*(nets.features(nets.lite, x) for x in (images, rest, known))):.2f}"
            )
            rows.append(
                [
                    f"{BAND_GSDS[band]:g} m",
                    name,
                    *nets.cells(rest, images),
                    f"{distance(images, real):.3f}",
                    f"{distance(images, again):.3f}",
                    *structure_cells(images, real),
                    f"{float(error):.2f}",
                    copied,
                ]
            )
            typer.echo(" | ".join(rows[-1]))
            panels.append(images)
        pictures.append(np.concatenate([to_rows(panel)[i] for i in range(2) for panel in panels], axis=1))
    save_rows(pictures, sheet, enlargement=2 if steps == 1 else 1)
    heads = ["child GSD", "what", *nets.names(), "ST-LPIPS", "diversity", "spectrum", "colour", *STRUCTURE]
    yield from table([*heads, "parent error", "memorisation"], rows)


def deep_zoom_section(
    nets: Nets, levels: CropSampler, weights: Path | None, backend: str, places: int
) -> Iterator[str]:
    """EarthGen's protocol (arXiv 2409.01491): crops at a stride of half their side over a wide x1024 picture."""
    side = CHAIN_SIDE
    zoom, wide = ROOT_ZOOM + 2 * len(BAND_GSDS), 4 * side
    factor = SCALE ** len(BAND_GSDS)
    crops = []
    with Engine.open(weights, backend=backend) as engine:
        for row, column in tqdm(land_places(places), desc="deep zoom", leave=False):
            box = Box(zoom, row * factor - wide // 2, column * factor - wide // 2, wide, wide)
            image = to_unit(engine.pixels(World(seed=7), box)[None])
            crops += [
                image[:, :, top : top + side, left : left + side]
                for top in range(0, wide - side + 1, side // 2)
                for left in range(0, wide - side + 1, side // 2)
            ]
    made = torch.cat(crops)
    real = to_unit(levels.draw(1, len(made), min(levels.bands)).pixels)
    yield from table(["crops", *nets.names()], [[str(len(made)), *nets.cells(real, made)]])


LEGEND = """\
KID and FID are distances of populations, smaller is better; "real" is what other real crops score, the least
that can be hoped for. VGG16 (of ST-LPIPS) was not used in training; EfficientNet-Lite0's features were, so
they flatter. **spectrum**: root mean square difference of log power in 8 rings (0.7 is a factor of two).
**colour**: difference of channel means and deviations in grey levels. **detail**: logarithm of local
lightness detail. **coherence**, **squareness**, **edge length**: near those of "real" is better; roads,
fields and roofs raise them. **repetition**: highest autocorrelation at 8 pixels or more.
"""


@torch.inference_mode()
def main(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/; default $EARTHGEN_DATA")
    ] = None,
    weights: Annotated[Path | None, typer.Option(metavar="DIR", help="default: the shipped ones")] = None,
    previous: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DIR", help="other weights, may be given several times")
    ] = None,
    regression: Annotated[
        Path | None, typer.Option(metavar="DIR", help="weights of training.cascade --regression")
    ] = None,
    inception: Annotated[
        Path | None, typer.Option(metavar="FILE", help="torch-fidelity's Inception weights, for published numbers")
    ] = None,
    count: Annotated[int, typer.Option(min=16, help="places of the chain, and crops of a band")] = 48,
    backend: Annotated[str, typer.Option(help="torch or openvino")] = "torch",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="the page")] = Path("docs/quality.md"),
) -> None:
    """Measure, draw the sheets beside the page, and write it."""
    folder = imagery_folder(data)
    val, train = read_levels(folder, "val"), read_levels(folder, "train")
    nets = Nets(VggFeatures(), LiteFeatures(), InceptionFeatures(inception) if inception else None)
    others = {name: Path(path) for name, _, path in (entry.partition("=") for entry in previous or [])}
    if regression is not None:
        others["regression"] = regression
    sheets = output.parent / "pictures"
    made = load_weights(weights)
    lines = [
        "# Quality\n",
        f"Written by `python -m benchmarks.quality`: weights `{made.id}`, {count} places, {count} crops a band.\n",
        LEGEND,
        "## The whole chain\n",
        "![real and generated, zoom by zoom](pictures/quality-chain.jpg)\n",
        "From zoom 6 (top) to 18, in turn: generated, then real crops of the same resolution, of other places.\n",
    ]
    kinds: dict[str, Callable[[list[Place], int], Images]] = {_OURS: partial(_chain, weights, backend)}
    own = weights or SHIPPED
    kinds |= {
        name: partial(_chain, weights, backend, quality=name) for name in ("draft", "best") if (own / name).is_dir()
    }
    kinds |= {name: partial(_chain, path, backend) for name, path in others.items()}
    kinds["bicubic"] = bicubic_chain
    large = CropSampler(val, CHAIN_SIDE, 0)
    lines += chain_section(nets, large, kinds, count, sheets / "quality-chain.jpg")
    lines.append(f"### x{SCALE ** len(BAND_GSDS)} in one place\n")
    lines.append("Crops of 128 pixels at a stride of 64 over 512-pixel pictures of zoom 18, against real crops.\n")
    lines += deep_zoom_section(nets, large, weights, backend, places=3)
    makers: dict[str, Callable[[Images, torch.Tensor, int], Images]]
    paths: dict[str, Path | None] = {_OURS: weights, **others}
    for steps, side, title in (
        (1, 64, "One step, x4, from a real parent"),
        (2, 128, "Two steps, x16, on its own output"),
    ):
        makers = {name: partial(_children, open_net(path), steps) for name, path in paths.items()}
        makers["bicubic"] = partial(_bicubic, steps)
        sheet = sheets / f"quality-x{SCALE**steps}.jpg"
        lines += [f"## {title}\n", f"![parents and children, a row a band](pictures/{sheet.name})\n"]
        lines.append(f"A row a band: parent, {', '.join(makers)}, real; twice.\n")
        sampler, training = CropSampler(val, side, 0), CropSampler(train, side, 5)
        lines += step_section(nets, sampler, training, makers, steps, count, sheet)
    # What somebody wrote about the tables is kept; whether it still holds is theirs to see.
    _, said, words = output.read_text(encoding="utf-8").partition(SAID) if output.exists() else ("", "", "")
    output.write_text("\n".join(lines) + said + words, encoding="utf-8")
    typer.echo(f"{output} written")


def _chain(weights: Path | None, backend: str, places: list[Place], zoom: int, quality: str = "standard") -> Images:
    return chain(weights, places, zoom, backend, quality)


def _children(net: DetailDenoiser, steps: int, source: Images, gsd: torch.Tensor, seed: int) -> Images:
    return children(net, source, gsd, steps, seed)


def _bicubic(steps: int, source: Images, gsd: torch.Tensor, seed: int) -> Images:
    del gsd, seed
    return F.interpolate(source, scale_factor=SCALE**steps, mode="bicubic").clamp(-1, 1)


if __name__ == "__main__":
    typer.run(main)

"""Teach the last blocks of a cascade's network that its lattice must not show; everything else stays as it is.

    python -m training.evenness --init earthgen/weights/cascade --out runs/evenness --minutes 12

Gradients of children are uneven over blocks of 4x4 and over the 16 pixels on which the network halves its
resolution (`benchmarks.seams`). The finest stage on the way up, and the convolution behind it, learn to be even
(`training.lattice`), are held to what they said before, and to depend no more on where a window is cut. Parents are
real ones and, as deep as the product's chains go, the network's own children.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import nn

from datasets.packs import imagery_folder
from datasets.pyramids import BAND_GSDS, CropSampler, read_levels
from earthgen.denoiser import DetailDenoiser
from earthgen.detail import DETAIL_CHANNELS, quantise, to_unit
from earthgen.roots import open_root
from earthgen.world import World
from training.adversarial import Examples, OneStep, cut_distance, real_examples
from training.checkpoint import network_config
from training.ema import update_ema
from training.lattice import Lattice
from training.pool import ChildPool, RootCrops
from training.run import Run


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a run.

    Attributes:
        batch: crops of 192 pixels a step, half of them children of real parents where the pool allows it.
        rate: AdamW's learning rate.
        lattice_weight: weight of unevenness.
        keep_weight: weight of the squared distance to what the network said before, in the unit of detail.
        cut_weight: weight of the L1 distance between a window and the same window cut off nearby.
        cut_every: steps between two lessons about cuts.
        pool: children kept a band.
        ema_half_life: images.
        seed: of crops and noise.
    """

    batch: int = 6
    rate: float = 1e-4
    lattice_weight: float = 2.0
    keep_weight: float = 1.0
    cut_weight: float = 1.0
    cut_every: int = 4
    pool: int = 48
    ema_half_life: int = 1_000
    seed: int = 6


SIDE = 192
_EDGE = 32
"""Pixels next to the border of a crop that are not judged: windows have margins for them."""
_POOL_BEGINS = 4
_TRAINED = ("from_middle", "fine_out", "leave")


class Last(nn.Module):
    """The parts of a network that learn here, as one module."""

    def __init__(self, net: DetailDenoiser) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({name: net.unet.get_submodule(name) for name in _TRAINED})


def as_stored(child: torch.Tensor, parent: torch.Tensor) -> torch.Tensor:
    """Children (n, 3, 4h, 4w) as the engine stores them under parents (n, 3, h, w), with the gradient of not doing so.

    Fitting detail into what dark and bright parents leave it changes blocks apart from each other: it has to be seen.
    """
    parents = ((parent + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    bytes_ = [quantise(one[None], above) for one, above in zip(child.detach(), parents, strict=True)]
    return child + (to_unit(np.stack(bytes_)) - child).detach()


def train(
    data: Path | None,
    init: Path,
    out: Path,
    minutes: float,
    settings: Settings,
    tick_images: int,
    images_limit: int | None = None,
) -> None:
    """Run until the minutes are over or the images are seen; resume from `out` if it holds a checkpoint.

    Args:
        data: folder that holds imagery/; None takes $EARTHGEN_DATA.
        init: weights folder to start from.
        out: folder of the run.
        minutes: when to stop.
        settings: the run's numbers.
        tick_images: images between two log lines and checkpoints.
        images_limit: stop after so many images in all.
    """
    sampler = CropSampler(read_levels(imagery_folder(data), "train"), SIDE, settings.seed)
    torch.manual_seed(settings.seed)
    net = DetailDenoiser.from_pretrained(init, torch_dtype=torch.float32)
    average, before = copy.deepcopy(net), copy.deepcopy(net).requires_grad_(False)
    sigma = float(net.config["sigmas"][0])
    text_width = int(net.config["text_width"])
    net.requires_grad_(False)
    last = Last(net).requires_grad_(True)
    generator = OneStep(net, sigma).to(memory_format=torch.channels_last)
    frozen = OneStep(before, sigma).to(memory_format=torch.channels_last)
    root = RootCrops(open_root(World()))
    pool = ChildPool(root, len(BAND_GSDS), settings.pool, SIDE)
    lattice = Lattice(len(BAND_GSDS))
    run = Run(out, {"last": last}, {"last": settings.rate}, (0.9, 0.99), average)
    resumed = run.resume()
    if resumed is not None:
        pool.load_state_dict(resumed["pool"])
        lattice.load_state_dict(resumed["lattice"])

    run.begin(minutes, tick_images, images_limit)
    while not run.finished:
        step = run.step
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        crops = sampler.draw(step, settings.batch // 2)
        real = real_examples(crops, random)
        bands = pool.bands(_POOL_BEGINS)
        own = [bands[int(i)] for i in torch.randint(len(bands), (settings.batch - len(real.child),), generator=random)]
        parents = pool.draw(own, SIDE // 4, random)
        parent, log2_gsd = torch.cat([real.parent, parents.pixels]), torch.cat([real.log2_gsd, parents.log2_gsd])
        nothing = torch.zeros(len(parent), text_width) if text_width else None

        noise = torch.randn(len(parent), DETAIL_CHANNELS, *parent.shape[2:], generator=random)
        state = generator.state(noise, parent, log2_gsd, nothing)
        with torch.no_grad():
            kept = frozen.state(noise, parent, log2_gsd, nothing)
        child = as_stored(generator.picture(state, parent, log2_gsd), parent)
        pool.add(own, child[len(real.child) :], log2_gsd[len(real.child) :], random)
        inside = slice(_EDGE, -_EDGE)
        unevenness = lattice.unevenness(child[:, :, inside, inside], crops.bands + own)
        change = (state - kept).square().mean()
        loss = settings.lattice_weight * unevenness + settings.keep_weight * change
        if step % settings.cut_every == 0:
            examples = Examples(child, parent, log2_gsd)
            cut = cut_distance(generator, noise, examples, state, nothing, step // settings.cut_every % 4)
            loss = loss + settings.cut_weight * cut
            run.note(cut=cut * settings.cut_every)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(last.parameters(), 1.0)
        run.learn("last")
        update_ema(average, net, settings.batch, run.images, settings.ema_half_life)
        run.note(unevenness=lattice.excess(), change=change)

        run.advance(settings.batch)
        if run.tick_due:
            state_of = {"pool": pool.state_dict(), "lattice": lattice.state_dict()}
            run.tick(network_config(net), asdict(settings), {"shares": lattice.shares_by_place()}, state_of)


def main(
    init: Annotated[Path, typer.Option(metavar="DIR", help="weights folder to start from")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the run lives")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/; default $EARTHGEN_DATA")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="stop after so many minutes")] = 12.0,
    tick_images: Annotated[int, typer.Option(min=1, help="images between two log lines")] = 800,
    images: Annotated[int | None, typer.Option(min=1, help="stop after so many images in all")] = None,
) -> None:
    """Make the lattice invisible. Example: python -m training.evenness --init W --out runs/evenness."""
    train(data, init, out, minutes, Settings(), tick_images, images)


if __name__ == "__main__":
    typer.run(main)

"""Distil the cascade's network into a smaller one of one step, for drafts.

    python -m training.distil --teacher earthgen/weights/cascade --out runs/distil --minutes 30
    python -m training.export runs/distil/checkpoint.pt earthgen/weights/cascade/draft

With noise by address a teacher is a function: noise, parent, resolution and text decide its children. The
student learns that function (knowledge distillation, Luhman & Luhman 2021, arXiv 2101.02388, section 3): the
same denoised state from the same noise, children alike in the features of a frozen picture classifier, and a
patch discriminator that tells the teacher's children from the student's (Sauer et al. 2023, arXiv 2311.17042),
without which what the student cannot follow would be blurred. Half of the parents are real, half the student's
own children, as deep as chains go.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from datasets.captions import CaptionBook
from datasets.packs import imagery_folder
from datasets.pyramids import BAND_GSDS, CropSampler, read_levels
from earthgen.conditioning import TextEncoder, text_encoder
from earthgen.denoiser import Condition, DetailDenoiser, Preconditioned
from earthgen.detail import DETAIL_CHANNELS
from earthgen.roots import open_root
from earthgen.sampler import dpm_solver_2m
from earthgen.world import World
from training.adversarial import Examples, OneStep, cut_distance, real_examples, stored, unit_of
from training.checkpoint import network_config
from training.depthwise import learn_quickly
from training.discriminator import PatchDiscriminator
from training.ema import update_ema
from training.pool import ChildPool, RootCrops
from training.projected import FrozenFeatures, at_ordinary_contrast, feature_distance, hinge
from training.run import Run
from training.sheets import draw_descent, draw_sheet


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a run.

    Attributes:
        blocks: the student's blocks a stage, at most as many as the teacher's; see `DetailDenoiser`.
        batch: crops of 128 pixels a step, half of them children of real parents where the pool allows it.
        rate: AdamW's learning rate of the student.
        patch_rate: the same of the discriminator.
        warm_up: images after which the discriminator's word counts.
        state_weight: weight of the L1 distance of denoised states.
        feature_weight: weight of the feature distance of children.
        patch_weight: weight of the discriminator's word.
        cut_weight: weight of the L1 distance between a window and the same window cut off nearby.
        cut_every: steps between two lessons about cuts.
        text_share: share of the real parents whose caption is told.
        pool: children kept a band.
        ema_half_life: images.
        bfloat16: whether convolutions are computed in bfloat16.
        seed: of crops, noise and initial weights.
    """

    blocks: tuple[int, int, int, int, int] = (1, 1, 2, 1, 1)
    batch: int = 8
    rate: float = 4e-4
    patch_rate: float = 1e-3
    warm_up: int = 1_600
    state_weight: float = 1.0
    feature_weight: float = 1.0
    patch_weight: float = 0.1
    cut_weight: float = 1.0
    cut_every: int = 4
    text_share: float = 0.5
    pool: int = 48
    ema_half_life: int = 1_500
    bfloat16: bool = False
    seed: int = 8


SIDE = 128
STAGES = ("fine_in", "middle_in", "coarse", "middle_out", "fine_out")
"""The U-Net's stages in the order of `blocks`."""
_POOL_BEGINS = 4


def student_of(teacher: DetailDenoiser, settings: Settings) -> DetailDenoiser:
    """The teacher with some of its blocks left out, and one step: the last of each stage stay, and all else.

    Blocks are residual, so what is left is a fair start: a narrower student that began from nothing had no detail after
    3,000 images.

    Raises:
        ValueError: a stage of the student has more blocks than the teacher's.
    """
    theirs = tuple(teacher.config["blocks"])
    if any(own > given for own, given in zip(settings.blocks, theirs, strict=True)):
        raise ValueError(f"blocks are {settings.blocks}; at most the teacher's {theirs} are allowed")
    sigmas = (float(teacher.config["sigmas"][0]), 0.0)
    config = {**network_config(teacher), "blocks": settings.blocks, "sigmas": sigmas}
    net: DetailDenoiser = DetailDenoiser.from_config(config)
    left_out = {stage: given - own for stage, own, given in zip(STAGES, settings.blocks, theirs, strict=True)}
    known = teacher.state_dict()
    start = {}
    for name in net.state_dict():
        stage, _, rest = name.removeprefix("unet.").partition(".blocks.")
        if stage in left_out and rest:
            index, _, parameter = rest.partition(".")
            start[name] = known[f"unet.{stage}.blocks.{int(index) + left_out[stage]}.{parameter}"]
        else:
            start[name] = known[name]
    net.load_state_dict(start)
    return net


@torch.no_grad()
def taught(
    teacher: DetailDenoiser,
    noise: torch.Tensor,
    parent: torch.Tensor,
    log2_gsd: torch.Tensor,
    text: torch.Tensor | None,
) -> torch.Tensor:
    """The teacher's denoised state (b, 45, h, w), in as many steps as it takes."""
    model = Preconditioned(teacher)
    condition = Condition(parent, log2_gsd[:, None].expand(-1, parent.shape[2]), torch.zeros(len(parent)), text)
    noise = noise.contiguous(memory_format=torch.channels_last)
    return dpm_solver_2m(lambda x, sigma: model(x, sigma, condition), noise, teacher.config["sigmas"]).float()


def train(
    data: Path | None,
    teacher_folder: Path,
    out: Path,
    minutes: float,
    settings: Settings,
    tick_images: int,
    images_limit: int | None = None,
    encoder: TextEncoder | None = None,
) -> None:
    """Run until the minutes are over or the images are seen; resume from `out` if it holds a checkpoint.

    Args:
        data: folder that holds imagery/; None takes $EARTHGEN_DATA.
        teacher_folder: weights folder of the teacher.
        out: folder of the run.
        minutes: when to stop.
        settings: the run's numbers.
        tick_images: images between two log lines, sheets and checkpoints.
        images_limit: stop after so many images in all.
        encoder: of texts; None takes the default one.
    """
    folder = imagery_folder(data)
    train_levels, val_levels = read_levels(folder, "train"), read_levels(folder, "val")
    sampler = CropSampler(train_levels, SIDE, settings.seed)
    held_out = CropSampler(val_levels, 64, 0)
    torch.manual_seed(settings.seed)
    teacher = DetailDenoiser.from_pretrained(teacher_folder, torch_dtype=torch.float32).eval().requires_grad_(False)
    teacher = teacher.to(memory_format=torch.channels_last)
    net = student_of(teacher, settings)
    average = DetailDenoiser.from_config(net.config)
    average.load_state_dict(net.state_dict())
    learn_quickly(net)
    generator = OneStep(net, float(net.config["sigmas"][0]), settings.bfloat16).to(memory_format=torch.channels_last)
    quick = partial(torch.autocast, "cpu", torch.bfloat16, enabled=settings.bfloat16)
    features = FrozenFeatures().to(memory_format=torch.channels_last)
    patches = PatchDiscriminator(width=24).to(memory_format=torch.channels_last)
    root = RootCrops(open_root(World()))
    pool = ChildPool(root, len(BAND_GSDS), settings.pool, SIDE)
    book: CaptionBook | None = None
    if net.config["text_width"]:
        book = CaptionBook.build(train_levels, encoder or text_encoder(), out / "captions")

    run = Run(
        out,
        {"net": net, "patches": patches},
        {"net": settings.rate, "patches": settings.patch_rate},
        (0.8, 0.99),
        average,
    )
    resumed = run.resume()
    if resumed is not None:
        pool.load_state_dict(resumed["pool"])

    run.begin(minutes, tick_images, images_limit)
    while not run.finished:
        step = run.step
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        chance = np.random.Generator(np.random.Philox(key=[settings.seed, step]))
        crops = sampler.draw(step, settings.batch - settings.batch // 2)
        real = real_examples(crops, random)
        bands = pool.bands(_POOL_BEGINS)
        own = [bands[int(i)] for i in torch.randint(len(bands), (settings.batch // 2,), generator=random)]
        parents = pool.draw(own, SIDE // 4, random)
        parent, log2_gsd = torch.cat([real.parent, parents.pixels]), torch.cat([real.log2_gsd, parents.log2_gsd])
        said = None
        if book is not None:
            said = torch.zeros(len(parent), book.vectors.shape[1])
            captions = [book.draw(level, crop, chance) for level, crop in zip(crops.levels, crops.pixels, strict=True)]
            told = torch.rand(len(captions), 1, generator=random) < settings.text_share
            said[: len(captions)] = torch.from_numpy(book.vectors)[captions] * told

        noise = torch.randn(len(parent), DETAIL_CHANNELS, *parent.shape[2:], generator=random)
        with quick():
            target = taught(teacher, noise, parent, log2_gsd, said)
        state = generator.state(noise, parent, log2_gsd, said)
        wanted = Examples(stored(generator.picture(target, parent, log2_gsd)), parent, log2_gsd)
        made = Examples(stored(generator.picture(state, parent, log2_gsd)), parent, log2_gsd)
        pool.add(own, made.child[len(real.child) :], parents.log2_gsd, random)

        unit = unit_of(net, made)
        with quick():
            patch_loss = hinge(
                [patches(wanted.child, parent, unit, log2_gsd)], [patches(made.child.detach(), parent, unit, log2_gsd)]
            )
        patch_loss.backward()
        run.learn("patches")
        with quick():
            with torch.no_grad():
                theirs = [x.float() for x in features(at_ordinary_contrast(wanted.child, parent))]
            ours = [x.float() for x in features(at_ordinary_contrast(made.child, parent))]
        distance = (state - target).abs().mean()
        alike = feature_distance(ours, theirs)
        loss = settings.state_weight * distance + settings.feature_weight * alike
        if run.images >= settings.warm_up:
            patches.requires_grad_(False)
            with quick():
                fooling = -patches(made.child, parent, unit, log2_gsd).float().mean()
            loss = loss + settings.patch_weight * fooling
            run.note(fooling=fooling)
        if step % settings.cut_every == 0:
            cut = cut_distance(generator, noise, made, state, said, step // settings.cut_every % 4)
            loss = loss + settings.cut_weight * cut
            run.note(cut=cut * settings.cut_every)
        loss.backward()
        patches.requires_grad_(True)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        run.learn("net")
        update_ema(average, net, settings.batch, run.images, settings.ema_half_life)
        run.note(state=distance, features=alike, patches=patch_loss)

        run.advance(settings.batch)
        if run.tick_due:
            sheet = out / "sheets" / f"{run.images:08d}.jpg"
            draw_sheet(average, held_out, sheet)
            descent = draw_descent(average, root, sheet.with_stem(f"{sheet.stem}-descent"))
            run.tick(network_config(net), asdict(settings), {"descent": descent}, {"pool": pool.state_dict()})


def main(
    teacher: Annotated[Path, typer.Option(metavar="DIR", help="weights folder of the teacher")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the run lives")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/; default $EARTHGEN_DATA")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="stop after so many minutes")] = 30.0,
    tick_images: Annotated[int, typer.Option(min=1, help="images between two log lines")] = 3_200,
    images: Annotated[int | None, typer.Option(min=1, help="stop after so many images in all")] = None,
    bfloat16: Annotated[bool, typer.Option(help="quicker on a processor with bfloat16 instructions")] = False,
) -> None:
    """Distil a smaller network. Example: python -m training.distil --teacher W --out runs/distil."""
    train(data, teacher, out, minutes, Settings(bfloat16=bfloat16), tick_images, images)


if __name__ == "__main__":
    typer.run(main)

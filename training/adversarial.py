"""Tune the cascade's network into a one-step generator, on real parents and on parents of its own making.

    python -m training.adversarial --data DIR --init runs/cascade/weights --out runs/adversarial --minutes 120

The network that `training.cascade` made is run once, from noise at one level, and its denoised state is
the sample (adversarial diffusion distillation, Sauer et al. 2023, without the distillation term). Two
discriminators say what is missing: a patch discriminator that learns from nothing and watches the finest
structure, and heads on frozen features of a picture classifier that know what roofs, fields and crowns
are. Most of each batch has parents that the network made before (`training.pool`), down to the depth of the
product's chains, because chains are what users see; there the local strength of detail is held to that of real
pictures (`training.busyness`), since nothing else would keep a chain from fading.

Text is given to half of the examples. A real picture has its own caption; a child of the pool's parents has the
caption of the real picture that it is compared with, so that it learns to become what is said.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer

from datasets.captions import CaptionBook
from datasets.packs import imagery_folder
from datasets.pyramids import BAND_GSDS, Crops, CropSampler, read_levels
from earthgen.conditioning import TextEncoder, text_encoder
from earthgen.denoiser import Condition, DetailDenoiser, Preconditioned
from earthgen.detail import DETAIL_CHANNELS, join, smooth_detail, to_unit
from earthgen.roots import open_root
from earthgen.world import World
from training.augment import regrade, stored_parent
from training.busyness import Busyness
from training.checkpoint import network_config, with_text
from training.depthwise import learn_quickly
from training.discriminator import FINEST_UNIT, PatchDiscriminator
from training.ema import update_ema
from training.pool import ChildPool, RootCrops
from training.projected import (
    FrozenFeatures,
    ProjectedDiscriminator,
    at_ordinary_contrast,
    feature_distance,
    hinge,
    windowed,
)
from training.run import Run
from training.sheets import draw_descent, draw_sheet


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a run.

    Attributes:
        batch: crops of 128 pixels a step.
        sigma: noise level of the one step.
        own_share: share of a batch whose parents come from the pool.
        text_share: share of the examples that keep their text.
        small_share: share of steps that draw four times as many 64-pixel crops, all from real parents.
        generator_rate: Adam's learning rate.
        patch_rate: the same of the patch discriminator.
        heads_rate: the same of the heads on frozen features.
        warm_up: images during which only the discriminators learn.
        patch_weight: weight of the patch discriminator's word.
        truth_weight: weight of the feature distance to the real child.
        mean_weight: weight of the L1 distance of 2x2 means to the real child.
        busy_weight: weight of the distance of local strength of detail, for parents from the pool.
        cut_weight: weight of the L1 distance between a window and the same window cut off nearby.
        cut_every: steps between two lessons about cuts.
        pool: children kept a band.
        ema_half_life: images.
        bfloat16: whether convolutions are computed in bfloat16: quicker where the processor has instructions for it.
        seed: of crops and noise.
    """

    batch: int = 8
    sigma: float = 5.0
    own_share: float = 0.625
    text_share: float = 0.5
    small_share: float = 0.1
    generator_rate: float = 2e-4
    patch_rate: float = 1e-3
    heads_rate: float = 5e-4
    warm_up: int = 800
    patch_weight: float = 0.35
    truth_weight: float = 2.0
    mean_weight: float = 0.3
    busy_weight: float = 3.0
    cut_weight: float = 2.0
    cut_every: int = 4
    pool: int = 48
    ema_half_life: int = 2_000
    bfloat16: bool = False
    seed: int = 2


SIDE = 128
_PARENT_SIDE = SIDE // 4
_POOL_BEGINS = 8
"""Pictures that a band must have before parents are drawn from it."""
_CUT = 12
"""Positions that a lesson about cuts takes away on one side; a multiple of ALIGNMENT."""
_CUT_MARGIN = 8
"""Positions next to the cut that may differ: the margin that the engine throws away."""
_POPULATION = 24
"""Pictures of a band whose strength of detail is remembered."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Children and what they were made from.

    Attributes:
        child: (b, 3, 4h, 4w) in [-1, 1].
        parent: (b, 3, h, w) in [-1, 1].
        log2_gsd: (b,), log2 of the child's metres per pixel.
    """

    child: torch.Tensor
    parent: torch.Tensor
    log2_gsd: torch.Tensor


class OneStep(torch.nn.Module):
    """The network as a generator of children.

    Args:
        net: the network.
        sigma: noise level of the one step.
        in_bfloat16: whether the network's convolutions are computed in bfloat16; what leaves it is float32 anyway.
    """

    def __init__(self, net: DetailDenoiser, sigma: float, in_bfloat16: bool = False) -> None:
        super().__init__()
        self.net = net
        self.model = Preconditioned(net)
        self.sigma = sigma
        self.in_bfloat16 = in_bfloat16

    def state(
        self, noise: torch.Tensor, parent: torch.Tensor, log2_gsd: torch.Tensor, text: torch.Tensor | None
    ) -> torch.Tensor:
        """The denoised state (b, 45, h, w) of noise of that shape, for parents (b, 3, h, w)."""
        count, _, height, _ = parent.shape
        condition = Condition(parent, log2_gsd[:, None].expand(-1, height), torch.zeros(count), text)
        noisy = (self.sigma * noise).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.in_bfloat16):
            state: torch.Tensor = self.model(noisy, torch.full((count,), self.sigma), condition)
        return state.float()

    def picture(self, state: torch.Tensor, parent: torch.Tensor, log2_gsd: torch.Tensor) -> torch.Tensor:
        """Children (b, 3, 4h, 4w) of a denoised state."""
        scale = self.net.detail_scale(parent, log2_gsd[:, None].expand(-1, parent.shape[2]))
        return join(parent, state * scale + smooth_detail(parent))


def stored(image: torch.Tensor) -> torch.Tensor:
    """Clip to the range and round to bytes, with the gradient of doing neither inside the range."""
    clipped = image.clamp(-1, 1)
    return clipped + (((clipped + 1) * 127.5).round() / 127.5 - 1 - clipped).detach()


def real_examples(crops: Crops, random: torch.Generator) -> Examples:
    """Re-graded crops and their stored parents."""
    image = regrade(to_unit(crops.pixels), random)
    return Examples(image, stored_parent(image), torch.from_numpy(crops.gsd).float().log2())


@torch.no_grad()
def unit_of(net: DetailDenoiser, examples: Examples) -> torch.Tensor:
    """The unit of lightness detail at each parent, (b, 1, h, w)."""
    rows = examples.log2_gsd[:, None].expand(-1, examples.parent.shape[2])
    return net.detail_scale(examples.parent, rows)[:, :1].clamp(min=FINEST_UNIT)


def mean_distance(fake: Examples, real: Examples, unit: torch.Tensor) -> torch.Tensor:
    """L1 distance of 2x2 means to the real child, in the unit of detail."""
    difference = F.avg_pool2d(fake.child, 2) - F.avg_pool2d(real.child, 2)
    return (difference / F.interpolate(unit, scale_factor=2, mode="nearest")).abs().mean()


def cut_distance(
    generator: OneStep,
    noise: torch.Tensor,
    fake: Examples,
    state: torch.Tensor,
    text: torch.Tensor | None,
    side: int,
) -> torch.Tensor:
    """How much a window's inside changes where the window is cut off nearby.

    Args:
        generator: the network.
        noise: what `state` was made from.
        fake: parents and GSD.
        state: (b, 45, h, w), the denoised state of the whole.
        text: what was said.
        side: 0 left, 1 right, 2 top, 3 bottom.
    """
    keep, inside, within = slice(_CUT, None), slice(_CUT + _CUT_MARGIN, None), slice(_CUT_MARGIN, None)
    if side % 2:
        keep, inside, within = slice(None, -_CUT), slice(None, -_CUT - _CUT_MARGIN), slice(None, -_CUT_MARGIN)

    def part(x: torch.Tensor, where: slice) -> torch.Tensor:
        return x[:, :, :, where] if side < 2 else x[:, :, where]

    again = generator.state(part(noise, keep), part(fake.parent, keep), fake.log2_gsd, text)
    return (part(again, within) - part(state, inside)).abs().mean()


def train(
    data: Path | None,
    init: Path,
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
        init: weights folder to start from.
        out: folder of the run.
        minutes: when to stop.
        settings: the run's numbers.
        tick_images: images between two log lines, sheets and checkpoints.
        images_limit: stop after so many images in all.
        encoder: of texts; None takes the default one.
    """
    folder = imagery_folder(data)
    train_levels, val_levels = read_levels(folder, "train"), read_levels(folder, "val")
    large = CropSampler(train_levels, SIDE, settings.seed)
    small = CropSampler(train_levels, SIDE // 2, settings.seed + 1, largest_side=SIDE)
    others = CropSampler(train_levels, SIDE, settings.seed + 2)
    held_out = CropSampler(val_levels, 64, 0)
    encoder = encoder or text_encoder()
    book = CaptionBook.build(train_levels, encoder, out / "captions")
    vectors = torch.from_numpy(book.vectors)

    torch.manual_seed(settings.seed)
    net = with_text(DetailDenoiser.from_pretrained(init, torch_dtype=torch.float32), encoder.width)
    net.register_to_config(sigmas=(settings.sigma, 0.0))  # type: ignore[no-untyped-call]
    average = DetailDenoiser.from_config(net.config)
    average.load_state_dict(net.state_dict())
    learn_quickly(net)
    generator = OneStep(net, settings.sigma, settings.bfloat16).to(memory_format=torch.channels_last)
    quick = partial(torch.autocast, "cpu", torch.bfloat16, enabled=settings.bfloat16)
    features = FrozenFeatures().to(memory_format=torch.channels_last)
    patches = PatchDiscriminator(width=32).to(memory_format=torch.channels_last)
    heads = ProjectedDiscriminator(text_width=encoder.width).to(memory_format=torch.channels_last)
    root = RootCrops(open_root(World()))
    pool = ChildPool(root, len(BAND_GSDS), settings.pool, SIDE)
    busy = Busyness(len(BAND_GSDS), _POPULATION, (SIDE // 16) ** 2)

    rates = {"net": settings.generator_rate, "patches": settings.patch_rate, "heads": settings.heads_rate}
    run = Run(out, {"net": net, "patches": patches, "heads": heads}, rates, (0.5, 0.99), average)
    resumed = run.resume()
    if resumed is not None:
        pool.load_state_dict(resumed["pool"])
        busy.load_state_dict(resumed["busy"])

    run.begin(minutes, tick_images, images_limit)
    while not run.finished:
        step = run.step
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        chance = np.random.Generator(np.random.Philox(key=[settings.seed, step]))
        is_small = float(torch.rand((), generator=random)) < settings.small_share
        ready = [] if is_small else [band for band in pool.bands(_POOL_BEGINS) if band in others.bands]
        own = round(settings.batch * settings.own_share) if ready else 0
        paired = settings.batch * 4 if is_small else settings.batch - own

        # Reals: crops whose parents the network gets, then others of the bands of the pool's parents.
        crops = (small if is_small else large).draw(step, paired)
        real = real_examples(crops, random)
        parent, log2_gsd, bands = real.parent, real.log2_gsd, crops.bands
        captions = [book.draw(level, crop, chance) for level, crop in zip(crops.levels, crops.pixels, strict=True)]
        if own:
            # All levels of a chain matter alike: what one of them loses, the next cannot know.
            drawn = [ready[int(i)] for i in torch.randint(len(ready), (own,), generator=random)]
            parents = pool.draw(drawn, _PARENT_SIDE, random)
            other = others.draw(step, own, drawn)
            captions += [book.draw(level, crop, chance) for level, crop in zip(other.levels, other.pixels, strict=True)]
            more = real_examples(other, random)
            real = Examples(
                torch.cat([real.child, more.child]),
                torch.cat([real.parent, more.parent]),
                torch.cat([real.log2_gsd, more.log2_gsd]),
            )
            parent = torch.cat([parent, parents.pixels])
            log2_gsd = torch.cat([log2_gsd, parents.log2_gsd])
            bands = bands + drawn
        said = vectors[captions] * (torch.rand(len(bands), 1, generator=random) < settings.text_share)

        noise = torch.randn(len(bands), DETAIL_CHANNELS, *parent.shape[2:], generator=random)
        state = generator.state(noise, parent, log2_gsd, said)
        fake = Examples(stored(generator.picture(state, parent, log2_gsd)), parent, log2_gsd)
        if own:
            pool.add(bands[paired:], fake.child[paired:], log2_gsd[paired:], random)

        # The discriminators learn.
        real_unit, fake_unit = unit_of(net, real), unit_of(net, fake)
        real_seen_at = at_ordinary_contrast(real.child, real.parent)
        fake_seen_at = at_ordinary_contrast(fake.child, fake.parent)
        with quick():
            with torch.no_grad():
                real_features = [feature.float() for feature in features(real_seen_at)]
            fake_features = [feature.float() for feature in features(fake_seen_at)]
            real_seen, fake_seen = windowed(real_features, random), windowed(fake_features, random)
            heads_loss = hinge(
                heads(real_seen, real.log2_gsd, said), heads([f.detach() for f in fake_seen], log2_gsd, said)
            )
            patch_loss = hinge(
                [patches(real.child, real.parent, real_unit, real.log2_gsd)],
                [patches(fake.child.detach(), fake.parent, fake_unit, log2_gsd)],
            )
        (heads_loss + patch_loss).backward()
        run.learn("heads", "patches")
        run.note(heads=heads_loss, patches=patch_loss)

        if run.images >= settings.warm_up:
            heads.requires_grad_(False)
            patches.requires_grad_(False)
            with quick():
                fooling = torch.stack([-score.float().mean() for score in heads(fake_seen, log2_gsd, said)]).mean()
                patch_fooling = -patches(fake.child, fake.parent, fake_unit, log2_gsd).float().mean()
            truth = feature_distance([f[:paired] for f in fake_features], [f[:paired] for f in real_features])
            paired_fake = Examples(fake.child[:paired], parent[:paired], log2_gsd[:paired])
            paired_real = Examples(real.child[:paired], real.parent[:paired], real.log2_gsd[:paired])
            means = mean_distance(paired_fake, paired_real, fake_unit[:paired])
            loss = (
                fooling
                + settings.patch_weight * patch_fooling
                + settings.truth_weight * truth
                + settings.mean_weight * means
            )
            if own:
                busyness = busy.distance(fake.child[paired:], real.child[paired:], bands[paired:])
                loss = loss + settings.busy_weight * busyness
                run.note(busy=busyness)
            if step % settings.cut_every == 0 and not is_small:
                cut = cut_distance(generator, noise, fake, state, said, step // settings.cut_every % 4)
                loss = loss + settings.cut_weight * cut
                run.note(cut=cut * settings.cut_every)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            run.learn("net")
            heads.requires_grad_(True)
            heads.mixers.requires_grad_(False)
            patches.requires_grad_(True)
            update_ema(average, net, settings.batch, run.images, settings.ema_half_life)
            run.note(fooling=fooling, patch_fooling=patch_fooling, truth=truth, means=means)

        run.advance(settings.batch)
        if run.tick_due:
            sheet = out / "sheets" / f"{run.images:08d}.jpg"
            draw_sheet(average, held_out, sheet)
            descent = draw_descent(average, root, sheet.with_stem(f"{sheet.stem}-descent"))
            state_of = {"pool": pool.state_dict(), "busy": busy.state_dict()}
            run.tick(network_config(net), asdict(settings), {"descent": descent}, state_of)


def main(
    init: Annotated[Path, typer.Option(metavar="DIR", help="weights folder to start from")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the run lives")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/; default $EARTHGEN_DATA")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="stop after so many minutes")] = 45.0,
    batch: Annotated[int, typer.Option(min=1, help="128-pixel crops a step")] = Settings.batch,
    tick_images: Annotated[int, typer.Option(min=1, help="images between two log lines")] = 1_600,
    images: Annotated[int | None, typer.Option(min=1, help="stop after so many images in all")] = None,
    bfloat16: Annotated[bool, typer.Option(help="quicker on a processor with bfloat16 instructions")] = False,
    rate: Annotated[float, typer.Option(min=0, help="the generator's learning rate")] = Settings.generator_rate,
    warm_up: Annotated[int, typer.Option(min=0, help="images that only teach the discriminators")] = Settings.warm_up,
) -> None:
    """Tune into a one-step generator. Example: python -m training.adversarial --init W --out runs/adversarial."""
    settings = Settings(batch=batch, bfloat16=bfloat16, generator_rate=rate, warm_up=warm_up)
    train(data, init, out, minutes, settings, tick_images, images)


if __name__ == "__main__":
    typer.run(main)

"""Tune the diffusion weights into a one-step generator, through three levels of its own output.

    python -m training.adversarial --data DIR --init runs/cascade/weights --out runs/adversarial --minutes 45

The network that `training.cascade` made is run once, from noise at one level, and its denoised state is
the sample (adversarial diffusion distillation, Sauer et al. 2023, without the distillation term). A
patch discriminator says what is missing. Half of the steps run down a chain: the network's children are
the parents of the next level, and it learns through all of them, because a chain is what users see.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from tqdm import tqdm

from datasets.packs import imagery_folder
from datasets.pyramids import Crops, CropSampler, read_levels
from earthgen.denoiser import ALIGNMENT, Condition, DetailDenoiser, Preconditioned
from earthgen.detail import DETAIL_CHANNELS, join, smooth_detail, to_unit
from training.augment import regrade, stored_parent
from training.checkpoint import load_checkpoint, network_config, save_checkpoint
from training.discriminator import FINEST_UNIT, PatchDiscriminator
from training.ema import update_ema
from training.sheets import draw_chain_sheet, draw_sheet


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a run.

    Attributes:
        batch: crops of 128 pixels a step.
        sigma: noise level of the one step.
        chain_share: share of steps that run down a chain.
        small_share: share of steps that draw 64-pixel crops.
        generator_rate: AdamW's learning rate.
        discriminator_rate: the same of the discriminator.
        warm_up: images during which only the discriminator learns.
        truth_weight: weight of the L1 distance of 2x2 means to the real child.
        ema_half_life: images.
        seed: of crops and noise.
    """

    batch: int = 8
    sigma: float = 5.0
    chain_share: float = 0.5
    small_share: float = 0.2
    generator_rate: float = 1e-4
    discriminator_rate: float = 1e-3
    warm_up: int = 400
    truth_weight: float = 2.0
    ema_half_life: int = 2_000
    seed: int = 2


CHAIN_LEVELS = 3
"""Cascade levels that a chain runs through."""

Pair = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Child (b, 3, 4h, 4w), parent (b, 3, h, w) and log2 of the child's metres per pixel (b,)."""


class OneStep(torch.nn.Module):
    """The network as a generator of children."""

    def __init__(self, net: DetailDenoiser, sigma: float) -> None:
        super().__init__()
        self.net = net
        self.model = Preconditioned(net)
        self.sigma = sigma

    def forward(self, parent: torch.Tensor, log2_gsd: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """Children (b, 3, 4h, 4w) of parents (b, 3, h, w); log2_gsd (b,) is the children's."""
        count, _, height, width = parent.shape
        noise = torch.randn(count, DETAIL_CHANNELS, height, width, generator=random)
        condition = Condition(parent, log2_gsd[:, None].expand(-1, height), torch.zeros(count))
        noisy = (self.sigma * noise).contiguous(memory_format=torch.channels_last)
        state = self.model(noisy, torch.full((count,), self.sigma), condition)
        return join(parent, state * self.net.detail_scale(parent, condition.log2_gsd) + smooth_detail(parent))


def detached(pair: Pair) -> Pair:
    """The pair, cut off from the network that made it."""
    child, parent, log2_gsd = pair
    return child.detach(), parent.detach(), log2_gsd


def stored(image: torch.Tensor) -> torch.Tensor:
    """Clip to the range and round to bytes, with the gradient of doing neither inside the range."""
    clipped = image.clamp(-1, 1)
    return clipped + (((clipped + 1) * 127.5).round() / 127.5 - 1 - clipped).detach()


@torch.no_grad()
def unit_of(net: DetailDenoiser, pair: Pair) -> torch.Tensor:
    """The unit of lightness detail at each parent of a pair, (b, 1, h, w)."""
    _, parent, log2_gsd = pair
    return net.detail_scale(parent, log2_gsd[:, None].expand(-1, parent.shape[2]))[:, :1].clamp(min=FINEST_UNIT)


def judged(judge: PatchDiscriminator, net: DetailDenoiser, pair: Pair) -> torch.Tensor:
    """Patch scores of a pair of child and parent."""
    child, parent, log2_gsd = pair
    scores: torch.Tensor = judge(child, parent, unit_of(net, pair), log2_gsd)
    return scores


def truth_distance(net: DetailDenoiser, pair: Pair, truth: torch.Tensor) -> torch.Tensor:
    """L1 distance of 2x2 means to the real child, in the unit of detail."""
    difference = F.avg_pool2d(pair[0], 2) - F.avg_pool2d(truth, 2)
    return (difference / F.interpolate(unit_of(net, pair), scale_factor=2, mode="nearest")).abs().mean()


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Hinge loss (Lim & Ye 2017) of patch scores."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def real_pair(crops: Crops, random: torch.Generator) -> Pair:
    """Re-graded crops and their stored parents."""
    image = regrade(to_unit(crops.pixels), random)
    return image, stored_parent(image), torch.from_numpy(crops.gsd).float().log2()


def chain_pairs(
    generator: OneStep, chains: CropSampler, step: int, count: int, random: torch.Generator
) -> tuple[list[Pair], list[Pair]]:
    """Real pairs and pairs of the network's own making, level by level down a chain of CHAIN_LEVELS.

    The chain starts at a real parent; each further level takes the middle of the children above it as its
    parents. The real pairs of the lower levels are other places of the same bands: a chain that goes wrong
    shows as pairs that no real place has.
    """
    bands = [band for band in chains.bands if band - CHAIN_LEVELS + 1 in chains.bands]
    if not bands:
        raise ValueError(
            f"a chain needs {CHAIN_LEVELS} bands that follow each other; there are crops in {chains.bands}"
        )
    first = bands[int(torch.randint(len(bands), (), generator=random))]
    real_pairs = [
        real_pair(chains.draw(step * CHAIN_LEVELS + level, count, first - level), random)
        for level in range(CHAIN_LEVELS)
    ]
    _, parent, log2_gsd = real_pairs[0]
    fake_pairs: list[Pair] = []
    for level in range(CHAIN_LEVELS):
        child = stored(generator(parent, log2_gsd - 2 * level, random))
        fake_pairs.append((child, parent, log2_gsd - 2 * level))
        side = parent.shape[-1]
        offset = (child.shape[-1] - side) // 2 // ALIGNMENT * ALIGNMENT
        parent = child[:, :, offset : offset + side, offset : offset + side]
    return real_pairs, fake_pairs


def train(
    data: Path | None,
    init: Path,
    out: Path,
    minutes: float,
    settings: Settings,
    tick_images: int,
    images_limit: int | None = None,
) -> None:
    """Run until the minutes are over or the images are seen; resume from `out` if it holds a checkpoint."""
    folder = imagery_folder(data)
    train_levels, val_levels = read_levels(folder, "train"), read_levels(folder, "val")
    single = CropSampler(train_levels, 128, settings.seed)
    small = CropSampler(train_levels, 64, settings.seed + 1, largest_side=128)
    chains = CropSampler(train_levels, 96, settings.seed + 2)
    held_out = CropSampler(val_levels, 64, 0)
    held_out_large = CropSampler(val_levels, 256, 0)

    checkpoint = out / "checkpoint.pt"
    resumed: dict[str, Any] | None = load_checkpoint(checkpoint) if checkpoint.exists() else None
    torch.manual_seed(settings.seed)
    net = DetailDenoiser.from_pretrained(init, torch_dtype=torch.float32)
    net.register_to_config(sigmas=(settings.sigma, 0.0))
    average = DetailDenoiser.from_config(net.config)
    average.load_state_dict(net.state_dict())
    generator = OneStep(net, settings.sigma).to(memory_format=torch.channels_last)
    judge = PatchDiscriminator().to(memory_format=torch.channels_last)
    generator_optimiser = torch.optim.AdamW(
        net.parameters(), lr=settings.generator_rate, betas=(0.5, 0.99), weight_decay=0.0, fused=True
    )
    judge_optimiser = torch.optim.AdamW(
        judge.parameters(), lr=settings.discriminator_rate, betas=(0.5, 0.99), weight_decay=0.0, fused=True
    )
    step, images, seconds = 0, 0, 0.0
    if resumed is not None:
        net.load_state_dict(resumed["model"])
        average.load_state_dict(resumed["ema"])
        judge.load_state_dict(resumed["judge"])
        generator_optimiser.load_state_dict(resumed["generator_optimiser"])
        judge_optimiser.load_state_dict(resumed["judge_optimiser"])
        step, images, seconds = resumed["step"], resumed["images"], resumed["seconds"]
    for optimiser, rate in (
        (generator_optimiser, settings.generator_rate),
        (judge_optimiser, settings.discriminator_rate),
    ):
        for group in optimiser.param_groups:
            group["lr"] = rate

    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    progress = tqdm(initial=images, unit="img", smoothing=0.05)
    sums: dict[str, float] = {}
    steps, next_tick = 0, images + tick_images
    while True:
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        kind = float(torch.rand((), generator=random))
        if kind < settings.chain_share:
            real_pairs, fake_pairs = chain_pairs(generator, chains, step, max(1, settings.batch // 2), random)
        else:
            is_small = kind > 1 - settings.small_share
            count = settings.batch * (4 if is_small else 1)
            real_pairs = [real_pair((small if is_small else single).draw(step, count), random)]
            _, parent, log2_gsd = real_pairs[0]
            fake_pairs = [(generator(parent, log2_gsd, random), parent, log2_gsd)]
        # The first pair shares its parent with the real one; further down a chain there is no truth.
        truth = truth_distance(net, fake_pairs[0], real_pairs[0][0])

        judge_loss = sum(
            (
                discriminator_loss(judged(judge, net, real), judged(judge, net, detached(fake)))
                for real, fake in zip(real_pairs, fake_pairs, strict=True)
            ),
            torch.zeros(()),
        ) / len(real_pairs)
        judge_optimiser.zero_grad(set_to_none=True)
        judge_loss.backward()
        judge_optimiser.step()

        if images >= settings.warm_up:
            judge.requires_grad_(False)
            fooling = sum((-judged(judge, net, fake).mean() for fake in fake_pairs), torch.zeros(())) / len(fake_pairs)
            loss = fooling + settings.truth_weight * truth
            generator_optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            generator_optimiser.step()
            judge.requires_grad_(True)
            update_ema(average, net, settings.batch, images, settings.ema_half_life)
            sums["fooling"] = sums.get("fooling", 0.0) + float(fooling.detach())

        step, images, steps = step + 1, images + settings.batch, steps + 1
        sums["judge"] = sums.get("judge", 0.0) + float(judge_loss.detach())
        sums["truth"] = sums.get("truth", 0.0) + float(truth.detach())
        progress.update(settings.batch)

        finished = time.monotonic() - begun > 60 * minutes or images >= (images_limit or images + 1)
        if images >= next_tick or finished:
            now = seconds + time.monotonic() - begun
            line = {"images": images, "hours": round(now / 3600, 3)}
            line |= {name: round(value / steps, 4) for name, value in sums.items()}
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            state = {
                "model": net.state_dict(),
                "ema": average.state_dict(),
                "judge": judge.state_dict(),
                "generator_optimiser": generator_optimiser.state_dict(),
                "judge_optimiser": judge_optimiser.state_dict(),
                "config": network_config(net),
                "settings": asdict(settings),
                "step": step,
                "images": images,
                "seconds": now,
            }
            save_checkpoint(checkpoint, state)
            draw_sheet(average, held_out, out / "sheets" / f"{images:08d}.jpg")
            draw_chain_sheet(average, held_out_large, out / "sheets" / f"{images:08d}-chain.jpg")
            progress.write(json.dumps(line))
            sums, steps, next_tick = {}, 0, images + tick_images
        if finished:
            return


def main(
    init: Annotated[Path, typer.Option(metavar="DIR", help="weights folder of training.cascade")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the run lives")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/; default $EARTHGEN_DATA")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="stop after so many minutes")] = 45.0,
    batch: Annotated[int, typer.Option(min=1, help="128-pixel crops a step")] = Settings.batch,
    tick_images: Annotated[int, typer.Option(min=1, help="images between two log lines")] = 1_600,
    images: Annotated[int | None, typer.Option(min=1, help="stop after so many images in all")] = None,
) -> None:
    """Tune into a one-step generator. Example: python -m training.adversarial --init W --out runs/adversarial."""
    train(data, init, out, minutes, Settings(batch=batch), tick_images, images)


if __name__ == "__main__":
    typer.run(main)

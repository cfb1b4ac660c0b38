"""Tune the diffusion weights into a one-step generator, through two levels of its own output.

    python -m training.adversarial --data DIR --init runs/cascade/weights --out runs/adversarial --minutes 45

The network that `training.cascade` made is run once, from noise at one level, and its denoised state is
the sample (adversarial diffusion distillation, Sauer et al. 2023, without the distillation term). A
patch discriminator says what is missing. Half of the steps make the parent with the network too, from
the grandparent, and learn through both levels: a chain is what users see.
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
from datasets.pyramids import CropSampler, read_levels
from earthgen.denoiser import Condition, DetailDenoiser, Preconditioned
from earthgen.detail import DETAIL_CHANNELS, join, smooth_detail, to_unit
from training.augment import regrade, stored_parent
from training.checkpoint import load_checkpoint, network_config, save_checkpoint
from training.discriminator import PatchDiscriminator
from training.ema import update_ema
from training.sheets import draw_chain_sheet, draw_sheet


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a run.

    Attributes:
        batch: crops of 128 pixels a step.
        sigma: noise level of the one step.
        chain_share: share of steps that go through two levels.
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
    discriminator_rate: float = 2e-4
    warm_up: int = 800
    truth_weight: float = 1.0
    ema_half_life: int = 2_000
    seed: int = 2


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


def judged(judge: PatchDiscriminator, net: DetailDenoiser, pair: Pair) -> torch.Tensor:
    """Patch scores of a pair of child and parent."""
    child, parent, log2_gsd = pair
    with torch.no_grad():
        unit = net.detail_scale(parent, log2_gsd[:, None].expand(-1, parent.shape[2]))[:, :1]
    scores: torch.Tensor = judge(child, parent, unit, log2_gsd)
    return scores


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Hinge loss (Lim & Ye 2017) of patch scores."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


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
    double = CropSampler(train_levels, 256, settings.seed + 2)
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

    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    progress = tqdm(initial=images, unit="img", smoothing=0.05)
    sums: dict[str, float] = {}
    steps, next_tick = 0, images + tick_images
    while True:
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        kind = float(torch.rand((), generator=random))
        chained = kind < settings.chain_share
        is_small = not chained and kind > 1 - settings.small_share
        sampler = double if chained else small if is_small else single
        crops = sampler.draw(step, settings.batch * (4 if is_small else 1))
        image = regrade(to_unit(crops.pixels), random)
        log2_gsd = torch.from_numpy(crops.gsd).float().log2()
        parent = stored_parent(image)
        real_pairs, fake_pairs = [(image, parent, log2_gsd)], []
        if chained:
            # Two levels: 16 -> 64 -> 256 pixels, the second on the middle of the first.
            grandparent = stored_parent(parent)
            own_parent = stored(generator(grandparent, log2_gsd + 2, random))
            inner = own_parent[:, :, 16:48, 16:48]
            child = generator(inner, log2_gsd, random)
            real_pairs = [(image[:, :, 64:192, 64:192], parent[:, :, 16:48, 16:48], log2_gsd)]
            real_pairs.append((parent, grandparent, log2_gsd + 2))
            fake_pairs = [(child, inner, log2_gsd), (own_parent, grandparent, log2_gsd + 2)]
            truth = F.l1_loss(F.avg_pool2d(own_parent, 2), F.avg_pool2d(parent, 2))
        else:
            child = generator(parent, log2_gsd, random)
            fake_pairs = [(child, parent, log2_gsd)]
            truth = F.l1_loss(F.avg_pool2d(child, 2), F.avg_pool2d(image, 2))

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
            loss = fooling + settings.truth_weight * 10 * truth
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

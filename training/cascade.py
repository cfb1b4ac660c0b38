"""Train the cascade's network: x4 detail in every band of ground sampling distance.

    python -m training.cascade --data DIR --out runs/cascade --minutes 60

Stop it at any time and start it again: it goes on from its last checkpoint. Each tick appends one JSON
line to log.jsonl and draws a sheet to look at.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accelerate import Accelerator
from tqdm import tqdm

from datasets.packs import imagery_folder
from datasets.pyramids import BAND_GSDS, Crops, CropSampler, read_levels
from earthgen.denoiser import Condition, DetailDenoiser, Preconditioned
from earthgen.detail import smooth_detail, split, to_unit
from training.augment import regrade, stored_parent
from training.checkpoint import load_checkpoint, network_config, save_checkpoint
from training.contrast import measure_detail
from training.ema import update_ema
from training.sheets import draw_sheet


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a run.

    Attributes:
        batch: crops of 128 pixels a step; of 64 pixels four times as many.
        small_share: share of steps that draw 64-pixel crops (packs of small chips).
        learning_rate: AdamW's, after the warm-up.
        warm_up: images until the learning rate is reached.
        decay_after: images after which it falls with the square root of progress.
        sigma_mean: mean of ln sigma.
        sigma_std: standard deviation of ln sigma.
        noisy_share: share of the parents that carry noise.
        parent_noise: largest standard deviation of that noise, in [-1, 1] units.
        ema_half_life: images.
        seed: of crops, noise and initial weights.
    """

    batch: int = 16
    small_share: float = 0.22
    learning_rate: float = 6e-4
    warm_up: int = 4_000
    decay_after: int = 40_000
    sigma_mean: float = -0.2
    sigma_std: float = 1.3
    noisy_share: float = 0.25
    parent_noise: float = 0.03
    ema_half_life: int = 8_000
    seed: int = 1


def make_example(
    net: DetailDenoiser, crops: Crops, settings: Settings, random: torch.Generator
) -> tuple[torch.Tensor, Condition]:
    """The clean state (b, 45, h, w) and the condition of a batch of crops."""
    image = regrade(to_unit(crops.pixels), random)
    _, detail = split(image)
    parent = stored_parent(image)
    count = parent.shape[0]
    # Some of the parents carry noise of a strength that is told; the others are believed as they are.
    noisy = (torch.rand(count, generator=random) < settings.noisy_share).float()
    strength = settings.parent_noise * torch.rand(count, generator=random) * noisy
    parent = parent + strength[:, None, None, None] * torch.randn(parent.shape, generator=random)
    log2_gsd = torch.from_numpy(crops.gsd).float().log2()[:, None].expand(-1, parent.shape[2])
    state = (detail - smooth_detail(parent)) / net.detail_scale(parent, log2_gsd)
    # A pixel far out of the ordinary (a wreck in flat water) must not outweigh a batch.
    return state.clamp(-12, 12), Condition(parent, log2_gsd, strength)


def step_loss(
    model: Preconditioned, state: torch.Tensor, condition: Condition, sigma: torch.Tensor, random: torch.Generator
) -> torch.Tensor:
    """EDM's training loss (equation 8) of each example, (b,)."""
    noise = torch.randn(state.shape, generator=random)
    denoised = model(state + sigma[:, None, None, None] * noise, sigma, condition)
    loss: torch.Tensor = model.loss_weight(sigma) * (denoised - state).square().mean(dim=(1, 2, 3))
    return loss


def learning_rate(settings: Settings, images: int) -> float:
    """Linear warm-up, then constant, then the inverse square root of progress."""
    rate = settings.learning_rate * min(1.0, (images + settings.batch) / settings.warm_up)
    return rate / math.sqrt(max(1.0, images / settings.decay_after))


@torch.no_grad()
def held_out_loss(model: Preconditioned, sampler: CropSampler, settings: Settings) -> dict[str, float]:
    """Mean loss a band on fixed held-out crops, noise and noise levels."""
    losses = {}
    for band in sampler.bands:
        random = torch.Generator().manual_seed(band)
        state, condition = make_example(model.net, sampler.draw(0, 16, band), settings, random)
        sigma = torch.linspace(math.log(0.1), math.log(15.0), 16).exp()
        losses[f"{BAND_GSDS[band]:g}m"] = round(float(step_loss(model, state, condition, sigma, random).mean()), 4)
    return losses


def train(
    data: Path | None,
    out: Path,
    minutes: float,
    settings: Settings,
    tick_images: int,
    init: Path | None = None,
    images_limit: int | None = None,
) -> None:
    """Run until the minutes are over or the images are seen; resume from `out` if it holds a checkpoint."""
    accelerator = Accelerator()
    folder = imagery_folder(data)
    train_levels, val_levels = read_levels(folder, "train"), read_levels(folder, "val")
    large = CropSampler(train_levels, 128, settings.seed)
    small = CropSampler(train_levels, 64, settings.seed + 1, largest_side=128)
    held_out = CropSampler(val_levels, 64, 0)

    checkpoint = out / "checkpoint.pt"
    resumed: dict[str, Any] | None = load_checkpoint(checkpoint) if checkpoint.exists() else None
    torch.manual_seed(settings.seed)
    if resumed is not None:
        net = DetailDenoiser.from_config(resumed["config"])
    elif init is not None:
        net = DetailDenoiser.from_pretrained(init, torch_dtype=torch.float32)
    else:
        std, contrast = measure_detail(large)
        net = DetailDenoiser(detail_std=std, contrast=contrast)
    average = DetailDenoiser.from_config(net.config)
    average.load_state_dict(net.state_dict())
    model = Preconditioned(net).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    model, optimiser = accelerator.prepare(model, optimiser)
    step, images, seconds = 0, 0, 0.0
    if resumed is not None:
        net.load_state_dict(resumed["model"])
        average.load_state_dict(resumed["ema"])
        optimiser.load_state_dict(resumed["optimiser"])
        step, images, seconds = resumed["step"], resumed["images"], resumed["seconds"]

    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    progress = tqdm(initial=images, unit="img", smoothing=0.05)
    tick_loss, tick_steps, next_tick = 0.0, 0, images + tick_images
    while True:
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        use_small = float(torch.rand((), generator=random)) < settings.small_share
        batch = settings.batch * (4 if use_small else 1)
        crops = (small if use_small else large).draw(step, batch)
        state, condition = make_example(net, crops, settings, random)
        sigma = torch.exp(settings.sigma_mean + settings.sigma_std * torch.randn(batch, generator=random))

        for group in optimiser.param_groups:
            group["lr"] = learning_rate(settings, images)
        loss = step_loss(model, state.contiguous(memory_format=torch.channels_last), condition, sigma, random).mean()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

        # A step of small crops covers the area of a step of large ones: count both the same.
        step, images = step + 1, images + settings.batch
        update_ema(average, net, settings.batch, images, settings.ema_half_life)
        tick_loss, tick_steps = tick_loss + float(loss.detach()), tick_steps + 1
        progress.update(settings.batch)

        finished = time.monotonic() - begun > 60 * minutes or images >= (images_limit or images + 1)
        if images >= next_tick or finished:
            now = seconds + time.monotonic() - begun
            line = {
                "images": images,
                "hours": round(now / 3600, 3),
                "loss": round(tick_loss / tick_steps, 4),
                "held_out": held_out_loss(Preconditioned(average), held_out, settings),
            }
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            state_dict = {
                "model": net.state_dict(),
                "ema": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "config": network_config(net),
                "settings": asdict(settings),
                "step": step,
                "images": images,
                "seconds": now,
            }
            save_checkpoint(checkpoint, state_dict)
            draw_sheet(average, held_out, out / "sheets" / f"{images:08d}.jpg")
            progress.write(json.dumps(line))
            tick_loss, tick_steps, next_tick = 0.0, 0, images + tick_images
        if finished:
            return


def main(
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the run lives")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/; default $EARTHGEN_DATA")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="stop after so many minutes")] = 60.0,
    batch: Annotated[int, typer.Option(min=1, help="128-pixel crops a step")] = Settings.batch,
    seed: Annotated[int, typer.Option(min=0)] = Settings.seed,
    tick_images: Annotated[int, typer.Option(min=1, help="images between two log lines")] = 4_000,
    init: Annotated[Path | None, typer.Option(metavar="DIR", help="weights folder to start from")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="stop after so many images in all")] = None,
) -> None:
    """Train the cascade's network. Example: python -m training.cascade --out runs/cascade --minutes 60."""
    train(data, out, minutes, Settings(batch=batch, seed=seed), tick_images, init, images)


if __name__ == "__main__":
    typer.run(main)

"""Train the cascade's network: x4 detail in every band of ground sampling distance.

    python -m training.cascade --data DIR --out runs/cascade --minutes 60

With --regression the same network learns the mean of the children instead, from noise that says nothing: the floor that
`benchmarks.quality` compares with.

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

import numpy as np
import torch
import typer
from accelerate import Accelerator
from tqdm import tqdm

from datasets.captions import CaptionBook
from datasets.packs import imagery_folder
from datasets.pyramids import BAND_GSDS, Crops, CropSampler, read_levels
from earthgen.conditioning import TextEncoder, text_encoder
from earthgen.denoiser import Condition, DetailDenoiser, Preconditioned
from earthgen.detail import smooth_detail, split, to_unit
from earthgen.roots import open_root
from earthgen.sampler import karras_sigmas
from earthgen.world import World
from training.augment import regrade, stored_parent
from training.checkpoint import load_checkpoint, network_config, save_checkpoint, with_text
from training.contrast import measure_detail
from training.depthwise import learn_quickly
from training.ema import update_ema
from training.pool import RootCrops
from training.sheets import draw_descent, draw_sheet


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
        text_share: share of the examples that are told their caption.
        regression: whether the network learns the mean of the children, from noise alone at one level.
        bfloat16: whether convolutions are computed in bfloat16: quicker where the processor has instructions for it.
        width: channels of a new network, as a multiple of those that ship, in steps of 8 channels.
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
    text_share: float = 0.5
    regression: bool = False
    bfloat16: bool = False
    width: float = 1.0
    seed: int = 1


SAMPLED_STEPS = 6
"""Steps in which the weights are to be sampled."""
REGRESSION_SIGMA = 5.0
"""The level of the noise that a regression is given and cannot use."""


def make_example(
    net: DetailDenoiser, crops: Crops, settings: Settings, random: torch.Generator, text: torch.Tensor | None = None
) -> tuple[torch.Tensor, Condition]:
    """The clean state (b, 45, h, w) and the condition of a batch of crops, with text vectors (b, width) or none."""
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
    return state.clamp(-12, 12), Condition(parent, log2_gsd, strength, text)


def step_loss(
    model: Preconditioned,
    state: torch.Tensor,
    condition: Condition,
    sigma: torch.Tensor,
    random: torch.Generator,
    settings: Settings,
) -> torch.Tensor:
    """EDM's training loss (equation 8) of each example, (b,); of a regression the squared error."""
    noisy = sigma[:, None, None, None] * torch.randn(state.shape, generator=random)
    if not settings.regression:
        noisy = state + noisy
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
        denoised = model(noisy.contiguous(memory_format=torch.channels_last), sigma, condition).float()
    error: torch.Tensor = (denoised - state).square().mean(dim=(1, 2, 3))
    return error if settings.regression else model.loss_weight(sigma) * error


def channels_of(width: float) -> tuple[int, int, int]:
    """Channels of the three levels of a network that is `width` times as wide as the one that ships."""
    fine, middle, coarse = (max(8, 8 * round(width * channels / 8)) for channels in (80, 160, 256))
    return fine, middle, coarse


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
        if settings.regression:
            sigma = torch.full_like(sigma, REGRESSION_SIGMA)
        loss = step_loss(model, state, condition, sigma, random, settings).mean()
        losses[f"{BAND_GSDS[band]:g}m"] = round(float(loss), 4)
    return losses


def train(
    data: Path | None,
    out: Path,
    minutes: float,
    settings: Settings,
    tick_images: int,
    init: Path | None = None,
    images_limit: int | None = None,
    encoder: TextEncoder | None = None,
) -> None:
    """Run until the minutes are over or the images are seen; resume from `out` if it holds a checkpoint.

    Args:
        data: folder that holds imagery/; None takes $EARTHGEN_DATA.
        out: folder of the run.
        minutes: when to stop.
        settings: the run's numbers.
        tick_images: images between two log lines, sheets and checkpoints.
        init: weights folder to start from; the unit of detail is measured anew, since a tail may have tempered it.
        images_limit: stop after so many images in all.
        encoder: of texts; None takes the default one.
    """
    accelerator = Accelerator()
    folder = imagery_folder(data)
    train_levels, val_levels = read_levels(folder, "train"), read_levels(folder, "val")
    large = CropSampler(train_levels, 128, settings.seed)
    small = CropSampler(train_levels, 64, settings.seed + 1, largest_side=128)
    held_out = CropSampler(val_levels, 64, 0)
    root = RootCrops(open_root(World()))
    encoder = encoder or text_encoder()
    book = CaptionBook.build(train_levels, encoder, out / "captions")
    vectors = torch.from_numpy(book.vectors)

    checkpoint = out / "checkpoint.pt"
    resumed: dict[str, Any] | None = load_checkpoint(checkpoint) if checkpoint.exists() else None
    torch.manual_seed(settings.seed)
    if resumed is not None:
        net = DetailDenoiser.from_config(resumed["config"])
    else:
        std, contrast = measure_detail(large)
        if init is None:
            net = DetailDenoiser(channels=channels_of(settings.width), text_width=encoder.width)
        else:
            net = with_text(DetailDenoiser.from_pretrained(init, torch_dtype=torch.float32), encoder.width)
        net.register_to_config(detail_std=std, contrast=contrast, water_calm=0.0, sigmas=karras_sigmas(SAMPLED_STEPS))
    if settings.regression:
        net.register_to_config(sigmas=(REGRESSION_SIGMA, 0.0))
    # What diffusers remembers of defaults would undo what has just been registered.
    average = DetailDenoiser.from_config(network_config(net))
    average.load_state_dict(net.state_dict())
    learn_quickly(net)
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
        chance = np.random.Generator(np.random.Philox(key=[settings.seed, step]))
        captions = [book.draw(level, crop, chance) for level, crop in zip(crops.levels, crops.pixels, strict=True)]
        said = vectors[captions] * (torch.rand(batch, 1, generator=random) < settings.text_share)
        state, condition = make_example(net, crops, settings, random, said)
        sigma = torch.exp(settings.sigma_mean + settings.sigma_std * torch.randn(batch, generator=random))

        for group in optimiser.param_groups:
            group["lr"] = learning_rate(settings, images)
        if settings.regression:
            sigma = torch.full_like(sigma, REGRESSION_SIGMA)
        loss = step_loss(model, state, condition, sigma, random, settings).mean()
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
            sheet = out / "sheets" / f"{images:08d}.jpg"
            draw_sheet(average, held_out, sheet)
            draw_descent(average, root, sheet.with_stem(f"{sheet.stem}-descent"))
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
    regression: Annotated[bool, typer.Option("--regression", help="learn the mean of the children instead")] = False,
    bfloat16: Annotated[bool, typer.Option(help="quicker on a processor with bfloat16 instructions")] = False,
    width: Annotated[float, typer.Option(min=0.2, max=8, help="of a new network, in multiples of the shipped one")] = 1,
) -> None:
    """Train the cascade's network. Example: python -m training.cascade --out runs/cascade --minutes 60."""
    if init is not None and width != 1:
        raise typer.BadParameter("weights that are begun with bring their own width", param_hint="--width")
    settings = Settings(batch=batch, seed=seed, regression=regression, bfloat16=bfloat16, width=width)
    train(data, out, minutes, settings, tick_images, init, images)


if __name__ == "__main__":
    typer.run(main)

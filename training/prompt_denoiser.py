"""Train a prompt root that denoises: pictures from text and ground sampling distance.

    python -m training.prompt_denoiser --data DIR --out runs/prompt-denoiser --minutes 240

EDM (Karras et al. 2022, arXiv 2206.00364): noise levels from a log-normal distribution, one loss of unit weight
at each level. Text and resolution are dropped independently, so that either may be missing. Most crops are as
large as the windows in which the engine samples; one step in four draws small ones, the only crops that small
labelled pictures have.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import nn

from datasets.captions import CaptionBook
from datasets.packs import imagery_folder
from datasets.pyramids import CropSampler, read_levels
from earthgen.conditioning import TextEncoder, text_encoder
from earthgen.detail import split, to_lightness_chroma, to_unit
from earthgen.pyramid import SCALE
from earthgen.roots.denoised import SIDE, PromptDenoiser
from earthgen.roots.prompt import UNKNOWN_LOG2_GSD
from earthgen.sampler import dpm_solver_2m
from training.augment import regrade
from training.checkpoint import load_checkpoint, network_config
from training.ema import update_ema
from training.prompt import SHEET_GSDS, SHEET_PROMPTS
from training.run import Run
from training.sheets import save_rows, to_bytes


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a run.

    Attributes:
        batch: crops of 160 pixels a step.
        small_share: share of steps that draw six times as many crops of 64 pixels.
        text_share: share of the examples that keep their text.
        gsd_share: share of the examples that keep their resolution.
        rate: AdamW's learning rate.
        warm_up: images over which the rate rises.
        sigma_mean: mean of the logarithm of noise levels.
        sigma_spread: standard deviation of the same.
        bfloat16: whether the network runs in bfloat16 where that is exact enough.
        ema_half_life: images.
        seed: of crops, captions and noise.
    """

    batch: int = 6
    small_share: float = 0.25
    text_share: float = 0.88
    gsd_share: float = 0.9
    rate: float = 8e-4
    warm_up: int = 3_200
    sigma_mean: float = -0.5
    sigma_spread: float = 1.5
    bfloat16: bool = True
    ema_half_life: int = 12_000
    seed: int = 5


_LARGE = SIDE * SCALE
_SMALL = 64
_SMALL_CROWD = 6
"""Small crops for one large one: about as many pixels."""
SHEET_GUIDANCE = 3.0


def measured(sampler: CropSampler) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means of the three mean-colour coefficients, and standard deviations of all 48, over real crops."""
    mean, detail = split(to_unit(sampler.draw(0, 256).pixels))
    colours = to_lightness_chroma(mean)
    centre = colours.mean(dim=(0, 2, 3))
    spread = torch.cat([colours.std(dim=(0, 2, 3)), detail.square().mean(dim=(0, 2, 3)).sqrt()])
    return tuple(round(float(value), 5) for value in centre), tuple(round(float(value), 5) for value in spread)


def train(
    data: Path | None,
    out: Path,
    minutes: float,
    settings: Settings,
    tick_images: int,
    images_limit: int | None = None,
    encoder: TextEncoder | None = None,
    net: PromptDenoiser | None = None,
) -> None:
    """Run until the minutes are over or the images are seen; resume from `out` if it holds a checkpoint.

    Args:
        data: folder that holds imagery/; None takes $EARTHGEN_DATA.
        out: folder of the run.
        minutes: when to stop.
        settings: the run's numbers.
        tick_images: images between two log lines, sheets and checkpoints.
        images_limit: stop after so many images in all.
        encoder: of texts; None takes the default one.
        net: the network to begin with; None makes one of the default size.
    """
    folder = imagery_folder(data)
    levels = read_levels(folder, "train")
    large = CropSampler(levels, _LARGE, settings.seed)
    small = CropSampler(levels, _SMALL, settings.seed + 1, largest_side=_LARGE)
    encoder = encoder or text_encoder()
    out.mkdir(parents=True, exist_ok=True)
    book = CaptionBook.build(levels, encoder, out / "captions")
    vectors = torch.from_numpy(book.vectors)
    sheet_text = torch.from_numpy(np.stack([encoder.encode(prompt) for prompt in SHEET_PROMPTS]))

    torch.manual_seed(settings.seed)
    path = out / "checkpoint.pt"
    if path.exists():
        net = PromptDenoiser.from_config(load_checkpoint(path)["config"])
    elif net is None:
        centre, spread = measured(large)
        net = PromptDenoiser(centre=centre, spread=spread, text_width=encoder.width)
    average = PromptDenoiser.from_config(net.config)
    average.load_state_dict(net.state_dict())
    nn.Module.to(net, memory_format=torch.channels_last)
    run = Run(out, {"net": net}, {"net": settings.rate}, (0.9, 0.99), average)
    run.resume()

    run.begin(minutes, tick_images, images_limit)
    while not run.finished:
        step = run.step
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        chance = np.random.Generator(np.random.Philox(key=[settings.seed, step]))
        is_small = float(torch.rand((), generator=random)) < settings.small_share
        crops = small.draw(step, settings.batch * _SMALL_CROWD) if is_small else large.draw(step, settings.batch)
        count = len(crops.levels)
        captions = [book.draw(level, crop, chance) for level, crop in zip(crops.levels, crops.pixels, strict=True)]
        text = vectors[captions] * (torch.rand(count, 1, generator=random) < settings.text_share)
        log2_gsd = torch.from_numpy(crops.gsd).float().log2()
        keeps_gsd = torch.rand(count, generator=random) < settings.gsd_share
        told_gsd = torch.where(keeps_gsd, log2_gsd, torch.full_like(log2_gsd, UNKNOWN_LOG2_GSD))

        clean = net.state(regrade(to_unit(crops.pixels), random, haze=0.0))
        sigma = torch.exp(settings.sigma_mean + settings.sigma_spread * torch.randn(count, generator=random))
        noise = torch.randn(clean.shape, generator=random)
        noisy = (clean + sigma[:, None, None, None] * noise).contiguous(memory_format=torch.channels_last)
        skip, out_scale, enter = net.scales(sigma)
        rows = told_gsd[:, None].expand(-1, clean.shape[2])
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            answer = net.forward(enter * noisy, sigma, rows, text)
        # The target of F has unit variance; channels count as much as they do in the state.
        target = (clean - skip * noisy) / out_scale
        unit = net.unit(clean)
        loss = ((answer.float() - target).square() * (unit / unit.mean())).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        run.set_rate("net", settings.rate * min(1.0, (run.images + settings.batch) / settings.warm_up))
        run.learn("net")
        update_ema(average, net, settings.batch, run.images, settings.ema_half_life)
        run.note(loss=loss)

        run.advance(settings.batch)
        if run.tick_due:
            draw_sheet(average, sheet_text, out / "sheets" / f"{run.images:08d}.jpg")
            run.tick(network_config(net), asdict(settings), {}, {})


@torch.no_grad()
def sampled(net: PromptDenoiser, text: torch.Tensor, gsds: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Windows (n, 3, 160, 160) of one text (width,) at some metres per pixel (n,), guided in the first phase."""
    words = text[None].expand(len(gsds), -1)
    log2_gsd = gsds.log2()[:, None].expand(-1, SIDE)

    def plain(state: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return net.denoise(state, sigma, log2_gsd, words)

    def guided(state: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        away = net.denoise(state, sigma, log2_gsd, torch.zeros_like(words))
        return away + SHEET_GUIDANCE * (plain(state, sigma) - away)

    state = None
    for phase, levels in enumerate(net.config["phases"]):
        noise = torch.randn(len(gsds), len(net.config["spread"]), SIDE, SIDE, generator=random)
        state = dpm_solver_2m(plain if phase else guided, noise, (*levels, 0.0), state)
    assert state is not None
    return net.picture(state)


def draw_sheet(net: PromptDenoiser, texts: torch.Tensor, path: Path) -> None:
    """One row a text: two windows at each of SHEET_GSDS."""
    gsds = torch.tensor(SHEET_GSDS).repeat_interleave(2)
    rows = [
        np.concatenate(list(to_bytes(sampled(net, text, gsds, torch.Generator().manual_seed(0)))), axis=1)
        for text in texts
    ]
    save_rows(rows, path, enlargement=1)


def main(
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the run lives")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/; default $EARTHGEN_DATA")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="stop after so many minutes")] = 60.0,
    tick_images: Annotated[int, typer.Option(min=1, help="images between two log lines")] = 6_400,
    images: Annotated[int | None, typer.Option(min=1, help="stop after so many images in all")] = None,
) -> None:
    """Train the denoiser. Example: python -m training.prompt_denoiser --out runs/prompt-denoiser --minutes 240."""
    train(data, out, minutes, Settings(), tick_images, images)


if __name__ == "__main__":
    typer.run(main)

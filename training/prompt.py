"""Train the prompt root's network: pictures of 64 pixels from text and ground sampling distance.

    python -m training.prompt --data DIR --out runs/prompt --minutes 120

A one-step generator against heads on the frozen features of a picture classifier (Projected GAN, Sauer et
al. 2021; StyleGAN-T, Sauer et al. 2023, arXiv 2301.09515). A matching head learns on real pictures which
text of the batch belongs to which picture (InfoNCE, van den Oord et al. 2018), and the generator is asked to
be matched with its own text. Text and resolution are dropped independently, so that either may be missing.

Fields are generated larger than they are judged: the network must not learn what a border looks like.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import nn

from datasets.captions import CaptionBook
from datasets.packs import imagery_folder
from datasets.pyramids import CropSampler, read_levels
from earthgen.conditioning import TextEncoder, text_encoder
from earthgen.detail import split, to_unit
from earthgen.roots.prompt import UNKNOWN_LOG2_GSD, PromptGenerator, layered_noise
from training.augment import regrade
from training.checkpoint import load_checkpoint, network_config
from training.ema import update_ema
from training.projected import TAP_CHANNELS, FrozenFeatures, ProjectedDiscriminator, hinge
from training.run import Run
from training.sheets import save_rows, to_bytes

SHEET_PROMPTS = (
    "dense forest",
    "farmland with fields",
    "suburb with streets and houses",
    "desert",
    "river",
    "coast",
    "mountains with snow",
    "open sea",
    "industrial area",
    "harbour",
)
SHEET_GSDS = (0.6, 2.4, 10.0, 150.0)


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a run.

    Attributes:
        batch: crops of 64 pixels a step.
        text_share: share of the examples that keep their text.
        gsd_share: share of the examples that keep their resolution.
        generator_rate: Adam's learning rate.
        heads_rate: the same of the heads.
        warm_up: images during which only the heads learn.
        match_weight: weight of being matched with one's own text.
        cut_weight: weight of the L1 distance between a window and the same window cut off nearby.
        cut_every: steps between two lessons about cuts.
        ema_half_life: images.
        seed: of crops, captions and noise.
    """

    batch: int = 32
    text_share: float = 0.85
    gsd_share: float = 0.9
    generator_rate: float = 3e-4
    heads_rate: float = 5e-4
    warm_up: int = 1_600
    match_weight: float = 0.5
    cut_weight: float = 0.5
    cut_every: int = 4
    ema_half_life: int = 10_000
    seed: int = 4


_SIDE = 64
_POSITIONS = 24
"""Side of a generated field; the middle `_SIDE / 4` positions are judged."""
_EDGE = (_POSITIONS - _SIDE // 4) // 2
_CUT = 8
_TEMPERATURE = 0.1


class MatchHead(nn.Module):
    """From frozen features to a unit vector in the space of the texts.

    Args:
        text_width: width of the text vectors.
    """

    def __init__(self, text_width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * sum(TAP_CHANNELS) + 1, 512),
            nn.SiLU(),
            nn.Linear(512, 512),
            nn.SiLU(),
            nn.Linear(512, text_width),
        )

    def forward(self, features: list[torch.Tensor], log2_gsd: torch.Tensor) -> torch.Tensor:
        """Features of b pictures and log2 of their metres per pixel (b,) to (b, text_width)."""
        means = [feature.mean(dim=(2, 3)) for feature in features]
        spreads = [feature.std(dim=(2, 3)) for feature in features]
        return F.normalize(self.layers(torch.cat([*means, *spreads, log2_gsd[:, None] / 8], dim=1)), dim=1)


def match_loss(vectors: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """InfoNCE of pictures (b, d) against the texts (b, d) of the batch; equal texts are no negatives, zeros no text."""
    said = text.norm(dim=1) > 0.5
    if int(said.sum()) < 2:
        return vectors.sum() * 0.0
    vectors, text = vectors[said], text[said]
    logits = vectors @ text.T / _TEMPERATURE
    same = (text @ text.T > 0.95).float()
    target = same / same.sum(dim=1, keepdim=True)
    return F.cross_entropy(logits, target)


def measure_detail(sampler: CropSampler) -> tuple[float, ...]:
    """Standard deviation of each of the 45 detail channels over real crops."""
    image = to_unit(sampler.draw(0, 512).pixels)
    return tuple(round(float(value), 5) for value in split(image)[1].square().mean(dim=(0, 2, 3)).sqrt())


def draw_noise(count: int, random: torch.Generator) -> torch.Tensor:
    """Layered noise (count, 48, 24, 24) at a random aligned place of a layer's cell."""

    def draw(layer: int, channels: int, row: int, column: int, height: int, width: int) -> torch.Tensor:
        return torch.randn(count, channels, height, width, generator=random)

    whole = layered_noise(draw, 0, 0, 32, 32)
    top, left = (int(x) * 4 for x in torch.randint((32 - _POSITIONS) // 4 + 1, (2,), generator=random))
    return whole[:, :, top : top + _POSITIONS, left : left + _POSITIONS].contiguous(memory_format=torch.channels_last)


def train(
    data: Path | None,
    out: Path,
    minutes: float,
    settings: Settings,
    tick_images: int,
    images_limit: int | None = None,
    encoder: TextEncoder | None = None,
    net: PromptGenerator | None = None,
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
    sampler = CropSampler(levels, _SIDE, settings.seed)
    encoder = encoder or text_encoder()
    out.mkdir(parents=True, exist_ok=True)
    book = CaptionBook.build(levels, encoder, out / "captions")
    vectors = torch.from_numpy(book.vectors)
    sheet_text = torch.from_numpy(np.stack([encoder.encode(prompt) for prompt in SHEET_PROMPTS]))

    torch.manual_seed(settings.seed)
    path = out / "checkpoint.pt"
    if path.exists():
        net = PromptGenerator.from_config(load_checkpoint(path)["config"])
    elif net is None:
        net = PromptGenerator(detail_std=measure_detail(sampler), text_width=encoder.width)
    average = PromptGenerator.from_config(net.config)
    average.load_state_dict(net.state_dict())
    nn.Module.to(net, memory_format=torch.channels_last)
    features = FrozenFeatures().to(memory_format=torch.channels_last)
    heads = ProjectedDiscriminator(text_width=encoder.width).to(memory_format=torch.channels_last)
    match = MatchHead(encoder.width)
    rates = {"net": settings.generator_rate, "heads": settings.heads_rate, "match": settings.heads_rate}
    run = Run(out, {"net": net, "heads": heads, "match": match}, rates, (0.0, 0.99), average)
    run.resume()

    run.begin(minutes, tick_images, images_limit)
    middle = slice(4 * _EDGE, 4 * _EDGE + _SIDE)
    while not run.finished:
        step = run.step
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        chance = np.random.Generator(np.random.Philox(key=[settings.seed, step]))
        crops = sampler.draw(step, settings.batch)
        real = regrade(to_unit(crops.pixels), random, haze=0.0)
        captions = [book.draw(level, crop, chance) for level, crop in zip(crops.levels, crops.pixels, strict=True)]
        keep_text = torch.rand(settings.batch, 1, generator=random) < settings.text_share
        keep_gsd = torch.rand(settings.batch, generator=random) < settings.gsd_share
        text = vectors[captions] * keep_text
        log2_gsd = torch.from_numpy(crops.gsd).float().log2()
        told_gsd = torch.where(keep_gsd, log2_gsd, torch.full_like(log2_gsd, UNKNOWN_LOG2_GSD))

        noise = draw_noise(settings.batch, random)
        coefficients = net.forward(noise, told_gsd[:, None].expand(-1, _POSITIONS), text)
        fake = net.picture(coefficients)[:, :, middle, middle].clamp(-1.3, 1.3)
        with torch.no_grad():
            real_features = features(real)
        fake_features = features(fake)

        # The heads learn; both kinds of pictures carry the same texts and resolutions.
        heads_loss = hinge(
            heads(real_features, told_gsd, text), heads([f.detach() for f in fake_features], told_gsd, text)
        )
        real_match = match_loss(match(real_features, told_gsd), text)
        (heads_loss + real_match).backward()
        run.learn("heads", "match")
        run.note(heads=heads_loss, real_match=real_match)

        if run.images >= settings.warm_up:
            fooling = torch.stack([-score.mean() for score in heads(fake_features, told_gsd, text)]).mean()
            fake_match = match_loss(match(fake_features, told_gsd), text)
            loss = fooling + settings.match_weight * fake_match
            if step % settings.cut_every == 0:
                part = noise[:, :, :, _CUT:]
                again = net.forward(part, told_gsd[:, None].expand(-1, _POSITIONS), text)
                cut = (again[:, :, :, _CUT:] - coefficients[:, :, :, 2 * _CUT :]).abs().mean()
                loss = loss + settings.cut_weight * cut
                run.note(cut=cut * settings.cut_every)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            run.learn("net")
            run.forget()
            update_ema(average, net, settings.batch, run.images, settings.ema_half_life)
            run.note(fooling=fooling, fake_match=fake_match)

        run.advance(settings.batch)
        if run.tick_due:
            draw_sheet(average, sheet_text, out / "sheets" / f"{run.images:08d}.jpg")
            run.tick(network_config(net), asdict(settings), {}, {})


@torch.no_grad()
def draw_sheet(net: PromptGenerator, texts: torch.Tensor, path: Path) -> None:
    """One row a text: two pictures of 96 pixels at each of SHEET_GSDS."""
    rows = []
    for text in texts:
        random = torch.Generator().manual_seed(0)
        gsds = torch.tensor(SHEET_GSDS).log2().repeat_interleave(2)
        noise = draw_noise(len(gsds), random)
        coefficients = net(noise, gsds[:, None].expand(-1, _POSITIONS), text[None].expand(len(gsds), -1))
        rows.append(np.concatenate(list(to_bytes(net.picture(coefficients))), axis=1))
    save_rows(rows, path, enlargement=2)


def main(
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the run lives")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/; default $EARTHGEN_DATA")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="stop after so many minutes")] = 60.0,
    tick_images: Annotated[int, typer.Option(min=1, help="images between two log lines")] = 6_400,
    images: Annotated[int | None, typer.Option(min=1, help="stop after so many images in all")] = None,
) -> None:
    """Train the prompt root's network. Example: python -m training.prompt --out runs/prompt --minutes 120."""
    train(data, out, minutes, Settings(), tick_images, images)


if __name__ == "__main__":
    typer.run(main)

"""Train the network of one band: what a sensor or a surveyor saw, from colours.

    python -m training.bands nir --data DIR --out runs/bands/nir --minutes 8
    python -m training.bands sar --pairs DIR --out runs/bands/sar --minutes 60

Stop it at any time and start it again: it goes on from its last checkpoint. Each tick appends one JSON line to
log.jsonl and draws a sheet (colours, target, prediction) to look at. The averaged weights are written to OUT/weights.

Bands of values minimise the absolute error. Bands of classes minimise the negative log probability of the set of
classes that a label allows (a sum over the set, as in learning from partial labels: Cour, Sapp & Taskar 2011, section
3), so packs with coarser legends help too.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from tqdm import tqdm

from datasets.labelled import Labelled, Split, coarser, read_described, read_labelled, read_pairs
from datasets.packs import DatasetNotFoundError
from earthgen.bandnet import BandNet
from earthgen.bands import Band, band_of
from earthgen.denoiser import Condition, DetailDenoiser, Preconditioned
from earthgen.detail import DETAIL_CHANNELS, join, smooth_detail, to_unit
from earthgen.pyramid import ground_sampling_distance
from earthgen.sampler import dpm_solver_2m
from earthgen.weights import load_weights
from training.augment import regrade, stored_parent
from training.checkpoint import load_checkpoint, network_config, save_checkpoint
from training.ema import update_ema

Read = Callable[[Split], Iterable[Labelled]]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a run.

    Attributes:
        batch: crops of 128 pixels a step; of 64 pixels four times as many.
        small_share: share of steps that draw 64-pixel crops, if there are packs of small chips.
        learning_rate: AdamW's, after the warm-up.
        warm_up: images until the learning rate is reached.
        decay_after: images after which it falls with the square root of progress.
        graded_share: share of the crops whose tones are varied; generated tones are not those of the packs.
        haze: the most that a veil may cover of a crop with varied tones.
        remade_share: share of the steps whose crops are made again from their 4x4 means by the cascade, so that the
            network sees what it will have to read.
        ema_half_life: images.
        seed: of crops and initial weights.
    """

    batch: int = 4
    small_share: float = 0.25
    learning_rate: float = 2e-3
    warm_up: int = 200
    decay_after: int = 2_000
    graded_share: float = 0.3
    haze: float = 0.1
    remade_share: float = 0.4
    ema_half_life: int = 600
    seed: int = 1


@dataclass(frozen=True)
class Batch:
    """Crops: float32 colours (b, 3, h, w) in [-1, 1], log2 of metres per pixel (b, h), and targets, uint8 (b, h, w)."""

    colours: torch.Tensor
    log2_gsd: torch.Tensor
    target: torch.Tensor


class PairSampler:
    """Draws crops: first the pack, by the cube root of its pixels, then a level, then the place.

    Draws are addressed by a number, so a resumed run goes on where it was.

    Args:
        items: labelled pictures at all their resolutions.
        size: side of the crops.
        largest_side: only pictures whose shorter side is below it.
    """

    def __init__(self, items: Sequence[Labelled], size: int, seed: int, largest_side: int | None = None) -> None:
        self._size, self._seed = size, seed
        packs: dict[str, list[Labelled]] = defaultdict(list)
        for item in items:
            side = min(item.image.shape[:2])
            if side >= size and (largest_side is None or side < largest_side):
                packs[item.pack].append(item)
        self._packs = list(packs.values())
        self._counts = [np.array([item.target.size for item in pack], dtype=np.float64) for pack in self._packs]

    def __bool__(self) -> bool:
        return bool(self._packs)

    def draw(self, number: int, count: int) -> Batch:
        """Crops of draw `number`: the same for the same arguments, on any machine."""
        random = np.random.Generator(np.random.Philox(key=[self._seed, number]))
        images = np.empty((count, self._size, self._size, 3), dtype=np.uint8)
        targets = np.empty((count, self._size, self._size), dtype=np.uint8)
        gsd = np.empty(count, dtype=np.float32)
        weights = np.cbrt([counts.sum() for counts in self._counts])
        for index in range(count):
            pack = random.choice(len(weights), p=weights / weights.sum())
            # The square root keeps coarse levels, which have few pixels, in view.
            shares = np.sqrt(self._counts[pack])
            item = self._packs[pack][random.choice(len(shares), p=shares / shares.sum())]
            row = int(random.integers(item.image.shape[0] - self._size + 1))
            column = int(random.integers(item.image.shape[1] - self._size + 1))
            turns, flip = int(random.integers(4)), bool(random.integers(2))
            for source, crops in ((item.image, images), (item.target, targets)):
                crop = np.rot90(source[row : row + self._size, column : column + self._size], turns)
                crops[index] = crop[:, ::-1] if flip else crop
            gsd[index] = item.gsd
        log2_gsd = torch.from_numpy(np.log2(gsd))[:, None].expand(-1, self._size)
        return Batch(to_unit(images), log2_gsd, torch.from_numpy(targets))


def augmented(batch: Batch, cascade: DetailDenoiser, settings: Settings, random: torch.Generator) -> Batch:
    """The batch with other tones, or with detail of the cascade's making, in a share of the cases; targets stay."""
    colours = batch.colours
    chosen = torch.rand(len(colours), 1, 1, 1, generator=random) < settings.graded_share
    colours = torch.where(chosen, regrade(colours, random, settings.haze), colours)
    if float(torch.rand((), generator=random)) < settings.remade_share:
        colours = remade(colours, batch.log2_gsd, cascade, random)
    return Batch(colours, batch.log2_gsd, batch.target)


@torch.no_grad()
def remade(
    colours: torch.Tensor, log2_gsd: torch.Tensor, cascade: DetailDenoiser, random: torch.Generator
) -> torch.Tensor:
    """Pictures (b, 3, h, w) in [-1, 1], made again from their 4x4 means; log2 metres per pixel are (b, h)."""
    parent = stored_parent(colours)
    rows = F.avg_pool1d(log2_gsd[:, None], 4)[:, 0]
    condition = Condition(parent, rows, torch.zeros(len(parent)))
    noise = torch.randn(len(parent), DETAIL_CHANNELS, *parent.shape[2:], generator=random)
    model = Preconditioned(cascade)
    state = dpm_solver_2m(lambda x, sigma: model(x, sigma, condition), noise, tuple(cascade.config["sigmas"]))
    detail = state * cascade.detail_scale(parent, rows) + smooth_detail(parent)
    return ((join(parent, detail).clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def band_loss(out: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """The loss of a batch.

    Args:
        out: (b, 1, h, w) values or (b, classes, h, w) logits.
        target: uint8 (b, h, w), brightness or sets of classes.
        weights: of the 256 sets; None for a band of values.
    """
    if weights is None:
        return (out[:, 0] - (target.float() / 127.5 - 1.0)).abs().mean()
    bits = torch.arange(out.shape[1], dtype=torch.uint8, device=out.device)
    allowed = (target[:, None] >> bits[None, :, None, None]) & 1 == 1
    allowed_log = out.log_softmax(dim=1).masked_fill(~allowed, -math.inf).logsumexp(dim=1)
    weight = weights[target.long()]
    # Where nothing is known the sum is over nothing: leave it out before it makes a NaN of the mean.
    loss = -torch.where(weight > 0, allowed_log, torch.zeros_like(allowed_log)) * weight
    return loss.sum() / weight.sum().clamp(min=1.0)


def set_weights(items: Sequence[Labelled], band: Band) -> torch.Tensor | None:
    """Weights of the 256 sets of classes: rare ones count more, by the square root; the empty set counts nothing."""
    if band.kind == "values":
        return None
    packs: dict[str, npt.NDArray[np.float64]] = defaultdict(lambda: np.zeros(256))
    for item in items:
        packs[item.pack] += np.bincount(item.target.ravel(), minlength=256)
    counts = sum((np.cbrt(pack.sum()) * pack / pack.sum() for pack in packs.values()), np.zeros(256))
    counts[0] = 0
    shares = counts / counts.sum()
    weights = np.where(shares > 0, np.sqrt(1.0 / np.maximum(shares, 1e-3)), 0.0)
    return torch.from_numpy(weights / (weights * shares).sum()).float()


def learning_rate(settings: Settings, images: int) -> float:
    """Linear warm-up, then constant, then the inverse square root of progress."""
    rate = settings.learning_rate * min(1.0, (images + settings.batch) / settings.warm_up)
    return rate / math.sqrt(max(1.0, images / settings.decay_after))


@torch.no_grad()
def held_out_loss(net: BandNet, batches: Sequence[Batch], weights: torch.Tensor | None) -> float:
    """Mean loss on fixed held-out crops."""
    losses = [float(band_loss(net(b.colours, b.log2_gsd), b.target, weights)) for b in batches]
    return round(sum(losses) / len(losses), 4)


@torch.no_grad()
def draw_sheet(net: BandNet, band: Band, batch: Batch, path: Path) -> None:
    """Rows of colours, target and prediction."""
    out = net(batch.colours, batch.log2_gsd)
    if band.kind == "values":
        codes = ((out[:, 0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
        target = batch.target.numpy()
    else:
        legend = np.array([item.code for item in band.classes], dtype=np.uint8)
        codes = legend[out.argmax(dim=1).numpy()]
        # Of a set of classes its first is drawn.
        first = np.array([(value & -value).bit_length() - 1 for value in range(256)])
        target = np.where(batch.target.numpy() > 0, legend[first[batch.target.numpy()]], 255).astype(np.uint8)
    colours = ((batch.colours.permute(0, 2, 3, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    rows = [np.concatenate(list(part), axis=1) for part in (colours, band.render(target), band.render(codes))]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path, quality=90)


def train(
    band: Band,
    read: Read,
    out: Path,
    minutes: float,
    settings: Settings,
    tick_images: int,
    images_limit: int | None = None,
    net: BandNet | None = None,
    cascade: DetailDenoiser | None = None,
) -> None:
    """Run until the minutes are over or the images are seen; resume from `out` if it holds a checkpoint.

    Args:
        band: which.
        read: gives the labelled pictures of a split.
        out: where the run lives.
        minutes: stop after so many.
        settings: of the run.
        tick_images: images between two log lines.
        images_limit: stop after so many images in all.
        net: to start from; None makes the usual one.
        cascade: makes crops again; None takes the shipped one.
    """
    coarsest = 1.5 * ground_sampling_distance(band.min_zoom, 0.0)
    levels = {
        split: [level for item in read(split) for level in coarser(item, band.name, coarsest)]
        for split in ("train", "val")
    }
    large, small = (
        PairSampler(levels["train"], 128, settings.seed),
        PairSampler(levels["train"], 64, settings.seed, 128),
    )
    held_out = [
        s.draw(0, n)
        for s, n in ((PairSampler(levels["val"], 128, 0), 24), (PairSampler(levels["val"], 64, 0, 128), 64))
        if s
    ]
    weights = set_weights(levels["train"], band)

    cascade = (cascade or load_weights().net).eval().requires_grad_(False)
    torch.manual_seed(settings.seed)
    net = net or BandNet(band=band.name, codes=tuple(item.code for item in band.classes))
    average = BandNet.from_config(net.config)
    average.load_state_dict(net.state_dict())
    net.to(memory_format=torch.channels_last)  # type: ignore[call-arg]  # untyped in diffusers
    optimiser = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, weight_decay=0.01, fused=True)
    step, images, seconds = 0, 0, 0.0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        resumed = load_checkpoint(checkpoint)
        net.load_state_dict(resumed["model"])
        average.load_state_dict(resumed["ema"])
        optimiser.load_state_dict(resumed["optimiser"])
        step, images, seconds = resumed["step"], resumed["images"], resumed["seconds"]

    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    progress = tqdm(initial=images, unit="img", smoothing=0.05)
    tick_loss, tick_steps, next_tick = 0.0, 0, images + tick_images
    finished = False
    while not finished:
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        use_small = bool(small) and (not large or float(torch.rand((), generator=random)) < settings.small_share)
        drawn = small.draw(step, 4 * settings.batch) if use_small else large.draw(step, settings.batch)
        batch = augmented(drawn, cascade, settings, random)

        for group in optimiser.param_groups:
            group["lr"] = learning_rate(settings, images)
        loss = band_loss(
            net(batch.colours.contiguous(memory_format=torch.channels_last), batch.log2_gsd), batch.target, weights
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
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
                "held_out": held_out_loss(average, held_out, weights),
            }
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            state = {
                "model": net.state_dict(),
                "ema": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "config": network_config(net),
                "settings": asdict(settings),
                "step": step,
                "images": images,
                "seconds": now,
            }
            save_checkpoint(checkpoint, state)
            shown = Batch(*(part[:8] for part in (held_out[0].colours, held_out[0].log2_gsd, held_out[0].target)))
            draw_sheet(average, band, shown, out / "sheets" / f"{images:07d}.jpg")
            progress.write(json.dumps(line))
            tick_loss, tick_steps, next_tick = 0.0, 0, images + tick_images
    progress.close()
    export(average, out / "weights")


def export(net: BandNet, folder: Path) -> None:
    """Write weights as bfloat16 in diffusers' layout."""
    rounded = BandNet.from_config(net.config)
    rounded.load_state_dict(net.state_dict())
    rounded.bfloat16().save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def data_folder(data: Path | None) -> Path:
    """The folder of packs: `data`, else $EARTHGEN_DATA.

    Raises:
        DatasetNotFoundError: neither is given, or the folder is not there.
    """
    chosen = data or (Path(os.environ["EARTHGEN_DATA"]) if os.environ.get("EARTHGEN_DATA") else None)
    if chosen is None or not chosen.is_dir():
        raise DatasetNotFoundError(
            f"no data folder{f' at {chosen}' if chosen else ''}: pass --data DIR or set EARTHGEN_DATA to the folder"
            " that holds labels/ and imagery/, or pass --pairs DIR"
        )
    return chosen


def main(
    name: Annotated[str, typer.Argument(metavar="BAND", help="nir, landcover, buildings, pan, elevation or sar")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the run lives")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with labels/ and imagery/; default $EARTHGEN_DATA")
    ] = None,
    pairs: Annotated[Path | None, typer.Option(metavar="DIR", help="pairs of your own in place of the packs")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="stop after so many minutes")] = 8.0,
    batch: Annotated[int, typer.Option(min=1, help="128-pixel crops a step")] = Settings.batch,
    seed: Annotated[int, typer.Option(min=0)] = Settings.seed,
    tick_images: Annotated[int, typer.Option(min=1, help="images between two log lines")] = 800,
    images: Annotated[int | None, typer.Option(min=1, help="stop after so many images in all")] = None,
) -> None:
    """Train the network of one band. Example: python -m training.bands nir --out runs/bands/nir --minutes 8."""
    band = band_of(name)

    def read(split: Split) -> Iterable[Labelled]:
        if pairs is not None:
            return read_pairs(pairs, band.name, split)
        folder = data_folder(data)
        items = read_labelled(folder, band.name, split)
        if band.name == "landcover" and split == "train":
            return chain(items, read_described(folder, 4 * ground_sampling_distance(band.min_zoom, 0.0)))
        return items

    train(band, read, out, minutes, Settings(batch=batch, seed=seed), tick_images, images)


if __name__ == "__main__":
    typer.run(main)

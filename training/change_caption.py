"""Train captioners of change: small configurations of RSCaMa and MCI on pairs whose sentences the grammar makes.

    python -m datasets.changes_engine --out runs/pairs --count 300
    python -m training.change_caption --model rscama --pairs runs/pairs --out runs/caption/rscama

A draw is a function of the seed, the step and its place in the batch, so a run that is begun again goes on as if it had
not stopped. Sentences are those of `datasets.change_captions` for the crop as it is seen, after turning and swapping;
crops of which nothing can be said for certain are drawn anew. A part of the draws shows one date twice, on two days:
engine pairs without change are few. MCI learns masks of changed objects beside its sentences; with `--stage` one of its
branches is trained alone on what the run before has learnt, as published.

Real captions are never trained on. Real pairs may be (`--mix both`): their labels are what the grammar describes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import torch
import typer

from datasets.change_captions import captions_of, words
from datasets.changes import CLASSES, ChangeSample, batch_of, dated, generator
from datasets.changes_real import WITH_DATES
from datasets.packs import imagery_folder
from perception import mci, rscama
from perception.caption_decoders import CaptionDecoder, Kind, Sentence, padded, search
from perception.checkpoint import save_network
from perception.metrics import caption_scores
from perception.mix_transformer import STRIDE
from perception.vocabulary import MARKS, Vocabulary
from training.change import MIXES, Mix, read_pairs
from training.ema import update_ema
from training.run import Run

MODELS = ("rscama", "mci")
_TRIES = 20
"""Draws after which a sample of which nothing can be said is taken for a fault of the set."""
_CHECKED = 16


@dataclass(frozen=True, slots=True)
class Settings:
    """Numbers of a run.

    Attributes:
        batch: pairs in a step.
        crop: pixels along the side of what is cut from a sample; the networks resize it as they need.
        unchanged: share of draws that show one date twice.
        rate: learning rate of AdamW; the papers' 1e-4 is for batches of 64.
        half_life: of the averaged weights, in pairs.
        seed: of draws and weights.
    """

    batch: int = 8
    crop: int = 256
    unchanged: float = 0.25
    rate: float = 5e-4
    half_life: int = 2000
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """A pair as it is seen, and true sentences about it."""

    sample: ChangeSample
    captions: tuple[str, ...]


class CaptionSampler:
    """Draws described pairs: a sample, a place in it, a turn, an order of dates, two days' effects.

    Args:
        samples: all of them; those that are smaller than the crop are left out.
        settings: crop, share of unchanged draws and seed.

    Raises:
        ValueError: no sample is as large as the crop.
    """

    def __init__(self, samples: Sequence[ChangeSample], settings: Settings) -> None:
        self._samples = [sample for sample in samples if min(sample.change.shape) >= settings.crop]
        if not self._samples:
            raise ValueError(f"no sample has {settings.crop} pixels a side; choose smaller crops")
        self._settings = settings

    def draw(self, number: int, count: int) -> list[Described]:
        """The pairs of draw `number`: the same for the same arguments."""
        return [self._one(number, index) for index in range(count)]

    def _one(self, number: int, index: int) -> Described:
        for again in range(_TRIES):
            random = generator(self._settings.seed, number, index, again)
            sample = self._crop(random)
            captions = captions_of(sample, random)
            if captions:
                return Described(sample if sample.source in WITH_DATES else dated(sample, random), captions)
        raise ValueError(f"nothing can be said for certain of {_TRIES} samples in a row; look at their labels")

    def _crop(self, random: np.random.Generator) -> ChangeSample:
        sample = self._samples[int(random.integers(len(self._samples)))]
        side = self._settings.crop
        top, left = (int(random.integers(length - side + 1)) for length in sample.change.shape)
        sample = sample.crop(top, left, side).turned(int(random.integers(4)), bool(random.integers(2)))
        sample = sample.swapped() if random.integers(2) else sample
        if random.random() < self._settings.unchanged and sample.source not in WITH_DATES:
            nothing = np.zeros_like(sample.change)
            sample = replace(
                sample, after=sample.before, cover_after=sample.cover_before, change=nothing, known=~nothing
            )
        return sample


def changed_objects(sample: ChangeSample, objects: Sequence[str]) -> np.ndarray:
    """uint8 (h, w): 0, or 1 + index of the object that came or went there; the last one wins where both did."""
    kinds = np.zeros(sample.change.shape, dtype=np.uint8)
    for number, name in enumerate(objects, start=1):
        code = 1 + CLASSES.index(name)
        kinds[sample.change & ((sample.cover_before == code) | (sample.cover_after == code))] = number
    return kinds


# --- The networks ---

Net = rscama.RSCaMa | mci.MCI


def build(model: str, decoder: Kind) -> Net:
    """The small configuration of a model, with the grammar's words."""
    vocabulary = (*MARKS, *words())
    if model == "rscama":
        return rscama.RSCaMa(rscama.small(vocabulary, decoder))
    return mci.MCI(mci.small(vocabulary))


def decoder_of(net: Net) -> CaptionDecoder:
    """The part that speaks."""
    return net.decoder if isinstance(net, rscama.RSCaMa) else net.captioning.decoder


def losses_of(
    net: Net, stage: mci.Stage, drawn: Sequence[Described], random: np.random.Generator
) -> dict[str, torch.Tensor]:
    """The losses of a step; of each pair's sentences one is learnt."""
    batch = batch_of([one.sample for one in drawn])
    vocabulary = Vocabulary(net.config.words)
    chosen = [one.captions[int(random.integers(len(one.captions)))] for one in drawn]
    sentences = padded([vocabulary.encode(text, net.config.longest) for text in chosen])
    if isinstance(net, rscama.RSCaMa):
        return {"caption": rscama.loss(net, batch.images, sentences)}
    kinds = torch.from_numpy(np.stack([changed_objects(one.sample, net.config.objects) for one in drawn]))
    return mci.losses(net, stage, batch.images, kinds, sentences, batch.known)


@torch.no_grad()
def measure(net: Net, drawn: Sequence[Described]) -> dict[str, float]:
    """BLEU-4, ROUGE-L and CIDEr-D of held-out pairs in text mode, and how often change is told from none."""
    vocabulary = Vocabulary(net.config.words)
    said: list[str] = []
    for one in drawn:
        found: Sentence = search(decoder_of(net), net.see(batch_of([one.sample]).images))[0]
        said.append(" ".join(vocabulary.decode(found.numbers)))
    scores = caption_scores(said, [list(one.captions) for one in drawn], meteor=False)
    nothing = {text for one in drawn if not one.sample.change.any() for text in one.captions}
    right = [(text in nothing) != bool(one.sample.change.any()) for text, one in zip(said, drawn, strict=True)]
    return {
        "bleu4": round(scores.bleu[3], 4),
        "rouge_l": round(scores.rouge_l, 4),
        "cider_d": round(scores.cider_d, 4),
        "change_told": round(float(np.mean(right)), 4),
    }


def train(
    model: str,
    net: Net,
    samples: Sequence[ChangeSample],
    held_out: Sequence[ChangeSample],
    out: Path,
    settings: Settings,
    images: int,
    minutes: float,
    tick_images: int,
    stage: mci.Stage = "both",
    mix: str = "",
) -> None:
    """Train, or go on with, a captioner; weights are in `out/weights` after each tick.

    Args:
        model: its name.
        net: random or trained before.
        samples: to learn from.
        held_out: to look at after each tick.
        out: folder of the run.
        settings: numbers.
        images: pairs in all after which to stop.
        minutes: of this call after which to stop.
        tick_images: pairs between two lines of the log.
        stage: of MCI; "both" for RSCaMa.
        mix: name of the samples, for the log.
    """
    if isinstance(net, mci.MCI):
        mci.begin_stage(net, stage)
    else:
        net.train()
    average = copy.deepcopy(net).eval().requires_grad_(False)
    run = Run(out, {"net": net}, {"net": settings.rate}, (0.9, 0.99), average)
    run.resume()
    sampler = CaptionSampler(samples, settings)
    checked = CaptionSampler(held_out, settings).draw(0, _CHECKED)

    run.begin(minutes, tick_images, images)
    while not run.finished:
        # Dropout's chance is the step's, so that a run that was stopped goes on as it would have.
        torch.manual_seed(settings.seed * 1_000_003 + run.step)
        drawn = sampler.draw(run.step, settings.batch)
        losses = losses_of(net, stage, drawn, generator(settings.seed, run.step, 7))
        mci.combined(losses).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        run.learn("net")
        run.note(**losses)
        run.advance(settings.batch)
        update_ema(average, net, settings.batch, run.images, settings.half_life)
        for kept, current in zip(average.buffers(), net.buffers(), strict=True):
            kept.copy_(current)
        if run.tick_due:
            told = {"model": model, "mix": mix, "stage": stage} | asdict(settings)
            run.tick(asdict(net.config), told, measure(average, checked), {})
            save_network(out / "weights", model, net.config, copy.deepcopy(average).bfloat16())


def main(
    model: Annotated[str, typer.Option(help=", ".join(MODELS))],
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the run lives; one that is there goes on")],
    mix: Annotated[str, typer.Option(help=", ".join(MIXES))] = "engine",
    pairs: Annotated[Path | None, typer.Option(metavar="DIR", help="the engine's pairs")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="holds labels/; default $EARTHGEN_DATA")] = None,
    decoder: Annotated[str, typer.Option(help="of rscama: " + ", ".join(get_args(Kind)))] = "transformer",
    stage: Annotated[str, typer.Option(help="of mci: " + ", ".join(get_args(mci.Stage)))] = "both",
    start: Annotated[Path | None, typer.Option(metavar="DIR", help="weights of mci to begin a stage with")] = None,
    images: Annotated[int, typer.Option(min=1, help="pairs in all")] = 8000,
    minutes: Annotated[float, typer.Option(min=0.1, help="of this call")] = 60.0,
    tick: Annotated[int, typer.Option(min=1, help="pairs between lines of the log")] = 800,
    crop: Annotated[int, typer.Option(min=32, help="side of the crops")] = Settings().crop,
    seed: Annotated[int, typer.Option(help="of draws and weights")] = 0,
) -> None:
    """Train a captioner. Example: python -m training.change_caption --model mci --pairs runs/pairs --out runs/mci."""
    for value, allowed, option in (
        (model, MODELS, "--model"),
        (mix, MIXES, "--mix"),
        (decoder, get_args(Kind), "--decoder"),
        (stage, get_args(mci.Stage), "--stage"),
    ):
        if value not in allowed:
            raise typer.BadParameter(f"{value!r} is none of {', '.join(allowed)}", param_hint=option)
    if crop % STRIDE:
        raise typer.BadParameter(f"{crop} is no multiple of {STRIDE}", param_hint="--crop")
    if model != "mci" and (stage != "both" or start is not None):
        raise typer.BadParameter("only mci is trained in stages", param_hint="--stage")
    torch.manual_seed(seed)
    settings = Settings(crop=crop, seed=seed)
    kind: Kind = next(name for name in get_args(Kind) if name == decoder)
    chosen_mix: Mix = next(name for name in MIXES if name == mix)
    chosen_stage: mci.Stage = next(name for name in get_args(mci.Stage) if name == stage)
    labels = None if mix == "engine" else imagery_folder(data).parent / "labels"
    samples, held_out = (read_pairs(chosen_mix, split, pairs, labels) for split in ("train", "val"))
    net: Net = build(model, kind) if start is None else mci.load(start)
    train(model, net, samples, held_out, out, settings, images, minutes, tick, chosen_stage, mix)


if __name__ == "__main__":
    typer.run(main)

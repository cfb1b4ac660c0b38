"""Train captioners of change: small configurations of RSCaMa and MCI on pairs whose sentences the grammar makes.

    python -m datasets.changes_engine --out runs/pairs --count 300
    python -m training.caption_deck --mix both --pairs runs/pairs --out runs/deck --cards 2000
    python -m training.change_caption --model rscama --deck runs/deck --pairs runs/pairs --out runs/caption/rscama

Both sit on a frozen EfficientNet-Lite0, whose view of each card lies in the deck, so a step costs milliseconds a pair.
Cards come in an order that is a function of the seed, so a run that is begun again goes on as if it had not stopped; of
a card all sentences are learnt at once, and what ground each visual token stands for (`Ground`). MCI learns masks of
changed objects beside its sentences; with `--stage` one of its branches is trained alone on what the run before has
learnt, as published.

Real captions are never trained on.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import torch
import torch.nn.functional as F
import typer
from einops import rearrange
from torch import nn

from datasets.changes_engine import read_engine_pairs
from perception import mci, rscama
from perception.caption_decoders import CaptionDecoder, Kind, caption_loss, padded, search
from perception.checkpoint import save_network
from perception.lite_pyramid import WIDTHS, LitePyramid, as_tokens
from perception.metrics import caption_scores
from perception.patch_towers import LiteTower
from perception.vocabulary import MARKS, Vocabulary
from training.caption_deck import OTHER, Deck, Described, changed_objects, unchanged
from training.ema import update_ema
from training.run import Run
from trainingsets.change_captions import NOTHING, captions_of, words
from trainingsets.changes import CLASSES, ChangeSample, batch_of, dated, generator

MODELS = ("rscama", "mci")
_CHECKED = 32
_DATES = 20260201
"""Seed of what days do to held-out pairs."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Numbers of a run.

    Attributes:
        batch: cards in a step.
        masks: how many of them MCI learns masks of, which cost ten times what sentences do.
        ground: weight of what tokens stand for.
        rate: learning rate of AdamW; the papers' 1e-4 is for hundreds of times as many samples.
        half_life: of the averaged weights, in cards.
        bfloat16: whether products of matrices are of bfloat16, which pays on processors that have it.
        seed: of the cards' order and of weights.
    """

    batch: int = 16
    masks: int = 4
    ground: float = 0.5
    rate: float = 5e-4
    half_life: int = 2000
    bfloat16: bool = False
    seed: int = 0


def order_of(seed: int, cards: int) -> Callable[[int, int], list[int]]:
    """Numbers of the cards of a step, given the step and its size: every card once before any comes again."""

    def numbers(step: int, batch: int) -> list[int]:
        places = range(step * batch, (step + 1) * batch)
        orders = {turn: generator(seed, 11, turn).permutation(cards) for turn in {place // cards for place in places}}
        return [int(orders[place // cards][place % cards]) for place in places]

    return numbers


def held_out_pairs(pairs: Path, count: int | None = None) -> list[Described]:
    """The engine's held-out pairs with the effects of two days and five sentences each.

    Of pairs that change the first date is also shown twice: that is no change. Pairs of which nothing can be said for
    certain are left out.

    Args:
        pairs: folder of the engine's pairs.
        count: how many to return at most; None for all.
    """
    found: list[Described] = []
    for index, sample in enumerate(read_engine_pairs(pairs, "val")):
        for still in (False, True) if sample.change.any() else (False,):
            random = generator(_DATES, index, still)
            seen = unchanged(sample) if still else sample
            captions = captions_of(seen, random)
            if captions:
                found.append(Described(dated(seen, random), captions))
            if count is not None and len(found) == count:
                return found
    return found


# --- What tokens stand for ---


class Ground(nn.Linear):
    """What lies at each visual token, read off it by one layer: the class before and after, and whether it changed.

    It helps a network that sees few pairs to see what sentences are about, and is not kept.

    Args:
        width: numbers in a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, 2 * len(CLASSES) + 1)

    def loss(self, tokens: torch.Tensor, samples: Sequence[ChangeSample]) -> torch.Tensor:
        """Cross entropy of classes and of change, summed.

        Args:
            tokens: (b, l, width), a square of them, row by row.
            samples: what they were made of, square.
        """
        grid = math.isqrt(tokens.shape[1])
        found = self(tokens).float()
        batch = batch_of(samples)
        stride = batch.change.shape[1] // grid
        codes = batch.cover[:, :, stride // 2 :: stride, stride // 2 :: stride].flatten(2).long() - 1  # (b, t, l)
        logits = rearrange(found[..., :-1], "b l (t k) -> b k t l", t=2)
        classes = F.cross_entropy(logits, codes, ignore_index=-1, reduction="sum") / (codes >= 0).sum().clamp(min=1)
        share = F.avg_pool2d((batch.change & batch.known).float()[:, None], stride).flatten(1)
        return classes + F.binary_cross_entropy_with_logits(found[..., -1], share)


# --- The networks ---

Net = rscama.RSCaMa | mci.MCI


def build(model: str, decoder: Kind) -> Net:
    """The small configuration of a model, with the grammar's words."""
    vocabulary = (*MARKS, *words())
    if model == "rscama":
        return rscama.RSCaMa(replace(rscama.small(vocabulary, decoder), nothing=NOTHING))
    return mci.MCI(replace(mci.lite(vocabulary, (*mci.OBJECTS, OTHER)), nothing=NOTHING))


def decoder_of(net: Net) -> CaptionDecoder:
    """The part that speaks."""
    return net.decoder if isinstance(net, rscama.RSCaMa) else net.captioning.decoder


def _told(net: rscama.RSCaMa, deck: Deck, numbers: Sequence[int]) -> torch.Tensor:
    """What RSCaMa's decoder is told of cards, (b, l, width)."""
    assert isinstance(net.tower, LiteTower)
    tokens = net.tower.from_features(as_tokens(seen_levels(deck, numbers, (1, 2, 3)), net.tower.grid))
    out: torch.Tensor = net.head(*tokens.chunk(2))
    return out


class Told:
    """What a head that stands still tells decoders of cards, kept so that each card is looked at once."""

    def __init__(self) -> None:
        self._tokens: dict[int, torch.Tensor] = {}

    @torch.no_grad()
    def told(self, net: rscama.RSCaMa, deck: Deck, numbers: Sequence[int]) -> torch.Tensor:
        """As `_told`, without gradients."""
        missing = [number for number in numbers if number not in self._tokens]
        if missing:
            self._tokens |= zip(missing, _told(net, deck, missing).float().unbind(), strict=True)
        return torch.stack([self._tokens[number] for number in numbers])


def losses_of(
    net: Net,
    ground: Ground,
    stage: mci.Stage,
    deck: Deck,
    numbers: Sequence[int],
    masks: int,
    kept: Told | None = None,
) -> dict[str, torch.Tensor]:
    """The losses of a step: of all sentences and tokens of its cards, and of the masks of the first of them.

    With `kept`, a head of RSCaMa that stands still, only that of sentences.
    """
    vocabulary = Vocabulary(net.config.words)
    captions = [deck.captions(number) for number in numbers]
    sentences = padded([vocabulary.encode(text, net.config.longest) for some in captions for text in some])
    # Looking costs more than speaking, so a card is looked at once for all of its sentences.
    spoken = torch.tensor([len(some) for some in captions])

    def samples() -> list[ChangeSample]:
        return [deck.card(number).sample for number in numbers]

    if isinstance(net, rscama.RSCaMa):
        told = _told(net, deck, numbers) if kept is None else kept.told(net, deck, numbers)
        logits = net.decoder(told.repeat_interleave(spoken, dim=0), sentences[:, :-1])
        found = {"caption": caption_loss(logits, sentences)}
        return found if kept is not None else found | {"ground": ground.loss(told, samples())}
    assert isinstance(net.backbone, LitePyramid)
    found = {}
    if stage != "caption":
        drawn = samples()[:masks]
        kinds = torch.from_numpy(np.stack([changed_objects(sample, net.config.objects) for sample in drawn]))
        known = torch.from_numpy(np.stack([sample.known for sample in drawn]))
        before, after = mci.by_date(net.backbone.from_levels(seen_levels(deck, numbers[:masks])))
        found["mask"] = mci.mask_loss(net.detection(before, after), kinds, known)
    if stage != "detection":
        # Sentences are made of the coarsest level alone.
        coarse = net.backbone.projections[-1](seen_levels(deck, numbers, (len(WIDTHS) - 1,))[0])
        told = net.captioning.see(*coarse.chunk(2))
        logits = net.captioning.decoder(told.repeat_interleave(spoken, dim=0), sentences[:, :-1])
        found |= {"caption": caption_loss(logits, sentences), "ground": ground.loss(told, samples())}
    return found


def seen_levels(deck: Deck, numbers: Sequence[int], levels: Sequence[int] = range(len(WIDTHS))) -> list[torch.Tensor]:
    """What the frozen network sees of cards, all first dates first: float32 (t * b, c, h, w) of each level."""
    seen = zip(*(deck.levels(number, levels) for number in numbers), strict=True)
    return [rearrange(torch.stack(level).float(), "b t c h w -> (t b) c h w") for level in seen]


def _images(drawn: Sequence[Described]) -> torch.Tensor:
    return batch_of([one.sample for one in drawn]).images


@torch.no_grad()
def measure(net: Net, drawn: Sequence[Described]) -> dict[str, float]:
    """BLEU-4, ROUGE-L and CIDEr-D of pairs in text mode, and how often change is told from none."""
    vocabulary = Vocabulary(net.config.words)
    nothing = vocabulary.spoken(net.config.nothing)
    said = [
        " ".join(vocabulary.decode(search(decoder_of(net), net.see(_images([one])), nothing=nothing)[0].numbers))
        for one in drawn
    ]
    return scores_of(said, drawn)


def scores_of(said: Sequence[str], drawn: Sequence[Described]) -> dict[str, float]:
    """What `measure` tells, of sentences that were said."""
    scores = caption_scores(said, [list(one.captions) for one in drawn], meteor=False)
    told = [(text not in NOTHING) == bool(one.sample.change.any()) for text, one in zip(said, drawn, strict=True)]
    return {
        "bleu4": round(scores.bleu[3], 4),
        "rouge_l": round(scores.rouge_l, 4),
        "cider_d": round(scores.cider_d, 4),
        "change_told": round(float(np.mean(told)), 4),
    }


def train(
    model: str,
    net: Net,
    deck: Deck,
    cards: int,
    held_out: Sequence[Described],
    out: Path,
    settings: Settings,
    images: int,
    minutes: float,
    tick_images: int,
    stage: mci.Stage = "both",
    decoder_only: bool = False,
) -> None:
    """Train, or go on with, a captioner; weights are in `out/weights` after each tick.

    Args:
        model: its name.
        net: random or trained before.
        deck: to learn from.
        cards: how many of it.
        held_out: to look at after each tick.
        out: folder of the run.
        settings: numbers.
        images: cards in all after which to stop.
        minutes: of this call after which to stop.
        tick_images: cards between two lines of the log.
        stage: of MCI; "both" for RSCaMa.
        decoder_only: let RSCaMa's head stand still.
    """
    if isinstance(net, mci.MCI):
        mci.begin_stage(net, stage)
    elif decoder_only:
        net.eval().requires_grad_(False)
        net.decoder.train().requires_grad_(True)
    else:
        net.train()
    heard = Told() if decoder_only else None
    ground = Ground(decoder_of(net).config.width)
    average = copy.deepcopy(net).eval().requires_grad_(False)
    learning = {"net": net, "ground": ground}
    run = Run(out, learning, dict.fromkeys(learning, settings.rate), (0.9, 0.99), average)
    state = run.resume()
    seconds = 0.0 if state is None else float(state["cpu_seconds"])
    begun = time.process_time()
    numbers_of = order_of(settings.seed, cards)

    run.begin(minutes, tick_images, images)
    while not run.finished:
        # Dropout's chance is the step's, so that a run that was stopped goes on as it would have.
        torch.manual_seed(settings.seed * 1_000_003 + run.step)
        numbers = numbers_of(run.step, settings.batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            losses = losses_of(net, ground, stage, deck, numbers, settings.masks, heard)
        # Those of masks and sentences weigh the same, as published.
        told_of = losses.pop("ground", torch.zeros(()))
        (mci.combined(losses) + settings.ground * told_of).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        run.learn(*learning)
        run.note(**losses, ground=told_of)
        run.advance(settings.batch)
        update_ema(average, net, settings.batch, run.images, settings.half_life)
        for kept, current in zip(average.buffers(), net.buffers(), strict=True):
            kept.copy_(current)
        if run.tick_due:
            spent = seconds + time.process_time() - begun
            told = {"model": model, "stage": stage, "cards": cards} | asdict(settings)
            measured = measure(average, held_out) | {"cpu_minutes": round(spent / 60, 2)}
            run.tick(asdict(net.config), told, measured, {"cpu_seconds": spent})
            save_network(out / "weights", model, net.config, copy.deepcopy(average).bfloat16())


def main(
    model: Annotated[str, typer.Option(help=", ".join(MODELS))],
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the run lives; one that is there goes on")],
    deck: Annotated[Path, typer.Option(metavar="DIR", help="of training.caption_deck")],
    pairs: Annotated[Path, typer.Option(metavar="DIR", help="the engine's pairs, of which some are held out")],
    decoder: Annotated[str, typer.Option(help="of rscama: " + ", ".join(get_args(Kind)))] = "transformer",
    stage: Annotated[str, typer.Option(help="of mci: " + ", ".join(get_args(mci.Stage)))] = "both",
    start: Annotated[Path | None, typer.Option(metavar="DIR", help="weights to begin with")] = None,
    decoder_only: Annotated[
        bool, typer.Option("--decoder-only", help="of rscama: a new decoder on the head of --start, which stands still")
    ] = False,
    cards: Annotated[int | None, typer.Option(min=1, help="of the deck; all of them if not given")] = None,
    images: Annotated[int, typer.Option(min=1, help="cards in all")] = 16000,
    minutes: Annotated[float, typer.Option(min=0.1, help="of this call")] = 60.0,
    tick: Annotated[int, typer.Option(min=1, help="cards between lines of the log")] = 2000,
    rate: Annotated[float, typer.Option(min=0, help="learning rate; a run may go on with another")] = Settings().rate,
    bfloat16: Annotated[bool, typer.Option(help="faster on processors that multiply bfloat16")] = False,
    seed: Annotated[int, typer.Option(help="of the cards' order and of weights")] = 0,
) -> None:
    """Train a captioner; see the module for the commands before this one."""
    for value, allowed, option in (
        (model, MODELS, "--model"),
        (decoder, get_args(Kind), "--decoder"),
        (stage, get_args(mci.Stage), "--stage"),
    ):
        if value not in allowed:
            raise typer.BadParameter(f"{value!r} is none of {', '.join(allowed)}", param_hint=option)
    if model != "mci" and stage != "both":
        raise typer.BadParameter("only mci is trained in stages", param_hint="--stage")
    if decoder_only and (model != "rscama" or start is None):
        raise typer.BadParameter("this is for rscama with --start", param_hint="--decoder-only")
    there = Deck(deck)
    if not len(there):
        raise typer.BadParameter(f"no cards in {deck}; draw some with training.caption_deck", param_hint="--deck")
    torch.manual_seed(seed)
    settings = Settings(rate=rate, bfloat16=bfloat16, seed=seed)
    kind: Kind = next(name for name in get_args(Kind) if name == decoder)
    chosen: mci.Stage = next(name for name in get_args(mci.Stage) if name == stage)
    net: Net = build(model, kind)
    if start is not None:
        begun = mci.load(start) if model == "mci" else rscama.load(start)
        if decoder_only:
            net.load_state_dict(
                {name: value for name, value in begun.state_dict().items() if not name.startswith("decoder.")},
                strict=False,
            )
        else:
            net = begun
    held_out = held_out_pairs(pairs, _CHECKED)
    train(model, net, there, cards or len(there), held_out, out, settings, images, minutes, tick, chosen, decoder_only)


if __name__ == "__main__":
    typer.run(main)

"""Train RSRefSeg's small configuration on phrases that a grammar makes, and on clicks and boxes.

    python -m datasets.changes_engine --out runs/pairs --count 300
    python -m training.referring_deck --pairs runs/pairs --out runs/phrases --cards 2000
    python -m training.rsrefseg --deck runs/phrases --pairs runs/pairs --out runs/rsrefseg --images 40000

Of a card some phrases are learned at once, and things are clicked or boxed in the same picture, so the mask decoder
hears all three. Masks learn by cross entropy and Dice at the size at which the decoder gives them; a mask pixel that
holds labels of both kinds has a share for its target. The likeness that is the mask prompt learns the mask too, and the
head that predicts a mask's IoU learns what it was. Cards come in an order that is a function of the seed.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import typer

from datasets.packs import imagery_folder
from datasets.referring_sets import SIDE, held_out_scenes, read_grounds
from perception.checkpoint import State, read_network, save_network
from perception.phrase_encoders import Heard
from perception.rsrefseg import NAME, RSRefSeg, RSRefSegConfig, small
from training.ema import update_ema
from training.referring_deck import Card, Deck, Look, as_images, cards_of
from training.run import Run
from trainingsets.changes import generator

CLICKS = 3
"""Places for clicks in a prompt."""
_CHECKED = 60


@dataclass(frozen=True, slots=True)
class Settings:
    """Numbers of a run.

    Attributes:
        batch: cards in a step.
        phrases: of each that are learned in it.
        things: of each that are clicked or boxed in it.
        rate: highest learning rate of AdamW.
        warm_up: steps over which it rises.
        last: share of it that is left after all images, by a cosine.
        half_life: of the averaged weights, in cards.
        likeness: weight of the likeness's loss.
        quality: weight of the predicted IoU's loss.
        clip: greatest norm of a step's gradients.
        bfloat16: whether products are of bfloat16.
        seed: of weights, cards, phrases and clicks.
    """

    batch: int = 6
    phrases: int = 5
    things: int = 3
    rate: float = 1e-3
    warm_up: int = 50
    last: float = 0.03
    half_life: int = 1000
    likeness: float = 0.5
    quality: float = 0.1
    clip: float = 1.0
    bfloat16: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What a step learns.

    Attributes:
        images: (b, 3, SIDE, SIDE) in [-1, 1].
        view: (b, channels, grid, grid).
        heard: phrases, those of a card together.
        phrases: long (b,), how many of each card.
        masks: float (n, 2, SIDE, SIDE), of phrases: the mask, and where it is known.
        things: long (b,), how many are clicked in each.
        points: (m, CLICKS, 2), column and row.
        labels: (m, CLICKS), 1, 0 or -1.
        clicked: float (m, SIDE, SIDE), their masks.
        boxed: long (b,), how many are boxed in each.
        boxes: (k, 4).
        inside: float (k, SIDE, SIDE).
    """

    images: torch.Tensor
    view: torch.Tensor
    heard: Heard
    phrases: torch.Tensor
    masks: torch.Tensor
    things: torch.Tensor
    points: torch.Tensor
    labels: torch.Tensor
    clicked: torch.Tensor
    boxed: torch.Tensor
    boxes: torch.Tensor
    inside: torch.Tensor


def batch_of(cards: Sequence[Card], settings: Settings, random: np.random.Generator) -> Batch:
    """Cards with some of their phrases and things."""
    words, lengths, masks, counts = [], [], [], []
    points, labels, clicked, boxes, inside = [], [], [], [], []
    things, boxed = [], []
    for card in cards:
        chosen = random.permutation(len(card.texts))[: settings.phrases]
        counts.append(len(chosen))
        words.append(card.heard.words[chosen])
        lengths.append(card.heard.lengths[chosen])
        masks += [np.stack([card.masks[index], card.known[index]]) for index in chosen]
        present = np.unique(card.numbers)
        picked = random.permutation(present[present > 0])[: settings.things]
        by_box = random.random(len(picked)) < 0.5
        things.append(int((~by_box).sum()))
        boxed.append(int(by_box.sum()))
        for number, as_box in zip(picked, by_box, strict=True):
            mask = card.numbers == number
            if as_box:
                boxes.append(box_around(mask, random))
                inside.append(mask)
            else:
                one, said = clicks_on(mask, random)
                points.append(one)
                labels.append(said)
                clicked.append(mask)

    def stacked(some: Sequence[npt.NDArray[np.bool_]]) -> torch.Tensor:
        return torch.from_numpy(np.stack(some)).float() if some else torch.zeros(0, SIDE, SIDE)

    return Batch(
        as_images([card.pixels for card in cards]),
        torch.stack([card.view for card in cards]),
        Heard(torch.cat(words), torch.cat(lengths)),
        torch.tensor(counts),
        stacked(masks),
        torch.tensor(things),
        torch.tensor(np.array(points).reshape(-1, CLICKS, 2), dtype=torch.float32),
        torch.tensor(np.array(labels).reshape(-1, CLICKS), dtype=torch.float32),
        stacked(clicked),
        torch.tensor(boxed),
        torch.tensor(np.array(boxes).reshape(-1, 4), dtype=torch.float32),
        stacked(inside),
    )


def clicks_on(
    mask: npt.NDArray[np.bool_], random: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """One or two clicks on a thing and sometimes one beside it: (CLICKS, 2) columns and rows, and (CLICKS,) labels."""
    points, labels = np.zeros((CLICKS, 2)), np.full(CLICKS, -1)
    wanted = [1, *([1] if random.random() < 0.25 else []), *([0] if random.random() < 0.25 else [])]
    for place, label in enumerate(wanted):
        rows, columns = np.nonzero(mask if label else ~mask)
        if len(rows):
            index = int(random.integers(len(rows)))
            points[place], labels[place] = (columns[index], rows[index]), label
    return points, labels


def box_around(mask: npt.NDArray[np.bool_], random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Left, top, right, bottom of a thing as people draw them: up to a tenth off."""
    rows, columns = np.nonzero(mask)
    box = np.array([columns.min(), rows.min(), columns.max(), rows.max()], dtype=np.float64)
    extent = np.array([np.ptp(columns), np.ptp(rows)] * 2)
    drawn: npt.NDArray[np.float64] = np.clip(box + random.normal(0, 0.04, 4).clip(-0.1, 0.1) * extent, 0, SIDE - 1)
    return drawn


# --- Losses ---


def mask_loss(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Cross entropy and Dice of masks, each mask alike.

    Args:
        logits: (n, h, w).
        target: (n, h, w), 0..1.
        weight: (n, h, w), how much of a pixel is known.
    """
    logits = logits.float()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (entropy * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp(min=1)
    found = torch.sigmoid(logits) * weight
    wanted = target * weight
    # The one above and below makes it right to find nothing where there is nothing.
    overlap = (2 * (found * wanted).sum(dim=(1, 2)) + 1) / (found.sum(dim=(1, 2)) + wanted.sum(dim=(1, 2)) + 1)
    return (entropy + 1 - overlap).mean()


def shares(masks: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks and where they are known (n, 2, SIDE, SIDE) as shares of (n, side, side)."""
    known = F.adaptive_avg_pool2d(masks[:, 1:], side)[:, 0]
    true = F.adaptive_avg_pool2d(masks[:, :1] * masks[:, 1:], side)[:, 0]
    return true / known.clamp(min=1e-3), known


def iou_of(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """IoU (n,) of masks at a threshold of 0."""
    found, wanted = logits > 0, target > 0.5
    return (found & wanted).sum(dim=(1, 2)) / (found | wanted).sum(dim=(1, 2)).clamp(min=1)


def losses_of(net: RSRefSeg, batch: Batch) -> dict[str, torch.Tensor]:
    """Losses of phrases, of their likeness, of clicks, of boxes, and of the predicted IoU."""
    seen = net.see(batch.images, batch.view)
    side = net.config.mask_side
    logits, likeness = net(seen.repeated(batch.phrases), batch.heard)
    found = {
        "phrase": mask_loss(logits, *shares(batch.masks, side)),
        "likeness": mask_loss(likeness[:, 0], *shares(batch.masks, likeness.shape[-1])),
    }
    guessed = []

    def learn(name: str, masks: torch.Tensor, logits: torch.Tensor, quality: torch.Tensor) -> None:
        target = F.adaptive_avg_pool2d(masks[:, None], side)[:, 0]
        found[name] = mask_loss(logits, target, torch.ones_like(target))
        guessed.append(F.mse_loss(quality.float(), iou_of(logits, target)))

    if len(batch.clicked):
        learn("click", batch.clicked, *net.clicked(seen.repeated(batch.things), batch.points, batch.labels))
    if len(batch.inside):
        learn("box", batch.inside, *net.boxed(seen.repeated(batch.boxed), batch.boxes))
    return found | ({"quality": torch.stack(guessed).mean()} if guessed else {})


# --- The run ---


@torch.no_grad()
def measure(net: RSRefSeg, cards: Iterable[Card]) -> dict[str, float]:
    """Mean IoU of phrases that name something, by set, and how often nothing is found where there is nothing."""
    found: dict[str, list[float]] = {}
    for card in cards:
        seen = net.see(as_images([card.pixels]), card.view[None])
        logits, _ = net(seen.repeated(torch.tensor([len(card.texts)])), card.heard)
        logits = F.interpolate(logits[:, None].float(), (SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]
        for mask, true, known, sort in zip(logits.numpy() > 0, card.masks, card.known, card.sorts, strict=True):
            mask, true = mask & known, true & known
            if sort == "absent":
                found.setdefault("absent_right", []).append(float(mask.mean() < 0.002))
            elif true.any():
                iou = float((mask & true).sum() / (mask | true).sum())
                found.setdefault(card.source, []).append(iou)
                found.setdefault(sort, []).append(iou)
    return {name: round(float(np.mean(values)), 4) for name, values in sorted(found.items())}


def train(
    config: RSRefSegConfig,
    deck: Deck,
    cards: int,
    held_out: Sequence[Card],
    out: Path,
    settings: Settings,
    images: int,
    minutes: float,
    tick_images: int,
    start: State | None = None,
) -> None:
    """Train, or go on with, a network; weights are in `out/weights` after each tick.

    Args:
        config: its sizes.
        deck: to learn from.
        cards: how many of it.
        held_out: to look at after each tick.
        out: folder of the run.
        settings: numbers.
        images: cards in all after which to stop, and over which the rate falls.
        minutes: of this call after which to stop.
        tick_images: cards between two lines of the log.
        start: tensors to begin with; those that it lacks are as new.
    """
    torch.manual_seed(settings.seed)
    net = RSRefSeg(config).train()
    if start is not None:
        net.load_state_dict(net.state_dict() | start)
    average = copy.deepcopy(net).eval().requires_grad_(False)
    run = Run(out, {"net": net}, {"net": settings.rate}, (0.9, 0.98), average)
    state = run.resume()
    seconds = 0.0 if state is None else float(state["cpu_seconds"])
    begun = time.process_time()

    def prepared(step: int) -> Batch:
        random = generator(settings.seed, 43, step)
        numbers = [card_number(settings.seed, cards, step * settings.batch + index) for index in range(settings.batch)]
        return batch_of([deck.card(number) for number in numbers], settings, random)

    run.begin(minutes, tick_images, images)
    while not run.finished:
        torch.manual_seed(settings.seed * 1_000_003 + run.step)
        run.set_rate("net", rate_at(settings, run.step, run.images, images))
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            losses = losses_of(net, prepared(run.step))
        weights = {"likeness": settings.likeness, "quality": settings.quality}
        torch.stack([weights.get(name, 1.0) * value for name, value in losses.items()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), settings.clip)
        run.learn("net")
        run.note(**losses)
        run.advance(settings.batch)
        update_ema(average, net, settings.batch, run.images, settings.half_life)
        for kept, current in zip(average.buffers(), net.buffers(), strict=True):
            kept.copy_(current)
        if run.tick_due:
            spent = seconds + time.process_time() - begun
            measured = measure(average, held_out) | {"cpu_minutes": round(spent / 60, 2)}
            run.tick(asdict(config), {"cards": cards} | asdict(settings), measured, {"cpu_seconds": spent})
            save_network(out / "weights", NAME, config, copy.deepcopy(average).bfloat16())


def card_number(seed: int, cards: int, place: int) -> int:
    """The card at a place of the order: every card once before any comes again."""
    return int(_order(seed, cards, place // cards)[place % cards])


def _order(seed: int, cards: int, turn: int) -> npt.NDArray[np.int64]:
    return generator(seed, 47, turn).permutation(cards)


def rate_at(settings: Settings, step: int, images: int, all_images: int) -> float:
    """Learning rate of a step."""
    rise = min(1.0, (step + 1) / settings.warm_up)
    done = min(1.0, images / all_images)
    return settings.rate * rise * (settings.last + (1 - settings.last) * 0.5 * (1 + math.cos(math.pi * done)))


def held_out_cards(pairs: Path | None, labels: Path | None, most: int | None, seed: int = 0) -> list[Card]:
    """Cards of held-out ground, of each set at most so many scenes, spread over it; None for all."""
    look = Look(small())
    grounds = list(read_grounds("val", pairs, labels))
    found: list[Card] = []
    for source in dict.fromkeys(ground.source for ground in grounds):
        scenes = list(held_out_scenes(ground for ground in grounds if ground.source == source))
        every = 1 if most is None else max(1, -(-len(scenes) // most))
        found += cards_of(iter(scenes[::every]), look, 8, seed)
    return found


def main(
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the run lives; one that is there goes on")],
    deck: Annotated[Path, typer.Option(metavar="DIR", help="of training.referring_deck")],
    pairs: Annotated[Path | None, typer.Option(metavar="DIR", help="the engine's pairs, of which some are held out")],
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="holds labels/; default $EARTHGEN_DATA")] = None,
    cards: Annotated[int | None, typer.Option(min=1, help="of the deck; all of them if not given")] = None,
    images: Annotated[int, typer.Option(min=1, help="cards in all")] = 40_000,
    minutes: Annotated[float, typer.Option(min=0.1, help="of this call")] = 60.0,
    tick: Annotated[int, typer.Option(min=1, help="cards between lines of the log")] = 3000,
    float32: Annotated[bool, typer.Option("--float32", help="on processors without products of bfloat16")] = False,
    rate: Annotated[float, typer.Option(min=0, help="highest learning rate")] = Settings().rate,
    start: Annotated[Path | None, typer.Option(metavar="DIR", help="weights to begin with")] = None,
    seed: Annotated[int, typer.Option(help="of weights, cards, phrases and clicks")] = 0,
) -> None:
    """Train RSRefSeg. Example: python -m training.rsrefseg --deck runs/phrases --pairs runs/pairs --out runs/r."""
    drawn = Deck(deck)
    labels = imagery_folder(data).parent / "labels"
    held_out = held_out_cards(pairs, labels, _CHECKED // 3)
    settings = Settings(rate=rate, bfloat16=not float32, seed=seed)
    begun = None if start is None else read_network(start, NAME, RSRefSegConfig)[1]
    train(small(), drawn, cards or len(drawn), held_out, out, settings, images, minutes, tick, begun)


if __name__ == "__main__":
    typer.run(main)

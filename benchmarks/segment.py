"""How well phrases are found: RSRefSeg and baselines that are deaf, on held-out ground.

    python -m benchmarks.segment --pairs runs/pairs --deck runs/phrases --page docs/segment.md

Scenes, phrases and clicks are those of held-out pictures (`datasets.referring_sets`), the same each time. The baselines
are looked at in the same run: the largest mask that the same SAM gives for an 8 x 8 grid of clicks; a segmentation head
on the same picture features that learns the same phrases' masks without hearing the phrases; and the whole picture.
Pixels whose label is unknown count nowhere. Intervals are the 95 % percentile bootstrap over places. With --page the
tables replace what stands between the page's markers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import typer
from torch import nn
from tqdm import tqdm

from datasets.packs import imagery_folder
from datasets.referring_sets import SIDE
from perception.metrics import bootstrap_interval
from perception.metrics.referring import THRESHOLDS, overlap_counts, referring_scores
from perception.registry import load_segmenter
from perception.rsrefseg import RSRefSeg, Seen
from perception.sam import LiteView
from training.referring_deck import Card, Deck, as_images
from training.rsrefseg import box_around, clicks_on, held_out_cards, mask_loss, shares
from trainingsets.changes import generator

Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
BEGIN, END = "<!-- results: python -m benchmarks.segment -->", "<!-- end of results -->"
SETS: Mapping[str, tuple[str, ...]] = {
    "engine": ("engine",),
    "real": ("dubai", "kampala", "chesapeake"),
    "Dubai": ("dubai",),
    "Kampala": ("kampala",),
    "Chesapeake": ("chesapeake",),
}
_GRID = 8
_EMPTY = 0.002
"""Share of the picture up to which a mask counts as nothing found."""
_SEED = 20260301


class DeafHead(nn.Module):
    """A segmentation head without ears: pictures' features to a mask of whatever people name.

    It has what RSRefSeg has of a picture, EfficientNet-Lite0's view and SAM's map, and learns from the same phrases.
    """

    def __init__(self, map_width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(LiteView.channels + map_width)
        self.net = nn.Sequential(
            nn.Conv2d(LiteView.channels + map_width, 128, 1),
            nn.GELU(),
            nn.Conv2d(128, 128, 3, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(128, 48, 2, stride=2),
            nn.GELU(),
            nn.ConvTranspose2d(48, 24, 2, stride=2),
            nn.GELU(),
            nn.Conv2d(24, 1, 1),
        )

    def forward(self, view: torch.Tensor, seen: Seen) -> torch.Tensor:
        """(b, channels, g, g) and SAM's maps to logits (b, 4 g, 4 g)."""
        out: torch.Tensor = self.net(self.norm(torch.cat([view, seen.maps], dim=1)))[:, 0]
        return out


def learned_head(net: RSRefSeg, deck: Deck, cards: int, seed: int = 0) -> DeafHead:
    """The baseline, trained on every card of a deck once, on all phrases of each."""
    torch.manual_seed(seed)
    head = DeafHead(net.config.map_width).train()
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3)
    order = generator(seed, 53).permutation(cards)
    for start in tqdm(range(0, cards - 7, 8), unit="step", desc="text-blind head"):
        some = [deck.card(int(number)) for number in order[start : start + 8]]
        view = torch.stack([card.view for card in some])
        with torch.no_grad():
            seen = net.see(as_images([card.pixels for card in some]), view)
        logits = head(view, seen).repeat_interleave(torch.tensor([len(card.texts) for card in some]), dim=0)
        masks = [np.stack([mask, known]) for card in some for mask, known in zip(card.masks, card.known, strict=True)]
        loss = mask_loss(logits, *shares(torch.from_numpy(np.stack(masks)).float(), net.config.mask_side))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return head.eval()


@dataclass(frozen=True, slots=True)
class Look:
    """What was found for one phrase, click or box.

    Attributes:
        method: of the table's rows.
        source: set of the scene.
        place: of the scene.
        sort: of the phrase, or "click" or "box".
        counts: pixels of intersection, of union, of what was found, of the picture.
    """

    method: str
    source: str
    place: str
    sort: str
    counts: tuple[int, int, int, int]


def enlarged(logits: torch.Tensor) -> Mask:
    """Logits (n, h, w) as masks (n, SIDE, SIDE)."""
    grown = F.interpolate(logits[:, None].float(), (SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]
    found: Mask = grown.numpy() > 0
    return found


def grid_clicks(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An even grid of clicks: (n, 1, 2) and (n, 1)."""
    places = (torch.arange(_GRID) + 0.5) * side / _GRID
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    return torch.stack([columns, rows], dim=-1).reshape(-1, 1, 2), torch.ones(_GRID**2, 1)


@torch.inference_mode()
def look_at(net: RSRefSeg, head: DeafHead, card: Card, random: np.random.Generator) -> list[Look]:
    """Every phrase of a card by every method, and its things by clicks and boxes."""
    found: list[Look] = []

    def note(method: str, sort: str, mask: Mask, true: Mask, known: Mask) -> None:
        both, either = overlap_counts(mask & known, true & known)
        found.append(Look(method, card.source, card.place, sort, (both, either, int((mask & known).sum()), mask.size)))

    seen = net.see(as_images([card.pixels]), card.view[None])
    heard = enlarged(net(seen.repeated(torch.tensor([len(card.texts)])), card.heard)[0])
    deaf = enlarged(head(card.view[None], seen))[0]
    points, labels = grid_clicks(net.config.image)
    blind = enlarged(net.clicked(seen.repeated(torch.tensor([len(points)])), points, labels)[0])
    largest = blind[int(blind.sum(axis=(1, 2)).argmax())]
    whole = np.ones_like(deaf)
    for mask, true, known, sort in zip(heard, card.masks, card.known, card.sorts, strict=True):
        for method, one in (("RSRefSeg", mask), ("SAM", largest), ("head", deaf), ("whole", whole)):
            note(method, sort, one, true, known)
    numbers = np.unique(card.numbers)
    everywhere = np.ones_like(deaf)
    for number in random.permutation(numbers[numbers > 0])[:4]:
        true = card.numbers == number
        place, _ = clicks_on(true, random)
        clicked = net.clicked(seen, torch.tensor(place[None, :1], dtype=torch.float32), torch.ones(1, 1))[0]
        note("click", "click", enlarged(clicked)[0], true, everywhere)
        box = box_around(true, random)
        boxed = net.boxed(seen, torch.tensor(box[None], dtype=torch.float32))[0]
        note("box", "box", enlarged(boxed)[0], true, everywhere)
        filled = np.zeros_like(true)
        left, top, right, bottom = np.rint(box).astype(int)
        filled[top : bottom + 1, left : right + 1] = True
        note("filled box", "box", filled, true, everywhere)
    return found


# --- Tables ---


def interval(looks: Sequence[Look], score: Callable[[Counts], float]) -> str:
    """A score with its 95 % interval over places."""
    counts = np.array([look.counts[:2] for look in looks], dtype=np.int64)
    places = sorted({(look.source, look.place) for look in looks})
    owner = np.array([places.index((look.source, look.place)) for look in looks])
    parts = np.empty(len(places), dtype=object)
    for index in range(len(places)):
        parts[index] = counts[owner == index]
    low, high = bootstrap_interval(parts, lambda drawn: score(np.concatenate(list(drawn))), seed=_SEED, draws=600)
    return f"{100 * score(counts):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def shown(looks: Sequence[Look]) -> list[str]:
    """Phrases, oIoU and mIoU with intervals, Pr@0.5..0.9."""
    counts = np.array([look.counts[:2] for look in looks], dtype=np.int64)
    scores = referring_scores(counts)
    overall, mean = (
        interval(looks, lambda some: referring_scores(some).overall_iou),
        interval(looks, lambda some: referring_scores(some).mean_iou),
    )
    return [
        str(len(looks)),
        overall,
        mean,
        *(f"{100 * scores.precision_at[threshold]:.1f}" for threshold in THRESHOLDS),
    ]


NAMES = {
    "RSRefSeg": "RSRefSeg, small",
    "SAM": "phrase-blind: SAM's largest mask",
    "head": "text-blind segmentation head",
    "whole": "the whole picture",
}


def tables(looks: Sequence[Look], seconds: Mapping[str, float]) -> str:
    """All tables as Markdown."""
    there = [look for look in looks if look.sort not in ("absent", "click", "box")]
    parts = []
    columns = ["", "phrases", "oIoU", "mIoU", *(f"Pr@{threshold:g}" for threshold in THRESHOLDS)]
    for name, sources in SETS.items():
        rows = [
            [title, *shown([look for look in there if look.method == method and look.source in sources])]
            for method, title in NAMES.items()
        ]
        title = {"engine": "Held-out engine phrases", "real": "Real labelled packs, held-out ground"}.get(name, name)
        parts += [f"### {title}", "", *table(columns, rows), ""]
    own = [look for look in there if look.method == "RSRefSeg"]
    sorts = [sort for sort in dict.fromkeys(("class", "size", "place", "colour", "relation", "several"))]
    rows = []
    for sort in sorts:
        row = [sort]
        for name in ("engine", "real"):
            some = [look for look in own if look.sort == sort and look.source in SETS[name]]
            row += [str(len(some)), interval(some, lambda c: referring_scores(c).mean_iou) if some else "-"]
            deaf = [look for look in there if look.method == "head" and look.sort == sort and look.source in SETS[name]]
            row.append(interval(deaf, lambda c: referring_scores(c).mean_iou) if deaf else "-")
        rows.append(row)
    head = ["what the phrase is about", "engine", "mIoU", "deaf head", "real", "mIoU", "deaf head"]
    parts += ["### By what the phrase is about", "", *table(head, rows), ""]
    rows = []
    for method, title in NAMES.items():
        row = [title]
        for name in ("engine", "real"):
            some = [
                look for look in looks if look.method == method and look.sort == "absent" and look.source in SETS[name]
            ]
            right = np.mean([look.counts[2] <= _EMPTY * look.counts[3] for look in some]) if some else float("nan")
            row += [str(len(some)), f"{100 * right:.1f}"]
        rows.append(row)
    head = ["", "engine", "nothing found, %", "real", "nothing found, %"]
    parts += ["### Phrases for what is not there", "", *table(head, rows), ""]
    rows = []
    for method, title in (("click", "one click"), ("box", "a box"), ("filled box", "the box itself, filled")):
        row = [title]
        for name in ("engine", "real"):
            some = [look for look in looks if look.method == method and look.source in SETS[name]]
            row += [str(len(some)), interval(some, lambda c: referring_scores(c).mean_iou)]
        rows.append(row)
    parts += ["### Clicks and boxes", "", *table(["", "engine", "mIoU", "real", "mIoU"], rows), ""]
    told = "; ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    return "\n".join([*parts, f"On one thread of a shared machine: {told}.", ""])


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown."""
    lines = [list(columns), ["---"] * len(columns), *(list(row) for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def replaced(text: str, made: str) -> str:
    """A page with new tables between its markers.

    Raises:
        ValueError: the page has no markers.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"the page has no lines {BEGIN} and {END}; put them where the tables belong")
    return text[: text.index(BEGIN) + len(BEGIN)] + "\n\n" + made.strip() + "\n\n" + text[text.index(END) :]


def seconds_of(weights: Path | None) -> dict[str, float]:
    """What loading and one phrase cost."""
    began = time.perf_counter()
    segmenter = load_segmenter("rsrefseg", weights)
    picture = generator(_SEED).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    segmenter.segment(picture, "the water")
    loaded = time.perf_counter()
    for word in ("forest", "road", "lake"):
        segmenter.segment(picture, f"the {word}")
    asked = time.perf_counter()
    return {"loading and a first phrase": loaded - began, "a phrase in 1024 x 1024 pixels": (asked - loaded) / 3}


def main(
    pairs: Annotated[Path, typer.Option(metavar="DIR", help="the engine's pairs, of which some are held out")],
    deck: Annotated[Path, typer.Option(metavar="DIR", help="of training.referring_deck, for the text-blind head")],
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="holds labels/; default $EARTHGEN_DATA")] = None,
    weights: Annotated[Path | None, typer.Option(metavar="DIR", help="default: the ones that ship")] = None,
    page_file: Annotated[Path | None, typer.Option("--page", metavar="FILE", help="page to put the tables in")] = None,
    most: Annotated[int | None, typer.Option(min=1, help="scenes of each set; all if not given")] = None,
    head_cards: Annotated[int | None, typer.Option(min=8, help="that the head learns; all if not given")] = None,
) -> None:
    """Measure. Example: python -m benchmarks.segment --pairs runs/pairs --deck runs/phrases."""
    torch.set_num_threads(1)
    net = load_segmenter("rsrefseg", weights).net
    cards = held_out_cards(pairs, imagery_folder(data).parent / "labels", most, seed=1)
    drawn = Deck(deck)
    head = learned_head(net, drawn, head_cards or len(drawn))
    looks = []
    for number, card in enumerate(tqdm(cards, unit="scene")):
        looks += look_at(net, head, card, generator(_SEED, number))
    made = tables(looks, seconds_of(weights))
    print(made)
    if page_file is not None:
        page_file.write_text(replaced(page_file.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

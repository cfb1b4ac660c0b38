"""How well change is described: our captioners on held-out pairs of the engine, beside what needs no training.

    python -m benchmarks.captioning --pairs runs/pairs --deck runs/deck --count 100 --page docs/captions.md

Beside the weights that ship, `--also NAME=DIR` adds others, such as RSCaMa's with another decoder. Answers are kept in
`answers/` beside the pairs, by the digests of weights and pairs. A sentence counts as true if the grammar can say it of
the pair's masks, so a true sentence in the network's own words does not count: the share is a lower bound.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from tqdm import tqdm

from benchmarks.change import Entry, Kept, digest, interval
from perception.captioner import ChangeCaptioner, ChangeInterpreter
from perception.checkpoint import FILE
from perception.detector import ChangeDetector
from perception.lite_pyramid import LiteLevels, as_tokens
from perception.mci import MCIInterpreter
from perception.metrics import binary_confusion, binary_scores, caption_scores
from perception.metrics.captions import Meteor
from perception.registry import MODELS, load_captioner, load_detector
from training.caption_deck import Deck, Described, changed_objects
from training.change import pair_of
from training.change_caption import held_out_pairs
from trainingsets.change_captions import NOTHING, describe, record_of
from trainingsets.changes import generator

SHIPPED = {"rscama": "RSCaMa, Transformer", "mci": "MCI", "semantic-cc": "Semantic-CC"}
_VARIANTS = 20
"""Times that the grammar is asked for all it can say, with other words each time."""
Answers = Mapping[str, Any]


# --- What needs no training ---


def strongest(held: Sequence[Described]) -> str:
    """Of the sentences that say that nothing changed, the one that scores best when it is always said."""
    references = [list(one.captions) for one in held]

    def worth(text: str) -> float:
        scores = caption_scores([text] * len(held), references, meteor=False)
        return scores.bleu[3] + scores.rouge_l + scores.cider_d

    return max(NOTHING, key=worth)


class Retrieval:
    """The first sentence of the nearest card: means of what the frozen network sees of both dates, and of its change.

    Change is kept in two by two parts of the picture. Every number is divided by its spread over the deck.

    Args:
        deck: to retrieve from.
    """

    def __init__(self, deck: Deck) -> None:
        self._look = LiteLevels()
        self._captions = [deck.captions(number)[0] for number in range(len(deck))]
        seen = torch.stack([_summary(deck.levels(number, (1, 2, 3))) for number in range(len(deck))])
        self._mean, self._spread = seen.mean(dim=0), seen.std(dim=0) + 1e-6
        self._cards = self._unit(seen)

    def _unit(self, seen: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize((seen - self._mean) / self._spread, dim=-1)

    def __call__(self, one: Described) -> str:
        """The sentence for a pair."""
        levels = self._look(pair_of(one.sample).tensor())[1:]
        return self._captions[int((self._cards @ self._unit(_summary(levels))).argmax())]


def _summary(levels: Sequence[torch.Tensor]) -> torch.Tensor:
    before, after = as_tokens([level.float() for level in levels], 2)
    return torch.cat([before.mean(dim=0), after.mean(dim=0), (after - before).flatten()])


# --- Asking ---


def truths(one: Described) -> set[str]:
    """What the grammar can say of a pair."""
    record = record_of(one.sample)
    if record is None:
        return set()
    return {
        sentence.text
        for number in range(_VARIANTS)
        for sentence in describe(record, generator(5, number), count=10_000)
    }


def ask(captioner: ChangeCaptioner, held: Sequence[Described], title: str) -> dict[str, Any]:
    """Captions, confusions of masks if it finds change, and of objects for MCI."""
    found: dict[str, Any] = {"said": [], "binary": []}
    for one in tqdm(held, desc=title, unit="pair", leave=False):
        pair = pair_of(one.sample)
        found["said"].append(captioner.caption(pair).text)
        if isinstance(captioner, ChangeInterpreter):
            mask = captioner.detect(pair).mask
            found["binary"].append(binary_confusion(mask, one.sample.change, one.sample.known).tolist())
        if isinstance(captioner, MCIInterpreter):
            kinds = captioner.objects(pair)
            truth = changed_objects(one.sample, kinds.names)
            count = len(kinds.names) + 1
            joint = count * truth[one.sample.known].astype(np.int64) + kinds.kinds[one.sample.known]
            found.setdefault("objects", []).append(
                np.bincount(joint, minlength=count**2).reshape(count, count).tolist()
            )
            found["names"] = list(kinds.names)
    return found


def ask_detector(detector: ChangeDetector, held: Sequence[Described]) -> dict[str, Any]:
    """Confusions of masks."""
    masks = [(detector.detect(pair_of(one.sample)).mask, one.sample) for one in held]
    return {"binary": [binary_confusion(mask, sample.change, sample.known).tolist() for mask, sample in masks]}


# --- Tables ---


@dataclass(frozen=True, slots=True)
class Row:
    """One captioner's sentences."""

    title: str
    said: Sequence[str]


def caption_table(
    rows: Sequence[Row],
    held: Sequence[Described],
    true: Sequence[set[str]],
    some: Callable[[Described], bool],
    meteor: Meteor,
) -> list[str]:
    """Scores of the pairs that `some` chooses, in text mode, per cent; and the share of true sentences."""
    chosen = [index for index, one in enumerate(held) if some(one)]
    references = [list(held[index].captions) for index in chosen]
    lines = ["| | B1 | B2 | B3 | B4 | METEOR | ROUGE-L | CIDEr-D | S*m | true |", "|" + "---|" * 10]
    for row in rows:
        said = [row.said[index] for index in chosen]
        scores = caption_scores(said, references, meteor=meteor)
        cells = [f"{100 * value:.1f}" for value in scores.bleu]
        cells += ["no Java" if scores.meteor is None else f"{100 * scores.meteor:.1f}"]
        cells += [f"{100 * scores.rouge_l:.1f}", f"{100 * scores.cider_d:.1f}"]
        cells += ["" if scores.s_m is None else f"{100 * scores.s_m:.1f}"]
        right = np.mean([row.said[index] in true[index] for index in chosen])
        lines.append(f"| {row.title} | {' | '.join(cells)} | {100 * right:.0f} |")
    return lines


def told_table(rows: Sequence[Row], held: Sequence[Described], meteor: Meteor) -> list[str]:
    """How often change is told from none, and the mode in which the field prints its scores."""
    lines = ["| | change called change | none called none | different sentences | B4, ids | CIDEr-D, ids | S*m, ids |"]
    lines += ["|" + "---|" * 7]
    changed = np.array([bool(one.sample.change.any()) for one in held])
    for row in rows:
        says = np.array([text not in NOTHING for text in row.said])
        scores = caption_scores(row.said, [list(one.captions) for one in held], mode="ids", meteor=meteor)
        s_m = "" if scores.s_m is None else f"{100 * scores.s_m:.1f}"
        lines.append(
            f"| {row.title} | {100 * says[changed].mean():.0f} | {100 * (1 - says[~changed].mean()):.0f} |"
            f" {len(set(row.said))} | {100 * scores.bleu[3]:.1f} | {100 * scores.cider_d:.1f} | {s_m} |"
        )
    return lines


def mask_table(entries: Sequence[Entry]) -> list[str]:
    """F1 and IoU of the changed class with intervals."""
    lines = ["| | F1 | IoU | P | R |", "|---|---|---|---|---|"]
    for entry in entries:
        counts = entry.confusions(("engine",), "binary")
        assert counts is not None
        total = binary_scores(counts.sum(axis=0))
        f1 = interval(counts, lambda one: binary_scores(one).f1)
        iou = interval(counts, lambda one: binary_scores(one).iou)
        lines.append(f"| {entry.title} | {f1} | {iou} | {100 * total.precision:.1f} | {100 * total.recall:.1f} |")
    return lines


def object_line(answers: Answers) -> str:
    """IoU of each object of MCI's masks and their mean, as the paper scores them."""
    counts = np.array(answers["objects"], dtype=np.int64).sum(axis=0)
    union = counts.sum(axis=0) + counts.sum(axis=1) - counts.diagonal()
    names = ("nothing", *answers["names"])
    there = [index for index in range(len(names)) if counts[index].sum()]
    ious = {names[index]: counts[index, index] / union[index] for index in there}
    absent = [name for name in names if name not in ious]
    text = ", ".join(f"{name} {100 * value:.1f}" for name, value in ious.items())
    text = f"IoU of MCI's objects: {text}; mIoU {100 * float(np.mean(list(ious.values()))):.1f}."
    return text + (f" No pair here has change of {' or '.join(absent)}." if absent else "")


def page(
    rows: Sequence[Row],
    entries: Sequence[Entry],
    answers: Mapping[str, Answers],
    held: Sequence[Described],
    meteor: Meteor,
) -> str:
    """All tables as Markdown."""
    true = [truths(one) for one in held]
    changed = sum(bool(one.sample.change.any()) for one in held)
    parts: list[str] = []
    for heading, some in (
        (f"### All {len(held)} pairs", lambda one: True),
        (f"### The {changed} changed pairs", lambda one: bool(one.sample.change.any())),
        (f"### The {len(held) - changed} unchanged pairs", lambda one: not one.sample.change.any()),
    ):
        parts += [heading, "", *caption_table(rows, held, true, some, meteor), ""]
    parts += ["### Change or none, and the field's way of counting", "", *told_table(rows, held, meteor), ""]
    parts += ["### Masks on the same pairs", "", *mask_table(entries), ""]
    parts += [object_line(one) for one in answers.values() if "objects" in one]
    return "\n".join(parts)


def replaced(text: str, made: str) -> str:
    """A page with new tables between its markers.

    Raises:
        ValueError: the page has no markers.
    """
    begin, end = "<!-- results: python -m benchmarks.captioning -->", "<!-- end of results -->"
    if begin not in text or end not in text:
        raise ValueError(f"the page has no lines {begin} and {end}; put them where the tables belong")
    return text[: text.index(begin) + len(begin)] + "\n\n" + made.strip() + "\n\n" + text[text.index(end) :]


def main(
    pairs: Annotated[Path, typer.Option(metavar="DIR", help="the engine's pairs")],
    deck: Annotated[Path, typer.Option(metavar="DIR", help="cards to retrieve from")],
    also: Annotated[list[str] | None, typer.Option(metavar="MODEL:TITLE=DIR", help="more weights of a model")] = None,
    page_file: Annotated[Path | None, typer.Option("--page", metavar="FILE", help="page to put the tables in")] = None,
    count: Annotated[int | None, typer.Option(min=2, help="pairs at most")] = None,
    show: Annotated[int, typer.Option(min=0, help="pairs whose sentences to print")] = 0,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Score captioners. Example: python -m benchmarks.captioning --pairs runs/pairs --deck runs/deck."""
    torch.set_num_threads(threads)
    held = held_out_pairs(pairs, count)
    kept, what = Kept(pairs.parent / "answers"), digest([one.sample for one in held])
    cards = Deck(deck)

    def retrieved() -> dict[str, Any]:
        nearest = Retrieval(cards)
        return {"said": [nearest(one) for one in held]}

    asked = {SHIPPED[name]: (name, model.weights) for name, model in MODELS.items() if name in SHIPPED}
    for some in also or ():
        name, _, rest = some.partition(":")
        title, equals, folder = rest.partition("=")
        if name not in SHIPPED or not equals or not (Path(folder) / FILE).is_file():
            raise typer.BadParameter(f"{some!r} is not MODEL:TITLE=DIR with weights in DIR", param_hint="--also")
        asked[title] = (name, Path(folder))
    answers: dict[str, Answers] = {}
    for title, (name, weights) in asked.items():
        if weights is not None:
            id = hashlib.sha256((weights / FILE).read_bytes()).hexdigest()[:12]
            answers[title] = kept.of(f"{id}-{what}", lambda: ask(load_captioner(name, weights), held, title))  # noqa: B023

    always = strongest(held)
    rows = [
        Row(f'always "{always}"', [always] * len(held)),
        Row("nearest card", kept.of(f"nearest-{len(cards)}-{what}", retrieved)["said"]),
        *(Row(title, one["said"]) for title, one in answers.items()),
    ]
    detector = kept.of(f"cdmamba-{what}", lambda: ask_detector(load_detector("cdmamba"), held))
    entries = [Entry("CDMamba, tiny, that ships", "", 0, {"engine": detector})]
    entries += [Entry(title, "", 0, {"engine": one}) for title, one in answers.items() if one["binary"]]
    for index, one in enumerate(held[:show]):
        typer.echo(f"\n{one.sample.name}, {'changed' if one.sample.change.any() else 'unchanged'}: {one.captions[0]}")
        for row in rows:
            typer.echo(f"    {row.title}: {row.said[index]}")
    with Meteor() as meteor:
        made = page(rows, entries, answers, held, meteor)
    if page_file is None:
        typer.echo(made)
    else:
        page_file.write_text(replaced(page_file.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

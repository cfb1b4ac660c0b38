"""The tasks of temporal vision and language, each with its data, its metric, a baseline and what answers it here.

    python -m benchmarks.tasks --page docs/tasks.md

The list follows the survey of Liu et al., "Remote sensing temporal vision-language models" (arXiv 2412.02573). Data are
items of `earthgen dump` of the test split, made when they are needed; `earthgen dump --task NAME --format parquet`
writes the same. What answers has the weights that ship: the agent over a detector, or a captioner. Scores are of few
items and of generated pictures, and cannot be compared with published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import comb
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize
from tqdm import tqdm

from benchmarks.agent import Blind
from earthgen.conditioning import text_encoder
from perception.agent.answering import Agent, Answer
from perception.agent.ground import cell_of
from perception.agent.opening import captioner_names, shipped
from perception.agent.planning import Memory
from perception.agent.scene import Scene
from perception.agent.selection import Selection
from perception.agent.words import ClassWords, place_in
from perception.captioner import ChangeCaptioner, ChangeInterpreter
from perception.detector import ChangeDetector
from perception.metrics import (
    binary_confusion,
    binary_scores,
    caption_scores,
    overlap_counts,
    question_scores,
    referring_scores,
    retrieval_scores,
)
from perception.pair import Pair
from perception.registry import load_captioner, load_detector
from trainingsets.making import EngineOpener, Maker
from trainingsets.sample import Sample
from trainingsets.spec import DumpSpec
from trainingsets.tasks import TASKS, Item, item_of

Mask = npt.NDArray[np.bool_]
_SEED = 7
_NOTHING = "nothing has changed"
_GRID = Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 5_000_000.0)
_BEGIN, _END = "<!-- results: python -m benchmarks.tasks -->", "<!-- end of results -->"

_CELLS = {
    "top left": "upper left", "top center": "upper part", "top right": "upper right", "center left": "left part",
    "center": "centre", "center right": "right part", "bottom left": "lower left", "bottom center": "lower part",
    "bottom right": "lower right",
}  # fmt: skip
"""Cells of the grid as dumps name them."""
_WORDS = {
    "low vegetation": "grassland", "bare ground": "bare ground", "tree": "forest", "water": "water",
    "building": "buildings",
}  # fmt: skip
"""Classes as dumps name them."""
_SAME = {"flood water": "water", "burned ground": "bare ground"}
"""How something came is not for a detector to say, so these count as what is there."""


@dataclass(frozen=True)
class Seen:
    """An item of the three dumps that share its pair, and what models say of it.

    Attributes:
        item: where it is from.
        told: with captions, masks and areas that phrases name.
        asked: with questions.
        talk: with a conversation.
        detector: that answers.
        captioners: that have weights.
    """

    item: Item
    told: Sample
    asked: Sample
    talk: Sample
    detector: ChangeDetector
    captioners: Sequence[ChangeCaptioner] = field(default=())

    @cached_property
    def pair(self) -> Pair:
        """Both pictures."""
        views = self.told.views
        return Pair(views["before"].pixels, views["after"].pixels, _GRID, CRS.from_epsg(32632))

    @cached_property
    def scene(self) -> Scene:
        """What the agent looks at."""
        return Scene(self.pair, self.detector, any_classes=bool(self.detector.classes))

    @cached_property
    def blind(self) -> Scene:
        """The same for one who sees nothing."""
        return Scene(self.pair, Blind())

    @cached_property
    def said(self) -> str:
        """What the agent says changed."""
        return Agent(self.scene).ask("what changed?").text


@dataclass(frozen=True, slots=True)
class TemporalTask:
    """A task of the list.

    Attributes:
        name: for people.
        dump: the task of `earthgen dump` that writes its data.
        metric: what is scored, and by which module.
        score: from items to the scores, in words: of the baseline, and of each model.
        baseline: what the baseline does.
    """

    name: str
    dump: str
    metric: str
    baseline: str
    score: Callable[[Sequence[Seen]], tuple[str, dict[str, str]]]


# --- Sentences ---


def _sentence_scores(predictions: Sequence[str], items: Sequence[Seen]) -> str:
    found = caption_scores(predictions, [item.told.captions for item in items])
    meteor = "no Java" if found.meteor is None else f"{100 * found.meteor:.1f}"
    return (
        f"BLEU-4 {100 * found.bleu[3]:.1f}, METEOR {meteor}, ROUGE-L {100 * found.rouge_l:.1f},"
        f" CIDEr-D {100 * found.cider_d:.1f}"
    )


def _captioning(items: Sequence[Seen]) -> tuple[str, dict[str, str]]:
    ours = {}
    for number, captioner in enumerate(items[0].captioners):
        texts = [item.captioners[number].caption(item.pair).text for item in tqdm(items, desc=captioner.name)]
        ours[captioner.name] = _sentence_scores(texts, items)
    return _sentence_scores([_NOTHING] * len(items), items), ours


def _with_masks(items: Sequence[Seen]) -> tuple[str, dict[str, str]]:
    """Masks of those that also speak, beside the mask of the agent's detector."""
    truths = [item.told.masks["change"] > 0 for item in items]

    def scored(masks: Sequence[Mask]) -> str:
        counts = np.sum([binary_confusion(mask, truth) for mask, truth in zip(masks, truths, strict=True)], axis=0)
        scores = binary_scores(counts)
        return f"F1 {100 * scores.f1:.1f}, IoU {100 * scores.iou:.1f}"

    ours = {f"agent, {items[0].detector.name}": scored([item.scene.evidence().change for item in items])}
    for captioner in items[0].captioners:
        if isinstance(captioner, ChangeInterpreter):
            ours[captioner.name] = scored([captioner.detect(item.pair).mask for item in tqdm(items, desc="masks")])
    return scored([np.zeros(truth.shape, dtype=np.bool_) for truth in truths]), ours


# --- Questions ---


def _in_words(answer: Answer, kind: str) -> str:
    """The agent's answer as a dump spells answers of a kind."""
    if answer.refused:
        return ""
    value = answer.steps[-1].value
    if kind in ("change or not", "increase or not"):
        return "yes" if value.get("count") else "no"
    if kind == "count":
        return str(value.get("count"))
    if kind == "change ratio":
        share = float(value.get("share", 0))
        low = int(10 * share) * 10
        return f"{low} to {low + 10} %" if share else "0 %"
    if kind == "where":
        places = value.get("places") or []
        return f"in the {_CELLS[places[0]['cell']]}" if places else ""
    rows = value.get("classes") or []
    key = "before" if kind == "change from what" else "after"
    return _WORDS.get(rows[0].get(key, ""), "") if rows else ""


def _same(answer: str) -> str:
    return _SAME.get(answer, answer)


def _questions(items: Sequence[Seen]) -> tuple[str, dict[str, str]]:
    kinds, truths = [], []
    given: dict[str, list[str]] = {"blind": [], "agent": []}
    for item in tqdm(items, desc="questions"):
        agents = {"blind": Agent(item.blind), "agent": Agent(item.scene)}
        for asked in item.asked.questions:
            kinds.append(asked.kind)
            truths.append(_same(asked.answer))
            for name, agent in agents.items():
                given[name].append(_same(_in_words(agent.ask(asked.question), asked.kind)))

    def told(name: str) -> str:
        scores = question_scores(given[name], truths, kinds)
        each = ", ".join(f"{kind} {100 * share:.0f}" for kind, share in scores.by_kind.items())
        return f"OA {100 * scores.overall_accuracy:.1f}, AA {100 * scores.average_accuracy:.1f} ({each})"

    return told("blind"), {f"agent, {items[0].detector.name}": told("agent")}


def _conversations(items: Sequence[Seen]) -> tuple[str, dict[str, str]]:
    def told(scene_of: Callable[[Seen], Scene]) -> str:
        right, whole = [], []
        for item in items:
            agent, memory, turns = Agent(scene_of(item)), Memory(), []
            for asked in item.talk.questions:
                answer = agent.ask(asked.question, memory)
                memory = answer.memory
                kind = asked.kind.partition(": ")[2]
                turns.append(_same(_in_words(answer, kind)) == _same(asked.answer))
            right += turns
            whole.append(all(turns))
        return f"turns {100 * np.mean(right):.1f}, whole conversations {100 * np.mean(whole):.1f}"

    return told(lambda item: item.blind), {f"agent, {items[0].detector.name}": told(lambda item: item.scene)}


# --- Finding pairs, and areas in them ---


def _retrieval(items: Sequence[Seen]) -> tuple[str, dict[str, str]]:
    """Each pair's first sentence is sought among all pairs; pairs of which it is also said count as right."""
    queries = [item.told.captions[0] for item in items]
    relevant = np.array([[query in item.told.captions for item in items] for query in queries])
    encoder = text_encoder()

    def told(texts: Sequence[str]) -> str:
        similarity = encoder.encode_batch(queries) @ encoder.encode_batch([text[:500] for text in texts]).T
        scores = retrieval_scores(similarity.astype(np.float64), relevant)
        each = ", ".join(f"R@{rank} {100 * share:.1f}" for rank, share in scores.recall_at.items())
        return f"{each}, mean {100 * scores.mean_recall:.1f}"

    count = len(items)
    chance = [
        np.mean(
            [1 - comb(count - int(row.sum()), min(rank, count)) / comb(count, min(rank, count)) for row in relevant]
        )
        for rank in (1, 5, 10)
    ]
    baseline = ", ".join(f"R@{rank} {100 * share:.1f}" for rank, share in zip((1, 5, 10), chance, strict=True))
    ours = {f"agent's sentence, {items[0].detector.name}": told([item.said for item in items])}
    for number, captioner in enumerate(items[0].captioners):
        ours[f"{captioner.name}'s sentence"] = told([item.captioners[number].caption(item.pair).text for item in items])
    return f"{baseline}, mean {100 * float(np.mean(chance)):.1f}", ours


def _by_chance(count: int, right: int, rank: int) -> float:
    """Chance that some of the right ones are among the first `rank` of a shuffled list."""
    first = min(rank, count)
    return 1 - comb(count - right, first) / comb(count, first)


def _grounding(items: Sequence[Seen]) -> tuple[str, dict[str, str]]:
    """The area that a phrase names: of what became its class, the areas whose middle lies where it says."""
    counts: dict[str, list[tuple[int, int]]] = {"all": [], "agent": []}
    for item in items:
        for thing in item.told.things:
            if thing.phrase:
                masks = {"all": item.scene.find(Selection()).mask, "agent": _named(item.scene, thing.phrase)}
                for name, mask in masks.items():
                    counts[name].append(overlap_counts(mask, thing.mask))

    def told(name: str) -> str:
        scores = referring_scores(np.array(counts[name], dtype=np.int64))
        return (
            f"mIoU {100 * scores.mean_iou:.1f}, cIoU {100 * scores.overall_iou:.1f},"
            f" Pr@0.5 {100 * scores.precision_at[0.5]:.1f} ({len(counts[name])} phrases)"
        )

    return told("all"), {f"agent, {items[0].detector.name}": told("agent")}


def _named(scene: Scene, phrase: str) -> Mask:
    mentions = [mention for mention in ClassWords(scene.classes).mentions(phrase) if mention.known]
    place = place_in(phrase)
    if not mentions:
        return np.zeros(scene.shape, dtype=np.bool_)
    found = scene.find(Selection(subject=mentions[0].name, kind="came"))
    regions = [
        region
        for region in found.regions
        if place is None or _CELLS[cell_of(region.row, region.column, scene.shape)] in phrase
    ]
    if not regions:
        return np.zeros(scene.shape, dtype=np.bool_)
    drawn: Mask = rasterize([(region.outline, 1) for region in regions], out_shape=scene.shape, dtype="uint8") > 0
    return drawn & found.mask


TASKS_OF_THE_FIELD: tuple[TemporalTask, ...] = (
    TemporalTask(
        "Change captioning", "change-caption", "BLEU, METEOR, ROUGE-L, CIDEr-D (`metrics.captions`, text mode)",
        "always “nothing has changed”", _captioning,
    ),
    TemporalTask(
        "Change detection with captions", "change-caption", "F1, IoU (`metrics.change`), beside the captions above",
        "an empty mask", _with_masks,
    ),
    TemporalTask(
        "Change question answering", "vqa", "OA, AA (`metrics.answers`)", "the agent, seeing nothing", _questions
    ),
    TemporalTask(
        "Text to change retrieval", "change-caption", "R@1, 5, 10 (`metrics.answers`)", "chance", _retrieval
    ),
    TemporalTask(
        "Change grounding", "change-detection", "mIoU, cIoU, Pr@0.5 (`metrics.referring`)",
        "the whole change mask", _grounding,
    ),
    TemporalTask(
        "Conversation over several turns", "change-dialogue", "right turns, conversations without a wrong one",
        "the agent, seeing nothing", _conversations,
    ),
)  # fmt: skip
"""Every task, in the survey's order."""


# --- Items ---


def items_of(
    maker: Maker, count: int, detector: ChangeDetector, captioners: Sequence[ChangeCaptioner]
) -> Iterator[Seen]:
    """The first items of the test split, with the same pair in each dump."""
    dumps = ("change-caption", "vqa", "change-dialogue")
    specs = {
        name: DumpSpec(task=name, format="parquet", count=100 * count, seed=_SEED, tiles_per_scene=1) for name in dumps
    }
    found = 0
    for index in range(100 * count):
        items = {name: item_of(spec, index) for name, spec in specs.items()}
        if items["vqa"].scene.split != "test":
            continue
        samples = [TASKS[name].make(maker, item) for name, item in items.items()]
        yield Seen(items["vqa"], samples[0], samples[1], samples[2], detector, captioners)
        found += 1
        if found == count:
            return


def matrix(items: Sequence[Seen]) -> list[str]:
    """The page's table."""
    lines = ["| task | data | metric | baseline | ours |", "|---|---|---|---|---|"]
    for task in TASKS_OF_THE_FIELD:
        baseline, ours = task.score(items)
        answers = "<br>".join(f"{name}: {scores}" for name, scores in ours.items()) or "no weights ship"
        lines.append(f"| {task.name} | `{task.dump}` | {task.metric} | {task.baseline}: {baseline} | {answers} |")
    return lines


def main(
    count: Annotated[int, typer.Option(min=2, help="Items of the test split.")] = 16,
    detector: Annotated[str, typer.Option(help="That the agent looks with.")] = "semantic-cd",
    page: Annotated[Path | None, typer.Option(help="Page between whose markers the table goes.")] = None,
) -> None:
    """Print the matrix of tasks."""
    captioners = []
    for name in captioner_names(shipped):
        captioners.append(load_captioner(name, shipped(name)))
    looking = load_detector(detector)
    with EngineOpener().open() as maker:
        items = list(tqdm(items_of(maker, count, looking, captioners), total=count, desc="pairs"))
    changed = sum(bool(item.told.masks["change"].any()) for item in items)
    lines = [
        f"{len(items)} pairs of the test split, {changed} of them changed. Scores are per cent.",
        "",
        *matrix(items),
    ]
    typer.echo("\n".join(lines))
    if page is not None:
        text = page.read_text(encoding="utf-8")
        head, _, rest = text.partition(_BEGIN)
        _, _, tail = rest.partition(_END)
        page.write_text(f"{head}{_BEGIN}\n\n" + "\n".join(lines) + f"\n\n{_END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

"""How often the Change-Agent is right: on scripts with answers worked out by hand, and with the weights that ship.

    python -m benchmarks.agent
    python -m benchmarks.agent --pairs runs/pairs --page docs/agent.md

Three figures that must not be taken for each other:

- *scripts*: conversations about drawn pairs, whose classes a stand-in reads off the colours. What fails here is
  planning, arithmetic or wording.
- *phrasings*: ways to say things, and the tools that they must become.
- *weights*: questions about held-out pairs of the engine, answered with detectors that ship. The right answer is that
  of the same agent with the pair's masks in the detector's place, so what fails here is the detector. Pixels that
  nobody knows count for neither. "Nothing changed" always gives the answer of a detector that sees nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from affine import Affine
from rasterio.crs import CRS
from rasterio.io import MemoryFile
from tqdm import tqdm

from benchmarks.agent_dialogues import DIALOGUES, held
from benchmarks.agent_phrasings import PHRASINGS, misread
from datasets.changes_engine import read_engine_pairs
from perception.agent.answering import Agent, Answer
from perception.agent.opening import chosen_detector, namer_of, shipped
from perception.agent.scene import Scene
from perception.detection import Detection
from perception.detector import ChangeDetector, Progress
from perception.naming import NamedChanges
from perception.pair import Pair
from perception.registry import load_detector
from trainingsets.changes import CLASSES, ChangeSample, dated, generator

_PAIRS = 40
_SEED = 20260101
_NEAR = 0.25
"""Part by which a size may be off."""
_POINTS = 0.01
"""Share of the picture by which it may be off in any case."""
_OVERLAP = 0.5
"""IoU from which on an exported mask counts as right."""
DETECTORS = ("semantic-cd", "mci", "cdmamba")
"""Alone."""
_BEGIN, _END = "<!-- results: python -m benchmarks.agent -->", "<!-- end of results -->"


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A detector that finds what is known of a pair; for the right answers only."""

    sample: ChangeSample
    name: str = "known"
    classes: tuple[str, ...] = CLASSES

    def detect(
        self,
        pair: Pair,
        *,
        classes: Sequence[str] | None = None,
        tile: int = 256,
        overlap: int = 64,
        progress: Progress | None = None,
    ) -> Detection:
        """See `ChangeDetector.detect`."""
        mask = self.sample.change & self.sample.known
        covers = (self.sample.cover_before, self.sample.cover_after)
        semantics = np.stack([[cover == code for code in range(1, len(CLASSES) + 1)] for cover in covers])
        return found(pair, mask, semantics.astype(np.float32), self.name)


class Blind:
    """A detector that sees nothing: what "nothing changed" would answer."""

    name = "nothing changed"
    classes = CLASSES

    def detect(
        self,
        pair: Pair,
        *,
        classes: Sequence[str] | None = None,
        tile: int = 256,
        overlap: int = 64,
        progress: Progress | None = None,
    ) -> Detection:
        """See `ChangeDetector.detect`."""
        semantics = np.zeros((2, len(CLASSES), *pair.shape), dtype=np.float32)
        return found(pair, np.zeros(pair.shape, dtype=np.bool_), semantics, self.name)


def found(pair: Pair, mask: np.ndarray[Any, np.dtype[np.bool_]], semantics: Any, name: str) -> Detection:
    """A detection of a mask."""
    logits = np.stack([np.zeros(mask.shape), np.where(mask, 3.0, -3.0)]).astype(np.float32)
    return Detection(mask, logits, CLASSES, pair.transform, pair.crs, semantics, name)


# --- Questions with right answers ---


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a pair.

    Attributes:
        kind: of question.
        text: as it is asked.
        right: whether an answer says what the right one says.
    """

    kind: str
    text: str
    right: Callable[[Answer, Answer], bool]


def _value(answer: Answer, key: str) -> Any:
    return answer.steps[-1].value.get(key)


def _same(key: str) -> Callable[[Answer, Answer], bool]:
    return lambda answer, truth: not answer.refused and bool(_value(answer, key) == _value(truth, key))


def _whether(answer: Answer, truth: Answer) -> bool:
    return not answer.refused and bool(_value(answer, "count")) == bool(_value(truth, "count"))


def _size(answer: Answer, truth: Answer) -> bool:
    if answer.refused:
        return False
    share, wanted = float(_value(answer, "share")), float(_value(truth, "share"))
    return abs(share - wanted) <= max(_NEAR * wanted, _POINTS)


def _after(answer: Answer, truth: Answer) -> bool:
    """Whether the largest changed area is of the same class now."""
    classes = []
    for each in (answer, truth):
        features = (each.areas or {}).get("features") or []
        classes.append(features[0]["properties"].get("after") if features else None)
    return classes[0] == classes[1] and classes[0] is not None


def _mask(answer: Answer, truth: Answer) -> bool:
    masks = []
    for each in (answer, truth):
        if not each.files:
            return False
        with MemoryFile(each.files[-1].content) as memory, memory.open() as dataset:
            masks.append(dataset.read(1) > 0)
    union = int((masks[0] | masks[1]).sum())
    return union == 0 or int((masks[0] & masks[1]).sum()) / union >= _OVERLAP


def questions(sample: ChangeSample) -> Iterator[Question]:
    """What is asked about a pair; of classes and places only where there is a right answer."""
    change = sample.change & sample.known
    yield Question("whether anything changed", "did anything change?", _whether)
    yield Question("how many areas", "how many areas have changed?", _same("count"))
    yield Question("how much", "how much of the picture changed?", _size)
    yield Question("mask", "export the changes as a mask", _mask)
    if not change.any():
        return
    yield Question("where the largest is", "where is the largest change?", _same("grid"))
    if bool((sample.cover_before[change] == 0).any()) or bool((sample.cover_after[change] == 0).any()):
        return
    yield Question("what the largest is now", "show the largest change", _after)
    came = {CLASSES[code - 1] for code in np.unique(sample.cover_after[change])}
    for name in CLASSES[:5]:
        # Roads have no prompts of their own, so no pair of the engine has new ones.
        kind = "whether a class came (it did)" if name in came else "whether a class came (it did not)"
        yield Question(kind, f"is there new {name}?", _whether)
    for code in np.unique(sample.cover_before[change]):
        yield Question("how much of a class was lost", f"what percent of {CLASSES[code - 1]} was lost?", _size)


def right_answers(detector: ChangeDetector | None, samples: Sequence[ChangeSample]) -> dict[str, list[bool]]:
    """Of each kind of question, whether a detector's answers are right; None is the detector that sees nothing."""
    right: dict[str, list[bool]] = {}
    for index, sample in enumerate(tqdm(samples, desc="nothing" if detector is None else detector.name)):
        seen = dated(sample, generator(_SEED, index))
        # Where nobody knows, nobody is asked: both find nothing there.
        pair = Pair(seen.before, seen.after, _GRID, CRS.from_epsg(32632), valid=sample.known)
        agent, truth = Agent(Scene(pair, detector or Blind())), Agent(Scene(pair, Known(sample)))
        for question in questions(sample):
            answer = agent.ask(question.text)
            right.setdefault(question.kind, []).append(question.right(answer, truth.ask(question.text)))
    return right


_GRID = Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 5_000_000.0)


# --- The page ---


def scripts() -> tuple[int, int]:
    """How many instructions of the scripts are answered right, and how many there are."""
    outcomes = [outcome for dialogue in DIALOGUES for outcome in held(dialogue)]
    for outcome in outcomes:
        if outcome.wrong:
            typer.echo(f"wrong: {outcome.topic}: {outcome.question}: {outcome.wrong}", err=True)
    return sum(not outcome.wrong for outcome in outcomes), len(outcomes)


def table(results: dict[str, dict[str, list[bool]]]) -> list[str]:
    """Markdown of right answers by kind of question and detector."""
    kinds = list(dict.fromkeys(kind for result in results.values() for kind in result))
    lines = [f"| question | asked | {' | '.join(results)} |", f"|---|---|{'---|' * len(results)}"]
    for kind in kinds:
        count = len(next(iter(results.values()))[kind])
        shares = [f"{100 * np.mean(result[kind]):.0f} %" for result in results.values()]
        lines.append(f"| {kind} | {count} | {' | '.join(shares)} |")
    totals = [[right for rights in result.values() for right in rights] for result in results.values()]
    shares = [f"**{100 * np.mean(total):.0f} %**" for total in totals]
    means = [f"{100 * np.mean([np.mean(rights) for rights in result.values()]):.0f} %" for result in results.values()]
    lines.append(f"| all | {len(totals[0])} | {' | '.join(shares)} |")
    lines.append(f"| mean of the kinds | | {' | '.join(means)} |")
    return lines


def main(
    pairs: Annotated[Path | None, typer.Option(help="Folder of the engine's pairs, for the weights.")] = None,
    page: Annotated[Path | None, typer.Option(help="Page between whose markers the tables go.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Held-out pairs, if there are so many.")] = _PAIRS,
) -> None:
    """Print how often the agent is right."""
    done, total = scripts()
    misreadings = Counter(bool(misread(*phrasing)) for phrasing in PHRASINGS)
    lines = [
        "| | right | of |",
        "|---|---|---|",
        f"| instructions of the scripts, drawn pairs, a stand-in for the detector | {done} | {total} |",
        f"| phrasings | {misreadings[False]} | {len(PHRASINGS)} |",
    ]
    if pairs is not None:
        samples = list(read_engine_pairs(pairs, "val"))[:count]
        results = {"nothing changed": right_answers(None, samples)}
        alone = {name: load_detector(name) for name in DETECTORS if shipped(name) is not None}
        # What `ask` takes if nobody chooses, and then those alone.
        chosen = chosen_detector(shipped)
        namer = namer_of(shipped, chosen)
        if namer is not None:
            joined = NamedChanges(alone[chosen], alone[namer])
            results[joined.name] = right_answers(joined, samples)
        for name, detector in alone.items():
            results[name] = right_answers(detector, samples)
        lines += [
            "",
            f"With the weights that ship, on {len(samples)} held-out pairs of the engine:",
            "",
            *table(results),
        ]
    typer.echo("\n".join(lines))
    if page is not None:
        text = page.read_text(encoding="utf-8")
        head, _, rest = text.partition(_BEGIN)
        _, _, tail = rest.partition(_END)
        page.write_text(f"{head}{_BEGIN}\n\n" + "\n".join(lines) + f"\n\n{_END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

"""How well change is found: our detectors, a peer trained on the same crops, and what needs no training.

    python -m benchmarks.change --runs runs/change --pairs runs/pairs --page docs/change.md

The runs are those of `training.change`, each in a folder whose name begins with MODEL-MIX. Every pair is looked at
whole; the counts of one detector on one set are kept in `counts/` beside the runs, by the digest of its weights, so
that a second call only computes what is new. Scores are of the counts summed over a set, intervals are the 95 %
percentile bootstrap over its pairs. With --page the tables replace what stands between the page's markers.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image
from tqdm import tqdm

from datasets.changes_engine import read_engine_pairs
from datasets.changes_real import WITH_DATES, read_real_pairs
from datasets.packs import imagery_folder
from perception.checkpoint import FILE
from perception.detector import BinaryDetector, ChangeDetector
from perception.metrics import (
    SemanticScores,
    binary_confusion,
    binary_scores,
    bootstrap_interval,
    semantic_confusion,
    semantic_scores,
)
from perception.registry import load_detector
from training.change import MIXES, NAMES, Mix, Name, load_fc_siam, pair_of
from trainingsets.changes import CLASSES, Bytes, ChangeSample, dated, generator

Counts = npt.NDArray[np.int64]
_ENGINE_PAIRS = 40
"""Held-out pairs of the engine that are looked at, if there are so many."""
_COMPOSED = 16
_WINDOW = 256
"""Larger pairs, as Nanjing's 800 x 800, are cut into windows of this side."""
_FEWEST_KNOWN = 0.02
"""Windows with a smaller share of labelled pixels are left out."""
_SEED = 20260101

SETS: Mapping[str, tuple[str, ...]] = {
    "engine": ("engine",),
    "real": ("joplin", "landsat", "chesapeake"),
    "composed": ("dubai", "kampala"),
}
"""The tables' columns and what they are made of."""
TITLES = {"cdmamba": "CDMamba, tiny", "semantic-cd": "after Semantic-CD, small", "fc-siam": "FC-Siam-diff, ResNet-18"}


# --- What needs no training ---


def unchanged(before: Bytes, after: Bytes) -> npt.NDArray[np.bool_]:
    """Nothing ever changes: the later date is copied from the earlier."""
    return np.zeros(before.shape[:2], dtype=np.bool_)


def change_vectors(before: Bytes, after: Bytes) -> npt.NDArray[np.bool_]:
    """Change vector analysis (Malila 1980): the length of the colours' difference, cut by Otsu's threshold.

    Each band of the later date is first brought to the mean and the spread of the earlier.
    """
    first, second = before.astype(np.float64), after.astype(np.float64)
    spread = second.std(axis=(0, 1)) + 1e-6
    second = (second - second.mean(axis=(0, 1))) / spread * first.std(axis=(0, 1)) + first.mean(axis=(0, 1))
    lengths = np.linalg.norm(first - second, axis=-1)
    return np.asarray(lengths > otsu(lengths))


def otsu(values: npt.NDArray[np.float64], bins: int = 256) -> float:
    """The threshold that parts values into two classes with the largest variance between them (Otsu 1979)."""
    counts, edges = np.histogram(values, bins)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1:][int(np.nanargmax(np.where(above > 0, between, np.nan)))])


# --- Counting ---


def held_out(pairs: Path, labels: Path) -> dict[str, list[ChangeSample]]:
    """All held-out pairs by set, restricted samples included; those without dates of their own get effects."""
    samples = list(read_engine_pairs(pairs, "val"))[:_ENGINE_PAIRS]
    samples += read_real_pairs(labels, "val", composed=_COMPOSED)
    samples += levir(labels / "restricted" / "levir_cd_samples")
    found: dict[str, list[ChangeSample]] = {}
    for index, sample in enumerate(itertools.chain.from_iterable(map(windows, samples))):
        if sample.source not in (*WITH_DATES, "levir"):
            sample = dated(sample, generator(_SEED, index))
        found.setdefault(sample.source, []).append(sample)
    return found


def windows(sample: ChangeSample) -> list[ChangeSample]:
    """A pair as it is, or its windows if it is larger than one."""
    height, width = sample.change.shape
    if max(height, width) <= _WINDOW:
        return [sample]
    corners = itertools.product(range(0, height, _WINDOW), range(0, width, _WINDOW))
    parts = [sample.crop(top, left, _WINDOW) for top, left in corners]
    return [part for part in parts if part.known.mean() >= _FEWEST_KNOWN]


def levir(folder: Path) -> Iterable[ChangeSample]:
    """Samples of LEVIR-CD (Chen & Shi 2020): new buildings at 0.5 m, for evaluation only."""
    for path in sorted((folder / "A").glob("*.png")) if folder.is_dir() else ():
        before, after, label = (
            np.asarray(Image.open(folder / part / path.name).convert("RGB")) for part in ("A", "B", "label")
        )
        unknown = np.zeros(label.shape[:2], dtype=np.uint8)
        change = label[..., 0] > 127
        known = np.ones_like(change)
        yield ChangeSample("levir", path.stem, path.stem, before, after, change, known, unknown, unknown)


def classes_of(sample: ChangeSample) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """True codes of both dates (2, h, w), 0 where unchanged, and where they are known (2, h, w)."""
    both = (sample.cover_before > 0) & (sample.cover_after > 0)
    truth = np.stack([sample.cover_before, sample.cover_after]) * sample.change
    return truth, np.broadcast_to(sample.known & (~sample.change | both), truth.shape)


def count(detector: ChangeDetector, held: Sequence[ChangeSample], title: str) -> dict[str, Any]:
    """Confusions of each pair: `binary`, and `semantic` if the detector names classes."""
    binary, semantic = [], []
    for sample in tqdm(held, desc=title, unit="pair", leave=False):
        found = detector.detect(pair_of(sample))
        binary.append(binary_confusion(found.mask, sample.change, sample.known).tolist())
        if found.labels is not None:
            truth, known = classes_of(sample)
            semantic.append(semantic_confusion(found.labels[known], truth[known], len(CLASSES)).tolist())
    return {"binary": binary} | ({"semantic": semantic} if semantic else {})


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the tables.

    Attributes:
        title: what it is called.
        mix: what it was trained on, or "".
        images: samples that it has seen.
        counts: by set, what `count` gives.
    """

    title: str
    mix: str
    images: int
    counts: Mapping[str, Any]

    def confusions(self, sets: Sequence[str], kind: str) -> Counts | None:
        """One matrix a pair (n, k, k) of some sets together, or None if there are none."""
        matrices = [matrix for name in sets for matrix in self.counts.get(name, {}).get(kind, [])]
        return np.array(matrices, dtype=np.int64) if matrices else None


class Kept:
    """Counts in a folder, a file each, named by the digest of what was counted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What is kept under a key, made first if it is not there."""
        path = self._folder / f"{key}.json"
        if not path.is_file():
            self._folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(make()), encoding="utf-8")
            partial.replace(path)
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


def digest(held: Sequence[ChangeSample]) -> str:
    """What a set is: it may grow."""
    hashed = hashlib.sha256()
    for sample in held:
        for array in (sample.before, sample.after, sample.change, sample.known):
            hashed.update(array.tobytes())
    return hashed.hexdigest()[:12]


def open_detector(name: Name, weights: Path) -> ChangeDetector:
    """One of our models or the peer."""
    return BinaryDetector(name, load_fc_siam(weights), 32) if name == "fc-siam" else load_detector(name, weights)


def finished(runs: Path) -> list[tuple[Name, Mix, Path]]:
    """Runs that have weights, with the model and the mix that their folders' names begin with, shortest first."""
    found: list[tuple[Name, Mix, Path]] = []
    for name, mix in itertools.product(NAMES, MIXES):
        folders = sorted(runs.glob(f"{name}-{mix}*"))
        found += [(name, mix, folder) for folder in folders if (folder / "weights" / FILE).is_file()]
    return found


def trained(runs: Path, kept: Kept, sets: Mapping[str, Sequence[ChangeSample]]) -> list[Entry]:
    """Every run that has weights, counted on every set."""
    digests = {some: digest(held) for some, held in sets.items()}
    entries = []
    for name, mix, folder in finished(runs):
        weights = folder / "weights"
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        id = hashlib.sha256((weights / FILE).read_bytes()).hexdigest()[:12]
        # Opened when something has to be counted, and once.
        opened = cache(partial(open_detector, name, weights))
        counts = {
            some: kept.of(f"{id}-{digests[some]}", partial(_counted, opened, held, f"{name} {mix} {some}"))
            for some, held in sets.items()
        }
        entries.append(Entry(TITLES[name], mix, json.loads(lines[-1])["images"], counts))
    return entries


def _counted(opened: Callable[[], ChangeDetector], held: Sequence[ChangeSample], title: str) -> dict[str, Any]:
    return count(opened(), held, title)


def untrained(sets: Mapping[str, Sequence[ChangeSample]]) -> list[Entry]:
    """The baselines, counted."""
    entries = []
    for title, method in (("nothing changes", unchanged), ("CVA and Otsu", change_vectors)):
        counts: dict[str, dict[str, Any]] = {}
        for name, held in sets.items():
            binary, semantic = [], []
            for sample in held:
                mask = method(sample.before, sample.after)
                binary.append(binary_confusion(mask, sample.change, sample.known).tolist())
                if method is unchanged:
                    truth, known = classes_of(sample)
                    nothing = np.zeros_like(truth[known])
                    semantic.append(semantic_confusion(nothing, truth[known], len(CLASSES)).tolist())
            counts[name] = {"binary": binary, "semantic": semantic}
        entries.append(Entry(title, "", 0, counts))
    return entries


# --- Tables ---


def interval(counts: Counts, score: Callable[[Counts], float]) -> str:
    """A score of the sum, in per cent, with its interval over pairs."""
    value = score(counts.sum(axis=0))
    if len(counts) < 2:
        return f"{100 * value:.1f}"
    low, high = bootstrap_interval(counts, lambda drawn: score(drawn.sum(axis=0)), seed=0)
    return f"{100 * value:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def _about(entry: Entry) -> str:
    """The first three cells of a row."""
    return f"{entry.title} | {entry.mix} | {entry.images or ''}"


def binary_table(entries: Sequence[Entry], sets: Sequence[str]) -> list[str]:
    """Rows of F1 and IoU with intervals, precision, recall and overall accuracy."""
    lines = ["| | trained on | samples | F1 | IoU | P | R | OA |", "|---|---|---|---|---|---|---|---|"]
    for entry in entries:
        counts = entry.confusions(sets, "binary")
        if counts is not None:
            total = binary_scores(counts.sum(axis=0))
            rest = " | ".join(f"{100 * x:.1f}" for x in (total.precision, total.recall, total.overall_accuracy))
            f1 = interval(counts, lambda one: binary_scores(one).f1)
            iou = interval(counts, lambda one: binary_scores(one).iou)
            lines.append(f"| {_about(entry)} | {f1} | {iou} | {rest} |")
    return lines


def semantic_table(entries: Sequence[Entry], sets: Sequence[str]) -> list[str]:
    """Rows of mIoU, SeK and Fscd with intervals, and overall accuracy."""
    scores: dict[str, Callable[[SemanticScores], float]] = {
        "mIoU": lambda one: one.mean_iou,
        "SeK": lambda one: one.sek,
        "Fscd": lambda one: one.f_scd,
    }
    lines = [f"| | trained on | samples | {' | '.join(scores)} | OA |", "|---|---|---|---|---|---|---|"]
    for entry in entries:
        counts = entry.confusions(sets, "semantic")
        if counts is not None:
            cells = [
                interval(counts, lambda one, pick=pick: pick(semantic_scores(one)))  # type: ignore[misc]
                for pick in scores.values()
            ]
            accuracy = 100 * semantic_scores(counts.sum(axis=0)).overall_accuracy
            lines.append(f"| {_about(entry)} | {' | '.join(cells)} | {accuracy:.1f} |")
    return lines


def alarm_table(entries: Sequence[Entry]) -> list[str]:
    """Each set of the real pairs alone: F1, and of the pairs without change the share of pixels that alarm."""
    lines = [
        "| | trained on | samples | Joplin F1 | Nanjing F1 | Dubai F1 | Kampala F1 | false alarms on NAIP |",
        "|" + "---|" * 8,
    ]
    for entry in entries:
        cells = []
        for name in ("joplin", "landsat", "dubai", "kampala"):
            counts = entry.confusions((name,), "binary")
            cells.append("" if counts is None else f"{100 * binary_scores(counts.sum(axis=0)).f1:.1f}")
        still = entry.confusions(("chesapeake",), "binary")
        cells.append("" if still is None else f"{100 * still.sum(axis=0)[1, 0] / still.sum():.1f} %")
        lines.append(f"| {_about(entry)} | {' | '.join(cells)} |")
    return lines


def page(entries: Sequence[Entry], bars: Sequence[Entry], sets: Mapping[str, Sequence[ChangeSample]]) -> str:
    """All tables as Markdown."""
    number = {name: sum(len(sets.get(one, ())) for one in some) for name, some in SETS.items()}
    parts: list[str] = []
    for name, heading in (
        ("engine", f"### Held-out pairs of the engine ({number['engine']})"),
        ("real", f"### Held-out real pairs ({number['real']}: Joplin, Nanjing, NAIP)"),
        ("composed", f"### Held-out composed pairs of real pictures ({number['composed']}: Dubai, Kampala)"),
    ):
        parts += [heading, "", *binary_table(entries, SETS[name]), ""]
    parts += ["### Each real set alone", "", *alarm_table(entries), ""]
    if "levir" in sets:
        heading = f"### Samples of LEVIR-CD ({len(sets['levir'])}, evaluation only)"
        parts += [heading, "", *binary_table([*entries, *bars], ("levir",)), ""]
    for name, heading in (
        ("engine", "### What became what: pairs of the engine"),
        ("composed", "### What became what: composed pairs"),
    ):
        parts += [heading, "", *semantic_table(entries, SETS[name]), ""]
    return "\n".join(parts)


def replaced(text: str, made: str) -> str:
    """A page with new tables between its markers.

    Raises:
        ValueError: the page has no markers.
    """
    begin, end = "<!-- results: python -m benchmarks.change -->", "<!-- end of results -->"
    if begin not in text or end not in text:
        raise ValueError(f"the page has no lines {begin} and {end}; put them where the tables belong")
    return text[: text.index(begin) + len(begin)] + "\n\n" + made.strip() + "\n\n" + text[text.index(end) :]


def main(
    runs: Annotated[Path, typer.Option(metavar="DIR", help="holds the runs, MODEL-MIX each")],
    pairs: Annotated[Path, typer.Option(metavar="DIR", help="the engine's pairs")],
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="holds labels/; default $EARTHGEN_DATA")] = None,
    page_file: Annotated[Path | None, typer.Option("--page", metavar="FILE", help="page to put the tables in")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Score everything. Example: python -m benchmarks.change --runs runs/change --pairs runs/pairs."""
    torch.set_num_threads(threads)
    labels = imagery_folder(data).parent / "labels"
    sets, kept = held_out(pairs, labels), Kept(runs / "counts")
    entries = [*untrained(sets), *trained(runs, kept, sets)]
    bars = []
    published = labels / "restricted" / "weights" / "tinycd_levir.safetensors"
    if "levir" in sets and published.is_file():
        from benchmarks.tinycd import MULTIPLE, load_tinycd

        detector = BinaryDetector("tinycd", load_tinycd(published), MULTIPLE)
        key = f"tinycd-{digest(sets['levir'])}"
        counts = {"levir": kept.of(key, lambda: count(detector, sets["levir"], "tinycd"))}
        bars.append(Entry("TinyCD, published weights", "LEVIR-CD", 0, counts))
    made = page(entries, bars, sets)
    if page_file is None:
        typer.echo(made)
    else:
        page_file.write_text(replaced(page_file.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

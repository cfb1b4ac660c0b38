"""The grammar's captions beside real ones: how long, how many words, and how many of each other's words they know.

    python -m benchmarks.captions --pairs runs/pairs --labels DIR

Real captions are those of LEVIR-CC (changed and unchanged pairs apart), which describe change, and of RSICD, Sydney and
UCM, which describe single pictures. They are read and counted, never trained on. Without pairs of the engine, samples
of rectangles are made up.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from datasets.changes_engine import read_engine_pairs
from perception.vocabulary import words_of
from trainingsets.change_captions import captions_of
from trainingsets.changes import CLASSES, ChangeSample, generator

REAL = {
    "LEVIR-CC, changed": ("restricted/levir_cc_captions/captions.jsonl", True),
    "LEVIR-CC, unchanged": ("restricted/levir_cc_captions/captions.jsonl", False),
    "RSICD": ("rsicd_captions/captions.jsonl", None),
    "Sydney": ("sydney_ucm_captions/sydney.jsonl", None),
    "UCM": ("sydney_ucm_captions/ucm_test.jsonl", None),
}
"""Files below the folder of labels; whether the changed or the unchanged of them are meant."""
_SIDE = 128


@dataclass(frozen=True, slots=True)
class Corpus:
    """Captions, several of each picture or pair."""

    name: str
    captions: tuple[tuple[str, ...], ...]


def read_real(labels: Path) -> Iterator[Corpus]:
    """The real corpora that are there."""
    for name, (file, changed) in REAL.items():
        path = labels / file
        if path.is_file():
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            kept = [line for line in lines if changed is None or line["changed"] == changed]
            yield Corpus(name, tuple(tuple(line["captions"]) for line in kept))


def made_samples(count: int) -> Iterator[ChangeSample]:
    """Pairs of rectangles: ground of one class, areas that stay and areas that change; one in seven does not."""
    image = np.zeros((_SIDE, _SIDE, 3), dtype=np.uint8)
    for index in range(count):
        random = generator(3, index)
        before = np.full((_SIDE, _SIDE), random.integers(1, 1 + len(CLASSES)), dtype=np.uint8)
        for _ in range(int(random.integers(3))):
            before[_rectangle(random)] = random.integers(1, 1 + len(CLASSES))
        after = before.copy()
        for _ in range(int(random.integers(1, 4)) if random.random() < 6 / 7 else 0):
            after[_rectangle(random)] = random.integers(1, 1 + len(CLASSES))
        name, change = f"{index:05d}", before != after
        yield ChangeSample("made", name, name, image, image, change, np.ones_like(change), before, after)


def _rectangle(random: np.random.Generator) -> tuple[slice, slice]:
    top, left = (int(value) for value in random.integers(0, _SIDE - 12, 2))
    height, width = (int(value) for value in random.integers(12, _SIDE // 2, 2))
    return slice(top, top + height), slice(left, left + width)


def compared(corpora: Sequence[Corpus]) -> dict[str, dict[str, float]]:
    """Numbers of each corpus by name.

    "known to NAME" is the part of all words said, repetitions counted, that corpus NAME says too.
    """
    words = {corpus.name: [words_of(text) for texts in corpus.captions for text in texts] for corpus in corpora}
    counts = {name: Counter(word for sentence in sentences for word in sentence) for name, sentences in words.items()}
    table: dict[str, dict[str, float]] = {}
    for corpus in corpora:
        sentences = words[corpus.name]
        lengths = np.array([len(sentence) for sentence in sentences])
        total = counts[corpus.name].total()
        table[corpus.name] = {
            "sentences": len(sentences),
            "a picture": float(np.mean([len(set(texts)) for texts in corpus.captions])),
            "words": float(lengths.mean()),
            "median": float(np.median(lengths)),
            "5 %": float(np.percentile(lengths, 5)),
            "95 %": float(np.percentile(lengths, 95)),
            "vocabulary": len(counts[corpus.name]),
            "distinct": len(set(sentences)) / len(sentences),
        }
        for other in corpora:
            if other is not corpus:
                shared = sum(count for word, count in counts[corpus.name].items() if word in counts[other.name])
                table[corpus.name][f"known to {other.name}"] = shared / total
    return table


def as_markdown(table: dict[str, dict[str, float]], ours: str) -> str:
    """The table: a row a corpus; of the shares of known words those that have to do with ours."""
    plain = [name for name in table[ours] if not name.startswith("known to")]
    lines = [
        "| corpus | " + " | ".join(plain) + f" | its words {ours} knows | {ours}'s words it knows |",
        "| --- |" + " --- |" * (len(plain) + 2),
    ]
    for name, numbers in table.items():
        cells = [f"{numbers[key]:.3g}" if numbers[key] < 1000 else f"{numbers[key]:.0f}" for key in plain]
        known = numbers.get(f"known to {ours}"), table[ours].get(f"known to {name}")
        cells += ["" if share is None else f"{share:.1%}" for share in known]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(
    pairs: Annotated[Path | None, typer.Option(metavar="DIR", help="of datasets.changes_engine")] = None,
    labels: Annotated[Path | None, typer.Option(metavar="DIR", help="of real captions")] = None,
    made: Annotated[int, typer.Option(min=1, help="samples to make up where there are no pairs")] = 2000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    show: Annotated[int, typer.Option(min=0, help="Pairs whose sentences to print.")] = 0,
) -> None:
    """Compare. Example: python -m benchmarks.captions --pairs runs/pairs --labels data/labels."""
    samples = made_samples(made) if pairs is None else _engine_samples(pairs)
    seen = 0
    changed: list[tuple[str, ...]] = []
    unchanged: list[tuple[str, ...]] = []
    for sample in samples:
        seen += 1
        texts = captions_of(sample, generator(4, seen))
        if texts:
            (changed if sample.change.any() else unchanged).append(texts)
    corpora = [Corpus("grammar", tuple(changed)), Corpus("grammar, unchanged", tuple(unchanged))]
    corpora = [corpus for corpus in corpora if corpus.captions]
    table = compared([*corpora, *([] if labels is None else read_real(labels))])
    if as_json:
        typer.echo(json.dumps(table, indent=2))
        return
    typer.echo(f"{seen} pairs, {len(changed)} changed and {len(unchanged)} unchanged ones with captions\n")
    typer.echo(as_markdown(table, corpora[0].name))
    for texts in changed[:show]:
        typer.echo("\n" + "\n".join(texts))


def _engine_samples(folder: Path) -> Iterator[ChangeSample]:
    for split in ("train", "val"):
        yield from read_engine_pairs(folder, "train" if split == "train" else "val")


if __name__ == "__main__":
    typer.run(main)

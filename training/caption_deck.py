"""Described pairs as captioners see them in training, drawn once and kept: a deck of cards.

    python -m training.caption_deck --mix both --pairs runs/pairs --out runs/deck --cards 2000

A card is a pair after turning, swapping and two days' effects, with the sentences of `trainingsets.change_captions`
about it; pairs of which nothing can be said for certain are drawn anew. A part of the cards shows one date twice, on
two days: engine pairs without change are few. A card is a function of the seed and its number. Beside it lies what the
frozen EfficientNet-Lite0 sees of both dates, so that networks on it learn without looking at pictures again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from tqdm import tqdm

from datasets.changes_composed import ENGINE, composed_of_engine
from datasets.changes_engine import SOURCE
from datasets.changes_real import WITH_DATES
from datasets.packs import imagery_folder
from perception.lite_pyramid import WIDTHS, LiteLevels
from training.change import MIXES, Mix, read_pairs
from trainingsets.change_captions import captions_of
from trainingsets.changes import CLASSES, ChangeSample, batch_of, dated, generator

OTHER = "other"
"""An object of masks: ground of all classes that are no object of their own."""
SHARES: Mapping[str, float] = {SOURCE: 9, ENGINE: 6, "dubai": 2, "kampala": 2, "chesapeake": 1, "landsat": 0}
"""How often each set is drawn beside the others. Of landsat's ground no class is known, so nothing can be said."""
_COMPOSED = 600
_TRIES = 20
"""Draws after which a sample of which nothing can be said is taken for a fault of the set."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """How cards are drawn.

    Attributes:
        crop: pixels along the side of what is cut from a sample; the networks resize it as they need.
        unchanged: share of draws that show one date twice.
        seed: of all draws.
    """

    crop: int = 256
    unchanged: float = 0.25
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """A pair as it is seen, and true sentences about it."""

    sample: ChangeSample
    captions: tuple[str, ...]


class CaptionSampler:
    """Draws described pairs: a set, a sample, a place in it, a turn, an order of dates, two days' effects.

    Args:
        samples: all of them; those that are smaller than the crop are left out.
        drawing: crop, share of unchanged draws and seed.

    Raises:
        ValueError: no sample is as large as the crop.
    """

    def __init__(self, samples: Sequence[ChangeSample], drawing: Drawing) -> None:
        sources: dict[str, list[ChangeSample]] = {}
        for sample in samples:
            if min(sample.change.shape) >= drawing.crop and SHARES.get(sample.source, 1):
                sources.setdefault(sample.source, []).append(sample)
        if not sources:
            raise ValueError(f"no sample has {drawing.crop} pixels a side; choose smaller crops")
        self._sources = list(sources.values())
        weights = np.array([SHARES.get(name, 1.0) for name in sources])
        self._shares = weights / weights.sum()
        self._drawing = drawing

    def draw(self, number: int) -> Described:
        """Pair `number`: the same for the same number."""
        for again in range(_TRIES):
            random = generator(self._drawing.seed, number, again)
            sample = self._crop(random)
            captions = captions_of(sample, random)
            if captions:
                return Described(sample if sample.source in WITH_DATES else dated(sample, random), captions)
        raise ValueError(f"nothing can be said for certain of {_TRIES} samples in a row; look at their labels")

    def _crop(self, random: np.random.Generator) -> ChangeSample:
        samples = self._sources[int(random.choice(len(self._sources), p=self._shares))]
        sample = samples[int(random.integers(len(samples)))]
        side = self._drawing.crop
        top, left = (int(random.integers(length - side + 1)) for length in sample.change.shape)
        sample = sample.crop(top, left, side).turned(int(random.integers(4)), bool(random.integers(2)))
        sample = sample.swapped() if random.integers(2) else sample
        if random.random() < self._drawing.unchanged and sample.source not in WITH_DATES:
            return unchanged(sample)
        return sample


def unchanged(sample: ChangeSample) -> ChangeSample:
    """Its first date twice."""
    nothing = np.zeros_like(sample.change)
    return replace(sample, after=sample.before, cover_after=sample.cover_before, change=nothing, known=~nothing)


def changed_objects(sample: ChangeSample, objects: Sequence[str]) -> np.ndarray:
    """uint8 (h, w): 0, or 1 + index of the object that came or went there; the last one wins where both did.

    `OTHER` among the objects is what came and went where none of the others did.
    """
    kinds = np.zeros(sample.change.shape, dtype=np.uint8)
    if OTHER in objects:
        kinds[sample.change] = 1 + objects.index(OTHER)
    for number, name in enumerate(objects, start=1):
        if name != OTHER:
            code = 1 + CLASSES.index(name)
            kinds[sample.change & ((sample.cover_before == code) | (sample.cover_after == code))] = number
    return kinds


# --- The folder ---


class Deck:
    """Cards in a folder; those that are missing are drawn when they are asked for.

    Args:
        folder: of the cards.
        sampler: to draw with; None for a folder that has all that will be asked for.
    """

    def __init__(self, folder: Path, sampler: CaptionSampler | None = None) -> None:
        self._folder, self._sampler = folder, sampler
        self._look = LiteLevels() if sampler is not None else None
        self._captions: dict[int, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(list(self._folder.glob("card-*.npz")))

    def card(self, number: int) -> Described:
        """A card, without what the frozen network sees.

        Raises:
            FileNotFoundError: it is not there and there is nothing to draw with.
        """
        with np.load(self._path(number)) as arrays:
            parts: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
            source, name, place = (str(text) for text in arrays["about"])
            captions = tuple(str(text) for text in arrays["captions"])
        return Described(ChangeSample(source, name, place, **parts), captions)

    def captions(self, number: int) -> tuple[str, ...]:
        """The sentences of a card alone."""
        if number not in self._captions:
            with np.load(self._path(number)) as arrays:
                self._captions[number] = tuple(str(text) for text in arrays["captions"])
        return self._captions[number]

    def levels(self, number: int, levels: Sequence[int] = range(len(WIDTHS))) -> list[torch.Tensor]:
        """What the frozen network sees of both dates: maps (t=2, c, h, w) of bfloat16; 0 is the finest of four."""
        with np.load(self._path(number)) as arrays:
            return [torch.from_numpy(arrays[f"level{level}"]).view(torch.bfloat16) for level in levels]

    def _path(self, number: int) -> Path:
        path = self._folder / f"card-{number:05d}.npz"
        if not path.exists():
            if self._sampler is None or self._look is None:
                raise FileNotFoundError(f"no card {number} in {self._folder}; draw some with training.caption_deck")
            self._keep(path, self._sampler.draw(number), self._look)
        return path

    def _keep(self, path: Path, drawn: Described, look: LiteLevels) -> None:
        sample = drawn.sample
        arrays: dict[str, Any] = {name: getattr(sample, name) for name in _ARRAYS}
        arrays |= {"about": np.array([sample.source, sample.name, sample.place]), "captions": np.array(drawn.captions)}
        with torch.autocast("cpu", torch.bfloat16):
            seen = look(batch_of([sample]).images[0])
        arrays |= {f"level{level}": x.bfloat16().view(torch.int16).numpy() for level, x in enumerate(seen)}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.stem}.{os.getpid()}.npz")
        np.savez(partial, **arrays)
        os.replace(partial, path)


_ARRAYS = tuple(field.name for field in fields(ChangeSample) if field.name not in ("source", "name", "place"))


def described_pairs(mix: Mix, pairs: Path | None, data: Path | None) -> list[ChangeSample]:
    """What cards are drawn of: the pairs of a mix for training and, if the engine's are among them, composed ones."""
    labels = None if mix == "engine" else imagery_folder(data).parent / "labels"
    samples = read_pairs(mix, "train", pairs, labels)
    engine = [sample for sample in samples if sample.source == SOURCE]
    return samples + (list(composed_of_engine(engine, "train", _COMPOSED)) if engine else [])


def main(
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder of the cards")],
    mix: Annotated[str, typer.Option(help=", ".join(MIXES))] = "both",
    pairs: Annotated[Path | None, typer.Option(metavar="DIR", help="the engine's pairs")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="holds labels/; default $EARTHGEN_DATA")] = None,
    cards: Annotated[int, typer.Option(min=1, help="cards in all")] = 2000,
    crop: Annotated[int, typer.Option(min=32, help="side of the crops")] = Drawing().crop,
    seed: Annotated[int, typer.Option(help="of the draws")] = 0,
) -> None:
    """Draw cards. Example: python -m training.caption_deck --pairs runs/pairs --out runs/deck."""
    if mix not in MIXES:
        raise typer.BadParameter(f"{mix!r} is none of {', '.join(MIXES)}", param_hint="--mix")
    chosen: Mix = next(name for name in MIXES if name == mix)
    deck = Deck(out, CaptionSampler(described_pairs(chosen, pairs, data), Drawing(crop=crop, seed=seed)))
    for number in tqdm(range(cards), unit="card"):
        deck.card(number)


if __name__ == "__main__":
    typer.run(main)

"""Scenes with phrases as RSRefSeg sees them in training, drawn once and kept: a deck of cards.

    python -m training.referring_deck --pairs runs/pairs --out runs/phrases --cards 2000

A card is a scene of `datasets.referring_sets` with phrases of `datasets.referring`. Beside its pixels lie what the
frozen EfficientNet-Lite0 sees of them and MiniLM's states of the phrases' words, so that what learns waits for nothing
that stands still. A card is a function of the seed and its number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from tqdm import tqdm

from datasets.packs import imagery_folder
from datasets.referring import Bytes, Mask, Phrase, Scene, phrases_of
from datasets.referring_sets import SIDE, SceneSampler, read_grounds
from perception.phrase_encoders import MINILM_WIDTH, MOST_WORDS, Heard
from perception.rsrefseg import RSRefSegConfig, small
from perception.sam import LiteView
from trainingsets.changes import generator

PHRASES = 8
"""Of a card, at most."""
_TRIES = 30


@dataclass(frozen=True, slots=True, eq=False)
class Card:
    """A scene with its phrases.

    Attributes:
        source: the scene's set.
        place: the scene's place.
        pixels: uint8 (SIDE, SIDE, 3).
        view: of `LiteView`, float32 (channels, grid, grid).
        numbers: uint8 (SIDE, SIDE), 0 or the number of a thing that can be clicked.
        texts: the phrases.
        sorts: what they are about.
        heard: MiniLM's states of their words.
        masks: bool (n, SIDE, SIDE).
        known: bool (n, SIDE, SIDE).
    """

    source: str
    place: str
    pixels: Bytes
    view: torch.Tensor
    numbers: Bytes
    texts: tuple[str, ...]
    sorts: tuple[str, ...]
    heard: Heard
    masks: Mask
    known: Mask


class Look:
    """The parts that stand still: EfficientNet-Lite0 and MiniLM."""

    def __init__(self, config: RSRefSegConfig) -> None:
        from earthgen.conditioning import text_encoder

        self._view = LiteView(config.grid)
        self._text = text_encoder("minilm")
        self._states: dict[str, torch.Tensor] = {}

    def view(self, pixels: Bytes) -> torch.Tensor:
        """Of uint8 (SIDE, SIDE, 3): float32 (channels, grid, grid)."""
        return self._view(as_images([pixels]))[0]

    def hear(self, texts: list[str]) -> Heard:
        """Of phrases."""
        words = torch.zeros(len(texts), MOST_WORDS, MINILM_WIDTH)
        lengths = []
        for row, text in zip(words, texts, strict=True):
            if text not in self._states:
                self._states[text] = torch.from_numpy(self._text.tokens(text)[:MOST_WORDS].copy())
            some = self._states[text]
            row[: len(some)] = some
            lengths.append(len(some))
        return Heard(words, torch.tensor(lengths))


def as_images(pixels: list[Bytes]) -> torch.Tensor:
    """Pictures uint8 (h, w, 3) of one size as (b, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def clickable(scene: Scene) -> Bytes:
    """Things by number, the largest first where there are more than 255: uint8 (h, w)."""
    masks = [things.numbers == index + 1 for things in scene.things.values() for index in range(len(things))]
    masks = sorted(masks, key=np.count_nonzero, reverse=True)[:255]
    numbers = np.zeros(scene.codes.shape, dtype=np.uint8)
    for number, mask in enumerate(masks, start=1):
        numbers[mask] = number
    return numbers


def card_of(scene: Scene, phrases: list[Phrase], look: Look) -> Card:
    """A scene and its phrases as they are seen and heard."""
    texts = [phrase.text for phrase in phrases]
    return Card(
        scene.source,
        scene.place,
        scene.pixels,
        look.view(scene.pixels),
        clickable(scene),
        tuple(texts),
        tuple(phrase.sort for phrase in phrases),
        look.hear(texts),
        np.stack([phrase.mask for phrase in phrases]),
        np.stack([phrase.known for phrase in phrases]),
    )


class Deck:
    """Cards in a folder; those that are missing are drawn when they are asked for.

    Args:
        folder: of the cards.
        sampler: to draw with; None for a folder that has all that will be asked for.
        seed: of phrases.
    """

    def __init__(self, folder: Path, sampler: SceneSampler | None = None, seed: int = 0) -> None:
        self._folder, self._sampler, self._seed = folder, sampler, seed
        self._look = None if sampler is None else Look(small())

    def __len__(self) -> int:
        return len(list(self._folder.glob("card-*.npz")))

    def card(self, number: int) -> Card:
        """A card.

        Raises:
            FileNotFoundError: it is not there and there is nothing to draw with.
        """
        path = self._folder / f"card-{number:05d}.npz"
        if not path.exists():
            if self._sampler is None or self._look is None:
                raise FileNotFoundError(f"no card {number} in {self._folder}; draw some with training.referring_deck")
            scene, phrases = self._draw(number)
            _save(path, card_of(scene, phrases, self._look))
        return _read(path)

    def _draw(self, number: int) -> tuple[Scene, list[Phrase]]:
        assert self._sampler is not None
        for again in range(_TRIES):
            scene = self._sampler.draw(number * _TRIES + again)
            phrases = phrases_of(scene, generator(self._seed, 37, number, again), PHRASES)
            if any(phrase.mask.any() for phrase in phrases):
                return scene, phrases
        raise ValueError(f"nothing can be named in {_TRIES} scenes in a row; look at their labels")


def _save(path: Path, card: Card) -> None:
    arrays: dict[str, npt.NDArray[Any]] = {
        "about": np.array([card.source, card.place]),
        "pixels": card.pixels,
        "view": card.view.bfloat16().view(torch.int16).numpy(),
        "numbers": card.numbers,
        "texts": np.array(card.texts),
        "sorts": np.array(card.sorts),
        "words": card.heard.words.bfloat16().view(torch.int16).numpy(),
        "lengths": card.heard.lengths.numpy(),
        "masks": np.packbits(card.masks),
        "known": np.packbits(card.known),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    os.replace(partial, path)


def _read(path: Path) -> Card:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    shape = (len(arrays["texts"]), SIDE, SIDE)
    masks, known = (
        np.unpackbits(arrays[name], count=int(np.prod(shape))).reshape(shape).astype(np.bool_)
        for name in ("masks", "known")
    )
    words = torch.from_numpy(arrays["words"]).view(torch.bfloat16).float()
    return Card(
        str(arrays["about"][0]),
        str(arrays["about"][1]),
        arrays["pixels"],
        torch.from_numpy(arrays["view"]).view(torch.bfloat16).float(),
        arrays["numbers"],
        tuple(str(text) for text in arrays["texts"]),
        tuple(str(sort) for sort in arrays["sorts"]),
        Heard(words, torch.from_numpy(arrays["lengths"])),
        masks,
        known,
    )


def cards_of(scenes: Iterator[Scene], look: Look, most: int, seed: int) -> Iterator[Card]:
    """Cards of held-out scenes; those of which nothing can be named are left out."""
    for number, scene in enumerate(scenes):
        phrases = phrases_of(scene, generator(seed, 41, number), most)
        if phrases:
            yield card_of(scene, phrases, look)


def main(
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder of the cards")],
    pairs: Annotated[Path | None, typer.Option(metavar="DIR", help="the engine's pairs")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="holds labels/; default $EARTHGEN_DATA")] = None,
    cards: Annotated[int, typer.Option(min=1, help="cards in all")] = 2000,
    first: Annotated[int, typer.Option(min=0, help="number of the first that is drawn")] = 0,
    seed: Annotated[int, typer.Option(help="of the draws")] = 0,
) -> None:
    """Draw cards. Example: python -m training.referring_deck --pairs runs/pairs --out runs/phrases."""
    torch.set_num_threads(1)
    grounds = read_grounds("train", pairs, imagery_folder(data).parent / "labels")
    deck = Deck(out, SceneSampler(grounds, seed), seed)
    for number in tqdm(range(first, cards), unit="card"):
        deck.card(number)


if __name__ == "__main__":
    typer.run(main)

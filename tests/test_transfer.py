"""The transfer benchmark: pictures that follow prompts teach what real ones show; a filter leaves the others out."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.transfer import PICTURE, Chips, Made, accuracy, interval, make, redrawn, table
from perception.validation.anomaly import Scores
from trainingsets.keeping import parse

Pixels = npt.NDArray[np.uint8]
NAMES = ("forest", "river", "sea")


def colour(prompt: str) -> npt.NDArray[np.int64]:
    return np.random.default_rng(zlib.crc32(prompt.encode())).integers(30, 226, 3)


def picture(prompt: str, seed: int, side: int = PICTURE) -> Pixels:
    noise = np.random.default_rng(seed).normal(0, 12, (side, side, 3))
    return np.asarray(np.clip(colour(prompt) + noise, 1, 254), dtype=np.uint8)


def half_deaf(prompt: str, gsd: float, seed: int) -> Pixels:
    """Every second picture shows something else, and is clipped."""
    return picture(prompt, seed) if seed % 2 else np.zeros((PICTURE, PICTURE, 3), dtype=np.uint8)


def describe(pictures: Sequence[Pixels]) -> torch.Tensor:
    return torch.tensor(np.array([each.mean(axis=(0, 1)) for each in pictures]), dtype=torch.float32)


class Scorer:
    def score(self, picture: Pixels, gsd: float) -> Scores:
        return Scores(0.5, 0.5, 0.0, float((picture == 0).mean()), 0.1)


class Tower:
    id = "words"

    class _Text:
        def encode_batch(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
            vectors = np.array([colour(text) - 128.0 for text in texts], dtype=np.float32)
            return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    text = _Text()

    def embed(self, pictures: Sequence[Pixels], gsd: object = None) -> npt.NDArray[np.float32]:
        vectors = np.array([each.mean(axis=(0, 1)) - 128.0 for each in pictures], dtype=np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def made(count: int = 6) -> Made:
    scorer: Any = Scorer()
    tower: Any = Tower()
    return make(half_deaf, describe, scorer, tower, [(name,) for name in NAMES], 10.0, count)


def chips_of(count: int, first: int) -> Chips:
    pictures = [picture(name, first + seed, 64) for name in NAMES for seed in range(count)]
    return Chips(describe(pictures), np.repeat(np.arange(len(NAMES)), count), np.arange(len(pictures)))


def test_a_filter_keeps_the_pictures_that_fulfil_it_with_all_their_chips() -> None:
    found = made()
    kept = found.kept(parse("clipped<0.5"))
    assert kept == [number for number in range(18) if number % 6 % 2]
    some = found.chips.of(kept)
    assert len(some.classes) == 4 * len(kept)
    assert np.bincount(some.classes).tolist() == [12, 12, 12]


def test_what_is_kept_teaches_better_than_everything() -> None:
    found, held_out = made(), chips_of(20, 1000)
    kept = found.chips.of(found.kept(parse("clipped<0.5")))
    assert accuracy(kept, held_out, 3) == 1.0
    assert accuracy(found.chips, held_out, 3) <= 1.0
    wrong = Chips(kept.features, (kept.classes + 1) % 3, kept.pictures)
    assert accuracy(wrong, held_out, 3) == 0.0


def test_pictures_are_drawn_as_a_whole_and_classes_keep_their_share() -> None:
    found = made().chips
    drawn = redrawn(found, np.random.default_rng(0))
    assert np.bincount(drawn.classes).tolist() == np.bincount(found.classes).tolist()
    assert all(count % 4 == 0 for count in np.bincount(drawn.pictures).tolist())
    both = found.and_(found)
    assert len(np.unique(both.pictures)) == 2 * len(np.unique(found.pictures))


def test_the_table_has_a_row_for_each_way_to_learn() -> None:
    lines = table(made(), chips_of(4, 500), chips_of(10, 1000), NAMES, "clipped<0.5", 20)
    rows = [line for line in lines if line.startswith("|")][2:]
    assert [row.split(" | ")[1] for row in rows[:7]] == ["72", "36", "36", "12", "84", "48", "48"]
    assert rows[-1] == "| chance | | 0.333 | |"
    assert "forest 3, river 3, sea 3" in lines[-1]


def test_a_class_of_which_nothing_is_kept_is_left_as_it_is_and_named() -> None:
    found = made()
    scores = tuple({**each, "clipped": 1.0} if at >= 12 else each for at, each in enumerate(found.scores))
    lines = table(Made(found.chips, scores), chips_of(4, 500), chips_of(10, 1000), NAMES, "clipped<0.5", 20)
    assert lines[-1].endswith("all are kept: sea")
    assert "forest 3, river 3, sea 6" in lines[-2]


def test_an_interval_is_the_middle() -> None:
    assert interval(np.linspace(0, 1, 1001).tolist()) == "0.025 to 0.975"


@pytest.mark.parametrize("count", [1, 3])
def test_scores_are_of_pictures_not_of_chips(count: int) -> None:
    found = made(count)
    assert len(found.scores) == 3 * count and len(found.chips.classes) == 12 * count
    assert {0 < float(each["class_p"] or 0) <= 1 for each in found.scores} == {True}

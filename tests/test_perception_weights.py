"""The detectors that ship: small, with cards, and of some use on a held-out pair of the engine.

`change_pair/` is a part of pair 39 of `datasets.changes_engine`, which is held out: a field with haze over a part of it
on the first date and a wood on both, neither of them change, and new houses, which are. Grey in `change.png` is open.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perception.metrics import binary_confusion, binary_scores
from perception.pair import Pair, read_pair
from perception.registry import MODELS, load_detector

NAMES = ("cdmamba", "semantic-cd")
FIXTURE = Path(__file__).parent / "change_pair"
LARGEST_TOGETHER = 5_000_000
CARD_PARTS = (
    "## Data",
    "## Recipe",
    "## Held-out quality",
    "## Limits",
    "license: apache-2.0",
    "samples",
    "docs/change.md",
)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return read_pair(FIXTURE / "before.png", FIXTURE / "after.png")


def test_both_detectors_ship_and_are_small() -> None:
    folders = [MODELS[name].weights for name in NAMES]
    assert all(folder is not None for folder in folders)
    assert sum(path.stat().st_size for folder in folders if folder for path in folder.iterdir()) < LARGEST_TOGETHER


@pytest.mark.parametrize("name", NAMES)
def test_cards_say_what_users_must_know(name: str) -> None:
    card = MODELS[name].card
    assert card is not None
    assert [part for part in CARD_PARTS if part not in card] == []


@pytest.mark.parametrize("name", NAMES)
def test_what_ships_finds_more_than_nothing(name: str, pair: Pair) -> None:
    truth = np.asarray(Image.open(FIXTURE / "change.png"))
    found = load_detector(name).detect(pair)
    scores = binary_scores(binary_confusion(found.mask, truth == 255, truth != 128))
    # Nothing scores 0, everything 0.33.
    assert scores.f1 > 0.4


@pytest.mark.parametrize("name", NAMES)
def test_what_ships_sees_little_change_between_equal_pictures(name: str, pair: Pair) -> None:
    same = Pair(pair.before, pair.before)
    assert load_detector(name).detect(same).mask.mean() < 0.02


def test_the_shipped_semantic_model_takes_any_classes(pair: Pair) -> None:
    found = load_detector("semantic-cd").detect(pair, classes=["houses", "meadow", "lake"])
    assert found.classes == ("houses", "meadow", "lake")
    assert found.labels is not None
    assert set(np.unique(found.labels)) <= {0, 1, 2, 3}

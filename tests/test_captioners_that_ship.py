"""The captioners that ship: small, with cards, without `--weights`, and truthful about a held-out pair of the engine.

`change_pair/` is described in `test_perception_weights`: a field, and new houses on the second date.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earthgen.cli import main
from perception.captioner import ChangeInterpreter
from perception.metrics import binary_confusion, binary_scores
from perception.pair import Pair, read_pair
from perception.registry import MODELS, load, load_captioner
from trainingsets.change_captions import NOTHING, words

NAMES = ("rscama", "mci", "semantic-cc")
FIXTURE = Path(__file__).parent / "change_pair"
LARGEST = 8_000_000
CARD_PARTS = (
    "## Data",
    "## Recipe",
    "## Held-out quality",
    "## Limits",
    "license: apache-2.0",
    "samples seen",
    "docs/captions.md",
)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return read_pair(FIXTURE / "before.png", FIXTURE / "after.png")


@pytest.mark.parametrize("name", NAMES)
def test_weights_ship_are_small_and_have_a_card(name: str) -> None:
    folder, card = MODELS[name].weights, MODELS[name].card
    assert folder is not None
    assert card is not None
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < LARGEST
    assert [part for part in CARD_PARTS if part not in card] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_change_is_not_called_none(name: str, pair: Pair) -> None:
    assert load_captioner(name).caption(pair).text not in NOTHING


@pytest.mark.parametrize("name", ["rscama", "mci"])
def test_it_tells_of_the_new_houses(name: str, pair: Pair) -> None:
    said = load_captioner(name).caption(pair)
    assert said.ended
    assert set(said.text.split()) <= set(words())
    assert "building" in said.text or "built-up" in said.text


@pytest.mark.parametrize("name", NAMES)
def test_equal_pictures_are_not_called_changed(name: str, pair: Pair) -> None:
    assert load_captioner(name).caption(Pair(pair.before, pair.before)).text in NOTHING


def test_the_mask_finds_the_new_houses(pair: Pair) -> None:
    model = load("mci")
    assert isinstance(model, ChangeInterpreter)
    truth = np.asarray(Image.open(FIXTURE / "change.png"))
    padded = Pair(_square(pair.before), _square(pair.after))
    mask = model.detect(padded).mask[: truth.shape[0], : truth.shape[1]]
    # Nothing scores 0, everything 0.33.
    assert binary_scores(binary_confusion(mask, truth == 255, truth != 128)).f1 > 0.7


def _square(pixels: np.ndarray) -> np.ndarray:
    """Mirrored on to 256 pixels a side, the size that the networks were trained on."""
    height, width = (max(0, 256 - side) for side in pixels.shape[:2])
    return np.pad(pixels, ((0, height), (0, width), (0, 0)), mode="symmetric")


@pytest.mark.parametrize("name", NAMES)
def test_the_command_needs_no_weights(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["watch", "caption", str(FIXTURE / "before.png"), str(FIXTURE / "after.png"), "--model", name, "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["model"] == name
    assert said["text"]

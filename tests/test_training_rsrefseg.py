"""RSRefSeg's recipe: decks, batches, losses, that it learns, and that a stopped run goes on as it would have."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.referring_sets import SIDE, SceneSampler
from perception.checkpoint import FILE, read_network
from perception.rsrefseg import NAME, RSRefSeg, RSRefSegConfig
from tests.test_perception_rsrefseg import TINY
from tests.test_referring import ground
from training.referring_deck import Card, Deck
from training.rsrefseg import Settings, batch_of, box_around, clicks_on, losses_of, mask_loss, shares, train
from trainingsets.changes import generator

CONFIG = replace(TINY, image=256, patch=32, down=1)
SETTINGS = Settings(batch=2, phrases=3, things=2, warm_up=2, bfloat16=False)


@pytest.fixture(scope="module")
def deck(tmp_path_factory: pytest.TempPathFactory) -> Deck:
    folder = tmp_path_factory.mktemp("deck")
    made = Deck(folder, SceneSampler([ground()]))
    for number in range(4):
        made.card(number)
    return Deck(folder)


def fitting(card: Card) -> Card:
    """The card with a view on the tiny network's grid."""
    return replace(card, view=torch.nn.functional.adaptive_avg_pool2d(card.view[None], CONFIG.grid)[0])


class FittingDeck(Deck):
    def card(self, number: int) -> Card:
        return fitting(super().card(number))


def test_cards_are_kept_as_they_were_drawn(deck: Deck, tmp_path: Path) -> None:
    assert len(deck) == 4
    one, again = deck.card(2), Deck(tmp_path, SceneSampler([ground()])).card(2)
    assert one.texts == again.texts and one.sorts == again.sorts
    assert np.array_equal(one.masks, again.masks) and np.array_equal(one.known, again.known)
    assert np.array_equal(one.pixels, again.pixels)
    assert torch.equal(one.heard.words, again.heard.words) and torch.equal(one.view, again.view)
    with pytest.raises(FileNotFoundError, match="no card 9"):
        deck.card(9)


def test_clicks_lie_on_things_and_boxes_around_them() -> None:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[40:90, 100:180] = True
    for seed in range(40):
        random = generator(seed)
        points, labels = clicks_on(mask, random)
        assert labels[0] == 1
        for (column, row), label in zip(points.astype(int), labels, strict=True):
            if label >= 0:
                assert mask[row, column] == bool(label)
        box = box_around(mask, random)
        assert np.abs(box - [100, 40, 179, 89]).max() <= 8


def test_mask_loss_knows_only_what_is_known() -> None:
    target = torch.zeros(1, 8, 8)
    target[:, :, 4:] = 1
    weight = torch.ones(1, 8, 8)
    weight[:, 0] = 0
    right = 20 * (2 * target - 1)
    assert float(mask_loss(right, target, weight)) < 1e-4
    wrong = right.clone()
    wrong[:, 0] *= -1
    assert float(mask_loss(wrong, target, weight)) < 1e-4
    assert float(mask_loss(-right, target, weight)) > 10
    masks = torch.zeros(1, 2, SIDE, SIDE)
    masks[:, 0, :, : SIDE // 2], masks[:, 1] = 1, 1
    share, known = shares(masks, 1)
    assert float(share) == pytest.approx(0.5) and float(known) == 1


def test_every_part_learns(deck: Deck) -> None:
    torch.manual_seed(0)
    net = RSRefSeg(CONFIG).train()
    batch = batch_of([fitting(deck.card(number)) for number in range(4)], replace(SETTINGS, things=4), generator(5))
    assert len(batch.clicked) and len(batch.inside)
    sum(losses_of(net, batch).values()).backward()  # type: ignore[union-attr]
    still = {name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()}
    # SAM's other masks and the embedding of no mask are not asked for; a correction of words that are 0 has no slope.
    idle = ("sam.prompt_encoder.no_mask_embed", "sam.mask_decoder.output_hypernetworks_mlps")
    assert not [name for name in still if not name.startswith(idle)]


def test_some_phrases_can_be_learned_by_heart(deck: Deck) -> None:
    torch.manual_seed(0)
    net = RSRefSeg(CONFIG).train()
    batch = batch_of([fitting(deck.card(number)) for number in range(2)], SETTINGS, generator(5))
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    first = last = 0.0
    for _ in range(60):
        losses = losses_of(net, batch)
        last = float(losses["phrase"].detach())
        first = first or last
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimiser.step()
        optimiser.zero_grad()
        if last < 0.5 * first:
            break
    assert last < 0.5 * first, (first, last)


def test_a_stopped_run_goes_on_as_it_would_have(deck: Deck, tmp_path: Path) -> None:
    fits = FittingDeck(deck._folder)
    held = [fits.card(3)]
    for name, stops in (("whole", (8,)), ("parts", (4, 8))):
        for images in stops:
            # The rate falls over all images, so both runs are told of as many.
            train(CONFIG, fits, 4, held, tmp_path / name, replace(SETTINGS, last=1.0), images, 5, 4)
    _, one = read_network(tmp_path / "whole" / "weights", NAME, RSRefSegConfig)
    _, other = read_network(tmp_path / "parts" / "weights", NAME, RSRefSegConfig)
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    lines = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [4, 8]
    assert {"phrase", "likeness"} <= lines[-1].keys()
    assert (tmp_path / "whole" / "weights" / FILE).stat().st_size > 0

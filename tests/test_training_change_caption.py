"""Training of captioners: sentences are true of the crops that are seen, runs resume, commands refuse nonsense."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

import perception
from datasets.changes_composed import ENGINE, composed_of_engine
from perception import mci, rscama
from perception.caption_decoders import Sentence
from perception.lite_pyramid import LiteLevels
from perception.vocabulary import MARKS
from training import change_caption
from training.caption_deck import OTHER, CaptionSampler, Deck, Described, Drawing, changed_objects, unchanged
from training.change_caption import Ground, Net, Settings, Told, losses_of, main, measure, order_of, train
from trainingsets.change_captions import words
from trainingsets.changes import CLASSES, ChangeSample, batch_of, generator

FEW = Drawing(crop=64)
SETTINGS = Settings(batch=2, masks=1, half_life=10)
VOCABULARY = (*MARKS, *words())


def samples(count: int = 4, source: str = "engine", side: int = 80) -> list[ChangeSample]:
    """Grey ground on which a bright square of houses appears."""
    made = []
    for number in range(count):
        random = generator(12, number)
        before = random.integers(80, 100, (side, side, 3), dtype=np.uint8)
        top, left = (int(value) for value in random.integers(0, side - 24, 2))
        change = np.zeros((side, side), dtype=np.bool_)
        change[top : top + 24, left : left + 24] = True
        after = np.where(change[..., None], 240, before).astype(np.uint8)
        cover = np.full((side, side), 1 + CLASSES.index("bare ground"), dtype=np.uint8)
        later = np.where(change, 1 + CLASSES.index("building"), cover).astype(np.uint8)
        known = np.ones_like(change)
        made.append(ChangeSample(source, str(number), str(number), before, after, change, known, cover, later))
    return made


def tiny(model: str, *_: Any) -> Net:
    torch.manual_seed(0)
    if model == "rscama":
        config = replace(rscama.small(VOCABULARY), image=64, width=16, layers=1, heads=2, gpt_heads=2, longest=24)
        return rscama.RSCaMa(config)
    return mci.MCI(replace(mci.lite(VOCABULARY), widths=(4, 4, 8, 16), heads=2, longest=24))


def deck(folder: Path, drawing: Drawing = FEW, count: int = 4) -> Deck:
    return Deck(folder, CaptionSampler(samples(count), drawing))


def drawn(count: int, drawing: Drawing, count_of_samples: int = 4) -> list[Described]:
    sampler = CaptionSampler(samples(count_of_samples), drawing)
    return [sampler.draw(number) for number in range(count)]


# --- Cards ---


def test_a_draw_can_be_repeated_and_its_sentences_are_of_what_is_seen() -> None:
    sampler = CaptionSampler(samples(), FEW)
    first, second = ([sampler.draw(number) for number in range(4)] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.captions == other.captions
        assert np.array_equal(one.sample.after, other.sample.after)
        assert len(one.captions) == 5
    assert len({one.captions for one in first}) > 1


def test_some_draws_show_one_date_twice_on_two_days() -> None:
    still = [one for one in drawn(60, replace(FEW, unchanged=0.5)) if not one.sample.change.any()]
    assert 15 <= len(still) <= 50
    assert all("no" in text or "same" in text for one in still for text in one.captions)
    assert any(not np.array_equal(one.sample.before, one.sample.after) for one in still)


def test_samples_with_dates_of_their_own_get_no_more() -> None:
    one = CaptionSampler(samples(1, "chesapeake", 64), replace(FEW, unchanged=1.0)).draw(0)
    original = samples(1, "chesapeake", 64)[0]
    assert sorted(one.sample.after.ravel()) in (sorted(original.after.ravel()), sorted(original.before.ravel()))
    assert one.sample.change.any()


def test_sets_of_which_nothing_can_be_said_are_refused() -> None:
    doubtful = [replace(sample, known=np.zeros_like(sample.known)) for sample in samples()]
    with pytest.raises(ValueError, match="nothing can be said for certain"):
        CaptionSampler(doubtful, replace(FEW, unchanged=0.0)).draw(0)
    with pytest.raises(ValueError, match="no sample has 256 pixels"):
        CaptionSampler(samples(), Drawing())


def test_objects_are_marked_whether_they_came_or_went() -> None:
    (sample,) = samples(1)
    for seen in (sample, sample.swapped()):
        assert np.array_equal(changed_objects(seen, ("road", "building")) == 2, sample.change)
        assert not changed_objects(seen, ("road", "water")).any()
        assert np.array_equal(changed_objects(seen, ("road", "water", OTHER)) == 3, sample.change)
    assert not changed_objects(unchanged(sample), ("road", "building", OTHER)).any()


def test_a_card_is_kept_with_what_the_frozen_network_sees(tmp_path: Path) -> None:
    drawing = deck(tmp_path)
    first = drawing.card(1)
    kept = Deck(tmp_path)
    assert len(kept) == 1
    again = kept.card(1)
    assert again.captions == first.captions == kept.captions(1)
    assert np.array_equal(again.sample.after, first.sample.after)
    assert again.sample.source == "engine"
    levels = kept.levels(1)
    assert [tuple(level.shape) for level in levels] == [(2, 24, 16, 16), (2, 40, 8, 8), (2, 112, 4, 4), (2, 320, 2, 2)]
    images = batch_of([again.sample]).images[0]
    for level, other in zip(levels, LiteLevels()(images), strict=True):
        assert torch.nn.functional.cosine_similarity(level.float().flatten(), other.flatten(), dim=0) > 0.99
    with pytest.raises(FileNotFoundError, match="no card 2"):
        kept.card(2)


def test_a_run_sees_every_card_before_any_comes_again() -> None:
    numbers_of = order_of(0, 10)
    seen = [number for step in range(5) for number in numbers_of(step, 4)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


def test_pairs_composed_of_the_engines_know_what_was_laid_into_them() -> None:
    made = list(composed_of_engine(samples(side=256), "train", 12))
    assert {sample.source for sample in made} == {ENGINE}
    assert any(sample.change.any() for sample in made)
    bright = 1 + CLASSES.index("building")
    for sample in made:
        # Houses are the bright ones.
        assert np.array_equal(sample.after[..., 0] == 240, sample.cover_after == bright)
        assert np.array_equal(sample.change, sample.cover_before != sample.cover_after)


# --- Runs ---


@pytest.mark.parametrize("model", ["rscama", "mci"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(model: str, tmp_path: Path) -> None:
    cards, checked = deck(tmp_path / "deck"), drawn(2, FEW)
    for name, stops in (("whole", (8,)), ("parts", (4, 8))):
        for images in stops:
            train(model, tiny(model), cards, 6, checked, tmp_path / name, SETTINGS, images, 10.0, 4)
    whole, parts = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "parts"))
    for key in ("net", "ema"):
        assert all(torch.equal(whole[key][name], parts[key][name]) for name in whole[key]), key
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [4, 8]
    assert {"caption", "bleu4", "cider_d", "rouge_l", "change_told"} <= lines[-1].keys()
    opened = perception.load(model, tmp_path / "whole" / "weights")
    assert isinstance(opened, perception.ChangeCaptioner)
    sample = samples(1)[0]
    assert set(opened.caption(perception.Pair(sample.before, sample.after)).text.split()) <= {*words(), "<UNK>"}


def test_a_stage_of_mci_leaves_the_rest_alone(tmp_path: Path) -> None:
    net = tiny("mci")
    old = {name: value.clone() for name, value in net.state_dict().items()}
    cards = deck(tmp_path / "deck")
    train("mci", net, cards, 4, drawn(2, FEW), tmp_path / "run", SETTINGS, 4, 10.0, 4, stage="caption")
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, old[name])}
    assert moved
    assert all(name.startswith("captioning.") for name in moved)


@pytest.mark.parametrize("model", ["rscama", "mci"])
def test_what_is_learnt_from_cards_is_what_is_said_of_pictures(model: str, tmp_path: Path) -> None:
    net, cards = tiny(model).eval(), deck(tmp_path)
    one = cards.card(0)
    images = batch_of([one.sample]).images
    seen: list[torch.Tensor] = []
    decoder = change_caption.decoder_of(net)
    watching = decoder.register_forward_hook(lambda _module, inputs, _found: seen.append(inputs[0]))
    losses_of(net, Ground(16), "both", cards, [0], 1)
    watching.remove()
    from_card, from_picture = seen[0][:1].flatten(), net.see(images).flatten()
    assert torch.nn.functional.cosine_similarity(from_card, from_picture, dim=0) > 0.98


def test_a_decoder_alone_leaves_the_head_as_it_is_and_hears_the_same_from_it(tmp_path: Path) -> None:
    net, cards = tiny("rscama"), deck(tmp_path / "deck")
    old = {name: value.clone() for name, value in net.state_dict().items()}
    train("rscama", net, cards, 4, drawn(2, FEW), tmp_path / "run", SETTINGS, 8, 10.0, 8, decoder_only=True)
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, old[name])}
    assert moved
    assert all(name.startswith("decoder.") for name in moved)
    net.eval()
    kept = Told()
    for numbers in ([0, 1], [1, 2]):
        whole = losses_of(net, Ground(16), "both", cards, numbers, 0)["caption"]
        alone = losses_of(net, Ground(16), "both", cards, numbers, 0, kept)
        assert alone.keys() == {"caption"}
        assert torch.allclose(whole, alone["caption"], atol=1e-5)


def test_tokens_learn_what_ground_they_stand_for() -> None:
    torch.manual_seed(0)
    (sample,) = samples(1, side=64)
    ground, tokens = Ground(8), torch.nn.Parameter(torch.randn(1, 16, 8))
    optimiser = torch.optim.Adam([*ground.parameters(), tokens], 0.1)
    for _ in range(150):
        optimiser.zero_grad()
        loss = ground.loss(tokens, [sample])
        loss.backward()
        optimiser.step()
    found = ground(tokens)[0].detach()
    before, after = found[:, :6].argmax(dim=1), found[:, 6:12].argmax(dim=1)
    assert torch.equal(before, torch.from_numpy(sample.cover_before[8::16, 8::16].flatten()) - 1)
    assert torch.equal(after, torch.from_numpy(sample.cover_after[8::16, 8::16].flatten()) - 1)
    share = sample.change.reshape(4, 16, 4, 16).mean(axis=(1, 3)).flatten()
    assert np.abs(torch.sigmoid(found[:, 12]).numpy() - share).max() < 0.2


def test_the_loss_falls(tmp_path: Path) -> None:
    net, cards = tiny("rscama").train(), deck(tmp_path)
    optimiser = torch.optim.AdamW(net.parameters(), 5e-3)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = losses_of(net, Ground(16), "both", cards, range(4), 0)["caption"]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_what_is_measured_knows_change_from_none(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny("rscama").eval()
    described = drawn(6, replace(FEW, unchanged=0.5))
    answers = iter(described)
    numbers = {word: number for number, word in enumerate(VOCABULARY)}

    def right(*_: object, **__: object) -> list[Any]:
        one: Described = next(answers)
        said = tuple(numbers[word] for word in one.captions[0].split())
        return [Sentence(said, 0.0, True)]

    monkeypatch.setattr(change_caption, "search", right)
    found = measure(net, described)
    assert found["change_told"] == 1.0
    assert found["bleu4"] > 0.99


# --- The command ---


def run(*arguments: str) -> str:
    app = Typer()
    app.command()(main)
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2
    return done.output


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "run"), "--deck", str(tmp_path / "none"), "--pairs", str(tmp_path)]
    assert "none of rscama, mci" in run("--model", "x", *out)
    assert "none of transformer, gpt, mamba" in run("--model", "rscama", "--decoder", "x", *out)
    assert "only mci is trained in stages" in run("--model", "rscama", "--stage", "caption", *out)
    assert "no cards in" in run("--model", "mci", *out)
    assert not (tmp_path / "run").exists()


def test_the_command_trains_what_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_caption, "build", tiny)
    monkeypatch.setattr(change_caption, "held_out_pairs", lambda pairs, count: drawn(2, FEW))
    cards = deck(tmp_path / "deck")
    for number in range(4):
        cards.card(number)
    app = Typer()
    app.command()(main)
    folders = ["--deck", str(tmp_path / "deck"), "--pairs", str(tmp_path)]
    first = ["--model", "mci", *folders, "--out", str(tmp_path / "mci"), "--images", "16", "--tick", "16"]
    done = CliRunner().invoke(app, first)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "mci" / "weights" / "model.safetensors").is_file()
    start = str(tmp_path / "mci" / "weights")
    more = [*first, "--out", str(tmp_path / "stage"), "--stage", "detection", "--start", start]
    done = CliRunner().invoke(app, more)
    assert done.exit_code == 0, done.output

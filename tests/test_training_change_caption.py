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
from datasets.change_captions import words
from datasets.changes import CLASSES, ChangeSample, generator
from perception.caption_decoders import Sentence
from perception.mci import MCI
from perception.rscama import RSCaMa
from perception.vocabulary import MARKS
from tests.test_perception_mci import TINY as MCI_TINY
from tests.test_perception_rscama import TINY as RSCAMA_TINY
from training import change_caption
from training.change_caption import (
    CaptionSampler,
    Described,
    Net,
    Settings,
    changed_objects,
    losses_of,
    main,
    measure,
    train,
)

FEW = Settings(batch=2, crop=64, half_life=10)
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
        return RSCaMa(replace(RSCAMA_TINY, words=VOCABULARY, longest=24, layers=1))
    return MCI(replace(MCI_TINY, words=VOCABULARY, longest=24, layers=1))


# --- Draws ---


def test_a_draw_can_be_repeated_and_its_sentences_are_of_what_is_seen() -> None:
    sampler = CaptionSampler(samples(), FEW)
    first, second = (sampler.draw(3, 4) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.captions == other.captions
        assert np.array_equal(one.sample.after, other.sample.after)
        assert len(one.captions) == 5
    assert any(one.captions != other.captions for one, other in zip(first, sampler.draw(4, 4), strict=True))


def test_some_draws_show_one_date_twice_on_two_days() -> None:
    drawn = CaptionSampler(samples(), replace(FEW, unchanged=0.5)).draw(0, 60)
    still = [one for one in drawn if not one.sample.change.any()]
    assert 15 <= len(still) <= 50
    assert all("no" in text or "same" in text for one in still for text in one.captions)
    assert any(not np.array_equal(one.sample.before, one.sample.after) for one in still)


def test_samples_with_dates_of_their_own_get_no_more() -> None:
    (one,) = CaptionSampler(samples(1, "chesapeake", 64), replace(FEW, unchanged=1.0)).draw(0, 1)
    original = samples(1, "chesapeake", 64)[0]
    assert sorted(one.sample.after.ravel()) in (sorted(original.after.ravel()), sorted(original.before.ravel()))
    assert one.sample.change.any()


def test_sets_of_which_nothing_can_be_said_are_refused() -> None:
    doubtful = [replace(sample, known=np.zeros_like(sample.known)) for sample in samples()]
    with pytest.raises(ValueError, match="nothing can be said for certain"):
        CaptionSampler(doubtful, replace(FEW, unchanged=0.0)).draw(0, 1)
    with pytest.raises(ValueError, match="no sample has 256 pixels"):
        CaptionSampler(samples(), Settings())


def test_objects_are_marked_whether_they_came_or_went() -> None:
    (sample,) = samples(1)
    for seen in (sample, sample.swapped()):
        kinds = changed_objects(seen, ("road", "building"))
        assert np.array_equal(kinds == 2, sample.change)
        assert not changed_objects(seen, ("road", "water")).any()


# --- Runs ---


@pytest.mark.parametrize("model", ["rscama", "mci"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(model: str, tmp_path: Path) -> None:
    for name, stops in (("whole", (8,)), ("parts", (4, 8))):
        for images in stops:
            train(model, tiny(model), samples(), samples(2), tmp_path / name, FEW, images, 10.0, 4)
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
    train("mci", net, samples(), samples(2), tmp_path, FEW, 4, 10.0, 4, stage="caption")
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, old[name])}
    assert moved
    assert all(name.startswith("captioning.") for name in moved)


def test_the_loss_falls() -> None:
    net = tiny("rscama").train()
    drawn = CaptionSampler(samples(), FEW).draw(0, 4)
    optimiser = torch.optim.AdamW(net.parameters(), 5e-3)
    losses = []
    for step in range(25):
        optimiser.zero_grad()
        loss = losses_of(net, "both", drawn, generator(0, step))["caption"]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_what_is_measured_knows_change_from_none(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny("rscama").eval()
    drawn = CaptionSampler(samples(), replace(FEW, unchanged=0.5)).draw(0, 6)
    answers = iter(drawn)
    numbers = {word: number for number, word in enumerate(VOCABULARY)}

    def right(*_: object) -> list[Any]:
        one: Described = next(answers)
        said = tuple(numbers[word] for word in one.captions[0].split())
        return [Sentence(said, 0.0, True)]

    monkeypatch.setattr(change_caption, "search", right)
    found = measure(net, drawn)
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
    out = ["--out", str(tmp_path / "run")]
    assert "none of rscama, mci" in run("--model", "x", *out)
    assert "none of transformer, gpt, mamba" in run("--model", "rscama", "--decoder", "x", *out)
    assert "only mci is trained in stages" in run("--model", "rscama", "--stage", "caption", *out)
    assert "100 is no multiple of 32" in run("--model", "mci", "--crop", "100", *out)
    assert not (tmp_path / "run").exists()


def test_the_command_trains_what_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_caption, "build", tiny)
    monkeypatch.setattr(change_caption, "read_pairs", lambda mix, split, pairs, labels: samples())
    app = Typer()
    app.command()(main)
    words = ["--model", "mci", "--out", str(tmp_path / "mci"), "--images", "8", "--tick", "8", "--crop", "64"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "mci" / "weights" / "model.safetensors").is_file()
    more = [
        *words,
        "--out",
        str(tmp_path / "stage"),
        "--stage",
        "detection",
        "--start",
        str(tmp_path / "mci" / "weights"),
    ]
    done = CliRunner().invoke(app, more)
    assert done.exit_code == 0, done.output

"""Bands from labelled pairs: what is read, what is learnt, and that a resumed run is the same run."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.bands import class_numbers, read_picture, report
from datasets.labelled import Labelled, Split, coarser, read_labelled, read_pairs
from datasets.packs import DatasetNotFoundError
from earthgen.bandnet import load_band_net
from earthgen.bands import BANDS, BandView
from tests.stand_in import CoordinateEngine
from tests.tiny import tiny_net
from tests.tiny_bands import tiny_band_net
from training.bands import PairSampler, Settings, band_loss, data_folder, set_weights, train
from training.checkpoint import load_checkpoint

RED_IS_BRIGHT = Settings(batch=2, learning_rate=1e-2, warm_up=2, graded_share=0.0, remade_share=0.0, ema_half_life=8)


def write_pairs(folder: Path, sides: tuple[int, ...] = (160, 128, 64)) -> Path:
    """Pictures whose red is what a sensor sees; a code 1 where red is more than half."""
    random = np.random.default_rng(0)
    (folder / "rgb").mkdir(parents=True)
    (folder / "target").mkdir()
    with (folder / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "split", "gsd"])
        for index, side in enumerate(sides * 2):
            image = random.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(image).save(folder / "rgb" / f"p{index}.png")
            Image.fromarray(image[..., 0]).save(folder / "target" / f"p{index}.png")
            table.writerow([f"p{index}", "train" if index < len(sides) else "val", 0.5])
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs")


def run(pairs: Path, out: Path, images: int) -> None:
    def read(split: Split) -> list[Labelled]:
        return list(read_pairs(pairs, "sar", split))

    train(BANDS["sar"], read, out, 60.0, RED_IS_BRIGHT, 8, images, net=tiny_band_net("sar"), cascade=tiny_net())


def test_a_band_is_learnt_from_ones_own_pairs_and_shown(pairs: Path, tmp_path: Path) -> None:
    run(pairs, tmp_path / "sar", 120)
    weights = tmp_path / "sar" / "weights"
    net = load_band_net(weights, BANDS["sar"])
    item = next(iter(read_pairs(pairs, "sar", "val")))
    error = np.abs(read_picture(net, item).astype(int) - item.target).mean()
    # Half of the mean error that a constant makes of evenly spread values, 64.
    assert error < 32
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sar").symlink_to(weights)
    assert BandView(CoordinateEngine(), "sar", tmp_path / "own").weights_id.startswith("stand-in+sar-")
    assert list((tmp_path / "sar" / "sheets").glob("*.jpg"))


def test_a_resumed_run_is_the_same_run(pairs: Path, tmp_path: Path) -> None:
    run(pairs, tmp_path / "whole", 16)
    run(pairs, tmp_path / "halves", 8)
    run(pairs, tmp_path / "halves", 16)
    whole, halves = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "halves"))
    assert (whole["step"], whole["images"]) == (halves["step"], halves["images"]) == (8, 16)
    for part in ("model", "ema"):
        for name, value in whole[part].items():
            assert torch.equal(value, halves[part][name]), name


def test_draws_are_addressed_and_pictures_stay_with_their_targets(pairs: Path) -> None:
    items = list(read_pairs(pairs, "sar", "train"))
    sampler = PairSampler(items, 128, 3)
    one, again, other = (PairSampler(items, 128, 3).draw(n, 4) for n in (5, 5, 6))
    assert torch.equal(one.colours, again.colours) and not torch.equal(one.colours, other.colours)
    red = ((sampler.draw(0, 4).colours[:, 0] + 1) * 127.5).round()
    assert torch.equal(red, sampler.draw(0, 4).target.float())
    assert not PairSampler(items, 512, 0)
    assert PairSampler(items, 64, 0, largest_side=128).draw(0, 2).target.shape == (2, 64, 64)


def test_the_loss_asks_for_one_of_the_classes_that_a_label_allows() -> None:
    logits = torch.zeros(1, 7, 1, 3)
    logits[0, 1, 0, 0] = logits[0, 2, 0, 0] = 30.0
    weights = torch.ones(256)
    weights[0] = 0
    pixel = torch.tensor([[[0b0000110, 0, 0]]], dtype=torch.uint8)
    assert float(band_loss(logits, pixel, weights)) == pytest.approx(0, abs=1e-5)
    wrong = torch.tensor([[[0b0001000, 0, 0]]], dtype=torch.uint8)
    assert float(band_loss(logits, wrong, weights)) == pytest.approx(30 + math.log(2), abs=1e-3)
    even = torch.tensor([[[0, 0b1, 0b1111111]]], dtype=torch.uint8)
    assert float(band_loss(logits, even, weights)) == pytest.approx(math.log(7) / 2, abs=1e-5)
    # Pixels of which nothing is known make no gradient, and no NaN either.
    logits.requires_grad_()
    band_loss(logits, torch.zeros(1, 1, 3, dtype=torch.uint8), weights).backward()
    assert logits.grad is not None and not logits.grad.any()


def test_rare_labels_weigh_more_and_unknown_ones_nothing() -> None:
    target = np.full((64, 64), 2, dtype=np.uint8)
    target[:4], target[4:6] = 1, 0
    item = Labelled("p", "n", 1.0, np.zeros((64, 64, 3), dtype=np.uint8), target)
    weights = set_weights([item], BANDS["landcover"])
    assert weights is not None
    assert weights[0] == 0 and weights[1] > weights[2] > 0
    assert set_weights([item], BANDS["nir"]) is None


def test_coarser_levels_are_means_of_colours_and_picks_of_classes() -> None:
    image = np.zeros((256, 256, 3), dtype=np.uint8)
    image[::2] = 100
    target = np.where(np.indices((256, 256))[0] % 2 == 1, 4, 1).astype(np.uint8)
    levels = coarser(Labelled("p", "n", 1.0, image, target), "landcover", 100.0)
    assert [(level.gsd, level.image.shape[0]) for level in levels] == [(1.0, 256), (2.0, 128), (4.0, 64)]
    assert set(np.unique(levels[1].image)) == {50}
    assert set(np.unique(levels[1].target)) <= {1, 4}
    assert set(np.unique(coarser(Labelled("p", "n", 1.0, image, image[..., 0]), "nir", 100.0)[1].target)) == {50}
    assert len(coarser(Labelled("p", "n", 1.0, image, target), "landcover", 1.5)) == 1


def test_legends_become_sets_and_bare_files_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "labels" / "dubai_segmentation"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    (tmp_path / "imagery").mkdir()
    (folder / "images.csv").write_text("name,split\na,train\nb,val\n")
    mask = np.repeat(np.arange(6, dtype=np.uint8)[None], 6, axis=0)
    Image.fromarray(np.zeros((6, 6, 3), dtype=np.uint8)).save(folder / "images" / "a.jpg")
    Image.fromarray(mask).save(folder / "masks" / "a.png")
    with pytest.raises(DatasetNotFoundError, match="chesapeake_naip_landcover is missing"):
        for item in read_labelled(tmp_path, "landcover", "train"):
            assert item.target[0].tolist() == [0, 1 << 5, 1 << 3, 1 << 4 | 1 << 6, 1 << 1 | 1 << 2, 1]
    with pytest.raises(DatasetNotFoundError, match="chesapeake"):
        for item in read_labelled(tmp_path, "buildings", "train"):
            assert item.target[0].tolist() == [0, 2, 1, 1, 1, 1]
    with pytest.raises(DatasetNotFoundError, match=r"band 'sar'.*folder of pairs"):
        list(read_labelled(tmp_path, "sar", "train"))
    with pytest.raises(DatasetNotFoundError, match=r"pairs\.csv is missing"):
        list(read_pairs(tmp_path, "sar", "train"))
    monkeypatch.delenv("EARTHGEN_DATA", raising=False)
    with pytest.raises(DatasetNotFoundError, match="EARTHGEN_DATA"):
        data_folder(None)


def test_pairs_of_classes_hold_the_codes_of_the_legend(pairs: Path) -> None:
    item = next(iter(read_pairs(pairs, "buildings", "train")))
    red = item.image[..., 0]
    assert (item.target == np.select([red == 0, red == 1], [1, 2], 0)).all()


def test_scores_are_those_of_the_books() -> None:
    truth = np.array([1, 1, 1, 2, 2, 2], dtype=np.uint8)
    guess = np.array([1, 1, 2, 2, 2, 1], dtype=np.uint8)
    numbers = class_numbers(guess, truth, BANDS["buildings"])
    assert numbers == pytest.approx({"accuracy": 4 / 6, "mIoU": 0.5, "F1": 2 / 3})
    # A label of two classes is right with either; where labels share classes there is no union to speak of.
    shared = np.array([6, 6, 2], dtype=np.uint8)
    assert class_numbers(np.array([2, 4, 1], dtype=np.uint8), shared, BANDS["landcover"]) == {
        "accuracy": pytest.approx(2 / 3)
    }


def test_a_report_has_baselines_from_training_pixels_alone(pairs: Path) -> None:
    split: dict[Split, list[Labelled]] = {name: list(read_pairs(pairs, "sar", name)) for name in ("train", "val")}
    rows = {row.what: row.numbers for row in report(tiny_band_net("sar"), BANDS["sar"], split["train"], split["val"])}
    # The target is the red of the pixel: least squares find it, a constant cannot.
    assert rows["colour"]["MAE"] < 1e-6 and rows["colour"]["R2"] > 0.999
    assert rows["constant"]["MAE"] > 50
    assert set(rows) == {"earthgen", "colour", "constant"}

"""`earthgen watch segment`: a mask of a phrase, of clicks or of a box, or one sentence about why there is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

import perception
import perception.registry
from earthgen.cli import main
from perception.rsrefseg import save
from tests.test_perception_rsrefseg import tiny


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save(folder, tiny())
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with two pictures, one of which has a place on Earth; no weights ship."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(perception.registry, "_WEIGHTS", tmp_path / "none")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("plain.png")
    profile = {"driver": "GTiff", "width": 56, "height": 40, "count": 3, "dtype": "uint8", "crs": "EPSG:3857"}
    with rasterio.open("placed.tif", "w", transform=Affine(2, 0, 1e6, 0, -2, 6e6), **profile) as dataset:
        dataset.write(np.moveaxis(pixels, -1, 0))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["watch", "segment", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_phrase_becomes_a_mask_by_the_files_ending(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = perception.load("rsrefseg", weights).segment(perception.read_image("placed.tif"), "the river")
    for name in ("mask.tif", "mask.png", "mask.geojson"):
        code, said = run(capsys, "placed.tif", "the river", "-o", name, "--weights", weights)
        assert code == 0, said
        assert said.startswith(f"{name}: {int(expected.mask.sum())} of 2240 pixels")
    with rasterio.open("mask.tif") as dataset:
        assert np.array_equal(dataset.read(1), expected.mask)
        assert dataset.crs.to_epsg() == 3857
    areas = json.loads(Path("mask.geojson").read_text())["features"]
    assert sum(area["properties"]["pixels"] for area in areas) == expected.mask.sum()


def test_clicks_and_boxes_take_the_place_of_a_phrase(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segmenter, picture = perception.load("rsrefseg", weights), perception.read_image("plain.png")
    clicked = segmenter.segment_click(picture, [(10, 20), (3, 4)], [1, 0])
    code, said = run(capsys, "plain.png", "-o", "a.tif", "--click", "10,20", "--not", "3,4", "--weights", weights)
    assert code == 0 and "click 10,20, not 3,4" in said
    boxed = segmenter.segment_box(picture, (5, 6, 30, 31))
    code, said = run(capsys, "plain.png", "-o", "b.tif", "--box", "5,6,30,31", "--weights", weights)
    assert code == 0 and "box 5,6,30,31" in said
    for name, found in (("a.tif", clicked), ("b.tif", boxed)):
        with rasterio.open(name) as dataset:
            assert np.array_equal(dataset.read(2), np.rint(found.probability * 255))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plain.png", "-o", "m.tif"], "give one of a phrase"),
        (["plain.png", "the river", "-o", "m.tif", "--click", "1,2"], "give one of a phrase"),
        (["plain.png", "", "-o", "m.tif"], "the phrase is empty"),
        (["plain.png", "x" * 10_000, "-o", "m.tif"], "the phrase has 10000 characters; at most 300 are allowed"),
        (["plain.png", "вода", "-o", "m.tif"], "a letter of another script"),
        (["plain.png", "-o", "m.tif", "--click", "1"], "--click is '1'; column and row"),
        (["plain.png", "-o", "m.tif", "--click", "99,2"], "click 99,2 is outside the picture of 56 x 40 pixels"),
        (["plain.png", "-o", "m.tif", "--box", "1,2,3"], "--box is '1,2,3'; two corners"),
        (["plain.png", "-o", "m.tif", "--box", "1,2,99,9"], "outside the picture"),
        (["plain.png", "-o", "m.tif", "--box", "9,2,1,9"], "is empty"),
        (["plain.png", "the river", "-o", "m.tif", "--not", "1,2"], "--click must say where it is"),
        (["plain.png", "the river", "-o", "m.geojson"], "has no reference system"),
        (["plain.png", "the river", "-o", "m.jpg"], "m.jpg"),
        (["plain.png", "the river", "-o", "plain.png"], "plain.png is the picture"),
        (["none.png", "the river", "-o", "m.tif"], "none.png does not exist"),
        (["plain.png", "the river", "-o", "m.tif", "--model", "cdmamba"], "cdmamba is for binary change detection"),
    ],
)
def test_mistakes_are_one_sentence(
    weights: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, text = run(capsys, *arguments, "--weights", weights)
    assert code == 2
    assert said in text and "Traceback" not in text
    assert not Path("m.tif").exists() and not Path("m.geojson").exists()

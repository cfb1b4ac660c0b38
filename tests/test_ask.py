"""`earthgen ask`: answers on the command line, exports, conversations line by line, and one sentence for bad input."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

import perception.agent.opening
from benchmarks.agent_dialogues import ColourDetector, pairs
from earthgen.cli import main
from earthgen.pyramid import bounds_box
from perception.registry import MODELS
from tests.fake_detector import install
from tests.fake_tileserver import PaintedEngine
from tests.test_perception_service import SNOWY

PICTURES = ["--before", "town-before.tif", "--after", "town-after.tif", "-q"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the drawn pairs; the detector that ships reads their colours, and nobody else has weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(perception.agent.opening, "load_detector", lambda *_, **__: ColourDetector())
    monkeypatch.setattr("perception.registry._WEIGHTS", tmp_path / "weights")
    (tmp_path / "weights" / "semantic-cd").mkdir(parents=True)
    (tmp_path / "weights" / "semantic-cd" / "model.safetensors").write_bytes(b"")
    assert MODELS["semantic-cd"].weights is not None
    for name in ("town", "paper"):
        pair = pairs()[name]
        for date, pixels in (("before", pair.before), ("after", pair.after)):
            if pair.crs is None:
                Image.fromarray(pixels).save(f"{name}-{date}.png")
                continue
            profile = {"driver": "GTiff", "count": 3, "height": 240, "width": 240, "dtype": "uint8"}
            where: dict[str, Any] = {"crs": pair.crs, "transform": pair.transform}
            with rasterio.open(f"{name}-{date}.tif", "w", **profile, **where) as dataset:
                dataset.write(np.moveaxis(pixels, -1, 0))
    return tmp_path


def test_an_answer_is_a_sentence_with_its_notes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "count the new buildings", *PICTURES]) == 0
    assert capsys.readouterr().out == "3 areas that became building, 2,320 m².\n(Areas that touch count as one.)\n"


def test_json_is_the_whole_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "how many hectares of forest were lost?", *PICTURES, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["steps"][0]["value"]["area_m2"] == pytest.approx(13680, rel=0.005)
    assert answer["memory"]["tool"] == "area"
    assert answer["areas"]["type"] == "FeatureCollection"


def test_exports_are_files_under_free_names(capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    for _ in range(2):
        assert main(["ask", "export the new buildings as geojson", *PICTURES, "--folder", "out"]) == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["new-building-2.geojson", "new-building.geojson"]
    assert len(json.loads(Path("out/new-building.geojson").read_text())["features"]) == 3
    assert "wrote out/new-building-2.geojson" in capsys.readouterr().out


def test_a_conversation_is_read_line_by_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "count the new buildings\n\nand the roads?\n" + "x" * 600 + "\nshow me those as a mask\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    assert main(["ask", *PICTURES]) == 0
    out = capsys.readouterr().out
    assert "3 areas that became building" in out
    assert "1 area that became road" in out
    assert "the question has 600 characters" in out
    with rasterio.open("new-road.tif") as dataset:
        assert dataset.read(1).sum() == 720
        assert dataset.crs.to_epsg() == 32632


def test_pictures_without_coordinates_have_a_size_if_somebody_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    plain = ["--before", "paper-before.png", "--after", "paper-after.png", "-q"]
    assert main(["ask", "how many m2 of forest were lost?", *plain]) == 0
    assert "no reference system" in capsys.readouterr().out
    assert main(["ask", "how many m2 of forest were lost?", *plain, "--pixel-size", "2"]) == 0
    assert capsys.readouterr().out == "13,680 m² in 3 areas of tree that were lost.\n"


def test_two_days_of_a_world_are_compared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from contextlib import nullcontext

    from earthgen.cli_options import EngineOptions

    with pytest.MonkeyPatch.context() as patch:
        detectors = install(patch, tmp_path / "differences")
        detector = detectors["semantic-cd"]
    monkeypatch.setattr(perception.agent.opening, "load_detector", lambda *_, **__: detector)
    monkeypatch.setattr(EngineOptions, "open", lambda _: nullcontext(PaintedEngine()))
    Path("edits.json").write_text(json.dumps(SNOWY["edits"]))
    words = ["world", "new", "--root", "planet", "--seed", "7", "--edits", "edits.json", "--cache", "cache"]
    assert main(words) == 0
    name = capsys.readouterr().out.split("\n")[0]
    where = ["--world", name, "--cache", "cache", "--bbox", "11.40,47.26,11.404,47.262", "--zoom", "16", "-q"]
    assert main(["ask", "how many areas changed, and when?", *where, "--dates", "2026-04-30,2026-05-01", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["steps"][0]["value"]["count"] == 1
    assert "Between 2026-04-30 and 2026-05-01" in answer["text"]
    pair, _ = detector.asked[-1]
    box = bounds_box((11.40, 47.26, 11.404, 47.262), 16)
    assert pair.shape == (box.height, box.width)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["what?"], "give either --before and --after, or --bbox and --dates of a world"),
        (["what?", "--before", "town-before.tif"], "give either --before and --after"),
        (["what?", *PICTURES, "--bbox", "1,2,3,4", "--dates", "a,b"], "give either --before and --after"),
        (["", *PICTURES], "the question is empty"),
        (["x" * 501, *PICTURES], "the question has 501 characters; at most 500 are allowed"),
        (["what?", *PICTURES, "--folder", "nowhere"], "folder nowhere does not exist"),
        (["what?", "--before", "gone.tif", "--after", "town-after.tif"], "gone.tif does not exist"),
        (["what?", *PICTURES, "--model", "rscama"], "rscama is for change captioning"),
        (["what?", *PICTURES, "--model", "nobody"], "no model is called 'nobody'"),
        (["what?", *PICTURES, "--llm", "http://127.0.0.1:1/v1"], "say which model of"),
        (["what?", *PICTURES, "--llm", "ftp://127.0.0.1/", "--llm-model", "m"], "is no address of a language model"),
        (["what?", *PICTURES, "--llm", "nowhere"], "no language model at nowhere"),
        (["what?", "--bbox", "1,2,3", "--dates", "2026-01-01,2026-02-01"], "bbox is '1,2,3'"),
        (["what?", "--bbox", "11.4,47.2,11.5,47.3", "--dates", "2026-01-01,2026-02-01"], "give either --zoom or --gsd"),
        (["what?", "--bbox", "11.4,47.2,11.5,47.3", "--dates", "2026-01-01", "--zoom", "9"], "two different days"),
        (
            ["what?", "--bbox", "11.4,47.2,11.5,47.3", "--dates", "2026-02-01,2026-01-01", "--zoom", "9"],
            "is later than",
        ),
        (["what?", "--bbox", "11.4,47.2,11.5,47.3", "--dates", "soon,2026-01-01", "--zoom", "9"], "soon"),
        (["what?", "--bbox", "1,40,9,48", "--dates", "2026-01-01,2026-02-01", "--zoom", "18"], "pixels at zoom 18"),
    ],
)
def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    assert main(["ask", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("earthgen: ")
    assert says in said.err
    assert said.err.count("\n") == 1

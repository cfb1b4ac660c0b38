"""Segmentation over real HTTP: where is looked and for what, what comes back, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from rasterio.io import MemoryFile

from earthgen.pyramid import bounds_box, box_bounds
from perception.rsrefseg import save
from tests.fake_segmenter import BrightSegmenter, install
from tests.fake_tileserver import PaintedEngine
from tests.test_perception_rsrefseg import tiny
from tests.test_service_live import running

BBOX = [11.40, 47.26, 11.404, 47.262]
BOX = bounds_box((11.40, 47.26, 11.404, 47.262), 16)
SNOW = [[11.401, 47.2605], [11.402, 47.2605], [11.402, 47.2612], [11.401, 47.2612]]
SNOWY = {
    "root": "planet",
    "seed": 7,
    "edits": [{"action": "snow", "polygon": SNOW, "valid_from": "2026-05-01"}],
}
ASKED = {"bbox": BBOX, "zoom": 16, "date": "2026-05-02"}


@pytest.fixture
def segmenter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> BrightSegmenter:
    return install(monkeypatch, tmp_path / "weights")


@pytest.fixture
def base(segmenter: BrightSegmenter, tmp_path: Path) -> Iterator[str]:
    with running(PaintedEngine(), perception_weights=tmp_path / "weights") as base:
        yield base


@pytest.fixture
def route(base: str) -> str:
    """Address of segmentation in a world in which it snows."""
    name = httpx.post(f"{base}/worlds", json=SNOWY).json()["name"]
    return f"{base}/worlds/{name}/perception/segment"


def post(route: str, body: Any, **options: Any) -> httpx.Response:
    return httpx.post(route, json=body, timeout=60, **options)


def test_a_phrase_gives_the_areas_where_they_are(route: str, segmenter: BrightSegmenter) -> None:
    answer = post(route, ASKED | {"phrase": "the snow"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/geo+json"
    assert answer.headers["cache-control"] == "no-store"
    assert "segmenter=rsrefseg-" in answer.headers["x-earthgen"]
    found = answer.json()
    (area,) = found["features"]
    west, south, east, north = (np.array(area["geometry"]["coordinates"][0]).T[k] for k in (0, 1, 0, 1))
    assert west.min() == pytest.approx(11.401, abs=5e-5) and east.max() == pytest.approx(11.402, abs=5e-5)
    assert south.min() == pytest.approx(47.2605, abs=5e-5) and north.max() == pytest.approx(47.2612, abs=5e-5)
    assert found["found_pixels"] == area["properties"]["pixels"] > 100
    assert found["found_m2"] == pytest.approx(area["properties"]["area_m2"], rel=0.01)
    assert found["asked"] == {"phrase": "the snow"}
    assert found["predicted_iou"] is None
    assert found["bbox"] == pytest.approx(list(box_bounds(BOX)))
    assert segmenter.asked == [("phrase", "the snow")]


def test_a_day_before_the_snow_has_none(route: str) -> None:
    found = post(route, ASKED | {"phrase": "the snow", "date": "2026-04-30"}).json()
    assert found["features"] == [] and found["found_pixels"] == 0
    assert found["date"] == "2026-04-30"


def test_the_mask_comes_as_a_picture_and_as_a_geotiff_of_the_same_answer(
    route: str, segmenter: BrightSegmenter
) -> None:
    body = ASKED | {"phrase": "the snow"}
    first = post(route, body)
    shown = post(route, body, params={"format": "png"})
    assert shown.headers["content-type"] == "image/png" and shown.headers["x-cache"] == "HIT"
    picture = np.asarray(Image.open(io.BytesIO(shown.content)))
    assert picture.shape == (BOX.height, BOX.width, 4)
    assert (picture[..., 3] > 0).sum() == first.json()["found_pixels"]
    assert post(route, body, headers={"Accept": "image/png"}).headers["content-type"] == "image/png"
    written = post(route, body, headers={"Accept": "image/tiff"})
    with MemoryFile(written.content) as memory, memory.open() as dataset:
        assert dataset.crs.to_epsg() == 3857
        assert (dataset.read(1) > 0).sum() == first.json()["found_pixels"]
        assert dataset.tags()["SYNTHETIC"].startswith("yes")
    assert len(segmenter.asked) == 1


def test_clicks_and_boxes_are_places_on_earth(route: str, segmenter: BrightSegmenter) -> None:
    click = {"longitude": 11.4015, "latitude": 47.2609}
    found = post(route, ASKED | {"clicks": [click, {"longitude": 11.403, "latitude": 47.2609, "inside": False}]}).json()
    ((way, (points, labels)),) = segmenter.asked
    assert way == "click" and labels == [1, 0]
    west, south, east, north = box_bounds(BOX)
    assert points[0][0] == pytest.approx((11.4015 - west) / (east - west) * BOX.width, abs=1.5)
    assert points[0][1] == pytest.approx((north - 47.2609) / (north - south) * BOX.height, abs=1.5)
    assert found["predicted_iou"] == 0.75
    assert len(found["features"]) == 1
    found = post(route, ASKED | {"box": [11.401, 47.2605, 11.402, 47.2612]}).json()
    left, top, right, bottom = segmenter.asked[-1][1]
    assert right - left == pytest.approx(0.001 / (east - west) * BOX.width, abs=2)
    assert bottom - top == pytest.approx(0.0007 / (north - south) * BOX.height, abs=2)
    assert found["found_m2"] == pytest.approx(0.001 * 0.0007 * 111_170 * 75_500, rel=0.1)


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        ({}, 422, "give one of phrase, clicks and box, not none of them"),
        ({"phrase": "the snow", "box": BBOX}, 422, "not phrase and box"),
        ({"phrase": " "}, 422, "the phrase is empty"),
        ({"phrase": "x" * 500}, 422, "the phrase has 500 characters"),
        ({"phrase": "x" * 10_000}, 422, "at most 1000 characters"),
        ({"phrase": "снег"}, 422, "another script"),
        ({"clicks": []}, 422, "at least 1 item"),
        ({"clicks": [{"longitude": 11.5, "latitude": 47.261}]}, 422, "click 11.5,47.261 is outside the area"),
        ({"box": [11.39, 47.2605, 11.402, 47.2612]}, 422, "box's corner 11.39,47.2612 is outside the area"),
        ({"box": [11.402, 47.2605, 11.401, 47.2612]}, 422, "is empty"),
        ({"phrase": "the snow", "model": "cdmamba"}, 422, "cdmamba is for binary change detection"),
        ({"phrase": "the snow", "model": "nobody"}, 422, "no model is called 'nobody'"),
        ({"phrase": "the snow", "zoom": 4}, 422, "at least 16 a side are needed"),
        ({"phrase": "the snow", "bbox": [11, 47, 12, 48]}, 413, "ask for a smaller area or a lower zoom"),
        ({"phrase": "the snow", "gsd": 1.0}, 422, "give either zoom or gsd"),
    ],
)
def test_what_makes_no_sense_is_refused(
    route: str, segmenter: BrightSegmenter, more: Any, status: int, said: str
) -> None:
    answer = post(route, ASKED | more)
    assert answer.status_code == status, answer.text
    assert said in answer.text
    assert segmenter.asked == []


def test_a_day_belongs_into_the_body(route: str) -> None:
    answer = post(route, ASKED | {"phrase": "the snow"}, params={"date": "2026-05-01"})
    assert answer.status_code == 422 and "say it in the body" in answer.text


def test_a_server_finds_things_with_a_real_network(tmp_path: Path) -> None:
    save(tmp_path / "rsrefseg", tiny())
    with running(PaintedEngine(), perception_weights=tmp_path) as base:
        (listed,) = (
            model
            for model in httpx.get(f"{base}/perception/models").json()["models"]
            if model["task"] == "referring segmentation"
        )
        assert listed["name"] == "rsrefseg" and listed["available"] and listed["classes"] == []
        answers = [
            post(f"{base}/worlds/planet/perception/segment", {"bbox": BBOX, "zoom": 16, "phrase": "the river"})
            for _ in range(2)
        ]
        assert answers[0].status_code == 200, answers[0].text
        assert answers[0].content == answers[1].content
        refused = httpx.post(
            f"{base}/worlds/planet/perception/detect",
            json={"bbox": BBOX, "zoom": 16, "after_world": {"seed": 8}, "model": "rsrefseg"},
        )
        assert refused.status_code == 422 and "models that find changes" in refused.text

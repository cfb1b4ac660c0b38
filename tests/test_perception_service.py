"""Change detection over HTTP: what is compared, what comes back, who has to wait, and what is refused."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod
from rasterio.io import MemoryFile

import perception
import perception.registry
from earthgen.pyramid import MAX_ZOOM, Box, bounds_box, box_bounds, box_mercator_bounds, world_size
from earthgen.world import Edit, World
from perception import semantic_cd
from perception.cdmamba import CDMamba, CDMambaConfig
from perception.checkpoint import FILE, save_network
from perception.pair import Pair
from tests.fake_detector import CLASSES, DifferenceDetector, install
from tests.fake_engine import FakeEngine, colours
from tests.fake_tileserver import EDIT_COLOURS, PaintedEngine
from tests.test_service_live import eventually, running, waiting
from tileserver.detect import MOST_AREAS, pixel_areas

BBOX = [11.40, 47.26, 11.404, 47.262]
BOX = bounds_box((11.40, 47.26, 11.404, 47.262), 16)
DETECT = "/worlds/planet/perception/detect"
DAYS = {"bbox": BBOX, "zoom": 16, "before_date": "2026-04-30", "after_date": "2026-05-01"}
SEEDS = {"bbox": BBOX, "zoom": 16, "after_world": {"seed": 8}}
MANY = {"bbox": [11.40, 47.26, 11.42, 47.27], "zoom": 16, "after_world": {"seed": 8}, "model": "semantic-cd"}
"""With 642,000 pixels."""
SNOW = {
    "action": "snow",
    "polygon": [[11.401, 47.2605], [11.402, 47.2605], [11.402, 47.2612], [11.401, 47.2612]],
    "valid_from": "2026-05-01",
}
SNOWY = {"root": "planet", "seed": 7, "edits": [SNOW]}


def post(base: str, body: Any, path: str = DETECT, **options: Any) -> httpx.Response:
    return httpx.post(base + path, json=body, timeout=60, **options)


@pytest.fixture
def detectors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, DifferenceDetector]:
    return install(monkeypatch, tmp_path / "weights")


@pytest.fixture
def base(detectors: dict[str, DifferenceDetector], tmp_path: Path) -> Iterator[str]:
    """A service that compares pixel by pixel, over an engine that paints edits."""
    with running(PaintedEngine(), perception_weights=tmp_path / "weights") as base:
        yield base


# --- What is compared, and what comes back ---


def test_the_area_of_an_edit_is_what_changed_between_two_days(
    base: str, detectors: dict[str, DifferenceDetector]
) -> None:
    name = httpx.post(f"{base}/worlds", json=SNOWY).json()["name"]
    answer = post(base, DAYS, f"/worlds/{name}/perception/detect")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/geo+json"
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    ((pair, classes),) = detectors["cdmamba"].asked
    engine = PaintedEngine()
    before = World("planet", 7)
    after = World("planet", 7, edits=(Edit(tuple(map(tuple, SNOW["polygon"])), action="snow"),))  # type: ignore[arg-type]
    assert np.array_equal(pair.before, engine.pixels(before, BOX))
    assert np.array_equal(pair.after, engine.pixels(after, BOX))
    assert classes is None
    assert found["before"] == {"world": before.id, "date": "2026-04-30"}
    assert found["after"] == {"world": after.id, "date": "2026-05-01"}
    assert before.id in answer.headers["x-earthgen"] and after.id in answer.headers["x-earthgen"]
    mask = (pair.after == EDIT_COLOURS["snow"]).all(axis=-1)
    assert found["changed_pixels"] == mask.sum() > 100
    assert (found["width"], found["height"], found["zoom"]) == (BOX.width, BOX.height, 16)
    assert found["bbox"] == pytest.approx(box_bounds(BOX))

    (area,) = found["features"]
    assert found["left_out"] == 0
    assert area["properties"]["pixels"] == found["changed_pixels"]
    ring = np.array(area["geometry"]["coordinates"][0])
    pixel = 360 / world_size(16)
    assert ring.min(axis=0) == pytest.approx([11.401, 47.2605], abs=2 * pixel)
    assert ring.max(axis=0) == pytest.approx([11.402, 47.2612], abs=2 * pixel)
    # Two ways to the same square metres: polygons on the ellipsoid, and pixels.
    assert area["properties"]["area_m2"] == pytest.approx(found["changed_m2"], rel=1e-4)
    assert found["total_m2"] == pytest.approx(BOX.width * BOX.height * pixel_areas(BOX).mean(), rel=1e-6)


def test_the_change_map_is_a_geotiff_where_it_is_asked_for_and_is_not_made_twice(
    base: str, detectors: dict[str, DifferenceDetector]
) -> None:
    found = post(base, SEEDS, params={"seed": 7})
    assert found.headers["x-cache"] == "MISS"
    tiff = post(base, SEEDS, params={"seed": 7, "format": "tif"})
    assert (tiff.headers["content-type"], tiff.headers["x-cache"]) == ("image/tiff", "HIT")
    by_accept = post(base, SEEDS, params={"seed": 7}, headers={"Accept": "image/tiff"})
    assert by_accept.content == tiff.content
    both = post(base, SEEDS, params={"seed": 7}, headers={"Accept": "image/tiff, application/geo+json"})
    assert both.json() == found.json()
    assert len(detectors["cdmamba"].asked) == 1
    left, bottom, right, top = box_mercator_bounds(BOX)
    with MemoryFile(tiff.content) as memory, memory.open() as dataset:
        assert dataset.crs.to_epsg() == 3857
        assert dataset.bounds == pytest.approx((left, bottom, right, top))
        assert dataset.shape == (BOX.height, BOX.width)
        assert dataset.read(1).sum() == found.json()["changed_pixels"]
        tags = dataset.tags()
    assert tags["SYNTHETIC"].startswith("yes")
    assert tags["EARTHGEN_BEFORE"] == World("planet", 7).id
    assert json.loads(tags["EARTHGEN_AFTER_JSON"])["seed"] == 8


@pytest.mark.parametrize(
    ("path", "query", "after_world", "before", "after"),
    [
        ("planet", {}, {"seed": 9}, World("planet"), World("planet", 9)),
        ("planet", {"seed": 7}, {"world": "earth"}, World("planet", 7), World("earth")),
        ("earth", {"seed": 7}, {"world": "planet", "seed": 7}, World("earth", 7), World("planet", 7)),
        (
            "prompt",
            {"prompt": "a town", "gsd": 1, "seed": 4},
            {"prompt": "a forest"},
            World("prompt", 4, "a town", gsd=1),
            World("prompt", 4, "a forest", gsd=1),
        ),
    ],
)
def test_the_later_world_is_the_same_but_for_what_is_said_of_it(
    base: str, path: str, query: dict[str, Any], after_world: dict[str, Any], before: World, after: World
) -> None:
    body = {"bbox": BBOX, "zoom": 16, "after_world": after_world}
    found = post(base, body, f"/worlds/{path}/perception/detect", params=query).json()
    assert (found["before"]["world"], found["after"]["world"]) == (before.id, after.id)


def test_a_registered_world_is_compared_with_what_it_was_edited_from(base: str) -> None:
    name = httpx.post(f"{base}/worlds", json=SNOWY).json()["name"]
    for path, other in (("planet", {"world": name}), (name, {"world": "planet", "seed": 7})):
        body = {"bbox": BBOX, "zoom": 16, "after_world": other}
        query = {"seed": 7} if path == "planet" else {}
        (area,) = post(base, body, f"/worlds/{path}/perception/detect", params=query).json()["features"]
        assert area["properties"]["pixels"] > 100


def test_metres_per_pixel_choose_the_zoom(base: str) -> None:
    # 1.7 m at zoom 16 and 47 degrees north.
    for gsd, zoom in ((1.7, 16), (1.6, 17), (5, 15)):
        assert post(base, {"bbox": BBOX, "gsd": gsd, "after_world": {"seed": 8}}).json()["zoom"] == zoom


def test_classes_are_said_of_both_days(base: str, detectors: dict[str, DifferenceDetector]) -> None:
    body = SEEDS | {"model": "semantic-cd"}
    own = post(base, body).json()
    assert own["model"]["classes"] == list(CLASSES)
    assert {area["properties"]["after"] for area in own["features"]} <= set(CLASSES)
    other = post(base, body | {"classes": ["sea", "land", "ice"]}).json()
    assert other["model"]["classes"] == ["sea", "land", "ice"]
    assert detectors["semantic-cd"].asked[-1][1] == ["sea", "land", "ice"]
    with MemoryFile(post(base, body, params={"format": "tif"}).content) as memory, memory.open() as dataset:
        assert dataset.count == 4


class Speckled(FakeEngine):
    """Every fourth pixel of both directions is another in an odd world."""

    def pixels(self, world: World, box: Box, **options: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
        image = np.zeros_like(colours(world, box))
        image[::4, ::4] = world.seed % 2
        return image


def test_a_storm_of_small_areas_is_cut_and_counted(detectors: dict[str, DifferenceDetector], tmp_path: Path) -> None:
    bbox = box_bounds(Box(16, 22000, 35000, 256, 256))
    with running(Speckled(), perception_weights=tmp_path / "weights") as base:
        found = post(base, {"bbox": bbox, "zoom": 16, "after_world": {"seed": 1}}).json()
    assert found["changed_pixels"] == 64 * 64
    assert len(found["features"]) == MOST_AREAS
    assert found["left_out"] == 64 * 64 - MOST_AREAS


@given(st.data())
def test_rows_of_pixels_have_the_area_that_they_have_on_the_ellipsoid(data: st.DataObject) -> None:
    zoom = data.draw(st.integers(6, MAX_ZOOM))
    row = data.draw(st.integers(0, world_size(zoom) - 1))
    west, south, east, north = box_bounds(Box(zoom, row, 0, 1, 1))
    # A parallel is no geodesic: its points are given.
    steps = np.linspace(west, east, 50)
    longitudes = [*steps, *steps[::-1]]
    latitudes = [south] * 50 + [north] * 50
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(longitudes, latitudes)
    assert pixel_areas(Box(zoom, row, 0, 1, 1))[0] == pytest.approx(abs(area), rel=1e-3, abs=1e-3)


# --- Models ---


def test_models_say_what_they_do_and_whether_they_are_here(base: str, tmp_path: Path) -> None:
    listed = httpx.get(f"{base}/perception/models").json()
    assert listed["max_pixels"] == 1024 * 1024
    assert listed["max_classes"] == semantic_cd.MOST_CLASSES
    binary, semantic, *_ = listed["models"]
    assert (binary["name"], binary["available"], binary["classes"]) == ("cdmamba", True, [])
    assert (semantic["classes"], semantic["any_classes"]) == (list(CLASSES), True)
    assert "absent" not in binary


def test_a_model_without_weights_says_so(
    detectors: dict[str, DifferenceDetector], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perception.registry, "_WEIGHTS", tmp_path / "none")
    (tmp_path / "weights" / "semantic-cd" / FILE).unlink()
    with running(PaintedEngine(), perception_weights=tmp_path / "weights") as base:
        _, semantic, *_ = httpx.get(f"{base}/perception/models").json()["models"]
        assert (semantic["available"], semantic["absent"]) == (False, "its weights are not installed")
        answer = post(base, SEEDS | {"model": "semantic-cd"})
        assert answer.status_code == 422
        detail = "model semantic-cd has no weights on this server; models with weights: cdmamba"
        assert answer.json() == {"detail": detail}


def test_a_real_network_answers_as_it_does_at_home_and_a_damaged_one_is_our_fault(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = CDMambaConfig(channels=8, blocks=(1, 0, 0, 0), states=4)
        save_network(tmp_path / "cdmamba", "cdmamba", config, CDMamba(config))
    small = {"bbox": box_bounds(Box(16, 22000, 35000, 48, 64)), "zoom": 16, "after_world": {"seed": 8}}
    with running(FakeEngine(), perception_weights=tmp_path) as base:
        found = post(base, small, params={"seed": 7})
        assert found.status_code == 200, found.text
        box = Box(16, 22000, 35000, 48, 64)
        pair = Pair(colours(World("planet", 7), box), colours(World("planet", 8), box))
        mask = perception.load("cdmamba", tmp_path / "cdmamba").detect(pair).mask
        assert found.json()["changed_pixels"] == mask.sum()
        assert found.json()["model"]["weights"] in found.headers["x-earthgen"]
    weights = tmp_path / "cdmamba" / FILE
    weights.write_bytes(weights.read_bytes()[:-9])
    with running(FakeEngine(), perception_weights=tmp_path) as base:
        answer = post(base, small)
        assert answer.status_code == 500
        assert httpx.get(f"{base}/perception/models").json()["models"][0]["absent"] == "its weights are damaged"


# --- Who has to wait ---


def test_detections_have_a_bounded_queue_and_stand_in_nobodys_way(
    detectors: dict[str, DifferenceDetector], tmp_path: Path
) -> None:
    gate = detectors["cdmamba"].gate
    gate.clear()
    settings = {"perception_weights": tmp_path / "weights", "detect_queue": 1, "region_threads": 1, "region_queue": 0}
    with running(PaintedEngine(), **settings) as base, ThreadPoolExecutor(2) as clients:
        held = [clients.submit(post, base, SEEDS)]
        eventually(lambda: len(detectors["cdmamba"].asked) == 1)
        held.append(clients.submit(post, base, SEEDS | {"after_world": {"seed": 9}}))
        eventually(lambda: waiting(base, "detections") == 1)
        refused = post(base, SEEDS | {"after_world": {"seed": 10}})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "1 detections wait already" in refused.json()["detail"]
        assert httpx.get(f"{base}/worlds/planet/preview.png?max_size=16").status_code == 200
        gate.set()
        assert [answer.result().status_code for answer in held] == [200, 200]


def test_a_client_that_hangs_up_ends_its_detection(detectors: dict[str, DifferenceDetector], tmp_path: Path) -> None:
    detector = detectors["cdmamba"]
    detector.gate.clear()
    with running(PaintedEngine(), perception_weights=tmp_path / "weights") as base:
        url = httpx.URL(base)
        gone = http.client.HTTPConnection(url.host, url.port)
        gone.request("POST", DETECT, json.dumps(SEEDS), {"Content-Type": "application/json"})
        eventually(lambda: len(detector.asked) == 1)
        gone.close()
        # Its place is free although it was never let go: the next one is begun.
        with ThreadPoolExecutor(1) as client:
            answer = client.submit(post, base, SEEDS | {"after_world": {"seed": 9}})
            eventually(lambda: len(detector.asked) == 2)
            detector.gate.set()
            assert answer.result().status_code == 200


# --- What is refused ---


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "bbox is missing"),
        ({"bbox": BBOX, "after_world": {"seed": 8}}, 422, "give either zoom or gsd"),
        ({**SEEDS, "gsd": 1}, 422, "give either zoom or gsd"),
        ({"bbox": BBOX, "zoom": 16}, 422, "before and after are the same; give two dates, or after_world"),
        ({**DAYS, "after_date": "2026-04-30"}, 422, "before and after are the same"),
        ({**DAYS, "before_date": "2026-06-01"}, 422, "before_date 2026-06-01 is later than after_date 2026-05-01"),
        ({**DAYS, "after_date": "2026-13-01"}, 422, "2026-13-01"),
        ({**SEEDS, "zoom": 19}, 422, "less than or equal to 18"),
        ({**SEEDS, "zoom": None, "gsd": 0.01}, 400, "finer than"),
        ({**SEEDS, "zoom": None, "gsd": -1}, 422, "greater than 0"),
        ({**SEEDS, "bbox": [11, 47, 12]}, 422, "bbox"),
        ({**SEEDS, "bbox": [12, 47, 11, 48]}, 400, "west must be less than east"),
        ({**SEEDS, "bbox": [11, 88, 12, 89]}, 400, "outside Web Mercator"),
        ({**SEEDS, "bbox": [11, 47, 12, 48]}, 413, "pixels at zoom 16; at most 1048576 are allowed"),
        ({**SEEDS, "model": "cdmambo"}, 422, "no model is called 'cdmambo'"),
        ({**SEEDS, "classes": ["a"]}, 422, "cdmamba finds that something changed, not what"),
        ({**SEEDS, "classes": ["a"] * 65}, 422, "at most 64"),
        ({**MANY, "classes": [f"c{i}" for i in range(32)]}, 413, "at most 524288 are allowed with 32 classes"),
        ({**SEEDS, "after_world": {"seed": -1}}, 422, "seed is -1"),
        ({**SEEDS, "after_world": {"root": "earth"}}, 422, "root"),
        ({**SEEDS, "after_world": {"world": "atlantis"}}, 404, "atlantis"),
        ({**SEEDS, "after_world": {"prompt": "a wood"}}, 422, "know no text"),
        ({**SEEDS, "weights": "/etc"}, 422, "weights"),
        ([], 422, "dictionary"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    base: str, detectors: dict[str, DifferenceDetector], body: Any, status: int, says: str
) -> None:
    answer = post(base, body)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]
    assert answer.headers["cache-control"] == "no-store"
    assert not any(detector.asked for detector in detectors.values())


@pytest.mark.parametrize(
    ("path", "query", "content", "status", "says"),
    [
        ("/worlds/atlantis/perception/detect", {}, json.dumps(SEEDS), 404, "atlantis"),
        ("/worlds/prompt/perception/detect", {}, json.dumps(SEEDS), 422, "prompt"),
        (DETECT, {"date": "2026-05-01"}, json.dumps(SEEDS), 422, "say before_date and after_date in the body"),
        (DETECT, {"seed": "x"}, json.dumps(SEEDS), 422, "seed is 'x'"),
        (DETECT, {"format": "png"}, json.dumps(SEEDS), 422, "format is 'png'"),
        (DETECT, {}, "{", 422, "JSON"),
        (DETECT, {}, '{"bbox": [NaN, 1, 2, 3]}', 422, "bbox"),
        (DETECT, {}, "[" * (1 << 20) + "]", 413, "request body"),
    ],
)
def test_addresses_and_bodies_that_make_no_sense_are_one_sentence(
    base: str, path: str, query: dict[str, str], content: str, status: int, says: str
) -> None:
    answer = httpx.post(base + path, params=query, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]

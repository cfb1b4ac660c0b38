"""Finding changes on the map, in a real browser over real HTTP: the service itself over an engine that paints edits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import rasterio

from tests.browser import IDLE, PHONE, OpenPage, answer, nameless, outside, pixel, serve
from tests.fake_detector import DifferenceDetector, install
from tests.fake_tileserver import EDIT_COLOURS, create_painted_app
from tileserver import Settings

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

VIEW = "&projection=flat&z=9.00&lat=10.0000&lon=20.0000"
PLANET = "/#world=planet&seed=3" + VIEW
CENTRE = (500, 240)
"""In the window, right of the panel, and in the snow."""
SNOW = {
    "action": "snow",
    "polygon": [[20.1, 9.9], [20.6, 9.9], [20.6, 10.1], [20.1, 10.1]],
    "valid_from": "2026-05-01",
}
WORLD = {"root": "planet", "seed": 3, "edits": [SNOW]}

Detectors = dict[str, DifferenceDetector]


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detectors]:
    with pytest.MonkeyPatch.context() as patch:
        yield install(patch, tmp_path_factory.mktemp("perception") / "weights")


@pytest.fixture(scope="module")
def site(detectors: Detectors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server with the map."""
    weights = next(tmp_path_factory.getbasetemp().glob("perception*/weights"))
    with serve(create_painted_app(settings=Settings(perception_weights=weights))) as address:
        yield address


@pytest.fixture(scope="module")
def snowy(site: str) -> str:
    """Id of a world in which it snows on the first of May."""
    return str(httpx.post(f"{site}/worlds", json=WORLD).json()["name"])


def open_changes(page: Any) -> None:
    page.click("#changes summary")
    expect(page.locator("#changes-run")).to_be_enabled()


def run(page: Any) -> str:
    """Find changes; gives what the page says of them."""
    page.click("#changes-run")
    expect(page.locator("#changes-result")).to_be_visible()
    page.wait_for_selector(IDLE, state="attached")
    return str(page.inner_text("#changes-summary"))


def bodies(page: Any) -> list[Any]:
    """What the page asks the detectors from now on."""
    asked: list[Any] = []
    detect = re.compile("/perception/detect")
    page.on("request", lambda request: asked.extend([request.post_data_json] if detect.search(request.url) else []))
    return asked


def snow_is_plain(page: Any) -> bool:
    return all(abs(a - b) < 12 for a, b in zip(pixel(page, *CENTRE), EDIT_COLOURS["snow"], strict=True))


def drawn(page: Any, condition: Callable[[Any], bool]) -> bool:
    """Whether the map comes to show something: it draws in its own time."""
    for _ in range(100):
        if condition(page):
            return True
        page.wait_for_timeout(100)
    return False


def test_two_days_to_areas_on_the_map_and_files(open_page: OpenPage, snowy: str, tmp_path: Path) -> None:
    """Opens an edited world, compares the days around its edit, sees where, flies there, and saves both files."""
    page = open_page(f"/#world={snowy}{VIEW}")
    page.wait_for_selector(IDLE, state="attached")
    assert page.is_hidden("#changes-result")
    open_changes(page)
    edges = (
        "e => [e.getBoundingClientRect().right, document.querySelector('#changes-run').getBoundingClientRect().right]"
    )
    right, most = page.eval_on_selector("#changes-after", edges)
    assert right <= most
    assert page.input_value("#changes-before") == "2026-04-30"
    assert page.input_value("#changes-after") == "2026-05-01"
    page.fill("#changes-after", "2026-06-01")
    asked = bodies(page)
    said = run(page)
    assert re.match(r"1 area changed: 1\d{3} km², \d+\.\d % of \d+ km² at \d+ m/px$", said), said
    assert page.inner_text("#live") == said
    (body,) = asked
    assert (body["before_date"], body["after_date"]) == ("2026-04-30", "2026-06-01")
    assert "after_world" not in body
    west, south, east, north = body["bbox"]
    assert west < 20 < east and south < 10 < north

    assert drawn(page, lambda page: not snow_is_plain(page))
    page.uncheck("#changes-overlay")
    page.wait_for_function("document.documentElement.dataset.map === 'idle'")
    assert drawn(page, snow_is_plain)
    page.check("#changes-overlay")

    with page.expect_download() as download:
        page.click("#changes-geojson")
    download.value.save_as(tmp_path / download.value.suggested_filename)
    found = json.loads((tmp_path / "changes.geojson").read_text())
    assert len(found["features"]) == 1
    assert found["after"] == {"world": found["after"]["world"], "date": "2026-06-01"}
    with page.expect_download() as download:
        page.click("#changes-geotiff")
    download.value.save_as(tmp_path / download.value.suggested_filename)
    with rasterio.open(tmp_path / "changes.tif") as dataset:
        assert dataset.crs.to_epsg() == 3857
        assert dataset.read(1).sum() == found["changed_pixels"]
    # The same question, not another one.
    assert asked[1:] == [body]

    page.click("#changes-list button")
    expect(page).to_have_url(re.compile(r"lon=20\.3\d*"))
    page.click("#changes-clear")
    assert page.is_hidden("#changes-result")
    assert page.inner_text("#live") == "Changes removed from the map"
    assert page.complaints == []


def test_two_worlds_by_seed_and_without_edits(open_page: OpenPage, snowy: str, detectors: Detectors) -> None:
    page = open_page(PLANET)
    open_changes(page)
    page.click("#changes label:has-text('Two worlds')")
    page.fill("#changes-seed", "3")
    page.click("#changes-run")
    expect(page.locator("#changes-error")).to_have_text("That is the seed of the world on screen")
    assert page.get_attribute("#changes-seed", "aria-invalid") == "true"
    page.fill("#changes-seed", "9223372036854775807")
    with page.expect_request("**/perception/detect*") as sent:
        run(page)
    assert page.inner_text("#changes-error") == ""
    # Digits that JavaScript's own numbers would lose.
    assert "seed=9223372036854775807" in sent.value.url
    assert '"after_world":{"world":"planet","seed":3}' in sent.value.post_data
    # Another world is opened: what was found is not there.
    page.click("#dice")
    assert page.is_hidden("#changes-result")

    page = open_page(f"/#world={snowy}{VIEW}")
    open_changes(page)
    page.click("#changes label:has-text('Two worlds')")
    choices = page.locator("#changes-world option").all_inner_texts()
    assert choices[0] == "This world without its edits"
    assert "Real Earth" in choices
    assert page.is_hidden("#changes-seed-field")
    with page.expect_request("**/perception/detect*") as sent:
        assert run(page).startswith("1 area changed")
    assert sent.value.post_data_json["after_world"] == {"world": snowy}
    assert "/worlds/planet/perception/detect?seed=3&" in sent.value.url
    assert page.complaints == []


def test_classes_are_asked_for_where_a_model_takes_them(open_page: OpenPage, snowy: str, detectors: Detectors) -> None:
    page = open_page(f"/#world={snowy}{VIEW}")
    open_changes(page)
    assert page.is_hidden("#changes-classes-field")
    page.select_option("#changes-model", "semantic-cd")
    assert page.get_attribute("#changes-classes", "placeholder") == "dark, bright"
    page.fill("#changes-classes", "ground, <b>ice</b>, ground")
    page.click("#changes-run")
    expect(page.locator("#changes-error")).to_have_text("A class is listed twice")
    page.fill("#changes-classes", " ground, <b>ice</b> ,")
    run(page)
    assert detectors["semantic-cd"].asked[-1][1] == ["ground", "<b>ice</b>"]
    expect(page.locator("#changes-list li").first).to_contain_text("<b>ice</b>")
    assert page.complaints == []


def test_comparison_says_that_it_works_and_can_be_cancelled(
    open_page: OpenPage, snowy: str, detectors: Detectors
) -> None:
    detector = detectors["cdmamba"]
    page = open_page(f"/#world={snowy}{VIEW}")
    open_changes(page)
    page.fill("#changes-after", "2027-01-01")
    detector.gate.clear()
    try:
        page.click("#changes-run")
        expect(page.locator("#changes-progress-text")).to_have_text(re.compile(r"Comparing, [1-9]\d* s"))
        assert page.is_disabled("#changes-run")
        assert page.get_attribute("#changes-form", "aria-busy") == "true"
        page.click("#changes-cancel")
        expect(page.locator("#changes-progress")).to_be_hidden()
        assert page.get_attribute("#changes-form", "aria-busy") == "false"
        assert page.inner_text("#live") == "Comparison cancelled"
        assert page.evaluate("document.activeElement.id") == "changes-run"
        assert page.inner_text("#changes-error") == ""
    finally:
        detector.gate.set()
    assert run(page).startswith("1 area changed")
    assert page.complaints == []


def test_what_cannot_be_compared_says_why(open_page: OpenPage, snowy: str) -> None:
    page = open_page(f"/#world={snowy}{VIEW}")
    open_changes(page)
    error = page.locator("#changes-error")
    page.fill("#changes-after", "2026-04-30")
    page.click("#changes-run")
    expect(error).to_have_text("After must come later than Before")
    assert page.evaluate("document.activeElement.id") == "changes-after"
    page.fill("#changes-before", "")
    page.click("#changes-run")
    expect(error).to_have_text("Give a day of the calendar")
    page.fill("#changes-before", "2026-04-29")
    assert page.complaints == []
    busy = "4 detections wait already, and at most 4 may; try again in 5 s"
    page.route("**/perception/detect*", answer(503, busy))
    page.click("#changes-run")
    expect(error).to_have_text(f"Changes cannot be found: {busy}")
    assert page.is_enabled("#changes-run")
    page.unroute("**/perception/detect*")
    assert run(page) == "No changes found at 301 m/px"
    assert page.inner_text("#changes-error") == ""
    # The browser itself mentions an answer that is an error.
    assert all("503" in complaint for complaint in page.complaints)


def test_server_without_weights_or_without_an_answer_says_so(open_page: OpenPage) -> None:
    absent = {"name": "cdmamba", "title": "CDMamba", "available": False, "classes": [], "any_classes": False}
    absent["task"] = "binary change detection"
    captioner = absent | {"name": "captioner", "task": "captions", "available": True}
    listed = json.dumps({"models": [captioner, absent], "max_pixels": 4096, "max_classes": 64, "free_classes": 16})
    page = open_page(
        PLANET, before=lambda page: page.route("**/perception/models", lambda route: route.fulfill(body=listed))
    )
    page.click("#changes summary")
    expect(page.locator("#changes-error")).to_have_text("This server has no weights of a model that finds changes.")
    assert page.locator("#changes-model option").all_inner_texts() == ["CDMamba (no weights here)"]
    assert page.is_disabled("#changes-run")

    page = open_page(PLANET, before=lambda page: page.route("**/perception/models", lambda route: route.abort()))
    page.click("#changes summary")
    expect(page.locator("#changes-error")).to_have_text("The models cannot be read: The server does not answer")
    page.unroute("**/perception/models")
    page.click("#changes summary")
    open_changes(page)
    expect(page.locator("#changes-error")).to_have_text("")


def test_pixels_are_no_more_than_the_server_takes(open_page: OpenPage) -> None:
    page = open_page(PLANET)
    zooms = page.evaluate(
        """async () => {
            const { pixelsOf, zoomFor } = await import("./static/js/change_area.js");
            const box = { west: 0, south: 40, east: 1, north: 41 };
            return [pixelsOf(box, 8), zoomFor(box, 12, 0, 2 ** 20), zoomFor(box, 9, 0, 2 ** 20),
                zoomFor({ west: -180, south: -85, east: 180, north: 85 }, 12, 4, 2 ** 20)];
        }"""
    )
    # A degree is 182 pixels of zoom 8 from west to east, and 240 at 40.5 degrees from south to north.
    assert zooms == [{"width": 184, "height": 241}, 10, 9, None]


def test_panel_by_keyboard_and_on_a_phone(open_page: OpenPage, snowy: str) -> None:
    page = open_page(f"/#world={snowy}{VIEW}", **PHONE)
    page.wait_for_selector(IDLE, state="attached")
    page.keyboard.press("x")
    expect(page.locator("#changes-model")).to_be_focused()
    expect(page.locator("#changes-run")).to_be_enabled()
    page.tap("#changes-run")
    expect(page.locator("#changes-result")).to_be_visible()
    for between in ("Two worlds", "Two days"):
        page.tap(f"#changes label:has-text('{between}')")
        assert outside(page) == []
        assert nameless(page) == []
    for button in ("#changes-geotiff", "#changes-geojson", "#changes-clear", "#changes-run"):
        page.locator(button).scroll_into_view_if_needed()
        assert page.locator(button).bounding_box()["height"] >= 34
    assert page.complaints == []

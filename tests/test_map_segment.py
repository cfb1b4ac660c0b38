"""Finding things on the map, in a real browser over real HTTP: the service itself over an engine that paints edits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser import IDLE, PHONE, OpenPage, answer, nameless, outside, pixel, serve
from tests.fake_segmenter import BrightSegmenter, install
from tests.fake_tileserver import EDIT_COLOURS, create_painted_app
from tests.test_map_changes import CENTRE, VIEW, WORLD
from tileserver import Settings

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrightSegmenter]:
    with pytest.MonkeyPatch.context() as patch:
        yield install(patch, tmp_path_factory.mktemp("segmenting") / "weights")


@pytest.fixture(scope="module")
def site(segmenter: BrightSegmenter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server with the map."""
    weights = next(tmp_path_factory.getbasetemp().glob("segmenting*/weights"))
    with serve(create_painted_app(settings=Settings(perception_weights=weights))) as address:
        yield address


@pytest.fixture(scope="module")
def snowy(site: str) -> str:
    """Id of a world in which it snows on the first of May."""
    return str(httpx.post(f"{site}/worlds", json=WORLD).json()["name"])


def opened(open_page: OpenPage, world: str, **options: Any) -> Any:
    page = open_page(f"/#world={world}{VIEW}&date=2026-05-02", **options)
    page.wait_for_selector(IDLE, state="attached")
    page.click("#segment summary")
    expect(page.locator("#segment-run")).to_be_enabled()
    return page


def find(page: Any, phrase: str) -> str:
    page.fill("#segment-phrase", phrase)
    page.click("#segment-run")
    expect(page.locator("#segment-result")).to_be_visible()
    page.wait_for_selector(IDLE, state="attached")
    return str(page.inner_text("#segment-summary"))


def is_plain(page: Any) -> bool:
    return all(abs(a - b) < 12 for a, b in zip(pixel(page, *CENTRE), EDIT_COLOURS["snow"], strict=True))


def test_a_phrase_is_outlined_on_the_map_and_saved_as_geojson(
    open_page: OpenPage, snowy: str, segmenter: BrightSegmenter, tmp_path: Path
) -> None:
    page = opened(open_page, snowy)
    assert is_plain(page)
    said = find(page, "the snow")
    assert re.match(r"1 area: .* % of what is on screen at 30\d m/px$", said), said
    assert segmenter.asked[-1] == ("phrase", "the snow")
    assert not is_plain(page)
    page.uncheck("#segment-overlay")
    page.wait_for_selector(IDLE, state="attached")
    assert is_plain(page)
    page.check("#segment-overlay")
    with page.expect_download() as download:
        page.click("#segment-geojson")
    assert download.value.suggested_filename == "mask.geojson"
    download.value.save_as(tmp_path / "mask.geojson")
    saved = json.loads((tmp_path / "mask.geojson").read_text())
    longitudes = [place[0] for place in saved["features"][0]["geometry"]["coordinates"][0]]
    assert min(longitudes) == pytest.approx(20.1, abs=0.01) and max(longitudes) == pytest.approx(20.6, abs=0.01)
    assert saved["asked"] == {"phrase": "the snow"}
    assert find(page, "the desert").startswith("Nothing of the kind found")
    page.click("#segment-clear")
    expect(page.locator("#segment-result")).to_be_hidden()
    assert page.complaints == []


def test_a_click_and_a_box_on_the_map_go_to_the_server(
    open_page: OpenPage, snowy: str, segmenter: BrightSegmenter
) -> None:
    page = opened(open_page, snowy)
    page.click("#segment-click")
    assert page.get_attribute("#segment-click", "aria-pressed") == "true"
    page.mouse.click(*CENTRE)
    expect(page.locator("#segment-summary")).to_contain_text("the model expects an overlap of 75 %")
    way, (points, labels) = segmenter.asked[-1]
    assert (way, labels) == ("click", [1]) and len(points) == 1
    page.keyboard.down("Shift")
    with page.expect_response("**/perception/segment*"):
        page.mouse.click(CENTRE[0] + 150, CENTRE[1] + 120)
    page.keyboard.up("Shift")
    expect(page.locator("#segment-result")).to_be_visible()
    assert segmenter.asked[-1][1][1] == [1, 0]

    page.click("#segment-box")
    assert page.get_attribute("#segment-click", "aria-pressed") == "false"
    before = page.url
    page.mouse.move(CENTRE[0] - 60, CENTRE[1] - 40)
    page.mouse.down()
    page.mouse.move(CENTRE[0] + 20, CENTRE[1] + 20, steps=4)
    assert page.locator("#segment-frame").is_visible()
    page.mouse.move(CENTRE[0] + 60, CENTRE[1] + 40, steps=4)
    page.mouse.up()
    expect(page.locator("#segment-summary")).to_contain_text("the model expects an overlap of 50 %")
    way, (left, top, right, bottom) = segmenter.asked[-1]
    assert way == "box" and (right - left) / (bottom - top) == pytest.approx(120 / 80, rel=0.05)
    assert page.locator("#segment-frame").is_hidden()
    page.keyboard.press("Escape")
    assert page.get_attribute("#segment-box", "aria-pressed") == "false"
    # The map did not move with the box.
    assert page.url == before
    assert page.complaints == []


def test_what_cannot_be_found_says_why(open_page: OpenPage, snowy: str, segmenter: BrightSegmenter) -> None:
    page = opened(open_page, snowy)
    error = page.locator("#segment-error")
    page.click("#segment-run")
    expect(error).to_have_text("Say what to look for, such as “the river”")
    assert page.evaluate("document.activeElement.id") == "segment-phrase"
    page.fill("#segment-phrase", "снег")
    page.click("#segment-run")
    expect(error).to_contain_text("a letter of another script")
    segmenter.gate.clear()
    try:
        page.fill("#segment-phrase", "the snow in the middle")
        page.click("#segment-run")
        expect(page.locator("#segment-progress-text")).to_have_text(re.compile(r"Looking, \d+ s"))
        assert page.get_attribute("#segment-form", "aria-busy") == "true"
        page.click("#segment-cancel")
        expect(page.locator("#segment-progress")).to_be_hidden()
    finally:
        segmenter.gate.set()
    page.route("**/perception/segment*", answer(503, "4 detections wait already"))
    page.click("#segment-run")
    expect(error).to_have_text("Nothing can be looked for: 4 detections wait already")
    # The browser itself mentions an answer that is an error.
    assert all("503" in complaint or "422" in complaint for complaint in page.complaints)


def test_panel_by_keyboard_and_on_a_phone(open_page: OpenPage, snowy: str) -> None:
    page = open_page(f"/#world={snowy}{VIEW}", **PHONE)
    page.wait_for_selector(IDLE, state="attached")
    page.keyboard.press("t")
    expect(page.locator("#segment-phrase")).to_be_focused()
    expect(page.locator("#segment-run")).to_be_enabled()
    page.fill("#segment-phrase", "the snow")
    page.tap("#segment-run")
    expect(page.locator("#segment-result")).to_be_visible()
    assert outside(page) == []
    assert nameless(page) == []
    assert page.complaints == []


def test_a_server_without_weights_says_so(open_page: OpenPage) -> None:
    absent = {"name": "rsrefseg", "task": "referring segmentation", "available": False}
    listed = json.dumps({"models": [absent], "max_pixels": 4096, "max_classes": 64, "free_classes": 16})
    page = open_page(
        "/#world=planet&seed=3" + VIEW,
        before=lambda page: page.route("**/perception/models", lambda route: route.fulfill(body=listed)),
    )
    page.click("#segment summary")
    expect(page.locator("#segment-error")).to_have_text("This server has no weights of a model that segments.")
    assert page.is_disabled("#segment-run") and page.is_disabled("#segment-click")

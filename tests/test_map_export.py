"""Exporting from the map and its log of requests, in a real browser over real HTTP."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.browser import PHONE, OpenPage, answer, nameless, outside, serve
from tests.fake_tileserver import PaintedEngine
from tileserver import Settings, create_app

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

PLANET = "/#world=planet&seed=3&projection=flat&z=9.00&lat=10.0000&lon=20.0000"
KEY = "a-long-random-word-0123"


@pytest.fixture(scope="module")
def engine() -> PaintedEngine:
    return PaintedEngine()


@pytest.fixture(scope="module")
def site(engine: PaintedEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    cache = tmp_path_factory.mktemp("exports")
    with serve(create_app(Settings(cache=cache), lambda _: engine)) as address:
        yield address


def opened(page: Any) -> Any:
    page.click("#exports summary")
    expect(page.locator("#export-run")).to_be_enabled()
    page.select_option("#export-file", "mbtiles")
    page.fill("#export-first", "6")
    page.fill("#export-last", "9")
    return page


def test_an_area_is_estimated_exported_and_downloaded(open_page: OpenPage, tmp_path: Path) -> None:
    page = opened(open_page(PLANET))
    assert page.is_hidden("#export-quality-field")
    page.select_option("#export-image", "webp")
    assert page.is_visible("#export-quality-field")
    page.click("#export-plan")
    estimate = page.locator("#export-estimate")
    expect(estimate).to_have_text(re.compile(r"^\d+ tiles, about [\d.]+ [kM]?B, about \d+ s$"))
    tiles = int(estimate.inner_text().split()[0])
    with page.expect_request("**/exports?*") as sent:
        page.click("#export-run")
    assert sent.value.post_data_json["image"] == "webp" and sent.value.post_data_json["quality"] == 85
    assert "seed=3" in sent.value.url
    expect(page.locator("#export-result")).to_be_visible()
    assert page.inner_text("#live") == "The export is ready"
    with page.expect_download() as download:
        page.click("#export-download")
    assert re.fullmatch(r"planet-[0-9a-f]{8}-z6-9\.mbtiles", download.value.suggested_filename)
    download.value.save_as(tmp_path / "out.mbtiles")
    with closing(sqlite3.connect(tmp_path / "out.mbtiles")) as database:
        assert database.execute("SELECT count(*) FROM tiles").fetchone() == (tiles,)
    with page.expect_response(lambda got: got.request.method == "DELETE") as gone:
        page.click("#export-remove")
    assert gone.value.status == 204
    assert page.is_hidden("#export-result")
    assert page.complaints == []


def test_progress_is_shown_and_it_can_be_cancelled(open_page: OpenPage, engine: PaintedEngine) -> None:
    page = opened(open_page(PLANET))
    # Tiles that the map has not had made.
    page.fill("#export-first", "11")
    page.fill("#export-last", "11")
    engine.gate.clear()
    try:
        page.click("#export-run")
        expect(page.locator("#export-progress-text")).to_have_text(re.compile(r"^0 of \d+$"))
        assert page.is_disabled("#export-run")
        with page.expect_response(lambda got: got.request.method == "DELETE") as gone:
            page.click("#export-cancel")
        assert gone.value.status == 204
        expect(page.locator("#export-progress")).to_be_hidden()
        assert page.evaluate("document.activeElement.id") == "export-run"
        assert page.inner_text("#live") == "Export cancelled"
    finally:
        engine.gate.set()
    assert page.complaints == []


def test_what_cannot_be_exported_says_why(open_page: OpenPage) -> None:
    page = opened(open_page(PLANET))
    error = page.locator("#export-error")
    page.fill("#export-last", "19")
    page.click("#export-run")
    expect(error).to_have_text("A zoom is a whole number from 0 to 18")
    assert page.evaluate("document.activeElement.id") == "export-last"
    page.fill("#export-last", "5")
    page.click("#export-run")
    expect(error).to_have_text("The finest zoom must not be smaller than the coarsest")
    page.fill("#export-last", "9")
    page.click("#exports label:has-text('Drawn area')")
    page.click("#export-run")
    expect(error).to_have_text("Draw an area first: under Edits, or with D")
    page.click("#edits summary")
    page.click("#draw-middle")
    expect(page.locator("#edit-form")).to_be_visible()
    with page.expect_request("**/exports/plan?*") as sent:
        page.click("#export-plan")
    west, south, east, north = sent.value.post_data_json["bbox"]
    assert west < 20 < east and south < 10 < north
    page.click("#exports label:has-text('On screen')")
    page.fill("#export-last", "18")
    page.click("#export-run")
    expect(error).to_have_text(re.compile("The export cannot be begun: the archive has .* at most 16384 are allowed"))


def test_read_only_servers_and_those_with_keys_say_so(open_page: OpenPage) -> None:
    offer = '{"may_start": "%s", "files": ["mbtiles"], "images": ["png"], "max_tiles": 1, "max_bytes": 1}'
    page = open_page(PLANET, before=lambda page: page.route("**/exports", lambda r: r.fulfill(body=offer % "nobody")))
    page.click("#exports summary")
    expect(page.locator("#export-error")).to_have_text("This server is read-only: it makes no exports.")
    assert page.is_disabled("#export-run")
    page = open_page(PLANET, before=lambda page: page.route("**/exports", lambda r: r.fulfill(body=offer % "key")))
    opened(page).fill("#export-key", KEY)
    page.route("**/worlds/planet/exports?*", answer(401, "a key is not known to write here"))
    with page.expect_request("**/worlds/planet/exports?*") as sent:
        page.click("#export-run")
    assert sent.value.headers["authorization"] == f"Bearer {KEY}"
    expect(page.locator("#export-error")).to_have_text("The export cannot be begun: a key is not known to write here")


def test_the_log_tells_what_was_asked_and_copies_it(open_page: OpenPage) -> None:
    page = open_page(PLANET)
    page.click("#requests summary")
    tile = page.locator("#request-list button", has_text="/tiles/WebMercatorQuad/").first
    expect(tile).to_contain_text(re.compile(r"200 · \d+ ms · tile;dur="))
    tile.click()
    text = page.locator("#request-text")
    expect(text).to_have_value(re.compile(r"^curl 'http://127.0.0.1:\d+/worlds/planet/tiles/.*seed=3.*'$"))
    page.click("#copy-xyz")
    expect(text).to_have_value(re.compile(r"/worlds/planet/tiles/WebMercatorQuad/\{z\}/\{x\}/\{y\}\.webp\?seed=3$"))
    page.click("#copy-maplibre")
    expect(text).to_have_value(re.compile(r'"url": "http.*/worlds/planet/WebMercatorQuad/tilejson.json\?seed=3'))
    page.click("#copy-leaflet")
    expect(text).to_have_value(re.compile(r"^L\.tileLayer\(.*Synthetic imagery", re.DOTALL))
    page.click("#exports summary")
    page.fill("#export-first", "6")
    page.fill("#export-last", "6")
    page.click("#export-plan")
    expect(page.locator("#export-estimate")).to_have_text(re.compile("tile"))
    page.locator("#request-list button", has_text="POST /worlds/planet/exports/plan").first.click()
    expect(text).to_have_value(re.compile(r"^curl -X POST '.*' -H 'Content-Type: application/json' -d '\{\"bbox\":"))
    assert page.complaints == []


def test_both_by_keyboard_and_on_a_phone(open_page: OpenPage) -> None:
    page = open_page(PLANET, **PHONE)
    page.keyboard.press("o")
    expect(page.locator("#export-file")).to_be_focused()
    page.locator("#export-file").blur()
    page.keyboard.press("q")
    expect(page.locator("#copy-xyz")).to_be_focused()
    assert outside(page) == []
    assert nameless(page) == []
    for button in ("#export-plan", "#export-run", "#copy-leaflet"):
        page.locator(button).scroll_into_view_if_needed()
        assert page.locator(button).bounding_box()["height"] >= 34

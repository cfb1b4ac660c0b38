"""Two worlds side by side on the map: both look at the same place, whichever is moved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.browser import IDLE, PHONE, OpenPage, fragment, nameless, outside, pixel, serve
from tests.fake_tileserver import EDIT_COLOURS, create_painted_app

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

SQUARE = [[19.9, 9.9], [20.1, 9.9], [20.1, 10.1], [19.9, 10.1]]
WORLD = {"root": "planet", "seed": 3, "edits": [{"action": "snow", "polygon": SQUARE}]}
VIEW = "&projection=flat&z=9.00&lat=10.0000&lon=20.0000&compare=original"
WIDE = {"viewport": {"width": 1400, "height": 600}}
LEFT, RIGHT = (350, 300), (1050, 300)
"""Middles of the halves of that window."""
BESIDE_HANDLE = [(680, 330), (720, 330)]
"""Left and right of the divider in its middle, below the handle."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """Address of a server with the map."""
    with serve(create_painted_app()) as address:
        yield address


@pytest.fixture(scope="module")
def snowy(site: str) -> str:
    """Id of a world with snow in one place."""
    return str(httpx.post(f"{site}/worlds", json=WORLD).json()["name"])


def has_snow(page: Any, x: int, y: int) -> bool:
    return all(abs(a - b) < 12 for a, b in zip(pixel(page, x, y), EDIT_COLOURS["snow"], strict=True))


def settle(page: Any) -> None:
    # Both maps are drawn again in the frame after.
    page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    page.wait_for_selector(IDLE, state="attached")


def test_both_halves_show_the_same_place_and_either_moves_the_other(open_page: OpenPage, snowy: str) -> None:
    page = open_page(f"/#world={snowy}{VIEW}&beside=1", **WIDE)
    settle(page)
    assert has_snow(page, *RIGHT) and not has_snow(page, *LEFT)
    expect(page.locator("#swipe-before")).to_have_text("Without edits")

    # Drag the left one to the right and down: the snow on the right goes along.
    page.mouse.move(500, 400)
    page.mouse.down()
    page.mouse.move(580, 450, steps=8)
    # Held until the map stands: there is no swing to wait for.
    page.wait_for_timeout(300)
    page.mouse.up()
    settle(page)
    assert has_snow(page, RIGHT[0] + 80, RIGHT[1] + 50) and not has_snow(page, *RIGHT)
    link = fragment(page)
    assert float(link["lon"]) < 20 and float(link["lat"]) > 10

    # And the right one by its keys.
    page.locator("#map > .maplibregl-canvas-container canvas").focus()
    page.keyboard.press("ArrowDown")
    expect(page).not_to_have_url(re.compile(f"lat={link['lat']}"))
    settle(page)
    again = open_page(page.url.removeprefix(page.evaluate("location.origin")), **WIDE)
    settle(again)
    expect(again.locator("#place")).to_have_text(page.inner_text("#place"), use_inner_text=True)
    assert page.complaints == [] == again.complaints


def test_it_is_chosen_by_button_and_key_and_given_up(open_page: OpenPage, snowy: str) -> None:
    page = open_page(f"/#world={snowy}{VIEW}", **WIDE)
    settle(page)
    assert [has_snow(page, *place) for place in BESIDE_HANDLE] == [False, True], "the snow is cut in the middle"
    page.click("#edits summary")
    page.click("#compare-how label:has-text('Side by side')")
    expect(page).to_have_url(re.compile("beside=1"))
    settle(page)
    assert has_snow(page, *RIGHT) and not has_snow(page, *BESIDE_HANDLE[1])
    expect(page.locator("#swipe")).to_have_attribute("role", "separator")
    assert nameless(page) == []
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("v")
    expect(page).not_to_have_url(re.compile("beside"))
    expect(page.locator("#swipe")).to_have_attribute("role", "slider")
    settle(page)
    assert [has_snow(page, *place) for place in BESIDE_HANDLE] == [False, True]
    page.keyboard.press("v")
    settle(page)
    page.keyboard.press("c")
    expect(page.locator("#before")).to_have_count(0)
    settle(page)
    box = page.locator("#map").bounding_box()
    assert (box["x"], box["width"]) == (0, 1400), "the map has its window back"
    assert has_snow(page, 700, 300)


def test_on_a_phone_they_lie_above_each_other(open_page: OpenPage, snowy: str) -> None:
    page = open_page(f"/#world={snowy}{VIEW}&beside=1", **PHONE)
    settle(page)
    boxes = [page.locator(part).bounding_box() for part in ("#before", "#map")]
    assert [(box["y"], box["height"]) for box in boxes] == [(0, 422), (422, 422)]
    assert {(box["x"], box["width"]) for box in boxes} == {(0, 390)}
    assert has_snow(page, 195, 422 + 211) and not has_snow(page, 195, 211)
    assert outside(page) == []


def test_a_link_that_says_beside_what_is_none_is_explained(open_page: OpenPage, snowy: str) -> None:
    page = open_page(f"/#world={snowy}{VIEW}&beside=yes", **WIDE)
    expect(page.locator("[data-key=link]")).to_contain_text("beside “yes” is not 1")
    expect(page.locator("#swipe")).to_be_visible()

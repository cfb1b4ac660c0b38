"""The gallery of worlds on the map, in a real browser over real HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.browser import IDLE, PHONE, OpenPage, answer, fragment, nameless, outside, serve
from tests.fake_tileserver import EDIT_COLOURS, create_painted_app

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

PLANET = "/#world=planet&seed=3&projection=flat&z=9.00&lat=10.0000&lon=20.0000"
SQUARE = [[19.8, 9.8], [20.2, 9.8], [20.2, 10.2], [19.8, 10.2]]
SNOWY = {
    "root": "planet",
    "seed": 3,
    "edits": [{"action": "snow", "polygon": SQUARE, "valid_from": "2026-05-01", "valid_until": "2026-06-01"}],
}
BEGINNINGS = ["Real Earth", "Planet 7", "Planet 12", "Patchwork of fields"]


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """Address of a server with the map."""
    with serve(create_painted_app()) as address:
        yield address


@pytest.fixture(scope="module")
def snowy(site: str) -> str:
    """Id of a world in which it snows in May."""
    return str(httpx.post(f"{site}/worlds", json=SNOWY).json()["name"])


def titles(page: Any) -> list[str]:
    found: list[str] = page.locator("#gallery-list .gallery-title").all_inner_texts()
    return found


def opened(page: Any) -> Any:
    page.click("#gallery summary")
    expect(page.locator("#gallery-list li")).not_to_have_count(0)
    return page


def all_pictures(page: Any) -> None:
    """Wait until each world has its picture."""
    page.wait_for_function(
        """() => [...document.querySelectorAll("#gallery-list button")]
            .every((card) => card.querySelector("img")?.naturalWidth === 256)"""
    )


def test_worlds_have_pictures_and_are_chosen(open_page: OpenPage, snowy: str) -> None:
    page = opened(open_page(PLANET))
    card = page.locator("#gallery-list button", has_text=snowy[:8])
    expect(card).to_contain_text(re.compile("Planet.*seed 3 · 1 edit"))
    assert titles(page)[:4] == BEGINNINGS
    all_pictures(page)
    # Its picture is of what was changed, on a day on which it is.
    share = card.locator("img").evaluate(
        """(image, snow) => {
          const context = Object.assign(document.createElement("canvas"), { width: 256, height: 256 }).getContext("2d");
          context.drawImage(image, 0, 0);
          const { data } = context.getImageData(0, 0, 256, 256);
          const isSnow = (i) => snow.every((value, channel) => Math.abs(data[4 * i + channel] - value) < 12);
          return Array.from({ length: 256 * 256 }, (_, i) => isSnow(i)).filter(Boolean).length / 256 ** 2;
        }""",
        list(EDIT_COLOURS["snow"]),
    )
    assert 0.02 < share < 0.6
    card.click()
    expect(page).to_have_url(re.compile(f"world={snowy}"))
    page.wait_for_selector(IDLE, state="attached")
    expect(card).to_have_attribute("aria-current", "true")
    expect(page.locator("#gallery-list [aria-current]")).to_have_count(1)
    page.click("#gallery-list button:has-text('Planet 12')")
    expect(page).to_have_url(re.compile(r"world=planet&seed=12&"))
    page.click("#gallery-list button:has-text('Patchwork')")
    expect(page).to_have_url(re.compile(r"world=prompt&seed=0&prompt=patchwork\+of\+fields&gsd=2&"))
    page.wait_for_selector(IDLE, state="attached")
    assert page.complaints == []


def test_a_world_that_was_just_made_is_there(open_page: OpenPage) -> None:
    page = open_page(PLANET)
    page.click("#edits summary")
    page.click("#draw-middle")
    page.select_option("#edit-action", "burn")
    page.click("#edit-apply")
    expect(page.locator("#edit-list li")).to_have_count(1)
    name = fragment(page)["world"]
    opened(page)
    expect(page.locator("#gallery-list [aria-current]")).to_contain_text(name[:8])


def test_by_keyboard_and_on_a_phone(open_page: OpenPage, snowy: str) -> None:
    page = open_page(PLANET, **PHONE)
    page.keyboard.press("b")
    first = page.locator("#gallery-list button").first
    expect(first).to_be_focused()
    expect(page.locator("#gallery-list button", has_text=snowy[:8])).to_be_visible()
    all_pictures(page)
    # The list was made again meanwhile; the focus is where it was.
    assert page.evaluate("document.activeElement.textContent").startswith("Real Earth")
    assert outside(page) == [] and nameless(page) == []
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"world=planet&seed=7&"))
    # The sheet makes room for the world that was chosen.
    expect(page.locator("#panel-body")).to_be_hidden()


def test_a_list_or_a_picture_that_does_not_come_says_why(open_page: OpenPage, snowy: str) -> None:
    page = open_page(PLANET)
    page.route("**/worlds", answer(500, "the registered worlds cannot be read"))
    page.route("**/worlds/prompt/WebMercatorQuad/**", answer(422, "no weights for prompts"))
    opened(page)
    expect(page.locator("#gallery-error")).to_have_text(
        "The worlds of this server cannot be listed: the registered worlds cannot be read"
    )
    # What needs no list is offered all the same.
    assert titles(page) == BEGINNINGS
    expect(page.locator("#gallery-list button:has-text('Patchwork')")).to_contain_text(
        "No picture: no weights for prompts"
    )
    expect(page.locator("#gallery-list img")).to_have_count(3)
    page.unroute("**/worlds")
    page.unroute("**/worlds/prompt/WebMercatorQuad/**")
    page.click("#gallery-retry")
    expect(page.locator("#gallery-list button", has_text=snowy[:8])).to_be_visible()
    expect(page.locator("#gallery-error")).to_be_hidden()
    expect(page.locator("#gallery-retry")).to_be_hidden()
    all_pictures(page)


def test_without_worlds_of_its_own_the_gallery_says_how_they_come(open_page: OpenPage) -> None:
    page = open_page(PLANET, before=lambda page: page.route("**/worlds", lambda r: r.fulfill(body='{"worlds": []}')))
    opened(page)
    expect(page.locator("#gallery-hint")).to_have_text(
        "Worlds that you edit, or register with the service, appear here too."
    )
    assert titles(page) == BEGINNINGS

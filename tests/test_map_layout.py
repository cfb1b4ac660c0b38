"""The map's layout in a real browser: nothing jumps, nothing overlaps, light and dark, on three sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import IDLE, PHONE, OpenPage, answer, outside, serve
from tests.fake_tileserver import create_painted_app

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

VIEW = "/#world=planet&seed=3&projection=flat&z=9.00&lat=10.0000&lon=20.0000"
SIZES: dict[str, dict[str, Any]] = {
    "phone": PHONE,
    "tablet": {"viewport": {"width": 820, "height": 1180}, "has_touch": True},
    "desktop": {"viewport": {"width": 1440, "height": 900}},
}
WATCH_SHIFTS = """
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const { value, sources, hadRecentInput } of list.getEntries()) {
      // What somebody has just asked for may move things; what comes by itself may not.
      if (hadRecentInput) continue;
      window.shifts.push([value, ...sources.map(({ node }) => node?.id || node?.className || node?.nodeName)]);
    }
  }).observe({ type: "layout-shift", buffered: true });
"""
CARDS = [
    "#panel",
    "#empty",
    "#status .readout",
    "#status .credits",
    "#timeline",
    "#busy",
    "#notices",
    ".maplibregl-ctrl-group",
]
LEAST_TARGET = 24
"""CSS pixels along a side of whatever is pressed: success criterion 2.5.8 of WCAG 2.2."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """Address of a server with the map."""
    with serve(create_painted_app()) as address:
        yield address


def sections(page: Any) -> list[str]:
    ids: list[str] = page.evaluate("[...document.querySelectorAll('#sections > details')].map((e) => e.id)")
    return ids


def unfolded(page: Any) -> Any:
    if page.get_attribute("#fold", "aria-expanded") == "false":
        page.click("#fold")
    return page


def overlaps(page: Any) -> list[str]:
    """Pairs of pieces over the map that lie on each other."""
    found: list[str] = page.evaluate(
        """(cards) => {
          const boxes = cards.map((card) => [card, document.querySelector(card)?.getBoundingClientRect()])
            .filter(([, box]) => box && box.width > 1 && box.height > 1);
          const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
          const pairs = boxes.flatMap((one, i) => boxes.slice(i + 1).map((other) => [one, other]));
          return pairs.filter(([[, a], [, b]]) => !apart(a, b)).map(([[one], [other]]) => `${one} ${other}`);
        }""",
        CARDS,
    )
    return found


def small_targets(page: Any) -> list[str]:
    """What is on screen to be pressed and too small for a finger."""
    found: list[str] = page.evaluate(
        """(least) => ["button, select, summary, a, .segmented label, .check, input:not([type=radio], [type=checkbox])"]
            .flatMap((kinds) => [...document.querySelectorAll(kinds)])
            // Words that are links, in a sentence, are as high as the sentence.
            .filter((e) => e.checkVisibility() && !e.closest("p"))
            .map((e) => [e, e.getBoundingClientRect()])
            .filter(([, box]) => box.width > 1 && (box.width < least || box.height < least))
            .map(([e, box]) => `${e.id || e.textContent.trim()} ${box.width.toFixed()}x${box.height.toFixed()}`)""",
        LEAST_TARGET,
    )
    return found


def clipped(page: Any) -> list[str]:
    """Words of buttons and choices that are wider than their place."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("button, .segmented span, summary, h1, h2, label > span")]
            .filter((e) => e.checkVisibility() && e.clientWidth > 1 && e.scrollWidth > e.clientWidth + 1)
            .map((e) => e.id || e.textContent.trim())"""
    )
    return found


@pytest.mark.parametrize("size", SIZES)
def test_nothing_jumps_while_the_page_and_its_world_come(open_page: OpenPage, size: str) -> None:
    page = open_page("/", before=lambda page: page.add_init_script(WATCH_SHIFTS), **SIZES[size])
    unfolded(page)
    page.click("#gallery summary")
    page.wait_for_function("() => document.querySelectorAll('#gallery-list img').length === 4")
    page.wait_for_selector(IDLE, state="attached")
    moved = page.evaluate("shifts.reduce((sum, [value]) => sum + value, 0)")
    assert moved < 0.01, page.evaluate("shifts")


def test_a_jump_is_noticed(open_page: OpenPage) -> None:
    """Were shifts not seen, none would be found."""
    page = open_page("/", before=lambda page: page.add_init_script(WATCH_SHIFTS), **SIZES["desktop"])
    page.evaluate("document.getElementById('world-form').style.marginTop = '120px'")
    page.wait_for_function("() => shifts.some(([value]) => value > 0.001)")


@pytest.mark.parametrize("size", SIZES)
def test_every_panel_fits_and_can_be_pressed(open_page: OpenPage, size: str) -> None:
    page = unfolded(open_page(VIEW, **SIZES[size]))
    found = []
    for name in sections(page):
        page.evaluate(
            """(name) => {
              for (const e of document.querySelectorAll("#sections > details")) e.open = e.id === name;
              document.getElementById(name).scrollIntoView();
            }""",
            name,
        )
        found += [f"{name}: {what}" for what in outside(page) + clipped(page) + small_targets(page)]
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["viewport"]["width"]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("size", SIZES)
def test_the_pieces_over_the_map_do_not_lie_on_each_other(open_page: OpenPage, size: str) -> None:
    page = open_page(VIEW, **SIZES[size])
    unfolded(page)
    assert overlaps(page) == []
    # With all that can be over the map: an edited world with days, a message, and work that goes on.
    page.click("#edits summary")
    page.click("#draw-middle")
    page.select_option("#edit-action", "snow")
    page.fill("#edit-from", "2026-05-01")
    page.click("#edit-apply")
    expect(page.locator("#edit-list li")).to_have_count(1)
    page.wait_for_selector(IDLE, state="attached")
    page.evaluate("location.hash += '&pitch=1000'")
    expect(page.locator("[data-key=link]")).to_be_visible()
    expect(page.locator("#timeline")).to_be_visible()
    page.evaluate(
        """() => {
          document.getElementById("busy-text").textContent = "Generating 12 tiles · level z14 (9.6 m/px) · 0.4 s each";
          document.getElementById("busy").hidden = false;
        }"""
    )
    assert overlaps(page) == []
    if page.viewport_size["width"] <= 640:
        page.tap("#fold")
        assert overlaps(page) == []


@pytest.mark.parametrize("size", SIZES)
def test_what_is_said_in_place_of_a_picture_covers_nothing(open_page: OpenPage, size: str) -> None:
    detail = "no weights for prompts come with this installation"
    link = "/#world=prompt&prompt=a+town&gsd=1"
    refused = {"before": lambda page: page.route("**/tiles/**", answer(422, detail))}
    page = open_page(link, **refused, **SIZES[size])
    expect(page.locator("#empty")).to_be_visible()
    assert overlaps(page) == [] and outside(page) == []
    # The longest place that there is fits into its line, or into two.
    assert page.evaluate(
        "(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)(document.querySelector('.readout'))"
    )


def test_light_and_dark_follow_the_browser_while_the_page_is_open(open_page: OpenPage) -> None:
    page = open_page("/", color_scheme="light")
    brightness = """(name) => {
      const [red, green, blue] = getComputedStyle(document.querySelector(name))
        .getPropertyValue("background-color").match(/[\\d.]+/g).map(Number);
      return (red + green + blue) / 3;
    }"""
    assert page.evaluate(brightness, "#panel") > 200
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(brightness, "#panel") < 60
    assert page.evaluate(brightness, "#seed") is not None

"""The map as axe-core sees it: every panel open, light and dark, on a phone, a tablet and a desktop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser import IDLE, PHONE, OpenPage, serve
from tests.fake_tileserver import create_painted_app

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

VIEW = "#world=planet&seed=3&projection=flat&z=9.00&lat=10.0000&lon=20.0000"
SIZES: dict[str, dict[str, Any]] = {
    "phone": PHONE,
    "tablet": {"viewport": {"width": 820, "height": 1180}, "has_touch": True},
    "desktop": {"viewport": {"width": 1440, "height": 900}},
}
GRAVE = ("serious", "critical")


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with serve(create_painted_app()) as address:
        yield address


def findings(page: Any, where: str) -> list[str]:
    """What axe holds to be serious or critical, a line each."""
    # Half-way through a fade every text is pale.
    page.wait_for_function("document.getAnimations().every((animation) => animation.playState !== 'running')")
    violations = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{where}: {violation['id']} ({violation['impact']}): {violation['help']}: {node['html'][:200]}: "
        + " ".join(check["message"] for check in node["any"] + node["all"] + node["none"])
        for violation in violations
        if violation["impact"] in GRAVE
        for node in violation["nodes"]
    ]


def sections(page: Any) -> list[str]:
    """Ids of the parts of the panel that can be opened."""
    ids: list[str] = page.evaluate("[...document.querySelectorAll('#sections > details')].map((e) => e.id)")
    return ids


def opened(page: Any, name: str) -> None:
    """Open one part of the panel and close the others."""
    page.evaluate(
        "(name) => document.querySelectorAll('#sections > details').forEach((e) => { e.open = e.id === name; })", name
    )
    page.evaluate("(name) => document.getElementById(name).scrollIntoView()", name)


def drawn(page: Any) -> None:
    opened(page, "edits")
    page.click("#draw-middle")
    expect(page.locator("#edit-form")).to_be_visible()


def edited(page: Any) -> None:
    """Go on from the area that is drawn."""
    page.select_option("#edit-action", "snow")
    page.fill("#edit-from", "2026-05-01")
    page.click("#edit-apply")
    expect(page.locator("#edit-list li")).to_have_count(1)
    page.wait_for_selector(IDLE, state="attached")


STATES: dict[str, Callable[[Any], object]] = {
    "a wrong seed": lambda page: (page.fill("#seed", "minus one"), page.press("#seed", "Enter")),
    "an area to edit": drawn,
    "an edited world with days": edited,
    "a world by prompt": lambda page: (
        page.click("#worlds label:has-text('Prompt')"),
        page.evaluate("document.getElementById('prompt-more').open = true"),
    ),
    "the help": lambda page: page.evaluate("document.getElementById('help-dialog').showModal()"),
}


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_no_panel_keeps_anybody_out(open_page: OpenPage, size: str, scheme: str) -> None:
    page = open_page("/" + VIEW, color_scheme=scheme, **SIZES[size])
    if page.get_attribute("#fold", "aria-expanded") == "false":
        page.click("#fold")
    found = findings(page, "the map")
    names = sections(page)
    assert {"places", "word-search", "edits", "changes", "ask", "exports", "requests"} <= set(names)
    for name in names:
        opened(page, name)
        found += findings(page, name)
    for name, reach in STATES.items():
        reach(page)
        found += findings(page, name)
    assert not found, "\n".join(sorted(set(found)))


@pytest.mark.browser
def test_axe_notices_what_is_wrong(open_page: OpenPage) -> None:
    """Were nothing looked at, nothing would be found."""
    page = open_page("/" + VIEW)
    page.evaluate("document.getElementById('dice').removeAttribute('aria-label')")
    page.evaluate("document.getElementById('dice').removeAttribute('title')")
    assert any("button-name" in line for line in findings(page, "the map"))

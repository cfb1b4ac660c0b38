"""The map as axe-core sees it: every panel open, light and dark, on a phone, a tablet and a desktop."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser import IDLE, PHONE, OpenPage, answer, serve
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
OF_COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
"""What can differ where nothing but colours does."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with serve(create_painted_app()) as address:
        yield address


def findings(page: Any, where: str, **options: Any) -> list[str]:
    """What axe holds to be serious or critical, a line each; `options` are axe's own."""
    # Half-way through a fade every text is pale.
    page.wait_for_function("() => document.getAnimations().every((animation) => animation.playState !== 'running')")
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(axe.Axe().axe_script)
    violations = page.evaluate(
        "async (options) => (await axe.run(options)).violations", {"resultTypes": ["violations"], **options}
    )
    return [
        f"{where}: {violation['id']} ({violation['impact']}): {violation['help']}: {node['html'][:200]}: "
        + " ".join(check["message"] for check in node["any"] + node["all"] + node["none"])
        for violation in violations
        if violation["impact"] in GRAVE
        for node in violation["nodes"]
    ]


def findings_by_day_and_night(page: Any, where: str) -> list[str]:
    """The same in both schemes: in the dark one of colours only."""
    found = findings(page, f"light, {where}")
    page.emulate_media(color_scheme="dark")
    found += findings(page, f"dark, {where}", runOnly=OF_COLOURS)
    page.emulate_media(color_scheme="light")
    return found


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


def with_body(body: str) -> Callable[[Any], None]:
    """A route handler that answers so."""

    def fulfil(route: Any) -> None:
        route.fulfill(body=body)

    return fulfil


def watched(page: Any) -> None:
    """Let what looks at imagery answer without models: two changed areas, a mask, and a conversation."""
    ring = [[19.9, 9.9], [20.1, 9.9], [20.1, 10.1], [19.9, 9.9]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    areas = [
        {"type": "Feature", "geometry": shape, "properties": {"area_m2": size, "probability": 0.7, "pixels": 9}}
        for size in (2e8, 31_000.0)
    ]
    found = {"type": "FeatureCollection", "features": areas, "left_out": 3, "gsd": 300.0, "total_m2": 4e9}
    models = [
        {"name": "cdmamba", "title": "CDMamba", "task": "change detection", "available": True, "classes": []},
        {"name": "rsrefseg", "title": "RSRefSeg", "task": "referring segmentation", "available": True, "classes": []},
    ]
    listed = {"models": models, "max_pixels": 1 << 20, "max_classes": 64, "free_classes": 16}
    said = {
        "event": "answer",
        "text": "5 areas that changed, 200 km².",
        "refused": False,
        "notes": ["Only what is certain is counted."],
        "areas": found,
        "files": [{"name": "changes.geojson", "media_type": "application/geo+json", "bytes": 2, "base64": "e30="}],
        "memory": {},
        "bbox": [19.5, 9.5, 20.5, 10.5],
        "gsd": 300.0,
        "model": {"name": "cdmamba"},
    }
    answers = {
        "**/perception/models": json.dumps(listed),
        "**/perception/detect*": json.dumps(found | {"changed_m2": 2e8}),
        "**/perception/segment*": json.dumps(found | {"found_m2": 2e8, "predicted_iou": 0.75}),
        "**/worlds/*/agent*": json.dumps(said) + "\n",
    }
    for pattern, body in answers.items():
        page.route(pattern, with_body(body))


def changed(page: Any) -> None:
    opened(page, "changes")
    page.click("#changes-run")
    expect(page.locator("#changes-list li")).to_have_count(2)


def segmented(page: Any) -> None:
    opened(page, "segment")
    page.fill("#segment-phrase", "the largest lake")
    page.click("#segment-run")
    expect(page.locator("#segment-list li")).to_have_count(2)
    page.click("#segment-box")


def asked(page: Any) -> None:
    opened(page, "ask")
    page.fill("#ask-question", "what changed?")
    page.click("#ask-run")
    expect(page.locator("#ask-log li")).to_have_count(2)


def searched(page: Any) -> None:
    opened(page, "word-search")
    page.fill("#word-query", "a river mouth")
    page.press("#word-query", "Enter")
    expect(page.locator("#word-results li")).to_have_count(4)


def estimated(page: Any) -> None:
    opened(page, "exports")
    page.select_option("#export-image", "webp")
    page.fill("#export-first", "9")
    page.fill("#export-last", "9")
    page.click("#export-plan")
    expect(page.locator("#export-estimate")).to_contain_text("tiles")


def not_exported(page: Any) -> None:
    page.fill("#export-last", "99")
    page.click("#export-run")
    expect(page.locator("#export-error")).to_be_visible()


def copied(page: Any) -> None:
    opened(page, "requests")
    page.click("#copy-maplibre")
    expect(page.locator("#request-text")).to_be_visible()


def compared(page: Any) -> None:
    page.select_option("#compare", "original")
    page.wait_for_selector(IDLE, state="attached")


def beside(page: Any) -> None:
    page.click("#compare-how label:has-text('Side by side')")
    expect(page.locator("#swipe")).to_have_attribute("role", "separator")


def failing(page: Any) -> None:
    """A message over the map, and in place of a world what is wrong with it."""
    page.route("**/worlds/prompt/tiles/**", answer(422, "no weights for prompts come with this installation"))
    page.evaluate("location.hash = 'world=prompt&prompt=a+town&gsd=1&pitch=1000'")
    expect(page.locator("#empty")).to_be_visible()
    expect(page.locator("[data-key=link]")).to_be_visible()


STATES: dict[str, Callable[[Any], object]] = {
    "a wrong seed": lambda page: (page.fill("#seed", "minus one"), page.press("#seed", "Enter")),
    "changes that were found": changed,
    "things that were found": segmented,
    "a conversation": asked,
    "places that were found": searched,
    "an export's estimate": estimated,
    "an export that makes no sense": not_exported,
    "an address that was copied": copied,
    "an area to edit": drawn,
    "an edited world with days": edited,
    "two worlds under a divider": compared,
    "two worlds side by side": beside,
    "a world by prompt": lambda page: (
        page.click("#worlds label:has-text('Prompt')"),
        page.evaluate("document.getElementById('prompt-more').open = true"),
    ),
    "a world that cannot be shown": failing,
    "the help": lambda page: page.evaluate("document.getElementById('help-dialog').showModal()"),
}


@pytest.mark.browser
@pytest.mark.parametrize("size", SIZES)
def test_no_panel_keeps_anybody_out(open_page: OpenPage, size: str) -> None:
    page = open_page("/" + VIEW, color_scheme="light", before=watched, **SIZES[size])
    if page.get_attribute("#fold", "aria-expanded") == "false":
        page.click("#fold")
    found = findings_by_day_and_night(page, "the map")
    names = sections(page)
    assert {"gallery", "places", "segment", "word-search", "edits", "changes", "ask", "exports", "requests"} <= set(
        names
    )
    for name in names:
        opened(page, name)
        found += findings_by_day_and_night(page, name)
    for name, reach in STATES.items():
        reach(page)
        found += findings_by_day_and_night(page, name)
    assert not found, "\n".join(sorted(set(found)))


@pytest.mark.browser
def test_axe_notices_what_is_wrong(open_page: OpenPage) -> None:
    """Were nothing looked at, nothing would be found."""
    page = open_page("/" + VIEW)
    page.evaluate("document.getElementById('dice').removeAttribute('aria-label')")
    page.evaluate("document.getElementById('dice').removeAttribute('title')")
    page.evaluate(
        """() => {
            const pale = new CSSStyleSheet();
            pale.replaceSync("@media (prefers-color-scheme: dark) { label { color: #333; background: #222 } }");
            document.adoptedStyleSheets.push(pale);
        }"""
    )
    found = findings_by_day_and_night(page, "the map")
    assert {line.split(" (")[0] for line in found} == {"light, the map: button-name", "dark, the map: color-contrast"}

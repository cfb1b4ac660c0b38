"""Worlds by prompt, edits, comparing and searching on the map, in a real browser over real HTTP.

The server is the service itself over an engine that paints continents, and each edit as a patch of one colour.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser import IDLE, PHONE, OpenPage, answer, fragment, nameless, outside, pixel, serve
from tests.fake_tileserver import EDIT_COLOURS, FakeFinder, create_painted_app

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

PROMPT = 'a harbour <b onclick="x">town</b> & <img src=x onerror="document.title=1"> "seed": 12'
PLANET = "#world=planet&seed=3&projection=flat&z=9.00&lat=10.0000&lon=20.0000"
CENTRE = (360, 240)
"""Of the test's window, and so of what `Middle of the view` takes."""


@pytest.fixture(scope="module")
def finder() -> FakeFinder:
    return FakeFinder()


@pytest.fixture(scope="module")
def site(finder: FakeFinder) -> Iterator[str]:
    """Address of a server with the map."""
    with serve(create_painted_app(finder)) as address:
        yield address


def settle(page: Any) -> None:
    page.wait_for_selector(IDLE, state="attached")


def ask_for_prompt(page: Any, prompt: str) -> None:
    page.click("#worlds label:has-text('Prompt')")
    page.fill("#prompt", prompt)


def set_corners(page: Any, press: Callable[[int, int], object], corners: list[tuple[int, int]]) -> None:
    """Press on the corners of an area, each once the page has said that it has taken the one before."""
    hint = page.locator("#draw-hint")
    expect(hint).to_have_text("Set the corners of the area")
    for count, (x, y) in enumerate(corners, 1):
        press(x, y)
        expect(hint).to_have_text(re.compile(f"^{count} corners? set"))


def draw(page: Any, corners: list[tuple[int, int]]) -> None:
    """Click the corners of an area, and the first one again."""
    set_corners(page, page.mouse.click, corners)
    page.mouse.click(*corners[0])
    expect(page.locator("#edit-form")).to_be_visible()


def edit_middle(page: Any, action: str = "snow", **fields: str) -> None:
    """Apply an edit to the middle of the view, with a mouse or a keyboard that cannot draw."""
    count = page.locator("#edit-list li").count()
    if page.get_attribute("#edits", "open") is None:
        page.click("#edits summary")
    page.click("#draw-middle")
    page.select_option("#edit-action", action)
    for name, value in fields.items():
        page.fill(f"#edit-{name}", value)
    page.click("#edit-apply")
    expect(page.locator("#edit-list li")).to_have_count(count + 1)
    settle(page)


@contextmanager
def held_back(page: Any, pattern: str) -> Iterator[None]:
    """Requests whose address matches stay without an answer until the end."""
    held: list[Any] = []
    holding = True
    page.route(pattern, lambda route: held.append(route) if holding else route.continue_())
    yield
    holding = False
    for route in held:
        route.continue_()


def posted(page: Any) -> list[Any]:
    """What the page sends to POST /worlds from now on."""
    bodies: list[Any] = []
    page.on("request", lambda request: bodies.extend([request.post_data_json] if request.method == "POST" else []))
    return bodies


def shows(page: Any, action: str, x: int = CENTRE[0], y: int = CENTRE[1]) -> bool:
    """Whether a point of the screen has the colour of an edit; WebP's colours are not exact."""
    return all(abs(a - b) < 12 for a, b in zip(pixel(page, x, y), EDIT_COLOURS[action], strict=True))


def queries(urls: list[str], field: str) -> set[str | None]:
    return {parse_qs(urlsplit(url).query).get(field, [None])[0] for url in urls}


def zooms(urls: list[str]) -> set[int]:
    return {int(url.split("/WebMercatorQuad/")[1].split("/")[0]) for url in urls}


def shown_bytes(responses: list[Any], world: str) -> dict[str, bytes]:
    """Bytes of a world's tiles that were answered, by address."""
    return {response.url: response.body() for response in responses if f"/worlds/{world}/tiles/" in response.url}


def test_prompt_to_edit_to_link_in_another_browser(open_page: OpenPage) -> None:
    """Types a prompt, flies in, draws an area, applies an edit, swipes, and hands the link to somebody else."""
    page = open_page("/", permissions=["clipboard-read", "clipboard-write"])
    ask_for_prompt(page, "a harbour town on a rocky coast")
    page.select_option("#prompt-gsd", "10")
    page.click("#show-prompt")
    expect(page).to_have_url(re.compile(r"[#&]z=14\.00(&|$)"))
    settle(page)
    assert fragment(page) | {"world": "prompt", "prompt": "a harbour town on a rocky coast", "gsd": "10"} == fragment(
        page
    )
    unedited = pixel(page, 500, 300)

    page.click("#edits summary")
    page.click("#draw")
    draw(page, [(420, 100), (640, 100), (640, 330), (420, 330)])
    answers: list[Any] = []
    page.on("response", lambda response: answers.append(response))
    page.select_option("#edit-action", "snow")
    page.click("#edit-apply")
    expect(page).to_have_url(re.compile(r"[#&]world=[0-9a-f]{20}&"))
    settle(page)
    world = fragment(page)["world"]
    edited = pixel(page, 500, 300)
    assert edited != unedited and min(edited) > 240, "snow is there"

    # Left of the divider there is the world without the edit.
    page.select_option("#compare", "original")
    settle(page)
    page.mouse.move(360, 240)
    page.mouse.down()
    page.mouse.move(560, 240, steps=4)
    page.mouse.up()
    assert int(page.get_attribute("#swipe", "aria-valuenow")) == round(100 * 560 / 720)
    page.wait_for_timeout(100)
    assert pixel(page, 500, 300) == unedited and min(pixel(page, 600, 300)) > 240

    page.click("#share")
    expect(page.locator("#share")).to_have_text("Copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert page.complaints == [], "drawing and comparing keep to the page's content policy"

    received: list[Any] = []
    other = open_page(
        link.removeprefix(page.evaluate("location.origin")),
        before=lambda other: other.on("response", lambda response: received.append(response)),
    )
    expect(other.locator("#swipe")).to_be_visible()
    expect(other.locator("#edit-count")).to_have_text("1")
    assert min(pixel(other, 500, 300)) > 240, "its divider stands in the middle, where every divider begins"
    mine, theirs = shown_bytes(answers, world), shown_bytes(received, world)
    assert len(theirs) > 4 and theirs == {address: mine[address] for address in theirs}


def test_prompt_link_opens_the_same_world(open_page: OpenPage) -> None:
    link = "#world=prompt&seed=7&prompt=a+town&gsd=2.5&negative=clouds&guidance=3"
    page = open_page("/" + link)
    assert page.input_value("#prompt") == "a town" and page.input_value("#prompt-gsd-other") == "2.5"
    assert page.input_value("#negative") == "clouds" and page.input_value("#guidance") == "3"
    expect(page.locator("#summary")).to_have_text("“a town” · 2.5 m/px · seed 7")
    expect(page.locator("#attribution")).to_have_text("Root: generated from a prompt")
    for field, value in {"prompt": "a town", "gsd": "2.5", "negative": "clouds", "guidance": "3", "seed": "7"}.items():
        assert queries(page.tiles, field) == {value}
        assert fragment(page)[field] == value
    again = open_page(page.url.removeprefix(page.evaluate("location.origin")))
    assert set(again.tiles) <= set(page.tiles)


def test_world_by_prompt_begins_at_its_own_zoom(open_page: OpenPage) -> None:
    """At 10 m per pixel the root lies at zoom 12, and nothing is coarser than zoom 8."""
    page = open_page("/#world=prompt&prompt=a+town&gsd=10")
    assert fragment(page)["z"] == "14.00"
    assert zooms(page.tiles) == {12, 14}, "the root stands in for what is finer"
    expect(page.locator("#places")).to_be_hidden()
    page.locator("#map canvas").focus()
    for _ in range(9):
        page.keyboard.press("-")
        page.wait_for_timeout(50)
    settle(page)
    assert zooms(page.tiles) >= {8} and min(zooms(page.tiles)) == 8
    assert page.get_attribute("html", "data-failed") == "0"

    # The Earth has no such limit, and is seen whole.
    page.click("#worlds label:has-text('Real Earth')")
    expect(page).to_have_url(re.compile(r"[#&]z=[12]\.\d\d(&|$)"))
    settle(page)
    page.go_back()
    expect(page.locator("#summary")).to_have_text(re.compile("“a town”"))
    settle(page)
    assert float(fragment(page)["z"]) == pytest.approx(8, abs=0.2)


def test_prompt_that_cannot_be_made_says_why_in_place_of_the_picture(open_page: OpenPage) -> None:
    detail = "no weights for prompts come with this installation"
    page = open_page(
        "/#world=prompt&prompt=a+town&gsd=1", before=lambda page: page.route("**/tiles/**", answer(422, detail))
    )
    expect(page.locator("#empty")).to_contain_text("This world cannot be shown")
    expect(page.locator("#empty-reason")).to_have_text(f"{detail}.")
    expect(page.locator(".notice")).to_have_count(0)
    assert page.input_value("#prompt") == "a town", "what was typed is still there"
    page.unroute("**/tiles/**")
    page.click("#empty-retry")
    settle(page)
    expect(page.locator("#empty")).to_be_hidden()
    page.click("#worlds label:has-text('Real Earth')")
    settle(page)
    assert fragment(page)["world"] == "earth"


def test_asking_for_a_prompt_leaves_the_map_alone_until_it_is_sent(open_page: OpenPage) -> None:
    page = open_page("/" + PLANET)
    page.tiles.clear()
    page.keyboard.press("w")
    expect(page.locator("#prompt")).to_be_focused()
    page.fill("#seed", "41")
    page.click("#dice")
    assert page.input_value("#seed") != "41" and fragment(page)["world"] == "planet" and page.tiles == []

    wrong = {
        "#prompt": ("", "Say what is there"),
        "#guidance": ("21", "Guidance is a number from 1 to 20"),
        "#prompt-gsd-other": ("0.1", "A resolution is a number from 0.3 to 1200 metres per pixel"),
    }
    page.fill("#prompt", "a town")
    page.select_option("#prompt-gsd", "other")
    page.fill("#prompt-gsd-other", "2,5")
    page.click("#prompt-more summary")
    for control, (value, sentence) in wrong.items():
        good = page.input_value(control)
        page.fill(control, value)
        page.press("#prompt", "Enter")
        expect(page.locator("#prompt-error")).to_have_text(sentence)
        expect(page.locator(control)).to_be_focused()
        page.fill(control, good)
    assert page.tiles == []
    page.press("#prompt", "Enter")
    expect(page).to_have_url(re.compile(r"[#&]gsd=2\.5(&|$)"))


def test_markup_in_a_prompt_is_text(open_page: OpenPage) -> None:
    page = open_page("/")
    ask_for_prompt(page, PROMPT)
    page.press("#prompt", "Enter")
    expect(page.locator("#summary")).to_contain_text("<b onclick=")
    settle(page)
    assert queries([url for url in page.tiles if "/prompt/" in url], "prompt") == {PROMPT}
    bodies = posted(page)
    edit_middle(page, "prompt", prompt=PROMPT)
    assert bodies[0]["prompt"] == PROMPT and bodies[0]["edits"][0]["prompt"] == PROMPT
    expect(page.locator("#edit-list span")).to_have_text(PROMPT)
    expect(page.locator("#registered-about")).to_contain_text(PROMPT)
    assert page.locator("#panel b, #panel img[src=x]").count() == 0
    assert page.title().endswith("| earthgen")
    again = open_page(page.url.removeprefix(page.evaluate("location.origin")))
    expect(again.locator("#edit-list span")).to_have_text(PROMPT)
    assert again.complaints == page.complaints == []


def test_text_that_no_world_can_have_is_refused(open_page: OpenPage) -> None:
    page = open_page(f"/#world=prompt&prompt={'x' * 513}&negative=a%07b&date=2026-02-30&compare=never")
    for part in (
        "prompt has 513 characters; at most 512 are allowed",
        "negative holds the control character U+0007",
        "date “2026-02-30” is not a day",
        "compare “never”",
        "world “prompt” needs a prompt",
    ):
        expect(page.locator("[data-key=link]")).to_contain_text(part)
    expect(page.locator("#summary")).to_have_text("Real Earth · seed 0")
    for control in ("#prompt", "#negative", "#edit-prompt", "#word-query"):
        assert page.get_attribute(control, "maxlength") == "512"


def test_actions_take_what_they_take(open_page: OpenPage) -> None:
    page = open_page("/" + PLANET)
    bodies = posted(page)
    page.click("#edits summary")
    page.click("#draw-middle")
    assert page.locator("#edit-action option").evaluate_all("all => all.map((e) => e.value)") == list(EDIT_COLOURS)
    page.click("#edit-apply")
    expect(page.locator("#edit-error")).to_have_text("Say what should be there")
    page.select_option("#edit-action", "reseed")
    expect(page.locator("#edit-prompt")).to_be_hidden()
    page.click("#edit-apply")
    expect(page.locator("#edit-error")).to_have_text("Other detail needs a seed")
    page.select_option("#edit-action", "flood")
    expect(page.locator("#edit-seed")).to_be_hidden()
    page.fill("#edit-from", "2026-05-02")
    page.fill("#edit-until", "2026-05-01")
    page.click("#edit-apply")
    expect(page.locator("#edit-error")).to_have_text("Until must come after From")
    assert bodies == []

    page.select_option("#edit-action", "reseed")
    page.fill("#edit-seed", str(2**63 - 1))
    page.fill("#edit-from", "")
    page.click("#edit-apply")
    expect(page.locator("#edit-list li")).to_have_text(re.compile(f"Other detail \\(seed {2**63 - 1}\\)"))
    (edit,) = bodies[0]["edits"]
    assert edit == {
        "polygon": edit["polygon"],
        "action": "reseed",
        "seed": 2**63 - 1,
        "valid_from": None,
        "valid_until": "2026-05-01",
    }
    assert len(edit["polygon"]) == 4


def test_removing_an_edit_undo_and_redo_lead_to_worlds_that_were_there(open_page: OpenPage) -> None:
    page = open_page("/" + PLANET)
    plain = pixel(page, *CENTRE)
    edit_middle(page, "snow")
    snow = fragment(page)["world"]
    edit_middle(page, "burn")
    both = fragment(page)["world"]
    assert shows(page, "burn") and len({snow, both, "planet"}) == 3

    page.click("#edit-list li:nth-child(2) .edit-remove")
    expect(page).to_have_url(re.compile(snow))
    page.click("#undo")
    expect(page).to_have_url(re.compile(both))
    page.keyboard.press("u")
    expect(page).to_have_url(re.compile(snow))
    page.keyboard.press("u")
    expect(page).to_have_url(re.compile(r"world=planet&seed=3&"))
    expect(page.locator("#undo")).to_be_disabled()
    settle(page)
    assert pixel(page, *CENTRE) == plain
    page.keyboard.press("y")
    expect(page).to_have_url(re.compile(snow))
    page.click("#edit-list .edit-remove")
    expect(page).to_have_url(re.compile(r"world=planet&seed=3&"))
    expect(page.locator("#edit-list li")).to_have_count(0)


def test_edit_that_the_server_refuses_says_why_and_stays(open_page: OpenPage) -> None:
    page = open_page("/" + PLANET)
    page.route("**/worlds", answer(422, "edit polygon is too large"))
    page.click("#edits summary")
    page.click("#draw-middle")
    page.select_option("#edit-action", "haze")
    page.click("#edit-apply")
    expect(page.locator("#edit-error")).to_have_text("This edit cannot be made: edit polygon is too large")
    expect(page.locator("#edit-form")).to_be_visible()
    assert fragment(page)["world"] == "planet"
    page.unroute("**/worlds")
    page.click("#edit-apply")
    expect(page.locator("#edit-list li")).to_have_text(re.compile("Haze"))


def test_drawing_by_keyboard_and_giving_it_up(open_page: OpenPage) -> None:
    page = open_page("/" + PLANET)
    page.keyboard.press("d")
    expect(page.locator("#draw-bar")).to_be_visible()
    expect(page.locator("#map canvas")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#draw-bar")).to_be_hidden()
    page.click("#edits summary")
    page.press("#draw-middle", "Enter")
    expect(page.locator("#edit-action")).to_be_focused()
    page.press("#edit-discard", "Enter")
    expect(page.locator("#edit-form")).to_be_hidden()
    expect(page.locator("#draw")).to_be_visible()


def test_area_is_finished_by_a_button_that_says_when_it_can(open_page: OpenPage) -> None:
    page = open_page("/" + PLANET)
    bodies = posted(page)
    page.keyboard.press("d")
    for button in ("finish", "undo"):
        expect(page.locator(f"#draw-{button}")).to_be_disabled()
    set_corners(page, page.mouse.click, [(420, 100), (640, 100)])
    expect(page.locator("#draw-finish")).to_be_disabled()
    for x, y in ((640, 330), (420, 330)):
        page.mouse.click(x, y)
    expect(page.locator("#draw-hint")).to_have_text("4 corners set")
    page.click("#draw-undo")
    expect(page.locator("#draw-hint")).to_have_text("3 corners set")
    page.click("#draw-finish")  # the pointer's way there adds no corner
    page.select_option("#edit-action", "snow")
    page.click("#edit-apply")
    expect(page.locator("#edit-list li")).to_have_count(1)
    assert len(bodies[0]["edits"][0]["polygon"]) == 3


def test_drawing_tools_that_are_slow_to_come_are_waited_for_or_given_up(open_page: OpenPage) -> None:
    page = open_page("/" + PLANET)
    with held_back(page, "**/terra-draw.modern.js"):
        page.keyboard.press("d")
        expect(page.locator("#draw-hint")).to_have_text("Fetching the drawing tools…")
        page.mouse.click(420, 100)
        page.keyboard.press("Escape")
        expect(page.locator("#draw-bar")).to_be_hidden()
        page.keyboard.press("d")
        page.keyboard.press("d")
        expect(page.locator("#draw-bar")).to_be_visible()
    draw(page, [(420, 100), (640, 100), (640, 330)])
    assert page.complaints == []


def test_days_of_edits_are_on_a_slider(open_page: OpenPage) -> None:
    page = open_page("/" + PLANET)
    edit_middle(page, "autumn", **{"from": "2026-09-15", "until": "2026-12-01"})
    assert not shows(page, "autumn"), "without a date there is what never ends"
    expect(page.locator("#day-label")).to_have_text("No date")
    page.tiles.clear()
    page.focus("#day")
    seen = []
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        expect(page).to_have_url(re.compile(f"date={page.inner_text('#day-label')}"))
        settle(page)
        seen.append((fragment(page)["date"], shows(page, "autumn")))
    assert seen == [("2026-09-14", False), ("2026-09-15", True), ("2026-12-01", False)]
    assert queries(page.tiles, "date") == {"2026-09-14", "2026-09-15", "2026-12-01"}
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile("date=2026-09-15"))
    again = open_page(page.url.removeprefix(page.evaluate("location.origin")))
    expect(again.locator("#day-label")).to_have_text("2026-09-15")
    assert shows(again, "autumn")


def test_last_day_stays_until_the_next_one_has_come(open_page: OpenPage) -> None:
    page = open_page("/" + PLANET)
    plain = pixel(page, *CENTRE)
    edit_middle(page, "autumn", **{"from": "2026-09-15", "until": "2026-12-01"})
    page.focus("#day")
    for day in ("2026-09-14", "2026-09-15"):
        page.keyboard.press("ArrowRight")
        expect(page).to_have_url(re.compile(f"date={day}"))
        settle(page)
    with held_back(page, "**/tiles/**"):
        with page.expect_request("**/tiles/**"):
            page.keyboard.press("ArrowRight")
        expect(page).to_have_url(re.compile("date=2026-12-01"))
        page.wait_for_timeout(500)  # a flash cannot be waited for
        assert shows(page, "autumn")
    settle(page)
    assert pixel(page, *CENTRE) == plain
    assert page.complaints == []


def test_two_days_beside_each_other(open_page: OpenPage) -> None:
    page = open_page("/" + PLANET)
    edit_middle(page, "autumn", **{"from": "2026-09-15", "until": "2026-12-01"})
    edit_middle(page, "snow", **{"from": "2026-12-01"})
    world = fragment(page)["world"]
    page = open_page(f"/{PLANET.replace('world=planet', f'world={world}')}&date=2026-12-24&compare=2026-10-01")
    assert shows(page, "autumn", 310, 300) and shows(page, "snow", 410, 300)
    expect(page.locator("#swipe-before")).to_have_text("2026-10-01")
    expect(page.locator("#swipe-after")).to_have_text("2026-12-24")

    # The divider is a slider for the keyboard, and the left map goes where the right one goes.
    page.focus("#swipe")
    page.keyboard.press("End")
    expect(page.locator("#swipe")).to_have_attribute("aria-valuenow", "100")
    for _ in range(3):
        page.keyboard.press("PageDown")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#swipe")).to_have_attribute("aria-valuenow", "72")
    page.locator("#map > .maplibregl-canvas-container canvas").focus()
    page.keyboard.press("ArrowDown")
    expect(page).not_to_have_url(re.compile(r"lat=10\.0000"))
    settle(page)
    assert shows(page, "autumn", 380, 140) and not shows(page, "autumn", 380, 300)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("c")
    expect(page.locator("#swipe")).to_be_hidden()
    expect(page.locator("#before")).to_have_count(0)
    assert "compare" not in fragment(page)


def test_edit_is_flown_to(open_page: OpenPage) -> None:
    page = open_page("/" + PLANET)
    edit_middle(page, "flood")
    page.press("#map canvas", "ArrowRight")
    settle(page)
    page.click("#edit-list .edit-visit")
    expect(page).to_have_url(re.compile(r"lat=(10\.00|9\.99)\d\d&lon=(20\.00|19\.99)\d\d"))


def test_search_tells_its_progress_and_is_flown_to(open_page: OpenPage, finder: FakeFinder) -> None:
    page = open_page("/" + PLANET)
    finder.asked.clear()
    finder.gate.clear()
    try:
        page.keyboard.press("f")
        page.keyboard.type("a river mouth & <sandbanks>")
        page.keyboard.press("Enter")
        expect(page.locator("#word-progress-text")).to_have_text("1 of 6 tiles")
        expect(page.locator("#word-results li")).to_have_count(1)
    finally:
        finder.gate.set()
    expect(page.locator("#word-results li")).to_have_count(4)
    expect(page.locator("#word-progress")).to_be_hidden()
    (asked,) = finder.asked
    assert asked | {"world": "planet", "seed": "3", "q": "a river mouth & <sandbanks>", "zoom": "10"} == asked
    assert (asked["count"], asked["limit"]) == ("8", "64")
    west, south, east, north = (float(asked[edge]) for edge in ("west", "south", "east", "north"))
    assert west == pytest.approx(20 - 360 * 360 / 2**17, abs=1e-3) and east == pytest.approx(40 - west, abs=1e-3)
    assert south < 10 < north
    page.click("#word-results li:first-child button")
    expect(page).to_have_url(re.compile(r"lat=20\.0000&lon=16\.0000"))


def test_cancelled_search_hangs_up_and_keeps_what_it_found(open_page: OpenPage, finder: FakeFinder) -> None:
    page = open_page("/" + PLANET)
    finder.gate.clear()
    given_up = finder.given_up
    try:
        page.click("#word-search summary")
        page.fill("#word-query", "a harbour")
        page.click("#word-form button")
        expect(page.locator("#word-results li")).to_have_count(1)
        page.click("#word-cancel")
        expect(page.locator("#word-progress")).to_be_hidden()
        for _ in range(100):
            if finder.given_up > given_up:
                break
            page.wait_for_timeout(50)
        assert finder.given_up == given_up + 1, "the server knows that nobody listens"
    finally:
        finder.gate.set()
    expect(page.locator("#word-results li")).to_have_count(1)


def test_search_that_fails_says_why(open_page: OpenPage) -> None:
    page = open_page("/" + PLANET)
    page.click("#word-search summary")
    page.press("#word-query", "Enter")
    expect(page.locator("#word-error")).to_have_text("Say what to look for")
    page.fill("#word-query", "a harbour")
    page.route("**/find?**", answer(503, "too many searches", **{"Retry-After": "2"}))
    page.press("#word-query", "Enter")
    expect(page.locator("#word-error")).to_have_text("The search failed: too many searches")
    page.unroute("**/find?**")
    line = json.dumps({"detail": "the search failed half-way"}) + "\n"
    page.route("**/find?**", lambda route: route.fulfill(body=line, content_type="application/x-ndjson"))
    page.press("#word-query", "Enter")
    expect(page.locator("#word-error")).to_have_text("The search failed: the search failed half-way")


def test_phone_draws_and_everything_fits(open_page: OpenPage) -> None:
    page = open_page("/" + PLANET, **PHONE)
    page.tap("#fold")
    page.tap("#worlds label:has-text('Prompt')")
    page.tap("#prompt-more summary")
    page.select_option("#prompt-gsd", "other")
    page.tap("#word-search summary")
    page.tap("#edits summary")
    assert outside(page) == []
    page.tap("#draw")
    expect(page.locator("#panel-body")).to_be_hidden()
    set_corners(page, page.touchscreen.tap, [(100, 200), (300, 200), (300, 400), (100, 400)])
    assert outside(page) == []
    page.tap("#draw-finish")
    expect(page.locator("#edit-form")).to_be_visible()
    assert outside(page) == []
    page.select_option("#edit-action", "snow")
    page.fill("#edit-from", "2026-11-15")
    page.tap("#edit-apply")
    expect(page.locator("#edit-list li")).to_have_count(1)
    page.select_option("#compare", "original")
    settle(page)
    assert outside(page) == [] and nameless(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390

"""The map page in a real browser.

The browser is Debian's headless chromium. The pages come from a stand-in for the tile server, or from a
running server where EARTHGEN_MAP_URL names one; faults are put between the two, so that both can be tested alike.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser import IDLE, PHONE, OpenPage, answer, colours, fragment, nameless, outside, pixel, serve
from tileserver import vendor

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

GROUND = (13, 26, 38)
"""The map's background, seen where no tile is."""
DEEP = "#world=planet&seed=3&projection=globe&z=9.00&lat=10.0000&lon=20.0000"


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """Address of a server with the map."""
    if url := os.environ.get("EARTHGEN_MAP_URL"):
        yield url.rstrip("/")
        return
    from tests.fake_tileserver import create_fake_app

    with serve(create_fake_app()) as address:
        yield address


def seeds(urls: list[str]) -> set[str]:
    return {parse_qs(urlsplit(url).query)["seed"][0] for url in urls}


@pytest.mark.parametrize("package", vendor.PACKAGES, ids=lambda package: package.name)
def test_vendored_files_are_the_pinned_ones_with_their_licence(package: vendor.Package) -> None:
    vendor.check(package, package.folder)
    assert "WITHOUT WARRANTY" in (text := (package.folder / "LICENSE.txt").read_text()) or "AS IS" in text


def test_changed_vendored_file_is_noticed(tmp_path: Path) -> None:
    package = vendor.PACKAGES[0]
    copy = shutil.copytree(package.folder, tmp_path / "copy")
    with (copy / "maplibre-gl.css").open("a") as file:
        file.write("\n")
    with pytest.raises(vendor.VendorError, match=r"maplibre-gl\.css has SHA-256"):
        vendor.check(package, copy)


def test_nothing_is_loaded_from_elsewhere() -> None:
    own = [path for path in vendor.VENDOR_FOLDER.parent.rglob("*") if path.suffix in {".html", ".js", ".css"}]
    text = "\n".join(path.read_text() for path in own if vendor.VENDOR_FOLDER not in path.parents)
    assert "</html>" in text
    assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}


def test_globe_is_drawn_without_complaints(open_page: OpenPage) -> None:
    page = open_page("/")
    assert page.complaints == []
    assert colours(page, {"x": 320, "y": 130, "width": 150, "height": 200}) > 50
    # Space beside the globe is nearly one colour: what was counted is the globe.
    assert colours(page, {"x": 320, "y": 4, "width": 60, "height": 12}) < 50


def test_page_obeys_a_strict_content_policy(open_page: OpenPage, site: str) -> None:
    """The stand-in sends the policy; where a browser had to break it, the console would say so."""
    page = open_page("/" + DEEP)
    policy = page.request.get(site + "/").headers.get("content-security-policy")
    assert policy is not None and "script-src 'self';" in policy
    assert page.complaints == []


def test_another_seed_asks_for_other_tiles_and_nothing_of_the_old_world(open_page: OpenPage) -> None:
    page = open_page("/#world=planet&seed=3")
    assert seeds(page.tiles) == {"3"}
    page.tiles.clear()
    page.fill("#seed", "41")
    page.press("#seed", "Enter")
    expect(page).to_have_url(re.compile(r"[#&]seed=41(&|$)"))
    page.wait_for_selector(IDLE, state="attached")
    assert seeds(page.tiles) == {"41"}
    assert page.title() == "Planet · seed 41 | earthgen"


def test_root_is_part_of_the_address(open_page: OpenPage) -> None:
    page = open_page("/#world=earth&seed=3")
    assert all("/worlds/earth/tiles/" in url for url in page.tiles)
    expect(page.locator("#attribution")).to_have_text("Root: NASA Blue Marble (public domain)")
    page.tiles.clear()
    page.click("#worlds label:has-text('Planet')")
    expect(page).to_have_url(re.compile(r"[#&]world=planet(&|$)"))
    page.wait_for_selector(IDLE, state="attached")
    assert page.tiles and all("/worlds/planet/tiles/" in url for url in page.tiles)
    assert seeds(page.tiles) == {"3"}


def test_a_draft_is_chosen_linked_and_taken_back(open_page: OpenPage) -> None:
    page = open_page("/#world=planet&seed=3")
    assert all("quality" not in url for url in page.tiles)
    page.tiles.clear()
    # The server behind this page makes drafts, and nothing better than the standard.
    assert page.locator("#quality option:not([hidden])").all_inner_texts() == ["Draft: quick", "Standard"]
    page.select_option("#quality", "draft")
    expect(page).to_have_url(re.compile(r"[#&]quality=draft(&|$)"))
    page.wait_for_selector(IDLE, state="attached")
    assert page.tiles and all("quality=draft" in url for url in page.tiles)
    again = open_page(page.url.removeprefix(page.evaluate("location.origin")))
    assert again.input_value("#quality") == "draft"
    assert all("quality=draft" in url for url in again.tiles)
    page.tiles.clear()
    page.go_back()
    expect(page.locator("#quality")).to_have_value("standard")
    page.wait_for_selector(IDLE, state="attached")
    assert all("quality" not in url for url in page.tiles)


def test_new_planet_is_another_one_each_time(open_page: OpenPage) -> None:
    page = open_page("/")
    found = set()
    for _ in range(3):
        before = page.url
        page.click("#new-planet")
        expect(page).not_to_have_url(before)
        assert fragment(page)["world"] == "planet"
        found.add(fragment(page)["seed"])
    assert len(found) == 3


def test_locked_seed_stays(open_page: OpenPage) -> None:
    page = open_page("/#world=planet&seed=3")
    page.click("#lock")
    for control in ("#seed", "#dice", "#new-planet"):
        expect(page.locator(control)).to_be_disabled()
    page.keyboard.press("n")
    page.keyboard.press("r")
    page.click("#worlds label:has-text('Real Earth')")
    expect(page).to_have_url(re.compile(r"[#&]world=earth(&|$)"))
    assert fragment(page)["seed"] == "3"


def test_wrong_seed_is_explained_and_not_used(open_page: OpenPage) -> None:
    page = open_page("/#world=planet&seed=3")
    for wrong in ("-1", "seven", str(2**63)):
        page.fill("#seed", wrong)
        page.press("#seed", "Enter")
        expect(page.locator("#seed-error")).to_have_text(f"A seed is a whole number from 0 to {2**63 - 1}")
    assert seeds(page.tiles) == {"3"}


def test_largest_seed_keeps_its_digits(open_page: OpenPage) -> None:
    page = open_page(f"/#world=planet&seed={2**63 - 1}")
    assert seeds(page.tiles) == {str(2**63 - 1)}
    assert page.input_value("#seed") == str(2**63 - 1)


def test_link_restores_the_view(open_page: OpenPage) -> None:
    link = "#world=planet&seed=17&projection=flat&z=6.50&lat=-33.4500&lon=151.2000&bearing=20&pitch=30"
    page = open_page("/" + link)
    assert page.input_value("#seed") == "17"
    expect(page.locator("input[value=planet]")).to_be_checked()
    expect(page.locator("input[value=flat]")).to_be_checked()
    expect(page.locator("#zoom")).to_have_text("z 6.5")
    expect(page.locator("#place")).to_have_text(re.compile(r"33\.45\d*° S\s+151\.20\d*° E"))

    # Move there and back: the link follows the camera, and leads another browser to the same view.
    page.locator("#map canvas").focus()
    page.keyboard.press("ArrowRight")
    expect(page).not_to_have_url(re.compile("lon=151.2000"))
    page.wait_for_selector(IDLE, state="attached")
    moved = fragment(page)
    assert moved["lon"] != "151.2000" and moved["seed"] == "17" and moved["bearing"] == "20"
    again = open_page(page.url.removeprefix(page.evaluate("location.origin")))
    again.evaluate("dispatchEvent(new Event('resize'))")
    expect(again.locator("#place")).to_have_text(page.inner_text("#place"), use_inner_text=True)


def test_back_button_returns_to_the_last_world(open_page: OpenPage) -> None:
    page = open_page("/#world=planet&seed=3")
    page.fill("#seed", "41")
    page.press("#seed", "Enter")
    expect(page).to_have_url(re.compile(r"[#&]seed=41(&|$)"))
    page.wait_for_selector(IDLE, state="attached")
    page.tiles.clear()
    page.go_back()
    expect(page).to_have_title(re.compile("seed 3 "))
    page.wait_for_selector(IDLE, state="attached")
    assert page.input_value("#seed") == "3"
    assert seeds(page.tiles) <= {"3"}


def test_copy_button_copies_the_link(open_page: OpenPage) -> None:
    page = open_page("/" + DEEP, permissions=["clipboard-read", "clipboard-write"])
    page.click("#share")
    expect(page.locator("#share")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    assert fragment(page) | {"z": "9.00", "seed": "3"} == fragment(page)


def test_link_that_makes_no_sense_says_what(open_page: OpenPage) -> None:
    page = open_page("/#seed=abc&z=99&lat=&projection=cube")
    notice = page.locator("[data-key=link]")
    for part in ("seed “abc”", "z “99” is not a number from 0.5 to 19.5", "lat “”", "projection “cube”"):
        expect(notice).to_contain_text(part)
    assert seeds(page.tiles) == {"0"}


def test_unknown_world_says_so_and_shows_earth(open_page: OpenPage) -> None:
    page = open_page("/#world=ffffffffffffffffffff")
    expect(page.locator("[data-key=world]")).to_contain_text("ffffffffffffffffffff")
    assert fragment(page)["world"] == "earth"
    assert all("/worlds/earth/tiles/" in url for url in page.tiles)


def test_registered_world_has_its_own_seed(open_page: OpenPage, site: str) -> None:
    page = open_page("/")
    names = [world["name"] for world in page.request.get(site + "/worlds").json()["worlds"]]
    registered = [name for name in names if name not in ("earth", "planet")]
    if not registered:
        pytest.skip("this server has no registered world")
    page.click("#gallery summary")
    # The gallery's own pictures are tiles, too.
    page.wait_for_function(
        "() => [...document.querySelectorAll('#gallery .thumbnail')].every((frame) => frame.childNodes.length > 0)"
    )
    page.tiles.clear()
    page.click(f"#gallery-list button:has-text('{registered[0][:8]}')")
    expect(page).to_have_url(re.compile(registered[0]))
    expect(page.locator("#summary")).to_have_text(f"World {registered[0]}")
    page.wait_for_selector(IDLE, state="attached")
    assert page.tiles and all(f"/worlds/{registered[0]}/" in url and "seed" not in url for url in page.tiles)
    expect(page.locator("#seed")).to_be_disabled()
    # Read as text: a number in JavaScript would have lost digits.
    seed = json.loads(page.request.get(f"{site}/worlds/{registered[0]}").text())["seed"]
    expect(page.locator("#seed")).to_have_value(str(seed))


def test_keyboard_alone_is_enough(open_page: OpenPage) -> None:
    page = open_page("/")
    page.keyboard.press("?")
    expect(page.locator("#help-dialog")).to_be_visible()
    page.keyboard.press("n")
    page.keyboard.press("Escape")
    expect(page.locator("#help-dialog")).to_be_hidden()
    assert "planet" not in page.url, "keys do nothing behind a dialog"

    page.keyboard.press("g")
    expect(page).to_have_url(re.compile(r"[#&]projection=flat(&|$)"))
    expect(page.locator("input[value=flat]")).to_be_checked()
    page.keyboard.press("n")
    expect(page).to_have_url(re.compile(r"[#&]world=planet(&|$)"))
    page.keyboard.press("e")
    expect(page).to_have_url(re.compile(r"[#&]world=earth(&|$)"))
    page.keyboard.press("/")
    page.keyboard.type("77")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"[#&]seed=77(&|$)"))
    page.keyboard.type("n")
    assert fragment(page)["world"] == "earth", "keys do nothing while text is typed"

    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("m")
    zoom = page.inner_text("#zoom")
    page.keyboard.press("+")
    expect(page.locator("#zoom")).not_to_have_text(zoom)
    page.keyboard.press("p")
    expect(page.locator("#places")).to_have_attribute("open", "")
    page.keyboard.press("h")
    expect(page.locator("#panel-body")).to_be_hidden()


def test_focus_goes_through_every_control_in_reading_order(open_page: OpenPage) -> None:
    page = open_page("/")
    order = []
    for _ in range(21):
        page.keyboard.press("Tab")
        order.append(page.evaluate("(({ id, name, className }) => id || name || className)(document.activeElement)"))
    wanted = [
        "fold",
        "world",
        "seed",
        "dice",
        "lock",
        "quality",
        "new-planet",
        "projection",
        "share",
        "help",
        "maplibregl-canvas",
    ]
    assert [name for name in order if name in wanted] == wanted


def test_every_control_has_a_name(open_page: OpenPage) -> None:
    page = open_page("/")
    assert nameless(page) == []


def test_readout_follows_the_pointer(open_page: OpenPage) -> None:
    page = open_page("/#projection=flat&z=8&lat=0&lon=0")
    page.mouse.move(360, 240)
    expect(page.locator("#place-label")).to_have_text("Place under the pointer")
    expect(page.locator("#place")).to_have_text(re.compile(r"0\.00\d*° [NS]\s+0\.00\d*° [EW]"))
    page.mouse.move(616, 240)
    # 256 pixels at zoom 8 are one tile: 360 / 256 degrees.
    expect(page.locator("#place")).to_have_text(re.compile(r"1\.40\d*° E"))
    expect(page.locator("#gsd")).to_have_text("611 m/px")


def test_pointer_beside_the_globe_is_off_the_globe(open_page: OpenPage) -> None:
    page = open_page("/")
    page.mouse.move(710, 20)
    expect(page.locator("#place")).to_have_text("off the globe")
    expect(page.locator("#gsd")).to_have_text("-")


def test_scale_bar_measures_what_it_says(open_page: OpenPage) -> None:
    page = open_page("/#projection=flat&z=12&lat=60&lon=0")
    number, unit = page.inner_text("#scale-label").split()
    metres = float(number) * (1000 if unit == "km" else 1)
    width = page.evaluate("document.getElementById('scale-bar').getBoundingClientRect().width")
    assert metres / width == pytest.approx(156543.03 / 2 / 2**12, rel=0.01)


def test_deep_views_ask_only_for_the_root_and_their_own_level(open_page: OpenPage) -> None:
    page = open_page("/#projection=flat&z=15&lat=10&lon=20")
    zooms = [int(url.split("/WebMercatorQuad/")[1].split("/")[0]) for url in page.tiles]
    assert set(zooms) <= {4, 15}
    assert len(page.tiles) == len(set(page.tiles)), "no tile is asked for twice"
    assert zooms.count(15) <= 4 * 3, "720 x 480 pixels touch at most 4 x 3 tiles"


def test_tiles_follow_the_house_maximum_zoom(open_page: OpenPage) -> None:
    page = open_page("/#projection=flat&z=19.5&lat=10&lon=20")
    zooms = {int(url.split("/WebMercatorQuad/")[1].split("/")[0]) for url in page.tiles}
    assert zooms <= {4, 18}
    expect(page.locator("#zoom")).to_have_text("z 19.5")


def test_busy_tiles_are_asked_for_again_after_retry_after(open_page: OpenPage) -> None:
    refused: set[str] = set()

    def busy_once(route: Any) -> None:
        if route.request.url in refused or len(refused) >= 5:
            route.continue_()
            return
        refused.add(route.request.url)
        answer(503, "too much work is queued", **{"Retry-After": "1"})(route)

    page = open_page("/" + DEEP, wait=False, before=lambda page: page.route("**/tiles/**", busy_once))
    expect(page.locator("[data-key=server]")).to_contain_text("more to do than it can take")
    page.wait_for_selector(IDLE, state="attached")
    assert len(refused) == 5
    assert all(page.tiles.count(url) == 2 for url in refused)
    assert page.get_attribute("html", "data-failed") in (None, "0")
    expect(page.locator("[data-key=server]")).to_have_count(0)


def test_broken_tile_says_why_and_can_be_tried_again(open_page: OpenPage) -> None:
    detail = "the weights' file is truncated at byte 1024"
    page = open_page(
        "/" + DEEP, wait=False, before=lambda page: page.route("**/WebMercatorQuad/9/**", answer(500, detail))
    )
    notice = page.locator("[data-key=tiles]")
    expect(notice).to_contain_text(f"A tile could not be made: {detail}")
    page.wait_for_selector(IDLE, state="attached")
    assert int(page.get_attribute("html", "data-failed")) > 0
    assert pixel(page, 500, 240) not in (GROUND, (0, 0, 0)), "the root stands in"

    page.unroute("**/WebMercatorQuad/9/**")
    page.tiles.clear()
    notice.get_by_role("button", name="Try again").click()
    expect(notice).to_have_count(0)
    page.wait_for_selector(IDLE, state="attached")
    assert any("/WebMercatorQuad/9/" in url for url in page.tiles)
    assert page.get_attribute("html", "data-failed") == "0"


def test_silent_server_is_reported_and_asked_until_it_answers(open_page: OpenPage) -> None:
    page = open_page("/")
    page.context.set_offline(True)
    page.click("#new-planet")
    expect(page.locator("[data-key=server]")).to_contain_text("The server does not answer")
    page.context.set_offline(False)
    page.wait_for_selector(IDLE, state="attached")
    expect(page.locator("[data-key=server]")).to_have_count(0)


def test_busy_pill_says_what_is_generated(open_page: OpenPage) -> None:
    held: list[Any] = []
    sentence = re.compile(r"Generating \d+ tiles · level z8 \(602 m/px\) · 0\.4 s each")
    activity = '{"running":[{"zoom":8,"row":5,"column":7}],"queued":3,"done":40,"seconds_per_window":0.4}'

    def keep(route: Any) -> None:
        held.append(route)

    def hold(page: Any) -> None:
        page.route("**/WebMercatorQuad/9/**", keep)
        page.route("**/activity", lambda route: route.fulfill(body=activity, content_type="application/json"))

    page = open_page("/" + DEEP, wait=False, before=hold)
    expect(page.locator("#busy-text")).to_have_text(sentence)
    assert page.get_attribute("html", "data-map") == "busy"
    assert len(held) == 4, "a server is asked for four tiles at a time, however many are wanted"
    page.unroute("**/WebMercatorQuad/9/**")
    for route in held:
        route.continue_()
    page.wait_for_selector(IDLE, state="attached")
    expect(page.locator("#busy")).to_be_hidden()


def test_activity_is_not_polled_when_nothing_is_pending(open_page: OpenPage) -> None:
    page = open_page("/")
    polls: list[str] = []
    page.on("request", lambda request: polls.extend([request.url] if request.url.endswith("/activity") else []))
    page.wait_for_timeout(1600)  # two polling periods: an absence cannot be waited for
    assert polls == []


def test_first_look_at_a_planet_says_that_it_is_shaped(open_page: OpenPage) -> None:
    held: list[Any] = []

    def keep(route: Any) -> None:
        held.append(route)

    def hold(page: Any) -> None:
        page.route("**/tiles/**", keep)
        nothing = '{"running":[],"queued":0,"done":0,"seconds_per_window":0}'
        page.route("**/activity", lambda route: route.fulfill(body=nothing, content_type="application/json"))

    page = open_page("/#world=planet&seed=5", wait=False, before=hold)
    expect(page.locator("#busy-text")).to_have_text(re.compile(r"Shaping the planet · \d+ tiles to come"))
    page.unroute("**/tiles/**")
    for route in held:
        route.continue_()
    page.wait_for_selector(IDLE, state="attached")


def test_tiles_that_leave_the_view_in_flight_are_never_asked_for(open_page: OpenPage) -> None:
    page = open_page("/")
    page.tiles.clear()
    outcome = page.evaluate(
        """async () => {
          const { TileLoader } = await import(new URL("static/js/tile_loader.js", document.baseURI));
          const loader = new TileLoader();
          loader.patience = 200;
          const path = (z) => loader.template(`worlds/earth/tiles/WebMercatorQuad/${z}/1/1.webp?seed=123`);
          const controller = new AbortController();
          const passing = loader.load(path(9), controller.signal).catch((error) => error.name);
          const staying = loader.load(path(10), new AbortController().signal);
          controller.abort();
          return [await passing, (await staying).data.byteLength > 0, loader.pending, loader.running];
        }"""
    )
    assert outcome == ["AbortError", True, 0, 0]
    assert [url.split("/WebMercatorQuad/")[1].split("/")[0] for url in page.tiles] == ["10"]


def test_place_is_flown_to(open_page: OpenPage) -> None:
    page = open_page("/")
    page.click("#places summary")
    page.click("#place-list button:has-text('The Alps')")
    expect(page).to_have_url(re.compile(r"[#&]z=11\.00(&|$)"))
    link = fragment(page)
    assert float(link["lat"]) == pytest.approx(46.51, abs=0.01) and float(link["lon"]) == pytest.approx(7.98, abs=0.01)
    expect(page.locator("#live")).to_have_text("Arrived at The Alps")


def test_coast_of_an_unknown_planet_is_found(open_page: OpenPage) -> None:
    page = open_page("/#world=planet&seed=12")
    page.click("#places summary")
    expect(page.locator("#place-list")).to_be_hidden()
    page.click("#kinds button:has-text('Coast')")
    expect(page).to_have_url(re.compile(r"[#&]z=11\.00(&|$)"))
    expect(page.locator("#live")).to_have_text("Arrived at coast")
    # Both land and water are at hand: classify the root around the place that was found.
    covers = page.evaluate(
        """async () => {
          const { coverOf } = await import(new URL("static/js/terrain_search.js", document.baseURI));
          const { tilePath } = await import(new URL("static/js/service.js", document.baseURI));
          const link = new URLSearchParams(location.hash.slice(1));
          const x = (Number(link.get("lon")) + 180) / 360 * 16;
          const y = (0.5 - Math.asinh(Math.tan(Number(link.get("lat")) * Math.PI / 180)) / (2 * Math.PI)) * 16;
          const path = tilePath({ world: "planet", seed: "12" }, 4, Math.floor(x), Math.floor(y));
          const bitmap = await createImageBitmap(await (await fetch(path)).blob());
          const context = Object.assign(document.createElement("canvas"), { width: 256, height: 256 }).getContext("2d");
          context.drawImage(bitmap, 0, 0);
          const { data } = context.getImageData(256 * (x % 1) - 4, 256 * (y % 1) - 4, 8, 8);
          return Array.from({ length: 64 }, (_, i) => coverOf(data[4 * i], data[4 * i + 1], data[4 * i + 2]));
        }"""
    )
    assert "water" in covers and len(set(covers)) > 1


def test_phone_layout_fits(open_page: OpenPage) -> None:
    page = open_page("/", **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    expect(page.locator("#panel-body")).to_be_hidden()
    page.tap("#fold")
    expect(page.locator("#new-planet")).to_be_visible()
    page.tap("#places summary")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert outside(page) == []


def test_label_is_on_screen_even_without_the_panel(open_page: OpenPage) -> None:
    page = open_page("/?ui=0")
    expect(page.locator("#panel")).to_be_hidden()
    expect(page.locator(".credits strong")).to_be_visible()
    expect(page.locator(".credits strong")).to_have_text("Synthetic imagery - generated by earthgen; not a photograph")


def test_without_webgl_the_page_says_so(open_page: OpenPage) -> None:
    no_webgl = "HTMLCanvasElement.prototype.getContext = () => null"
    page = open_page("/", wait=False, before=lambda page: page.add_init_script(no_webgl))
    expect(page.locator("#unsupported h1")).to_have_text("The globe needs WebGL 2")
    preview = page.locator("#unsupported-preview")
    preview.evaluate("image => image.decode()")
    assert preview.evaluate("image => image.naturalWidth") > 0

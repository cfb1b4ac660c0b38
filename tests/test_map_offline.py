"""The map where no server answers: the page opens, and what was seen before is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser import IDLE, OpenPage, pixel, serve
from tests.fake_tileserver import create_painted_app
from tileserver.pages import STATIC_FOLDER, service_worker

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

VIEW = "/#world=planet&seed=3&projection=flat&z=9.00&lat=10.0000&lon=20.0000"
POINTS = [(360, 240), (500, 120), (600, 400)]


class Server:
    """A server that can be stopped, and started again at the same address."""

    def __init__(self) -> None:
        self._running = ExitStack()
        self.base = self._running.enter_context(serve(create_painted_app()))

    def stop(self) -> None:
        self._running.close()

    def start(self) -> None:
        self._running.enter_context(serve(create_painted_app(), port=urlsplit(self.base).port or 0))


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def site(server: Server) -> str:
    return server.base


def seen(open_page: OpenPage) -> Any:
    """A page whose files and tiles the browser has kept."""
    page = open_page(VIEW, service_workers="allow")
    page.evaluate("navigator.serviceWorker.ready.then(() => null)")
    count = len(set(page.tiles))
    page.wait_for_function(
        "async (count) => (await (await caches.open('earthgen / tiles')).keys()).length >= count", arg=count
    )
    return page


def test_the_page_opens_and_shows_what_was_seen(open_page: OpenPage, server: Server) -> None:
    page = seen(open_page)
    colours = [pixel(page, *point) for point in POINTS]
    server.stop()
    page.tiles.clear()
    page.reload()
    page.wait_for_selector(IDLE, state="attached")
    for point, colour in zip(POINTS, colours, strict=True):
        assert all(abs(a - b) <= 2 for a, b in zip(pixel(page, *point), colour, strict=True))
    assert page.tiles == [], "nobody was asked for what is kept"
    notice = page.locator("[data-key=server]")
    expect(notice).to_contain_text("What you have seen before is still here")
    assert page.title() == "Planet · seed 3 | earthgen"

    # What has to be asked for says so, where it was asked for.
    page.click("#exports summary")
    expect(page.locator("#export-error")).to_have_text(
        "The server’s exports cannot be read: The server does not answer"
    )
    page.click("#gallery summary")
    expect(page.locator("#gallery-list li")).to_have_count(4)
    expect(page.locator("#gallery-list")).to_contain_text("No picture: the server does not answer")

    # A place that was never seen comes when the server is back, by itself.
    page.evaluate("location.hash = location.hash.replace('lon=20.0000', 'lon=120.0000')")
    expect(notice).to_contain_text("Trying again")
    server.start()
    page.wait_for_selector(IDLE, state="attached")
    expect(notice).to_have_count(0)
    assert page.tiles != []


def test_a_world_that_was_never_seen_is_asked_for_until_it_comes(open_page: OpenPage, server: Server) -> None:
    page = seen(open_page)
    server.stop()
    page.goto("about:blank")
    page.goto(server.base + "/#world=planet&seed=77", wait_until="commit")
    expect(page.locator("[data-key=server]")).to_contain_text(re.compile("does not answer. Trying again"))
    assert page.get_attribute("html", "data-map") == "busy"
    server.start()
    page.wait_for_selector(IDLE, state="attached")
    expect(page.locator("[data-key=server]")).to_have_count(0)
    assert page.title() == "Planet · seed 77 | earthgen"


def test_only_what_stands_for_its_bytes_is_kept_and_not_without_end(open_page: OpenPage) -> None:
    page = open_page(VIEW)
    outcome = page.evaluate(
        """async () => {
          const { keepTile, keptTile } = await import(new URL("static/js/kept.js", document.baseURI));
          const cache = await caches.open("earthgen / tiles");
          const reply = (how) => new Response("pixels", { headers: { "Cache-Control": how } });
          const settled = () => new Promise((resolve) => setTimeout(resolve, 300));
          keepTile("worlds/a?v=old", reply("no-cache"));
          keepTile("worlds/b?v=new", reply("public, max-age=31536000, immutable"));
          await settled();
          const kept = [await keptTile("worlds/a?v=old"), await keptTile("worlds/b?v=new"), await keptTile("worlds/b")];
          await Promise.all(Array.from({ length: 3000 }, (_, i) => cache.put(`/old/${i}`, new Response("x"))));
          for (let i = 0; i < 200; i += 1) keepTile(`worlds/${i}?v=new`, reply("immutable"));
          const newest = async () => (await keptTile("worlds/199?v=new")) !== null;
          while (!(await newest())) await settled();
          await settled();
          return { kept: kept.map((data) => data?.byteLength ?? null), count: (await cache.keys()).length };
        }"""
    )
    assert outcome["kept"] == [None, len("pixels"), None]
    assert 2900 <= outcome["count"] <= 3100


def test_where_a_browser_keeps_nothing_the_page_works_without(open_page: OpenPage) -> None:
    nothing = "delete Window.prototype.caches; delete window.caches; delete Navigator.prototype.serviceWorker"
    page = open_page(VIEW, before=lambda page: page.add_init_script(nothing))
    assert page.evaluate("[typeof caches, typeof navigator.serviceWorker]") == ["undefined", "undefined"]
    assert page.tiles and page.complaints == []


def test_every_file_of_the_page_is_kept_under_a_version_of_all_of_them() -> None:
    text = service_worker()
    files = json.loads(text.split("const FILES = ")[1].split(";\n")[0])
    assert {"./", "static/js/main.js", "static/css/map.css", "static/service_worker.js"} & set(files) == {
        "./",
        "static/js/main.js",
        "static/css/map.css",
    }
    assert all((STATIC_FOLDER / file.removeprefix("static/")).is_file() for file in files if file != "./")
    # Whatever a module or a stylesheet of the page names is among them.
    named = set()
    for file in files:
        path = STATIC_FOLDER / file.removeprefix("static/")
        if path.suffix == ".js" and "vendor" not in file:
            for name in re.findall(r'(?:from|import)\s*\(?\s*"(\.[^"]+)"', path.read_text()):
                named.add((path.parent / name).resolve().relative_to(STATIC_FOLDER).as_posix())
    assert len(named) > 30
    assert {f"static/{name}" for name in named} <= set(files)

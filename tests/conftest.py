"""What every test may use: Hypothesis profiles and the programs of the machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.browser import ARGUMENTS, IDLE, WAIT_MS, OpenPage
from tests.scheduling import LongestFirst, rank

# A run in CI tries the same examples every time; `HYPOTHESIS_PROFILE=thorough` looks for new ones.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", _patient, derandomize=True, database=None, max_examples=100)
settings.register_profile("dev", _patient, max_examples=50)
settings.register_profile("thorough", _patient, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Each process takes one core, where several share them: threads of the same product would wait for each other."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`: long files first."""
    return LongestFirst(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in the order in which they are handed out."""
    items.sort(key=lambda item: rank(item.nodeid))


def program(name: str) -> str:
    """Path of a program of the machine; without it a test skips, or fails where CI promises that it is there."""
    path = shutil.which(name)
    if path is None:
        message = f"this machine has no {name}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium browser."""
    return program("chromium")


@pytest.fixture(scope="session")
def gdal_translate() -> str:
    """Path of GDAL's own gdal_translate."""
    return program("gdal_translate")


@pytest.fixture(scope="module")
def s3_address() -> Iterator[str]:
    """Address of a server on this machine that speaks S3."""
    from tests.s3_server import serving

    with serving() as address:
        yield address


@pytest.fixture(scope="module")
def running_browser(chromium: str) -> Iterator[Any]:
    """One headless chromium for a whole module; each page gets a profile of its own."""
    playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    playwright_api.expect.set_options(timeout=WAIT_MS)
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(running_browser: Any, site: str) -> Iterator[OpenPage]:
    """Open the map of the module's `site` in a fresh browser profile.

    `page.complaints` collects what the console says, `page.tiles` the addresses of tiles that were asked for.
    """
    contexts = []

    def open_page(
        path: str = "/", *, wait: bool = True, before: Callable[[Any], object] | None = None, **options: Any
    ) -> Any:
        # What a service worker answers would not pass the routes that tests put in the way.
        usual = {"viewport": {"width": 720, "height": 480}, "reduced_motion": "reduce", "service_workers": "block"}
        options = usual | options
        context = running_browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.complaints = []
        page.tiles = []
        page.on(
            "console",
            lambda message: (
                message.type in ("error", "warning")
                and "blocked by Playwright" not in message.text
                and page.complaints.append(message.text)
            ),
        )
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: "/tiles/" in request.url and page.tiles.append(request.url))
        if before:
            before(page)
        page.goto(site + path)
        if wait:
            page.wait_for_selector(IDLE, state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()

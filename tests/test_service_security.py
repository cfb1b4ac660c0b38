"""What the service guards: headers of every answer, the map under its policy, who may write, and large bodies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from tests.browser import IDLE, OpenPage, serve
from tests.fake_engine import FakeEngine
from tests.fake_tileserver import create_painted_app
from tileserver import Settings, create_app
from tileserver import export as export_routes
from tileserver import worlds as worlds_routes
from tileserver.guard import may_write

TILE = "/worlds/planet/tiles/WebMercatorQuad/9/261/180.png"
KEY = "a-long-random-word-0123"
# POST because the question is long; they keep nothing.
QUESTIONS = {
    "/generate",
    "/worlds/{world}/statistics",
    "/worlds/{world}/feature",
    "/worlds/{world}/feature.{format}",
    "/worlds/{world}/feature/{width}x{height}.{format}",
    "/worlds/{world}/perception/detect",
    "/worlds/{world}/perception/segment",
    "/worlds/{world}/agent",
    "/worlds/{world}/exports/plan",
}


@contextmanager
def running(engine: FakeEngine | None = None, **settings: Any) -> Iterator[str]:
    with serve(create_app(Settings(**settings), lambda _: engine or FakeEngine())) as base:
        yield base


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """Address of the service with its map, over an engine that paints."""
    with serve(create_painted_app()) as address:
        yield address


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """Address of the service as it is."""
    with running() as address:
        yield address


class Broken(FakeEngine):
    def pixels(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("broken on purpose")


def register(base: str, **headers: str) -> httpx.Response:
    return httpx.post(f"{base}/worlds", json={"root": "planet", "seed": 7}, headers=headers)


def assert_guarded(answer: httpx.Response) -> None:
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    if not answer.headers.get("content-type", "").startswith("text/"):
        assert "-src" not in policy.removeprefix("default-src")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/docs", 200),
        ("GET", "/status", 200),
        ("GET", "/metrics", 200),
        ("GET", "/healthz", 200),
        ("GET", TILE, 200),
        ("HEAD", TILE, 200),
        ("GET", "/static/js/main.js", 200),
        ("GET", "/static/favicon.svg", 200),
        ("GET", "/static/nothing.js", 404),
        ("GET", "/nothing", 404),
        ("DELETE", "/worlds", 405),
        ("GET", "/worlds/planet?seed=x", 422),
        ("GET", "/worlds/planet/bbox/7,46,7.1,46.1.tif", 200),
    ],
)
def test_every_answer_says_what_browsers_may_do_with_it(service: str, method: str, path: str, status: int) -> None:
    answer = httpx.request(method, service + path)
    assert answer.status_code == status
    assert_guarded(answer)


def test_refusals_failures_and_preflights_say_it_too() -> None:
    with running(Broken()) as base:
        answer = httpx.get(base + TILE)
        assert answer.status_code == 500
        assert_guarded(answer)
        answer = httpx.post(f"{base}/worlds", content=b" " * (1 << 21))
        assert answer.status_code == 413
        assert_guarded(answer)
        origin = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
        answer = httpx.options(base + TILE, headers=origin)
        assert answer.status_code == 200
        assert_guarded(answer)


@pytest.mark.browser
def test_the_map_works_under_its_policy(open_page: OpenPage) -> None:
    listen = """
        window.violations = [];
        addEventListener("securitypolicyviolation", (e) => violations.push(`${e.effectiveDirective} ${e.blockedURI}`));
    """
    page = open_page(
        "/#world=planet&seed=3&projection=globe&z=9.00&lat=10.0000&lon=20.0000",
        before=lambda page: page.add_init_script(listen),
    )
    page.fill("#seed", "41")
    page.press("#seed", "Enter")
    page.wait_for_selector(IDLE, state="attached")
    page.click("#worlds label:has-text('Real Earth')")
    page.wait_for_selector(IDLE, state="attached")
    assert page.tiles
    assert page.evaluate("violations") == []
    assert page.complaints == []
    # The listener listens and the policy holds: an inline script does not run.
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'taken'";
            document.body.append(script);
        }"""
    )
    page.wait_for_function("violations.length > 0")
    assert page.evaluate("violations") == ["script-src-elem inline"]
    assert page.title() != "taken"


def test_a_read_only_server_registers_nothing_and_shows_everything() -> None:
    with running(read_only=True, api_keys=[KEY]) as base:
        answer = register(base, Authorization=f"Bearer {KEY}")
        assert answer.status_code == 403
        assert "read-only" in answer.json()["detail"]
        assert httpx.get(f"{base}/worlds").json()["total"] == 2
        assert httpx.get(base + TILE).status_code == 200
        square = [[[7, 46], [7.1, 46], [7.1, 46.1], [7, 46]]]
        feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": square}}
        assert httpx.post(f"{base}/worlds/planet/statistics", json=feature).status_code == 200


def test_with_keys_only_their_holders_register() -> None:
    other = "another-random-word-4567"
    with running(api_keys=[KEY, other]) as base:
        for headers in ({}, {"Authorization": f"Basic {KEY}"}, {"X-API-Key": ""}):
            answer = register(base, **headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "needed" in answer.json()["detail"]
        for wrong in (KEY[:-1], KEY + "x", KEY.upper(), "x" * 1000):
            answer = register(base, **{"X-API-Key": wrong})
            assert answer.status_code == 401
            assert wrong not in answer.text and KEY not in answer.text
        assert httpx.get(f"{base}/worlds").json()["total"] == 2
        assert register(base, Authorization=f"Bearer {KEY}").status_code == 201
        assert register(base, **{"X-API-Key": other}).status_code == 201
        assert httpx.get(base + TILE).status_code == 200
        # A broken body does not get past the guard either.
        assert httpx.post(f"{base}/worlds", json=[]).status_code == 401


def test_without_keys_everybody_registers() -> None:
    with running() as base:
        assert register(base).status_code == 201


def test_every_route_that_is_no_question_is_guarded(service: str) -> None:
    """A new route that writes must take the guard; one that only asks must be named above."""
    document = httpx.get(f"{service}/openapi.json").json()
    posts = {
        path for path, operations in document["paths"].items() if set(operations) & {"post", "put", "patch", "delete"}
    }
    guarded = {
        path for path in posts if any(operation.get("security") for operation in document["paths"][path].values())
    }
    assert posts - guarded == QUESTIONS
    assert guarded == {"/worlds", "/worlds/{world}/exports", "/exports/{export}"}
    routers = (worlds_routes.router, export_routes.router, export_routes.world_router)
    writing = [
        route
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute) and {"POST", "DELETE"} & (route.methods or set()) and "plan" not in route.path
    ]
    assert len(writing) == 3
    for route in writing:
        assert any(dependency.dependency is may_write for dependency in route.dependencies)


@pytest.mark.parametrize("key", ["fifteen-letters", "spaces in this long key", "x" * 257, "ümlaut-in-a-long-key"])
def test_bad_keys_are_refused_and_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHGEN_API_KEYS", json.dumps([key]))
    with pytest.raises(ValueError, match="api_keys") as refusal:
        Settings()
    assert key not in str(refusal.value)


def test_keys_are_not_part_of_what_settings_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHGEN_API_KEYS", json.dumps([KEY]))
    assert Settings().api_keys == (KEY,)
    assert KEY not in repr(Settings())


@pytest.mark.parametrize("path", ["/worlds", "/generate", "/worlds/earth/feature.png", "/worlds/earth/statistics"])
@pytest.mark.parametrize("declared", [True, False])
def test_large_bodies_are_refused_before_they_are_parsed(service: str, path: str, declared: bool) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 1 << 16
            yield b"[" * (1 << 16)

    headers = {"Content-Type": "application/json"} | ({"Content-Length": str(1 << 22)} if declared else {})
    try:
        answer = httpx.post(service + path, content=chunks(), headers=headers)
    except (httpx.NetworkError, httpx.RemoteProtocolError):
        # The server had closed the connection before everything was sent.
        assert sent < 1 << 22
        return
    assert answer.status_code == 413
    assert str(1 << 20) in answer.json()["detail"]

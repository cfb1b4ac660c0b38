"""Whatever arrives, the service answers with a picture or with a sentence: never with a 5xx, never late.

Requests are made from the service's own OpenAPI document, those that it allows and those that it does not; world
values and GeoJSON are made here, since the document cannot say what makes sense of them.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from earthgen.pyramid import MAX_ZOOM
from earthgen.world import MAX_SEED
from tests.browser import serve
from tests.fake_engine import FakeEngine
from tileserver import Settings, create_app

LATE_S = 45
"""Tells an answer from a hang; generous, because machines can be busy."""
# What looks at imagery needs weights, and is tested where it is.
NEEDS_WEIGHTS = (r"/find$", r"/detect$", r"/agent$")

_bounded = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def make_app() -> Any:
    return create_app(Settings(max_pixels=1 << 16, max_worlds=100_000), lambda _: FakeEngine())


schema: schemathesis.BaseSchema = schemathesis.openapi.from_dict(make_app().openapi())
for path in NEEDS_WEIGHTS:
    schema = schema.exclude(path_regex=path)


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with serve(make_app()) as address:
        yield address


@pytest.fixture(scope="module")
def client(base: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base, timeout=60) as client:
        yield client


def assert_answered(answer: Any, began: float) -> None:
    """An answer in time, and where it refuses one sentence that says why."""
    assert answer.status_code < 500, answer.content[:500]
    assert time.monotonic() - began < LATE_S
    if answer.status_code >= 400 and answer.headers.get("content-type") == "application/json" and answer.content:
        assert isinstance(json.loads(answer.content)["detail"], str)


# Warnings about odd but allowed requests are for the log; only here would they be errors.
@pytest.mark.filterwarnings("ignore::UserWarning")
@schema.parametrize()
@_bounded
def test_every_route_answers_whatever_the_document_allows_or_not(case: Any, base: str) -> None:
    began = time.monotonic()
    assert_answered(case.call(base_url=base, timeout=60), began)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
degrees = st.floats(-200, 200) | st.sampled_from([0, 180, -180, 90, -90, 1e308, float("inf"), float("nan"), 10**400])
corners = st.lists(st.lists(degrees, min_size=1, max_size=3), max_size=6)
geometries = st.one_of(
    st.fixed_dictionaries({"type": st.just("Polygon"), "coordinates": st.lists(corners, max_size=3)}),
    st.fixed_dictionaries({"type": st.just("MultiPolygon"), "coordinates": st.lists(st.lists(corners), max_size=2)}),
    st.fixed_dictionaries({"type": st.sampled_from(["Point", "LineString", "Blob"]), "coordinates": corners}),
    anything,
)
features = st.fixed_dictionaries(
    {"type": st.sampled_from(["Feature", "FeatureCollection"])},
    optional={"geometry": geometries, "properties": anything, "features": st.lists(anything, max_size=3)},
)
edits = st.fixed_dictionaries(
    {},
    optional={
        "action": st.sampled_from(["snow", "prompt", "remove", "melt"]) | anything,
        "polygon": corners | anything,
        "prompt": st.text(max_size=20) | anything,
        "valid_from": st.sampled_from(["2026-01-01", "2026-02-30", "9999-12-31", ""]) | anything,
    },
)
world_values = st.fixed_dictionaries(
    {},
    optional={
        "root": st.sampled_from(["earth", "planet", "prompt", "moon"]) | anything,
        "seed": st.integers(-1, MAX_SEED + 1) | anything,
        "prompt": st.text(max_size=20) | anything,
        "guidance": st.floats() | anything,
        "gsd": st.floats() | anything,
        "edits": st.lists(edits, max_size=3) | anything,
        "layout": features | anything,
        "unknown": anything,
    },
)


def post(client: httpx.Client, path: str, value: object) -> httpx.Response:
    """Send a value, with the infinities and huge numbers that only a careless client writes."""
    body = json.dumps(value).encode("utf-8", "surrogatepass")
    return client.post(path, content=body, headers={"Content-Type": "application/json"})


@settings(_bounded, max_examples=60)
@given(world_values)
def test_any_world_value_is_registered_or_refused(client: httpx.Client, value: object) -> None:
    began = time.monotonic()
    answer = post(client, "/worlds", value)
    assert_answered(answer, began)
    if answer.status_code == 201:
        assert client.get(f"/worlds/{answer.json()['name']}").json()["id"] == answer.json()["id"]
    else:
        assert answer.status_code in (413, 422)


@settings(_bounded, max_examples=60)
@given(features, st.sampled_from(["statistics", "feature.png", "feature/16x16.tif"]), st.integers(0, MAX_ZOOM))
def test_any_geojson_gets_an_answer(client: httpx.Client, value: object, route: str, zoom: int) -> None:
    began = time.monotonic()
    assert_answered(post(client, f"/worlds/planet/{route}?zoom={zoom}", value), began)


@pytest.mark.parametrize("path", ["/worlds", "/worlds/earth/statistics", "/worlds/earth/feature.png"])
def test_a_polygon_of_a_million_corners_is_refused_at_once(client: httpx.Client, path: str) -> None:
    ring = [[index % 360 - 180, index % 170 - 85] for index in range(1_000_000)]
    if path == "/worlds":
        value: object = {"edits": [{"action": "snow", "polygon": ring}]}
    else:
        value = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    body = json.dumps(value).encode()
    began = time.monotonic()
    try:
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    except (httpx.NetworkError, httpx.RemoteProtocolError):
        # Closed before everything was sent.
        answer = None
    assert time.monotonic() - began < LATE_S
    assert answer is None or answer.status_code == 413
    # And the server goes on.
    assert client.get("/healthz").status_code == 200


def test_a_small_body_of_many_features_does_not_buy_much_work() -> None:
    """A megabyte of JSON holds ten thousand squares, each of which may be as large as a request's area."""
    engine = FakeEngine()
    square = {"type": "Polygon", "coordinates": [[[7, 46], [7.1, 46], [7.1, 46.1], [7, 46.1], [7, 46]]]}
    feature = {"type": "Feature", "properties": {}, "geometry": square}

    def ask(client: httpx.Client, count: int) -> httpx.Response:
        value = {"type": "FeatureCollection", "features": [feature] * count}
        return post(client, "/worlds/planet/statistics?max_size=64", value)

    app = create_app(Settings(max_pixels=1 << 17), lambda _: engine)
    with serve(app) as base, httpx.Client(base_url=base, timeout=60) as client:
        # Fine coverage along a polygon's edge takes memory, which leaves fewer pixels.
        assert len(ask(client, 5).json()["features"]) == 5
        before = engine.calls
        answer = ask(client, 5_000)
        assert answer.status_code == 413
        assert "fewer features" in answer.json()["detail"]
        assert engine.calls - before <= 8


def test_a_body_that_would_swell_is_not_unpacked(client: httpx.Client) -> None:
    value = b'{"type": "FeatureCollection", "features": [' + b" " * (64 << 20) + b"]}"
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    for path in ("/worlds", "/worlds/earth/statistics"):
        answer = client.post(path, content=gzip.compress(value, 1), headers=headers)
        assert answer.status_code in (400, 413, 422)
        # Not because it is large: what would make sense unpacked makes none either.
        answer = client.post(path, content=gzip.compress(b'{"root": "planet"}'), headers=headers)
        assert answer.status_code in (400, 422)


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_nesting_is_refused(client: httpx.Client, depth: int) -> None:
    for path in ("/worlds", "/worlds/earth/statistics"):
        body = b'{"edits": ' + b"[" * depth + b"]" * depth + b"}"
        began = time.monotonic()
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert_answered(answer, began)
        assert answer.status_code in (400, 422)


@pytest.mark.parametrize("where", [{"properties": {"name": "\\ud800"}}, {"properties": {"a": [{"\\udfff": 1}]}}])
def test_half_a_character_in_a_feature_is_refused_and_a_whole_one_is_not(
    client: httpx.Client, where: dict[str, Any]
) -> None:
    """JSON can spell half a surrogate pair, and no answer could hold it: fuzzing found it as a 500."""
    square = [[[7, 46], [7.1, 46], [7.1, 46.1], [7, 46]]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": square}} | where
    headers = {"Content-Type": "application/json"}
    written = json.dumps(feature).replace("\\\\", "\\")
    answer = client.post("/worlds/planet/statistics?zoom=9", content=written, headers=headers)
    assert answer.status_code == 422
    assert "half a character" in answer.json()["detail"]
    whole = written.replace("\\ud800", "\\ud83c\\udf0d").replace("\\udfff", "\\ud83c\\udf0d")
    assert client.post("/worlds/planet/statistics?zoom=9", content=whole, headers=headers).status_code == 200

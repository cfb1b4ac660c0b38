"""Layouts: what lies where becomes edits in painter's order; what cannot be painted is told by feature."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

import earthgen.engine
from datasets.captions import phrases
from earthgen.bands import LAND_COVER
from earthgen.cli import main
from earthgen.editing import layers_of
from earthgen.errors import WorldError
from earthgen.layout import (
    CLASSES,
    MAX_FEATURES,
    MAX_POSITIONS,
    MAX_WIDTH,
    MIN_WIDTH,
    STRATA,
    layout_edits,
    world_from_layout,
)
from earthgen.pyramid import MAX_ZOOM, ground_sampling_distance
from earthgen.world import MAX_EDITS, MAX_POLYGON_VERTICES, Edit, World
from tests.fake_engine import FakeEngine
from tests.tiny import open_tiny, ripple_prompts, ripple_root, save_tiny_weights
from tileserver import Settings, create_app

ALPS = (11.4, 47.26)
METRES = 6378137 * math.pi / 180
"""In a degree of latitude on the sphere."""


def feature(name: str | None, kind: str, coordinates: Any, **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "properties": {"class": name, **properties},
        "geometry": {"type": kind, "coordinates": coordinates},
    }


def layout(*features: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


def square(west: float, south: float, side: float = 0.01) -> list[list[float]]:
    east, north = west + side, south + side
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def patch(name: str, west: float = ALPS[0], south: float = ALPS[1], side: float = 0.01, **more: Any) -> dict[str, Any]:
    return feature(name, "Polygon", [square(west, south, side)], **more)


def line(name: str, *places: tuple[float, float], **more: Any) -> dict[str, Any]:
    return feature(name, "LineString", [list(place) for place in places], **more)


def on_the_ground(edits: tuple[Edit, ...], latitude: float) -> Any:
    """The union of edits in metres around a latitude."""
    scale = np.array([METRES * math.cos(math.radians(latitude)), METRES])
    return shapely.union_all([shapely.Polygon(np.array(edit.polygon) * scale) for edit in edits])


def test_a_feature_becomes_one_edit_with_its_very_vertices() -> None:
    (edit,) = layout_edits(layout(patch("forest")))
    assert edit == Edit(tuple((x, y) for x, y in square(*ALPS)[:-1]), CLASSES["forest"].prompt)


def test_land_cover_lies_below_water_below_roads_below_buildings_in_the_files_order() -> None:
    places = iter(range(99))
    names = ["house", "road", "meadow", "building", "lake", "forest", "sea", "meadow", "runway"]
    edits = layout_edits(layout(*(patch(name, next(places) / 10) for name in names)))
    order = ["meadow", "forest", "meadow", "lake", "sea", "road", "runway", "house", "building"]
    assert [edit.prompt for edit in edits] == [CLASSES[name].prompt for name in order]


def test_a_prompt_of_its_own_keeps_the_layer_of_the_class() -> None:
    features = patch("building", prompt="a  red\ncathedral"), patch("forest", 12.0, prompt=None)
    assert [edit.prompt for edit in layout_edits(layout(*features))] == ["dense forest", "a red cathedral"]


def test_altitudes_other_properties_and_unclosed_rings_change_nothing() -> None:
    ring = [[x, y, 574.0] for x, y in square(*ALPS)[:-1]]
    other = feature("forest", "Polygon", [ring], title="Karwendel", width=None)
    assert layout_edits(layout(other)) == layout_edits(layout(patch("forest")))


def test_every_prompt_is_a_phrase_of_the_training_and_every_class_of_the_legend_is_one() -> None:
    known = {noun for nouns in phrases().values() for noun in nouns}
    assert {meaning.prompt for meaning in CLASSES.values()} <= known
    assert {item.name for item in LAND_COVER} <= CLASSES.keys()
    assert {meaning.stratum for meaning in CLASSES.values()} == set(STRATA)


def test_the_documentation_lists_every_class() -> None:
    text = (Path(__file__).parents[1] / "docs" / "edits.md").read_text(encoding="utf-8")
    for name, meaning in CLASSES.items():
        width = "" if meaning.width is None else f", {meaning.width:g} m"
        assert f"`{name}` ({meaning.prompt}{width})" in text


# Composing


def test_polygons_of_one_prompt_that_touch_are_one_edit_of_the_same_area() -> None:
    side = 0.01
    parcels = [patch("farmland", ALPS[0] + side * i, ALPS[1] + side * j) for i in range(3) for j in range(3)]
    (edit,) = layout_edits(layout(*parcels))
    expected = shapely.box(*ALPS, ALPS[0] + 3 * side, ALPS[1] + 3 * side)
    assert shapely.Polygon(edit.polygon).symmetric_difference(expected).area < 1e-6 * expected.area


def test_parts_of_a_multipolygon_that_lie_apart_are_edits_of_their_own() -> None:
    parts = [[square(11.0, 47.0)], [square(12.0, 47.0)]]
    edits = layout_edits(layout(feature("lake", "MultiPolygon", parts)))
    assert [edit.polygon[0] for edit in edits] == [(11.0, 47.0), (12.0, 47.0)]


@pytest.mark.parametrize(
    "features",
    [
        # Of two prompts.
        [patch("forest"), patch("meadow", ALPS[0] + 0.01)],
        # What lies between them in the order may lie between them on the ground.
        [patch("forest"), patch("meadow", ALPS[0] + 0.005), patch("forest", ALPS[0] + 0.01)],
        # An L of narrow bars has bounds that are mostly empty, and would enter where the bars are thin.
        [
            feature("forest", "Polygon", [[[11.0, 47.0], [11.2, 47.0], [11.2, 47.01], [11.0, 47.01]]]),
            feature("forest", "Polygon", [[[11.0, 47.0], [11.01, 47.0], [11.01, 47.2], [11.0, 47.2]]]),
        ],
        # They touch at a corner.
        [patch("forest"), patch("forest", ALPS[0] + 0.01, ALPS[1] + 0.01)],
    ],
)
def test_polygons_that_are_not_one_stay_apart(features: list[dict[str, Any]]) -> None:
    assert len(layout_edits(layout(*features))) == len(features)


def test_a_union_with_a_hole_is_not_one_edit() -> None:
    side = 0.01
    around = [
        patch("forest", ALPS[0] + side * i, ALPS[1] + side * j)
        for i, j in ((0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1))
    ]
    edits = layout_edits(layout(*around))
    assert len(edits) == 2
    middle = shapely.Point(ALPS[0] + 1.5 * side, ALPS[1] + 1.5 * side)
    assert not any(shapely.Polygon(edit.polygon).contains(middle) for edit in edits)


@settings(max_examples=12)
@given(
    st.lists(
        st.tuples(st.sampled_from(["forest", "meadow", "lake"]), st.integers(0, 5), st.integers(0, 5)),
        min_size=1,
        max_size=12,
    )
)
def test_composing_changes_no_picture(parcels: list[tuple[str, int, int]]) -> None:
    side = 0.02
    features = [patch(name, 11 + side / 2 * i, 47 + side / 2 * j, side) for name, i, j in parcels]
    edits = layout_edits(layout(*features))
    assert len(edits) <= len(features)
    painted = sorted(features, key=lambda f: STRATA.index(CLASSES[f["properties"]["class"]].stratum))
    for i in range(14):
        for j in range(14):
            place = shapely.Point(11 + side / 4 * (i + 0.5), 47 + side / 4 * (j + 0.5))
            shown = [e.prompt for e in edits if shapely.Polygon(e.polygon).contains(place)][-1:]
            expected = [
                CLASSES[f["properties"]["class"]].prompt
                for f in painted
                if shapely.Polygon(f["geometry"]["coordinates"][0]).contains(place)
            ][-1:]
            assert shown == expected


# Lines


@pytest.mark.parametrize("latitude", [0.0, 47.0, -70.0])
def test_a_line_is_as_wide_as_it_says_in_metres_on_the_ground(latitude: float) -> None:
    edits = layout_edits(layout(line("road", (11.0, latitude), (11.01, latitude), width=20)))
    ground = on_the_ground(edits, latitude)
    length = 0.01 * METRES * math.cos(math.radians(latitude))
    assert ground.area == pytest.approx(20 * length + math.pi * 10**2, rel=0.01)
    left, bottom, right, top = ground.bounds
    assert top - bottom == pytest.approx(20, rel=0.01)
    assert right - left == pytest.approx(length + 20, rel=0.01)


def test_a_line_without_a_width_takes_that_of_its_class() -> None:
    for name in ("river", "road", "runway"):
        edits = layout_edits(layout(line(name, (11.0, 47.0), (11.01, 47.0))))
        _, bottom, _, top = on_the_ground(edits, 47.0).bounds
        assert top - bottom == pytest.approx(CLASSES[name].width, rel=0.01)


@settings(max_examples=8)
@given(
    st.floats(0, 360),
    st.floats(0.1, 3.0),
    st.floats(3, 200),
    st.integers(2, 12),
    st.sampled_from([-60.0, 0.3, 47.0]),
)
def test_a_bent_line_is_covered_by_pieces_that_enter_where_its_width_shows(
    start: float, turn: float, width: float, count: int, latitude: float
) -> None:
    places, place, heading = [(11.0, latitude)], np.array([11.0, latitude]), math.radians(start)
    for step in range(count):
        place = place + 0.002 * np.array([math.cos(heading), math.sin(heading)])
        heading += turn * math.sin(step)
        places.append((float(place[0]), float(place[1])))
    edits = layout_edits(layout(line("river", *places, width=width)))
    scale = np.array([METRES * math.cos(math.radians(latitude)), METRES])
    truth = shapely.LineString(np.array(places) * scale)
    ground = on_the_ground(edits, latitude)
    # A tenth of the width is simplified away; corners of round ends and the change of scale take a little more.
    assert ground.buffer(0.01 * width).contains(truth.buffer(0.33 * width))
    assert truth.buffer(0.67 * width).contains(ground)
    for layer in layers_of(World(edits=edits)):
        pixels = width / ground_sampling_distance(layer.zoom, latitude)
        assert layer.zoom == MAX_ZOOM or pixels > 11
        assert layer.weights.size < 1.2 * 2**20


def test_a_ring_road_has_a_middle() -> None:
    circle = [(11 + 0.001 * math.cos(a), 47 + 0.0007 * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 30)]
    edits = layout_edits(layout(line("road", *circle)))
    assert len(edits) > 1
    assert not any(shapely.Polygon(edit.polygon).contains(shapely.Point(11, 47)) for edit in edits)
    assert all(on_the_ground(edits, 47).contains(shapely.Point(x * METRES * math.cos(math.radians(47)), y * METRES))
               for x, y in circle)  # fmt: skip


def test_a_line_may_stay_where_it_is_for_a_while() -> None:
    still = layout(line("road", *[(11.0, 47.0)] * 2000, *[(11.001, 47.0)] * 2000))
    assert layout_edits(still) == layout_edits(layout(line("road", (11.0, 47.0), (11.001, 47.0))))
    (dot,) = layout_edits(layout(line("road", (11.0, 47.0), (11.0 + 1e-12, 47.0), width=20)))
    assert on_the_ground((dot,), 47.0).area == pytest.approx(math.pi * 10**2, rel=0.03)


def test_an_endless_scribble_is_given_up_soon() -> None:
    scribble = [(11 + 1e-4 * math.sin(i * 1.7), 47 + 1e-4 * math.cos(i * 2.3)) for i in range(20_000)]
    zigzag = [(11 + 1e-5 * i, 47 + 0.01 * (i % 2)) for i in range(20_000)]
    for places in (scribble, zigzag):
        with pytest.raises(WorldError, match="needs edit 257"):
            layout_edits(layout(line("road", *places)))


def test_lines_and_polygons_may_cross_180_degrees() -> None:
    river = layout(line("river", (179.99, 0.0), (-179.99, 0.0), width=100))
    (edit,) = layout_edits(river)
    (layer,) = layers_of(World(edits=(edit,)))
    assert layer.box.width * ground_sampling_distance(layer.zoom, 0) == pytest.approx(0.02 * METRES + 100, rel=0.05)
    fields = [[[179.99, 0.0], [-179.99, 0.0], [-179.99, 0.02], [179.99, 0.02]]]
    assert layout_edits(layout(feature("crops", "Polygon", fields)))[0].polygon[1] == (-179.99, 0.0)


# Values


def test_equal_layouts_give_one_world_after_the_other_edits() -> None:
    value = layout(patch("forest"), line("road", (11.4, 47.26), (11.5, 47.3), (11.6, 47.25)))
    snow = {"action": "snow", "polygon": [[11, 47], [11.1, 47], [11, 47.1]]}
    world = world_from_layout({"seed": 7, "edits": [snow], "layout": value})
    again = world_from_layout(json.loads(json.dumps({"layout": value, "edits": [snow], "seed": 7})))
    assert world.id == again.id
    assert world.edits == (Edit.from_dict(snow), *layout_edits(value))
    assert World.from_dict(json.loads(world.canonical_json)) == world
    assert world_from_layout({"seed": 7, "layout": None}) == World(seed=7)
    assert layout_edits(layout()) == ()


def many(count: int, **more: Any) -> list[dict[str, Any]]:
    return [patch("house", 11 + 0.001 * (i % 64), 47 + 0.001 * (i // 64), 0.0004, **more) for i in range(count)]


def test_the_edits_of_a_world_bound_its_layout() -> None:
    assert len(layout_edits(layout(*many(MAX_EDITS)))) == MAX_EDITS
    with pytest.raises(WorldError, match=r"features\[256\] needs edit 257 of the layout; at most 256 are allowed$"):
        layout_edits(layout(*many(MAX_EDITS + 1)))
    edits = [{"action": "snow", "polygon": [[11, 47], [11.1, 47], [11, 47.1]]}] * 250
    with pytest.raises(WorldError, match=r"features\[6\] .* at most 6 are allowed; 250 are taken by other edits"):
        world_from_layout({"edits": edits, "layout": layout(*many(7))})
    # A road around the world is given up as soon as it has too many pieces.
    with pytest.raises(WorldError, match=r"features\[0\] needs edit 257"):
        layout_edits(layout(line("road", *((float(x), x % 60.0) for x in range(-180, 180)), width=2)))


GOOD = patch("forest")
BAD: list[tuple[Any, str]] = [
    (None, "layout is None; a GeoJSON FeatureCollection is allowed"),
    ([GOOD], "layout is .*; a GeoJSON FeatureCollection"),
    (GOOD, "layout is .*; a GeoJSON FeatureCollection"),
    ({"type": "FeatureCollection"}, "layout features are None; a list"),
    ({"type": "FeatureCollection", "features": {"0": GOOD}}, "layout features are .*; a list"),
    (layout(*[GOOD] * (MAX_FEATURES + 1)), "layout has 2049 features; at most 2048"),
    (layout(GOOD, 7), r"layout features\[1\]: it is 7; a GeoJSON Feature"),
    (layout(GOOD, {"type": "Polygon"}), r"features\[1\]: it is \{'type': 'Polygon'\}; a GeoJSON Feature"),
    (
        layout(GOOD, feature("house", "Point", [11, 47])),
        r"features\[1\]: geometry is 'Point'; allowed: Polygon, MultiPolygon, LineString, MultiLineString",
    ),
    (layout({"type": "Feature", "properties": {"class": "forest"}, "geometry": None}), "geometry is None; allowed"),
    (layout(feature(None, "Polygon", [square(11, 47)])), "property class is None; allowed: forest, trees"),
    (layout(GOOD, patch("moon")), r"features\[1\]: property class is 'moon'; allowed: forest, trees.*, factory"),
    (layout({**GOOD, "properties": None}), "property class is None"),
    (layout({**GOOD, "properties": {"class": ["forest"]}}), "property class is .*; allowed"),
    (layout(patch("forest", prompt=7)), "property prompt is 7; text"),
    (layout(GOOD, patch("forest", 12.0, prompt=" ")), r"features\[1\]: edit prompt is empty"),
    (layout(patch("forest", prompt="x" * 513)), "edit prompt has 513 characters; at most 512"),
    (layout(patch("forest", prompt="a\0b")), r"control character U\+0000"),
    (layout(feature("forest", "Polygon", [square(11, 47, 0.1), square(11.02, 47.02)])), "has 1 hole.*none are allowed"),
    (layout(feature("forest", "Polygon", [])), r"coordinates hold \[\]; a list that is not empty"),
    (layout(feature("forest", "MultiPolygon", [])), r"coordinates hold \[\]"),
    (layout(feature("forest", "Polygon", None)), "coordinates hold None"),
    (layout(feature("forest", "Polygon", square(11, 47))), "the polygon has 4 hole|position is 11"),
    (layout(feature("forest", "Polygon", [[[11, 47], [12, 47]]])), "the ring has 2 vertices; 3 to 1024"),
    (
        layout(feature("forest", "Polygon", [[[i / 10, (i % 2) / 10] for i in range(MAX_POLYGON_VERTICES + 1)]])),
        "the ring has 1025 vertices; 3 to 1024",
    ),
    (layout(feature("forest", "Polygon", [[[11, 47], [12, 48], [12, 47], [11, 48]]])), "the ring crosses itself"),
    (layout(feature("forest", "Polygon", [[[11, 47], [12, 47], [13, 47]]])), "has no area"),
    (layout(feature("forest", "Polygon", [[[11, 47], [math.nan, 47], [12, 48]]])), "position is .*nan.*; .longitude"),
    (layout(feature("forest", "Polygon", [[[11, 47], [11, 91], [12, 48]]])), "position is .11, 91."),
    (layout(feature("forest", "Polygon", [[[11, 47], [10**400, 47], [12, 48]]])), "position is"),
    (layout(feature("forest", "Polygon", [[[11, 47], ["11", 47], [12, 48]]])), "position is"),
    (layout(feature("forest", "Polygon", [[[11, 47], [True, 47], [12, 48]]])), "position is"),
    (layout(feature("forest", "Polygon", [[[700_000, 5_200_000], [11, 47], [12, 48]]])), "position is .700000"),
    (layout(feature("forest", "Polygon", [[[11], [11, 47], [12, 48]]])), r"position is \[11\]"),
    (layout(patch("house", side=1e-7)), "holds no pixel"),
    (layout(GOOD, patch("sea", -60, -60, 120)), r"features\[1\]: edit polygon spans"),
    (layout(feature("forest", "Polygon", [[[0, 80], [120, 80], [-120, 80]]])), "crosses itself|goes around a pole"),
    (layout(line("forest", (11, 47), (12, 47))), "'forest' has no lines.*allowed of: river, canal, road"),
    (layout(line("road", (11, 47), (11, 47))), "the line has no length; two distinct vertices"),
    (layout(line("road", (11, 86), (11, 89))), "the line has no length; .* within 85.0511 degrees"),
    (layout(line("road", (11, 47), (12, 47), width=MIN_WIDTH - 0.1)), "width is 1.9; a number from 2 to 5000 metres"),
    (layout(line("road", (11, 47), (12, 47), width=MAX_WIDTH + 1)), "width is 5001.0; a number"),
    (layout(line("road", (11, 47), (12, 47), width=math.nan)), "width is nan"),
    (layout(line("road", (11, 47), (12, 47), width="8")), "width is '8'"),
    (layout(line("road", (11, 47), (12, 47), width=True)), "width is True"),
    (layout(patch("road", width=8)), "property width is 8, but the feature has an area"),
    (
        layout(GOOD, line("road", *((i / 1e4, 0.0) for i in range(MAX_POSITIONS)))),
        r"layout has 65540 vertices up to features\[1\]; at most 65536",
    ),
]


@pytest.mark.parametrize(("value", "complaint"), BAD, ids=range(len(BAD)))
def test_a_bad_layout_is_one_sentence_that_says_where_and_what_is_allowed(value: Any, complaint: str) -> None:
    with pytest.raises(WorldError, match=complaint) as caught:
        layout_edits(value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=8,
)


near = st.tuples(st.floats(11, 11.01), st.floats(47, 47.01))
far = st.tuples(st.sampled_from([-180.0, 0.0, 180.0]), st.sampled_from([-90.0, 0.0, 90.0]))


@settings(max_examples=20)
@given(
    st.sampled_from(["Polygon", "MultiPolygon", "LineString", "MultiLineString"]),
    st.lists(near, max_size=5) | st.lists(far, max_size=4) | json_values,
    st.sampled_from(["forest", "river", "road"]),
    json_values,
)
def test_any_layout_is_edits_or_a_world_error(kind: str, coordinates: Any, name: str, width: Any) -> None:
    for value in (coordinates, [coordinates], [[coordinates]]):
        for properties in ({}, {"width": width}):
            try:
                edits = layout_edits(layout(feature(name, kind, value, **properties)))
            except WorldError:
                continue
            assert edits and World.from_dict(World(edits=edits).to_dict()).edits == edits


# In use


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(cache=tmp_path), lambda _: FakeEngine())) as client:
        yield client


def test_posting_a_layout_registers_the_world_of_its_edits(client: TestClient) -> None:
    value = layout(patch("forest"), line("road", (11.4, 47.263), (11.41, 47.266)))
    answer = client.post("/worlds", json={"root": "planet", "seed": 7, "layout": value})
    assert answer.status_code == 201, answer.text
    world = World("planet", 7, edits=layout_edits(value))
    assert answer.json()["id"] == world.id
    assert "layout" not in answer.json() and len(answer.json()["edits"]) == len(world.edits)
    assert client.post("/worlds", json=world.to_dict()).json()["id"] == world.id
    assert client.get(f"/worlds/{world.id}/tiles/WebMercatorQuad/9/261/180.png").status_code == 200


def test_a_bad_layout_is_422_and_registers_nothing(client: TestClient) -> None:
    before = client.get("/worlds").json()["total"]
    bad = layout(GOOD, patch("moon"))
    for value, complaint in ((bad, "layout features[1]: property class is 'moon'"), ([], "layout is []")):
        answer = client.post("/worlds", json={"layout": value})
        assert answer.status_code == 422
        assert complaint in answer.json()["detail"]
    assert client.get("/worlds").json()["total"] == before


def test_the_example_in_the_api_description_is_a_layout(client: TestClient) -> None:
    body = client.get("/openapi.json").json()["paths"]["/worlds"]["post"]["requestBody"]
    example = body["content"]["application/json"]["examples"]["layout"]["value"]
    answer = client.post("/worlds", json=example)
    assert answer.status_code == 201
    first, *others = [edit["prompt"] for edit in answer.json()["edits"]]
    assert (first, set(others)) == ("dense forest", {"road"})


def test_the_command_line_reads_a_layout_after_the_edits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    value, snow = layout(patch("forest")), [{"action": "snow", "polygon": [[11, 47], [11.1, 47], [11, 47.1]]}]
    Path("plan.geojson").write_text(json.dumps(value))
    Path("edits.json").write_text(json.dumps(snow))
    words = ["world", "new", "--seed", "7", "--cache", "cache", "--layout", "plan.geojson"]
    assert main([*words, "--edits", "edits.json"]) == 0
    name, spelling = capsys.readouterr().out.splitlines()
    world = world_from_layout({"seed": 7, "edits": snow, "layout": value})
    assert (name, spelling) == (world.id, world.canonical_json)
    for content, complaint in (("[", "plan.geojson are not JSON"), (json.dumps(layout(patch("moon"))), "'moon'")):
        Path("plan.geojson").write_text(content)
        assert main(words) == 2
        error = capsys.readouterr().err
        assert complaint in error and error.count("\n") == 1


def test_what_a_layout_paints_can_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earthgen.engine, "open_root", ripple_root)
    monkeypatch.setattr(earthgen.engine, "open_prompt_root", ripple_prompts)
    value = layout(patch("lake", 10.0, 5.0, 0.25), line("road", (10.05, 5.1), (10.2, 5.1), width=2000))
    base, world = World(seed=7), world_from_layout({"seed": 7, "layout": value})
    lake, *road = layers_of(world)
    with open_tiny(save_tiny_weights(tmp_path)) as engine:
        box = lake.box.grown(8)
        moved = (engine.pixels(world, box) != engine.pixels(base, box)).any(axis=-1)
        assert moved[lake.within(box)].mean() > 0.5
        painted = np.logical_or.reduce([layer.within(box) for layer in (lake, *road)])
        assert not moved[~painted].any()
        # The road lies on top: there the lake's pixels have gone.
        only_lake = engine.pixels(World(seed=7, edits=world.edits[:1]), box)
        on_road = np.logical_or.reduce([layer.within(box) for layer in road])
        assert (engine.pixels(world, box) != only_lake).any(axis=-1)[on_road].mean() > 0.5


def test_the_list_of_weights_has_the_bands_and_all_can_be_verified(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list"]) == 0
    names = [row.split("\t")[0] for row in capsys.readouterr().out.splitlines()]
    assert names[0] == "cascade" and {"bands/nir", "bands/landcover", "bands/buildings", "tower"} <= set(names)
    for name in ("bands/nir", "tower"):
        assert main(["weights", "verify", name]) == 0
        assert "whole, id " in capsys.readouterr().out
        assert main(["weights", "card", name]) == 0
        assert capsys.readouterr().out

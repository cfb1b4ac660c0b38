"""Every route of the service's contract, its headers and its answers to bad input, over a stand-in engine."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from rasterio.io import MemoryFile
from starlette.testclient import TestClient

from earthgen.picture import frame_of
from earthgen.pyramid import Box, bounds_box, box_bounds, box_mercator_bounds, tile_box
from earthgen.world import Edit, World
from tests.fake_engine import FakeEngine, colours
from tileserver import Settings, create_app
from tileserver.serve import environment

PLANET = World(root="planet", seed=7)
TILE = "/worlds/planet/tiles/WebMercatorQuad/9/261/180"


@pytest.fixture(scope="module")
def shared_engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="module")
def shared_client(shared_engine: FakeEngine) -> Iterator[TestClient]:
    # Nothing is kept encoded: every answer shows what the engine was asked.
    with TestClient(create_app(Settings(encoded_bytes=0), lambda _: shared_engine)) as client:
        yield client


@pytest.fixture
def engine(shared_engine: FakeEngine) -> FakeEngine:
    shared_engine.forget()
    return shared_engine


@pytest.fixture
def client(shared_client: TestClient, engine: FakeEngine) -> TestClient:
    """A running app whose engine has made nothing yet; for tests that register no worlds."""
    return shared_client


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[TestClient]:
    """An app of its own, with a folder of worlds."""
    with TestClient(create_app(Settings(cache=tmp_path), lambda _: FakeEngine())) as client:
        yield client


def _engine_with(fingerprint: str, _: Settings) -> FakeEngine:
    return FakeEngine(fingerprint=fingerprint)


def pixels_of(content: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_the_engine_is_opened_with_the_app_and_closed_with_it() -> None:
    engine = FakeEngine()
    with TestClient(create_app(Settings(), lambda _: engine)) as client:
        assert client.get("/readyz").json()["status"] == "ready"
        assert not engine.closed
    assert engine.closed


def test_health_needs_no_engine() -> None:
    client = TestClient(create_app(Settings(), lambda _: FakeEngine()))  # Not entered: the app has not started.
    assert client.get("/healthz").json() == {"status": "ok"}
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert client.get(f"{TILE}.png").status_code == 503


@pytest.mark.parametrize(
    ("extension", "kind", "media_type"),
    [("png", "PNG", "image/png"), ("jpg", "JPEG", "image/jpeg"), ("webp", "WEBP", "image/webp")],
)
@pytest.mark.parametrize("size", [256, 512])
def test_tiles_come_in_each_format_and_size(
    client: TestClient, extension: str, kind: str, media_type: str, size: int
) -> None:
    answer = client.get(f"{TILE}.{extension}", params={"seed": 7, "tilesize": size})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.format, picture.mode, picture.size) == (kind, "RGB", (size, size))


def test_a_png_tile_holds_the_engines_pixels(client: TestClient) -> None:
    answer = client.get(f"{TILE}.png?seed=7")
    np.testing.assert_array_equal(pixels_of(answer.content), colours(PLANET, tile_box(9, 261, 180)))


def test_a_512_tile_shows_the_four_tiles_below(client: TestClient) -> None:
    large = pixels_of(client.get(f"{TILE}.png?seed=7&tilesize=512").content)
    rows = [
        np.hstack(
            [
                pixels_of(client.get(f"/worlds/planet/tiles/WebMercatorQuad/10/{x}/{y}.png?seed=7").content)
                for x in (522, 523)
            ]
        )
        for y in (360, 361)
    ]
    np.testing.assert_array_equal(large, np.vstack(rows))


def test_seed_prompt_and_root_choose_the_world(client: TestClient) -> None:
    assert client.get("/worlds/planet?seed=7").json()["id"] == PLANET.id
    assert client.get("/worlds/planet?seed=&prompt=").json()["id"] == World(root="planet").id
    assert client.get("/worlds/earth?seed=7&prompt=palms").json()["id"] == World("earth", 7, "palms").id
    assert client.get("/worlds/earth?root=earth").json()["id"] == World().id
    assert client.get(f"{TILE}.png?seed=7").content != client.get(f"{TILE}.png?seed=8").content


def test_tile_headers_say_how_long_how_new_and_that_it_is_synthetic(client: TestClient) -> None:
    version = client.get("/readyz").json()["version"]
    first = client.get(f"{TILE}.png?seed=7")
    assert first.headers["x-cache"] == "MISS"
    assert first.headers["cache-control"] == "public, no-cache"
    assert first.headers["x-earthgen"] == f"synthetic; world={PLANET.id}; weights=fakeweights"
    assert first.headers["server-timing"].startswith("tile;dur=")
    assert first.headers["etag"].startswith('"')
    second = client.get(f"{TILE}.png?seed=7&v={version}")
    assert second.headers["x-cache"] == "HIT"
    assert second.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert second.headers["etag"] == first.headers["etag"]
    assert client.get(f"{TILE}.png?seed=7&v=older").headers["cache-control"] == "public, no-cache"


@pytest.mark.parametrize("header", ["{}", "W/{}", '"other", {}', "*"])
def test_a_client_that_has_the_tile_gets_304_without_generation(
    client: TestClient, engine: FakeEngine, header: str
) -> None:
    etag = client.get(f"{TILE}.png?seed=7").headers["etag"]
    engine.calls = 0
    answer = client.get(f"{TILE}.png?seed=7", headers={"If-None-Match": header.format(etag)})
    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["etag"] == etag
    assert answer.headers["cache-control"] == "public, no-cache"
    assert engine.calls == 0


def test_entity_tags_tell_apart_whatever_changes_the_bytes(client: TestClient) -> None:
    addresses = [
        f"{TILE}.png?seed=7",
        f"{TILE}.png?seed=8",
        f"{TILE}.jpg?seed=7",
        f"{TILE}.png?seed=7&tilesize=512",
        f"{TILE}.png?seed=7&bidx=1",
        f"{TILE}.png?seed=7&bidx=1&bidx=2",
        "/worlds/planet/tiles/WebMercatorQuad/9/180/261.png?seed=7",
    ]
    tags = [client.get(address).headers["etag"] for address in addresses]
    assert len(set(tags)) == len(tags)


def test_entity_tags_change_with_the_engine_and_not_with_the_process() -> None:
    tags = []
    for fingerprint in ("one", "one", "two"):
        with TestClient(create_app(Settings(), partial(_engine_with, fingerprint))) as client:
            tags.append(client.get(f"{TILE}.png").headers["etag"])
    assert tags[0] == tags[1] != tags[2]


def test_bands_and_expressions_of_a_tile_are_honoured(client: TestClient) -> None:
    pixels = colours(PLANET, tile_box(9, 261, 180))
    blue = pixels_of(client.get(f"{TILE}.png?seed=7&bidx=3").content)
    np.testing.assert_array_equal(blue, pixels[..., 2])
    maximum = pixels_of(client.get(f"{TILE}.png?seed=7&expression=where(b1>b2,b1,b2)&rescale=0,255").content)
    np.testing.assert_allclose(maximum.astype(int), pixels[..., :2].max(axis=-1), atol=1)


def test_tilejson_describes_tiles_that_work(client: TestClient) -> None:
    document = client.get("/worlds/planet/WebMercatorQuad/tilejson.json?seed=7&tile_format=webp").json()
    assert document["tilejson"] == "3.0.0"
    assert (document["minzoom"], document["maxzoom"], document["scheme"], document["tileSize"]) == (0, 18, "xyz", 256)
    assert document["bounds"] == pytest.approx([-180, -85.0511287798066, 180, 85.0511287798066])
    assert len(document["center"]) == 3
    answer = client.get(document["tiles"][0].format(z=18, x=133700, y=92100))
    assert answer.headers["content-type"] == "image/webp"
    assert f"world={PLANET.id}" in answer.headers["x-earthgen"]
    assert "immutable" in answer.headers["cache-control"]


def test_tilejson_of_large_tiles_ends_one_zoom_earlier(client: TestClient) -> None:
    document = client.get("/worlds/planet/WebMercatorQuad/tilejson.json?tilesize=512").json()
    assert (document["maxzoom"], document["tileSize"]) == (17, 512)
    assert pixels_of(client.get(document["tiles"][0].format(z=17, x=0, y=0)).content).shape == (512, 512, 3)


def test_a_world_is_registered_under_the_id_of_its_value(fresh: TestClient, tmp_path: Path) -> None:
    value = {"root": "planet", "seed": 7}
    first = fresh.post("/worlds", json=value)
    again = fresh.post("/worlds", json=value | {"prompt": "", "edits": []})
    assert first.status_code == again.status_code == 201
    assert first.json()["id"] == again.json()["id"] == PLANET.id
    assert first.headers["location"].endswith(f"/worlds/{PLANET.id}")
    described = fresh.get(f"/worlds/{PLANET.id}").json()
    assert {key: described[key] for key in ("root", "seed", "prompt", "edits")} == PLANET.to_dict()
    named = fresh.get(f"/worlds/{PLANET.id}/tiles/WebMercatorQuad/9/261/180.png")
    assert named.content == fresh.get(f"{TILE}.png?seed=7").content
    assert named.headers["etag"] == fresh.get(f"{TILE}.png?seed=7").headers["etag"]
    assert PLANET.id in [world["id"] for world in fresh.get("/worlds").json()["worlds"]]
    with TestClient(create_app(Settings(cache=tmp_path), lambda _: FakeEngine())) as other:
        assert other.get(f"/worlds/{PLANET.id}").status_code == 200


def test_worlds_are_listed_page_by_page(fresh: TestClient) -> None:
    for seed in range(4):
        fresh.post("/worlds", json={"seed": 100 + seed})
    everything = fresh.get("/worlds").json()
    assert [world["name"] for world in everything["worlds"][:2]] == ["earth", "planet"]
    assert everything["total"] == 6
    page = fresh.get("/worlds?limit=2&offset=3").json()["worlds"]
    assert page == everything["worlds"][3:5]


def test_a_damaged_world_file_hides_no_other_world(fresh: TestClient, tmp_path: Path) -> None:
    (tmp_path / "worlds").mkdir()
    (tmp_path / "worlds" / f"{PLANET.id}.json").write_text('{"root": "planet", "se')
    fresh.post("/worlds", json={"seed": 5})
    names = [world["name"] for world in fresh.get("/worlds").json()["worlds"]]
    assert names == ["earth", "planet", World(seed=5).id]
    answer = fresh.get(f"/worlds/{PLANET.id}")
    assert answer.status_code == 500
    assert PLANET.id in answer.json()["detail"]


def test_links_of_a_world_carry_its_parameters_on(client: TestClient) -> None:
    links = client.get("/worlds/planet?seed=7").json()["links"]
    assert f"world={PLANET.id}" in client.get(links["tiles"].format(z=9, x=1, y=2)).headers["x-earthgen"]
    for name in ("self", "tilejson", "wmts", "preview"):
        assert "seed=7" in links[name]
        assert client.get(links[name]).status_code == 200


HARBOUR = World("prompt", 7, "a harbour town", negative="fog", guidance=3, gsd=1)
HARBOUR_QUERY = "prompt=a+harbour+town&gsd=1&seed=7&negative=fog&guidance=3"


def test_a_world_by_prompt_is_in_the_address(client: TestClient) -> None:
    description = client.get(f"/worlds/prompt?{HARBOUR_QUERY}").json()
    assert (description["id"], description["minzoom"], description["maxzoom"]) == (HARBOUR.id, 12, 18)
    assert {key: description[key] for key in HARBOUR.to_dict()} == HARBOUR.to_dict()
    answer = client.get(description["links"]["tiles"].format(z=14, x=8192, y=8191))
    np.testing.assert_array_equal(pixels_of(answer.content), colours(HARBOUR, tile_box(14, 8192, 8191)))
    assert f"world={HARBOUR.id}" in answer.headers["x-earthgen"]
    for name in ("self", "tilejson", "wmts", "preview"):
        assert client.get(description["links"][name]).status_code == 200


def test_tilejson_wmts_info_and_preview_say_where_a_world_by_prompt_begins(client: TestClient) -> None:
    for size, zooms in ((256, (12, 18)), (512, (11, 17))):
        document = client.get(f"/worlds/prompt/WebMercatorQuad/tilejson.json?{HARBOUR_QUERY}&tilesize={size}").json()
        assert (document["minzoom"], document["maxzoom"]) == zooms
        longitude, latitude, zoom = document["center"]
        assert zooms[0] <= zoom <= zooms[1] and abs(longitude) < 1 and abs(latitude) < 61
        x = 2 ** zooms[0] // 2
        assert client.get(document["tiles"][0].format(z=zooms[0], x=x, y=x)).status_code == 200
        assert client.get(document["tiles"][0].format(z=zooms[0] - 1, x=0, y=0)).status_code == 404
    wmts = client.get(f"/worlds/prompt/WMTSCapabilities.xml?{HARBOUR_QUERY}").text
    identifiers = re.findall(r"<TileMatrix>\s*<ows:Identifier>(\d+)<", wmts)
    assert identifiers == [str(zoom) for zoom in range(12, 19)]
    info = client.get(f"/worlds/prompt/info?{HARBOUR_QUERY}").json()
    assert (info["minzoom"], info["maxzoom"]) == (12, 18)
    preview = pixels_of(client.get(f"/worlds/prompt/preview.png?{HARBOUR_QUERY}").content)
    # The picture at the asked resolution, with pixels of the nearest zoom that fits the size.
    expected = colours(HARBOUR, bounds_box(box_bounds(frame_of(HARBOUR).box), 17))
    np.testing.assert_array_equal(preview, expected)


def test_worlds_of_the_earth_still_begin_at_zoom_0(client: TestClient) -> None:
    wmts = client.get("/worlds/planet/WMTSCapabilities.xml").text
    identifiers = re.findall(r"<TileMatrix>\s*<ows:Identifier>(\d+)<", wmts)
    assert identifiers == [str(zoom) for zoom in range(19)]


def test_a_registered_world_by_prompt_is_what_the_address_says(fresh: TestClient) -> None:
    value = {"root": "prompt", "prompt": "a  harbour\ttown", "gsd": 1, "seed": 7, "negative": "fog", "guidance": 3}
    name = fresh.post("/worlds", json=value).json()["id"]
    assert name == HARBOUR.id
    address = "tiles/WebMercatorQuad/14/8192/8191.png"
    named, spelled = (fresh.get(f"/worlds/{name}/{address}"), fresh.get(f"/worlds/prompt/{address}?{HARBOUR_QUERY}"))
    assert (named.status_code, named.content) == (200, spelled.content)
    # Parameters may repeat what the world is, in any spelling that means the same, and nothing else.
    assert fresh.get(f"/worlds/{name}/{address}?{HARBOUR_QUERY}&root=prompt").status_code == 200
    assert fresh.get(f"/worlds/{name}/{address}?prompt=a+harbour++town").status_code == 200
    for other in ("prompt=a+desert", "negative=", "gsd=1.5", "guidance=2", "root=earth"):
        status = 200 if other == "negative=" else 422
        assert fresh.get(f"/worlds/{name}/{address}?{other}").status_code == status


EDITED = World(
    "planet",
    7,
    edits=(
        Edit(((7.0, 46.0), (7.4, 46.0), (7.4, 46.4)), "", None, "2026-05-01", action="snow"),
        Edit(((7.0, 46.0), (7.4, 46.0), (7.4, 46.4)), "", "2026-05-01", action="flood"),
    ),
)


def test_a_date_chooses_the_edits_on_every_route(fresh: TestClient) -> None:
    name = fresh.post("/worlds", json=EDITED.to_dict()).json()["id"]
    for path in (
        "tiles/WebMercatorQuad/9/261/180.png",
        "bbox/7,46,7.1,46.1.png",
        "preview.png",
        "point/7.2,46.1",
        "statistics",
        "info",
    ):
        answers = {day: fresh.get(f"/worlds/{name}/{path}?date={day}") for day in ("2026-04-30", "2026-05-01", "")}
        assert {answer.status_code for answer in answers.values()} == {200}, path
        if path == "info":
            assert [answer.json()["id"] for answer in answers.values()] == [
                EDITED.at("2026-04-30").id,
                EDITED.at("2026-05-01").id,
                EDITED.id,
            ]
        else:
            assert len({answer.headers["etag"] for answer in answers.values()}) == 3, path
    document = fresh.get(f"/worlds/{name}/WebMercatorQuad/tilejson.json?date=2026-04-30").json()
    assert "date=2026-04-30" in document["tiles"][0]
    tile = fresh.get(document["tiles"][0].format(z=9, x=261, y=180))
    assert f"world={EDITED.at('2026-04-30').id}" in tile.headers["x-earthgen"]
    # The description is of the world with all its edits; its links keep the day.
    description = fresh.get(f"/worlds/{name}?date=2026-04-30").json()
    assert description["id"] == name and len(description["edits"]) == 2
    assert all("date=2026-04-30" in link for link in description["links"].values())
    assert fresh.get(f"/worlds/{name}?date=yesterday").status_code == 422


TEXTS = [
    "<script>alert(1)</script>",
    '"; DROP TABLE worlds; --',
    "{{7*7}} %s ${x}",
    "海辺の町 🏝️",
    "a\u202eb",
    "p" * 512,
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_prompt_is_data_everywhere(fresh: TestClient, text: str) -> None:
    world = World("prompt", 0, text, gsd=1)
    value = fresh.post("/worlds", json={"root": "prompt", "prompt": text, "gsd": 1})
    assert (value.json()["id"], value.json()["prompt"]) == (world.id, world.prompt)
    query = {"prompt": text, "gsd": "1"}
    assert fresh.get("/worlds/prompt", params=query).json()["id"] == world.id
    for path in ("WebMercatorQuad/tilejson.json", "WMTSCapabilities.xml", "tiles/WebMercatorQuad/14/1/1.png"):
        answer = fresh.get(f"/worlds/prompt/{path}", params=query)
        assert answer.status_code == 200
        assert "text/html" not in answer.headers["content-type"]
        assert all(part.isascii() for part in answer.headers.values())
    wmts = fresh.get("/worlds/prompt/WMTSCapabilities.xml", params=query).text
    ElementTree.fromstring(wmts)
    assert "<script" not in wmts
    tif = fresh.get("/worlds/prompt/bbox/0,0,0.001,0.001.tif", params=query)
    with MemoryFile(tif.content) as file, file.open() as dataset:
        assert World.from_dict(json.loads(dataset.tags()["EARTHGEN_WORLD_JSON"])) == world
    for path in ("/", "/docs"):
        assert text not in fresh.get(path, params=query).text


@pytest.mark.parametrize(
    ("body", "headers", "kind"),
    [
        ({}, {}, "image/png"),
        ({"format": "tif"}, {}, "image/tiff"),
        ({}, {"Accept": "image/tiff"}, "image/tiff"),
        ({}, {"Accept": "text/html, image/png, image/tiff;q=0.5"}, "image/png"),
        ({"format": "png"}, {"Accept": "image/tiff"}, "image/png"),
    ],
)
def test_generate_answers_with_one_picture(
    client: TestClient, body: dict[str, Any], headers: dict[str, str], kind: str
) -> None:
    asked = {"prompt": "a harbour town", "gsd": 0.5, "size": 300, "seed": 7, "negative": "fog", "guidance": 3}
    answer = client.post("/generate", json=asked | body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == kind
    world = World("prompt", 7, "a harbour town", negative="fog", guidance=3, gsd=0.5)
    assert f"world={world.id}" in answer.headers["x-earthgen"]
    frame = frame_of(world, 300)
    if kind == "image/png":
        np.testing.assert_array_equal(pixels_of(answer.content), colours(world, frame.box))
    else:
        with MemoryFile(answer.content) as file, file.open() as dataset:
            np.testing.assert_array_equal(np.moveaxis(dataset.read(), 0, -1), colours(world, frame.box))
            assert dataset.transform == frame.transform


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 422, ["prompt is missing"]),
        ({"prompt": ""}, 422, ["needs a prompt"]),
        ({"prompt": "p" * 513}, 422, ["prompt is 'ppp", "512"]),
        ({"prompt": "a\u0000"}, 422, ["control character U+0000"]),
        ({"prompt": 7}, 422, ["prompt is 7", "string"]),
        ({"prompt": "a", "gsd": 0.1}, 422, ["gsd is 0.1", "0.3"]),
        ({"prompt": "a", "size": 0}, 422, ["size is 0"]),
        ({"prompt": "a", "size": 4097}, 422, ["size is 4097", "4096"]),
        ({"prompt": "a", "size": 4096, "gsd": 1.15}, 413, ["4096 x 4096", "16777216", "smaller"]),
        ({"prompt": "a", "seed": -1}, 422, ["seed is -1"]),
        ({"prompt": "a", "guidance": 99}, 422, ["guidance is 99", "20"]),
        ({"prompt": "a", "format": "gif"}, 422, ["'gif'", "'png'"]),
        ({"prompt": "a", "colour": "red"}, 422, ["colour"]),
        ([], 422, ["valid dictionary"]),
    ],
)
def test_generate_refuses_what_it_cannot_make(
    client: TestClient, engine: FakeEngine, body: Any, status: int, words: list[str]
) -> None:
    answer = client.post("/generate", json=body)
    assert answer.status_code == status, answer.text
    for word in words:
        assert word in answer.json()["detail"]
    assert engine.calls == 0


def test_bbox_gives_whole_pixels_with_their_place_and_says_synthetic(client: TestClient) -> None:
    bounds = (7.1, 46.2, 7.3, 46.35)
    answer = client.get("/worlds/planet/bbox/7.1,46.2,7.3,46.35.tif?seed=7&zoom=11")
    assert answer.headers["content-type"].startswith("image/tiff")
    box = bounds_box(bounds, 11)
    with MemoryFile(answer.content) as file, file.open() as dataset:
        assert dataset.crs.to_epsg() == 3857
        assert tuple(dataset.bounds) == pytest.approx(box_mercator_bounds(box), abs=1e-6)
        np.testing.assert_array_equal(np.moveaxis(dataset.read(), 0, -1), colours(PLANET, box))
        tags = dataset.tags()
        assert "generated" in tags["SYNTHETIC"]
        assert tags["EARTHGEN_WORLD"] == PLANET.id
        assert json.loads(tags["EARTHGEN_WORLD_JSON"]) == PLANET.to_dict()
        assert tags["EARTHGEN_WEIGHTS"] == "fakeweights"
        assert dataset.descriptions == ("red", "green", "blue")


def test_bbox_without_a_size_is_as_fine_as_1024_pixels_allow(client: TestClient) -> None:
    pixels = pixels_of(client.get("/worlds/planet/bbox/7.1,46.2,7.3,46.35.png").content)
    assert 512 < max(pixels.shape[:2]) <= 1024


def test_bbox_with_a_size_has_exactly_that_size(client: TestClient) -> None:
    answer = client.get("/worlds/planet/bbox/7.1,46.2,7.3,46.35/300x200.png")
    assert pixels_of(answer.content).shape == (200, 300, 3)


def test_point_is_the_pixel_of_the_finest_tile(client: TestClient) -> None:
    document = client.get("/worlds/planet/point/7.2,46.3?seed=7").json()
    box = bounds_box((7.2, 46.3, 7.2000001, 46.3000001), 18)
    expected = colours(PLANET, Box(18, box.row, box.column, 1, 1))[0, 0]
    assert document["values"] == expected.tolist()
    assert document["coordinates"] == [7.2, 46.3]


def test_preview_shows_the_whole_world(client: TestClient) -> None:
    pixels = pixels_of(client.get("/worlds/planet/preview.png?seed=7").content)
    np.testing.assert_array_equal(pixels, colours(PLANET, Box(2, 0, 0, 1024, 1024)))
    assert pixels_of(client.get("/worlds/planet/preview.png?max_size=300").content).shape == (256, 256, 3)


def test_info_names_the_world_and_statistics_have_three_bands(client: TestClient) -> None:
    info = client.get("/worlds/planet/info?seed=7").json()
    assert (info["minzoom"], info["maxzoom"], info["dtype"], info["synthetic"]) == (0, 18, "uint8", True)
    assert info["id"] == PLANET.id
    statistics = client.get("/worlds/planet/statistics?seed=7").json()
    assert sorted(statistics) == ["b1", "b2", "b3"]
    red = colours(PLANET, Box(2, 0, 0, 1024, 1024))[..., 0]
    assert statistics["b1"]["mean"] == pytest.approx(float(red.mean()))


def test_statistics_of_a_polygon(client: TestClient) -> None:
    feature = {
        "type": "Feature",
        "properties": {},
        "geometry": {"type": "Polygon", "coordinates": [[[7, 46], [7.2, 46], [7.2, 46.2], [7, 46]]]},
    }
    answer = client.post("/worlds/planet/statistics?max_size=256", json=feature)
    assert answer.status_code == 200
    red = answer.json()["properties"]["statistics"]["b1"]
    # The triangle is half of its bounds.
    assert red["masked_pixels"] == pytest.approx(red["valid_pixels"], rel=0.05)


@pytest.mark.parametrize("path", ["preview.png", "point/7,46", "bbox/7,46,8,47.png", "statistics"])
def test_areas_are_revalidated_without_generation(client: TestClient, engine: FakeEngine, path: str) -> None:
    first = client.get(f"/worlds/planet/{path}")
    engine.calls = 0
    assert first.headers["x-earthgen"].startswith(f"synthetic; world={World(root='planet').id}; ")
    again = client.get(f"/worlds/planet/{path}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, engine.calls) == (304, b"", 0)
    other = client.get(f"/worlds/planet/{path}", params={"seed": 1}, headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


def test_activity_says_what_is_done(client: TestClient) -> None:
    client.get(f"{TILE}.png")
    document = client.get("/activity").json()
    assert document == {
        "running": [],
        "queued": 0,
        "done": 1,
        "seconds_per_window": 0.0,
        "waiting_tiles": 0,
        "waiting_areas": 0,
        "waiting_searches": 0,
        "waiting_detections": 0,
    }


@pytest.mark.parametrize("address", ["/healthz", f"{TILE}.png", "/worlds/planet/bbox/7,46,7.1,46.1.tif", "/docs", "/"])
def test_head_has_the_headers_of_get_and_no_body(client: TestClient, address: str) -> None:
    head, get = client.head(address), client.get(address)
    assert (head.status_code, head.content) == (200, b"")
    # The times differ, and so may the cache's part in them.
    different = {"server-timing", "x-cache", "x-request-id", "last-modified"}
    assert head.headers.keys() == get.headers.keys()
    for name in set(get.headers) - different:
        assert head.headers[name] == get.headers[name]


def test_the_documentation_names_every_setting_and_its_default() -> None:
    text = (Path(__file__).parent.parent / "docs" / "service.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `EARTHGEN_(\w+)` \| (.*?) \|", text, re.MULTILINE))
    assert list(rows) and set(rows) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, tuple):
            default = json.dumps(list(default))
        if default is not None:
            assert rows[name.upper()].strip("`").lower() == str(default).lower()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHGEN_TILE_QUEUE", "7")
    monkeypatch.setenv("EARTHGEN_CACHE", "")
    monkeypatch.setenv("EARTHGEN_CORS_ORIGINS", '["https://map.example"]')
    settings = Settings(max_worlds=3)
    assert (settings.tile_queue, settings.cache, settings.max_worlds) == (7, None, 3)
    assert settings.cors_origins == ("https://map.example",)


def test_workers_read_the_same_settings_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(cache=tmp_path, weights="hf:some/one", cors_origins=("https://a", "https://b"), access_log=True)
    for name, value in environment(settings, workers=2).items():
        monkeypatch.setenv(name, value)
    assert Settings().model_copy(update={"threads": None}) == settings


def test_openapi_and_its_page_name_every_contract_route(client: TestClient) -> None:
    paths = set(client.get("/openapi.json").json()["paths"])
    assert paths >= {
        "/healthz",
        "/worlds",
        "/worlds/{world}",
        "/worlds/{world}/tiles/{tileMatrixSetId}/{z}/{x}/{y}.{format}",
        "/worlds/{world}/{tileMatrixSetId}/tilejson.json",
        "/worlds/{world}/WMTSCapabilities.xml",
        "/worlds/{world}/bbox/{minx},{miny},{maxx},{maxy}.{format}",
        "/worlds/{world}/point/{lon},{lat}",
        "/worlds/{world}/preview.{format}",
        "/worlds/{world}/info",
        "/worlds/{world}/statistics",
        "/generate",
    }
    page = client.get("/docs")
    assert all(path in page.text for path in paths)
    # Everything it needs is in it: no script, nothing from other servers.
    assert "<script" not in page.text
    assert "style-src 'sha256-" in page.headers["content-security-policy"]


def test_the_map_and_its_files_are_served(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-cache"
    static = Path(__file__).parent.parent / "tileserver" / "static"
    (module,) = static.glob("vendor/maplibre-gl-*/maplibre-gl.mjs")
    answer = client.get(f"/static/{module.relative_to(static)}")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    assert client.get("/static/js/service.js").headers["cache-control"] == "no-cache"


def test_other_pages_may_read_tiles_but_not_register_worlds(client: TestClient) -> None:
    origin = {"Origin": "https://elsewhere.example"}
    answer = client.get(f"{TILE}.png", headers=origin)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "ETag" in answer.headers["access-control-expose-headers"]
    preflight = client.options("/worlds", headers=origin | {"Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 400
    # What a page may send without asking first is no JSON, and is not taken for it.
    simple = client.post("/worlds", content=b'{"seed": 3}', headers=origin | {"Content-Type": "text/plain"})
    assert simple.status_code == 422


def test_images_are_not_compressed_again(client: TestClient) -> None:
    for address in (f"{TILE}.png", "/worlds/planet/bbox/7,46,8,47.tif"):
        assert "content-encoding" not in client.get(address, headers={"Accept-Encoding": "gzip"}).headers


BAD_REQUESTS = [
    # address, status, words of the detail: the value, and what is allowed
    ("/worlds/planet/tiles/WebMercatorQuad/19/0/0.png", 404, ["19", "0..18"]),
    ("/worlds/planet/tiles/WebMercatorQuad/-1/0/0.png", 404, ["-1", "0..18"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/8/0.png", 404, ["3/8/0", "0..7"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/-1.png", 404, ["3/0/-1", "0..7"]),
    (f"/worlds/planet/tiles/WebMercatorQuad/3/{10**30}/0.png", 404, ["0..7"]),
    ("/worlds/planet/tiles/WebMercatorQuad/18/0/0.png?tilesize=512", 404, ["0..17"]),
    ("/worlds/planet/tiles/WebMercatorQuad/a/0/0.png", 422, ["z is 'a'", "integer"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0@2x.png", 422, ["y is '0@2x'", "integer"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.gif", 422, ["'gif'", "'png'", "'webp'"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?tilesize=300", 422, ["'300'", "'256'", "'512'"]),
    ("/worlds/planet/tiles/WorldCRS84Quad/3/0/0.png", 422, ["'WorldCRS84Quad'", "'WebMercatorQuad'"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?seed=-1", 422, ["seed is '-1'", "0"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?seed=x", 422, ["seed is 'x'", "integer"]),
    (f"/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?seed={2**63}", 422, [str(2**63), str(2**63 - 1)]),
    (f"/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?prompt={'p' * 513}", 422, ["prompt", "512"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?prompt=palms", 422, ["know no text"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?root=earth", 422, ["'earth'", "'planet'"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?bidx=4", 400, ["band 4", "1 (red)"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?expression=b9", 400, ["b9"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?expression=" + "b1;" * 40, 422, ["16"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?rescale=1", 422, ["rescale"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?colormap_name=viridis", 400, ["band"]),
    ('/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?bidx=1&colormap={"a":1}', 422, ["colormap"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?gsd=1", 422, ["gsd is 1.0", "'planet'"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?guidance=0", 422, ["guidance is 0.0", "1 to 20"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?guidance=x", 422, ["guidance is 'x'", "number"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?negative=%00", 422, ["control character U+0000"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?prompt=%1B%5B2J", 422, ["control character U+001B"]),
    (f"/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?negative={'p' * 513}", 422, ["negative", "512"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?date=1+May", 422, ["date is '1 May'", "2026-05-01"]),
    ("/worlds/planet/tiles/WebMercatorQuad/3/0/0.png?date=2026-02-30", 422, ["date is '2026-02-30'"]),
    ("/worlds/prompt/tiles/WebMercatorQuad/13/0/0.png", 422, ["needs a prompt"]),
    ("/worlds/prompt/tiles/WebMercatorQuad/13/0/0.png?prompt=a+harbour", 422, ["needs a gsd", "0.3 to 1200"]),
    ("/worlds/prompt/tiles/WebMercatorQuad/13/0/0.png?prompt=a&gsd=nan", 422, ["gsd is nan", "0.3 to 1200"]),
    ("/worlds/prompt/tiles/WebMercatorQuad/13/0/0.png?prompt=a&gsd=0.1", 422, ["gsd is 0.1"]),
    ("/worlds/prompt/tiles/WebMercatorQuad/11/0/0.png?prompt=a&gsd=1", 404, ["zoom 11", "begins at zoom 12", "12..18"]),
    ("/worlds/prompt/tiles/WebMercatorQuad/10/0/0.png?prompt=a&gsd=1&tilesize=512", 404, ["begins at zoom 12"]),
    ("/worlds/prompt/bbox/0,0,0.1,0.1.png?prompt=a&gsd=1&zoom=11", 400, ["begins at zoom 12"]),
    ("/worlds/prompt/bbox/0,0,0.3,0.3.png?prompt=a&gsd=1&zoom=12", 413, ["means of 256 pixels each"]),
    ("/worlds/prompt/point/0,0?prompt=a&gsd=1&zoom=3", 400, ["begins at zoom 12"]),
    ("/worlds/nowhere/tiles/WebMercatorQuad/3/0/0.png", 404, ["'nowhere'", "earth, planet"]),
    ("/worlds/0123456789abcdef0123", 404, ["0123456789abcdef0123", "registered"]),
    ("/worlds/planet/bbox/nan,46,8,47.tif", 400, ["nan", "finite"]),
    ("/worlds/planet/bbox/7,46,inf,47.tif", 400, ["inf", "finite"]),
    ("/worlds/planet/bbox/170,46,-170,47.tif", 400, ["170.0", "180 degrees", "two boxes"]),
    ("/worlds/planet/bbox/7,47,8,46.tif", 400, ["47.0", "less than north"]),
    ("/worlds/planet/bbox/7,46,190,47.tif", 400, ["190.0", "-180..180"]),
    ("/worlds/planet/bbox/7,86,8,87.tif", 400, ["86.0", "85.05"]),
    ("/worlds/planet/bbox/7,46,8,47.tif?zoom=18", 413, ["186415 x", "4194304"]),
    ("/worlds/planet/bbox/7,46,8,47.tif?zoom=19", 422, ["zoom is '19'", "18"]),
    ("/worlds/planet/bbox/7,46,8,47/40000x25000.tif", 413, ["1000000000 pixels", "4194304"]),
    ("/worlds/planet/bbox/7,46,8,47/0x10.tif", 400, ["width is 0", "from 1 on"]),
    ("/worlds/planet/bbox/7,46,8,47/10x10.tif?zoom=3", 400, ["zoom 3", "either"]),
    ("/worlds/planet/bbox/a,46,8,47.tif", 422, ["minx is 'a'", "number"]),
    ("/worlds/planet/bbox/7,46,8,47.bmp", 422, ["'bmp'", "'png'"]),
    ("/worlds/planet/bbox/7,46,8,47.tif?dst_crs=EPSG:0", 422, ["dst_crs", "'EPSG:0'"]),
    ("/worlds/planet/bbox/7,46,8,47.tif?resampling=wild", 422, ["resampling is 'wild'", "'bilinear'"]),
    ("/worlds/planet/preview.png?max_size=40000", 413, ["pixels", "4194304"]),
    ("/worlds/planet/preview.png?max_size=-5", 400, ["max_size is -5", "from 1 on"]),
    ("/worlds/planet/point/200,46", 400, ["200.0", "-180..180"]),
    ("/worlds/planet/point/7,89", 400, ["89.0", "85.05"]),
    ("/worlds/planet/point/nan,46", 400, ["nan", "finite"]),
    ("/worlds/planet/statistics?max_size=40000", 413, ["4194304"]),
    ("/worlds/planet/statistics?histogram_bins=1000000000", 422, ["histogram_bins", "1024"]),
    ("/worlds/planet/statistics?histogram_range=5,1", 422, ["histogram_range", "5.0"]),
    ("/worlds/planet/statistics?p=200", 422, ["200", "0 to 100"]),
    ("/worlds/planet/tiles/WebMercatorQuad?maxzoom=99", 422, ["maxzoom is '99'", "18"]),
    ("/worlds/planet/WMTSCapabilities.xml?zooms=*::0,999999999", 422, ["zooms", "999999999"]),
    ("/worlds?limit=0", 422, ["limit is '0'", "1"]),
    ("/no/such/route", 404, ["Not Found"]),
]


@pytest.mark.parametrize(("address", "status", "words"), BAD_REQUESTS)
def test_bad_requests_say_what_was_wrong_and_what_is_allowed(
    client: TestClient, engine: FakeEngine, address: str, status: int, words: list[str]
) -> None:
    answer = client.get(address)
    assert answer.status_code == status, answer.text
    assert answer.headers["cache-control"] == "no-store"
    detail = answer.json()["detail"]
    assert isinstance(detail, str)
    for word in words:
        assert word in detail
    assert engine.generated == 0


@pytest.mark.parametrize("expression", ["18", "sum(b1)", "b1+", "b1;18"])
def test_an_expression_must_give_a_value_for_each_pixel(client: TestClient, expression: str) -> None:
    for path in ("bbox/7,46,7.1,46.1/20x30.tif", "tiles/WebMercatorQuad/3/1/2.png"):
        answer = client.get(f"/worlds/planet/{path}", params={"expression": expression})
        assert answer.status_code == 400, answer.text
        assert expression in answer.json()["detail"]


BAD_WORLDS: list[tuple[Any, list[str]]] = [
    ({"root": "moon"}, ["'moon'", "earth, planet, prompt"]),
    ({"root": "prompt", "prompt": "a"}, ["needs a gsd"]),
    ({"root": "prompt", "prompt": "\n", "gsd": 1}, ["needs a prompt"]),
    ({"root": "prompt", "prompt": "a", "gsd": 1e9}, ["gsd is 1000000000.0"]),
    ({"prompt": "a\u0000"}, ["control character U+0000"]),
    ({"guidance": 0}, ["guidance is 0", "1 to 20"]),
    ({"edits": [{"polygon": [[0, 0], [1, 0], [2, 0]], "action": "snow"}]}, ["no area"]),
    ({"edits": [{"polygon": [[0, 0], [1, 0], [1, 1]], "action": "explode"}]}, ["'explode'", "snow"]),
    ({"edits": [{"polygon": [[0, 0], [1, 0], [1, 1]], "action": "reseed"}]}, ["lacks a seed"]),
    ({"edits": [{"polygon": [[-80, -60], [80, -60], [0, 60]], "action": "snow"}]}, ["at zoom 6, the coarsest"]),
    ({"seed": -1}, ["-1", "0 to"]),
    ({"seed": 2**63}, [str(2**63)]),
    ({"seed": 1.5}, ["1.5", "integer"]),
    ({"seed": True}, ["True"]),
    ({"prompt": "p" * 513}, ["513", "512"]),
    ({"prompt": 3}, ["3", "text"]),
    ({"sed": 1}, ["'sed'", "seed"]),
    ({"edits": [{"polygon": [[0, 0], [1, 1]], "prompt": "x"}]}, ["2 vertices", "3 to"]),
    ({"edits": [{"polygon": [[0, 0], [1, 1], [999, 0]], "prompt": "x"}]}, ["999"]),
    ({"edits": "none"}, ["list"]),
    ([1, 2], ["dictionary"]),
    ("earth", ["dictionary"]),
]


@pytest.mark.parametrize(("value", "words"), BAD_WORLDS)
def test_bad_worlds_are_not_registered(client: TestClient, value: Any, words: list[str]) -> None:
    before = client.get("/worlds").json()
    answer = client.post("/worlds", json=value)
    assert answer.status_code == 422, answer.text
    for word in words:
        assert word in answer.json()["detail"]
    assert client.get("/worlds").json() == before


@pytest.mark.parametrize("path", ["/worlds", "/generate"])
def test_half_a_surrogate_pair_is_no_text(client: TestClient, path: str) -> None:
    content = b'{"root": "prompt", "prompt": "\\ud800", "gsd": 1}'
    if path == "/generate":
        content = content.replace(b'"root": "prompt", ', b"")
    answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "d800" in answer.json()["detail"].lower()


def test_a_body_that_is_no_json_is_refused(client: TestClient) -> None:
    answer = client.post("/worlds", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused_before_it_is_parsed(client: TestClient, chunked: bool) -> None:
    content = iter([b" " * 65536] * 17) if chunked else b" " * (17 * 65536)
    answer = client.post("/worlds", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert str(1 << 20) in answer.json()["detail"]


def test_registered_worlds_cannot_be_changed_by_parameters(fresh: TestClient) -> None:
    name = fresh.post("/worlds", json={"root": "planet", "seed": 7}).json()["id"]
    assert fresh.get(f"/worlds/{name}?seed=7").status_code == 200
    answer = fresh.get(f"/worlds/{name}?seed=8")
    assert answer.status_code == 422
    assert "seed 7" in answer.json()["detail"]


def test_the_number_of_worlds_is_bounded() -> None:
    engine = FakeEngine()
    with TestClient(create_app(Settings(max_worlds=1), lambda _: engine)) as client:
        assert client.post("/worlds", json={"seed": 1}).status_code == 201
        answer = client.post("/worlds", json={"seed": 2})
        assert answer.status_code == 507
        assert "at most 1" in answer.json()["detail"]
        assert client.post("/worlds", json={"seed": 1}).status_code == 201


def test_a_cache_that_cannot_be_written_fails_registration_only(tmp_path: Path) -> None:
    engine = FakeEngine()
    (tmp_path / "worlds").write_text("a file where the folder should be")
    with TestClient(create_app(Settings(cache=tmp_path), lambda _: engine)) as client:
        answer = client.post("/worlds", json={"seed": 1})
        assert answer.status_code == 507
        assert "cannot be" in answer.json()["detail"]
        assert client.get(f"{TILE}.png").status_code == 200


def test_an_unforeseen_error_is_json_and_hides_its_insides(tmp_path: Path) -> None:
    class Broken(FakeEngine):
        def pixels(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError("secret")

    app = create_app(Settings(), lambda _: Broken())
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get(f"{TILE}.png")
        assert answer.status_code == 500
        assert "ZeroDivisionError" in answer.json()["detail"]
        assert "secret" not in answer.text
        assert answer.headers["cache-control"] == "no-store"


def test_a_full_disk_is_507_with_a_reason() -> None:
    class Full(FakeEngine):
        def pixels(self, *_: Any, **__: Any) -> Any:
            raise OSError(28, "No space left on device")

    with TestClient(create_app(Settings(), lambda _: Full())) as client:
        answer = client.get(f"{TILE}.png")
        assert (answer.status_code, answer.json()["detail"]) == (507, "storage failed: No space left on device")


def test_importing_the_service_loads_no_network_code() -> None:
    program = "import sys, tileserver; print([m for m in sys.modules if m.split('.')[0] in ('torch', 'diffusers')])"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"

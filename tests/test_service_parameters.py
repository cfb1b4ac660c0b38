"""Every route of a world takes all that says which world it is about, and every route of pixels takes a band."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rasterio.io import MemoryFile
from starlette.testclient import TestClient

from earthgen.bands import BANDS, BandView
from earthgen.picture import frame_of
from earthgen.pyramid import Box, bounds_box, point_pixel
from earthgen.world import World
from tests.fake_engine import FakeEngine
from tests.tiny_bands import save_tiny_bands
from tileserver import Settings, create_app

TOWN = World.from_dict({"root": "prompt", "prompt": "a town", "seed": 3, "negative": "fog", "guidance": 3, "gsd": 10})
QUERY = {"prompt": "a town", "seed": "3", "negative": "fog", "guidance": "3", "gsd": "10"}
OTHER = {"prompt": "a lake", "seed": "4", "negative": "haze", "guidance": "5", "gsd": "40"}
PLACE = (frame_of(TOWN).longitude, frame_of(TOWN).latitude)
AREA = (PLACE[0] - 0.003, PLACE[1] - 0.002, PLACE[0] + 0.003, PLACE[1] + 0.002)
FIELD = [[AREA[0], AREA[1]], [AREA[2], AREA[1]], [AREA[2], AREA[3]], [AREA[0], AREA[3]], [AREA[0], AREA[1]]]
FEATURE = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [FIELD]}}
ROW, COLUMN = point_pixel(*PLACE, 16)
PATH = {
    "tileMatrixSetId": "WebMercatorQuad",
    **{"z": 16, "x": COLUMN // 256, "y": ROW // 256, "format": "png", "width": 16, "height": 16},
    **{"lon": PLACE[0], "lat": PLACE[1], "minx": AREA[0], "miny": AREA[1], "maxx": AREA[2], "maxy": AREA[3]},
}
ROUTE_OF_A_WORLD = "/worlds/{world}"
# What these do is tested where they are; they show no pixels.
NO_BAND = {
    f"{ROUTE_OF_A_WORLD}{rest}"
    for rest in (
        "",
        "/find",
        "/bands",
        "/perception/detect",
        "/perception/segment",
        "/agent",
        "/exports",
        "/exports/plan",
    )
}
NOT_CALLED = NO_BAND - {ROUTE_OF_A_WORLD, f"{ROUTE_OF_A_WORLD}/bands"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bands(tmp_path_factory.mktemp("bands"), "nir", "landcover")


@pytest.fixture(scope="module")
def client(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(band_weights=folder, cache=tmp_path_factory.mktemp("worlds"))
    with TestClient(create_app(settings, lambda _: FakeEngine())) as client:
        yield client


def routes(client: TestClient) -> list[tuple[str, str, set[str]]]:
    """Method, path and query parameters of the routes of one world, as the OpenAPI document has them."""
    document = client.get("/openapi.json").json()
    return [
        (method, path, {item["name"] for item in operation.get("parameters", ()) if item["in"] == "query"})
        for path, operations in document["paths"].items()
        if path.startswith(ROUTE_OF_A_WORLD)
        for method, operation in operations.items()
    ]


def call(client: TestClient, method: str, path: str, world: str, query: dict[str, str]) -> Any:
    """What a route answers; its path's parameters are filled in."""
    body = FEATURE if method == "post" else None
    answer = client.request(method, path.format(world=world, **PATH), params=query, json=body)
    assert answer.status_code == 200, (path, answer.text)
    return answer


def test_every_route_of_a_world_names_what_says_which_world(client: TestClient) -> None:
    found = routes(client)
    assert len(found) > 20
    for _, path, names in found:
        # A comparison has days of its own.
        assert {*QUERY, *(() if path.endswith(("/detect", "/agent")) else ("date",))} <= names, path


def test_every_route_of_pixels_names_the_band(client: TestClient) -> None:
    assert {path for _, path, names in routes(client) if "band" not in names} == NO_BAND


@pytest.mark.parametrize("changed", OTHER)
def test_every_route_listens_to_what_says_which_world(client: TestClient, changed: str) -> None:
    for method, path, _ in routes(client):
        if path in NOT_CALLED:
            continue
        one, other = (call(client, method, path, "prompt", QUERY | more) for more in ({}, {changed: OTHER[changed]}))
        assert one.content != other.content, (method, path)


def test_every_route_listens_to_the_day(client: TestClient) -> None:
    edit = {"action": "snow", "polygon": FIELD[:-1], "valid_from": "2026-05-01"}
    world = client.post("/worlds", json={"root": "planet", "edits": [edit]}).json()["name"]
    for method, path, _ in routes(client):
        if path in NOT_CALLED:
            continue
        winter, summer = (call(client, method, path, world, {"date": f"2026-0{month}-01"}) for month in (1, 7))
        assert winter.content != summer.content, (method, path)


def test_every_route_of_pixels_listens_to_the_band(client: TestClient) -> None:
    for method, path, _ in routes(client):
        if path in NO_BAND:
            continue
        answers = [call(client, method, path, "prompt", QUERY | band) for band in ({}, {"band": "landcover"})]
        assert answers[0].content != answers[1].content, (method, path)
        answer = client.request(method, path.format(world="prompt", **PATH), params=QUERY | {"band": "sar"})
        assert answer.status_code == 422 and "sar has no weights" in answer.json()["detail"], path


def values(folder: Path, name: str, box: Box) -> np.ndarray:
    return BandView(FakeEngine(), name, folder).pixels(TOWN, box)


def test_an_area_of_a_band_is_its_legend_in_pictures_and_its_codes_in_geotiffs(
    client: TestClient, folder: Path
) -> None:
    box = bounds_box(AREA, 16)
    codes = values(folder, "landcover", box)
    query = QUERY | {"band": "landcover", "zoom": "16"}
    address = f"/worlds/prompt/bbox/{','.join(map(str, AREA))}"
    answer = client.get(f"{address}.png", params=query)
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert np.array_equal(picture[..., :3], BANDS["landcover"].render(codes))
    assert "+landcover-" in answer.headers["x-earthgen"]
    with MemoryFile(client.get(f"{address}.tif", params=query).content) as file, file.open() as dataset:
        assert np.array_equal(dataset.read(1), codes)
        assert dataset.colormap(1)[6][:3] == BANDS["landcover"].classes[5].colour
        assert "6=building" in dataset.tags()["EARTHGEN_CLASSES"]
    with (
        MemoryFile(client.get(f"{address}.tif", params=query | {"band": "nir"}).content) as file,
        file.open() as dataset,
    ):
        assert np.array_equal(dataset.read(1), values(folder, "nir", box))


def test_a_point_and_statistics_of_a_band_are_its_values(client: TestClient, folder: Path) -> None:
    row, column = point_pixel(*PLACE, 18)
    query = QUERY | {"band": "landcover"}
    answer = client.get(f"/worlds/prompt/point/{PLACE[0]},{PLACE[1]}", params=query).json()
    assert answer["values"] == values(folder, "landcover", Box(18, row, column, 1, 1))[0].tolist()
    assert answer["band_descriptions"] == ["Land cover"]
    statistics = client.post("/worlds/prompt/statistics", params=query, json=FEATURE).json()["properties"]["statistics"]
    assert set(statistics) == {"b1"} and 0 <= statistics["b1"]["max"] <= 7
    info = client.get("/worlds/prompt/info", params=query).json()
    assert (info["minzoom"], info["colorinterp"]) == (13, ["palette"])
    assert "buildings" not in info["weights"] and "+landcover-" in info["weights"]


def test_resampled_classes_stay_classes(client: TestClient) -> None:
    codes = {item.code for item in BANDS["landcover"].classes}
    address = f"/worlds/prompt/bbox/{','.join(map(str, AREA))}/37x23.tif"
    for more in (
        {},
        {"resampling": "mode"},
        {"dst_crs": "EPSG:32631"},
        {"dst_crs": "EPSG:32631", "reproject": "nearest"},
    ):
        content = client.get(address, params=QUERY | {"band": "landcover"} | more).content
        with MemoryFile(content) as file, file.open() as dataset:
            assert set(np.unique(dataset.read(1)).tolist()) <= codes | {0}
    answer = client.get(address, params=QUERY | {"band": "landcover", "resampling": "cubic"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "cubic would mix the codes of classes; allowed: nearest, mode"


@pytest.mark.parametrize(
    ("address", "query", "status", "says"),
    [
        ("/worlds/planet/preview.png", {"band": "nir"}, 413, "at most"),
        ("/worlds/planet/bbox/7,46,7.1,46.1.png", {"band": "nir", "zoom": "10"}, 400, "band nir has zooms 12..18"),
        ("/worlds/planet/point/7,46", {"band": "nir", "zoom": "10"}, 400, "band nir has zooms 12..18"),
        ("/worlds/planet/bbox/7,46,7.001,46.001.png", {"band": "nir", "bidx": "2"}, 400, "allowed: 1 (Near infrared)"),
    ],
)
def test_what_a_band_cannot_show_of_an_area_is_answered_with_one_sentence(
    client: TestClient, address: str, query: dict[str, str], status: int, says: str
) -> None:
    answer = client.get(address, params=query)
    assert answer.status_code == status
    assert says in answer.json()["detail"]

"""Bands over HTTP and on the command line: pictures, values with their place and legend, a list of what there is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.io import MemoryFile
from rio_cogeo.cogeo import cog_validate
from starlette.testclient import TestClient

import earthgen.engine
from earthgen.bands import BANDS, BandView
from earthgen.cli import main
from earthgen.pyramid import Box, bounds_box, box_bounds, box_mercator_bounds, tile_box
from earthgen.world import World
from tests.fake_engine import FakeEngine
from tests.stand_in import CoordinateEngine
from tests.tiny_bands import save_tiny_bands
from tileserver import Settings, create_app

PLANET = World("planet", 7)
TILE = "/worlds/planet/tiles/WebMercatorQuad/16/33000/22000"
SEED = {"seed": 7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bands(tmp_path_factory.mktemp("bands"), "nir", "landcover", "buildings")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(band_weights=folder), lambda _: FakeEngine())) as client:
        yield client


def get(client: TestClient, extension: str = "png", **query: Any) -> Any:
    return client.get(f"{TILE}.{extension}", params={**SEED, **query})


def values_of(folder: Path, name: str, engine: Any = None) -> np.ndarray:
    return BandView(engine or FakeEngine(), name, folder).tile(PLANET, 16, 33000, 22000)


@pytest.mark.parametrize("name", ["nir", "landcover"])
def test_a_band_tile_is_a_picture_of_its_values(client: TestClient, folder: Path, name: str) -> None:
    answer = get(client, band=name)
    assert answer.headers["content-type"] == "image/png"
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert np.array_equal(picture, BANDS[name].render(values_of(folder, name)))
    assert f"+{name}-" in answer.headers["x-earthgen"]
    for extension in ("jpg", "webp"):
        assert get(client, extension, band=name).headers["content-type"].startswith("image/")
    large = get(client, band=name, tilesize=512)
    assert Image.open(io.BytesIO(large.content)).size == (512, 512)


def test_tif_tiles_hold_the_values_their_place_and_their_legend(client: TestClient, folder: Path) -> None:
    answer = get(client, "tif", band="landcover")
    assert answer.headers["content-type"].startswith("image/tiff")
    with MemoryFile(answer.content) as file, file.open() as dataset:
        assert np.array_equal(dataset.read(1), values_of(folder, "landcover"))
        assert dataset.crs.to_epsg() == 3857
        assert tuple(dataset.bounds) == pytest.approx(box_mercator_bounds(tile_box(16, 33000, 22000)))
        assert dataset.colormap(1)[6][:3] == (198, 66, 52)
        assert "6=building" in dataset.tags()["EARTHGEN_CLASSES"]
        assert dataset.tags()["EARTHGEN_WORLD"] == PLANET.id
    with MemoryFile(get(client, "tif", band="nir").content) as file, file.open() as dataset:
        assert np.array_equal(dataset.read(1), values_of(folder, "nir"))


def test_bands_are_cached_apart_from_the_colours_and_each_other(client: TestClient) -> None:
    tags = [get(client, **query).headers["etag"] for query in ({}, {"band": "nir"}, {"band": "buildings"})]
    assert len(set(tags)) == 3
    known = client.get(f"{TILE}.png", params={**SEED, "band": "nir"}, headers={"If-None-Match": tags[1]})
    assert known.status_code == 304
    assert get(client, band="").headers["etag"] == tags[0]


def test_other_band_weights_are_another_version(folder: Path, tmp_path: Path) -> None:
    versions = []
    for where in (folder, save_tiny_bands(tmp_path, "nir", seed=5)):
        with TestClient(create_app(Settings(band_weights=where), lambda _: FakeEngine())) as client:
            versions.append(client.get("/readyz").json()["version"])
    assert versions[0] != versions[1]


@pytest.mark.parametrize(
    ("address", "query", "status", "says"),
    [
        (f"{TILE}.png", {"band": "ultraviolet"}, 422, "allowed: nir, landcover"),
        (f"{TILE}.png", {"band": "sar"}, 422, "no redistributable pairs"),
        (f"{TILE}.png", {"band": "nir", "rescale": "0,100"}, 422, "rescale cannot be combined with band=nir"),
        (f"{TILE}.tif", {}, 422, "give ?band="),
        ("/worlds/planet/tiles/WebMercatorQuad/15/3/3.png", {"band": "buildings"}, 404, "zooms 16..18"),
        ("/worlds/planet/tiles/WebMercatorQuad/16/70000/3.png", {"band": "buildings"}, 404, "0..65535"),
        ("/worlds/planet/WebMercatorQuad/tilejson.json", {"band": "sar"}, 422, "sar has no weights"),
    ],
)
def test_what_a_band_cannot_show_is_answered_with_one_sentence(
    client: TestClient, address: str, query: dict[str, str], status: int, says: str
) -> None:
    answer = client.get(address, params=query)
    assert answer.status_code == status
    assert says in answer.json()["detail"]


def test_the_list_says_what_there_is_and_why_the_rest_is_not(client: TestClient) -> None:
    bands = {band["name"]: band for band in client.get("/worlds/planet/bands", params=SEED).json()["bands"]}
    assert list(bands) == list(BANDS)
    assert not bands["sar"]["available"]
    assert "no redistributable pairs" in bands["sar"]["absent"]
    cover = bands["landcover"]
    assert cover["available"] and cover["kind"] == "classes"
    assert (cover["minzoom"], cover["maxzoom"]) == (13, 18)
    assert cover["classes"][0] == {"code": 1, "name": "water", "colour": "#2868b2"}
    address = cover["tiles"].format(z=16, x=33000, y=22000)
    answer = client.get(address)
    assert answer.content == get(client, band="landcover").content
    assert "immutable" in answer.headers["cache-control"]


def test_tilejson_of_a_band_begins_where_the_band_does(client: TestClient) -> None:
    document = client.get("/worlds/planet/WebMercatorQuad/tilejson.json", params={**SEED, "band": "buildings"}).json()
    assert document["minzoom"] == 16
    assert "band=buildings" in document["tiles"][0]
    assert "Buildings" in document["name"]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CoordinateEngine:
    """The engine that commands open."""
    engine = CoordinateEngine()
    monkeypatch.setattr(earthgen.engine.Engine, "open", lambda *_, **__: engine)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return engine


def test_the_command_writes_a_band_tile(stand_in: CoordinateEngine, folder: Path, tmp_path: Path) -> None:
    words = ["tile", "16", "33000", "22000", "--root", "planet", "--seed", "7", "--band", "landcover"]
    words += ["--band-weights", str(folder)]
    values = values_of(folder, "landcover", stand_in)
    assert main([*words, "-o", str(tmp_path / "a.png")]) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), BANDS["landcover"].render(values))
    assert main([*words, "-o", str(tmp_path / "a.tif")]) == 0
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert np.array_equal(dataset.read(1), values)


@pytest.mark.parametrize("name", ["nir", "landcover"])
def test_the_command_writes_a_band_region(stand_in: CoordinateEngine, folder: Path, tmp_path: Path, name: str) -> None:
    bounds = box_bounds(Box(16, 256 * 22000 + 40, 256 * 33000 + 100, 600, 700))
    output = tmp_path / "region.tif"
    words = ["region", f"--bbox={','.join(map(str, bounds))}", "--zoom", "16", "--root", "planet", "--seed", "7"]
    assert main([*words, "--band", name, "--band-weights", str(folder), "-q", "-o", str(output)]) == 0
    box = bounds_box(bounds, 16)
    with rasterio.open(output) as dataset:
        assert dataset.count == 1
        view = BandView(stand_in, name, folder)
        assert np.array_equal(dataset.read(1), view.pixels(PLANET, box))
        assert dataset.tags()["EARTHGEN_BAND"] == name
        overview = dataset.read(1, out_shape=(box.height // 2, box.width // 2))
        if name == "landcover":
            assert dataset.colormap(1)[1][:3] == (40, 104, 178)
            # Overviews of classes invent none.
            assert set(np.unique(overview)) <= set(np.unique(dataset.read(1)))
    assert cog_validate(output, strict=True, quiet=True)[0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tile", "16", "1", "1", "--band", "sar", "-o", "x.png"], "sar has no weights"),
        (["tile", "9", "1", "1", "--band", "nir", "-o", "x.png"], "zooms 12..18"),
        (["tile", "16", "1", "1", "-o", "x.tif"], "allowed: .png, .jpg"),
        (["region", "--bbox", "1,2,3,4", "--zoom", "5", "--band", "nir", "-o", "x.tif"], "zooms 12..18"),
    ],
)
def test_the_command_says_in_one_line_what_a_band_cannot_show(
    stand_in: CoordinateEngine,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EARTHGEN_BAND_WEIGHTS", str(folder))
    assert main(words) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("x.*"))

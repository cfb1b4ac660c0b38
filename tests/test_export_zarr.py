"""A world as a Zarr store: every chunk is the engine's tile, at its place, for zarr, xarray, dask and GIS libraries."""

from __future__ import annotations

import asyncio
import pickle
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rioxarray  # noqa: F401  (adds .rio to xarray's objects)
import xarray
import zarr
from hypothesis import given, settings
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype

import earthgen
import earthgen.engine
from earthgen.bands import BANDS, BandView
from earthgen.engine import Engine
from earthgen.errors import AddressError, ExportError, InvalidRequestError
from earthgen.export.zarr_store import LISTED_CHUNKS, WorldStore
from earthgen.pyramid import MAX_ZOOM, Box, bounds_box, box_mercator_bounds, world_size
from earthgen.world import Edit, World
from tests import strategies
from tests.stand_in import CoordinateEngine
from tests.tiny import no_prompts, open_tiny, ripple_root, save_tiny_weights
from tests.tiny_bands import save_tiny_bands

WORLD = World("planet", 7)
BOUNDS = (11.3, 47.1, 11.7, 47.4)


@pytest.fixture
def engine() -> CoordinateEngine:
    return CoordinateEngine()


@pytest.fixture
def store(engine: CoordinateEngine) -> WorldStore:
    return earthgen.zarr(WORLD, engine)


def read(store: Store, key: str, part: Any = None) -> bytes | None:
    found = asyncio.run(store.get(key, default_buffer_prototype(), part))
    return None if found is None else found.to_bytes()


def listed(names: AsyncIterator[str]) -> list[str]:
    async def collect() -> list[str]:
        return [name async for name in names]

    return asyncio.run(collect())


@given(tile=strategies.tiles())
def test_every_chunk_of_every_zoom_is_the_engines_tile(tile: tuple[int, int, int]) -> None:
    z, x, y = tile
    store = earthgen.zarr(WORLD, CoordinateEngine())
    key = f"{z}/rgb/c/0/{y}/{x}"
    assert asyncio.run(store.exists(key))
    assert read(store, key) == CoordinateEngine().tile(WORLD, z, x, y).tobytes()
    assert asyncio.run(store.getsize(key)) == 256 * 256 * 3


@settings(max_examples=30)
@given(box=strategies.boxes(max_side=400))
def test_zarr_reads_any_box_as_the_engine_gives_it(box: Box) -> None:
    array = zarr.open_array(earthgen.zarr(WORLD, CoordinateEngine()), path=f"{box.zoom}/rgb", mode="r")
    found = np.asarray(array[:, box.row : box.row + box.height, box.column : box.column + box.width])
    assert np.array_equal(np.moveaxis(found, 0, -1), CoordinateEngine().pixels(WORLD, box))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/zarr.json",
        "rgb/zarr.json",
        "19/zarr.json",
        "12/zarr.json/",
        "12/sar/zarr.json",
        "12/rgb/c/0/0",
        "12/rgb/c/0/0/0/0",
        "12/rgb/c/1/0/0",
        "12/rgb/c/0/4096/0",
        "12/rgb/c/0/-1/0",
        "12/rgb/c/0/01/0",
        "12/rgb/c/0/ 1/0",
        "12/rgb/c/0/\u0661/0",
        "12/rgb/c/0/1e3/0",
        "12/rgb/0/0/0",
        "012/rgb/c/0/0/0",
        f"12/rgb/c/0/{10**40}/0",
        "12/.zarray",
        "18/x/zarr.json",
    ],
)
def test_other_keys_do_not_exist(key: str, store: WorldStore, engine: CoordinateEngine) -> None:
    assert read(store, key) is None
    assert not asyncio.run(store.exists(key))
    with pytest.raises(FileNotFoundError):
        asyncio.run(store.getsize(key))
    assert engine.boxes == []


def test_ranges_of_bytes_are_parts_of_the_whole(store: WorldStore) -> None:
    for key in ("5/rgb/c/0/3/4", "5/zarr.json", "5/x/c/0"):
        whole = read(store, key)
        assert whole is not None
        assert read(store, key, RangeByteRequest(10, 30)) == whole[10:30]
        assert read(store, key, OffsetByteRequest(50)) == whole[50:]
        assert read(store, key, SuffixByteRequest(7)) == whole[-7:]
        assert read(store, key, SuffixByteRequest(10**9)) == whole
    parts = asyncio.run(
        store.get_partial_values(
            default_buffer_prototype(), [("5/zarr.json", RangeByteRequest(0, 1)), ("nowhere", None)]
        )
    )
    assert [None if part is None else part.to_bytes() for part in parts] == [b"{", None]


def test_groups_are_zooms_and_nothing_is_made_to_describe_them(store: WorldStore, engine: CoordinateEngine) -> None:
    root = zarr.open_group(store, mode="r")
    assert sorted(root.group_keys(), key=int) == [str(zoom) for zoom in range(MAX_ZOOM + 1)]
    for zoom, group in root.groups():
        names = set(group.array_keys())
        assert {"rgb", "band", "spatial_ref"} <= names
        assert ({"x", "y"} <= names) == (int(zoom) <= 15)
        rgb = group["rgb"]
        assert isinstance(rgb, zarr.Array)
        assert rgb.shape == (3, world_size(int(zoom)), world_size(int(zoom)))
        assert rgb.chunks == (3, 256, 256)
    assert engine.boxes == []


def test_the_root_says_what_it_is_and_how_its_zooms_relate(store: WorldStore) -> None:
    root = zarr.open_group(store, mode="r")
    about: dict[str, Any] = dict(root.attrs)
    assert about["earthgen:synthetic"] == "YES"
    assert about["earthgen:world_id"] == WORLD.id
    assert about["earthgen:world"] == WORLD.canonical_json
    assert about["earthgen:weights"] == "stand-in"
    assert about["proj:code"] == "EPSG:3857"
    layout = about["multiscales"]["layout"]
    assert [level["asset"] for level in layout] == [str(zoom) for zoom in range(MAX_ZOOM, -1, -1)]
    for level, below in zip(layout[1:], layout, strict=False):
        assert level["derived_from"] == below["asset"]
        assert level["transform"]["scale"] == [2.0, 2.0]
    for level in layout:
        group = root[level["asset"]]
        assert isinstance(group, zarr.Group)
        rgb = group["rgb"]
        assert isinstance(rgb, zarr.Array)
        assert list(rgb.shape[1:]) == level["spatial:shape"] == group.attrs["spatial:shape"]
        metres, _, left, _, _, top = level["spatial:transform"]
        assert (left, top) == pytest.approx((-20037508.3428, 20037508.3428))
        assert metres * rgb.shape[2] == pytest.approx(2 * 20037508.3428)


def test_listing_names_what_is_below_and_never_all_chunks(store: WorldStore, engine: CoordinateEngine) -> None:
    assert listed(store.list_dir("")) == ["zarr.json", *map(str, range(MAX_ZOOM + 1))]
    assert sorted(listed(store.list_dir("12"))) == ["band", "rgb", "spatial_ref", "x", "y", "zarr.json"]
    assert sorted(listed(store.list_dir("12/rgb/"))) == ["c", "zarr.json"]
    assert listed(store.list_dir("12/rgb/c")) == ["0"]
    assert listed(store.list_dir("12/rgb/c/0")) == [str(row) for row in range(4096)]
    assert listed(store.list_dir("3/rgb/c/0/7")) == [str(column) for column in range(8)]
    assert listed(store.list_dir("3/rgb/c/0/8")) == listed(store.list_dir("3/rgb/c/0/7/1")) == []
    assert listed(store.list_dir("nowhere")) == listed(store.list_dir("12/nowhere/c")) == []
    everything = listed(store.list())
    assert len(everything) == len(set(everything)) < 2 * LISTED_CHUNKS
    assert "18/rgb/zarr.json" in everything
    assert not [key for key in everything if key.startswith("9/rgb/c")]
    assert len([key for key in everything if key.startswith("8/rgb/c/0/")]) == 4**8
    assert listed(store.list_prefix("18/")) == [f"18/{name}" for name in _documents_of_zoom_18()]
    assert listed(store.list_prefix("2/rgb/c/0/1")) == [f"2/rgb/c/0/1/{column}" for column in range(4)]
    assert listed(store.list_prefix("5/y/c")) == ["5/y/c/0"]
    assert listed(store.list_prefix("spam")) == []
    for key in everything[:: len(everything) // 50]:
        assert asyncio.run(store.exists(key))
    assert not asyncio.run(store.is_empty(""))
    assert engine.boxes == []


def _documents_of_zoom_18() -> list[str]:
    return ["zarr.json", "rgb/zarr.json", "band/zarr.json", "band/c/0", "spatial_ref/zarr.json", "spatial_ref/c"]


def test_a_small_zoom_can_be_copied_by_its_listing(store: WorldStore) -> None:
    copy = zarr.storage.MemoryStore()

    async def fill() -> None:
        async for key in store.list_prefix("2/"):
            content = await store.get(key, default_buffer_prototype())
            assert content is not None
            await copy.set(key.removeprefix("2/"), content)

    asyncio.run(fill())
    whole = zarr.open_group(copy, mode="r")["rgb"]
    assert isinstance(whole, zarr.Array)
    expected = CoordinateEngine().pixels(WORLD, Box(2, 0, 0, 1024, 1024))
    assert np.array_equal(np.moveaxis(np.asarray(whole[:]), 0, -1), expected)


def test_it_can_only_be_read(store: WorldStore) -> None:
    assert store.read_only
    assert not store.supports_writes and not store.supports_deletes
    with pytest.raises(ValueError, match="read-only"):
        zarr.open_array(store, path="5/rgb", mode="r+")[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        zarr.create_group(store, path="mine")
    with pytest.raises(ValueError, match="read-only"):
        asyncio.run(store.set("mine", default_buffer_prototype().buffer.from_bytes(b"")))
    with pytest.raises(ValueError, match="read-only"):
        asyncio.run(store.delete("zarr.json"))
    with pytest.raises(ValueError, match="can only be read"):
        store.with_read_only(False)
    assert store.with_read_only(True) == store


def test_xarray_opens_a_whole_planet_and_dask_computes_what_is_asked(
    store: WorldStore, engine: CoordinateEngine
) -> None:
    planet = xarray.open_zarr(store, group="12", chunks={"y": 4096, "x": 4096})
    assert dict(planet.sizes) == {"band": 3, "y": 2**20, "x": 2**20}
    assert planet.rgb.dtype == np.uint8
    assert planet.rgb.chunksizes["x"][0] == 4096
    assert set(planet.coords) == {"band", "y", "x", "spatial_ref"}
    assert engine.boxes == []
    box = Box(12, 366_000, 557_000, 300, 500)
    left, bottom, right, top = box_mercator_bounds(box)
    part = planet.rgb.sel(x=slice(left, right), y=slice(top, bottom))
    assert part.shape == (3, 300, 500)
    found = part.transpose("y", "x", "band").compute()
    assert np.array_equal(found, CoordinateEngine().pixels(WORLD, box))
    # Dask's chunks are larger than tiles, and yet only the tiles of the part are made.
    assert len(engine.boxes) == 2 * 3
    gsd = (right - left) / 500
    assert found.x[0] == pytest.approx(left + gsd / 2) and found.x[-1] == pytest.approx(right - gsd / 2)
    assert found.y[0] == pytest.approx(top - gsd / 2) and found.y[-1] == pytest.approx(bottom + gsd / 2)
    mean = part.mean(("y", "x")).compute()
    assert np.allclose(mean, CoordinateEngine().pixels(WORLD, box).mean(axis=(0, 1)))


def test_without_dask_the_finest_zoom_opens_at_once(store: WorldStore, engine: CoordinateEngine) -> None:
    planet = xarray.open_zarr(store, group="18", chunks=None)
    box = Box(18, 25_000_000, 35_000_000, 40, 30)
    # Loaded first: a lazy array that is transposed is read pixel by pixel.
    part = planet.rgb[:, box.row : box.row + 40, box.column : box.column + 30].load()
    assert np.array_equal(part.transpose("y", "x", "band"), CoordinateEngine().pixels(WORLD, box))
    assert len(engine.boxes) <= 4


def test_an_area_of_the_finest_zooms_has_coordinates(engine: CoordinateEngine) -> None:
    cut = earthgen.zarr(WORLD, engine, bounds=BOUNDS, zooms=(10, 18))
    assert listed(cut.list_dir("")) == ["zarr.json", *map(str, range(10, 19))]
    for zoom in (10, 13, 18):
        area = xarray.open_zarr(cut, group=str(zoom))
        box = bounds_box(BOUNDS, zoom)
        left, bottom, right, top = box_mercator_bounds(box)
        part = area.rgb.sel(x=slice(left, right), y=slice(top, bottom))
        assert part.shape == (3, box.height, box.width)
        corner = part[:, :20, -30:].load().transpose("y", "x", "band")
        expected = CoordinateEngine().pixels(WORLD, Box(zoom, box.row, box.column + box.width - 30, 20, 30))
        assert np.array_equal(corner, expected)
        assert area.sizes["x"] % 256 == 0 and area.sizes["x"] < box.width + 512


def test_rioxarray_knows_where_a_slice_lies_and_writes_it(store: WorldStore, tmp_path: Path) -> None:
    planet = xarray.open_zarr(store, group="11", chunks=None)
    part = planet.rio.clip_box(*BOUNDS, crs="EPSG:4326").rgb
    assert part.rio.crs.to_epsg() == 3857
    part.rio.to_raster(tmp_path / "part.tif")
    with rasterio.open(tmp_path / "part.tif") as dataset:
        found, bounds = np.moveaxis(dataset.read(), 0, -1), tuple(dataset.bounds)
    inner = bounds_box(BOUNDS, 11)
    left, _, _, top = box_mercator_bounds(Box(11, 0, 0, 1, 1))
    gsd = (bounds[2] - bounds[0]) / found.shape[1]
    row, column = round((top - bounds[3]) / gsd), round((bounds[0] - left) / gsd)
    assert abs(row - inner.row) <= 1 and abs(column - inner.column) <= 1
    assert np.array_equal(found, CoordinateEngine().pixels(WORLD, Box(11, row, column, *found.shape[:2])))


def test_torchgeo_samples_a_slice(store: WorldStore, tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchgeo.datasets")
    samplers = pytest.importorskip("torchgeo.samplers")
    part = xarray.open_zarr(store, group="11", chunks=None).rio.clip_box(*BOUNDS, crs="EPSG:4326").rgb
    part.rio.to_raster(tmp_path / "part.tif")
    scenes = datasets.RasterDataset(str(tmp_path))
    samples = [scenes[query] for query in samplers.GridGeoSampler(scenes, size=64, stride=64)]
    assert len(samples) >= 4
    assert all(tuple(sample["image"].shape) == (3, 64, 64) for sample in samples)
    # Samples at the edges reach beyond the slice.
    assert sum(_is_part_of(np.asarray(part), sample["image"].numpy()) for sample in samples) >= 4


def _is_part_of(whole: npt.NDArray[np.uint8], image: npt.NDArray[np.float32]) -> bool:
    _, height, width = image.shape
    places = np.argwhere((whole == image[:, :1, :1]).all(axis=0))
    return any(np.array_equal(whole[:, row : row + height, column : column + width], image) for row, column in places)


def test_all_zooms_open_as_a_tree() -> None:
    store: Any = earthgen.zarr(WORLD, CoordinateEngine(), zooms=(0, 6))
    tree = xarray.open_datatree(store, engine="zarr", chunks=None)
    assert tree.groups == ("/", *(f"/{zoom}" for zoom in range(7)))
    assert tree["6"]["rgb"].shape == (3, 16384, 16384)


def test_a_prompts_world_begins_at_its_own_zoom(engine: CoordinateEngine) -> None:
    world = World("prompt", 0, "a town", gsd=1.0)
    names = listed(earthgen.zarr(world, engine).list_dir(""))
    assert names == ["zarr.json", *map(str, range(world.min_zoom, MAX_ZOOM + 1))]
    with pytest.raises(AddressError, match="begins at zoom"):
        earthgen.zarr(world, engine, zooms=(0, 18))


def test_a_world_with_dates_shows_the_edits_that_never_end(engine: CoordinateEngine) -> None:
    edit = Edit(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)), "a lake", "2026-01-01", "2026-06-01")
    store = earthgen.zarr(World(edits=(edit,)), engine)
    assert zarr.open_group(store, mode="r").attrs["earthgen:world_id"] == World().id


def test_what_cannot_be_is_refused(engine: CoordinateEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AddressError):
        earthgen.zarr(WORLD, engine, bounds=(170, 0, -170, 1))
    with pytest.raises(AddressError, match="coarser zoom comes first"):
        earthgen.zarr(WORLD, engine, zooms=(5, 3))
    with pytest.raises(InvalidRequestError, match="band is 'thermal'"):
        earthgen.zarr(WORLD, engine, bands=("thermal",))
    monkeypatch.setitem(sys.modules, "earthgen.export.zarr_store", None)
    with pytest.raises(ExportError, match=r"pip install 'earthgen\[export\]'"):
        earthgen.zarr(WORLD, engine)


# The real engine with a tiny network.


@pytest.fixture(scope="module", autouse=True)
def ripples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earthgen.engine, "open_root", ripple_root)
        patch.setattr(earthgen.engine, "open_prompt_root", no_prompts)
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def tiny(weights: Path) -> Iterator[Engine]:
    with open_tiny(weights) as engine:
        yield engine


def test_a_real_engines_chunks_are_its_tiles(tiny: Engine) -> None:
    world = World(seed=7)
    planet = xarray.open_zarr(earthgen.zarr(world, tiny), group="7", chunks=None)
    part = planet.rgb[:, 256 * 40 : 256 * 41, 256 * 70 : 256 * 71]
    found = np.moveaxis(np.asarray(part), 0, -1)
    assert np.array_equal(found, tiny.tile(world, 7, 70, 40))


def test_bands_lie_beside_the_colours(tiny: Engine, tmp_path: Path) -> None:
    folder, world = save_tiny_bands(tmp_path, "nir", "landcover"), World(seed=7)
    store = earthgen.zarr(world, tiny, bands=("nir", "landcover"), band_weights=folder, bounds=BOUNDS)
    assert set(xarray.open_zarr(store, group="12", chunks=None).data_vars) == {"rgb", "nir"}
    area = xarray.open_zarr(store, group="13", chunks=None)
    assert set(area.data_vars) == {"rgb", "nir", "landcover"}
    assert area.landcover.attrs["flag_values"] == [item.code for item in BANDS["landcover"].classes]
    assert area.landcover.attrs["flag_meanings"].split()[0] == "water"
    box = bounds_box(BOUNDS, 13)
    y, x = box.row // 256, box.column // 256
    for name in ("nir", "landcover"):
        expected = BandView(tiny, name, folder).tile(world, 13, x, y)
        assert np.array_equal(area[name][:256, :256], expected)
    assert "nir" in zarr.open_group(store, mode="r").attrs["earthgen:weights"]  # type: ignore[operator]


def test_a_store_without_an_engine_can_be_sent_to_another_process(weights: Path, tiny: Engine) -> None:
    world = World(seed=7)
    store = earthgen.zarr(world, weights=weights, threads=1)
    sent: WorldStore = pickle.loads(pickle.dumps(store))
    assert sent == store and hash(sent) == hash(store)
    assert dask.base.tokenize(sent) == dask.base.tokenize(store)
    assert read(sent, "5/rgb/c/0/3/4") == tiny.tile(world, 5, 4, 3).tobytes()
    other = earthgen.zarr(World(seed=8), weights=weights, threads=1)
    assert other != store
    assert dask.base.tokenize(other) != dask.base.tokenize(store)


def test_a_store_of_an_open_engine_says_why_it_cannot_be_sent(store: WorldStore) -> None:
    with pytest.raises(TypeError, match="holds an open engine"):
        pickle.dumps(store)

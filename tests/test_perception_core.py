"""Pairs, their readers, change maps as files, tiles, and weight files: what every perception model stands on."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning
from torch import nn

from earthgen.errors import ExportError, InvalidRequestError, WeightsError
from perception.checkpoint import fill, read_network, read_public, save_network
from perception.detection import Detection
from perception.errors import PairError
from perception.pair import Labels, Pair, read_image, read_pair
from perception.tiling import tiled

METRES = Affine(0.5, 0.0, 600_000.0, 0.0, -0.5, 5_000_000.0)
UTM = "EPSG:32632"


def colours(height: int = 12, width: int = 16, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(
    path: Path,
    pixels: npt.NDArray[np.generic],
    crs: str | None = UTM,
    transform: Affine = METRES,
    driver: str = "GTiff",
    nodata: float | None = None,
) -> Path:
    height, width, count = pixels.shape
    shape = {"height": height, "width": width, "count": count}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver=driver, dtype=pixels.dtype, crs=crs, transform=transform, nodata=nodata, **shape
        ) as file:
            file.write(np.moveaxis(pixels, -1, 0))
    return path


# --- Pairs ---


def test_a_pair_is_read_with_its_place_dates_and_labels(tmp_path: Path) -> None:
    first, second = colours(seed=1), colours(seed=2)
    truth = (colours(seed=3)[..., :1] > 128).astype(np.uint8) * 255
    pair = read_pair(
        write(tmp_path / "a.tif", first),
        write(tmp_path / "b.tif", second),
        change=write(tmp_path / "label.tif", truth),
        before_date=date(2019, 5, 1),
        after_date=date(2024, 5, 1),
    )
    assert np.array_equal(pair.before, first)
    assert np.array_equal(pair.after, second)
    assert pair.transform == METRES
    assert pair.crs is not None
    assert pair.crs.to_string() == UTM
    assert pair.valid is None
    assert pair.labels is not None
    assert np.array_equal(pair.labels.change, truth[..., 0] > 0)


def test_plain_pictures_make_a_pair_without_a_reference_system(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{seed}.png", colours(seed=seed), None, Affine.identity(), "PNG") for seed in (1, 2)]
    pair = read_pair(*paths)
    assert pair.crs is None
    assert np.array_equal(pair.after, colours(seed=2))


def test_floats_from_0_to_1_are_bytes_and_what_has_no_data_is_not_valid(tmp_path: Path) -> None:
    pixels = colours().astype(np.float32) / 255
    pixels[2, 3] = -9
    image = read_image(write(tmp_path / "a.tif", pixels, nodata=-9))
    known = np.ones((12, 16), dtype=bool)
    known[2, 3] = False
    assert np.array_equal(image.valid, known)
    assert np.array_equal(image.pixels[known], colours()[known])


def test_the_models_see_minus_one_to_one(tmp_path: Path) -> None:
    black, white = np.zeros((4, 5, 3), np.uint8), np.full((4, 5, 3), 255, np.uint8)
    tensor = Pair(black, white).tensor()
    assert tensor.shape == (2, 3, 4, 5)
    assert (tensor[0] == -1).all()
    assert (tensor[1] == 1).all()


def test_swapping_twice_is_nothing() -> None:
    change = np.zeros((12, 16), bool)
    labels = Labels(change, np.ones((12, 16), np.uint8), np.zeros((12, 16), np.uint8), ("water",))
    pair = Pair(colours(seed=1), colours(seed=2), labels=labels)
    there, back = pair.swapped(), pair.swapped().swapped()
    assert np.array_equal(there.before, pair.after)
    assert there.labels is not None
    assert there.labels.after is labels.before
    assert back.before is pair.before
    assert back.labels is not None
    assert back.labels.before is labels.before


def nan(tmp_path: Path) -> tuple[Path, Path]:
    pixels = colours().astype(np.float32) / 255
    pixels[0, 0, 1] = np.nan
    return write(tmp_path / "a.tif", pixels), write(tmp_path / "b.tif", colours())


def text(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "a.tif").write_text("These are words.")
    return tmp_path / "a.tif", write(tmp_path / "b.tif", colours())


def cut(tmp_path: Path) -> tuple[Path, Path]:
    path = write(tmp_path / "a.tif", colours(300, 300))
    path.write_bytes(path.read_bytes()[:-200_000])
    return path, write(tmp_path / "b.tif", colours(300, 300))


def virtual(tmp_path: Path) -> tuple[Path, Path]:
    real = write(tmp_path / "b.tif", colours())
    (tmp_path / "a.vrt").write_text(
        '<VRTDataset rasterXSize="16" rasterYSize="12"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{real}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return tmp_path / "a.vrt", real


def two(tmp_path: Path, first: dict[str, object], second: dict[str, object]) -> tuple[Path, Path]:
    pixels = [options.pop("pixels", colours()) for options in (first, second)]
    return (
        write(tmp_path / "a.tif", pixels[0], **first),  # type: ignore[arg-type]
        write(tmp_path / "b.tif", pixels[1], **second),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (nan, r"a\.tif holds values that are not numbers"),
        (text, r"a\.tif cannot be read as an image"),
        (cut, r"a\.tif cannot be read as an image"),
        (virtual, r"a\.vrt cannot be read as an image"),
        (lambda path: (path / "none.png", path / "b.tif"), r"none\.png does not exist"),
        (lambda path: (path, path / "b.tif"), "is a folder"),
        (lambda path: two(path, {"pixels": colours(12, 17)}, {}), r"17 x 12 pixels, .*b\.tif has 16 x 12"),
        (lambda path: two(path, {"crs": "EPSG:3857"}, {}), r"EPSG:3857, .* in EPSG:32632"),
        (lambda path: two(path, {"crs": None}, {}), r"a\.tif is in none"),
        (lambda path: two(path, {"transform": METRES * Affine.translation(3, 0)}, {}), "up to 3 pixels apart"),
        (lambda path: two(path, {"pixels": colours()[..., :2]}, {}), "has 2 bands; three"),
        (lambda path: two(path, {"pixels": colours()[..., :1]}, {}), "has 1 band; three"),
        (lambda path: two(path, {"pixels": colours().astype(np.uint16)}, {}), "holds uint16 pixels"),
        (lambda path: two(path, {"pixels": colours().astype(np.float32)}, {}), "0 to 1 is needed"),
    ],
)
def test_what_is_no_pair_is_refused_in_one_sentence(tmp_path: Path, make: object, words: str) -> None:
    before, after = make(tmp_path)  # type: ignore[operator]
    with pytest.raises(PairError, match=words) as caught:
        read_pair(before, after)
    assert "\n" not in str(caught.value)


def test_arrays_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(PairError, match="float32"):
        Pair(colours().astype(np.float32), colours())
    with pytest.raises(PairError, match="later than after"):
        Pair(colours(), colours(), before_date=date(2024, 1, 2), after_date=date(2024, 1, 1))
    with pytest.raises(PairError, match="change labels"):
        Pair(colours(), colours(), labels=Labels(np.zeros((3, 3), bool)))
    with pytest.raises(PairError, match="code 2; 1 classes"):
        two_codes = np.full((3, 3), 2, np.uint8)
        Labels(np.ones((3, 3), bool), two_codes, two_codes, ("water",))


# --- Change maps ---


def detection(semantics: bool = False, crs: str | None = UTM) -> Detection:
    """A square of change, and a corner that touches it diagonally."""
    mask = np.zeros((12, 16), bool)
    mask[2:6, 3:9] = True
    mask[6, 9] = True
    logits = np.stack([np.zeros((12, 16)), np.where(mask, 2.0, -2.0)]).astype(np.float32)
    classes = ("water", "tree", "building") if semantics else ()
    scores = None
    if semantics:
        scores = np.zeros((2, 3, 12, 16), np.float32)
        scores[0, 1] = scores[1, 2] = 1.0
        scores[1, 0, :, :5] = 3.0
    return Detection(mask, logits, classes, METRES, crs and rasterio.crs.CRS.from_string(crs), scores, "test")


def test_the_change_map_is_a_geotiff_on_the_grid_of_the_pair(tmp_path: Path) -> None:
    found = detection(semantics=True)
    found.write_geotiff(tmp_path / "change.tif")
    with rasterio.open(tmp_path / "change.tif") as file:
        assert file.transform == METRES
        assert file.crs.to_string() == UTM
        bands = file.read()
        assert json.loads(file.tags()["EARTHGEN_CLASSES"]) == ["water", "tree", "building"]
    assert np.array_equal(bands[0], found.mask)
    assert np.array_equal(bands[1][found.mask], np.full(25, round(255 / (1 + np.exp(-2)))))
    assert set(bands[2][found.mask]) == {2}
    assert set(bands[3][:, :5][found.mask[:, :5]]) == {1}
    assert set(bands[3][:, 5:][found.mask[:, 5:]]) == {3}
    assert not bands[2:, ~found.mask].any()
    assert [path.name for path in tmp_path.iterdir()] == ["change.tif"]


def test_polygons_say_where_how_much_and_what() -> None:
    (feature,) = detection().geojson()["features"]
    assert feature["properties"] == {
        "pixels": 25,
        # Half a metre a pixel; a map in UTM is true to 0.04 %.
        "area_m2": pytest.approx(25 * 0.25, rel=0.002),
        "probability": pytest.approx(0.8808, abs=1e-4),
    }
    ring = np.array(feature["geometry"]["coordinates"][0])
    # Against the place itself: the middle of zone 32 is 9 degrees east.
    assert ring[:, 0].min() == pytest.approx(10.27, abs=0.01)
    assert ring[:, 1].min() == pytest.approx(45.14, abs=0.01)
    doubled_area = (ring[:-1, 0] * ring[1:, 1] - ring[1:, 0] * ring[:-1, 1]).sum()
    assert doubled_area > 0

    named = detection(semantics=True).geojson()["features"]
    assert [(one["properties"]["after"], one["properties"]["pixels"]) for one in named] == [
        ("building", 17),
        ("water", 8),
    ]
    largest = detection(semantics=True).geojson(most=1)
    assert largest == {"type": "FeatureCollection", "features": named[:1], "left_out": 1}


def test_no_change_is_no_feature_and_no_reference_system_is_no_geojson(tmp_path: Path) -> None:
    found = detection()
    found.mask[:] = False
    assert found.geojson() == {"type": "FeatureCollection", "features": []}
    with pytest.raises(PairError, match="no reference system"):
        detection(crs=None).write_geojson(tmp_path / "change.geojson")
    detection().write_geojson(tmp_path / "change.geojson")
    assert json.loads((tmp_path / "change.geojson").read_text()) == detection().geojson()


def test_a_change_map_goes_only_where_it_can(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not end in"):
        detection().write_geotiff(tmp_path / "change.png")
    with pytest.raises(ExportError, match="cannot be written"):
        detection().write_geotiff(tmp_path / "missing" / "change.tif")


# --- Tiles ---


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([8, 16, 32]), st.integers(0, 7), st.integers(0, 2**31))
@settings(max_examples=25)
def test_tiles_of_a_pointwise_network_join_to_the_whole(
    height: int, width: int, tile: int, overlap: int, seed: int
) -> None:
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))

    def run(pair: torch.Tensor) -> torch.Tensor:
        assert pair.shape[-1] % 8 == pair.shape[-2] % 8 == 0
        return pair[:, 1] - 2 * pair[:, 0]

    joined = tiled(run, images, tile=tile, overlap=overlap)
    assert joined.shape == (3, height, width)
    assert torch.allclose(joined, images[1] - 2 * images[0], atol=1e-5)


def test_a_step_between_tiles_is_blended_over_the_overlap() -> None:
    tiles = iter(range(10))
    joined = tiled(
        lambda pair: torch.full_like(pair[:, 0, :1], float(next(tiles))), torch.zeros(2, 3, 16, 48), tile=32, overlap=16
    )
    row = joined[0, 8]
    assert row[0] == 0
    assert row[-1] == 1
    assert (row.diff() >= 0).all()
    assert row.diff().max() < 0.1


def test_tiles_that_cannot_be_are_refused_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    tiled(lambda pair: pair[:, 0], torch.zeros(2, 3, 24, 24), tile=16, overlap=8, progress=lambda *at: told.append(at))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(InvalidRequestError, match="multiple of 8"):
        tiled(lambda pair: pair[:, 0], torch.zeros(2, 3, 24, 24), tile=20)
    with pytest.raises(InvalidRequestError, match="0 to 15"):
        tiled(lambda pair: pair[:, 0], torch.zeros(2, 3, 24, 24), tile=16, overlap=16)


# --- Weight files ---


@dataclass(frozen=True)
class LineConfig:
    widths: tuple[int, ...] = (3, 2)


def test_a_network_comes_back_with_its_configuration(tmp_path: Path) -> None:
    net = nn.Linear(3, 2)
    save_network(tmp_path, "line", LineConfig((3, 2)), net)
    config, state = read_network(tmp_path, "line", LineConfig)
    assert config == LineConfig((3, 2))
    other = nn.Linear(3, 2)
    fill(other, state, tmp_path)
    assert torch.equal(other.weight, net.weight)
    with pytest.raises(WeightsError, match="holds weights of line; curve is needed"):
        read_network(tmp_path, "curve", LineConfig)
    with pytest.raises(WeightsError, match="weight has shape"):
        fill(nn.Linear(4, 2), state, tmp_path)
    with pytest.raises(WeightsError, match="2 tensors missing or unknown, first bias"):
        fill(nn.Identity(), state, tmp_path)


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_damaged_and_dangerous_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    net = nn.Linear(300, 20)
    file = save_network(tmp_path, "line", LineConfig(), net)
    file.write_bytes(file.read_bytes()[:-100])
    torch.save(net.state_dict(), tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:-3000])
    torch.save({"weight": Bomb(tmp_path / "went-off")}, tmp_path / "bomb.pth")
    (tmp_path / "words.pth").write_text("These are words.")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: read_network(tmp_path, "line", LineConfig), "cannot be loaded"),
        (lambda: read_network(tmp_path / "none", "line", LineConfig), "no weights at"),
        (lambda: read_public(tmp_path / "cut.pth"), "truncated or damaged"),
        (lambda: read_public(tmp_path / "bomb.pth"), "could run code"),
        (lambda: read_public(tmp_path / "words.pth"), "is no torch checkpoint"),
        (lambda: read_public(tmp_path / "list.pth"), "no dictionary of tensors"),
        (lambda: read_public(tmp_path / "none.pth"), "no weights at"),
    ]
    for read, words in cases:
        with pytest.raises(WeightsError, match=words) as caught:
            read()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "went-off").exists()


def test_public_checkpoints_lose_the_prefix_of_data_parallelism(tmp_path: Path) -> None:
    torch.save({"module.weight": torch.ones(2).half()}, tmp_path / "a.pth")
    (item,) = read_public(tmp_path / "a.pth").items()
    assert item[0] == "weight"
    assert item[1].dtype == torch.float32

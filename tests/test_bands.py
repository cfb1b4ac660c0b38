"""Bands: the same values whatever was asked for before, a legend that holds, and errors that say what is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from earthgen.bandnet import BandNet, load_band_net
from earthgen.bands import (
    BANDS,
    LAND_COVER,
    SHIPPED,
    BandView,
    available_band,
    band_folder,
    band_of,
    band_tile_box,
    bands_digest,
)
from earthgen.errors import AddressError, InvalidRequestError, WeightsError
from earthgen.pyramid import Box, ground_sampling_distance, row_latitudes, world_size
from earthgen.weights import weights_id
from earthgen.world import World
from tests.stand_in import CoordinateEngine
from tests.tiny_bands import save_tiny_bands, tiny_band_net

WORLD = World("planet", 7)
ZOOM = 16
WHOLE = Box(ZOOM, 256 * 20, 256 * 30, 512, 768)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bands(tmp_path_factory.mktemp("bands"), "nir", "landcover", "buildings", "sar")


@pytest.fixture(scope="module")
def wholes(folder: Path) -> dict[str, np.ndarray]:
    return {name: BandView(CoordinateEngine(), name, folder).pixels(WORLD, WHOLE) for name in ("nir", "landcover")}


@settings(max_examples=8)
@given(
    st.sampled_from(["nir", "landcover"]),
    st.integers(0, 511),
    st.integers(0, 767),
    st.integers(1, 300),
    st.integers(1, 300),
)
def test_a_crop_of_a_band_is_the_crop_of_the_whole(
    folder: Path, wholes: dict[str, np.ndarray], name: str, row: int, column: int, height: int, width: int
) -> None:
    height, width = min(height, 512 - row), min(width, 768 - column)
    view = BandView(CoordinateEngine(), name, folder)
    crop = view.pixels(WORLD, Box(ZOOM, WHOLE.row + row, WHOLE.column + column, height, width))
    assert np.array_equal(crop, wholes[name][row : row + height, column : column + width])


def test_a_band_wraps_at_180_degrees_and_ends_at_the_poles(folder: Path) -> None:
    view = BandView(CoordinateEngine(), "nir", folder)
    size = world_size(ZOOM)
    across = view.pixels(WORLD, Box(ZOOM, 0, size - 256, 256, 512))
    assert np.array_equal(across[:, :256], view.tile(WORLD, ZOOM, 2**ZOOM - 1, 0))
    assert np.array_equal(across[:, 256:], view.tile(WORLD, ZOOM, 0, 0))
    view.tile(WORLD, ZOOM, 5, 2**ZOOM - 1)
    with pytest.raises(AddressError, match="zoom 16 has"):
        view.pixels(WORLD, Box(ZOOM, -1, 0, 8, 8))


def test_windows_agree_with_one_undivided_run(tmp_path: Path) -> None:
    # The tiny network reaches less far than 64 pixels, so only rounding is left.
    save_tiny_bands(tmp_path, "nir", margin=64)
    values = BandView(CoordinateEngine(), "nir", tmp_path).pixels(WORLD, WHOLE)
    grown = WHOLE.grown(64)
    gsd = ground_sampling_distance(ZOOM, 0.0) * np.cos(np.radians(row_latitudes(ZOOM, grown.row, grown.height)))
    net = load_band_net(tmp_path / "nir", BANDS["nir"])
    undivided = net.read(CoordinateEngine().pixels(WORLD, grown), gsd)[64:-64, 64:-64]
    assert np.abs(values.astype(int) - undivided).max() <= 1
    assert len(np.unique(undivided)) > 20


def test_reading_a_band_leaves_the_global_random_state_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    BandView(CoordinateEngine(), "landcover", folder).tile(WORLD, ZOOM, 3, 4)
    assert torch.equal(before, torch.get_rng_state())


def test_classes_are_those_of_the_legend_and_drawn_in_its_colours(wholes: dict[str, np.ndarray]) -> None:
    codes = np.unique(wholes["landcover"])
    assert set(codes) <= {item.code for item in LAND_COVER}
    assert len(codes) > 1
    picture = band_of("landcover").render(wholes["landcover"])
    for item in LAND_COVER:
        assert (picture[wholes["landcover"] == item.code] == item.colour).all()
    grey = band_of("nir").render(wholes["nir"])
    assert grey.shape == (512, 768, 3)
    assert (grey == wholes["nir"][..., None]).all()
    for band in BANDS.values():
        assert len({item.colour for item in band.classes}) == len({item.code for item in band.classes})


def test_large_tiles_show_the_next_zoom(folder: Path) -> None:
    view = BandView(CoordinateEngine(), "buildings", folder)
    large = view.tile(WORLD, ZOOM, 30, 20, size=512)
    assert np.array_equal(large[256:, :256], view.tile(WORLD, ZOOM + 1, 60, 41))
    with pytest.raises(AddressError, match="256 and 512"):
        band_tile_box(ZOOM, 0, 0, 300)


def test_a_band_has_the_zooms_at_which_it_means_something(folder: Path) -> None:
    view = BandView(CoordinateEngine(), "buildings", folder)
    with pytest.raises(AddressError, match=r"band buildings has zooms 16\.\.18"):
        view.tile(WORLD, 15, 0, 0)
    with pytest.raises(AddressError, match=r"zooms 16\.\.18"):
        view.tile(WORLD, 18, 0, 0, size=512)


def test_a_band_that_is_not_there_says_which_are(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="band is 'ultraviolet'; allowed: nir, landcover"):
        band_of("ultraviolet")
    with pytest.raises(InvalidRequestError, match="sar has no weights: no redistributable pairs"):
        BandView(CoordinateEngine(), "sar")
    # A folder of one's own makes it a band like any other.
    assert BandView(CoordinateEngine(), "sar", folder).tile(WORLD, ZOOM, 1, 2).shape == (256, 256)
    assert available_band("sar", folder) is BANDS["sar"]


def test_what_a_band_is_made_with_is_in_its_fingerprint(folder: Path, tmp_path: Path) -> None:
    other = save_tiny_bands(tmp_path, "nir", seed=1)
    views = [BandView(CoordinateEngine(), "nir", where) for where in (folder, other)]
    assert views[0].fingerprint != views[1].fingerprint
    assert views[0].weights_id.startswith("stand-in+nir-")
    assert views[0].weights_id.endswith(weights_id(folder / "nir"))
    assert bands_digest(folder) != bands_digest(other)
    assert not np.array_equal(views[0].tile(WORLD, ZOOM, 0, 0), views[1].tile(WORLD, ZOOM, 0, 0))


def test_weights_of_another_band_or_none_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "nir").symlink_to(folder / "landcover")
    with pytest.raises(WeightsError, match="holds band 'landcover'"):
        BandView(CoordinateEngine(), "nir", tmp_path).tile(WORLD, ZOOM, 0, 0)
    for content in ("nonsense", "{}", '{"margin": 12}'):
        damaged = tmp_path / content[:3] / "nir"
        damaged.mkdir(parents=True)
        (damaged / "config.json").write_text(content)
        with pytest.raises(WeightsError, match="describes no band"):
            BandView(CoordinateEngine(), "nir", damaged.parent)


def test_a_batch_is_its_parts_and_gradients_reach_every_parameter() -> None:
    net = tiny_band_net("landcover")
    colours, log2_gsd = torch.rand(2, 3, 32, 48) * 2 - 1, torch.tensor([[0.0], [3.0]]).expand(-1, 32)
    both = net(colours, log2_gsd)
    assert both.shape == (2, len(LAND_COVER), 32, 48)
    for index in range(2):
        part = slice(index, index + 1)
        assert torch.allclose(both[part], net(colours[part], log2_gsd[part]), atol=1e-5)
    # It listens to the ground sampling distance.
    assert not torch.allclose(both, net(colours, log2_gsd.flip(0)), atol=1e-3)
    both.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())


@pytest.mark.parametrize("name", [name for name in BANDS if band_folder(name) is not None])
def test_shipped_bands_are_small_load_and_have_a_card(name: str) -> None:
    folder = SHIPPED / name
    net: BandNet = load_band_net(folder, BANDS[name])
    assert sum(parameter.numel() for parameter in net.parameters()) <= 300_000
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) < 1_000_000
    assert "Held-out" in (folder / "README.md").read_text(encoding="utf-8")
    assert json.loads((folder / "config.json").read_text())["band"] == name


@pytest.mark.parametrize("name", [name for name in BANDS if not BANDS[name].absent])
def test_a_band_without_an_excuse_ships(name: str) -> None:
    assert band_folder(name) is not None

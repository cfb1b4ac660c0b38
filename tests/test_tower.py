"""Image towers: unit vectors, one picture at a time or many, and files that say what is wrong with them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors import safe_open

from earthgen.conditioning import DEFAULT_ENCODER
from earthgen.errors import InvalidRequestError, WeightsError
from earthgen.pyramid import tile_box
from earthgen.roots import open_root
from earthgen.tower import FEATURES, SHIPPED, ImageTower, TowerHead, image_tower, save_tower, seen_log2_gsd
from earthgen.world import World
from tests.tiny_text import tiny_open_clip


def pictures(count: int, side: int = 64) -> list[npt.NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (side, side + 8 * index, 3), dtype=np.uint8) for index in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random head of the shipped layout."""
    path = tmp_path_factory.mktemp("tower")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_tower(TowerHead(width=384, hidden=8), path, {"text_encoder": DEFAULT_ENCODER})
    return path


@pytest.fixture(scope="module", params=["lite", "open_clip"])
def tower(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageTower:
    if request.param == "lite":
        return image_tower(folder)
    return image_tower(tiny_open_clip(tmp_path_factory.mktemp("clip") / "open"))


def test_vectors_are_unit_and_as_wide_as_the_text(tower: ImageTower) -> None:
    vectors = tower.embed(pictures(3), 10.0)
    assert vectors.shape == (3, tower.width)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert tower.text.encode("river").shape == (tower.width,)
    assert tower.embed([]).shape == (0, tower.width)


def test_a_batch_is_its_pictures_one_by_one(tower: ImageTower) -> None:
    images = pictures(18)
    for image in images:
        image.setflags(write=False)  # as an engine's tiles are
    alone = np.concatenate([tower.embed([image], 0.6) for image in images])
    assert np.allclose(tower.embed(images, 0.6), alone, atol=1e-4)
    assert tower.embed(images, 0.6).tobytes() == tower.embed(images, [0.6] * 18).tobytes()


def test_pictures_and_resolutions_that_are_none_are_refused(tower: ImageTower) -> None:
    image = pictures(1)[0]
    wrongs: tuple[Any, ...] = (image.astype(np.float32), image[..., 0], image[:4], np.zeros((64, 64, 4), np.uint8))
    for wrong in wrongs:
        with pytest.raises(InvalidRequestError, match="is allowed"):
            tower.embed([wrong])
    for gsd in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InvalidRequestError, match="not a positive number"):
            tower.embed([image], gsd)
    with pytest.raises(InvalidRequestError, match="2 ground sampling distances for 1 pictures"):
        tower.embed([image], [1.0, 2.0])


def test_the_resolution_matters_and_may_be_left_out(folder: Path) -> None:
    tower, image = image_tower(folder), pictures(1)
    vectors = np.concatenate([tower.embed(image, 0.6), tower.embed(image, 150.0), tower.embed(image)])
    assert np.ptp(vectors, axis=0).max() > 1e-3
    assert seen_log2_gsd(10.0, 160, 160) == pytest.approx(math.log2(10.0))
    assert seen_log2_gsd(10.0, 320, 320) == pytest.approx(math.log2(20.0))


def test_a_tower_is_loaded_once_and_named_by_its_content(folder: Path, tmp_path: Path) -> None:
    assert image_tower(folder) is image_tower(str(folder))
    save_tower(TowerHead(width=384, hidden=8), tmp_path, {"text_encoder": DEFAULT_ENCODER})
    assert image_tower(folder).id != image_tower(tmp_path).id


def test_a_saved_head_says_what_it_is(folder: Path) -> None:
    with safe_open(folder / "tower.safetensors", framework="pt") as file:
        config = json.loads(file.metadata()["earthgen"])
        assert file.get_tensor("enter.weight").dtype == torch.bfloat16
        assert file.get_tensor("mean").shape == (FEATURES,)
    assert config == {"text_encoder": DEFAULT_ENCODER, "width": 384, "hidden": 8}


def test_what_cannot_be_loaded_says_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"tower\.safetensors is missing"):
        image_tower(tmp_path / "nowhere")
    whole = (folder / "tower.safetensors").read_bytes()
    (tmp_path / "tower.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="is no image tower"):
        image_tower(tmp_path)
    with pytest.raises(WeightsError, match="OpenCLIP knows no model 'ViT-X'"):
        image_tower(f"open_clip:ViT-X:{tmp_path / 'tower.safetensors'}")


def test_every_parameter_of_the_head_learns() -> None:
    head = TowerHead(width=6, hidden=5)
    head(torch.randn(4, FEATURES), torch.tensor([0.0, 3.3, 8.0, math.nan])).square()[:, 0].sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in head.parameters())


def test_the_shipped_tower_knows_sea_sand_forest_and_ice() -> None:
    tower = image_tower()
    earth = open_root(World())
    tiles = {"open sea": (2, 8), "sand desert": (8, 6), "rain forest": (5, 8), "snow and ice": (14, 14)}
    words = tower.text.encode_batch(list(tiles))
    seen = tower.embed([earth.pixels(tile_box(4, *tile)) for tile in tiles.values()], 9784.0)
    assert ((seen @ words.T).argmax(axis=1) == np.arange(4)).all()
    assert (SHIPPED / "tower.safetensors").stat().st_size < 2_000_000
    assert tower is image_tower(SHIPPED)

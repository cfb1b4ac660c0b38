"""The shipped weights over the real roots: the promises hold for what users see, not only for a tiny network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from earthgen.cascade import CascadeStep
from earthgen.engine import Engine
from earthgen.pyramid import MAX_ZOOM, ROOT_ZOOM, WINDOW_SIZE, Box, Window, point_pixel, world_size
from earthgen.roots import open_root, planet
from earthgen.weights import SHIPPED, load_weights
from earthgen.world import World
from tests.test_roots import seam_ratio

EARTH = World(root="earth", seed=7)
DRAFT = World(root="earth", seed=7, quality="draft")
PLANET = World(root="planet", seed=7)
LISBON = (-9.2, 38.7)
ALPS = (8.0, 46.5)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.open(device="cpu") as engine:
        yield engine


def place(zoom: int, longitude: float, latitude: float, side: int) -> Box:
    """A box of whole parents around a place."""
    row, column = point_pixel(longitude, latitude, zoom)
    return Box(zoom, row // 4 * 4, column // 4 * 4, side, side)


@pytest.mark.parametrize("world", [EARTH, DRAFT, PLANET], ids=["earth", "draft", "planet"])
def test_from_zoom_4_to_18_every_pixel_is_the_mean_of_its_children(engine: Engine, world: World) -> None:
    for zoom in range(ROOT_ZOOM + 2, MAX_ZOOM + 1, 2):
        box = place(zoom, *LISBON, 32)
        children = engine.pixels(world, box).reshape(8, 4, 8, 4, 3).sum(axis=(1, 3), dtype=np.int64)
        assert np.array_equal(children, 16 * engine.pixels(world, box.parent()).astype(np.int64)), f"zoom {zoom}"


@pytest.mark.parametrize("folder", [SHIPPED, SHIPPED / "draft"], ids=["standard", "draft"])
@pytest.mark.parametrize("zoom", [6, 12, 18])
def test_pixels_do_not_depend_on_where_a_window_is_cut(engine: Engine, zoom: int, folder: Path) -> None:
    row, column = (value // WINDOW_SIZE for value in point_pixel(*ALPS, zoom))
    window = Window(zoom, row, column)
    results = []
    for margin in (1, 2):
        net = load_weights(folder).net
        net.register_to_config(  # type: ignore[no-untyped-call]
            margin=margin * net.config["margin"]
        )
        step = CascadeStep(net, torch.device("cpu"))
        parents = engine.pixels(EARTH, step.parent_box(window))
        results.append(step.window(EARTH.seed, window, parents).astype(np.int64))
    difference = np.abs(results[0] - results[1])
    # docs/benchmarks.md has the whole profile; what matters here is that no border can be seen.
    assert difference.mean() < 0.5
    assert np.quantile(difference, 0.999) <= 3


@pytest.mark.parametrize("world", [EARTH, DRAFT], ids=["standard", "draft"])
@pytest.mark.parametrize("zoom", [8, 14, 18])
def test_no_gradient_stands_out_at_window_borders(engine: Engine, zoom: int, world: World) -> None:
    row, column = (value // WINDOW_SIZE * WINDOW_SIZE for value in point_pixel(*ALPS, zoom))
    pixels = engine.pixels(world, Box(zoom, row, column, 2 * WINDOW_SIZE, 2 * WINDOW_SIZE)).astype(np.float64)
    across = np.abs(np.diff(pixels, axis=1)).mean(axis=(0, 2))
    between_blocks = across[3::4]
    border = (WINDOW_SIZE - 4) // 4
    others = np.delete(between_blocks, border)
    assert between_blocks[border] < others.mean() + 4 * others.std()


@pytest.mark.parametrize("world", [EARTH, PLANET], ids=["earth", "planet"])
def test_the_world_goes_on_across_180_degrees(engine: Engine, world: World) -> None:
    size = world_size(6)
    row = size // 4
    pixels = engine.pixels(world, Box(6, row, size - 64, 128, 128)).astype(np.float64)
    across = np.abs(np.diff(pixels, axis=1)).mean(axis=(0, 2))
    assert across[63] <= across.mean() + 4 * across.std()
    assert np.array_equal(pixels[:, 64:], engine.pixels(world, Box(6, row, 0, 128, 64)))


@pytest.mark.slow
def test_a_planet_of_full_size_is_the_planet_that_fewer_doublings_make() -> None:
    size = world_size(ROOT_ZOOM)
    # That of the engine above, which is still held.
    whole = open_root(PLANET).pixels(Box(ROOT_ZOOM, 0, 0, size, size))
    assert seam_ratio(whole) < 1.3

    def is_sea(picture: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        return np.asarray(picture[..., 2] > picture[..., 0] + 25.0)

    coarse = whole.reshape(1024, 4, 1024, 4, 3).mean((1, 3))
    small = planet.render(PLANET.seed, doublings=1)
    assert (is_sea(small.astype(float)) == is_sea(coarse)).mean() > 0.9


def test_seeds_change_detail_and_keep_the_root(engine: Engine) -> None:
    box = place(8, *LISBON, 128)
    one, other = (engine.pixels(World(root="earth", seed=seed), box).astype(np.int64) for seed in (1, 2))
    assert np.abs(one - other).mean() > 0.5
    root = place(4, *LISBON, 8)
    first, second = (engine.pixels(World(root="earth", seed=seed), root) for seed in (1, 2))
    assert np.array_equal(first, second)


def test_a_draft_is_another_picture_of_the_same_ground(engine: Engine) -> None:
    assert engine.qualities == ("draft", "standard")
    box = place(10, *ALPS, 128)
    draft, standard = (engine.pixels(world, box).astype(np.int64) for world in (DRAFT, EARTH))
    assert np.abs(draft - standard).mean() > 0.5
    # The same tones: both come from one root.
    assert np.abs(draft.mean(axis=(0, 1)) - standard.mean(axis=(0, 1))).max() < 12


def test_a_prompt_is_heard(engine: Engine) -> None:
    def colours(prompt: str) -> np.ndarray:
        world = World(root="prompt", prompt=prompt, gsd=2.0, seed=3)
        pixels = engine.pixels(world, Box(16, 1 << 23, 1 << 23, 128, 128))
        return np.asarray(pixels.mean(axis=(0, 1), dtype=np.float64))

    forest, desert, sea = colours("dense forest"), colours("desert"), colours("open sea")
    assert forest[1] == forest.max()
    assert desert[0] - desert[2] > 20
    assert sea[2] > sea[0] + 10
    assert desert.mean() > forest.mean() + 30

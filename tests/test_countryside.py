"""Fields, villages and trees: the same at every address, no seam, nothing that parents do not have already."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from earthgen.countryside import FIRST_ZOOM, countryside, drawn_cover, tilled, wooded
from earthgen.crowns import crowns
from earthgen.drawn import AROUND, SHOWN
from earthgen.engine import Engine
from earthgen.landmarks import landmarks
from earthgen.parcels import Parcels, parcels
from earthgen.pyramid import SCALE, Box, point_pixel, world_size
from earthgen.world import Edit, World
from tests.tiny import RippleRoot, save_tiny_weights

LEVELS = st.sampled_from([12, 14, 16, 18])
ALL_LEVELS = st.sampled_from([6, 8, 10, 12, 14, 16, 18])
SEEDS = st.integers(0, 2**63 - 1)
FIELD, WOOD, SEA, SAND, SNOW = (110, 115, 75), (45, 70, 40), (20, 40, 80), (205, 175, 130), (235, 238, 242)


def arrays(plan: Parcels) -> dict[str, np.ndarray]:
    return {name: getattr(plan, name) for name in Parcels.__dataclass_fields__}


@st.composite
def boxes(draw: st.DrawFn, levels: st.SearchStrategy[int] = LEVELS) -> Box:
    """64 x 64 pixels of a level, whole blocks, anywhere between 80 degrees north and south."""
    zoom = draw(levels)
    size = world_size(zoom)
    row = draw(st.integers(size // 8, size - size // 8)) // 4 * 4
    return Box(zoom, row, draw(st.integers(0, size - 1)) // 4 * 4, 64, 64)


def ground(colour: tuple[int, int, int], box: Box) -> np.ndarray:
    """Parents of one colour."""
    return np.full((box.height // SCALE + 2 * SHOWN, box.width // SCALE + 2 * SHOWN, 3), colour, dtype=np.uint8)


@settings(max_examples=25, deadline=None)
@given(SEEDS, boxes(), st.integers(0, 47), st.integers(0, 47))
def test_any_crop_shows_the_same_land(seed: int, box: Box, top: int, left: int) -> None:
    whole, part = parcels(seed, box), parcels(seed, Box(box.zoom, box.row + top, box.column + left, 16, 16))
    crop = (slice(top, top + 16), slice(left, left + 16))
    for name, values in arrays(part).items():
        same = abs(values - arrays(whole)[name][crop]) < 1e-3
        if name in ("street", "roof", "shadow", "roof_tone", "roof_hue", "garden"):
            same |= part.village == 0
        # A pixel whose middle lies on a line may fall to either side of it by the last bit.
        assert same.mean() >= 1 - 2 / 256, name


@settings(max_examples=15, deadline=None)
@given(SEEDS, LEVELS, st.integers(0, 1000))
def test_land_goes_round_the_world(seed: int, zoom: int, offset: int) -> None:
    size = world_size(zoom)
    row = size // 3 // 4 * 4
    here, there = Box(zoom, row, size - 32 + offset, 32, 64), Box(zoom, row, offset - 32, 32, 64)
    for name, values in arrays(parcels(seed, here)).items():
        # Metres from the corner differ by the world's circumference, and so by rounding.
        assert (abs(values - arrays(parcels(seed, there))[name]) < 1e-2).mean() > 0.98, name
    trees, same = crowns(seed, here), crowns(seed, there)
    assert (trees is None) == (same is None)
    assert trees is None or same is None or (abs(trees - same) < 1e-2).mean() > 0.98


@settings(max_examples=25, deadline=None)
@given(SEEDS, boxes(ALL_LEVELS), st.sampled_from([FIELD, WOOD]))
def test_blocks_get_nothing_that_their_parents_do_not_have(seed: int, box: Box, colour: tuple[int, int, int]) -> None:
    drawn = countryside(seed, box, ground(colour, box))
    if drawn is None:  # Rivers and towns begin at coarser zooms than fields, and are not everywhere.
        assert box.zoom < FIRST_ZOOM
        return
    detail, texture = drawn.detail, drawn.texture
    assert detail.dtype == np.float32
    assert np.isfinite(detail).all()
    assert texture is None or (texture.shape == (16, 16) and texture.min() >= 0 and texture.max() <= 1)
    blocks = detail.reshape(3, 16, 4, 16, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(blocks, 0, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(SEEDS, boxes())
def test_shares_are_shares(seed: int, box: Box) -> None:
    plan = arrays(parcels(seed, box))
    for name in ("farmed", "copse", "hedge", "track", "road", "village", "street", "roof", "shadow", "garden"):
        assert plan[name].shape == (64, 64)
        assert plan[name].min() >= 0 and plan[name].max() <= 1, name


def test_a_coarse_plan_is_about_the_mean_of_a_finer_one() -> None:
    row, column = point_pixel(31.5, 49.2, 16)
    box = Box(16, row // 4 * 4, column // 4 * 4, 1024, 1024)
    coarse, fine = (arrays(parcels(7, one)) for one in (box.parent(), box))
    for name in ("hedge", "track", "road", "village", "roof"):
        wanted = fine[name].reshape(256, 4, 256, 4).mean(axis=(1, 3))
        assert abs(coarse[name].mean() - wanted.mean()) < 0.15 * wanted.mean() + 1e-3, name
    means = fine["tone"].reshape(256, 4, 256, 4).mean(axis=(1, 3))
    assert np.corrcoef(coarse["tone"].ravel(), means.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("colour", [SEA, SAND, SNOW])
def test_water_sand_and_snow_are_left_alone(colour: tuple[int, int, int]) -> None:
    box = Box(16, 5_000_000, 8_000_000, 128, 128)
    assert countryside(7, box, ground(colour, box)) is None


def test_fields_are_where_it_is_green_and_open_and_trees_where_it_is_dark() -> None:
    colours = np.array([[FIELD, WOOD, SEA, SAND, SNOW]], dtype=np.float32)
    assert tilled(colours, 0.0)[0].round(1).tolist() == [1, 0, 0, 0, 0]
    assert wooded(colours, 0.0)[0].round(1).tolist() == [0, 1, 0, 0, 0]


def test_coarse_levels_have_no_fields() -> None:
    """Only rivers and towns, from zoom 6 on."""
    box = Box(FIRST_ZOOM - 2, 100_000, 131_072, 128, 128)
    drawn, known = countryside(7, box, ground(FIELD, box)), landmarks(7, box.grown(AROUND * SCALE))
    assert drawn is not None and known is not None
    nothing = (known.cropped(AROUND * SCALE).light == 0).all(axis=-1).reshape(32, 4, 32, 4).all(axis=(1, 3))
    inside = ndimage.binary_erosion(nothing, np.ones((5, 5)), border_value=0)
    assert inside.any() and not inside.all()
    strength = abs(drawn.detail).max(axis=0).reshape(32, 4, 32, 4).max(axis=(1, 3))
    assert strength[inside].max() < 1e-6 < strength.max()
    box = Box(4, 1024, 1024, 128, 128)
    assert countryside(7, box, ground(FIELD, box)) is None


def test_trees_are_seen_where_pixels_are_fine_enough() -> None:
    near, far = Box(18, 20_000_000, 30_000_000, 64, 64), Box(14, 1_250_000, 1_875_000, 64, 64)
    assert crowns(7, far) is None
    trees = crowns(7, near)
    assert trees is not None and trees.std() > 0.2


def test_other_seeds_have_other_land() -> None:
    box = Box(14, 1_400_000, 2_100_000, 64, 64)
    assert abs(parcels(1, box).tone - parcels(2, box).tone).mean() > 0.3


def test_villages_have_streets_and_roofs_of_a_houses_size() -> None:
    """Somewhere in a farmed region; a roof covers 40 to 400 square metres."""
    from scipy import ndimage

    row, column = point_pixel(2.0, 48.5, 14)
    wide = Box(14, row // 4 * 4 - 1024, column // 4 * 4 - 1024, 2048, 2048)
    villages, count = ndimage.label(parcels(7, wide).village > 0.5)
    assert count > 3
    largest = 1 + int(np.bincount(villages.ravel())[1:].argmax())
    south, east = ndimage.center_of_mass(villages == largest)
    box = Box(18, int((wide.row + south) * 16), int((wide.column + east) * 16), 256, 256)
    plan = parcels(7, box)
    assert plan.village.mean() > 0.9 and 0.05 < plan.street.mean() < 0.3
    roofs, houses = ndimage.label(plan.roof > 0.5)
    assert houses > 5
    sizes = np.bincount(roofs.ravel())[1:] * (0.597 * np.cos(np.radians(48.5))) ** 2
    inner = np.setdiff1d(np.unique(roofs[8:-8, 8:-8]), [0, *np.unique(roofs[[0, -1]]), *np.unique(roofs[:, [0, -1]])])
    assert 40 < np.median(sizes[inner - 1]) < 400


# --- In the engine ---


class FieldRoot(RippleRoot):
    """A root of green and open ground."""

    def pixels(self, box: Box) -> np.ndarray:
        return np.full((box.height, box.width, 3), FIELD, dtype=np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {drawn: save_tiny_weights(folder / str(drawn), countryside=drawn) for drawn in (False, True)}


def test_weights_say_whether_land_is_drawn(weights: dict[bool, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earthgen.engine.open_root", lambda world: FieldRoot(world.seed))
    box = Box(14, 1_400_000, 2_100_000, 128, 128)
    made = {}
    for drawn, folder in weights.items():
        with Engine.open(folder, threads=1) as engine:
            made[drawn] = engine.pixels(World(seed=3), box)
            parents = engine.pixels(World(seed=3), box.parent())
        # Whatever is drawn, children average to their parents.
        means = made[drawn].reshape(32, 4, 32, 4, 3).astype(np.int64).sum(axis=(1, 3))
        np.testing.assert_array_equal(means, 16 * parents.astype(np.int64))
    assert (made[False] != made[True]).any()


def test_what_is_drawn_is_known(weights: dict[bool, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earthgen.engine.open_root", lambda world: FieldRoot(world.seed))
    world = World(seed=3)
    row, column = point_pixel(31.5, 49.2, 16)
    box = Box(16, row // 128 * 128 - 2, column // 128 * 128 + 1, 300, 410)
    with Engine.open(weights[True], threads=1) as engine:
        codes = drawn_cover(engine, world, box)
        pixels = engine.pixels(world, box).mean(axis=-1)
        part = drawn_cover(engine, world, Box(16, box.row + 37, box.column + 50, 90, 61))
        edited = World(seed=3, edits=(Edit(((31, 49), (32, 49), (32, 50)), action="reseed", seed=1),))
        assert not drawn_cover(engine, edited, box).any()
        assert not drawn_cover(engine, World(seed=3, prompt="a wood"), box).any()
        assert not drawn_cover(engine, world, Box(4, 0, 0, 64, 64)).any()
    assert set(np.unique(codes)) >= {0, 5}
    # A pixel on the rim of a line may fall to either side of it by the last bit.
    assert (part == codes[37:127, 50:111]).mean() > 0.995
    # Roads are lighter than fields, whatever a network of random weights makes of both.
    assert pixels[codes == 5].mean() > pixels[codes == 0].mean() + 3
    with Engine.open(weights[False], threads=1) as engine:
        assert not drawn_cover(engine, world, box).any()

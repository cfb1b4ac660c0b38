"""Scenes: what a prompt names is there, in colours of real ground, and the same on any crop at any zoom."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthgen.bands import CODES
from earthgen.countryside import drawn_cover
from earthgen.drawn import SHOWN
from earthgen.engine import Engine
from earthgen.errors import WeightsError
from earthgen.prompting import Words, open_prompt_root
from earthgen.pyramid import Box, world_size
from earthgen.scenery.composition import picture_of
from earthgen.scenery.meaning import THINGS, vocabulary
from earthgen.scenery.palette import Palette, shipped_palette
from earthgen.scenery.root import SceneryRoot
from earthgen.scenery.scene import Scene, scene_of
from earthgen.world import Edit, World
from tests.tiny import open_tiny, save_tiny_weights

ZOOM = 14
PROMPTS = (
    "a village by a lake in the mountains",
    "harbour",
    "river through farmland and pine forest",
    "islands with sandy beaches",
    "airport runway beside a dense city",
    "mountains with snow",
    "orchards and sand dunes",
    "car park and warehouses beside a highway",
)


def scene(prompt: str, negative: str = "") -> Scene:
    return scene_of(vocabulary(), shipped_palette(), prompt, negative)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A tiny cascade below the scenes that ship."""
    with open_tiny(save_tiny_weights(tmp_path_factory.mktemp("weights"))) as opened:
        yield opened


@pytest.mark.parametrize(
    ("prompt", "things"),
    [
        ("mountains with snow", {"mountains", "snow"}),
        ("a village by a lake", {"village", "lake"}),
        ("A River through Pine Trees", {"river", "conifers"}),
        ("archipelago", {"islands"}),
        ("river mouth", {"delta"}),
        ("suburb with streets and houses", {"suburb"}),
        ("city with a street grid", {"city"}),
        ("snowy", {"snow"}),
        ("airport runway", {"runway"}),
        ("vineyards and wheat along a highway", {"orchard", "farmland", "road"}),
        # No word of the vocabulary: the whole is taken for what it is most like.
        ("cattle grazing", {"meadow"}),
        ("", set()),
    ],
)
def test_words_name_things(prompt: str, things: set[str]) -> None:
    assert {named.thing for named in vocabulary().named(prompt)} == things


def test_every_word_of_the_vocabulary_names_its_own_thing_and_has_colours() -> None:
    nouns = set(shipped_palette().nouns)
    for name, thing in THINGS.items():
        assert thing.nouns or thing.role == "layout"
        assert set(thing.nouns) <= nouns, name
        assert vocabulary().named(thing.words[0])[0].thing == name


@settings(max_examples=25)
@given(
    prompt=st.sampled_from(PROMPTS),
    seed=st.integers(0, 2**32),
    zoom=st.integers(ZOOM - 4, 18),
    place=st.tuples(st.floats(0.2, 0.7), st.floats(0, 0.999)),
    crop=st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 30), st.integers(1, 30)),
    around=st.integers(-1, 1),
)
def test_any_crop_shows_the_same(
    prompt: str, seed: int, zoom: int, place: tuple[float, float], crop: tuple[int, int, int, int], around: int
) -> None:
    size = world_size(zoom)
    top, left, height, width = crop
    box = Box(zoom, int(place[0] * size), int(place[1] * size), 96, 96)
    whole = picture_of(scene(prompt), seed, box, ZOOM)
    part = picture_of(
        scene(prompt), seed, Box(zoom, box.row + top, box.column + left + around * size, height, width), ZOOM
    )
    at = slice(top, top + height), slice(left, left + width)
    # To the last bits: arrays of another length are vectorised otherwise, and longitude counts from elsewhere.
    assert (abs(whole.light[at] - part.light) < 1e-4).mean() > 0.999
    assert (abs(whole.water[at] - part.water) < 1e-4).mean() > 0.999
    assert (whole.codes[at] == part.codes).mean() > 0.999


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_coarse_zoom_is_about_the_mean_of_a_fine_one(prompt: str) -> None:
    box = Box(ZOOM, 800_000, 900_000, 64, 64)
    coarse = picture_of(scene(prompt), 5, box, ZOOM).light
    fine = picture_of(scene(prompt), 5, Box(ZOOM + 2, 4 * box.row, 4 * box.column, 256, 256), ZOOM).light
    means = fine.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    # Some shores and roofs move by less than a pixel; most ground is the same.
    assert np.median(np.abs(means - coarse)) < 0.03
    assert abs(means.mean() - coarse.mean()) < 0.015


def test_layouts_have_water_where_they_should() -> None:
    box = Box(ZOOM, 800_000, 900_000, 512, 512)

    def water(prompt: str) -> npt.NDArray[np.float32]:
        return picture_of(scene(prompt), 3, box, ZOOM).water

    assert water("open sea").min() == 1
    assert water("dense forest").max() == 0
    assert 0.03 < water("river").mean() < 0.3
    assert 0.3 < water("coast").mean() < 0.7
    assert 0.6 < water("islands").mean() < 0.98
    assert 0.15 < water("lake").mean() < 0.6
    # The sea with land that is named is a coast.
    assert 0.3 < water("airport beside the sea").mean() < 0.7
    assert water("forest").max() == 0


def test_what_is_where_is_known(engine: Engine) -> None:
    """Labels by construction: of whole worlds by prompt, on any crop, and none of worlds with edits."""
    world = World("prompt", 3, "a village by a lake", gsd=1)
    box = Box(18, 2**25 + 700, 2**25 - 300, 256, 256)
    codes = drawn_cover(engine, world, box)
    assert {CODES[name] for name in ("water", "low vegetation", "road", "building")} <= set(np.unique(codes))
    part = drawn_cover(engine, world, Box(18, box.row + 31, box.column + 60, 99, 70))
    assert (part == codes[31:130, 60:130]).mean() > 0.999
    picture = picture_of(scene("a village by a lake"), 3, box, 16)
    blue, red = (picture.light[codes == CODES["water"]].mean(axis=0)[channel] for channel in (2, 0))
    assert blue > red
    roofs = picture.light[codes == CODES["building"]].mean(axis=0)
    assert roofs[0] > picture.light[codes == CODES["low vegetation"]].mean(axis=0)[0] + 0.05
    edited = replace(world, edits=(Edit(((-1e-3, -1e-3), (1e-3, -1e-3), (0.0, 1e-3)), "meadow"),))
    assert not drawn_cover(engine, edited, box).any()
    for prompt, name in (
        ("dense forest", "trees"),
        ("open sea", "water"),
        ("desert", "bare ground"),
        ("meadow", "low vegetation"),
    ):
        assert (picture_of(scene(prompt), 3, box, 16).codes == CODES[name]).all(), prompt


def test_covers_have_the_colours_of_their_kind() -> None:
    box = Box(ZOOM, 800_000, 900_000, 512, 512)

    def colour(prompt: str) -> npt.NDArray[np.float32]:
        mean: npt.NDArray[np.float32] = picture_of(scene(prompt), 3, box, ZOOM).light.mean(axis=(0, 1))
        return mean

    for prompt in ("dense forest", "farmland with fields", "desert", "snow", "meadow", "suburb", "industrial area"):
        palette = scene(prompt).covers[0][1]
        assert np.abs(colour(prompt) - palette.mean).max() < 0.08, prompt
    assert colour("dense forest").mean() < colour("desert").mean() < colour("snow").mean()
    red, green, blue = colour("meadow")
    assert green > red and green > blue
    # What is said of a thing changes its colour.
    assert np.abs(colour("tropical rain forest") - colour("boreal forest")).max() > 0.03


def test_what_is_refused_is_not_there() -> None:
    assert {name for name, _ in scene("forest and meadow").covers} == {"forest", "meadow"}
    assert [name for name, _ in scene("forest and meadow", "woods").covers] == ["meadow"]
    assert scene("village by a lake", "lake").layouts == frozenset()
    # Guidance of 1 does not hear the negative prompt, as everywhere.
    root = SceneryRoot()
    box, parents = Box(ZOOM + 2, 4096, 4096, 128, 128), np.full((32 + 2 * SHOWN, 32 + 2 * SHOWN, 3), 60, dtype=np.uint8)
    heard, unheard, without = (
        root.drawing(1, words, ZOOM)(box, parents)
        for words in (Words("lake", "forest", 2.0), Words("lake", "forest"), Words("lake"))
    )
    assert heard is not None and unheard is not None and without is not None
    assert np.array_equal(unheard.detail, without.detail)
    assert not np.array_equal(heard.detail, without.detail)


def test_seeds_are_other_places() -> None:
    box = Box(ZOOM, 800_000, 900_000, 128, 128)
    one, other = (picture_of(scene("river"), seed, box, ZOOM) for seed in (1, 2))
    assert (abs(one.water - other.water) > 0.5).mean() > 0.05


def test_a_world_is_the_scene_at_each_zoom_and_children_average_to_their_parents(engine: Engine) -> None:
    world = World("prompt", 4, "a river through farmland", gsd=10)
    assert world.root_zoom == 12
    for zoom in (12, 14, 16):
        parent = Box(zoom, 2**zoom * 120 + 40, 2**zoom * 128 + 70, 40, 33)
        children = engine.pixels(world, Box(zoom + 2, 4 * parent.row, 4 * parent.column, 160, 132))
        parents = engine.pixels(world, parent)
        assert np.array_equal(children.reshape(40, 4, 33, 4, 3).mean(axis=(1, 3)), parents)
        drawn = 255 * picture_of(scene("a river through farmland"), 4, parent, 12).light
        seen, meant = (values.mean(axis=-1).ravel() for values in (parents.astype(np.float32), drawn))
        # The tiny network's noise lies over it.
        assert np.corrcoef(seen, meant)[0, 1] > 0.3


def test_windows_do_not_show(engine: Engine) -> None:
    world = World("prompt", 4, "dense forest", gsd=10)
    pixels = engine.pixels(world, Box(14, 128 * 8000, 128 * 8000, 512, 512)).astype(np.float64)
    steps = abs(np.diff(pixels, axis=1)).mean(axis=(0, 2))
    borders = steps[127::128].mean()
    # Between windows as between any two blocks of 4.
    assert borders < 1.25 * steps[3::4].mean()


def test_an_edit_takes_the_scene_with_it(engine: Engine) -> None:
    """Below the level at which ground becomes another, nothing of the old scene is drawn."""
    world = World("prompt", 4, "dense city", gsd=1)
    longitude, latitude, side = 0.002, 0.002, 0.002
    corners = ((-side, -side), (side, -side), (side, side), (-side, side))
    area = tuple((longitude + right, latitude + up) for right, up in corners)
    meadow = replace(world, edits=(Edit(area, "meadow"),))
    middle = Box(18, 2**25 - round(latitude / 360 * 2**26) - 60, 2**25 + round(longitude / 360 * 2**26) - 60, 120, 120)
    city, grass = (engine.pixels(each, middle).astype(np.float32) for each in (world, meadow))
    green = grass[..., 1] - (grass[..., 0] + grass[..., 2]) / 2
    assert green.mean() > (city[..., 1] - (city[..., 0] + city[..., 2]) / 2).mean() + 8
    away = Box(18, middle.row + 4000, middle.column, 64, 64)
    assert np.array_equal(engine.pixels(world, away), engine.pixels(meadow, away))


def test_ground_that_has_become_another_has_nothing_drawn_on_it() -> None:
    root, words = SceneryRoot(), Words("dense forest")
    box = Box(18, 2**25 + 512, 2**25 + 1024, 128, 128)
    light = picture_of(scene("dense forest"), 9, box.parent().grown(SHOWN), 16).light
    own = (255 * light).round().astype(np.uint8)
    draw = root.drawing(9, words, 16)
    here, snowed = draw(box, own), draw(box, np.full_like(own, 240))
    assert here is not None and snowed is not None
    assert abs(here.detail).max() > 0.1
    assert not snowed.detail.any()
    assert snowed.texture is not None and np.array_equal(snowed.texture, np.ones_like(snowed.texture))
    blocks = here.detail.reshape(3, 32, 4, 32, 4)
    assert abs(blocks.mean(axis=(2, 4))).max() < 1e-6


def test_what_ships_is_the_scenery_and_its_id_says_what_it_depends_on() -> None:
    root = open_prompt_root()
    assert isinstance(root, SceneryRoot)
    assert shipped_palette().id in root.weights_id
    assert root.weights_id in root.id and root.id != root.weights_id


def test_a_damaged_palette_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights" / "scenery"
    os.makedirs(folder)
    monkeypatch.setattr("earthgen.scenery.palette.resources.files", lambda package: tmp_path)
    with pytest.raises(WeightsError, match=r"palette\.safetensors, cannot be read"):
        Palette.shipped()
    (folder / "palette.safetensors").write_bytes(b"not a palette")
    with pytest.raises(WeightsError, match=r"palette\.safetensors, cannot be read"):
        Palette.shipped()

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading

import numpy as np
import numpy.typing as npt
import pytest

from earthgen.errors import AddressError, WeightsError
from earthgen.pyramid import ROOT_ZOOM, Box, row_latitudes, world_size
from earthgen.roots import RootImage, colour, open_root, planet, sea
from earthgen.roots.climate import climate_of
from earthgen.roots.grid import (
    SphereNoise,
    blur_km,
    double,
    row_area,
    row_latitude,
    row_spacing_km,
    uniform,
    unit_vectors,
    white_noise,
)
from earthgen.roots.terrain import LAND_SHARES, terrain
from earthgen.world import World

SIZE = world_size(ROOT_ZOOM)
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def earth() -> RootImage:
    return open_root(World(root="earth"))


@pytest.fixture(scope="module")
def planet_seven() -> Pixels:
    """The planet of seed 7 in a quarter of the root's resolution, (1024, 1024, 3)."""
    return planet.render(7, doublings=1)


def at(root: RootImage, longitude: float, latitude: float, side: int = 16) -> npt.NDArray[np.float64]:
    """Pixels around a place, (side, side, 3)."""
    column = int((longitude + 180) / 360 * SIZE)
    row = int((1 - np.arcsinh(np.tan(np.radians(latitude))) / np.pi) / 2 * SIZE)
    return root.pixels(Box(ROOT_ZOOM, row - side // 2, column - side // 2, side, side)).astype(float)


def seam_ratio(picture: Pixels) -> float:
    """Mean step across 180 degrees over the mean step near it; a coast counts no more than a step of 20 levels."""
    values = picture[:, np.arange(-49, 49)].astype(np.int16)
    steps = np.minimum(np.abs(np.diff(values, axis=1)), 20).mean((0, 2))
    return float(steps[48] / np.delete(steps, 48).mean())


# Reading boxes


def test_box_columns_wrap_and_rows_clamp(earth: RootImage) -> None:
    box = earth.pixels(Box(ROOT_ZOOM, -3, -5, 8, 12))
    top = earth.pixels(Box(ROOT_ZOOM, 0, 0, 8, SIZE))
    columns = np.arange(-5, 7) % SIZE
    assert np.array_equal(box[3:], top[:5, columns])
    assert (box[:3] == top[0, columns]).all()
    bottom = earth.pixels(Box(ROOT_ZOOM, SIZE - 2, SIZE + 10, 6, 4))
    last = earth.pixels(Box(ROOT_ZOOM, SIZE - 1, 10, 1, 4))
    assert np.array_equal(bottom[1:], np.repeat(last, 5, axis=0))


def test_pixels_belong_to_the_caller(earth: RootImage) -> None:
    box = Box(ROOT_ZOOM, 100, 100, 4, 4)
    first = earth.pixels(box)
    first[:] = 1
    assert not np.array_equal(earth.pixels(box), first)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (Box(5, 0, 0, 8, 8), "zoom 5 was asked for"),
        (Box(ROOT_ZOOM, 0, 0, 0, 8), "0 x 8 pixels is empty"),
        (Box(ROOT_ZOOM, 0, 0, 8, -1), "8 x -1 pixels is empty"),
    ],
)
def test_bad_boxes_are_refused(earth: RootImage, box: Box, words: str) -> None:
    with pytest.raises(AddressError, match=words):
        earth.pixels(box)


def test_ids_say_what_the_pixels_depend_on() -> None:
    def root_id(**fields: object) -> str:
        return open_root(World.from_dict(fields)).id

    assert root_id(root="earth", seed=1) == root_id(root="earth", seed=2, prompt="snow")
    assert root_id(root="planet", seed=1) != root_id(root="planet", seed=2)
    assert root_id(root="planet", seed=1) != root_id(root="earth", seed=1)


def test_a_picture_is_made_once_for_many_threads() -> None:
    made = []

    def make() -> Pixels:
        made.append(threading.get_ident())
        return np.zeros((SIZE, SIZE, 3), dtype=np.uint8)

    root = RootImage("test-made-once", make)
    threads = [threading.Thread(target=root.pixels, args=(Box(ROOT_ZOOM, 0, 0, 1, 1),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_failure_to_make_a_picture_is_not_remembered() -> None:
    answers: list[Exception | Pixels] = [WeightsError("damaged"), np.zeros((SIZE, SIZE, 3), dtype=np.uint8)]

    def make() -> Pixels:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    root = RootImage("test-failure", make)
    with pytest.raises(WeightsError):
        root.pixels(Box(ROOT_ZOOM, 0, 0, 1, 1))
    assert root.pixels(Box(ROOT_ZOOM, 0, 0, 1, 1)).shape == (1, 1, 3)


# The Earth


@pytest.mark.parametrize(
    ("longitude", "latitude"), [(-150, 0), (-40, 30), (-25, -20), (80, -30), (10, -52), (-160, 45), (-30, 55)]
)
def test_open_ocean_has_no_sea_floor(earth: RootImage, longitude: float, latitude: float) -> None:
    water = at(earth, longitude, latitude, 96)
    assert (water.mean((0, 1)) > (10, 35, 65)).all() and (water.mean((0, 1)) < (35, 65, 85)).all()
    assert water.std((0, 1)).max() < 2.5
    assert np.abs(np.diff(water, axis=1)).max() <= 4


@pytest.mark.parametrize(
    ("longitude", "latitude", "low", "high"),
    [
        (-63, -4, (45, 65, 38), (75, 95, 65)),  # rain forest
        (22, 0, (45, 65, 38), (75, 95, 65)),
        (100, 62, (55, 70, 45), (95, 105, 80)),  # boreal forest
        (10, 24, (180, 155, 115), (220, 195, 155)),  # desert
        (-40, 72, (228, 232, 236), (248, 250, 252)),  # ice
    ],
)
def test_land_has_the_tones_of_aerial_pictures(
    earth: RootImage, longitude: float, latitude: float, low: tuple[int, ...], high: tuple[int, ...]
) -> None:
    mean = at(earth, longitude, latitude).mean((0, 1))
    assert (mean > low).all() and (mean < high).all()


def test_earth_has_no_seam(earth: RootImage) -> None:
    around = earth.pixels(Box(ROOT_ZOOM, 0, -64, SIZE, 128)).astype(float)
    steps = np.minimum(np.abs(np.diff(around, axis=1)), 20).mean((0, 2))
    assert steps[63] < 1.25 * np.delete(steps, 63).mean()


# Planets


def test_planets_have_land_and_sea_for_any_seed() -> None:
    hypsometry = colour.load_model().tensors["hypsometry.land"]
    for seed in (0, 2**63 - 1):
        ground = terrain(seed, hypsometry, doublings=1)
        area = np.broadcast_to(row_area(1024), ground.land.shape)
        share = float((ground.land * area).sum() / area.sum())
        assert LAND_SHARES[0] - 0.02 < share < LAND_SHARES[1] + 0.02
        assert 0.2 < share < 0.5
        # Heights follow the Earth's hypsometry: half of the land is below half a kilometre, a little above two.
        dry = ground.land > 0.9
        assert 0.4 < area[dry & (ground.height < 0.5)].sum() / area[dry].sum() < 0.7
        assert 0.03 < area[dry & (ground.height > 2)].sum() / area[dry].sum() < 0.2


def test_planet_has_no_seam_and_no_empty_pole(planet_seven: Pixels) -> None:
    assert seam_ratio(planet_seven) < 1.3
    assert planet_seven[0].min() > 10 and planet_seven[-1].min() > 10


def test_planet_shows_water_forest_sand_and_ice(planet_seven: Pixels) -> None:
    red, green, blue = (planet_seven[..., k].astype(int) for k in range(3))
    area = np.broadcast_to(row_area(1024), red.shape)

    def share(mask: npt.NDArray[np.bool_]) -> float:
        return float(area[mask].sum() / area.sum())

    assert 0.45 < share(blue > red + 25) < 0.8
    assert share((green > red + 5) & (green > blue + 10)) > 0.02
    assert share((red > green + 10) & (green > blue + 10)) > 0.02
    assert share(red > 200) > 0.02


def test_planets_differ_and_repeat(planet_seven: Pixels) -> None:
    again = planet.render(7, doublings=1)
    other = planet.render(8, doublings=1)
    assert hashlib.sha256(again.tobytes()).digest() == hashlib.sha256(planet_seven.tobytes()).digest()
    assert (np.abs(again.astype(int) - other).max(-1) > 20).mean() > 0.2


def test_planets_do_not_depend_on_the_number_of_threads() -> None:
    code = (
        "import hashlib; from earthgen.roots import planet;"
        "print(hashlib.sha256(planet.render(3, doublings=0).tobytes()).hexdigest())"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "4")
    }
    assert len(answers) == 1 and len(answers.pop()) == 65


# Their parts


def test_random_words_are_fixed_for_ever() -> None:
    assert uniform(1, 2, 3) == pytest.approx([0.30931491118583454, 0.3569562367935075, 0.036904530468356844], abs=1e-15)
    noise = white_noise(3, 4, 256)
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert not np.array_equal(noise, white_noise(3, 5, 256))
    assert not np.array_equal(noise, white_noise(4, 4, 256))


def test_doubling_keeps_means_and_wraps() -> None:
    plane = white_noise(0, 0, 64)
    doubled = double(plane)
    assert doubled.shape == (128, 128)
    assert doubled.mean() == pytest.approx(plane.mean(), abs=0.01)
    assert np.array_equal(np.roll(double(np.roll(plane, 5, 1)), -10, 1), doubled)
    assert np.allclose(doubled[1:-1, 0], (double(np.roll(plane, 1, 1)))[1:-1, 2])
    # Strips leave no trace: the same rows come out of a plane cut elsewhere.
    assert np.array_equal(double(plane[7:])[20:40], doubled[34:54])


def test_blur_is_the_same_distance_at_every_latitude() -> None:
    size = 256
    for row in (128, 40):
        plane = np.zeros((size, size), dtype=np.float32)
        plane[row, 128] = 1
        spread = blur_km(plane, 800.0)
        columns = np.arange(size) - 128
        deviation = np.sqrt((spread[row] * columns**2).sum() / spread[row].sum()) * row_spacing_km(size)[row, 0]
        assert deviation == pytest.approx(800 * np.sqrt(2 / 3), rel=0.1)


def test_sphere_noise_has_no_seam() -> None:
    noise = SphereNoise(5, 6)(unit_vectors(256), 6.0)
    assert abs(noise[:, 0] - noise[:, -1]).mean() < 1.3 * np.abs(np.diff(noise, axis=1)).mean()
    assert 0.6 < noise[60:196].std() < 1.3


def test_wet_air_comes_from_the_sea_and_mountains_cast_a_rain_shadow() -> None:
    size = 128
    land = np.zeros((size, size), dtype=np.float32)
    land[:, 40:100] = 1
    flat = climate_of(land, np.zeros_like(land))
    wall = np.zeros_like(land)
    wall[:, 44:47] = 3
    walled = climate_of(land, wall)
    temperate = int(np.argmin(np.abs(np.degrees(row_latitude(size)) - 45)))
    assert flat.moisture[temperate, 44] > flat.moisture[temperate, 90] + 0.2  # winds blow from the west here
    assert walled.moisture[temperate, 52] < 0.75 * flat.moisture[temperate, 52]
    assert flat.inland_far[temperate, 70] > flat.inland_far[temperate, 20]


def test_sea_colours_run_smoothly_from_pole_to_pole() -> None:
    deep, coast = sea.row_colours(row_latitudes(ROOT_ZOOM, 0, SIZE))
    assert np.abs(np.diff(deep, axis=0)).max() < 0.1
    assert (coast > deep).all()


def test_a_damaged_colour_model_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour, "load", lambda data: (_ for _ in ()).throw(ValueError("header too short")))
    with pytest.raises(WeightsError, match=r"planet\.safetensors.*header too short"):
        colour.load_model.__wrapped__()

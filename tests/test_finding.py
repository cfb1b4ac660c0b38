"""Searching a world: what is there is found, evenly and repeatably, and can be stopped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import mercantile
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthgen.errors import AddressError, InvalidRequestError, RequestCancelledError
from earthgen.finding import Findings, find, search, search_zoom, spread_order, tiles_of
from earthgen.picture import frame_of
from earthgen.pyramid import Box, box_bounds
from earthgen.world import World

WORLD = World()
Pixels = npt.NDArray[np.uint8]


class ColourText:
    """Three words and nothing else: red, green and blue are the axes."""

    id, width = "colours", 3

    def encode(self, text: str) -> npt.NDArray[np.float32]:
        if not text.strip():
            raise InvalidRequestError("text is empty")
        vector = np.array([text == "red", text == "green", text == "blue"], dtype=np.float32)
        return vector / max(1.0, float(np.linalg.norm(vector)))

    def encode_batch(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.stack([self.encode(text) for text in texts])

    def tokens(self, text: str) -> npt.NDArray[np.float32]:
        return self.encode(text)[None]


class ColourTower:
    """A picture is its mean colour."""

    id, width, text = "colours", 3, ColourText()

    def __init__(self) -> None:
        self.told: list[float] = []

    def embed(self, pictures: Sequence[Pixels], gsd: float | Sequence[float] | None = None) -> npt.NDArray[np.float32]:
        assert isinstance(gsd, float)
        self.told.append(gsd)
        means = np.stack([picture.reshape(-1, 3).mean(axis=0) + 1.0 for picture in pictures]).astype(np.float32)
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)


class Tiles:
    """A grey world with a red hill: the nearer to the middle tile, the redder."""

    def __init__(self, x: int, y: int) -> None:
        self.middle = (x, y)
        self.asked: list[tuple[int, int, int]] = []

    def tile(self, world: World, z: int, x: int, y: int, *, cancelled: Callable[[], bool] | None = None) -> Pixels:
        self.asked.append((z, x, y))
        away = max(abs(x - self.middle[0]), abs(y - self.middle[1]))
        return np.full((256, 256, 3), (200, min(200, 20 * away), min(200, 20 * away)), dtype=np.uint8)


@given(st.integers(1, 40), st.integers(1, 40))
def test_the_order_visits_every_cell_once(height: int, width: int) -> None:
    cells = list(spread_order(height, width))
    assert len(cells) == height * width
    assert set(cells) == set(itertools.product(range(height), range(width)))


@given(st.integers(0, 3), st.integers(3, 5))
def test_the_first_cells_are_spread(half_bits: int, bits: int) -> None:
    side, division = 2**bits, 2**half_bits
    first = itertools.islice(spread_order(side, side), division * division)
    quarters = {(row * division // side, column * division // side) for row, column in first}
    assert len(quarters) == division * division


def test_a_huge_grid_costs_nothing_until_it_is_walked() -> None:
    assert next(spread_order(1 << 18, 1 << 18)) == (0, 0)


def test_the_reddest_place_is_found_and_where_it_is() -> None:
    tiles, tower = Tiles(11, 5), ColourTower()
    places = find(tiles, WORLD, "red", zoom=4, tower=tower)
    assert (places[0].zoom, places[0].x, places[0].y) == (4, 11, 5)
    assert places[0].longitude == pytest.approx(360 * 11.5 / 16 - 180, abs=1e-5)
    assert 40 < places[0].latitude < 56
    assert [place.score for place in places] == sorted((place.score for place in places), reverse=True)
    assert len(tiles.asked) == len(set(tiles.asked)) == 256
    assert min(tower.told) < 2500 < 9000 < max(tower.told)  # true metres per pixel: less near the poles


def test_found_places_do_not_touch() -> None:
    places = find(Tiles(8, 8), WORLD, "red", zoom=4, count=20, tower=ColourTower())
    assert len(places) == 20
    for a, b in itertools.combinations(places, 2):
        assert max(abs(a.x - b.x), abs(a.y - b.y)) > 1


def test_a_part_of_a_large_area_is_searched_and_leads_uphill() -> None:
    tiles = Tiles(70, 40)
    places = find(tiles, WORLD, "red", zoom=7, limit=200, tower=ColourTower())
    assert len(tiles.asked) == 200
    assert max(abs(places[0].x - 70), abs(places[0].y - 40)) <= 1


def test_progress_comes_after_each_tile_and_ends_with_the_answer() -> None:
    told: list[Findings] = []
    places = find(Tiles(3, 3), WORLD, "red", zoom=3, tower=ColourTower(), progress=told.append)
    assert [findings.done for findings in told] == list(range(1, 65))
    assert {findings.total for findings in told} == {64}
    assert list(told[-1].places) == places
    bests = [findings.places[0].score for findings in told]
    assert bests == sorted(bests)


def test_the_same_search_is_the_same() -> None:
    first, second = (find(Tiles(30, 9), WORLD, "red", zoom=6, limit=50, tower=ColourTower()) for _ in range(2))
    assert first == second


def test_a_search_can_be_withdrawn_or_dropped() -> None:
    tiles = Tiles(3, 3)
    with pytest.raises(RequestCancelledError, match="withdrawn"):
        find(tiles, WORLD, "red", zoom=3, tower=ColourTower(), cancelled=lambda: len(tiles.asked) == 5)
    assert len(tiles.asked) == 5
    for findings in search(tiles, WORLD, "red", zoom=3, tower=ColourTower()):
        if findings.done == 2:
            break
    assert len(tiles.asked) == 7


def test_bounds_and_resolution_choose_the_tiles() -> None:
    tiles = Tiles(0, 0)
    bounds = (8.0, 46.0, 10.0, 47.5)
    find(tiles, WORLD, "red", bounds, gsd=300.0, tower=ColourTower())
    assert {z for z, _, _ in tiles.asked} == {9}
    assert len(tiles.asked) == tiles_of(bounds, 9).height * tiles_of(bounds, 9).width
    assert tiles_of((-180.0, -85.0, 180.0, 85.0), 3) == Box(3, 0, 0, 8, 8)
    assert search_zoom((-180.0, -85.0, 180.0, 85.0)) == 4
    assert 64 <= tiles_of(bounds, search_zoom(bounds)).height * tiles_of(bounds, search_zoom(bounds)).width <= 256
    assert search_zoom((0.0, 0.0, 1e-4, 1e-4)) == 18


def test_a_world_by_prompt_is_searched_where_its_picture_is() -> None:
    world = World(root="prompt", prompt="a town", gsd=1.0)
    tiles = Tiles(0, 0)
    find(tiles, world, "red", limit=8, tower=ColourTower())
    west, south, east, north = box_bounds(frame_of(world).box)
    middles = [mercantile.bounds(x, y, z) for z, x, y in tiles.asked]
    assert all(b.west < east and b.east > west and b.south < north and b.north > south for b in middles)
    assert {z for z, _, _ in tiles.asked} == {search_zoom((west, south, east, north))}
    with pytest.raises(AddressError, match="begins at zoom"):
        search(tiles, world, "red", zoom=world.min_zoom - 1, tower=ColourTower())


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"text": " "}, InvalidRequestError, "empty"),
        ({"count": 0}, InvalidRequestError, "count is 0; 1 to 100"),
        ({"limit": 5000}, InvalidRequestError, "limit is 5000; 1 to 4096"),
        ({"zoom": 19}, AddressError, r"0\.\.18"),
        ({"zoom": 3, "gsd": 1.0}, InvalidRequestError, "at most one"),
        ({"gsd": -1.0}, AddressError, "not a positive number"),
        ({"bounds": (10.0, 0.0, 5.0, 1.0)}, AddressError, "west must be less"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_before_any_tile(
    arguments: dict[str, object], error: type[Exception], says: str
) -> None:
    tiles = Tiles(0, 0)
    with pytest.raises(error, match=says):
        search(tiles, WORLD, **{"text": "red", "tower": ColourTower(), **arguments})  # type: ignore[arg-type]
    assert not tiles.asked

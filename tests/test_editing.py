"""Edits: only what lies inside the mask changes, at every zoom, and means stay exact."""

from __future__ import annotations

import multiprocessing
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import earthgen.engine
from earthgen.cascade import CascadeStep
from earthgen.editing import FEATHER, LEAST_SPAN, Layer, layers_of
from earthgen.engine import Engine
from earthgen.errors import WorldError
from earthgen.infill import fill_hole
from earthgen.packed_mask import PackedMask
from earthgen.plan import edit_seed
from earthgen.presets import PRESETS, apply_preset
from earthgen.prompting import Words
from earthgen.pyramid import MAX_ZOOM, ROOT_ZOOM, Box, Window, box_bounds, row_latitudes, windows_of, world_size
from earthgen.world import ACTIONS, Edit, World
from tests.tiny import RipplePrompts, open_tiny, ripple_prompts, ripple_root, save_tiny_weights, tiny_net

Pixels = npt.NDArray[np.uint8]

# Enters at zoom 8: 0.25 degrees are 45 pixels there and 11 at zoom 6.
FIELD = ((10.0, 5.0), (10.25, 5.0), (10.25, 5.25), (10.12, 5.3), (10.0, 5.25))
# Inside FIELD, enters at zoom 12.
YARD = ((10.1, 5.1), (10.115, 5.1), (10.115, 5.112), (10.1, 5.112))
# Across 180 degrees, enters at zoom 8.
DATE_LINE = ((179.9, -3.0), (-179.9, -3.0), (-179.9, -2.8), (179.9, -2.8))

BASE = World(seed=7)


def edited(*edits: Edit, base: World = BASE) -> World:
    return replace(base, edits=edits)


def edit_of(action: str, polygon: tuple[tuple[float, float], ...] = FIELD) -> Edit:
    takes: dict[str, dict[str, Any]] = {"prompt": {"prompt": "a lake"}, "reseed": {"seed": 3}}
    extra = takes.get(action, {})
    return Edit.from_dict({"polygon": [list(vertex) for vertex in polygon], "action": action, **extra})


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module", autouse=True)
def ripples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earthgen.engine, "open_root", ripple_root)
        patch.setattr(earthgen.engine, "open_prompt_root", ripple_prompts)
        yield


@pytest.fixture(scope="module")
def engine(weights: Path) -> Iterator[Engine]:
    with open_tiny(weights) as engine:
        yield engine


def around(layer: Layer, zoom: int, margin: int = 20, most: int = 300) -> Box:
    """Pixels of any zoom around the north-western part of an edit, at most `most` on a side."""
    if zoom <= layer.zoom:
        box = layer.box_at(zoom)
    else:
        scale = 1 << zoom - layer.zoom
        box = Box(zoom, *(scale * v for v in (layer.box.row, layer.box.column, layer.box.height, layer.box.width)))
    top = max(0, box.row - margin)
    height, width = (min(most, side + 2 * margin, world_size(zoom)) for side in (box.height, box.width))
    return Box(zoom, top, box.column - margin, min(height, world_size(zoom) - top), width)


def mean_of_all(pixels: Pixels, factor: int) -> npt.NDArray[np.float64]:
    height, width, _ = pixels.shape
    mean: npt.NDArray[np.float64] = pixels.reshape(height // factor, factor, width // factor, factor, 3).mean(
        axis=(1, 3), dtype=np.float64
    )
    return mean


def half_up(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.floor(values + 0.5).astype(np.int64)


@pytest.mark.parametrize("action", ACTIONS)
def test_outside_the_mask_no_byte_moves_at_any_zoom(engine: Engine, action: str) -> None:
    world = edited(edit_of(action))
    (layer,) = layers_of(world)
    assert layer.zoom == 8
    for zoom in (0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 12):
        box = around(layer, zoom)
        moved = (engine.pixels(world, box) != engine.pixels(BASE, box)).any(axis=-1)
        inside = layer.within(box)
        assert not (moved & ~inside).any(), f"zoom {zoom}"
        assert inside.any() and not inside.all()
        if zoom >= layer.zoom:
            assert moved[inside].mean() > 0.5, f"zoom {zoom}: hardly anything changed"


@pytest.mark.parametrize("action", ["reseed", "prompt", "remove", "snow"])
def test_children_average_to_their_parents_across_the_mask(engine: Engine, action: str) -> None:
    world = edited(edit_of(action))
    (layer,) = layers_of(world)
    for zoom in (8, 10, 12):
        parent = around(layer, zoom, margin=9, most=60)
        child = Box(zoom + 2, *(4 * side for side in (parent.row, parent.column, parent.height, parent.width)))
        assert np.array_equal(mean_of_all(engine.pixels(world, child), 4), engine.pixels(world, parent))


@pytest.mark.parametrize("action", ["reseed", "flood"])
def test_coarser_pixels_are_exact_means_of_what_lies_below(engine: Engine, action: str) -> None:
    world = edited(edit_of(action))
    (layer,) = layers_of(world)
    for zoom in (7, 6, 5, 4):
        box, factor = around(layer, zoom, margin=3), 1 << layer.zoom - zoom
        entry = Box(layer.zoom, *(factor * side for side in (box.row, box.column, box.height, box.width)))
        expected = half_up(mean_of_all(engine.pixels(world, entry), factor))
        assert np.array_equal(engine.pixels(world, box)[layer.within(box)], expected[layer.within(box)])


@pytest.mark.parametrize("zoom", range(ROOT_ZOOM))
def test_the_globe_shows_exact_means_of_an_edit(engine: Engine, zoom: int) -> None:
    world = edited(edit_of("snow"))
    (layer,) = layers_of(world)
    box = around(layer, zoom, margin=1)
    factor = 1 << ROOT_ZOOM - zoom
    at_root = Box(ROOT_ZOOM, *(factor * side for side in (box.row, box.column, box.height, box.width)))
    # The root's pixels are rounded, so the change is counted at the entry level, where every pixel is itself.
    entry = Box(layer.zoom, layer.box.row // 256 * 256, layer.box.column // 256 * 256, 256, 256)
    change = engine.pixels(world, entry).astype(np.int64) - engine.pixels(BASE, entry)
    per_root = change.reshape(16, 16, 16, 16, 3).sum(axis=(1, 3))
    total = engine.pixels(BASE, at_root).astype(np.int64) * 256
    top, left = entry.row // 16 - at_root.row, entry.column // 16 - at_root.column
    assert top >= 0 and left >= 0
    here = total[top : top + 16, left : left + 16]
    here += per_root[: here.shape[0], : here.shape[1]]
    sums = total.reshape(box.height, factor, box.width, factor, 3).sum(axis=(1, 3))
    pixels = engine.pixels(world, box)
    assert np.array_equal(pixels[layer.within(box)], half_up(sums / (256 * factor**2))[layer.within(box)])


EDITS = [edit_of("reseed"), edit_of("prompt", YARD), edit_of("snow", DATE_LINE), edit_of("remove", YARD)]


@settings(max_examples=10)
@given(data=st.data())
def test_any_crop_is_the_crop_of_the_whole_with_edits(engine: Engine, data: st.DataObject) -> None:
    world = edited(*EDITS)
    layer = data.draw(st.sampled_from(layers_of(world)))
    box = around(layer, data.draw(st.integers(3, 13)), margin=data.draw(st.integers(0, 40)), most=150)
    top, left = data.draw(st.integers(0, box.height - 1)), data.draw(st.integers(0, box.width - 1))
    turns = data.draw(st.sampled_from([-1, 0, 1])) * world_size(box.zoom)
    inner = Box(box.zoom, box.row + top, box.column + left + turns, box.height - top, box.width - left)
    assert np.array_equal(engine.pixels(world, box)[top:, left:], engine.pixels(world, inner))


def test_an_edit_across_180_degrees_has_no_edge_there(engine: Engine) -> None:
    world = edited(edit_of("reseed", DATE_LINE))
    (layer,) = layers_of(world)
    assert layer.zoom == 8
    size = world_size(8)
    assert layer.box.column < size < layer.box.column + layer.box.width
    for zoom in (6, 8, 10):
        box = around(layer, zoom)
        moved = (engine.pixels(world, box) != engine.pixels(BASE, box)).any(axis=-1)
        middle = world_size(zoom) - box.column
        assert moved[:, middle - 1].any() and moved[:, middle].any()
        assert not (moved & ~layer.within(box)).any()


def test_at_the_entry_level_the_content_fades_in(engine: Engine) -> None:
    edit = edit_of("prompt")
    world = edited(edit)
    (layer,) = layers_of(world)
    before, after = engine.pixels(BASE, layer.box).astype(int), engine.pixels(world, layer.box)
    window = Window(8, layer.box.row // 128, layer.box.column // 128)
    step = CascadeStep(tiny_net(), torch.device("cpu"))
    content = RipplePrompts().window(edit_seed(world, edit), window, Words("a lake"), step).astype(int)
    row, column = layer.box.row - window.box.row, layer.box.column - window.box.column
    height, width = (min(128 - start, length) for start, length in ((row, layer.box.height), (column, layer.box.width)))
    share = layer.weights[:height, :width, None].astype(int)
    mixed = share * content[row : row + height, column : column + width] + (FEATHER - share) * before[:height, :width]
    assert np.abs(after[:height, :width] - mixed / FEATHER).max() <= 0.5
    assert set(np.unique(layer.weights)) == set(range(FEATHER + 1))


def test_reseeding_shows_the_other_seeds_detail_of_the_same_parents(engine: Engine) -> None:
    world = edited(edit_of("reseed"))
    (layer,) = layers_of(world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earthgen.engine, "open_root", lambda world: ripple_root(BASE))
        # Only the first step below this root is asked for, so that the parents are those of the other seed too.
        polygon = ((10.0, 5.0), (11.0, 5.0), (11.0, 6.0), (10.0, 6.0))
        world = edited(edit_of("reseed", polygon))
        (layer,) = layers_of(world)
        assert layer.zoom == 6
        inside = layer.weights == FEATHER
        assert np.array_equal(engine.pixels(world, layer.box)[inside], engine.pixels(World(seed=3), layer.box)[inside])


def test_edits_apply_in_order(engine: Engine) -> None:
    lake, snow = edit_of("prompt"), edit_of("snow")
    (layer,) = layers_of(edited(lake))
    core = layer.weights == FEATHER
    window = next(windows_of(layer.box))
    seen = engine.pixels(edited(lake, snow), layer.box)
    alone = engine.pixels(edited(lake), layer.box)
    expected = apply_preset("snow", alone, edit_seed(BASE, snow), layer.box)
    assert np.array_equal(seen[core], expected[core])
    # A lake on top of snow is a lake.
    assert np.array_equal(engine.pixels(edited(snow, lake), layer.box)[core], alone[core])
    assert window.zoom == 8


def test_edits_that_do_not_meet_do_not_meet_in_pixels(engine: Engine) -> None:
    one, other = edit_of("reseed"), edit_of("snow", DATE_LINE)
    for edit in (one, other):
        (layer,) = layers_of(edited(edit))
        for zoom in (5, 6, 8, 10):
            box = around(layer, zoom)
            for world in (edited(one, other), edited(other, one)):
                assert np.array_equal(engine.pixels(world, box), engine.pixels(edited(edit), box))


def test_means_are_exact_over_several_edits(engine: Engine) -> None:
    world = edited(edit_of("reseed"), edit_of("flood", YARD))
    coarse, fine = layers_of(world)
    assert (coarse.zoom, fine.zoom) == (8, 12)
    for zoom in (11, 10, 9, 8, 7, 6):
        box, factor = around(fine, zoom, margin=0), 1 << fine.zoom - zoom
        entry = Box(fine.zoom, *(factor * side for side in (box.row, box.column, box.height, box.width)))
        expected = half_up(mean_of_all(engine.pixels(world, entry), factor))
        touched = fine.within(box)
        assert touched.any()
        assert np.array_equal(engine.pixels(world, box)[touched], expected[touched]), f"zoom {zoom}"


def test_a_coarse_edit_over_a_fine_one_keeps_every_promise(engine: Engine) -> None:
    first = edited(edit_of("flood", YARD))
    world = edited(*first.edits, edit_of("haze"))
    fine, coarse = layers_of(world)
    for zoom in (4, 5, 6, 7, 8, 10, 12):
        box = around(coarse, zoom)
        moved = (engine.pixels(world, box) != engine.pixels(first, box)).any(axis=-1)
        assert not (moved & ~coarse.within(box)).any()
    for zoom in (8, 10, 12):
        parent = around(fine, zoom, margin=9, most=60)
        child = Box(zoom + 2, *(4 * side for side in (parent.row, parent.column, parent.height, parent.width)))
        assert np.array_equal(mean_of_all(engine.pixels(world, child), 4), engine.pixels(world, parent))
    # Above both: the exact mean of what the finer zooms show, not a mean of rounded means.
    box = around(coarse, 6, margin=0)
    at_12 = Box(12, *(64 * side for side in (box.row, box.column, 2, 2)))
    expected = half_up(mean_of_all(engine.pixels(world, at_12), 64))
    touched = coarse.within(box)[:2, :2]
    assert np.array_equal(engine.pixels(world, box)[:2, :2][touched], expected[touched])


def test_taking_an_edit_back_gives_the_bytes_back_from_the_cache(weights: Path, tmp_path: Path) -> None:
    one, other = edit_of("reseed"), edit_of("snow", DATE_LINE)
    (layer,) = layers_of(edited(one))
    with open_tiny(weights, tmp_path) as engine:
        boxes = [around(layer, zoom) for zoom in (6, 8, 10)]
        unedited = [engine.pixels(BASE, box) for box in boxes]
        with_one = [engine.pixels(edited(one), box) for box in boxes]
        made = engine.counts.computed
        # An edit far away, and edits taken back, need nothing to be made again.
        for world, expected in ((edited(one, other), with_one), (edited(other), unedited), (BASE, unedited)):
            assert all(
                np.array_equal(engine.pixels(world, box), pixels) for box, pixels in zip(boxes, expected, strict=True)
            )
        assert engine.counts.computed == made


def test_what_an_edit_does_not_touch_is_the_unedited_worlds_cache_entry(weights: Path) -> None:
    world = edited(edit_of("reseed"))
    box = Box(10, 100_000, 30_000, 200, 200)
    with open_tiny(weights) as engine:
        pixels = engine.pixels(BASE, box)
        assert engine.is_ready(world, box)
        made = engine.counts.computed
        assert np.array_equal(engine.pixels(world, box), pixels)
        assert engine.counts.computed == made


def test_two_dates_are_two_worlds(engine: Engine) -> None:
    spring = replace(edit_of("reseed"), valid_until="2026-06-01")
    summer = replace(edit_of("burn"), valid_from="2026-06-01")
    world = edited(spring, summer)
    (layer,) = layers_of(edited(spring))
    box = around(layer, 10)
    before, after = (engine.pixels(world.at(day), box) for day in ("2026-05-31", "2026-06-01"))
    assert np.array_equal(before, engine.pixels(edited(spring.undated), box))
    assert np.array_equal(after, engine.pixels(edited(summer.undated), box))
    assert np.array_equal(engine.pixels(world, box), after), "without a day: what never ends"
    changed = (before != after).any(axis=-1)
    assert changed.any() and not (changed & ~layer.within(box)).any()


def boxes_of_everything() -> list[Box]:
    return [around(layer, zoom, most=140) for layer in layers_of(edited(*EDITS)) for zoom in (2, 5, 6, 8, 11)]


def seen(engine: Engine, order: list[Box]) -> dict[Box, bytes]:
    return {box: engine.pixels(edited(*EDITS), box).tobytes() for box in order}


def seen_in_new_process(weights: Path, cache: Path | None) -> dict[Box, bytes]:
    setattr(earthgen.engine, "open_root", ripple_root)  # noqa: B010
    setattr(earthgen.engine, "open_prompt_root", ripple_prompts)  # noqa: B010
    with open_tiny(weights, cache, threads=2) as engine:
        return seen(engine, boxes_of_everything())


def test_order_threads_processes_and_cache_do_not_change_a_byte(weights: Path, tmp_path: Path) -> None:
    order = boxes_of_everything()
    with open_tiny(weights, threads=1) as engine:
        expected = seen(engine, order)
    random.Random(2).shuffle(order)
    with open_tiny(weights, tmp_path, threads=4, memory_bytes=1 << 16) as engine:
        assert seen(engine, order) == expected
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(seen_in_new_process, (weights, tmp_path)).get(600) == expected
    with open_tiny(weights, tmp_path) as engine:
        assert seen(engine, order) == expected
        assert engine.counts.computed == 0


PROMPTED = World("prompt", 7, "a harbour town", gsd=100)


@pytest.mark.parametrize("action", ["reseed", "prompt", "remove", "autumn"])
def test_edits_of_a_world_by_prompt_may_enter_at_its_root(engine: Engine, action: str) -> None:
    world = edited(edit_of(action), base=PROMPTED)
    (layer,) = layers_of(world)
    assert layer.zoom == PROMPTED.root_zoom == 8
    for zoom in (4, 6, 7, 8, 10):
        box = around(layer, zoom, margin=4, most=80)
        moved = (engine.pixels(world, box) != engine.pixels(PROMPTED, box)).any(axis=-1)
        assert not (moved & ~layer.within(box)).any()
    assert moved.any()
    box = around(layer, 5, margin=1)
    root = engine.pixels(world, Box(8, *(8 * side for side in (box.row, box.column, box.height, box.width))))
    assert np.array_equal(engine.pixels(world, box), half_up(mean_of_all(root, 8)))
    if action == "reseed":
        inside = layer.weights == FEATHER
        other = engine.pixels(replace(PROMPTED, seed=3), layer.box)
        assert np.array_equal(engine.pixels(world, layer.box)[inside], other[inside])


@settings(max_examples=30)
@given(data=st.data())
def test_any_crop_of_a_mask_is_the_crop_of_the_whole(data: st.DataObject) -> None:
    polygon = data.draw(st.sampled_from([FIELD, YARD, DATE_LINE]))
    (layer,) = layers_of(edited(edit_of("snow", polygon)))
    box = around(layer, data.draw(st.integers(4, MAX_ZOOM)), margin=data.draw(st.integers(0, 30)))
    whole = layer.within(box)
    top, left = data.draw(st.integers(0, box.height - 1)), data.draw(st.integers(0, box.width - 1))
    turns = data.draw(st.sampled_from([-1, 0, 1])) * world_size(box.zoom)
    inner = Box(box.zoom, box.row + top, box.column + left + turns, box.height - top, box.width - left)
    assert np.array_equal(layer.within(inner), whole[top:, left:])
    assert layer.touches(inner) == whole[top:, left:].any()


@given(data=st.data())
def test_a_part_of_a_packed_mask_is_the_part_of_the_mask(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300))
    values = np.zeros((height, width), dtype=np.uint8)
    for value in (1, 4):
        top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        values[top : top + data.draw(st.integers(1, 200)), left : left + data.draw(st.integers(1, 200))] = value
    rows, columns = (
        range(start, data.draw(st.integers(start, length)))
        for length in values.shape
        for start in [data.draw(st.integers(0, length))]
    )
    part = PackedMask(values).cut(rows, columns)
    assert np.array_equal(part, values[rows.start : rows.stop, columns.start : columns.stop])


SQUARE = ((0.0, 0.0), (80.0, 0.0), (80.0, 55.0), (0.0, 55.0))
COMB = (*((0.16 * tooth, 55.0 if tooth % 2 else 2.0) for tooth in range(500)), (80.0, 0.0), (0.0, 0.0))


@pytest.mark.parametrize(("ring", "share"), [(SQUARE, 200), (COMB, 25)], ids=["square", "comb"])
def test_masks_of_many_large_edits_fit_into_memory(ring: tuple[tuple[float, float], ...], share: int) -> None:
    """Each of them is 10 MB as an array, and a world may have 256."""
    count = 5
    world = edited(*(edit_of("snow", tuple((x + shift, y) for x, y in ring)) for shift in range(count)))
    tracemalloc.start()
    try:
        layers = layers_of(world)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    raw = sum(layer.box.height * layer.box.width for layer in layers)
    assert raw > count * 10_000_000
    assert kept < raw / share
    assert peak - kept < 8 * raw / count, "one mask is in the making at a time"


@pytest.mark.parametrize("polygon", [FIELD, YARD])
def test_the_support_is_the_pixels_whose_centres_lie_in_the_polygon(polygon: tuple[tuple[float, float], ...]) -> None:
    (layer,) = layers_of(edited(edit_of("snow", polygon)))
    shape = shapely.Polygon(polygon)
    box = around(layer, layer.zoom, margin=2)
    west, _, east, _ = box_bounds(box)
    longitudes = west + (np.arange(box.width) + 0.5) * (east - west) / box.width
    latitudes = row_latitudes(box.zoom, box.row, box.height)
    expected = shapely.contains_xy(shape, *np.meshgrid(longitudes, latitudes))
    assert np.array_equal(layer.within(box), expected)


@pytest.mark.parametrize(("side", "zoom"), [(20.0, 6), (0.25, 8), (0.012, 12), (0.0003, 18), (0.00002, 18)])
def test_an_edit_enters_where_its_shorter_side_spans_enough_pixels(side: float, zoom: int) -> None:
    polygon = ((10.0, 0.0), (10.0 + 1.5 * side, 0.0), (10.0 + 1.5 * side, side), (10.0, side))
    (layer,) = layers_of(edited(edit_of("snow", polygon)))
    assert layer.zoom == zoom
    assert zoom in (6, 18) or LEAST_SPAN - 1 <= layer.box.height < 4 * LEAST_SPAN + 2


def test_a_long_thin_edit_enters_coarser() -> None:
    river = ((0.0, 0.0), (40.0, 30.0), (40.0, 30.05), (0.0, 0.05))
    (layer,) = layers_of(edited(edit_of("flood", river)))
    assert layer.zoom == 6
    assert layer.weights.any()


@pytest.mark.parametrize(
    ("polygon", "words"),
    [
        (((0, 0), (1, 0), (2, 0)), "no area"),
        (((0, 0), (1e-9, 0), (0, 1e-9)), "holds no pixel of zoom 18"),
        (((-80, -60), (80, -60), (80, 60), (-80, 60)), "at zoom 6, the coarsest where edits of this world enter"),
        (((0, 80), (90, 80), (180, 80), (-90, 80)), "goes around a pole"),
        (((0, 86), (10, 86), (10, 88)), "outside Web Mercator, which ends at 85"),
    ],
)
def test_a_polygon_that_cannot_be_is_refused_with_a_reason(
    engine: Engine, polygon: tuple[tuple[float, float], ...], words: str
) -> None:
    with pytest.raises(WorldError, match=words):
        engine.pixels(edited(edit_of("snow", polygon)), Box(8, 0, 0, 1, 1))


def test_an_edit_too_large_for_the_root_of_a_prompt_is_refused(engine: Engine) -> None:
    world = edited(edit_of("snow"), base=World("prompt", 0, "a harbour", gsd=1))
    with pytest.raises(WorldError, match="at zoom 16, the coarsest"):
        engine.pixels(world, Box(16, 0, 0, 1, 1))


@pytest.mark.parametrize("action", PRESETS)
def test_a_preset_of_a_part_is_the_part_of_the_preset(action: str) -> None:
    random_pixels = np.random.default_rng(5).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    box = Box(12, 5000, 7000, 90, 70)
    whole = apply_preset(action, random_pixels, 9, box)  # type: ignore[arg-type]
    part = apply_preset(action, random_pixels[13:60, 40:], 9, Box(12, 5013, 7040, 47, 30))  # type: ignore[arg-type]
    assert np.array_equal(whole[13:60, 40:], part)


def test_presets_do_what_their_names_say() -> None:
    box = Box(14, 0, 0, 64, 64)
    meadow = np.broadcast_to(np.array([85, 110, 60], dtype=np.uint8), (64, 64, 3))

    def colour(action: str) -> npt.NDArray[np.float64]:
        mean: npt.NDArray[np.float64] = apply_preset(action, meadow, 1, box).mean(axis=(0, 1))  # type: ignore[arg-type]
        return mean

    assert colour("snow").min() > 200
    assert colour("burn").max() < 80
    assert colour("haze").min() > 130 and colour("haze").max() < 200
    assert np.ptp(colour("flood")) < 45 and colour("flood")[1] < colour("flood")[0]
    assert colour("autumn")[0] > colour("autumn")[1] > colour("autumn")[2]
    soil = np.broadcast_to(np.array([112, 100, 84], dtype=np.uint8), (64, 64, 3))
    greener = apply_preset("summer", soil, 1, box).mean(axis=(0, 1))
    assert greener[1] > greener[0]


def test_filling_a_hole_looks_at_its_surroundings_only() -> None:
    rows, columns = np.mgrid[0:40, 0:50]
    smooth = np.stack([100 + rows, 80 + columns, 90 + 0 * rows], axis=-1).astype(np.uint8)
    hole = (rows - 20) ** 2 + (columns - 25) ** 2 < 100
    nothing = np.zeros(hole.shape, dtype=np.float32)
    damaged = np.where(hole[..., None], np.uint8(255), smooth)
    filled = fill_hole(damaged, hole, nothing)
    assert np.array_equal(filled, fill_hole(smooth, hole, nothing))
    assert np.array_equal(filled[~hole], smooth[~hole])
    # Planes are what a membrane reproduces.
    assert np.abs(filled.astype(int) - smooth).max() <= 3


def test_filled_ground_is_as_rough_as_its_surroundings() -> None:
    random = np.random.default_rng(3)
    ground = np.clip(120 + 12 * random.normal(size=(60, 60, 1)), 0, 255).repeat(3, axis=-1).astype(np.uint8)
    hole = np.zeros((60, 60), dtype=bool)
    hole[20:40, 20:40] = True
    filled = fill_hole(ground, hole, random.normal(size=(60, 60)).astype(np.float32))
    assert filled[hole].std() == pytest.approx(ground[~hole].std(), rel=0.25)

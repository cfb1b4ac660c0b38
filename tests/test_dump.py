"""Dumps: items are functions of their index, labels say what was done, and what happens to a run changes no bytes."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from earthgen.pyramid import EQUATOR_GSD, box_bounds
from tests.fake_dump import PaintingMaker, PaintingOpener
from trainingsets.errors import DumpError, DumpSpecError
from trainingsets.folder import DumpFolder
from trainingsets.formats import FORMATS
from trainingsets.grounds import COVER, COVER_NAMES, SCENES, cover_code
from trainingsets.places import BUFFER, cell_split, class_of, scene_of
from trainingsets.running import Limits, Outcome, check, run, shard_range
from trainingsets.sample import Mask, Question, bbox_of, mask_of, polygons_of, run_lengths
from trainingsets.spec import DumpSpec, zoom_of
from trainingsets.tasks import TASKS, Item, item_of, legends, low_side, view_roles
from trainingsets.words import Event, captions, dialogue, phrase, place_name, questions

MADE_BY = {"weights": "paint", "fingerprint": "paint-1"}


def spec_of(task: str = "change-detection", form: str = "hf", count: int = 6, **other: Any) -> DumpSpec:
    options: dict[str, Any] = {"size": 128, "tiles_per_scene": 2, "gsds": TASKS[task].gsds, "date_effects": False}
    return DumpSpec(task=task, format=form, count=count, **(options | other))


def dump(path: Path, spec: DumpSpec, *, resume: bool = False, **options: Any) -> Outcome:
    folder = DumpFolder.create(path, spec, MADE_BY, resume=resume)
    return run(folder, options.pop("opener", PaintingOpener()), **options)


def content(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


# --- What a dump is ---

specs = st.builds(
    lambda **options: spec_of(**options),
    task=st.sampled_from(sorted(TASKS)),
    count=st.integers(1, 10**6),
    seed=st.integers(0, 2**63 - 1),
    size=st.sampled_from([64, 256, 512]),
    tiles_per_scene=st.integers(1, 9),
    splits=st.sampled_from([(0.7, 0.15, 0.15), (1.0, 0.0, 0.0), (0.4, 0.3, 0.3)]),
)


@given(specs)
def test_a_specification_survives_json(spec: DumpSpec) -> None:
    assert DumpSpec.from_dict(json.loads(spec.canonical_json)) == spec


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"count": 0}, "count is 0"),
        ({"size": 100}, "multiples of 32"),
        ({"gsds": (0.01,)}, "GSD is 0.01"),
        ({"gsds": ()}, "no GSD"),
        ({"roots": ("mars",)}, "roots are mars"),
        ({"splits": (0.5, 0.1, 0.1)}, "add up to 1"),
        ({"scale": 3}, "scale is 3"),
        ({"low_gsds": (2.0,), "gsds": (0.6, 2.4)}, "low GSD is 2.0; numbers above the GSDs"),
        ({"low_gsds": (float("nan"),)}, "low GSD is nan"),
        ({"low_gsds": (10.0,), "gsds": (0.5,)}, "GSD is 0.5 m; 0.597 to 611"),
        ({"views": 5}, "views is 5"),
        ({"steps": 1}, "steps is 1"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DumpSpecError, match=says):
        spec_of(**options)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (spec_of("classification", "levir-cd"), "levir-cd holds no classification"),
        (spec_of("semantic-change", roots=("earth",)), "no labels for worlds of root earth"),
        (spec_of("super-resolution", size=64, scale=16), "too small for scale 16"),
        (spec_of("super-resolution", low_gsds=(100.0,), gsds=(0.6, 2.4)), "128 pixels of 0.6 m are 0.8 of 100 m"),
        (spec_of("classification", low_gsds=(100.0,)), "task classification has no low GSD"),
        (spec_of("classification", size=2048, gsds=(600.0,)), "finer GSD"),
        (replace(spec_of(), task="painting"), "task is 'painting'"),
        (replace(spec_of(), format="zip"), "format is 'zip'"),
    ],
)
def test_what_cannot_be_made_is_refused_before_it_begins(spec: DumpSpec, says: str) -> None:
    with pytest.raises(DumpSpecError, match=says):
        check(spec)


@given(specs, st.data())
def test_items_are_functions_of_their_index(spec: DumpSpec, data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, spec.count - 1), min_size=1, max_size=6))
    first = [item_of(spec, index) for index in indices]
    assert [item_of(spec, index) for index in reversed(indices)] == first[::-1]


@given(specs)
def test_no_tile_occurs_twice_and_splits_are_apart_on_the_ground(spec: DumpSpec) -> None:
    items = [item_of(spec, index) for index in range(min(spec.count, 60))]
    assert len({(item.scene.seed, item.box) for item in items}) == len(items)
    for item in items:
        west, south, east, north = box_bounds(item.box)
        # Grown by the buffer, a tile still lies in one cell, which belongs to its split.
        corners = [(x, y) for x in (west - BUFFER, east + BUFFER) for y in (south - BUFFER, north + BUFFER)]
        inside = [(x * (1 - 1e-9), y * (1 - 1e-9)) for x, y in corners]
        assert {cell_split(*corner) for corner in inside} == {item.scene.split}


@pytest.mark.parametrize("root", ["prompt", "planet", "earth"])
def test_scenes_of_a_split_do_not_share_ground_until_all_slots_are_used(root: Any) -> None:
    spec = spec_of("super-resolution", count=4000, roots=(root,), gsds=(0.6,))
    places = [(scene.row, scene.column) for scene in (scene_of(spec, number) for number in range(500))]
    assert len(set(places)) == len(places)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0.25, 0.25)]))
def test_classes_and_splits_are_balanced(seed: int, splits: tuple[float, float, float]) -> None:
    spec = spec_of("classification", count=400, seed=seed, splits=splits, tiles_per_scene=1)
    names = [class_of(tuple(SCENES), spec, number) for number in range(200)]
    assert {names.count(name) for name in SCENES} == {20}
    scenes = [scene_of(spec, number).split for number in range(200)]
    assert [scenes.count(split) / 200 for split in ("train", "val", "test")] == pytest.approx(splits)
    assert len(set(scenes[:5])) == 3  # Small dumps have all of them, too.


# --- Labels ---


def made(task: str, index: int, **options: Any) -> tuple[Item, Any]:
    item = item_of(spec_of(task, count=1000, **options), index)
    return item, TASKS[task].make(PaintingMaker(), item)


@pytest.mark.parametrize("index", range(0, 24, 3))
def test_the_change_mask_is_where_pixels_changed(index: int) -> None:
    _, sample = made("change-detection", index)
    before, after = (sample.views[role].pixels.astype(int) for role in ("before", "after"))
    differs = np.abs(before - after).max(axis=-1) > 1  # Ground generated anew differs by one, and is no change.
    mask = sample.masks["change"] == 1
    assert not (differs & ~grown(mask, 8)).any()  # A sharp corner fades before it ends.
    assert differs[mask].mean() > 0.95 if mask.any() else not sample.things
    assert np.array_equal(np.any([thing.mask for thing in sample.things], axis=0) if sample.things else mask, mask)


def grown(mask: Mask, by: int) -> Mask:
    for _ in range(by):
        wide = np.pad(mask, 1)
        mask = wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:] | mask
    return mask


def test_some_pairs_have_no_change_and_their_areas_are_apart() -> None:
    samples = [made("semantic-change", index)[1] for index in range(40)]
    none = sum(not sample.things for sample in samples)
    assert 2 <= none <= 14
    for sample in samples:
        total = np.zeros((128, 128), dtype=int)
        for thing in sample.things:
            total += thing.mask
            assert set(np.unique(sample.masks["cover_after"][thing.mask])) == {cover_code(thing.category)}
            assert set(np.unique(sample.masks["cover_before"][thing.mask])) == {cover_code(thing.before)}
            assert thing.before != thing.category
        assert total.max() <= 1
        assert not sample.masks["cover_after"][total == 0].any()


def test_an_edit_that_cannot_be_seen_is_no_label() -> None:
    class Deaf(PaintingMaker):
        def __init__(self) -> None:
            super().__init__()
            paint = self.engine.pixels
            self.engine.pixels = lambda world, box, **_: paint(replace(world, edits=()), box)  # type: ignore[method-assign]

    for index in range(6):
        item = item_of(spec_of("change-caption", count=100), index)
        sample = TASKS["change-caption"].make(Deaf(), item)
        assert not sample.masks["change"].any() and not sample.things
        assert all("change" in line or "same" in line for line in sample.captions)
        assert not sample.views["after"].world.edits or all(
            edit.action == "reseed" for edit in sample.views["after"].world.edits
        )


def test_a_time_series_says_what_each_date_shows() -> None:
    item, sample = made("time-series", 5, steps=4)
    assert list(sample.views) == ["t0", "t1", "t2", "t3"] == list(view_roles(item.spec))
    assert [view.date for view in sample.views.values()] == ["2021-02-15", "2021-05-15", "2021-08-15", "2021-11-15"]
    ground = cover_code(sample.about["ground"])
    assert (sample.masks["cover_t0"] == ground).all()
    for change in sample.about["changes"]:
        for step, view in enumerate(sample.views.values()):
            holds = change["from"] <= view.date and (change["until"] is None or view.date < change["until"])
            assert (sample.masks[f"cover_t{step}"] == cover_code(change["after"])).any() == holds or len(
                sample.about["changes"]
            ) > 1
    assert len({view.pixels.tobytes() for view in sample.views.values()}) > 1


def test_the_coarse_picture_is_of_the_same_ground() -> None:
    item, sample = made("super-resolution", 3, scale=8)
    low, high = sample.views["low"], sample.views["high"]
    assert low.pixels.shape == (16, 16, 3) and high.pixels.shape == (128, 128, 3)
    assert box_bounds(low.box) == pytest.approx(box_bounds(high.box))
    assert sample.about["low_metres"] == pytest.approx(8 * item.metres, rel=1e-3)


@given(st.floats(0.6, 600), st.floats(1.01, 40), st.integers(2, 16))
def test_pairs_of_any_gsd_have_the_same_ground_and_nearly_their_gsds(gsd: float, ratio: float, size: int) -> None:
    spec = spec_of("super-resolution", size=64 * size, gsds=(gsd,), low_gsds=(gsd * ratio,), tiles_per_scene=1)
    zoom, side = spec.ground(gsd)
    assert zoom % 2 == 0 and 8 <= zoom <= 18 and 0.99 * spec.size <= side <= 4.1 * spec.size
    length = side * EQUATOR_GSD / 2**zoom
    assert length / spec.size == pytest.approx(gsd, rel=0.011)
    low = low_side(spec, gsd, gsd * ratio)
    # Nearer to the GSD is no whole number of pixels.
    assert abs(length / (gsd * ratio) - low) <= 0.5


@pytest.mark.parametrize(
    ("gsd", "low_gsd", "low"), [(1.5, 10.0, 19), (0.6, 2.4, 32), (1.19, 9.55, 16), (4.0, 7.3, 70), (100.0, 1000.0, 13)]
)
def test_pictures_of_any_gsd_are_means_of_the_same_pixels(gsd: float, low_gsd: float, low: int) -> None:
    item, sample = made("super-resolution", 3, gsds=(gsd,), low_gsds=(low_gsd,))
    fine = PaintingMaker().engine.pixels(sample.views["high"].world, item.box).astype(float)
    for role, side in (("low", low), ("high", 128)):
        view = sample.views[role]
        assert view.pixels.shape == (side, side, 3) and view.box == item.box
        assert np.abs(view.pixels - means(means(fine, side).swapaxes(0, 1), side).swapaxes(0, 1)).max() <= 0.501
    assert sample.about["scale"] == pytest.approx(128 / low)
    assert item.metres == pytest.approx(gsd, rel=0.03)  # Up to eight degrees from the equator.
    assert sample.about["low_metres"] == pytest.approx(item.metres * 128 / low, rel=1e-4)


def means(values: Any, count: int) -> Any:
    """Means over `count` equal parts of the first axis, by what adds up until their ends."""
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), values.cumsum(axis=0)])
    ends = np.linspace(0, len(values), count + 1)
    whole = ends.astype(int).clip(0, len(values) - 1)
    part = (ends - whole).reshape(-1, *[1] * (values.ndim - 1))
    return np.diff(sums[whole] + part * (sums[whole + 1] - sums[whole]), axis=0) * count / len(values)


def test_each_scene_takes_one_low_gsd_and_neighbours_do_not_overlap() -> None:
    spec = spec_of("super-resolution", count=64, gsds=(0.6, 1.5), low_gsds=(3.0, 5.0), tiles_per_scene=4)
    samples = [TASKS["super-resolution"].make(PaintingMaker(), item_of(spec, index)) for index in range(16)]
    pairs = {(sample.about["high_gsd"], sample.about["low_gsd"]) for sample in samples}
    assert len({sample.about["low_gsd"] for sample in samples[:4]}) == 1 and len(pairs) >= 2
    for first in range(0, 64, 4):
        boxes = [item_of(spec, first + number).box for number in range(4)]
        assert len({(box.row, box.column) for box in boxes}) == 4
        assert {box.row % box.height for box in boxes} == {box.column % box.width for box in boxes} == {0}


def test_dates_differ_in_light_and_not_in_labels() -> None:
    _, plain = made("semantic-change", 2)
    _, dated = made("semantic-change", 2, date_effects=True)
    assert all(np.array_equal(plain.masks[role], dated.masks[role]) for role in plain.masks)
    assert not np.array_equal(plain.views["before"].pixels, dated.views["before"].pixels)


@pytest.mark.parametrize("task", sorted(TASKS))
def test_masks_have_only_codes_of_their_legend(task: str) -> None:
    item, sample = made(task, 7)
    known = legends(item.spec)
    assert set(sample.masks) == set(known)
    assert (sample.posed is not None) == (task == "multi-view")
    for role, codes in sample.masks.items():
        assert codes.dtype == np.uint8 and codes.shape == (128, 128)
        assert set(np.unique(codes)) <= {0} | {part.code for part in known[role]}
    assert tuple(sample.views) == view_roles(item.spec)


def test_conversations_are_numbered_and_begin_with_whether_anything_changed() -> None:
    for index in range(6):
        _, sample = made("change-dialogue", index)
        kinds = [asked.kind for asked in sample.questions]
        assert [kind.split(":")[0] for kind in kinds] == [f"turn {n}" for n in range(1, len(kinds) + 1)]
        changed = bool(sample.masks["change"].any())
        assert sample.questions[0].answer == ("yes" if changed else "no")
        assert len(kinds) >= 3 if changed else len(kinds) == 1


# --- Words ---


def event(after: str = "water", before: str | None = "tree", at: tuple[int, int] = (10, 10), side: int = 8) -> Event:
    mask = np.zeros((96, 96), dtype=np.bool_)
    mask[at[0] : at[0] + side, at[1] : at[1] + side] = True
    return Event(before, after, "replaced", mask)


@pytest.mark.parametrize(
    ("at", "place"),
    [
        ((0, 0), "upper left"),
        ((44, 44), "centre"),
        ((80, 44), "lower part"),
        ((44, 80), "right part"),
        ((80, 80), "lower right"),
    ],
)
def test_places_have_names(at: tuple[int, int], place: str) -> None:
    assert place_name(event(at=at).mask) == place
    assert phrase(event(at=at)) == f"the water in the {place}"


def test_a_conversation_asks_about_the_largest_only_where_it_is_clear_which_that_is() -> None:
    alike = dialogue((event(at=(0, 0)), event("building", at=(60, 60))))
    assert [turn.question for turn in alike] == [
        "has anything changed?", "how many areas?", "how much of the picture has changed in all?",
    ]  # fmt: skip
    clear = dialogue((event(at=(0, 0)), event("building", at=(60, 60), side=30)))
    assert [(turn.question, turn.answer) for turn in clear[1:5]] == [
        ("how many areas?", "2"),
        ("where is the largest?", "in the lower right"),
        ("what is there now?", "buildings"),
        ("and what was there before?", "forest"),
    ]
    assert dialogue(()) == (Question("turn 1: change or not", "has anything changed?", "no"),)


@given(
    st.lists(st.tuples(st.sampled_from(COVER_NAMES), st.sampled_from([None, *COVER_NAMES])), max_size=3),
    st.integers(0, 99),
)
def test_captions_name_every_change_and_where_it_is(classes: list[tuple[str, str | None]], seed: int) -> None:
    events = [event(after, before, (30 * number, 30 * number)) for number, (after, before) in enumerate(classes)]
    sentences = captions(events, np.random.default_rng(seed))
    assert len(sentences) == 5
    for sentence in sentences:
        assert sentence.endswith(" .") and sentence == sentence.lower()
        for each in events:
            assert COVER[each.after].some in sentence and each.place in sentence


def test_questions_have_the_answers_that_happened() -> None:
    asked = {each.question: each.answer for each in questions([event("building", "tree", (0, 0), 32)])}
    assert asked["has anything changed?"] == "yes"
    assert asked["how many areas have changed?"] == "1"
    assert asked["is there new buildings?"] == "yes" if "is there new buildings?" in asked else True
    assert asked["what is now in the upper left?"] == "buildings"
    assert asked["what was in the upper left before?"] == "forest"
    assert asked["how much of the picture has changed?"] == "10 to 20 %"
    assert {each.question: each.answer for each in questions([])}["how much of the picture has changed?"] == "0 %"


# --- Masks as COCO has them ---

masks = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@given(masks)
def test_run_lengths_are_those_of_pycocotools(mask: Mask) -> None:
    ours = run_lengths(mask)
    assert np.array_equal(mask_of(ours), mask)
    theirs = coco_mask.frPyObjects(ours, *mask.shape)
    assert theirs["counts"] == coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


@given(masks.filter(lambda mask: mask.any()))
def test_polygons_have_the_pixels_of_the_mask_and_no_holes(mask: Mask) -> None:
    from rasterio.features import rasterize

    drawn = np.zeros(mask.shape, dtype=int)
    for ring in polygons_of(mask):
        points = list(zip(ring[::2], ring[1::2], strict=True))
        shape = {"type": "Polygon", "coordinates": [[*points, points[0]]]}
        drawn += rasterize([(shape, 1)], out_shape=mask.shape)
    assert np.array_equal(drawn, mask.astype(int))
    x, y, width, height = bbox_of(mask)
    assert mask[y : y + height, x : x + width].sum() == mask.sum()


# --- Runs ---


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("whole") / "dump"
    assert dump(path, spec_of(count=12)).complete
    return content(path)


def test_shards_in_any_order_make_the_same_bytes(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    spec = spec_of(count=12)
    ends = [dump(tmp_path / "dump", spec, resume=True, shard=(number, 4)) for number in (2, 0, 3, 1)]
    assert [end.complete for end in ends] == [False, False, False, True]
    assert content(tmp_path / "dump") == undisturbed


@given(specs, st.integers(1, 40))
def test_shards_are_all_items_once_and_whole_scenes(spec: DumpSpec, count: int) -> None:
    ranges = [shard_range(spec, number, count) for number in range(count)]
    assert ranges[0][0] == 0 and ranges[-1][1] == spec.count
    for (_, end), (first, _) in pairwise(ranges):
        assert end == first and (end % spec.tiles_per_scene == 0 or end == spec.count)
    with pytest.raises(DumpSpecError, match="shard is"):
        shard_range(spec, count, count)


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_format_is_the_same_after_limits_and_resumes(tmp_path: Path, form: str) -> None:
    tasks = {"levir-mci": "change-caption", "second": "semantic-change", "nerf": "multi-view"}
    spec = spec_of(tasks.get(form, "change-detection"), form, count=5, size=64, views=6)
    assert dump(tmp_path / "whole", spec).complete
    stopped = dump(tmp_path / "parts", spec, limits=Limits(seconds=0.0))
    assert stopped == Outcome(0, 5, False, "the limit of 0 seconds is reached")
    stopped = dump(tmp_path / "parts", spec, resume=True, limits=Limits(bytes=1000))
    assert stopped.made == 1 and "limit of 1000 bytes" in stopped.stopped
    assert dump(tmp_path / "parts", spec, resume=True).complete
    assert content(tmp_path / "parts") == content(tmp_path / "whole")
    assert dump(tmp_path / "parts", spec, resume=True) == Outcome(0, 0, True)
    assert {name for name in content(tmp_path / "whole") if name.startswith(".earthgen")} == {".earthgen/dump.json"}


def test_a_run_killed_fifty_times_and_resumed_makes_the_same_bytes(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    path, spec = tmp_path / "dump", spec_of(count=12)
    chance = np.random.default_rng(1)
    killed = 0
    for _ in range(50):
        child = os.fork()
        if child == 0:
            try:
                dump(path, spec, resume=True, opener=PaintingOpener())
            finally:
                os._exit(0)
        time.sleep(float(chance.uniform(0.0, 0.05)))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert killed >= 5
    assert dump(path, spec, resume=True).complete
    assert content(path) == undisturbed


def test_workers_that_are_killed_are_replaced(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    licences = tmp_path / "licences"
    licences.mkdir()
    for number in range(3):
        (licences / f"kill-{number}").touch()
    opener = PaintingOpener(kills=licences)
    outcome = dump(tmp_path / "dump", spec_of(count=12), opener=opener, backend="process", workers=2)
    assert outcome == Outcome(12, 0, True) or outcome.complete
    assert not list(licences.iterdir())
    assert content(tmp_path / "dump") == undisturbed


def test_workers_that_never_finish_anything_stop_the_run_with_a_sentence(tmp_path: Path) -> None:
    licences = tmp_path / "licences"
    licences.mkdir()
    for number in range(40):
        (licences / f"kill-{number}").touch()
    opener = PaintingOpener(delay=5.0, kills=licences)
    with pytest.raises(DumpError, match="workers died 2 times"):
        dump(tmp_path / "dump", spec_of(), opener=opener, backend="process", workers=1, limits=Limits(retries=1))


def test_a_full_disk_stops_with_a_sentence_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    path, spec = tmp_path / "dump", spec_of(count=12)
    calls = 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 30:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DumpError, match=r"disk of .* is full; finished items are kept"):
        dump(path, spec)
    kept = 12 - len(DumpFolder.open(path).missing(0, 12))
    assert kept >= 5
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    outcome = dump(path, spec, resume=True)
    assert outcome == Outcome(12 - kept, 0, True)
    assert content(path) == undisturbed


def test_a_disk_that_is_full_at_the_end_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    path, spec = tmp_path / "dump", spec_of(count=12)
    dump(path, spec, shard=(0, 2))
    write = DumpFolder.write

    def full(self: DumpFolder, name: str, what: bytes) -> None:
        if name == "README.md":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, name, what)

    monkeypatch.setattr(DumpFolder, "write", full)
    with pytest.raises(DumpError, match="all items are kept"):
        dump(path, spec, resume=True)
    monkeypatch.undo()
    assert dump(path, spec, resume=True) == Outcome(0, 0, True)
    assert content(path) == undisturbed


def test_an_item_that_fails_is_tried_again_and_then_named(tmp_path: Path) -> None:
    class Flaky(PaintingMaker):
        failures = 2

        def __init__(self) -> None:
            super().__init__()
            paint = self.engine.pixels

            def pixels(world: Any, box: Any, **_: Any) -> Any:
                if Flaky.failures:
                    Flaky.failures -= 1
                    raise RuntimeError("a cosmic ray")
                return paint(world, box)

            self.engine.pixels = pixels  # type: ignore[method-assign]

    assert dump(tmp_path / "one", spec_of(), maker=Flaky()).complete
    Flaky.failures = 99
    with pytest.raises(DumpError, match="item 0 failed 3 times: RuntimeError: a cosmic ray"):
        dump(tmp_path / "two", spec_of(), maker=Flaky(), limits=Limits(retries=2))


def test_another_dump_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    dump(path, spec_of(), limits=Limits(seconds=0.0))
    before = content(path)
    with pytest.raises(DumpError, match="go on with it by --resume"):
        dump(path, spec_of())
    with pytest.raises(DumpSpecError, match=r"holds another dump \(seed 0 there, 1 here\)"):
        dump(path, spec_of(seed=1), resume=True)
    with pytest.raises(DumpSpecError, match="weights paint there, other here"):
        DumpFolder.create(path, spec_of(), MADE_BY | {"weights": "other"}, resume=True)
    assert content(path) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "holiday.jpg").touch()
    with pytest.raises(DumpError, match="holds something else"):
        dump(tmp_path / "other", spec_of(), resume=True)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    dump(path, spec_of(), shard=(0, 3))
    (damaged,) = sorted(path.rglob("00000001.json"))
    damaged.write_text("{")
    with pytest.raises(DumpError, match="is damaged; delete it"):
        dump(path, spec_of(), resume=True)


@pytest.mark.slow
def test_ray_makes_the_same_bytes(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    pytest.importorskip("ray")
    from tests.ray_dump import in_its_own_process

    in_its_own_process(tmp_path / "dump", 12)
    assert content(tmp_path / "dump") == undisturbed


def test_zooms_are_those_of_worlds_by_prompt() -> None:
    from earthgen.world import World

    for gsd in (0.3, 0.6, 2.4, 9.6, 38.0):
        assert zoom_of(gsd) == World("prompt", 0, "x", gsd=gsd).root_zoom + 2

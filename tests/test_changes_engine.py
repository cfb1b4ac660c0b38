"""Pairs from the engine: a recipe is its index, change is what changed class and shows, a folder goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets import changes_engine
from datasets.changes_engine import SIDE, Recipe, compute, generate, read_engine_pairs, recipe, split_of
from earthgen.editing import FEATHER, layers_of
from earthgen.engine import Engine
from earthgen.pyramid import Box, world_size
from earthgen.world import Edit, World
from trainingsets.changes import CLASSES, Bytes


class PaintedEngine:
    """Paints each edit by prompt in a grey of its own, and nothing else; counts what it is asked for."""

    weights_id = "painted"
    calls = 0

    def __enter__(self) -> PaintedEngine:
        return self

    def __exit__(self, *_: object) -> None: ...

    def pixels(self, world: World, box: Box) -> Bytes:
        self.calls += 1
        shown = np.full((box.height, box.width, 3), 100, dtype=np.float64)
        for layer in layers_of(world):
            share = changes_engine._share(layer, box)[..., None]
            grey = 100 if layer.edit.action != "prompt" else 20 + 30 * (len(layer.edit.prompt) % 7)
            if grey != 100:
                shown += share * (grey - shown)
        return shown.astype(np.uint8)


def square(box: Box, top: int, left: int, side: int) -> tuple[tuple[float, float], ...]:
    corners = ((top, left), (top, left + side), (top + side, left + side), (top + side, left))
    return tuple(changes_engine._place(box.zoom, box.row + row, box.column + column) for row, column in corners)


@pytest.fixture
def box() -> Box:
    middle = world_size(18) // 2
    return Box(18, middle, middle, SIDE, SIDE)


def one_change(box: Box, prompt: str, name: str) -> Recipe:
    before = World(root="prompt", prompt="meadow", gsd=0.6, seed=1)
    edit = Edit(square(box, 40, 60, 80), prompt, seed=2)
    return Recipe(0, before, replace(before, edits=(edit,)), box, "low vegetation", (), (name,))


def test_a_recipe_is_its_index() -> None:
    assert recipe(17) == recipe(17)
    assert recipe(17) != recipe(18)


def test_recipes_are_varied_and_of_all_classes() -> None:
    some = [recipe(index) for index in range(150)]
    assert {what.cover for what in some} == {None, "low vegetation", "bare ground", "tree", "water", "building"}
    assert {name for what in some for name in what.changes} == {*CLASSES} - {"road"}
    assert {what.before.root for what in some} == {"earth", "prompt"}
    assert sum(not what.changes for what in some) in range(8, 40)


def test_both_dates_share_the_layout_and_only_the_second_has_the_change() -> None:
    for index in range(60):
        what = recipe(index)
        common, changing = len(what.layout), len(what.changes)
        before, after = what.before.edits, what.after.edits
        assert before[:common] == after[:common]
        still = before[common:] + after[common : len(after) - changing]
        assert 1 <= len(still) <= 2
        assert {edit.action for edit in still} <= {"reseed", "autumn", "summer", "haze"}
        # What changes lies on top.
        assert {edit.action for edit in after[len(after) - changing :]} <= {"prompt", "burn", "flood"}


def test_houses_are_never_generated_anew_as_if_nothing_had_changed() -> None:
    for index in range(200):
        what = recipe(index)
        if what.cover in (None, "building") or "building" in what.layout:
            assert all(edit.action != "reseed" for edit in what.before.edits + what.after.edits)


def test_every_fifth_index_is_held_out() -> None:
    assert [split_of(index) for index in range(10)] == ["train"] * 4 + ["val"] + ["train"] * 4 + ["val"]


def test_what_is_asked_for_is_the_change(box: Box) -> None:
    found = compute(PaintedEngine(), one_change(box, "water", "water"))  # type: ignore[arg-type]
    rows, columns = np.nonzero(found.change)
    assert (abs(np.array([rows.min(), rows.max(), columns.min(), columns.max()]) - (40, 119, 60, 139)) <= 3).all()
    assert (found.cover_after[found.change] == 1 + CLASSES.index("water")).all()
    assert (found.cover_before == 1).all()
    # Not known is the rim over which the edit fades in, no more.
    assert 0 < (~found.known).sum() <= 4 * 84 * FEATHER
    assert found.known[box.height - 1].all()
    moved = (found.before != found.after).any(axis=-1)
    assert (moved == (found.change | ~found.known) & moved).all()


def test_a_prompt_that_is_not_heard_is_not_known(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_engine, "_shows", lambda *_: False)
    found = compute(PaintedEngine(), one_change(box, "water", "water"))  # type: ignore[arg-type]
    assert not (found.change & found.known).any()


def test_the_same_class_is_no_change(box: Box) -> None:
    found = compute(PaintedEngine(), one_change(box, "lawn", "low vegetation"))  # type: ignore[arg-type]
    assert not found.change.any()


def test_a_difference_shows_in_colour_or_in_contrast() -> None:
    flat = np.full((8, 8, 3), 100, dtype=np.uint8)
    inside = np.ones((8, 8), dtype=np.bool_)
    rough = flat.copy()
    rough[::2] += 20
    rough[1::2] -= 20
    assert not changes_engine._shows(flat, flat + 3, inside)
    assert changes_engine._shows(flat, flat + 10, inside)
    assert changes_engine._shows(flat, rough, inside)
    assert not changes_engine._shows(flat, rough, ~inside)


def test_a_folder_goes_on_and_is_read_by_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = PaintedEngine()
    monkeypatch.setattr(Engine, "open", lambda *_, **__: engine)
    generate(tmp_path, 4)
    assert engine.calls == 8
    generate(tmp_path, 6)
    assert engine.calls == 12
    train, val = (list(read_engine_pairs(tmp_path, split)) for split in ("train", "val"))
    assert [one.name for one in train] == ["00000", "00001", "00002", "00003", "00005"]
    assert [one.name for one in val] == ["00004"]
    made = compute(engine, recipe(4))  # type: ignore[arg-type]
    assert (val[0].after == made.after).all()
    assert (val[0].change == made.change).all()
    assert not list(tmp_path.glob(".*"))


def test_a_folder_of_other_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = PaintedEngine()
    monkeypatch.setattr(Engine, "open", lambda *_, **__: engine)
    generate(tmp_path, 1)
    engine.weights_id = "others"
    with pytest.raises(ValueError, match="other weights made"):
        generate(tmp_path, 2)


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m datasets\.changes_engine"):
        list(read_engine_pairs(tmp_path, "train"))

"""Phrases about labelled pictures: each is true and unambiguous, judged again here from the masks alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from datasets.referring import (
    COLOURS,
    KINDS,
    Scene,
    all_phrases,
    colour_verdicts,
    lab_of,
    phrases_of,
    things_in,
)
from datasets.referring_sets import Ground, SceneSampler, heard, held_out_scenes
from trainingsets.changes import CLASSES

SIDE = 120
PAINT = {"low vegetation": (88, 118, 62), "water": (70, 110, 160), "building": (165, 70, 58), "road": (140, 140, 140)}


def painted(*areas: tuple[str, int, int, int, int], ground: str = "low vegetation", single: bool = True) -> Scene:
    """A scene of rectangles: kind, top, left, height, width."""
    codes = np.full((SIDE, SIDE), 1 + KINDS.index(ground), dtype=np.uint8)
    for kind, top, left, height, width in areas:
        codes[top : top + height, left : left + width] = 1 + KINDS.index(kind)
    pixels = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    for kind, colour in PAINT.items():
        pixels[codes == 1 + KINDS.index(kind)] = colour
    return Scene("made up", "0", "0", pixels, codes, np.ones(codes.shape, dtype=bool), CLASSES, single)


def said_of(scene: Scene, draws: int = 30) -> dict[str, np.ndarray]:
    """Every phrase that some draw of words makes."""
    return {
        phrase.text: phrase.mask for seed in range(draws) for phrase in all_phrases(scene, np.random.default_rng(seed))
    }


TOWN = painted(
    ("road", 0, 60, SIDE, 8), ("building", 10, 10, 12, 12), ("building", 40, 20, 24, 24), ("building", 20, 90, 26, 28),
    ("water", 96, 80, 20, 36),
)  # fmt: skip


def only(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_the_largest_building_left_of_the_road_is_the_one() -> None:
    said = said_of(TOWN)
    assert np.array_equal(said["the largest building left of the road"], only(40, 20, 24, 24))
    assert np.array_equal(said["the smallest building"], only(10, 10, 12, 12))
    assert np.array_equal(said["the rightmost building"], only(20, 90, 26, 28))
    assert np.array_equal(said["the building right of the road"], only(20, 90, 26, 28))
    assert np.array_equal(said["the buildings left of the road"], only(10, 10, 12, 12) | only(40, 20, 24, 24))
    assert np.array_equal(said["the water"], only(96, 80, 20, 36))
    assert np.array_equal(said["the lake in the bottom right corner"], only(96, 80, 20, 36))


def test_what_is_nearly_as_large_is_not_called_the_largest() -> None:
    said = said_of(painted(("building", 10, 10, 20, 20), ("building", 60, 60, 21, 21)))
    assert not [text for text in said if "largest" in text or "smallest" in text]
    assert [text for text in said if "topmost building" in text]


def test_what_is_unclear_is_not_said() -> None:
    # One building lies half in the left half.
    said = said_of(painted(("building", 10, 50, 20, 20), ("building", 60, 90, 20, 20)))
    assert not [text for text in said if "in the left half" in text or "in the right half" in text]
    # Two roads: "left of the road" says nothing.
    said = said_of(painted(("road", 0, 30, SIDE, 6), ("road", 0, 80, SIDE, 6), ("building", 10, 10, 14, 14)))
    assert not [text for text in said if "of the road" in text or "of the street" in text]


def test_nothing_but_the_class_is_said_where_much_is_unknown() -> None:
    known = np.ones((SIDE, SIDE), dtype=bool)
    known[:40] = False
    scene = Scene("made up", "0", "0", TOWN.pixels, TOWN.codes, known, CLASSES, True)
    phrases = list(all_phrases(scene, np.random.default_rng(0)))
    assert {phrase.sort for phrase in phrases} == {"class"}
    assert all(np.array_equal(phrase.known, known) for phrase in phrases)
    assert not any((phrase.mask & ~known).any() for phrase in phrases)


def test_absent_things_are_absent_and_labelled_wherever_they_are() -> None:
    absent = [phrase for phrase in all_phrases(TOWN, np.random.default_rng(0)) if phrase.sort == "absent"]
    assert {phrase.kind for phrase in absent} == {"bare ground", "tree"}
    assert not any(phrase.mask.any() for phrase in absent)
    roofs = Scene("made up", "0", "0", TOWN.pixels, TOWN.codes, TOWN.known, ("building",), True)
    assert not [phrase for phrase in all_phrases(roofs, np.random.default_rng(0)) if phrase.sort == "absent"]


def test_phrases_hold_for_scenes_by_chance() -> None:
    random = np.random.default_rng(1)
    superlatives = 0
    for _ in range(12):
        areas = []
        for _ in range(7):
            (top, left), (height, width) = random.integers(0, 90, 2).tolist(), random.integers(8, 40, 2).tolist()
            areas.append((str(random.choice(list(PAINT))), top, left, height, width))
        scene = painted(*areas)
        for phrase in all_phrases(scene, random):
            codes = scene.codes == 1 + KINDS.index(phrase.kind)
            assert not (phrase.mask & ~codes).any()
            assert phrase.mask.any() == (phrase.sort != "absent")
            labels, count = ndimage.label(codes, structure=np.ones((3, 3)))
            sizes = ndimage.sum_labels(codes, labels, range(1, count + 1))
            touched = np.unique(labels[phrase.mask])
            # Instances are taken whole.
            assert phrase.mask.sum() == sum(sizes[number - 1] for number in touched)
            if phrase.text.startswith(("the largest ", "the biggest ")) and phrase.sort == "size":
                superlatives += 1
                assert phrase.mask.sum() == sizes.max()
    assert superlatives > 5


def test_chosen_phrases_are_of_many_sorts_and_repeatable() -> None:
    chosen = phrases_of(TOWN, np.random.default_rng(3), 8)
    again = phrases_of(TOWN, np.random.default_rng(3), 8)
    assert [phrase.text for phrase in chosen] == [phrase.text for phrase in again]
    assert len(chosen) == 8
    assert len({phrase.sort for phrase in chosen}) >= 5
    assert sum(phrase.sort == "absent" for phrase in chosen) == 1


def test_colours_bear_their_names() -> None:
    # CIELAB of sRGB white, black and red (D65).
    assert np.allclose(lab_of([255, 255, 255]), [100, 0, 0], atol=0.02)
    assert np.allclose(lab_of([0, 0, 0]), 0, atol=1e-6)
    assert np.allclose(lab_of([255, 0, 0]), [53.24, 80.09, 67.20], atol=0.05)
    for name, colour in COLOURS.items():
        assert colour_verdicts(lab_of([colour]), name).tolist() == [1]
    assert colour_verdicts(lab_of([COLOURS["green"]]), "white").tolist() == [0]
    between = (np.array(COLOURS["brown"]) + np.array(COLOURS["dark"])) / 2
    assert colour_verdicts(lab_of([between]), "brown").tolist() == [-1]


def test_rivers_are_long_and_lakes_are_not() -> None:
    pixels = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    assert "river" in things_in(only(50, 0, 8, SIDE), "water", pixels, False).noun.one
    assert "lake" in things_in(only(40, 40, 30, 30), "water", pixels, False).noun.one
    assert "lake" not in things_in(only(50, 0, 8, SIDE), "water", pixels, False).noun.one


def test_edits_that_were_not_heard_are_unknown() -> None:
    cover = np.ones((SIDE, SIDE), dtype=np.uint8)
    cover[20:50, 20:50], cover[70:100, 70:100] = 4, 5
    pixels = np.random.default_rng(0).integers(100, 110, (SIDE, SIDE, 3)).astype(np.uint8)
    pixels[70:100, 70:100] = 180
    clear = heard(pixels, cover)
    assert clear[80, 80] and not clear[30, 30] and clear[5, 100]


def ground(name: str = "a", side: int = 300) -> Ground:
    codes = np.kron(TOWN.codes, np.ones((3, 3), dtype=np.uint8))[:side, :side]
    pixels = np.kron(TOWN.pixels, np.ones((3, 3, 1), dtype=np.uint8))[:side, :side]
    return Ground("dubai", name, name, pixels, codes, np.ones_like(codes, dtype=bool), CLASSES, (100, 200), True)


def test_scenes_are_cut_with_their_labels() -> None:
    scene = ground().cut(0, 0, 300, 300, quarters=1, mirrored=True)
    assert scene.pixels.shape == (256, 256, 3) and scene.codes.shape == (256, 256)
    water = scene.codes == 1 + KINDS.index("water")
    blue = np.abs(scene.pixels.astype(int) - PAINT["water"]).max(axis=-1) < 6
    assert (water & blue).sum() > 0.9 * water.sum() > 0
    sampler = SceneSampler([ground("a"), ground("b")], seed=3)
    one, again, other = sampler.draw(5), sampler.draw(5), sampler.draw(6)
    assert np.array_equal(one.pixels, again.pixels) and np.array_equal(one.codes, again.codes)
    assert not np.array_equal(one.codes, other.codes)
    assert len(list(held_out_scenes([ground()]))) == 1
    with pytest.raises(ValueError, match="no labelled pictures"):
        SceneSampler([])

"""Two detectors as one: whose word counts for what, and that an area speaks for its pixels."""

from __future__ import annotations

import numpy as np
from affine import Affine

from perception.naming import NamedChanges, by_area, without_specks
from perception.pair import Pair
from tests.fake_detector import CLASSES, DifferenceDetector


def logits_of(codes: np.ndarray, classes: int, strength: float = 2.0) -> np.ndarray:
    """Class logits (k, h, w) that are for the codes (h, w)."""
    return np.stack([np.where(codes == code, strength, 0.0) for code in range(classes)]).astype(np.float32)


def test_a_class_of_a_few_pixels_gives_way_to_that_of_their_area() -> None:
    mask = np.zeros((20, 20), dtype=np.bool_)
    mask[4:12, 4:12] = True
    before, after = np.zeros((20, 20), dtype=np.int64), np.ones((20, 20), dtype=np.int64)
    after[5, 5:7] = 2
    after[15, 15] = 2
    scores = by_area(np.stack([logits_of(before, 3), logits_of(after, 3)]), mask)
    assert (scores[0].argmax(axis=0) == 0).all()
    named = scores[1].argmax(axis=0)
    assert (named[mask] == 1).all()
    # Where nothing changed, nobody else has a say.
    assert named[15, 15] == 2


def test_an_area_does_not_speak_for_another_and_halves_of_one_keep_their_classes() -> None:
    mask = np.zeros((12, 24), dtype=np.bool_)
    mask[2:10, 2:10] = mask[2:10, 14:22] = True
    codes = np.zeros((12, 24), dtype=np.int64)
    codes[:, 12:] = 1
    named = by_area(np.stack([logits_of(codes, 2)] * 2), mask)[0].argmax(axis=0)
    np.testing.assert_array_equal(named, codes)
    whole = np.ones_like(mask)
    # Two things that touch are one area: each pixel's own word is as heavy as that of all.
    np.testing.assert_array_equal(by_area(np.stack([logits_of(codes, 2)] * 2), whole)[0].argmax(axis=0), codes)


def test_pixels_that_touch_at_a_corner_are_one_area() -> None:
    mask = np.eye(5, dtype=np.bool_)
    codes = np.ones((5, 5), dtype=np.int64)
    codes[0, 0] = 0
    assert by_area(np.stack([logits_of(codes, 2)] * 2), mask)[0].argmax(axis=0)[0, 0] == 1


def test_no_change_leaves_log_probabilities() -> None:
    semantics = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    scores = by_area(semantics, np.zeros((8, 8), dtype=np.bool_))
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(scores.argmax(axis=1), semantics.argmax(axis=1))


def test_specks_are_dropped_and_areas_kept() -> None:
    mask = np.zeros((16, 16), dtype=np.bool_)
    mask[:4, :8] = True
    mask[8, 8] = mask[14:, 4:8] = True
    expected = mask.copy()
    expected[8:] = False
    np.testing.assert_array_equal(without_specks(mask), expected)
    np.testing.assert_array_equal(without_specks(mask, 1), mask)
    assert not without_specks(np.zeros_like(mask)).any()


def test_the_first_says_where_and_the_second_what() -> None:
    before, after = np.zeros((16, 16, 3), dtype=np.uint8), np.zeros((16, 16, 3), dtype=np.uint8)
    after[2:8, 2:8] = 200
    finder, namer = DifferenceDetector("finder"), DifferenceDetector("namer", CLASSES)
    found = NamedChanges(finder, namer).detect(pair_of(before, after))
    assert found.model == "finder, named by namer"
    assert found.classes == CLASSES
    labels = found.labels
    assert labels is not None
    np.testing.assert_array_equal(found.mask, (before != after).any(axis=-1))
    assert set(labels[0][found.mask]) == {1} and set(labels[1][found.mask]) == {2}
    NamedChanges(finder, namer).detect(pair_of(before, after), classes=["dark", "bright", "snow"])
    assert finder.asked[-1][1] is None
    assert namer.asked[-1][1] == ["dark", "bright", "snow"]


def pair_of(before: np.ndarray, after: np.ndarray) -> Pair:
    """A pair without a reference system."""
    return Pair(before, after, Affine.identity(), None)

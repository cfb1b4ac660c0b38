"""Captions: true words for crops, the same everywhere, and quick to draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datasets.captions
from datasets.captions import CaptionBook, caption_vectors, captions, measure, phrases, phrases_table
from datasets.packs import PACKS
from datasets.pyramids import Level
from datasets.scenes import SCENES, scene_of

Pixels = npt.NDArray[np.uint8]


class CountingEncoder:
    """Unit vectors that depend on the text's bytes alone."""

    id = "counting"
    width = 4

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, text: str) -> npt.NDArray[np.float32]:
        vector = np.frombuffer(text.encode().ljust(4, b" ")[:4], np.uint8).astype(np.float32)
        return vector / np.linalg.norm(vector)

    def encode_batch(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.encoded += len(texts)
        return np.stack([self.encode(text) for text in texts])

    def tokens(self, text: str) -> npt.NDArray[np.float32]:
        return self.encode(text)[None]


def paint(colour: tuple[int, int, int], noise: int = 0, side: int = 128) -> Pixels:
    """One colour, with grey noise on every other pixel block."""
    grain = np.random.default_rng(0).integers(-noise, noise + 1, (side // 2, side // 2, 1)).repeat(2, 0).repeat(2, 1)
    return np.clip(np.array(colour) + grain, 0, 255).astype(np.uint8)


SEA, FOREST, MEADOW, SAND, CITY, SNOW = (
    paint((20, 50, 80)),
    paint((40, 60, 35), 12),
    paint((110, 140, 80), 4),
    paint((220, 170, 110), 4),
    paint((130, 130, 130), 90),
    paint((240, 242, 245), 4),
)


@pytest.mark.parametrize(
    ("pixels", "index", "tone"),
    [(SEA, 0, "blue"), (FOREST, 1, "green"), (MEADOW, 2, "green"), (SAND, 3, "brown"), (SNOW, 5, "bright")],
)
def test_plain_covers_are_recognised(pixels: Pixels, index: int, tone: str) -> None:
    seen = measure(pixels)
    assert seen.shares[index] > 0.9
    assert seen.tone == tone
    assert sum(seen.shares) <= 1.0 + 1e-6


def test_buildings_are_grey_and_rough() -> None:
    assert measure(CITY).shares[4] > 0.9


def test_eurosat_speaks_of_its_classes() -> None:
    assert captions("s2_eurosat_10m", "s2_eurosat_10m/River/River_892.jpg", 10.0)[0] == "river"
    assert "dense forest" in captions("s2_eurosat_10m", "Forest/Forest_1.jpg", 10.0, FOREST)
    assert "vineyard" in captions("s2_eurosat_10m", "PermanentCrop/PermanentCrop_7.jpg", 10.0)
    assert "highway at 10 m per pixel" in captions("s2_eurosat_10m", "Highway/Highway_7.jpg", 10.0)


def test_a_large_picture_says_what_the_crop_shows() -> None:
    where = ("planet_california_3m", "planet_california_3m/train_shipsnet_scene1.jpg", 3.0)
    assert "open sea" in captions(*where, SEA)
    assert "dense city" in captions(*where, CITY)
    half = np.concatenate([SEA[:, :64], CITY[:, 64:]], axis=1)
    assert "harbour" in captions(*where, half)
    assert not {"dense city", "open sea"} & set(captions(*where, half))


def test_words_follow_the_resolution() -> None:
    near = captions("swissimage_0.41m", "train_sw1_0.jpg", 0.41, FOREST)
    far = captions("swissimage_0.41m", "train_sw1_0.jpg", 26.0, FOREST)
    assert "aerial photograph of dense forest" in near
    assert "dense forest at 20 m per pixel" in far
    assert not any("photograph" in text for text in far)


def test_place_and_season_are_said_where_they_are_known() -> None:
    texts = captions("s2_ecomapper_10m", "train_3842_2017-02.jpg", 10.0)
    assert "farmland with fields in winter" in texts
    assert not any("summer" in text for text in texts)
    assert "harbour in San Francisco" in captions(
        "planet_california_3m", "train_shipsnet_scene4.jpg", 3.0, np.concatenate([SEA[:64], CITY[64:]])
    )


def test_every_pack_is_described_and_short_nouns_are_there() -> None:
    told = phrases()
    assert set(told) == {pack.name for pack in PACKS} | {"global"}
    nouns = {noun for group in told.values() for noun in group}
    assert {
        "dense forest",
        "suburb with streets and houses",
        "farmland with fields",
        "desert",
        "river",
        "lake",
        "open sea",
        "coast",
        "mountains with snow",
        "harbour",
        "airport runway",
        "highway",
        "village",
        "industrial area",
        "vineyard",
    } <= nouns
    assert all("any" in scene.nouns and all(scene.nouns.values()) for scene in SCENES)


def test_the_documented_table_is_the_current_one() -> None:
    page = Path(__file__).parent.parent / "docs" / "prompts.md"
    assert phrases_table() in page.read_text(), "put the output of python -m datasets.captions into docs/prompts.md"


def test_a_picture_that_nobody_described_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"add one to datasets/scenes\.py"):
        scene_of("s2_eurosat_10m", "Volcano/Volcano_1.jpg", 10.0)


def levels() -> list[Level]:
    return [
        Level("s2_eurosat_10m", "s2_eurosat_10m/River/River_1.jpg", 10.0, MEADOW),
        Level("swissimage_0.41m", "swissimage_0.41m/train_sw1_0.jpg", 0.41, FOREST),
        Level("swissimage_0.41m", "swissimage_0.41m/train_sw1_0.jpg", 26.0, FOREST),
        Level("global", "global/blue_marble_+15_0", 4892.0, SEA),
    ]


def test_a_book_holds_all_that_it_can_draw_and_draws_by_chance_alone() -> None:
    book = CaptionBook.build(levels(), CountingEncoder())
    assert book.vectors.shape == (len(book.texts), 4)
    for level in levels():
        for crop in (SEA, FOREST, MEADOW, SAND, CITY, SNOW):
            allowed = set(captions(level.pack, level.name, level.gsd, crop))
            drawn = [book.draw(level, crop, np.random.default_rng(seed)) for seed in range(30)]
            assert {book.texts[index] for index in drawn} <= allowed
            assert drawn == [book.draw(level, crop, np.random.default_rng(seed)) for seed in range(30)]


def test_short_nouns_are_drawn_most() -> None:
    book = CaptionBook.build(levels(), CountingEncoder())
    rng = np.random.default_rng(0)
    counts = Counter(book.texts[book.draw(levels()[1], FOREST, rng)] for _ in range(1000))
    short = sum(counts[noun] for noun in ("dense forest", "coniferous forest", "forest", "mountain forest"))
    assert 330 < short < 470
    assert len(counts) > 10


@settings(max_examples=25)
@given(st.floats(0.25, 50_000), st.integers(0, 2**32), st.integers(16, 160))
def test_any_crop_has_captions(gsd: float, seed: int, side: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    texts = captions("s2_eurosat_10m", "Forest/Forest_1.jpg", gsd, pixels)
    assert texts
    assert len(set(texts)) == len(texts)
    assert all(text == text.strip() and "  " not in text and len(text) < 120 for text in texts)


def test_vectors_are_kept_between_runs_and_half_a_file_is_made_again(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    first = caption_vectors(["river", "lake"], encoder, tmp_path)
    assert np.array_equal(caption_vectors(["river", "lake"], encoder, tmp_path), first)
    assert encoder.encoded == 2
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:140])
    assert np.array_equal(caption_vectors(["river", "lake"], encoder, tmp_path), first)
    assert encoder.encoded == 4
    caption_vectors(["river", "sea"], encoder, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_book_that_would_take_long_to_encode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.captions, "MAX_CAPTIONS", 10)
    with pytest.raises(ValueError, match="at most 10"):
        CaptionBook.build(levels(), CountingEncoder())

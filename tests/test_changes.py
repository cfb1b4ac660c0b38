"""Pairs of dates: turns and crops keep labels with pixels, date effects are fair, draws can be repeated."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets.changes_real import WITH_DATES, read_real_pairs
from datasets.packs import DatasetNotFoundError
from trainingsets.changes import (
    CLASSES,
    Bytes,
    ChangeSample,
    ChangeSampler,
    Mask,
    batch_of,
    date_effects,
    dated,
    generator,
)


def sample(side: int = 40, source: str = "made", name: str = "one") -> ChangeSample:
    """A meadow on which a house appears; its red is nowhere else."""
    random = generator(1, side)
    before = random.integers(90, 120, (side, side, 3), dtype=np.uint8)
    after, change = before.copy(), np.zeros((side, side), dtype=np.bool_)
    change[4:14, 6:20] = True
    after[change] = (220, 40, 30)
    cover = np.ones((side, side), dtype=np.uint8)
    later = np.where(change, 1 + CLASSES.index("building"), cover).astype(np.uint8)
    return ChangeSample(source, name, name, before, after, change, np.ones_like(change), cover, later)


def is_red(pixels: Bytes) -> Mask:
    return np.asarray(pixels[..., 0].astype(int) - pixels[..., 1] > 100)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 7), st.booleans(), st.integers(0, 24), st.integers(0, 24))
def test_labels_stay_with_their_pixels(quarters: int, mirrored: bool, top: int, left: int) -> None:
    moved = sample().crop(top, left, 16).turned(quarters, mirrored)
    assert (is_red(moved.after) == moved.change).all()
    assert (moved.cover_after == np.where(moved.change, 5, 1)).all()


def test_swapped_dates_swap_everything_but_the_change() -> None:
    one = sample()
    other = one.swapped()
    assert other.before is one.after
    assert other.cover_after is one.cover_before
    assert other.change is one.change
    assert other.swapped().before is one.before


def test_date_effects_are_drawn_apart_and_change_no_label() -> None:
    one = sample()
    shown = dated(one, generator(3))
    assert shown.change is one.change
    assert (shown.before[~one.change] != shown.after[~one.change]).any()
    assert (dated(one, generator(3)).after == shown.after).all()


def test_date_effects_draw_the_same_numbers_for_any_picture() -> None:
    random = generator(4)
    date_effects(np.zeros((24, 24, 3), dtype=np.uint8), random)
    other = generator(4)
    date_effects(sample(24).after, other)
    assert random.integers(2**62) == other.integers(2**62)


def test_neither_date_can_be_told_by_its_look() -> None:
    """Over many draws both dates of an unchanged place are as bright, as contrasty and as noisy."""
    picture = generator(5).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    looks = []
    for number in range(300):
        random = generator(6, number)
        for date in range(2):
            shown = date_effects(picture, random).astype(float)
            looks.append((date, shown.mean(), shown.std(), np.abs(np.diff(shown, axis=0)).mean()))
    dates, values = np.array([look[0] for look in looks]), np.array([look[1:] for look in looks])
    for column in values.T:
        first, second = column[dates == 0], column[dates == 1]
        # Means of 300 draws lie within four standard errors.
        assert abs(first.mean() - second.mean()) < 4 * np.sqrt((first.var() + second.var()) / 300)


def test_stronger_dates_differ_more() -> None:
    picture = sample(32).before

    def apart(strength: float) -> float:
        drawn = (dated(sample(32), generator(9, number), strength) for number in range(40))
        return float(np.mean([abs(one.before.mean() - one.after.mean()) for one in drawn]))

    assert apart(0.0) < apart(1.0) < apart(2.0)
    assert (date_effects(picture, generator(1)) == date_effects(picture, generator(1), 1.0)).all()


def test_an_offset_moves_at_most_half_a_pixel() -> None:
    """The middle of a dot, averaged over draws, stays; in each it moves by less than a pixel."""
    dot = np.zeros((15, 15, 3), dtype=np.uint8)
    dot[6:9, 6:9] = 200
    rows = np.arange(15)
    for number in range(40):
        shown = date_effects(dot, generator(7, number)).astype(float).mean(axis=-1)
        shown = np.clip(shown - np.percentile(shown, 80) - 12, 0, None)
        assert abs((shown.sum(axis=1) @ rows) / shown.sum() - 7) < 0.75


def test_draws_are_addressed_by_number() -> None:
    sampler = ChangeSampler([sample(), sample(48, "other")], 16, seed=1)
    once, again, other = sampler.draw(5, 3), sampler.draw(5, 3), sampler.draw(6, 3)
    assert (once.images == again.images).all()
    assert (once.images != other.images).any()
    # Crop 2 of a draw does not depend on how many are drawn.
    assert (sampler.draw(5, 2).images == once.images[:2]).all()


def test_crops_show_change_more_often_than_chance() -> None:
    large = sample(160)
    drawn = ChangeSampler([large], 16, seed=2).draw(0, 200)
    # Half of them are laid around the house, which one crop in fifty would touch by chance.
    assert 0.4 < float(drawn.change.flatten(1).any(dim=1).float().mean()) < 0.65


def test_sources_with_dates_of_their_own_get_no_effects() -> None:
    one = sample(16)
    drawn = ChangeSampler([one], 16, seed=3, own_dates=("made",)).draw(0, 20)
    colours = ((drawn.images.permute(0, 1, 3, 4, 2).reshape(-1, 3) + 1) * 127.5).round().int()
    seen = {tuple(colour) for colour in colours.tolist()}
    assert seen <= {tuple(colour) for colour in np.concatenate([one.before, one.after]).reshape(-1, 3).tolist()}


def test_samples_smaller_than_the_crops_are_refused() -> None:
    with pytest.raises(ValueError, match="no sample has 64 pixels a side"):
        ChangeSampler([sample()], 64, seed=0)


def test_a_batch_has_the_ranges_of_detectors() -> None:
    one = sample()
    batch = batch_of([one, one])
    assert batch.images.shape == (2, 2, 3, 40, 40)
    assert float(batch.images.min()) >= -1
    assert float(batch.images.max()) <= 1
    assert (((batch.images[0, 1].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy() == one.after).all()


# --- The packs ---


def write(path: Path, pixels: Bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def table(path: Path, *rows: dict[str, Any]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All five packs, tiny: what matters is where their files and codes are."""
    root = tmp_path_factory.mktemp("labels")
    random = generator(8)

    def picture(side: int) -> Bytes:
        return random.integers(0, 255, (side, side, 3), dtype=np.uint8)

    def codes(side: int, most: int) -> Bytes:
        return random.integers(0, most + 1, (side // 8, side // 8), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)

    pack = root / "chesapeake_naip_landcover"
    for name, folder, pixels in (
        ("a-0", "A", picture(64)),
        ("a-0", "B", picture(64)),
        ("b-0", "A", picture(64)),
        ("b-0", "B", picture(64)),
    ):
        write(pack / folder / f"{name}.png", pixels)
        write(pack / "landcover" / f"{name}.png", np.full((64, 64), 2, dtype=np.uint8))
        write(pack / "buildings" / f"{name}.png", np.pad(np.full((8, 8), 255, dtype=np.uint8), 28))
    table(pack / "patches.csv", {"name": "a-0", "split": "train"}, {"name": "b-0", "split": "val"})

    pack = root / "joplin_tornado"
    damage = np.zeros((128, 128), dtype=np.uint8)
    damage[10:20, 10:20], damage[10:20, 60:70], damage[60:70, 60:70] = 4, 1, 2
    write(pack / "damage" / "3_0000.png", damage)
    for date in "AB":
        write(pack / date / "3_0000.jpg", picture(128))
    table(pack / "tiles.csv", {"name": "3_0000"})

    pack = root / "landsat_cd"
    pack.mkdir()
    label = np.full((80, 80), 255, dtype=np.uint8)
    label[:10], label[10:20] = 0, 1
    for city in ("taizhou", "nanjing"):
        raw = random.integers(0, 200, (2, 6, 80, 80), dtype=np.uint8)
        np.savez(pack / f"{city}.npz", t1=raw[0], t2=raw[1], label=label)

    pack = root / "dubai_segmentation"
    for name in ("p1", "p2", "p8"):
        write(pack / "images" / f"{name}.jpg", picture(300))
        write(pack / "masks" / f"{name}.png", codes(304, 5)[:300, :300])
    # The third has no picture: a part of the pack is held back.
    table(
        pack / "images.csv",
        *({"name": n, "split": s} for n, s in (("p1", "train"), ("p2", "train"), ("p8", "val"), ("p9", "test"))),
    )

    pack = root / "oam_kampala_buildings"
    rows = (
        ("t20", "train", 0.15, 256),
        ("u20", "train", 0.15, 256),
        ("t21", "train", 0.075, 256),
        ("v19", "val", 0.3, 256),
    )
    for name, _, _, side in rows:
        write(pack / "images" / f"{name}.jpg", picture(side))
        write(pack / "masks" / f"{name}.png", codes(side, 1) * 255)
    table(pack / "tiles.csv", *({"name": n, "split": s, "gsd_m": g} for n, s, g, _ in rows))
    return root


@pytest.fixture(scope="module")
def pairs(labels: Path) -> dict[str, list[ChangeSample]]:
    return {
        "train": list(read_real_pairs(labels, "train", composed=30)),
        "val": list(read_real_pairs(labels, "val", composed=30)),
    }


def test_no_place_is_in_both_splits(pairs: dict[str, list[ChangeSample]]) -> None:
    places = [{(one.source, one.place) for one in pairs[split]} for split in ("train", "val")]
    assert places[0] and places[1]
    assert not places[0] & places[1]


def test_joplin_is_for_testing_only_and_debris_is_left_open(pairs: dict[str, list[ChangeSample]]) -> None:
    assert all(one.source != "joplin" for one in pairs["train"])
    (joplin,) = (one for one in pairs["val"] if one.source == "joplin")
    assert joplin.change.sum() == 100
    assert joplin.known[15, 15]
    assert not joplin.known[15, 30]  # beside what was destroyed
    assert joplin.known[15, 65]  # a house that stands
    assert not joplin.known[65, 65]  # minor damage
    assert joplin.known[120, 120]
    assert joplin.cover_after[15, 15] == 0
    assert joplin.cover_before[15, 15] == 1 + CLASSES.index("building")


def test_landsat_is_known_where_it_is_labelled(pairs: dict[str, list[ChangeSample]]) -> None:
    (city,) = (one for one in pairs["val"] if one.source == "landsat")
    assert city.name == "nanjing"
    assert city.known.sum() == 20 * 80
    assert (city.change & city.known).sum() == 10 * 80


def test_seasons_are_no_change(pairs: dict[str, list[ChangeSample]]) -> None:
    (one,) = (one for one in pairs["train"] if one.source == "chesapeake")
    assert not one.change.any()
    assert one.cover_before[0, 0] == 1 + CLASSES.index("tree")
    assert one.cover_before[32, 32] == 1 + CLASSES.index("building")


@pytest.mark.parametrize("source", ["dubai", "kampala"])
def test_composed_pairs_change_where_their_pixels_do(pairs: dict[str, list[ChangeSample]], source: str) -> None:
    composed = [one for one in pairs["train"] if one.source == source]
    assert sum(bool(one.change.any()) for one in composed) > len(composed) // 3
    assert any(not one.change.any() for one in composed)
    for one in composed:
        moved = (one.before != one.after).any(axis=-1)
        # Random pixels seldom agree by chance, and none that changed class may be the same in most places.
        assert (one.change <= moved).mean() > 0.999
        named = (one.cover_before > 0) & (one.cover_after > 0) & (one.cover_before != one.cover_after)
        assert (named <= one.change).all()


def test_the_finest_roofs_are_left_out(pairs: dict[str, list[ChangeSample]]) -> None:
    places = {one.place for one in pairs["train"] if one.source == "kampala"}
    assert places == {"t20", "u20"}


def test_reading_twice_gives_the_same(labels: Path, pairs: dict[str, list[ChangeSample]]) -> None:
    once, again = pairs["val"], list(read_real_pairs(labels, "val", composed=30))
    assert all((a.after == b.after).all() and (a.change == b.change).all() for a, b in zip(once, again, strict=True))


def test_sets_with_dates_exist(pairs: dict[str, list[ChangeSample]]) -> None:
    assert set(WITH_DATES) <= {one.source for one in pairs["val"]}


def test_a_missing_pack_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="pack chesapeake_naip_landcover is missing"):
        list(read_real_pairs(tmp_path, "train"))

"""Pairs of dates from real imagery, of packs under `labels/` that may be redistributed.

| set | change | training | held out |
|---|---|---|---|
| `chesapeake` | none: NAIP of two seasons, 1 m | 8 pairs of one place | 8 of another |
| `landsat` | labelled pixels at 30 m | Taizhou 2000 / 2003 | Nanjing 2000 / 2002 |
| `joplin` | houses that a tornado destroyed, 0.6 m | none | all 25 pairs |
| `dubai` | composed: parts of one picture laid into another, 1.5 m | parts 1 to 7 | part 8 |
| `kampala` | the same with roofs, 0.3 m | one part of the town | the others |

Held-out pairs are of other ground than those for training; of Joplin nothing is seen in training. Its labels are
predictions of a model that was trained on non-commercial data, so no weights are trained on them.

Real pairs with labels are few here. So the labelled pictures of single dates give composed ones (a step beyond Zheng
et al., ChangeStar, arXiv 2108.07002, who take any two pictures as a pair): both dates are one crop, and parts of other
pictures with known classes are laid into both dates or into the later one alone. Where the class became another one,
that is change. Since some parts lie in both dates, a seam is no evidence. Composed pairs want the effects of two dates
(`trainingsets.changes.dated`), as pairs of the engine do; the sets in `WITH_DATES` have dates of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import ndimage

from datasets.changes_composed import Picture, composed, covers
from datasets.label_files import pack_folder, read_plane, read_rgb, read_table
from datasets.pyramids import halved
from trainingsets.changes import CLASSES, Bytes, ChangeSample

Split = Literal["train", "val"]

WITH_DATES = ("chesapeake", "joplin", "landsat")
"""Sets whose two pictures were really taken at two dates."""
COMPOSED_PAIRS: dict[Split, int] = {"train": 240, "val": 40}
"""Pairs that are composed from each of the two packs."""
_DEBRIS = 24
"""Pixels around a destroyed house where debris lies on what the labels call unchanged: nothing is known there."""
_DISPLAY = (30.0, 200.0)
"""Grey levels to which the 2nd and 98th percentile of a raw Landsat band are stretched."""

SOURCES: dict[str, str] = {
    "chesapeake": "NAIP public domain (USDA); land cover free to use with credit to the Chesapeake Conservancy",
    "landsat": "Landsat 7, USGS public domain; labels by C. Wu, B. Du and L. Zhang",
    "joplin": "xView2 deploy repository, MIT; imagery NOAA; labels predicted by the xView2 winner",
    "dubai": "open access; Humans in the Loop and the Mohammed Bin Rashid Space Centre",
    "kampala": "imagery CC BY 4.0, OpenAerialMap contributors; outlines ODbL, (c) OpenStreetMap contributors",
}
"""The sets, with terms and the credit that they ask for."""


def read_real_pairs(labels: Path, split: Split, composed: int | None = None) -> Iterator[ChangeSample]:
    """Every pair of one split, in a fixed order.

    Args:
        labels: the folder `labels/`.
        split: "val" holds other ground than "train".
        composed: pairs to compose from each of the packs of single dates; None for COMPOSED_PAIRS.

    Raises:
        DatasetNotFoundError: a pack is missing.
    """
    count = COMPOSED_PAIRS[split] if composed is None else composed
    yield from _chesapeake(labels, split)
    yield from _landsat(labels, split)
    yield from _joplin(labels, split)
    yield from _dubai(labels, split, count)
    yield from _kampala(labels, split, count)


# --- Two real dates ---


def _chesapeake(labels: Path, split: Split) -> Iterator[ChangeSample]:
    folder = pack_folder(labels, "chesapeake_naip_landcover")
    named = {1: "water", 2: "tree", 3: "low vegetation", 4: "bare ground", 6: "road"}
    for row in read_table(folder / "patches.csv"):
        if row["split"] != split:
            continue
        name = row["name"]
        cover = covers(read_plane(folder / "landcover" / f"{name}.png"), named)
        cover[read_plane(folder / "buildings" / f"{name}.png") > 0] = _code("building")
        still = np.zeros(cover.shape, dtype=np.bool_)
        before, after = read_rgb(folder / "A" / f"{name}.png"), read_rgb(folder / "B" / f"{name}.png")
        yield ChangeSample("chesapeake", name, name.rsplit("-", 1)[0], before, after, still, ~still, cover, cover)


def _landsat(labels: Path, split: Split) -> Iterator[ChangeSample]:
    """One scene each: the labels are single pixels and patches, most of the ground has none."""
    city = "taizhou" if split == "train" else "nanjing"
    with np.load(pack_folder(labels, "landsat_cd") / f"{city}.npz") as arrays:
        first, second, label = arrays["t1"], arrays["t2"], arrays["label"]
    before, after = (np.stack([_stretched(raw[band]) for band in (2, 1, 0)], axis=-1) for raw in (first, second))
    unknown = np.zeros(label.shape, dtype=np.uint8)
    yield ChangeSample("landsat", city, city, before, after, label == 1, label != 255, unknown, unknown)


def _joplin(labels: Path, split: Split) -> Iterator[ChangeSample]:
    """Major damage and destruction are change, minor damage is left open."""
    folder = pack_folder(labels, "joplin_tornado")
    if split == "train":
        return
    for row in read_table(folder / "tiles.csv"):
        name = row["name"]
        damage = read_plane(folder / "damage" / f"{name}.png")
        change = damage >= 3
        near = ndimage.distance_transform_edt(~change) <= _DEBRIS if change.any() else change
        known = change | (damage == 1) | ((damage == 0) & ~near)
        before = np.where(damage > 0, _code("building"), 0).astype(np.uint8)
        after = np.where((damage > 0) & ~change, _code("building"), 0).astype(np.uint8)
        first, second = (read_rgb(folder / date / f"{name}.jpg") for date in "AB")
        yield ChangeSample("joplin", name, name.split("_")[0], first, second, change, known, before, after)


# --- Composed ---


def _dubai(labels: Path, split: Split, count: int) -> Iterator[ChangeSample]:
    """Six classes at some 1.5 m; vegetation may be trees or lower, so it has no name here."""
    folder = pack_folder(labels, "dubai_segmentation")
    pictures = [
        Picture(row["name"], read_rgb(path), read_plane(folder / "masks" / f"{row['name']}.png"), False)
        for row in read_table(folder / "images.csv")
        if row["split"] == split and (path := folder / "images" / f"{row['name']}.jpg").is_file()
    ]
    yield from composed("dubai", pictures, {1: "building", 2: "bare ground", 3: "road", 5: "water"}, split, count)


def _kampala(labels: Path, split: Split, count: int) -> Iterator[ChangeSample]:
    """Roofs at 0.3 m; what is no roof has no name."""
    folder = pack_folder(labels, "oam_kampala_buildings")
    pictures = []
    for row in read_table(folder / "tiles.csv"):
        gsd = float(row["gsd_m"])
        if (row["split"] == "train") != (split == "train") or gsd < 0.1:
            continue
        pixels = read_rgb(folder / "images" / f"{row['name']}.jpg")
        codes = (read_plane(folder / "masks" / f"{row['name']}.png") > 0).astype(np.uint8)
        if gsd < 0.25:
            pixels, codes = halved(pixels), codes[1::2, 1::2]
        pictures.append(Picture(row["name"], pixels, codes, True))
    yield from composed("kampala", pictures, {1: "building"}, split, count)


# --- Files ---


def _code(name: str) -> int:
    return 1 + CLASSES.index(name)


def _stretched(raw: Bytes) -> Bytes:
    """Raw digital numbers as brightness: linearly, by their percentiles."""
    low, high = np.percentile(raw, (2, 98))
    dark, bright = _DISPLAY
    shown = dark + (raw - low) * (bright - dark) / max(1.0, high - low)
    return np.asarray(np.clip(np.rint(shown), 0, 255), dtype=np.uint8)

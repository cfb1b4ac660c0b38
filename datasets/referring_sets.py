"""Scenes to make phrases of: both dates of the engine's pairs, pictures composed of them, and labelled imagery.

| set | ground | GSD | training | held out |
|---|---|---|---|---|
| `engine` | edits by prompt, five classes | 0.6 to 9.6 m | pairs for training | the others |
| `engine-composed` | parts of those laid into each other | the same | from pairs for training | none |
| `dubai` | building, bare ground, road, vegetation, water | about 1.5 m | parts 1 to 7 | part 8 |
| `kampala` | roofs, told apart by their outlines | 0.07 to 0.3 m | one part of the town | the others |
| `chesapeake` | water, trees, grass, bare ground, roads, buildings | 1 m | 8 patches of one place | 8 of another |

Held-out ground is never seen in training. An edit of the engine whose ground looks like what is around it was not
heard, so there nothing is known. What edits by prompt asked for becomes a name where all ground of a class is of one
prompt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from rasterio.features import rasterize
from rasterio.transform import from_bounds
from scipy import ndimage

from datasets.changes_composed import composed_of_engine
from datasets.changes_engine import layout_prompts, read_engine_pairs
from datasets.label_files import pack_folder, read_plane, read_rgb, read_table
from datasets.referring import KINDS, Bytes, Mask, Scene
from trainingsets.changes import CLASSES, ChangeSample, date_effects, generator

Split = Literal["train", "val"]

SIDE = 256
"""Pixels along a side of a scene."""
COMPOSED = 200
SHARES: Mapping[str, float] = {"engine": 6, "engine-composed": 4, "dubai": 6, "kampala": 2.5, "chesapeake": 2}
"""How often each set is drawn beside the others."""
_HEARD = 7.0
"""Grey levels by which ground differs from what is around it, in colour or contrast, or nothing is known of it."""
_RING = 10


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """A labelled picture of any size, of which scenes are cut.

    Attributes:
        source: of SHARES.
        name: unique within the set.
        place: scenes of one place are never split.
        pixels: uint8 (h, w, 3).
        codes: uint8 (h, w), 0 or 1 + index in KINDS.
        known: bool (h, w).
        kinds: that are labelled wherever they are.
        sides: least and greatest side of a square that is cut, in pixels.
        single: whether an area of building is one building.
        roofs: uint16 (h, w) or None; see `Scene`.
        asked: what was asked for, by kind; see `Scene`.
    """

    source: str
    name: str
    place: str
    pixels: Bytes
    codes: Bytes
    known: Mask
    kinds: tuple[str, ...]
    sides: tuple[int, int]
    single: bool = False
    roofs: npt.NDArray[np.uint16] | None = None
    asked: Mapping[str, str] | None = None

    def cut(self, top: int, left: int, height: int, width: int, quarters: int = 0, mirrored: bool = False) -> Scene:
        """A part of it, brought to SIDE x SIDE pixels, then turned by quarters of a circle and mirrored."""
        part = slice(top, top + height), slice(left, left + width)

        def turned(array: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
            array = np.rot90(array, quarters)
            return np.ascontiguousarray(array[:, ::-1] if mirrored else array)

        def labels(array: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
            rows, columns = (np.arange(SIDE) * length // SIDE for length in (height, width))
            return np.asarray(turned(array[part][np.ix_(rows, columns)]))  # type: ignore[arg-type]

        picture = Image.fromarray(np.ascontiguousarray(self.pixels[part]))
        if picture.size != (SIDE, SIDE):
            picture = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC if height < SIDE else Image.Resampling.BOX)
        return Scene(
            self.source,
            f"{self.name}-{top}-{left}-{height}",
            self.place,
            turned(np.asarray(picture)),
            labels(self.codes),  # type: ignore[arg-type]
            labels(self.known).astype(np.bool_),  # type: ignore[arg-type]
            self.kinds,
            self.single,
            None if self.roofs is None else labels(self.roofs),
            self.asked or {},
        )


def read_grounds(split: Split, pairs: Path | None, labels: Path | None) -> Iterator[Ground]:
    """Every labelled picture of one split.

    Args:
        split: "val" holds other ground than "train".
        pairs: folder of the engine's pairs; None for none.
        labels: the folder `labels/`; None for none.

    Raises:
        FileNotFoundError: there are no pairs.
        DatasetNotFoundError: a pack is missing.
    """
    if pairs is not None:
        samples = list(read_engine_pairs(pairs, split))
        yield from _engine(samples, "engine")
        if split == "train":
            yield from _engine(list(composed_of_engine(samples, split, COMPOSED)), "engine-composed")
    if labels is not None:
        yield from _dubai(labels, split)
        yield from _kampala(labels, split)
        yield from _chesapeake(labels, split)


# --- Drawing ---


class SceneSampler:
    """Draws scenes: a set, a picture, a part of it, a turn, a day's effects.

    Args:
        grounds: to draw of.
        seed: of all draws.
    """

    def __init__(self, grounds: Iterable[Ground], seed: int = 0) -> None:
        self._sets: dict[str, list[Ground]] = {}
        for ground in grounds:
            self._sets.setdefault(ground.source, []).append(ground)
        if not self._sets:
            raise ValueError("there are no labelled pictures to draw scenes of; give pairs or packs")
        shares = np.array([SHARES[name] for name in self._sets])
        self._shares, self._seed = shares / shares.sum(), seed

    def draw(self, number: int) -> Scene:
        """Scene `number`: the same for the same number."""
        random = generator(self._seed, 31, number)
        some = list(self._sets.values())[int(random.choice(len(self._sets), p=self._shares))]
        ground = some[int(random.integers(len(some)))]
        least, greatest = ground.sides
        fitting = min(greatest, *ground.codes.shape)
        side = int(np.exp(random.uniform(np.log(min(least, fitting)), np.log(fitting))))
        # People look at views that are no squares, which the network sees squeezed.
        height, width = (max(32, int(side * factor)) for factor in random.uniform(0.8, 1.0, 2))
        top, left = (
            int(random.integers(length - part + 1))
            for length, part in zip(ground.codes.shape, (height, width), strict=True)
        )
        scene = ground.cut(top, left, height, width, int(random.integers(4)), bool(random.integers(2)))
        return replace(scene, pixels=date_effects(scene.pixels, random, 0.7))


def held_out_scenes(grounds: Iterable[Ground]) -> Iterator[Scene]:
    """The same scenes of held-out pictures each time: squares side by side, as they are."""
    for ground in grounds:
        height, width = ground.codes.shape
        side = min(ground.sides[1], height, width)
        for top in range(0, height - side + 1, side):
            for left in range(0, width - side + 1, side):
                yield ground.cut(top, left, side, side)


# --- Sets ---


def _engine(samples: Iterable[ChangeSample], source: str) -> Iterator[Ground]:
    for sample in samples:
        asked = layout_prompts(int(sample.name)) if source == "engine" else ({}, {})
        dates = ((sample.before, sample.cover_before), (sample.after, sample.cover_after))
        for date, (pixels, cover) in enumerate(dates):
            # Whether the later date's edits show is doubtful where the pair does not know its change.
            known = (cover > 0) & (sample.known if date else True)
            known &= heard(pixels, cover)
            name = f"{sample.name}-{'ab'[date]}"
            yield Ground(source, name, sample.place, pixels, cover, known, CLASSES[:5], (150, 256), asked=asked[date])


def heard(pixels: Bytes, cover: Bytes) -> Mask:
    """Where ground looks different from what is around it, or fills the picture: bool (h, w)."""
    clear = np.ones(cover.shape, dtype=np.bool_)
    # Every other pixel tells as much of colours and contrasts.
    thin, codes = pixels[::2, ::2].astype(np.float32), cover[::2, ::2]
    for code in np.unique(codes):
        areas, count = ndimage.label(codes == code)
        for number in range(1, count + 1):
            area = areas == number
            if area.mean() > 0.5 or area.sum() < 30:
                continue
            ring = ndimage.maximum_filter(area, size=_RING + 1) & ~area
            one, other = thin[area], thin[ring]
            colour = np.abs(one.mean(axis=0) - other.mean(axis=0)).max()
            contrast = abs(one.mean(axis=1).std() - other.mean(axis=1).std())
            if max(colour, contrast) < _HEARD:
                whole = area.repeat(2, axis=0).repeat(2, axis=1)
                clear &= ~whole[: len(clear), : len(clear[0])]
    return clear


def _dubai(labels: Path, split: Split) -> Iterator[Ground]:
    folder = pack_folder(labels, "dubai_segmentation")
    kinds = {1: "building", 2: "bare ground", 3: "road", 4: "vegetation", 5: "water"}
    for row in read_table(folder / "images.csv"):
        path = folder / "images" / f"{row['name']}.jpg"
        if row["split"] == split and path.is_file():
            raw = read_plane(folder / "masks" / f"{row['name']}.png")
            known = ndimage.binary_dilation(raw == 0, iterations=1)
            codes = _coded(raw, kinds)
            named = tuple(kinds.values())
            yield Ground("dubai", row["name"], row["name"], read_rgb(path), codes, ~known, named, (160, 420), True)


def _kampala(labels: Path, split: Split) -> Iterator[Ground]:
    folder = pack_folder(labels, "oam_kampala_buildings")
    outlines = json.loads((folder / "buildings.geojson").read_text(encoding="utf-8"))["features"]
    for row in read_table(folder / "tiles.csv"):
        if (row["split"] == "train") != (split == "train"):
            continue
        mask = read_plane(folder / "masks" / f"{row['name']}.png") > 0
        roofs = _roofs(outlines, int(row["z"]), int(row["x"]), int(row["y"]), mask)
        codes = np.where(mask, 1 + KINDS.index("building"), 0).astype(np.uint8)
        pixels = read_rgb(folder / "images" / f"{row['name']}.jpg")
        known = np.ones(mask.shape, dtype=np.bool_)
        # One place has tiles of three zooms; a tile of the finest lies in one of the coarsest.
        place = f"{int(row['x']) >> (int(row['z']) - 19)}-{int(row['y']) >> (int(row['z']) - 19)}"
        yield Ground("kampala", row["name"], place, pixels, codes, known, ("building",), (150, 256), True, roofs)


def _roofs(
    outlines: Iterable[Mapping[str, object]], zoom: int, x: int, y: int, mask: Mask
) -> npt.NDArray[np.uint16] | None:
    """Numbers of the buildings of a tile; None where the outlines do not account for the mask."""
    import mercantile

    bounds = mercantile.bounds(x, y, zoom)
    numbered = [(feature["geometry"], index) for index, feature in enumerate(outlines, start=1)]
    height, width = mask.shape
    numbers = rasterize(numbered, mask.shape, transform=from_bounds(*bounds, width, height), dtype="uint16")
    if not mask.any() or ((numbers > 0) == mask).mean() < 0.9:
        return None
    # Pixels of the mask that no outline holds belong to the nearest one.
    nearest = ndimage.distance_transform_edt(numbers == 0, return_distances=False, return_indices=True)
    found: npt.NDArray[np.uint16] = np.where(mask, numbers[tuple(nearest)], 0).astype(np.uint16)
    return found


def _chesapeake(labels: Path, split: Split) -> Iterator[Ground]:
    folder = pack_folder(labels, "chesapeake_naip_landcover")
    kinds = {1: "water", 2: "tree", 3: "low vegetation", 4: "bare ground", 6: "road"}
    for row in read_table(folder / "patches.csv"):
        if row["split"] != split:
            continue
        name = row["name"]
        codes = _coded(read_plane(folder / "landcover" / f"{name}.png"), kinds)
        codes[read_plane(folder / "buildings" / f"{name}.png") > 0] = 1 + KINDS.index("building")
        known = np.ones(codes.shape, dtype=np.bool_)
        for date in "AB":
            pixels = read_rgb(folder / date / f"{name}.png")
            yield Ground("chesapeake", f"{name}-{date}", name, pixels, codes, known, CLASSES, (150, 256), True)


def _coded(raw: Bytes, kinds: Mapping[int, str]) -> Bytes:
    table = np.zeros(256, dtype=np.uint8)
    for code, kind in kinds.items():
        table[code] = 1 + KINDS.index(kind)
    coded: Bytes = table[raw]
    return coded

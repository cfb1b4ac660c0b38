"""Pictures with a label for each pixel, from which the networks of the bands are trained.

Four packs of `labels/` and one of `imagery/` are read; all may be redistributed, and the cards of the weights name
their credits. Packs under `labels/restricted/` are not read here: their imagery is for evaluation only. The labels of
`joplin_tornado` are predictions of a model that was trained on non-commercial data, so they are left out too.

Legends differ, so a label of a band of classes is a set: bit k of the target says that class k (in the order of the
band's legend) may be there, and 0 says that nothing is known. "Vegetation" of one pack is {trees, low vegetation}.

Four of the packs are of few places. So that land cover is learnt in more tones than theirs, `read_described` adds the
imagery packs with the weak labels that the captions rest on: what a block of pixels looks like, as far as whoever
described the picture has a word for it.

Any other set of pairs can be read as a folder: see `read_pairs`.
"""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from datasets.captions import measure
from datasets.packs import PACKS, DatasetNotFoundError, read_pack
from datasets.pyramids import halved, picture_levels
from datasets.scenes import Cover, scene_of
from earthgen.bands import BANDS, BUILDINGS, LAND_COVER

Split = Literal["train", "val"]
Bytes = npt.NDArray[np.uint8]

_SMALLEST_SIDE = 64
_BLOCK = 32
"""Pixels along a side of the blocks that are described as one."""
_DESCRIBED_SIDE = 256
_DESCRIBED_CROPS = 12
"""Most crops of one picture at one resolution."""
_DISPLAY = (30.0, 200.0)
"""Grey levels to which the 2nd and 98th percentile of a raw Landsat band are stretched."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where labels come from.

    Attributes:
        name: folder under `labels/` or `imagery/`.
        bands: what it has labels of.
        licence: terms and the credit that they ask for.
    """

    name: str
    bands: tuple[str, ...]
    licence: str


SOURCES: tuple[Source, ...] = (
    Source(
        "dubai_segmentation",
        ("landcover", "buildings"),
        "open access; Humans in the Loop and the Mohammed Bin Rashid Space Centre",
    ),
    Source(
        "chesapeake_naip_landcover",
        ("nir", "landcover", "buildings"),
        "NAIP public domain (USDA); land cover free to use with credit to the Chesapeake Conservancy",
    ),
    Source(
        "oam_kampala_buildings",
        ("buildings",),
        "imagery CC BY 4.0, OpenAerialMap contributors; outlines ODbL, (c) OpenStreetMap contributors",
    ),
    Source("landsat_cd", ("nir",), "Landsat 7, USGS public domain; set by C. Wu, B. Du and L. Zhang"),
    Source(
        "s2_eurosat_10m",
        ("landcover",),
        "MIT; Helber et al. 2019; contains modified Copernicus Sentinel data",
    ),
)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A picture and what is known of each of its pixels.

    Attributes:
        pack: where it is from.
        name: unique within the pack.
        gsd: metres per pixel.
        image: uint8 (h, w, 3).
        target: uint8 (h, w): brightness, or a set of classes as bits.
    """

    pack: str
    name: str
    gsd: float
    image: Bytes
    target: Bytes


def read_labelled(data: Path, band: str, split: Split) -> Iterator[Labelled]:
    """Every labelled picture of one split for a band, in a fixed order.

    Args:
        data: folder that holds `labels/` and `imagery/`.
        band: "nir", "landcover" or "buildings".
        split: "val" holds other ground than "train" (EuroSAT: other chips).

    Raises:
        DatasetNotFoundError: a pack is missing, or none has labels of the band.
    """
    readers = {
        "dubai_segmentation": _dubai,
        "chesapeake_naip_landcover": _chesapeake,
        "oam_kampala_buildings": _kampala,
        "landsat_cd": _landsat,
        "s2_eurosat_10m": _eurosat,
    }
    sources = [source for source in SOURCES if band in source.bands]
    if not sources:
        raise DatasetNotFoundError(
            f"no pack at hand has labels of band {band!r}; give a folder of pairs (rgb/, target/, pairs.csv)"
        )
    for source in sources:
        folder = data / ("imagery" if source.name == "s2_eurosat_10m" else "labels") / source.name
        if not folder.is_dir():
            raise DatasetNotFoundError(
                f"pack {source.name} is missing: {folder} is not a folder; --data or EARTHGEN_DATA must name the"
                " folder that holds labels/ and imagery/"
            )
        yield from readers[source.name](folder, band, split)


def read_pairs(folder: Path, band: str, split: Split) -> Iterator[Labelled]:
    """Pairs of one's own: `rgb/NAME.png`, `target/NAME.png` of the same size, and `pairs.csv` with name, split, gsd.

    A target of a band of values is brightness; of a band of classes it holds the legend's codes, and any other value
    where nothing is known. So a band without weights, as radar, can be trained.

    Raises:
        DatasetNotFoundError: the list or a picture is missing.
        ValueError: a picture and its target differ in size.
    """
    listed = folder / "pairs.csv"
    if not listed.is_file():
        raise DatasetNotFoundError(f"{listed} is missing; a table with the columns name, split and gsd is needed")
    codes = {item.code: bit for bit, item in enumerate(BANDS[band].classes)}
    with listed.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["split"] != split:
                continue
            image = _rgb(folder / "rgb" / f"{row['name']}.png")
            target = _plane(folder / "target" / f"{row['name']}.png")
            if image.shape[:2] != target.shape:
                raise ValueError(f"{row['name']}: picture {image.shape[:2]} and target {target.shape} differ in size")
            if codes:
                target = _sets(target, {code: {bit} for code, bit in codes.items()})
            yield Labelled(folder.name, row["name"], float(row["gsd"]), image, target)


def read_described(data: Path, coarsest: float) -> Iterator[Labelled]:
    """Crops of the imagery packs with weak land cover: one set of classes for each block of 32 pixels.

    A block counts if nearly all of it looks like one cover, and the picture's scene has words for that cover.

    Args:
        data: folder that holds `imagery/`.
        coarsest: metres per pixel up to which pictures are read, from 0.5 on.
    """
    sets: dict[Cover, Sequence[str]] = {
        "water": ("water",),
        "forest": ("trees",),
        "grass": ("low vegetation",),
        "bare": ("bare ground",),
        "built": ("road", "building", "other paved"),
    }
    bits = {cover: sum(1 << _index(name) for name in names) for cover, names in sets.items()}
    for pack in PACKS:
        for picture in read_pack(data / "imagery", pack, "train"):
            for level in picture_levels(picture):
                if not 0.5 <= level.gsd <= coarsest or min(level.pixels.shape[:2]) < 2 * _SMALLEST_SIDE:
                    continue
                scene = scene_of(level.pack, level.name, level.gsd)
                for number, crop in enumerate(_spread_crops(level.pixels)):
                    rows, columns = crop.shape[0] // _BLOCK, crop.shape[1] // _BLOCK
                    blocks = np.zeros((rows, columns), dtype=np.uint8)
                    for row, column in np.ndindex(rows, columns):
                        top, left = row * _BLOCK, column * _BLOCK
                        cover = measure(crop[top : top + _BLOCK, left : left + _BLOCK]).cover(scene)
                        blocks[row, column] = bits.get(cover, 0)
                    if blocks.any():
                        target = blocks.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)
                        image = crop[: target.shape[0], : target.shape[1]]
                        yield Labelled("described", f"{level.name}-{level.gsd:g}-{number}", level.gsd, image, target)


def _spread_crops(pixels: Bytes) -> Iterator[Bytes]:
    """At most a dozen crops of a picture, spread over it."""
    side = _DESCRIBED_SIDE
    rows, columns = max(1, pixels.shape[0] // side), max(1, pixels.shape[1] // side)
    every = -(-rows * columns // _DESCRIBED_CROPS)
    for cell in range(0, rows * columns, every):
        top, left = cell // columns * side, cell % columns * side
        yield pixels[top : top + side, left : left + side]


def coarser(item: Labelled, band: str, coarsest: float) -> list[Labelled]:
    """The item and its 2x2 means, down to 64 pixels a side or to `coarsest` metres per pixel.

    Of classes, each mean has those of one of its four pixels.
    """
    levels = [item]
    while min(item.image.shape[:2]) >= 2 * _SMALLEST_SIDE and 2 * item.gsd <= coarsest:
        height, width = item.image.shape[0] // 2 * 2, item.image.shape[1] // 2 * 2
        if BANDS[band].kind == "values":
            target = halved(item.target[..., None])[..., 0]
        else:
            target = item.target[1:height:2, 1:width:2]
        item = Labelled(item.pack, item.name, 2 * item.gsd, halved(item.image), target)
        levels.append(item)
    return levels


def _dubai(folder: Path, band: str, split: Split) -> Iterator[Labelled]:
    """Dubai, 6 classes; the resolution is not documented, 1.5 m by the size of cars and houses."""
    sets: dict[int, Sequence[str]] = {
        1: ("building",),
        2: ("bare ground",),
        3: ("road", "other paved"),
        4: ("trees", "low vegetation"),
        5: ("water",),
    }
    for row in _table(folder / "images.csv"):
        if row["split"] != split or not (folder / "images" / f"{row['name']}.jpg").is_file():
            continue
        image = _rgb(folder / "images" / f"{row['name']}.jpg")
        codes = _plane(folder / "masks" / f"{row['name']}.png")
        if band == "landcover":
            target = _land_cover(codes, sets)
        else:
            target = _sets(codes, {code: {int(code == 1)} for code in range(1, 6)})
        yield Labelled("dubai_segmentation", row["name"], 1.5, image, target)


def _chesapeake(folder: Path, band: str, split: Split) -> Iterator[Labelled]:
    """West Virginia at 1 m, two dates of the same ground; buildings are a layer of their own."""
    sets: dict[int, Sequence[str]] = {
        1: ("water",),
        2: ("trees",),
        3: ("low vegetation",),
        4: ("bare ground",),
        5: ("other paved",),
        6: ("road",),
    }
    for row in _table(folder / "patches.csv"):
        if row["split"] != split:
            continue
        buildings = _plane(folder / "buildings" / f"{row['name']}.png") > 0
        cover = _land_cover(_plane(folder / "landcover" / f"{row['name']}.png"), sets)
        cover[buildings] = 1 << _index("building")
        for date in "AB":
            if band == "nir":
                target = _plane(folder / f"{date}_nir" / f"{row['name']}.png")
            else:
                target = cover if band == "landcover" else _building_set(buildings)
            name = f"{row['name']}-{date}"
            yield Labelled("chesapeake_naip_landcover", name, 1.0, _rgb(folder / date / f"{row['name']}.png"), target)


def _kampala(folder: Path, band: str, split: Split) -> Iterator[Labelled]:
    """Kampala's roofs at 0.07 to 0.30 m; both held-out splits of the pack are "val" here."""
    for row in _table(folder / "tiles.csv"):
        if (row["split"] == "train") != (split == "train"):
            continue
        mask = _plane(folder / "masks" / f"{row['name']}.png") > 0
        image = _rgb(folder / "images" / f"{row['name']}.jpg")
        yield Labelled("oam_kampala_buildings", row["name"], float(row["gsd_m"]), image, _building_set(mask))


def _landsat(folder: Path, band: str, split: Split) -> Iterator[Labelled]:
    """Two cities at 30 m and two dates each: Taizhou to train, Nanjing to test; bands 3, 2, 1 and 4 of six."""
    city = "taizhou" if split == "train" else "nanjing"
    with np.load(folder / f"{city}.npz") as arrays:
        for date in ("t1", "t2"):
            shown = np.stack([_stretched(arrays[date][index]) for index in (2, 1, 0, 3)], axis=-1)
            yield Labelled("landsat_cd", f"{city}-{date}", 30.0, shown[..., :3], shown[..., 3])


def _stretched(raw: Bytes) -> Bytes:
    """Raw digital numbers as brightness: linearly, by their percentiles."""
    low, high = np.percentile(raw, (2, 98))
    dark, bright = _DISPLAY
    shown = dark + (raw - low) * (bright - dark) / max(1.0, high - low)
    return np.asarray(np.clip(np.rint(shown), 0, 255), dtype=np.uint8)


def _eurosat(folder: Path, band: str, split: Split) -> Iterator[Labelled]:
    """Chips of 640 m with one class each; roads and rivers, which fill no chip, are left out."""
    sets: dict[str, Sequence[str]] = {
        "AnnualCrop": ("low vegetation", "bare ground"),
        "Forest": ("trees",),
        "HerbaceousVegetation": ("low vegetation",),
        "Industrial": ("building", "other paved"),
        "Pasture": ("low vegetation",),
        "PermanentCrop": ("low vegetation", "trees"),
        "Residential": ("building", "road"),
        "SeaLake": ("water",),
    }
    with tarfile.open(folder / f"{split}.tar") as archive:
        for member in sorted(archive.getmembers(), key=lambda item: item.name):
            kind = member.name.split("/")[0]
            file = archive.extractfile(member) if member.isfile() and kind in sets else None
            if file is not None:
                image = np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
                bits = np.uint8(sum(1 << _index(name) for name in sets[kind]))
                yield Labelled("s2_eurosat_10m", member.name, 10.0, image, np.full(image.shape[:2], bits))


def _index(name: str) -> int:
    return [item.name for item in LAND_COVER].index(name)


def _land_cover(codes: Bytes, sets: dict[int, Sequence[str]]) -> Bytes:
    return _sets(codes, {code: {_index(name) for name in names} for code, names in sets.items()})


def _building_set(mask: npt.NDArray[np.bool_]) -> Bytes:
    assert len(BUILDINGS) == 2
    return np.where(mask, 2, 1).astype(np.uint8)


def _sets(codes: Bytes, classes: dict[int, set[int]]) -> Bytes:
    """Codes as sets of classes; codes that are not listed say nothing."""
    table = np.zeros(256, dtype=np.uint8)
    for code, bits in classes.items():
        table[code] = sum(1 << bit for bit in bits)
    return table[codes]


def _table(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise DatasetNotFoundError(f"{path} is missing")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _rgb(path: Path) -> Bytes:
    return np.asarray(_opened(path).convert("RGB"))


def _plane(path: Path) -> Bytes:
    """One band as it is stored: codes of an indexed picture, 0 and 255 of a bitmap."""
    picture = _opened(path)
    return np.asarray(picture.convert("L") if picture.mode == "1" else picture).astype(np.uint8)


def _opened(path: Path) -> Image.Image:
    if not path.is_file():
        raise DatasetNotFoundError(f"{path} is missing")
    return Image.open(path)

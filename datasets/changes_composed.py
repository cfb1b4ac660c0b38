"""Pairs that are composed: parts of labelled pictures of one date laid into another.

A step beyond Zheng et al., ChangeStar, arXiv 2108.07002, who take any two pictures as a pair: both dates are one crop,
and parts of other pictures with known classes are laid into both dates or into the later one alone. Where the class
became another one, that is change. Since some parts lie in both dates, a seam is no evidence. Composed pairs want the
effects of two dates (`trainingsets.changes.dated`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from trainingsets.changes import CLASSES, Bytes, ChangeSample, Mask, generator

SIDE = 256
ENGINE = "engine-composed"
"""The source of pairs that are composed from pictures of the engine."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of one date.

    Attributes:
        name: unique within its set.
        pixels: uint8 (h, w, 3).
        codes: uint8 (h, w), the set's.
        zero_is_known: whether code 0 is a class of its own.
    """

    name: str
    pixels: Bytes
    codes: Bytes
    zero_is_known: bool


def composed_of_engine(samples: Sequence[ChangeSample], split: str, count: int) -> Iterator[ChangeSample]:
    """Pairs composed from both dates of the engine's pairs, those of which the class of all ground is known.

    Args:
        samples: of one split.
        split: "train" or "val"; other pairs come for each.
        count: how many.
    """
    pictures: list[Picture] = []
    for sample in samples:
        if sample.cover_before.all():
            # Whether the later date's edits show is doubtful where the pair does not know its change.
            later = np.where(sample.known, sample.cover_after, 0).astype(np.uint8)
            pictures.append(Picture(f"{sample.name}-before", sample.before, sample.cover_before, False))
            pictures.append(Picture(f"{sample.name}-after", sample.after, later, False))
    yield from composed(ENGINE, pictures, dict(enumerate(CLASSES, start=1)), split, count)


def composed(
    source: str, pictures: Sequence[Picture], named: Mapping[int, str], split: str, count: int
) -> Iterator[ChangeSample]:
    """Pairs of a set of pictures, each a function of its number.

    Args:
        source: name of the set.
        pictures: to lay into each other.
        named: the class of each code that has one.
        split: "train" or "val"; other pairs come for each.
        count: how many.
    """
    for number in range(count):
        random = generator(sum(source.encode()), split == "val", number)
        ground = pictures[int(random.integers(len(pictures)))]
        side = min(SIDE, *ground.codes.shape)
        before, codes = _cut(ground, side, random)
        for _ in range(int(random.integers(3))):
            before, codes = _laid(before, codes, pictures, random)
        after, later = before, codes
        if random.random() < 0.85:
            for _ in range(int(random.integers(1, 4))):
                after, later = _laid(after, later, pictures, random)
        known = (codes == later) | (ground.zero_is_known | ((codes > 0) & (later > 0)))
        name = f"{source}-{split}-{number:03d}"
        both = (covers(some, named) for some in (codes, later))
        yield ChangeSample(source, name, ground.name, before, after, (codes != later) & known, known, *both)


def _cut(picture: Picture, side: int, random: np.random.Generator) -> tuple[Bytes, Bytes]:
    """A square of a picture and its codes."""
    height, width = picture.codes.shape
    top, left = int(random.integers(height - side + 1)), int(random.integers(width - side + 1))
    part = slice(top, top + side), slice(left, left + side)
    return picture.pixels[part], picture.codes[part]


def _laid(pixels: Bytes, codes: Bytes, pictures: Sequence[Picture], random: np.random.Generator) -> tuple[Bytes, Bytes]:
    """A part of another picture, of one class and within a polygon, on top of this one."""
    side = len(codes)
    fitting = [picture for picture in pictures if min(picture.codes.shape) >= side]
    donor, donated = _cut(fitting[int(random.integers(len(fitting)))], side, random)
    present = [int(code) for code in np.unique(donated) if code > 0]
    shape = _polygon(side, random)
    if not present:
        return pixels, codes
    part = shape & (donated == random.choice(present))
    laid = pixels.copy()
    laid[part] = donor[part]
    return laid, np.where(part, donated, codes).astype(np.uint8)


def _polygon(side: int, random: np.random.Generator) -> Mask:
    """A lump with five to ten corners, up to nine tenths of the square wide."""
    corners = int(random.integers(5, 11))
    angles = (np.arange(corners) + random.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
    radii = np.exp(random.uniform(np.log(side / 10), np.log(side / 2.2))) * random.uniform(0.7, 1.3, corners)
    middle = random.uniform(0.1, 0.9, 2) * side
    across, down = middle[0] + radii * np.cos(angles), middle[1] + radii * np.sin(angles)
    points = [(float(x), float(y)) for x, y in zip(across, down, strict=True)]
    canvas = Image.new("1", (side, side))
    ImageDraw.Draw(canvas).polygon(points, fill=1)
    return np.array(canvas, dtype=np.bool_)


def covers(codes: Bytes, named: Mapping[int, str]) -> Bytes:
    """A set's codes as those of CLASSES; what has no name there is 0."""
    table = np.zeros(256, dtype=np.uint8)
    for code, name in named.items():
        table[code] = 1 + CLASSES.index(name)
    return table[codes]

"""One item in memory: pictures, masks, things and words; and masks as polygons and run lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rasterio.features import rasterize, shapes

from earthgen.bands import BandClass
from earthgen.pyramid import Box
from earthgen.world import World

if TYPE_CHECKING:
    from perception.multiview.posed import PosedSet

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Legend = tuple[BandClass, ...]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A picture and where it comes from.

    Attributes:
        pixels: uint8 (h, w, 3); of a posed view (h, w, 4), with how much of a pixel shows the scene as alpha.
        world: what it shows.
        box: where; the pixels of a level whose ground the picture shows, be it with as many pixels or with others.
        date: the ISO date that it stands for.
    """

    pixels: Bytes
    world: World
    box: Box
    date: str


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """An area with a meaning.

    Attributes:
        category: its class.
        mask: bool (h, w).
        phrase: what refers to it and to nothing else in the picture; "" if nothing does.
        before: of a change, the class that was there; "" if there was none or nobody knows.
    """

    category: str
    mask: Mask
    phrase: str = ""
    before: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question about the pictures with its only answer, and the kind of question that it is."""

    kind: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """An item.

    Attributes:
        views: pictures by role, in the order of the task.
        masks: codes by role, uint8 (h, w); their legends belong to the task.
        things: areas of the last picture.
        label: the class of the whole; None if the task has none.
        captions: sentences that are true.
        questions: with answers.
        about: what else is known, as JSON types.
        posed: poses and depths, if its pictures are posed views.
    """

    views: dict[str, View]
    masks: dict[str, Bytes] = field(default_factory=dict)
    things: tuple[Thing, ...] = ()
    label: str | None = None
    captions: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
    posed: PosedSet | None = None


def polygons_of(mask: Mask) -> list[list[float]]:
    """Outlines of a mask along the edges of its pixels, as COCO has them: [x, y, x, y, ...], without holes.

    Holes are cut open: COCO's polygons have none, so a ring with holes is given as pieces that have none.
    """
    rings: list[list[float]] = []
    for shape, _ in shapes(mask.astype(np.uint8), mask=mask, connectivity=4):
        outer, *holes = shape["coordinates"]
        if not holes:
            rings.append(_flat(outer))
            continue
        piece = rasterize([(shape, 1)], out_shape=mask.shape, dtype="uint8")
        # No hole begins or ends between two of these rows, so none lies inside a piece.
        cuts = sorted({0, mask.shape[0], *(int(y) for hole in holes for _, y in hole)})
        for top, bottom in pairwise(cuts):
            band = np.zeros_like(piece)
            band[top:bottom] = piece[top:bottom]
            rings += [_flat(part["coordinates"][0]) for part, _ in shapes(band, mask=band > 0, connectivity=4)]
    return rings


def _flat(ring: list[tuple[float, float]]) -> list[float]:
    return [float(value) for point in ring[:-1] for value in point]


def run_lengths(mask: Mask) -> dict[str, Any]:
    """A mask as COCO's uncompressed run lengths: column by column, beginning with how many pixels are not set."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(edges).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def mask_of(run_lengths: dict[str, Any]) -> Mask:
    """The mask that `run_lengths` came from."""
    height, width = run_lengths["size"]
    counts = run_lengths["counts"]
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def bbox_of(mask: Mask) -> list[int]:
    """x, y, width, height in pixels of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]

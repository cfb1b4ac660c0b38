"""What a conversation is about: a pair of pictures, and what the models see in it, looked at when first needed.

Everything that the agent says is computed from this. Labels that a pair may carry are never looked at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio import features
from rasterio.crs import CRS
from rasterio.warp import transform_geom

from earthgen.errors import WeightsError
from perception.agent.ground import Mask, cell_of, coordinates, inside, pixel_areas
from perception.agent.selection import Selection
from perception.captioner import Caption, ChangeCaptioner
from perception.detection import by_the_right_hand
from perception.detector import ChangeDetector, Progress
from perception.errors import AgentError
from perception.pair import Pair

LEAST_PIXELS = 6
"""Areas of fewer pixels are speckle: they are neither counted nor measured. Change-Agent's own counter has the same."""
MOST_ADDED_CLASSES = 8
"""Class names that one conversation may add to a model's own."""
_COORDINATE_DIGITS = 7
Codes = npt.NDArray[np.uint8]


@runtime_checkable
class ObjectFinder(Protocol):
    """A detector that also says which object changed, though not whether it came or went; see `perception.mci`."""

    def objects(self, pair: Pair, *, progress: Progress | None = None) -> Any:
        """Codes uint8 (h, w) as `kinds`, 0 where nothing changed, and their names as `names`."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a detector found in a pair, without its logits.

    Attributes:
        model: the detector's name.
        change: bool (h, w).
        probability: uint8 (h, w), of change, 0 to 255.
        classes: names of the codes below.
        before: uint8 (h, w), 1 + index of the likeliest class of the earlier picture, everywhere; None if not known.
        after: the same of the later one.
        kinds: uint8 (h, w), 1 + index of what changed, of a detector that does not say in which direction; else None.
    """

    model: str
    change: Mask
    probability: Codes
    classes: tuple[str, ...] = ()
    before: Codes | None = None
    after: Codes | None = None
    kinds: Codes | None = None

    def mask(self, selection: Selection) -> Mask:
        """Pixels of a selection, before sizes and ranks.

        Raises:
            AgentError: the detector cannot tell.
        """
        found = self._mask(selection)
        return found if selection.place is None else found & inside(selection.place, found.shape)

    def _mask(self, selection: Selection) -> Mask:
        subject, other = selection.subject, selection.other
        if selection.when != "change":
            codes = self.before if selection.when == "before" else self.after
            if codes is None:
                raise AgentError(f"{self.model} looks for changes only; it does not say what is there on one date")
            on_date: Mask = codes > 0 if subject is None else codes == self._code(subject)
            return on_date
        if subject is None:
            return self.change
        code = self._code(subject)
        if self.before is None or self.after is None:
            assert self.kinds is not None  # Or there would be no classes.
            if selection.kind != "any":
                raise AgentError(
                    f"{self.model} says that {subject} changed, not whether it came or went; ask for what changed"
                )
            changed: Mask = self.kinds == code
            return changed
        if selection.kind == "any":
            either: Mask = self.change & ((self.before == code) | (self.after == code))
            return either
        here, there = (self.after, self.before) if selection.kind == "came" else (self.before, self.after)
        mask: Mask = self.change & (here == code) & (there != code)
        return mask if other is None else mask & (there == self._code(other))

    def _code(self, name: str) -> int:
        if not self.classes:
            raise AgentError(f"{self.model} finds that something changed, not what; ask without {name!r}")
        if name not in self.classes:
            raise AgentError(f"{self.model} does not look for {name!r}; it knows {', '.join(self.classes)}")
        return self.classes.index(name) + 1


@dataclass(frozen=True, slots=True)
class Region:
    """A connected area (eight neighbours).

    Attributes:
        pixels: how many.
        square_metres: on the ground, or None if that is not known.
        row, column: its middle.
        probability: mean, of change.
        outline: GeoJSON geometry in pixels, (column, row).
        before, after: the class that most of it has on each date; "" if not known.
    """

    pixels: int
    square_metres: float | None
    row: float
    column: float
    probability: float
    outline: dict[str, Any]
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a selection holds.

    Attributes:
        selection: it.
        mask: bool (h, w), its pixels.
        regions: its areas, the largest first.
        speckle: pixels in areas too small to count, which are left out.
    """

    selection: Selection
    mask: Mask
    regions: tuple[Region, ...]
    speckle: int

    @property
    def pixels(self) -> int:
        """How many pixels."""
        return sum(region.pixels for region in self.regions)


class Scene:
    """A pair and those who look at it.

    Args:
        pair: two pictures; its labels are not looked at.
        detector: finds changes.
        captioners: describe them.
        second: another detector, for a second opinion; None if there is none.
        gsd: metres per pixel, for pictures without a reference system.
        any_classes: whether the detector can be asked for classes that are not its own.
        progress: of a detection; may raise to give it up.
    """

    def __init__(
        self,
        pair: Pair,
        detector: ChangeDetector,
        captioners: Sequence[ChangeCaptioner] = (),
        second: ChangeDetector | None = None,
        *,
        gsd: float | None = None,
        any_classes: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.pair = pair
        self.detector = detector
        self.captioners = tuple(captioners)
        self.second = second
        self.any_classes = any_classes
        self.progress = progress
        self._gsd = gsd
        self._added: tuple[str, ...] = ()
        self._seen: dict[tuple[str, tuple[str, ...]], Evidence] = {}
        self._captions: tuple[Caption, ...] | None = None
        self._own: tuple[str, ...] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pair.shape

    @property
    def crs(self) -> CRS | None:
        """The reference system, or None."""
        return self.pair.crs

    @property
    def transform(self) -> Affine:
        """From (column, row) to its coordinates."""
        return self.pair.transform

    @cached_property
    def pixel_areas(self) -> npt.NDArray[np.float64] | None:
        """Square metres of each pixel, float64 (h, w), or None if the scale is not known."""
        return pixel_areas(self.shape, self.pair.transform, self.pair.crs, self._gsd)

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes that can be asked for: the detector's own, and those that were added."""
        if self._own is None:
            own = self.detector.classes
            # Names of objects are only known once it has looked.
            self._own = own or (self.evidence().classes if isinstance(self.detector, ObjectFinder) else ())
        return (*self._own, *self._added)

    def add_class(self, name: str) -> None:
        """Look for a class that is not the detector's own, from now on.

        Raises:
            AgentError: it cannot, or there are too many already.
        """
        if name in self.classes:
            return
        if not self.any_classes:
            known = (
                f"it knows {', '.join(self.classes)}" if self.classes else "it says that something changed, not what"
            )
            raise AgentError(f"{self.detector.name} cannot look for {name!r}; {known}")
        if len(self._added) >= MOST_ADDED_CLASSES:
            raise AgentError(f"{MOST_ADDED_CLASSES} classes were added already; start another conversation")
        self._added = (*self._added, name)

    def evidence(self) -> Evidence:
        """What the detector sees."""
        return self._look(self.detector, self._added)

    def second_opinion(self) -> Evidence:
        """What the other detector sees.

        Raises:
            AgentError: there is none.
        """
        if self.second is None:
            raise AgentError("no second detector has weights here, so there is nobody to compare with")
        try:
            return self._look(self.second, ())
        except WeightsError as error:
            raise AgentError(f"the second detector cannot be used: {error}") from error

    def captions(self) -> tuple[Caption, ...]:
        """What the captioners say.

        Raises:
            AgentError: there are none.
        """
        if not self.captioners:
            raise AgentError("no captioner has weights here")
        if self._captions is None:
            said = []
            for captioner in self.captioners:
                # Such as Semantic-CC without its language model: the others may still have something to say.
                with contextlib.suppress(WeightsError):
                    said.append(captioner.caption(self.pair))
            self._captions = tuple(said)
        if not self._captions:
            raise AgentError("no captioner here can be used")
        return self._captions

    def find(self, selection: Selection) -> Found:
        """Pixels and areas of a selection.

        Raises:
            AgentError: the detector cannot tell, or sizes are asked for and the scale is not known.
        """
        for name in (selection.subject, selection.other):
            if name is not None and self.any_classes:
                self.add_class(name)
        evidence = self.evidence()
        raw = evidence.mask(selection)
        sized = selection.least_m2 is not None or selection.most_m2 is not None
        if sized and self.pixel_areas is None:
            raise AgentError(
                "the pictures have no reference system and nobody said how large a pixel is, so areas have no size in"
                " metres; give metres per pixel, or ask in pixels"
            )
        regions, numbers = self._regions(raw, evidence)
        kept = [index for index, region in enumerate(regions) if region.pixels >= LEAST_PIXELS]
        speckle = int(raw.sum()) - sum(regions[index].pixels for index in kept)
        kept = [index for index in kept if _fits(regions[index], selection)]
        kept.sort(key=lambda index: -regions[index].pixels)
        if selection.rank == "largest":
            kept = kept[: selection.first]
        elif selection.rank == "smallest":
            kept = kept[::-1][: selection.first]
        mask = np.isin(numbers, np.asarray(kept, dtype=np.int64) + 1)
        return Found(selection, mask, tuple(regions[index] for index in kept), speckle)

    def square_metres(self, mask: Mask) -> float | None:
        """Square metres of the pixels of a mask, or None if the scale is not known."""
        return None if self.pixel_areas is None else float(self.pixel_areas[mask].sum())

    def position(self, region: Region) -> tuple[float, float] | None:
        """Longitude and latitude of an area's middle, or None without a reference system."""
        if self.crs is None:
            return None
        longitudes, latitudes = coordinates(np.array([region.row]), np.array([region.column]), self.transform, self.crs)
        return float(longitudes[0]), float(latitudes[0])

    def geojson(self, found: Found, most: int | None = None) -> dict[str, Any]:
        """Areas as a GeoJSON feature collection in longitude and latitude, the largest first.

        Args:
            found: the areas.
            most: keep so many and say in `left_out` how many others there are; None for all.

        Raises:
            AgentError: the pictures have no reference system.
        """
        if self.crs is None:
            raise AgentError(
                "the pictures have no reference system, so areas have no coordinates for GeoJSON; ask for a mask"
            )
        regions = found.regions[:most]
        on_grid = [_placed(region.outline, self.transform) for region in regions]
        geometries = transform_geom(self.crs, CRS.from_epsg(4326), on_grid, precision=_COORDINATE_DIGITS)
        for geometry in geometries:
            geometry["coordinates"] = by_the_right_hand(geometry["coordinates"])
        collection: dict[str, Any] = {
            "type": "FeatureCollection",
            "features": [
                {"type": "Feature", "properties": self.described(region), "geometry": geometry}
                for region, geometry in zip(regions, geometries, strict=True)
            ],
        }
        return collection if most is None else collection | {"left_out": len(found.regions) - len(regions)}

    def described(self, region: Region) -> dict[str, Any]:
        """An area as JSON."""
        described: dict[str, Any] = {
            "pixels": region.pixels,
            "place": cell_of(region.row, region.column, self.shape),
            "probability": round(region.probability, 4),
        }
        if region.square_metres is not None:
            described["area_m2"] = round(region.square_metres, 2)
        return described | {
            name: value for name, value in (("before", region.before), ("after", region.after)) if value
        }

    def _look(self, detector: ChangeDetector, added: tuple[str, ...]) -> Evidence:
        key = (detector.name, added)
        if key not in self._seen:
            names = [*detector.classes, *added] if added else None
            found = detector.detect(self.pair, classes=names, progress=self.progress)
            before = after = kinds = None
            classes = found.classes
            if found.semantics is not None:
                # Of every pixel, also where nothing changed: that is what a segmentation of one date is.
                before, after = (codes.argmax(axis=0).astype(np.uint8) + 1 for codes in found.semantics)
            elif isinstance(detector, ObjectFinder):
                objects = detector.objects(self.pair, progress=self.progress)
                kinds, classes = objects.kinds, tuple(objects.names)
            if self.pair.valid is not None and before is not None and after is not None:
                before, after = before * self.pair.valid, after * self.pair.valid
            probability = np.rint(found.probability * 255).astype(np.uint8)
            self._seen[key] = Evidence(detector.name, found.mask, probability, classes, before, after, kinds)
        return self._seen[key]

    def _regions(self, mask: Mask, evidence: Evidence) -> tuple[list[Region], npt.NDArray[np.int32]]:
        """Connected areas of a mask, and for each pixel the number of its area from 1 on."""
        outlines = [shape for shape, _ in features.shapes(mask.astype(np.uint8), mask=mask, connectivity=8)]
        if not outlines:
            return [], np.zeros(mask.shape, dtype=np.int32)
        numbers = features.rasterize(
            ((outline, index + 1) for index, outline in enumerate(outlines)), out_shape=mask.shape, dtype="int32"
        )
        # A hole of one area may hold another, and is no part of the first.
        numbers[~mask] = 0
        flat, size = numbers.ravel(), len(outlines) + 1
        pixels = np.bincount(flat, minlength=size)
        rows, columns = np.indices(mask.shape)
        sums = [
            np.bincount(flat, weights=values.ravel(), minlength=size)
            for values in (rows + 0.5, columns + 0.5, evidence.probability / 255.0)
        ]
        metres = None
        if self.pixel_areas is not None:
            metres = np.bincount(flat, weights=self.pixel_areas.ravel(), minlength=size)
        names = [
            [""] * size if codes is None else _likeliest(flat, codes.ravel(), size, evidence.classes)
            for codes in (evidence.before, evidence.after)
        ]
        regions = [
            Region(
                int(pixels[index]),
                None if metres is None else float(metres[index]),
                float(sums[0][index] / max(1, pixels[index])),
                float(sums[1][index] / max(1, pixels[index])),
                float(sums[2][index] / max(1, pixels[index])),
                outlines[index - 1],
                names[0][index],
                names[1][index],
            )
            for index in range(1, size)
        ]
        return regions, numbers


def _likeliest(flat: npt.NDArray[np.int32], codes: Codes, size: int, classes: tuple[str, ...]) -> list[str]:
    """The class that most pixels of each area have."""
    counts = np.bincount(flat * (len(classes) + 1) + codes, minlength=size * (len(classes) + 1))
    best = counts.reshape(size, -1)[:, 1:].argmax(axis=1)
    return [classes[index] for index in best]


def _fits(region: Region, selection: Selection) -> bool:
    metres = region.square_metres or 0.0
    return (
        (selection.least_m2 is None or metres >= selection.least_m2)
        and (selection.most_m2 is None or metres <= selection.most_m2)
        and (selection.least_pixels is None or region.pixels >= selection.least_pixels)
        and (selection.most_pixels is None or region.pixels <= selection.most_pixels)
    )


def _placed(outline: dict[str, Any], transform: Affine) -> dict[str, Any]:
    """An outline in pixels as one in coordinates."""
    rings = []
    for ring in outline["coordinates"]:
        points = np.asarray(ring, dtype=np.float64)
        x = transform.c + transform.a * points[:, 0] + transform.b * points[:, 1]
        y = transform.f + transform.d * points[:, 0] + transform.e * points[:, 1]
        rings.append(list(zip(x.tolist(), y.tolist(), strict=True)))
    return {"type": "Polygon", "coordinates": rings}

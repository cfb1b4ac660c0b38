"""What is validated: the pixels of a region of a world, at some zooms and on some dates, each made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from earthgen.errors import InvalidRequestError, RequestTooLargeError
from earthgen.finding import whole_area
from earthgen.pyramid import MAX_ZOOM, Bounds, Box, bounds_box, check_bounds, ground_sampling_distance, row_latitudes
from earthgen.world import World

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 1 << 22
"""Pixels of the region at one zoom: 2048 x 2048."""
_COMFORTABLE = 1280 * 1280
"""Pixels that the region has at most at the zoom that is taken if none is asked for."""
MAX_DATES = 12


class PixelSource(Protocol):
    """What validators need of an `earthgen.Engine`."""

    @property
    def weights_id(self) -> str:
        """Content id of the weights."""
        ...

    def pixels(self, world: World, box: Box, *, cancelled: Callable[[], bool] | None = None) -> Pixels:
        """uint8 (h, w, 3) of a box."""
        ...


@dataclass(frozen=True, slots=True)
class Moment:
    """A state of the world: its edits of one day, without their dates.

    Attributes:
        name: how people call it.
        world: what is shown.
    """

    name: str
    world: World


@dataclass(slots=True)
class Subject:
    """A region of a world.

    Attributes:
        engine: makes the pixels.
        world: with its dates.
        bounds: west, south, east, north in degrees.
        zooms: from coarse to fine.
        moments: the states that are looked at, in order; at least one, of which the last counts where one is enough.
        pairs: states to compare, earlier and later.
    """

    engine: PixelSource
    world: World
    bounds: Bounds
    zooms: tuple[int, ...]
    moments: tuple[Moment, ...]
    pairs: tuple[tuple[Moment, Moment], ...]
    _made: dict[tuple[World, Box], Pixels] = field(default_factory=dict)

    @property
    def now(self) -> Moment:
        """The state that counts where one is enough."""
        return self.moments[-1]

    def box(self, zoom: int) -> Box:
        """The pixels of the region at a zoom."""
        return bounds_box(self.bounds, zoom)

    def pixels(self, moment: Moment, box: Box) -> Pixels:
        """Pixels of a box; those of a whole region are kept."""
        key = (moment.world, box)
        if key not in self._made:
            self._made[key] = self.engine.pixels(moment.world, box)
        return self._made[key]


def gsd_of(box: Box) -> float:
    """True metres per pixel in the middle of a box."""
    latitude = float(row_latitudes(box.zoom, box.row + box.height // 2, 1)[0])
    return ground_sampling_distance(box.zoom, latitude)


def subject_of(
    engine: PixelSource,
    world: World,
    bounds: Bounds | None = None,
    zooms: Sequence[int] | None = None,
    dates: Sequence[str] = (),
) -> Subject:
    """Check what is asked for and put it together; no pixel is made yet.

    Args:
        engine: makes the pixels.
        world: which world.
        bounds: west, south, east, north in degrees; None is the picture of a world by prompt, or all of another one.
        zooms: None takes the finest at which the region has at most 1280 x 1280 pixels.
        dates: ISO dates, in order; without any, the edits that never end.

    Raises:
        InvalidRequestError: bounds, zooms or dates that make no sense.
        RequestTooLargeError: more than MAX_PIXELS pixels at a zoom.
    """
    area = bounds or whole_area(world)
    check_bounds(area)
    chosen = tuple(sorted(set(zooms))) if zooms else (_comfortable_zoom(world, area),)
    for zoom in chosen:
        world.check_zoom(zoom)
        box = bounds_box(area, zoom)
        if box.height * box.width > MAX_PIXELS:
            raise RequestTooLargeError(
                f"the region has {box.width} x {box.height} pixels at zoom {zoom}; at most {MAX_PIXELS} are allowed:"
                " take a smaller region or a coarser zoom"
            )
    if len(dates) > MAX_DATES:
        raise InvalidRequestError(f"{len(dates)} dates; at most {MAX_DATES} are allowed")
    if list(dates) != sorted(set(dates)):
        raise InvalidRequestError(f"dates are {', '.join(dates)}; different ones from early to late are allowed")
    moments = tuple(Moment(day, world.at(day)) for day in dates) or (Moment("without a date", world.at()),)
    pairs = tuple(pairwise(moments))
    if len(moments) == 1 and moments[0].world.edits:
        # One state alone is compared with the world as it would be without edits.
        plain = World.from_dict(moments[0].world.to_dict() | {"edits": []})
        pairs = ((Moment("without edits", plain), moments[0]),)
    return Subject(engine, world, area, chosen, moments, pairs)


def _comfortable_zoom(world: World, area: Bounds) -> int:
    for zoom in range(MAX_ZOOM, world.min_zoom, -1):
        box = bounds_box(area, zoom)
        if box.height * box.width <= _COMFORTABLE:
            return zoom
    return world.min_zoom

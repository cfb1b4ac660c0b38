"""What maps will probably show next, made while nobody waits for anything.

After a view has been answered, the tiles around it and those of the next zoom under its centre are made, one window
at a time. As soon as a request comes, this stops: it then holds at most one of the engine's threads, for no longer than
the window takes that it has begun.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from earthgen.errors import EarthgenError, RequestCancelledError
from earthgen.pyramid import MAX_ZOOM, Box, world_size
from earthgen.world import World
from tileserver.reader import WorldEngine

MOST_TILES = 48
"""Tiles that are made ahead of one view."""
QUIET_S = 0.5
"""Seconds without a request after which nobody is taken to be waiting."""
_SAME_VIEW_S = 2.0
"""Seconds between two tiles beyond which they belong to two views."""
_VIEWS = 32
_TILES_OF_A_VIEW = 256
_POLL_S = 0.05
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class View:
    """What one client looks at.

    Attributes:
        world: that it sees.
        tiles: that it has asked for, all of one zoom and size.
        at: when it last did, in seconds.
        heading: how far the view has moved, in rows and columns of pixels at its zoom.
    """

    world: World
    tiles: deque[Box]
    at: float
    heading: tuple[float, float] = (0.0, 0.0)

    @property
    def centre(self) -> tuple[float, float]:
        """Row and column of the middle, in pixels."""
        top, left, bottom, right = self._extent()
        return (top + bottom) / 2, (left + right) / 2

    def next_tiles(self) -> list[Box]:
        """What it will probably show next, likeliest first: tiles around it and, in turn, those of the next zoom."""
        both = zip_longest(self._around(), self._below())
        return [box for box in chain.from_iterable(both) if box is not None][:MOST_TILES]

    def _extent(self) -> tuple[int, int, int, int]:
        return (
            min(tile.row for tile in self.tiles),
            min(tile.column for tile in self.tiles),
            max(tile.row + tile.height for tile in self.tiles),
            max(tile.column + tile.width for tile in self.tiles),
        )

    def _around(self) -> list[Box]:
        """The ring of tiles around the view, those ahead of its movement first."""
        top, left, bottom, right = self._extent()
        side, zoom = self.tiles[0].height, self.tiles[0].zoom
        if right - left >= world_size(zoom):
            return []
        rows, columns = range(top - side, bottom + side, side), range(left - side, right + side, side)
        ring = [
            Box(zoom, row, column % world_size(zoom), side, side)
            for row in rows
            for column in columns
            if (row in (rows[0], rows[-1]) or column in (columns[0], columns[-1])) and 0 <= row < world_size(zoom)
        ]
        middle_row, middle_column = self.centre

        def behind(tile: Box) -> float:
            away = tile.row + side / 2 - middle_row, tile.column + side / 2 - middle_column
            distance = math.hypot(*away)
            return distance - 2 * (away[0] * self.heading[0] + away[1] * self.heading[1]) / max(1.0, distance)

        return sorted(ring, key=behind)

    def _below(self) -> list[Box]:
        """Tiles of the next zoom that show the middle half of the view, from its centre on."""
        side, zoom = self.tiles[0].height, self.tiles[0].zoom + 1
        if zoom > MAX_ZOOM:
            return []
        top, left, bottom, right = self._extent()
        row, column = (int(2 * value) for value in self.centre)
        height, width = (bottom - top) // 2, (right - left) // 2
        rows = range(max(0, row - height) // side * side, min(world_size(zoom), row + height), side)
        columns = range((column - width) // side * side, column + width, side)
        cells = sorted(
            ((abs(y + side / 2 - row) + abs(x + side / 2 - column), y, x) for y in rows for x in columns),
            key=lambda cell: cell[0],
        )
        return [Box(zoom, y, x % world_size(zoom), side, side) for _, y, x in cells]


@dataclass(slots=True)
class _Plan:
    """What is left to make for a view."""

    view: View
    left: Iterator[Box]
    again: list[Box] = field(default_factory=list)


class WarmUp:
    """A thread that makes what maps will probably show next; ended by `close`.

    Args:
        engine: that makes it.
        idle: whether nobody waits for anything.
    """

    def __init__(self, engine: WorldEngine, idle: Callable[[], bool]) -> None:
        self.made = 0
        self._engine = engine
        self._idle = idle
        self._views: OrderedDict[str, View] = OrderedDict()
        self._changed: set[str] = set()
        self._last_request = time.monotonic()
        self._condition = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="warm-up", daemon=True)
        self._thread.start()

    def seen(self, client: str, world: World, tile: Box) -> None:
        """Note a tile that a client has been shown.

        Args:
            client: name of the client.
            world: of the tile.
            tile: its pixels; a square.
        """
        now = time.monotonic()
        with self._condition:
            self._last_request = now
            view = self._views.pop(client, None)
            alike = view is not None and view.world == world and view.tiles[0].zoom == tile.zoom
            if view is None or not alike or view.tiles[0].height != tile.height:
                view = View(world, deque([tile], _TILES_OF_A_VIEW), now)
            elif now - view.at > _SAME_VIEW_S:
                moved = View(world, deque([tile], _TILES_OF_A_VIEW), now)
                before, after = view.centre, moved.centre
                moved.heading = after[0] - before[0], after[1] - before[1]
                view = moved
            else:
                view.tiles.append(tile)
                view.at = now
            self._views[client] = view
            self._changed.add(client)
            while len(self._views) > _VIEWS:
                forgotten, _ = self._views.popitem(last=False)
                self._changed.discard(forgotten)
            self._condition.notify()

    def close(self) -> None:
        """Stop; what is being made is given up."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()

    def _busy(self) -> bool:
        """Whether to stop: somebody may be waiting, or the server is."""
        return self._closed or time.monotonic() - self._last_request < QUIET_S or not self._idle()

    def _work(self) -> None:
        plans: OrderedDict[str, _Plan] = OrderedDict()
        while True:
            with self._condition:
                while not self._closed and not self._changed and not plans:
                    self._condition.wait()
                if self._closed:
                    return
                if self._busy():
                    self._condition.wait(_POLL_S)
                    continue
                # All views that were asked for meanwhile are new: what was planned for them is out of date.
                for client in self._changed:
                    view = self._views[client]
                    plans[client] = _Plan(view, iter(view.next_tiles()))
                self._changed.clear()
                for client in [name for name in plans if name not in self._views]:
                    del plans[client]
            self._step(plans)

    def _step(self, plans: OrderedDict[str, _Plan]) -> None:
        """Make the next tile of the client whose turn it is."""
        client, plan = next(iter(plans.items()), ("", None))
        if plan is None:
            return
        plans.move_to_end(client)
        tile = plan.again.pop() if plan.again else next(plan.left, None)
        if tile is None:
            del plans[client]
            return
        try:
            if not self._engine.is_ready(plan.view.world, tile):
                self._engine.prepare(plan.view.world, tile, cancelled=self._busy)
                self.made += 1
        except RequestCancelledError:
            plan.again.append(tile)
        except (EarthgenError, OSError):
            # Nobody has asked for it; whoever does is told.
            _logger.debug("could not make %s ahead", tile, exc_info=True)
            del plans[client]

"""Hypothesis strategies that several test modules share."""

from __future__ import annotations

from datetime import date

from hypothesis import strategies as st

from earthgen.pyramid import MAX_LATITUDE, MAX_ZOOM, Bounds, Box, world_size
from earthgen.world import ACTIONS, MAX_GSD, MAX_GUIDANCE, MAX_SEED, MIN_GSD, MIN_GUIDANCE, ROOTS, Edit, World

zooms = st.integers(0, MAX_ZOOM)
seeds = st.integers(0, MAX_SEED)
longitudes = st.floats(-180, 180)
latitudes = st.floats(-MAX_LATITUDE, MAX_LATITUDE)
texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=40)
"""What a prompt may be."""
some_text = texts.filter(str.strip)


@st.composite
def tiles(draw: st.DrawFn) -> tuple[int, int, int]:
    """(zoom, x, y) of a tile that exists."""
    zoom = draw(zooms)
    index = st.integers(0, 2**zoom - 1)
    return zoom, draw(index), draw(index)


@st.composite
def boxes(draw: st.DrawFn, max_side: int = 2000) -> Box:
    """A box inside the world that does not wrap."""
    zoom = draw(zooms)
    size = world_size(zoom)
    row, column = draw(st.integers(0, size - 1)), draw(st.integers(0, size - 1))
    height = draw(st.integers(1, min(max_side, size - row)))
    width = draw(st.integers(1, min(max_side, size - column)))
    return Box(zoom, row, column, height, width)


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    """Bounds that are valid, however thin."""
    west, east = sorted(draw(st.lists(longitudes, min_size=2, max_size=2, unique=True)))
    south, north = sorted(draw(st.lists(latitudes, min_size=2, max_size=2, unique=True)))
    return west, south, east, north


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    """An edit of any action with a polygon of three to six vertices."""
    vertex = st.tuples(st.floats(-180, 180), st.floats(-90, 90))
    polygon = draw(st.lists(vertex, min_size=3, max_size=6, unique=True))
    days = sorted(draw(st.lists(st.dates(date(1900, 1, 1)), min_size=2, max_size=2, unique=True)))
    valid_from, valid_until = (draw(st.sampled_from([None, day.isoformat()])) for day in days)
    action = draw(st.sampled_from(ACTIONS))
    prompt = draw(some_text) if action == "prompt" else ""
    seeded = {"reseed": seeds, "prompt": st.none() | seeds, "remove": st.none() | seeds}
    seed = draw(seeded.get(action, st.none()))
    return Edit(tuple(polygon), prompt, valid_from, valid_until, action, seed)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A world of any root."""
    root = draw(st.sampled_from(ROOTS))
    return World(
        root=root,
        seed=draw(seeds),
        prompt=draw(some_text if root == "prompt" else texts),
        edits=tuple(draw(st.lists(edits(), max_size=3))),
        negative=draw(texts),
        guidance=draw(st.floats(MIN_GUIDANCE, MAX_GUIDANCE)),
        gsd=draw(st.floats(MIN_GSD, MAX_GSD)) if root == "prompt" else None,
    )

"""What the pixels of a world are made of: parts, what each needs, and how it is made from that.

A part is a window of the world with its first so many edits, or an intermediate result. Every part is a pure
function of its inputs; the engine finds out which are missing, and makes them in any order that inputs allow.

With P[k] for the world with its first k edits, and E for the entry level of edit k:

- at E, pixels of the edit's support are P[k-1] mixed with the edit's content by the feathered mask;
- finer, blocks whose ancestor at E lies in the support are the cascade's children of P[k]'s parents;
- coarser, pixels that hold a part of the support are the exact rounded mean of all that lies below them;
- every other pixel is that of P[k-1].

Means are exact across edits: where a coarse pixel was rounded, its sum over the pixels of the finest zoom is kept
as an integer, and later means are taken from sums.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from earthgen.cascade import CascadeStep
from earthgen.editing import FEATHER, Layer, gather, layers_of, placed
from earthgen.errors import WorldError
from earthgen.infill import fill_hole
from earthgen.noise import NoiseField
from earthgen.presets import apply_preset
from earthgen.prompting import PromptRoot, Words, encoder_id
from earthgen.pyramid import (
    LEVEL_ZOOMS,
    MAX_ZOOM,
    SCALE,
    WINDOW_SIZE,
    Box,
    Window,
    ground_sampling_distance,
    windows_of,
    world_size,
)
from earthgen.world import MAX_SEED, STANDARD, Edit, World

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Sums = npt.NDArray[np.int64]
Kind = Literal["pixels", "sums", "change", "fill"]

INFILL_STREAM = 12
"""The stream of NoiseField that the roughness of filled holes is taken from."""
RING = 4
"""Pixels, at the parents' level of an edit's entry, around a hole that its filling is made from."""


class Part(NamedTuple):
    """Something to be made.

    Attributes:
        kind: "pixels" of a window, uint8 (128, 128, 3); their exact "sums", int64 (128, 128, 3); by how much an
            edit's entry "change"s the sums of its parents' pixels; the "fill" of a hole, at the parents' level.
        depth: how many edits are in it.
        window: which window; of a change or fill, one for all: the first of the support.
    """

    kind: Kind
    depth: int
    window: Window


@dataclass(frozen=True, slots=True)
class Kit:
    """What an engine makes pixels with.

    Attributes:
        fingerprint: names everything but the world and the address that pixels without text depend on.
        step: the cascade.
        hears_text: whether the cascade's network takes text.
        prompts: makes the roots of prompts, or None.
        why_no_prompts: the reason if there is none.
    """

    fingerprint: str
    step: CascadeStep
    hears_text: bool
    prompts: PromptRoot | None
    why_no_prompts: str = ""


class _Told(NamedTuple):
    """What generation is told: words, and seed and zoom of the root that was made from them, 0 and None if none was."""

    words: Words
    seed: int = 0
    zoom: int | None = None


class Plan:
    """How to make one world; cheap to construct.

    Args:
        world: without dates, see `World.at`.
        kit: what it is made with.
        picture: the picture that is the world's root, at zoom 4; not asked of worlds by prompt.

    Attributes:
        depth: how many edits the world has.

    Raises:
        WorldError: the kit cannot make this world.
    """

    def __init__(self, world: World, kit: Kit, picture: Callable[[], Pixels]) -> None:
        _check(world, kit)
        self.world = world
        self.layers: tuple[Layer, ...] = layers_of(world)
        self.depth = len(self.layers)
        self._kit = kit
        self._picture = picture
        self._root_zoom = world.root_zoom
        self._told = _Told(Words(world.prompt, world.negative, world.guidance))
        if world.root == "prompt":
            self._told = self._told._replace(seed=world.seed, zoom=self._root_zoom)
        self._bounds: dict[int, npt.NDArray[np.int64]] = {}
        self._touching: dict[Window, tuple[int, ...]] = {}
        self._relevant: dict[Part, frozenset[int]] = {}
        self._streams: dict[frozenset[int], str] = {}

    def pixels(self, window: Window, depth: int | None = None) -> Part:
        """The pixels of a window on a level, with the first `depth` edits (all if None)."""
        touching = self._edits_of(window, depth)
        return Part("pixels", touching[-1] if touching else 0, window)

    def exact(self, window: Window, depth: int | None = None) -> Part:
        """What coarser means of a window are to be taken from: its sums where it has been rounded, or its pixels."""
        touching = self._edits_of(window, depth)
        rounded = any(self.layers[k - 1].zoom > window.zoom for k in touching)
        return Part("sums" if rounded else "pixels", touching[-1] if touching else 0, window)

    def ready(self, part: Part) -> Pixels | None:
        """The part if nothing has to be made for it: a window of the root's picture."""
        if part.depth or part.window.zoom > self._root_zoom or self.world.root == "prompt":
            return None
        box = part.window.box
        return self._picture()[box.row : box.row + box.height, box.column : box.column + box.width]

    def key(self, part: Part) -> str:
        """Names the bytes of a part: worlds that differ only in what it does not depend on share it."""
        stream = self._stream(self._relevant_edits(part))
        if part.kind in ("change", "fill"):
            return f"{stream}/{part.kind}"
        window = part.window
        ending = "" if part.kind == "pixels" else f"-{part.kind}"
        return f"{stream}/{window.zoom}/{window.row >> 5}-{window.column >> 5}/{window.row}-{window.column}{ending}"

    def inputs(self, part: Part) -> tuple[Part, ...]:
        """What a part is made from."""
        match part.kind:
            case "sums":
                return self._sums_inputs(part)
            case "change":
                return self._change_inputs(part)
            case "fill":
                layer = self.layers[part.depth - 1]
                return self._pixels_of(layer.box.grown(RING * SCALE), part.depth - 1)
        depth, window = part.depth, part.window
        if depth == 0:
            return () if window.zoom == self._root_zoom else self._parents(window, 0)
        layer = self.layers[depth - 1]
        if window.zoom < layer.zoom:
            below, _ = self._coarse_run(window, depth)
            return self.pixels(window, below), Part("sums", depth, window)
        below_it = self.pixels(window, depth - 1)
        if window.zoom == layer.zoom:
            return below_it, *self._content_inputs(window, depth)
        parents = self._parents(window, depth)
        return parents if layer.covers(window.box) else (below_it, *parents)

    def make(self, part: Part, have: Mapping[Part, Pixels]) -> Pixels:
        """Make a part.

        Args:
            part: what to make.
            have: its inputs.

        Returns:
            The part; int64 is given as its bytes, (..., 24).
        """
        match part.kind:
            case "sums":
                return _as_bytes(self._sums(part, have))
            case "change":
                return _as_bytes(self._change(part, have))
            case "fill":
                return self._fill(part, have)
        depth, window = part.depth, part.window
        if depth == 0:
            return self._original(window, have)
        layer = self.layers[depth - 1]
        if window.zoom < layer.zoom:
            return self._coarse(window, depth, have)
        if window.zoom == layer.zoom:
            return self._entered(window, depth, have)
        children = self._children(window, depth, self.world.seed, self._told_inside(layer), have)
        if layer.covers(window.box):
            return children
        unedited = have[self.pixels(window, depth - 1)]
        return np.where(layer.within(window.box)[..., None], children, unedited)

    def means(self, part: Part, pixels: Pixels, zoom: int) -> Pixels:
        """The rounded means of an `exact` part at a coarser zoom of at most its own size: uint8 (h, w, 3)."""
        side = WINDOW_SIZE >> part.window.zoom - zoom
        if part.kind == "pixels":
            return pixels if side == WINDOW_SIZE else mean(pixels, WINDOW_SIZE // side)
        sums = _sums_of(part, pixels).reshape(side, WINDOW_SIZE // side, side, WINDOW_SIZE // side, 3)
        return _rounded(sums.sum(axis=(1, 3)), zoom)

    def _original(self, window: Window, have: Mapping[Part, Pixels]) -> Pixels:
        """A window without edits."""
        if window.zoom == self._root_zoom:
            return self._by_prompt(window, self._told)
        return self._children(window, 0, self.world.seed, self._told, have)

    def _by_prompt(self, window: Window, told: _Told) -> Pixels:
        assert self._kit.prompts is not None
        return self._kit.prompts.window(told.seed, window, told.words, self._kit.step)

    def _children(self, window: Window, depth: int, seed: int, told: _Told, have: Mapping[Part, Pixels]) -> Pixels:
        """A window of the cascade's children of its parents with the first `depth` edits."""
        box = self._kit.step.parent_box(window)
        inside = rows_within(box)
        windows = {parent: have[self.pixels(parent, depth)] for parent in windows_of(inside)}
        return self._cascade(window, stitch(inside, windows), seed, told)

    def _cascade(self, window: Window, parents: Pixels, seed: int, told: _Told) -> Pixels:
        """A window from its parents inside the world's rows; beyond the projection's edges the last row goes on."""
        box = self._kit.step.parent_box(window)
        inside = rows_within(box)
        above, below = inside.row - box.row, box.row + box.height - inside.row - inside.height
        if above or below:
            parents = np.pad(parents, ((above, below), (0, 0), (0, 0)), mode="edge")
        guide = told.words.guide() if told.words and self._kit.hears_text else None
        drawing = None
        if told.zoom is not None:
            assert self._kit.prompts is not None
            drawing = self._kit.prompts.drawing(told.seed, told.words, told.zoom)
        return self._kit.step.window(seed, window, parents, guide, drawing)

    def _entered(self, window: Window, depth: int, have: Mapping[Part, Pixels]) -> Pixels:
        """A window at the entry level of its last edit: what was there, mixed with what the edit brings."""
        layer = self.layers[depth - 1]
        before = have[self.pixels(window, depth - 1)]
        share = layer.weights_in(window.box)[..., None].astype(np.uint16)
        mixed = share * self._content(window, depth, before, have) + (FEATHER - share) * before
        result: Pixels = ((mixed + FEATHER // 2) // FEATHER).astype(np.uint8)
        return result

    def _content_inputs(self, window: Window, depth: int) -> tuple[Part, ...]:
        """What the content of an edit is made from, besides what was there."""
        layer = self.layers[depth - 1]
        match layer.edit.action:
            case "reseed":
                return () if window.zoom == self._root_zoom else self._parents(window, depth - 1)
            case "remove":
                return Part("fill", depth, layer.windows()[0]), *self._pixels_of(self._around(window), depth - 1)
        return ()

    def _content(self, window: Window, depth: int, before: Pixels, have: Mapping[Part, Pixels]) -> Pixels:
        """What an edit brings to a window of its entry level."""
        edit = self.layers[depth - 1].edit
        seed = edit_seed(self.world, edit)
        match edit.action:
            case "prompt":
                return self._by_prompt(window, self._told_inside(self.layers[depth - 1]))
            case "reseed":
                assert edit.seed is not None
                told = self._told_inside(self.layers[depth - 1])
                if window.zoom == self._root_zoom:
                    return self._by_prompt(window, told)
                return self._children(window, depth - 1, edit.seed, told, have)
            case "remove":
                return self._cascade(window, self._filled_parents(window, depth, have), seed, self._told)
        return apply_preset(edit.action, before, seed, window.box)

    def _told_inside(self, layer: Layer) -> _Told:
        """What generation is told inside an edit."""
        edit = layer.edit
        if edit.action == "prompt":
            return _Told(replace(self._told.words, prompt=edit.prompt), edit_seed(self.world, edit), layer.zoom)
        if edit.action == "reseed" and layer.zoom == self._told.zoom:
            assert edit.seed is not None
            return self._told._replace(seed=edit.seed)
        return self._told

    def _around(self, window: Window) -> Box:
        """The pixels of a window's own level that lie below its parents, inside the world's rows."""
        box = rows_within(self._kit.step.parent_box(window))
        return Box(window.zoom, *(SCALE * value for value in (box.row, box.column, box.height, box.width)))

    def _filled_parents(self, window: Window, depth: int, have: Mapping[Part, Pixels]) -> Pixels:
        """A window's parents, the means of what was there, with the support's replaced by the filling of the hole."""
        layer = self.layers[depth - 1]
        around = self._around(window)
        parents = mean(self._stitched(around, depth - 1, have), SCALE)
        box = around.parent()
        fill = placed(have[Part("fill", depth, layer.windows()[0])], layer.box_at(box.zoom), box)
        return np.where(layer.within(box)[..., None], fill, parents)

    def _fill(self, part: Part, have: Mapping[Part, Pixels]) -> Pixels:
        """The filling of an edit's support, at the parents' level."""
        layer = self.layers[part.depth - 1]
        hole = layer.box_at(layer.zoom - LEVEL_ZOOMS)
        box = rows_within(hole.grown(RING))
        ground = Box(layer.zoom, *(SCALE * value for value in (box.row, box.column, box.height, box.width)))
        parents = mean(self._stitched(ground, part.depth - 1, have), SCALE)
        seed = edit_seed(self.world, layer.edit)
        noise = NoiseField(seed, layer.zoom, INFILL_STREAM).normal(
            box.row, box.column, box.height, box.width, 1, wrap=world_size(box.zoom)
        )
        filled = fill_hole(parents, layer.within(box), noise[0])
        top, left = hole.row - box.row, hole.column - box.column
        return np.ascontiguousarray(filled[top : top + hole.height, left : left + hole.width])

    def _coarse_run(self, window: Window, depth: int) -> tuple[int, list[int]]:
        """Edits up to `depth` that touch a window from below, and how many edits lie before the first of them.

        Edits that only change means may be applied together; the run ends at one that enters here or coarser.
        """
        run: list[int] = []
        for k in reversed(self._edits_of(window, depth)):
            if self.layers[k - 1].zoom <= window.zoom:
                return k, run[::-1]
            run.append(k)
        return 0, run[::-1]

    def _coarse(self, window: Window, depth: int, have: Mapping[Part, Pixels]) -> Pixels:
        """A window coarser than its last edit: rounded means where the run's edits touch it."""
        below, run = self._coarse_run(window, depth)
        touched = np.logical_or.reduce([self.layers[k - 1].within(window.box) for k in run])
        sums = have[Part("sums", depth, window)].view(np.int64)
        return np.where(touched[..., None], _rounded(sums, window.zoom), have[self.pixels(window, below)])

    def _sums_inputs(self, part: Part) -> tuple[Part, ...]:
        _, depth, window = part
        if self.layers[depth - 1].zoom <= window.zoom:
            return self.pixels(window, depth), self.exact(window, depth - 1)
        below, run = self._coarse_run(window, depth)
        return self.exact(window, below), *(Part("change", k, self.layers[k - 1].windows()[0]) for k in run)

    def _sums(self, part: Part, have: Mapping[Part, Pixels]) -> Sums:
        """The sums of a window's pixels over the finest zoom below each."""
        _, depth, window = part
        layer = self.layers[depth - 1]
        if layer.zoom <= window.zoom:
            top, rest = self.pixels(window, depth), self.exact(window, depth - 1)
            inside = layer.within(window.box)[..., None]
            return np.where(inside, _sums_of(top, have[top]), _sums_of(rest, have[rest]))
        below, run = self._coarse_run(window, depth)
        rest = self.exact(window, below)
        sums = _sums_of(rest, have[rest])
        for k in run:
            layer = self.layers[k - 1]
            change = have[Part("change", k, layer.windows()[0])].view(np.int64)
            at = layer.box_at(layer.zoom - LEVEL_ZOOMS)
            if window.zoom < at.zoom:
                change, at = gather(change, at, window.zoom, np.add), layer.box_at(window.zoom)
            sums = sums + placed(change, at, window.box)
        return sums

    def _change_inputs(self, part: Part) -> tuple[Part, ...]:
        windows = self.layers[part.depth - 1].windows()
        return tuple(
            needed
            for window in windows
            for needed in (self.pixels(window, part.depth), self.exact(window, part.depth - 1))
        )

    def _change(self, part: Part, have: Mapping[Part, Pixels]) -> Sums:
        """By how much an edit changes the sums of the pixels one level above its entry."""
        layer = self.layers[part.depth - 1]
        box = layer.box_at(layer.zoom - LEVEL_ZOOMS)
        total = np.zeros((box.height, box.width, 3), dtype=np.int64)
        for window in layer.windows():
            after, before = self.pixels(window, part.depth), self.exact(window, part.depth - 1)
            change = _sums_of(after, have[after]) - _sums_of(before, have[before])
            change[~layer.within(window.box)] = 0
            blocks = gather(change, window.box, box.zoom, np.add)
            at = window.box.parent()
            columns = (np.arange(at.column, at.column + at.width) - box.column) % world_size(box.zoom)
            rows = np.arange(at.row, at.row + at.height) - box.row
            here, there = np.flatnonzero((rows >= 0) & (rows < box.height)), np.flatnonzero(columns < box.width)
            total[np.ix_(rows[here], columns[there])] += blocks[np.ix_(here, there)]
        return total

    def _parents(self, window: Window, depth: int) -> tuple[Part, ...]:
        return self._pixels_of(self._kit.step.parent_box(window), depth)

    def _pixels_of(self, box: Box, depth: int) -> tuple[Part, ...]:
        """The parts that hold the pixels of a box of a level."""
        return tuple(self.pixels(window, depth) for window in windows_of(rows_within(box)))

    def _stitched(self, box: Box, depth: int, have: Mapping[Part, Pixels]) -> Pixels:
        return stitch(box, {window: have[self.pixels(window, depth)] for window in windows_of(box)})

    def _edits_of(self, window: Window, depth: int | None = None) -> tuple[int, ...]:
        """Which of the first `depth` edits (all if None) change a window themselves; counted from 1, in order."""
        if not self.layers:
            return ()
        touching = self._touching.get(window)
        if touching is None:
            near = np.flatnonzero(self._near(window)) + 1
            touching = tuple(int(k) for k in near if self.layers[k - 1].touches(window.box))
            self._touching[window] = touching
        return touching if depth is None else touching[: bisect_right(touching, depth)]

    def _near(self, window: Window) -> Mask:
        """For each edit, whether its bounds share pixels with a window."""
        bounds = self._bounds.get(window.zoom)
        if bounds is None:
            boxes = [layer.box_at(window.zoom) for layer in self.layers]
            bounds = np.array([(box.row, box.column, box.height, box.width) for box in boxes]).T
            self._bounds[window.zoom] = bounds
        row, column, height, width = bounds
        box, size = window.box, world_size(window.zoom)
        in_rows = (row < box.row + box.height) & (box.row < row + height)
        in_columns = ((box.column - column) % size < width) | ((column - box.column) % size < box.width)
        near: Mask = in_rows & in_columns
        return near

    def _relevant_edits(self, part: Part) -> frozenset[int]:
        """The edits that a part depends on, itself or through its inputs; counted from 1."""
        known = self._relevant
        waiting = [part]
        while waiting:
            current = waiting[-1]
            if current.depth == 0 or current in known:
                known.setdefault(current, frozenset())
                waiting.pop()
                continue
            inputs = self.inputs(current)
            unknown = [needed for needed in inputs if needed not in known]
            if unknown:
                waiting.extend(unknown)
                continue
            known[current] = frozenset({current.depth}).union(*(known[needed] for needed in inputs))
            waiting.pop()
        return known[part]

    def _stream(self, edits: frozenset[int]) -> str:
        """Names everything but the address that a part depends on, if it depends on these edits."""
        stream = self._streams.get(edits)
        if stream is None:
            world = replace(self.world, edits=tuple(self.layers[k - 1].edit for k in sorted(edits)))
            stream = self._streams[edits] = self._name(world)
        return stream

    def _name(self, world: World) -> str:
        kit, facts = self._kit, [self._kit.fingerprint]
        by_prompt = world.root == "prompt" or any(edit.action == "prompt" for edit in world.edits)
        if by_prompt:
            assert kit.prompts is not None
            facts.append(kit.prompts.id)
        if kit.hears_text and (by_prompt or self._told.words):
            facts.append(encoder_id())
        # What a quality means is in the kit's fingerprint; those that mean the same share their pixels.
        world = replace(world, quality=STANDARD)
        if world.gsd is not None:
            # Requests that pick the same root zoom are the same pixels.
            world = replace(world, gsd=ground_sampling_distance(self._root_zoom + LEVEL_ZOOMS, 0.0))
        return hashlib.sha256("|".join([*facts, world.canonical_json]).encode()).hexdigest()[:20]


def _check(world: World, kit: Kit) -> None:
    """Refuse words that nothing here understands."""
    by_prompt = world.root == "prompt" or any(edit.action == "prompt" for edit in world.edits)
    if by_prompt and kit.prompts is None:
        raise WorldError(f"nothing can be made from a prompt here: {kit.why_no_prompts}")
    if world.root != "prompt" and not kit.hears_text:
        unheard = {"prompt": world.prompt, "negative": "" if by_prompt else world.negative}
        for name, value in unheard.items():
            if value:
                raise WorldError(f"these weights know no text: {name} must be empty")


def _unit(zoom: int) -> int:
    """Pixels of the finest zoom below one of `zoom`."""
    return 1 << 2 * (MAX_ZOOM - zoom)


def _sums_of(part: Part, pixels: Pixels) -> Sums:
    """The exact sums of a part that `Plan.exact` named."""
    if part.kind == "sums":
        return pixels.view(np.int64)
    return pixels.astype(np.int64) * _unit(part.window.zoom)


def _rounded(sums: Sums, zoom: int) -> Pixels:
    """Sums to bytes; halves are rounded up."""
    unit = _unit(zoom)
    return ((sums + unit // 2) // unit).astype(np.uint8)


def _as_bytes(sums: Sums) -> Pixels:
    return np.ascontiguousarray(sums).view(np.uint8)


def edit_seed(world: World, edit: Edit) -> int:
    """The seed of what an edit brings: a hash of the world's seed and the edit's own value, without its dates."""
    value = json.dumps([world.seed, edit.undated.to_dict()], sort_keys=True)
    return int.from_bytes(hashlib.sha256(value.encode()).digest()[:8], "big") & MAX_SEED


def rows_within(box: Box) -> Box:
    """The part of a box whose rows exist."""
    top, bottom = max(0, box.row), min(world_size(box.zoom), box.row + box.height)
    return Box(box.zoom, top, box.column, bottom - top, box.width)


def stitch(box: Box, windows: Mapping[Window, Pixels], side: int = WINDOW_SIZE) -> Pixels:
    """A box out of windows; columns wrap.

    Args:
        box: its pixels may be coarser than the windows'.
        windows: all windows that the box touches, at the address of their own level.
        side: pixels of the box along the side of a window.
    """
    zoom = box.zoom + (WINDOW_SIZE // side).bit_length() - 1
    across = world_size(zoom) // WINDOW_SIZE
    out = np.empty((box.height, box.width, 3), dtype=np.uint8)
    for row in range(box.row // side, -(-(box.row + box.height) // side)):
        top, bottom = max(box.row, row * side), min(box.row + box.height, (row + 1) * side)
        for column in range(box.column // side, -(-(box.column + box.width) // side)):
            left, right = max(box.column, column * side), min(box.column + box.width, (column + 1) * side)
            pixels = windows[Window(zoom, row, column % across)]
            out[top - box.row : bottom - box.row, left - box.column : right - box.column] = pixels[
                top - row * side : bottom - row * side, left - column * side : right - column * side
            ]
    return out


def mean(pixels: Pixels, factor: int) -> Pixels:
    """The rounded mean of blocks of factor x factor pixels; factor is a power of 2 that divides both sides."""
    total: npt.NDArray[np.integer] = pixels.astype(np.uint16 if factor <= SCALE else np.uint32)
    for _ in range(factor.bit_length() - 1):
        total = total[::2] + total[1::2]
        total = total[:, ::2] + total[:, 1::2]
    result: Pixels = ((total + factor * factor // 2) // (factor * factor)).astype(np.uint8)
    return result

"""A place by prompt on an unbounded plane: windows of latents, blended between phases, decoded and blended.

InfiniteDiffusion (Goslin, arXiv 2512.08309): the denoising steps are cut into phases. In a phase each window
of 256 pixels denoises alone; between phases every window begins from the blend of its neighbours' results. A
window of a phase is so a pure function of the nine windows of the phase before, down to noise that is addressed
by position, and the plane can be entered anywhere.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from cachetools import LRUCache

from earthgen.errors import AddressError, InvalidRequestError, WeightsError
from earthgen.latent.model import LATENT_CHANNELS, LATENT_PIXELS, Control, LatentModel
from earthgen.latent.schedule import Schedule
from earthgen.noise import NoiseField
from earthgen.overlap import Place, Plane, blend, covering
from earthgen.pyramid import Box, check_zoom, world_size

Pixels = npt.NDArray[np.uint8]

STRIDE = 16
"""Latents from one window to the next; a window is twice as wide."""
STRIDE_PIXELS = STRIDE * LATENT_PIXELS
"""Pixels from one window to the next: 128."""
NOISE_STREAM = 16
"""The stream of NoiseField that latent noise is taken from."""
MAX_SEED = 2**64 - 1
DEFAULT_CUTS = (900, 750, 600, 400)
"""Timesteps between phases: InfiniteDiffusion's demonstration on Stable Diffusion."""
BLOCKS = (1, 2, 4)

_BYTES_VERSION = 1


class Picture(Protocol):
    """Pixels by address, such as a ControlNet reads: columns wrap, rows beyond the world are given too."""

    id: str

    def pixels(self, box: Box) -> Pixels:
        """Uint8 (box.height, box.width, channels)."""
        ...


@dataclass(slots=True)
class _Stage:
    """The blocks of one stage that a request needs: those found in the cache, and those still to be made."""

    index: int
    found: dict[Place, Plane]
    missing: list[Place]


class LatentRoot:
    """Pixels of a prompt at one zoom, a pure function of the arguments and the address.

    Safe to call from many threads; requests take turns. On a CPU float32 sums depend on torch's thread count,
    so whoever compares bytes keeps that fixed.

    Args:
        model: a text-to-image checkpoint (4 channels).
        prompt: what is there.
        negative: what is not.
        guidance: 1 .. 30; 1 is no guidance. Text2Earth's authors use 4.
        zoom: 0 .. 18, where the pixels live, and Text2Earth's resolution level where it knows one (10 .. 18).
        seed: 0 .. 2**64 - 1.
        scheduler: one of SCHEDULERS. Those that add noise at every step draw it window by window, so windows
            agree less and blends are softer than with the others.
        steps: denoising steps.
        cuts: timesteps at which windows are blended; more cuts agree better and cost more.
        block: 1, 2 or 4: windows are computed in aligned blocks of block x block, one batch each. Larger blocks
            fill a GPU better; the batch of a window is part of its address, so bytes still do not depend on requests.
        control: picture for the model's ControlNet, at `zoom`.
        control_scale: strength of the ControlNet.
        cache_bytes: bound of the memory that finished windows may take.

    Attributes:
        id: content id; equal ids mean equal pixels on one build and kind of device.
        zoom: the zoom of the pixels.

    Raises:
        InvalidRequestError: an argument is out of range.
        WeightsError: the model is an inpainting one, or its scheduler numbers are of no use.
    """

    def __init__(
        self,
        model: LatentModel,
        prompt: str,
        negative: str = "",
        guidance: float = 4.0,
        zoom: int = 16,
        seed: int = 0,
        *,
        scheduler: str = "DPMSolverMultistepScheduler",
        steps: int = 25,
        cuts: Sequence[int] = DEFAULT_CUTS,
        block: int = 1,
        control: Picture | None = None,
        control_scale: float = 1.0,
        cache_bytes: int = 256 << 20,
    ) -> None:
        check_zoom(zoom)
        if not 0 <= seed <= MAX_SEED:
            raise InvalidRequestError(f"seed {seed} is outside 0..{MAX_SEED}")
        self._across = world_size(zoom) // STRIDE_PIXELS
        if block not in BLOCKS or self._across % block:
            raise InvalidRequestError(f"block {block} at zoom {zoom}; {BLOCKS} are allowed, 4 from zoom 1 on")
        if model.channels != LATENT_CHANNELS:
            raise WeightsError(
                f"{model.source} is an inpainting checkpoint ({model.channels} channels); "
                f"a place by prompt needs a text-to-image one ({LATENT_CHANNELS} channels)"
            )
        if control is not None and model.controlnet is None:
            raise InvalidRequestError(
                f"a control picture was given, but {model.source} was loaded without a ControlNet"
            )
        self.zoom = zoom
        self._model = model
        self._seed = seed
        self._block = block
        self._control = control
        self._control_scale = control_scale
        self._condition = model.condition(prompt, negative, guidance, zoom)
        self._schedule = Schedule(scheduler, model.scheduler_numbers, steps, cuts)
        self._phases = len(self._schedule.calls)
        self._noise = NoiseField(seed, zoom, NOISE_STREAM)
        self._lock = threading.Lock()
        self._cache: LRUCache[tuple[int, Place], Plane] = LRUCache(cache_bytes, lambda values: values.nbytes)
        facts = [_BYTES_VERSION, model.id, model.attention, prompt, negative if guidance != 1 else "", guidance, zoom]
        facts += [seed, self._schedule.name, sorted(model.scheduler_numbers.items()), steps, sorted(cuts), block]
        facts += [control.id, control_scale] if control else []
        self.id = f"latent-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"

    def pixels(self, box: Box, progress: Callable[[int, int], None] | None = None) -> Pixels:
        """Pixels of a box; columns wrap around the world, rows beyond it repeat its edge rows.

        Args:
            box: at the root's zoom.
            progress: called with network calls done and needed in all, after each. What it raises ends
                the request; finished windows stay in the cache.

        Returns:
            uint8 (box.height, box.width, 3), the caller's own.

        Raises:
            AddressError: a box of another zoom, or an empty one.
        """
        if box.zoom != self.zoom:
            raise AddressError(f"this root has pixels at zoom {self.zoom} only; zoom {box.zoom} was asked for")
        if box.height < 1 or box.width < 1:
            raise AddressError(f"a box of {box.height} x {box.width} pixels is empty; at least 1 x 1 is allowed")
        rows = np.clip(np.arange(box.row, box.row + box.height), 0, world_size(self.zoom) - 1)
        inside = Box(box.zoom, int(rows[0]), box.column, int(rows[-1] - rows[0]) + 1, box.width)
        with self._lock:
            values = self._generate(inside, progress or (lambda done, total: None))
        pixels = np.floor(np.clip(values, -1, 1) * 127.5 + 128).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0)[rows - rows[0]])

    def cost(self, box: Box) -> int:
        """How many times a window of 256 pixels runs through the U-Net for a box, when nothing is cached."""
        branches = len(self._condition.text)
        calls = self._schedule.calls
        stages = self._plan(box, look=False)[1:]
        return sum(len(stage.missing) * self._block**2 * calls[stage.index] * branches for stage in stages)

    def _generate(self, box: Box, progress: Callable[[int, int], None]) -> Plane:
        """float32 (3, h, w), about -1 .. 1."""
        decoding, *phases = self._plan(box)
        calls = (*self._schedule.calls, 1)
        total = sum(len(stage.missing) * calls[stage.index] for stage in (decoding, *phases))
        done = 0
        below: dict[Place, Plane] = {}
        for stage in reversed(phases):
            for place in stage.missing:
                stage.found[place] = self._remember(stage.index, place, self._denoise(stage.index, place, below))
                done += calls[stage.index]
                progress(done, total)
            below = stage.found

        def decoded() -> Iterator[tuple[Place, Plane]]:
            nonlocal done
            for unwrapped in self._blocks_of(box.row, box.column, box.height, box.width, STRIDE_PIXELS):
                place = self._wrapped(unwrapped)
                if place in decoding.found:
                    windows = decoding.found[place]
                else:
                    windows = self._remember(self._phases, place, self._decode(place, below))
                    done += 1
                    progress(min(done, total), total)
                yield from self._windows_of_block(unwrapped, windows)

        return blend(box.row, box.column, box.height, box.width, STRIDE_PIXELS, STRIDE_PIXELS, decoded())

    def _plan(self, box: Box, look: bool = True) -> list[_Stage]:
        """What a box needs, the decoding first and the first phase last; `look` in the cache or not."""
        stages = []
        blocks = self._blocks_of(box.row, box.column, box.height, box.width, STRIDE_PIXELS)
        wanted = {self._wrapped(place) for place in blocks}
        for index in range(self._phases, -1, -1):
            found = {place: self._cache[index, place] for place in wanted if look and (index, place) in self._cache}
            missing = sorted(wanted - found.keys())
            stages.append(_Stage(index, found, missing))
            wanted = {self._wrapped(below) for place in missing for below in self._blocks_of(*self._region(place))}
        return stages

    def _denoise(self, phase: int, place: Place, below: dict[Place, Plane]) -> Plane:
        """A block through one phase: float32 (block**2, 4, 32, 32)."""
        row, column, height, width, _ = self._region(place)
        if phase == 0:
            wrap = world_size(self.zoom) // LATENT_PIXELS
            region = self._noise.normal(row, column, height, width, LATENT_CHANNELS, wrap=wrap)
            region *= np.float32(self._schedule.noise_scale)
        else:
            region = self._blend_latents(place, below)
        control = self._control_of(place)
        state = self._schedule.run(
            phase,
            torch.from_numpy(self._cut(region, STRIDE)).to(self._model.device),
            lambda x, timestep: self._model.predict(x, timestep, self._condition, control=control),
            [self._step_seed(phase, place, index) for index in range(self._block**2)],
        )
        return state.cpu().numpy()

    def _decode(self, place: Place, below: dict[Place, Plane]) -> Plane:
        """Pictures of a block: float32 (block**2, 3, 256, 256)."""
        return self._model.decode(torch.from_numpy(self._cut(self._blend_latents(place, below), STRIDE)))

    def _blend_latents(self, place: Place, below: dict[Place, Plane]) -> Plane:
        """What the windows of the phase before agree on over a block's region."""
        row, column, height, width, stride = self._region(place)
        windows = (
            window
            for unwrapped in self._blocks_of(row, column, height, width, stride)
            for window in self._windows_of_block(unwrapped, below[self._wrapped(unwrapped)])
        )
        return blend(row, column, height, width, stride, stride, windows)

    def _control_of(self, place: Place) -> Control | None:
        if self._control is None:
            return None
        row, column, height, width, _ = (value * LATENT_PIXELS for value in self._region(place))
        pixels = self._control.pixels(Box(self.zoom, row, column, height, width))
        channels = self._model.controlnet.config.conditioning_channels
        if pixels.shape != (height, width, channels):
            raise InvalidRequestError(f"the control picture gave {pixels.shape}; {(height, width, channels)} is needed")
        picture: Plane = pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        return Control(torch.from_numpy(self._cut(picture, STRIDE_PIXELS)), self._control_scale)

    def _region(self, place: Place) -> tuple[int, int, int, int, int]:
        """Row, column, height and width of a block's windows in latents, and the stride there."""
        size = (self._block + 1) * STRIDE
        return place[0] * self._block * STRIDE, place[1] * self._block * STRIDE, size, size, STRIDE

    def _blocks_of(self, row: int, column: int, height: int, width: int, stride: int) -> list[Place]:
        """The blocks, columns not wrapped, with a window that touches a rectangle, in lexicographic order."""
        rows = covering(row, height, stride, stride)
        columns = covering(column, width, stride, stride)
        return [
            (block_row, block_column)
            for block_row in range(rows[0] // self._block, rows[-1] // self._block + 1)
            for block_column in range(columns[0] // self._block, columns[-1] // self._block + 1)
        ]

    def _windows_of_block(self, place: Place, windows: Plane) -> Iterator[tuple[Place, Plane]]:
        for index, window in enumerate(windows):
            row, column = divmod(index, self._block)
            yield (place[0] * self._block + row, place[1] * self._block + column), window

    def _wrapped(self, place: Place) -> Place:
        return place[0], place[1] % (self._across // self._block)

    def _cut(self, region: Plane, stride: int) -> Plane:
        """The windows of a block from its region: (c, h, w) -> (block**2, c, 2 stride, 2 stride)."""
        return np.stack(
            [
                region[:, row * stride : (row + 2) * stride, column * stride : (column + 2) * stride]
                for row in range(self._block)
                for column in range(self._block)
            ]
        )

    def _step_seed(self, phase: int, place: Place, index: int) -> int:
        """Seed of the noise that a solver may add inside a phase: a hash of the window's address."""
        row, column = divmod(index, self._block)
        window = (place[0] * self._block + row, place[1] * self._block + column)
        address = repr((self._seed, self.zoom, phase, window)).encode()
        return int.from_bytes(hashlib.blake2b(address, digest_size=8).digest()) >> 1

    def _remember(self, stage: int, place: Place, values: Plane) -> Plane:
        if values.nbytes <= self._cache.maxsize:
            self._cache[stage, place] = values
        return values

"""What items are made with: an engine and its bands, opened once in each process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from earthgen.bands import BandView, PixelSource, available_band
from earthgen.countryside import Drawing, drawn_cover
from earthgen.pyramid import Box
from earthgen.world import World
from trainingsets.sample import Bytes

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class Maker(Protocol):
    """Makes pictures and bands of worlds; see `trainingsets.tasks`."""

    @property
    def engine(self) -> PixelSource:
        """Makes pictures."""
        ...

    def band(self, name: str, world: World, box: Box) -> Bytes:
        """Values of a band: uint8 (h, w)."""
        ...

    def drawn(self, world: World, box: Box) -> Bytes:
        """What is there by construction: uint8 (h, w), codes of LAND_COVER; see `earthgen.countryside.drawn_cover`."""
        ...

    def made_by(self, bands: tuple[str, ...]) -> dict[str, str]:
        """What the pixels and the bands depend on; a dump is gone on with only by the same."""
        ...


class Opener(Protocol):
    """Opens a maker; travels to other processes by pickling."""

    def open(self) -> AbstractContextManager[Maker]:
        """A maker that is closed at the end."""
        ...


@dataclass(slots=True)
class EngineMaker:
    """A maker over `earthgen.Engine`."""

    engine: PixelSource
    band_weights: Path | None = None
    _views: dict[str, BandView] = field(default_factory=dict)

    def band(self, name: str, world: World, box: Box) -> Bytes:
        """Values of a band: uint8 (h, w)."""
        return self._view(name).pixels(world, box)

    def drawn(self, world: World, box: Box) -> Bytes:
        """What is there by construction: uint8 (h, w); nothing, by engines that do not draw."""
        if isinstance(self.engine, Drawing):
            return drawn_cover(self.engine, world, box)
        return np.zeros((box.height, box.width), dtype=np.uint8)

    def made_by(self, bands: tuple[str, ...]) -> dict[str, str]:
        """Ids of weights, and a digest of what else decides about bytes."""
        views = [self._view(name) for name in bands]
        fingerprint = "|".join([self.engine.fingerprint, *(view.fingerprint for view in views)])
        weights = [self.engine.weights_id, *(view.weights_id.partition("+")[2] for view in views)]
        return {
            "weights": "+".join(weights),
            "fingerprint": hashlib.sha256(fingerprint.encode()).hexdigest()[:20] if views else fingerprint,
        }

    def _view(self, name: str) -> BandView:
        if name not in self._views:
            self._views[name] = BandView(self.engine, name, self.band_weights)
        return self._views[name]


@dataclass(frozen=True, slots=True)
class EngineOpener:
    """How to open the engine; see `earthgen.Engine.open`."""

    weights: str | None = None
    prompt_weights: str | None = None
    band_weights: Path | None = None
    cache: Path | None = None
    threads: int = 1
    backend: str = "torch"
    store: str | None = None

    def check(self, bands: tuple[str, ...]) -> None:
        """Raise InvalidRequestError unless the bands have weights."""
        for name in bands:
            available_band(name, self.band_weights)

    @contextmanager
    def open(self) -> Iterator[EngineMaker]:
        """An engine with a small memory: items share little but what their scene is made from."""
        from earthgen.engine import Engine

        with Engine.open(
            self.weights,
            self.cache,
            memory_bytes=64 << 20,
            threads=self.threads,
            prompt_weights=self.prompt_weights,
            backend=self.backend,
            store=self.store,
        ) as engine:
            yield EngineMaker(engine, self.band_weights)

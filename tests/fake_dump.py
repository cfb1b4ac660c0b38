"""What dumps are made with in tests: an engine that paints edits, bands from coordinates, in microseconds."""

from __future__ import annotations

import os
import signal
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from earthgen.editing import layers_of
from earthgen.pyramid import Box
from earthgen.world import World

Pixels = npt.NDArray[np.uint8]


class PaintingEngine:
    """Ripples that differ by world and place; edits by prompt paint their area in a colour of their words."""

    weights_id = "paint"
    fingerprint = "paint-1"
    closed = False

    def pixels(self, world: World, box: Box, *, cancelled: object = None) -> Pixels:
        assert not self.closed, "the engine is closed"
        rows = np.arange(box.row, box.row + box.height)[:, None]
        columns = np.arange(box.column, box.column + box.width)[None, :]
        shift = zlib.crc32(f"{world.root}{world.seed}{world.prompt}".encode())
        waves = [np.sin(rows / (5 + shift % 7) + shift % 11) * np.cos(columns / (3 + shift % 5) + k) for k in range(3)]
        out = (120 + shift % 30 + 60 * np.stack(waves, axis=-1)).astype(np.uint8)
        for layer in layers_of(world.at()):
            inside = layer.within(box)
            kind = zlib.crc32(f"{layer.edit.prompt}{layer.edit.action}{layer.edit.seed}".encode())
            if layer.edit.action == "reseed":
                out[inside] ^= np.uint8(1)
            elif layer.edit.action != "prompt":
                out[inside] = out[inside] // 2 + np.uint8(kind % 100)
            else:
                out[inside] = [kind % 251, kind // 7 % 241, kind // 49 % 239]
        return out


@dataclass
class PaintingMaker:
    """A maker over the painting engine."""

    engine: PaintingEngine = field(default_factory=PaintingEngine)
    delay: float = 0.0
    dies_at: tuple[int, ...] = ()

    def band(self, name: str, world: World, box: Box) -> Pixels:
        rows = np.arange(box.row, box.row + box.height)[:, None] // 24
        columns = np.arange(box.column, box.column + box.width)[None, :] // 40
        codes = (rows + columns + world.seed) % (7 if name == "landcover" else 2)
        return (codes + (name == "landcover")).astype(np.uint8)

    def drawn(self, world: World, box: Box) -> Pixels:
        # A road down the left of every tile, where the world is no prompt's.
        codes = np.zeros((box.height, box.width), dtype=np.uint8)
        codes[:, :3] = 5 * (world.root != "prompt")
        return codes

    def made_by(self, bands: tuple[str, ...]) -> dict[str, str]:
        return {"weights": "paint", "fingerprint": "paint-1"}


@dataclass(frozen=True)
class PaintingOpener:
    """Opens painting makers, slow ones and ones whose process kills itself."""

    delay: float = 0.0
    kills: Path | None = None
    """A folder in which each file is a licence for one worker to be killed at a random moment."""

    @contextmanager
    def open(self) -> Iterator[PaintingMaker]:
        if self.kills is not None:
            self._arm()
        maker = PaintingMaker(delay=self.delay)
        try:
            yield maker
        finally:
            maker.engine.closed = True

    def _arm(self) -> None:
        """Have this process killed soon, as long as there are licences."""
        assert self.kills is not None
        for licence in sorted(self.kills.iterdir()):
            try:
                licence.unlink()
            except FileNotFoundError:
                continue
            after = (zlib.crc32(licence.name.encode()) % 100) / 1000
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, 0.002 + after)
            return


def wait_for(path: Path, seconds: float = 20.0) -> None:
    """Until a file is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)

"""What a dump is, as a value with one spelling."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from earthgen.errors import WorldError
from earthgen.pyramid import EQUATOR_GSD, LEVEL_ZOOMS, MAX_ZOOM, level_zoom
from earthgen.world import STANDARD, Quality, Root, checked_quality
from trainingsets.errors import DumpSpecError
from trainingsets.keeping import parse, spelled

VERSION = 1
"""Counts changes of what an index stands for."""
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
MAX_COUNT = 1 << 26
MAX_SEED = 2**63 - 1
MIN_SIZE, MAX_SIZE = 64, 2048
SCALES = (2, 4, 8, 16)
MIN_ZOOM, FINEST = 8, MAX_ZOOM
"""Zooms of the tiles of a dump."""
MIN_VIEWS, MAX_VIEWS = 6, 128
"""Posed views of a scene."""
POSED_GROUND = 256
"""Pixels along the side of the ground that posed views look at."""
_SAME_GSD = 0.01
"""A GSD that differs by no more than this part from a zoom's is the zoom's: 0.6 means 0.597."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpSpec:
    """A dump.

    Attributes:
        task: see `trainingsets.tasks.TASKS`.
        format: see `trainingsets.formats.FORMATS`.
        count: items.
        seed: chooses worlds, places and edits.
        size: pixels along a side of a picture.
        gsds: metres per pixel at the equator; each scene takes one, by the nearest level of the cascade, or as they are
            if there are `low_gsds`.
        roots: where worlds start; each scene takes one.
        tiles_per_scene: items from one world, neighbours on the ground that share what they are made from.
        splits: shares of the scenes for training, validation and test.
        steps: dates of a time series.
        scale: how many times coarser the low picture of a super-resolution pair is.
        low_gsds: metres per pixel of the low pictures of super-resolution pairs, in place of `scale`; each scene takes
            one.
        views: posed views of a scene.
        date_effects: whether pictures of several dates differ in light, season, haze, optics and noise, too.
        keep_if: conditions on scores that items have to fulfil, see `trainingsets.keeping`; "" keeps all. `count`
            items are made, so fewer are kept.
        quality: with how much work detail is made, see `earthgen.World`.

    Raises:
        DumpSpecError: a value out of range.
    """

    task: str
    format: str
    count: int
    seed: int = 0
    size: int = 256
    gsds: tuple[float, ...] = (0.6, 2.4, 9.6)
    roots: tuple[Root, ...] = ("prompt",)
    tiles_per_scene: int = 4
    splits: tuple[float, float, float] = (0.7, 0.15, 0.15)
    steps: int = 6
    scale: int = 4
    low_gsds: tuple[float, ...] = ()
    views: int = 24
    date_effects: bool = True
    keep_if: str = ""
    quality: Quality = STANDARD

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep_if", spelled(parse(self.keep_if)))
        _check_range("count", self.count, 1, MAX_COUNT)
        _check_range("seed", self.seed, 0, MAX_SEED)
        _check_range("size", self.size, MIN_SIZE, MAX_SIZE)
        _check_range("tiles per scene", self.tiles_per_scene, 1, 64)
        _check_range("steps", self.steps, 2, 24)
        _check_range("views", self.views, MIN_VIEWS, MAX_VIEWS)
        try:
            checked_quality(self.quality)
        except WorldError as error:
            raise DumpSpecError(str(error)) from error
        if self.size % 32:
            raise DumpSpecError(f"size is {self.size}; multiples of 32 are allowed")
        if self.scale not in SCALES:
            raise DumpSpecError(f"scale is {self.scale}; allowed: {', '.join(map(str, SCALES))}")
        if not self.gsds:
            raise DumpSpecError("no GSD is given; name one or more, in metres per pixel")
        for gsd in self.gsds:
            self.ground(gsd)
        for low in self.low_gsds:
            if not (np.isfinite(low) and low > max(self.gsds)):
                raise DumpSpecError(
                    f"low GSD is {low}; numbers above the GSDs of the high pictures are allowed, here above"
                    f" {max(self.gsds):g} metres per pixel"
                )
        if not self.roots or not set(self.roots) <= {"prompt", "earth", "planet"}:
            raise DumpSpecError(f"roots are {', '.join(self.roots) or 'none'}; allowed: prompt, earth, planet")
        if len(self.splits) != 3 or min(self.splits) < 0 or abs(sum(self.splits) - 1) > 1e-6:
            raise DumpSpecError(
                f"splits are {self.splits}; three shares of at least 0 that add up to 1 are allowed: train, val, test"
            )

    def ground(self, gsd: float) -> tuple[int, int]:
        """The level of the cascade that tiles of a GSD are cut from, and their pixels along a side there.

        Raises:
            DumpSpecError: the GSD is finer or coarser than dumps go.
        """
        if self.task == "multi-view":
            return zoom_of(gsd), POSED_GROUND
        if not self.low_gsds:
            return zoom_of(gsd), self.size
        return _finer_level(gsd, self.size)

    def to_dict(self) -> dict[str, Any]:
        """The dump as JSON types."""
        value = dataclasses.asdict(self)
        return {"version": VERSION} | {
            name: list(item) if isinstance(item, tuple) else item for name, item in value.items()
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> DumpSpec:
        """Read what `to_dict` wrote.

        Raises:
            DumpSpecError: another version, or keys or values that make no sense.
        """
        if value.get("version") != VERSION:
            raise DumpSpecError(f"the dump is of version {value.get('version')}, this package makes version {VERSION}")
        fields: dict[str, Any] = {
            name: tuple(item) if isinstance(item, list) else item for name, item in value.items() if name != "version"
        }
        try:
            return cls(**fields)
        except TypeError as error:
            raise DumpSpecError(f"the dump's specification cannot be read: {error}") from error

    @property
    def canonical_json(self) -> str:
        """The one spelling."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @property
    def command(self) -> str:
        """The command that makes it again, without where to and how fast."""
        words = ["earthgen dump", f"--task {self.task}", f"--format {self.format}", f"--count {self.count}"]
        words += [f"--seed {self.seed}", f"--size {self.size}", f"--gsd {','.join(f'{gsd:g}' for gsd in self.gsds)}"]
        words += [f"--roots {','.join(self.roots)}", f"--tiles-per-scene {self.tiles_per_scene}"]
        words += [f"--splits {','.join(f'{share:g}' for share in self.splits)}"]
        if self.task == "time-series":
            words.append(f"--steps {self.steps}")
        if self.task == "super-resolution":
            lows = ",".join(f"{gsd:g}" for gsd in self.low_gsds)
            words.append(f"--low-gsd {lows}" if lows else f"--scale {self.scale}")
        if self.task == "multi-view":
            words.append(f"--views {self.views}")
        if not self.date_effects:
            words.append("--same-day")
        if self.quality != STANDARD:
            words.append(f"--quality {self.quality}")
        if self.keep_if:
            words.append(f'--keep-if "{self.keep_if}"')
        return " ".join([*words, "-o DIR"])


def generator(*key: int) -> np.random.Generator:
    """Chance that is addressed by numbers: the same for the same numbers on any machine."""
    return np.random.default_rng(np.random.SeedSequence((VERSION, *key)))


def zoom_of(gsd: float) -> int:
    """The level of the cascade whose GSD at the equator is nearest to one, by ratio.

    Raises:
        DumpSpecError: it is finer or coarser than dumps go.
    """
    finest, coarsest = EQUATOR_GSD / 2**FINEST, EQUATOR_GSD / 2**MIN_ZOOM
    if not 0.5 * finest <= gsd <= 2 * coarsest:
        raise DumpSpecError(f"GSD is {gsd} m; {0.5 * finest:.2f} to {2 * coarsest:.0f} metres per pixel are allowed")
    return int(LEVEL_ZOOMS * round(np.log2(EQUATOR_GSD / gsd) / LEVEL_ZOOMS))


def _finer_level(gsd: float, size: int) -> tuple[int, int]:
    """The level that is at least as fine as a GSD, and how many of its pixels are as long as `size` of the GSD's."""
    finest, coarsest = EQUATOR_GSD / 2**FINEST, EQUATOR_GSD / 2**MIN_ZOOM
    if not (1 - _SAME_GSD) * finest <= gsd <= coarsest:
        raise DumpSpecError(f"GSD is {gsd} m; {finest:.3f} to {coarsest:.0f} metres per pixel are allowed here")
    zoom = float(np.log2(EQUATOR_GSD / gsd))
    if abs(2 ** (zoom - round(zoom)) - 1) <= _SAME_GSD:
        zoom = round(zoom)
    level = level_zoom(int(np.ceil(zoom)))
    return level, round(size * 2 ** (level - zoom))


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise DumpSpecError(f"{name} is {value!r}; {least} to {most} are allowed")

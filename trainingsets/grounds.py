"""What worlds of a dump show: classes, and prompts for them in words that the weights were taught (docs/prompts.md)."""

from __future__ import annotations

from dataclasses import dataclass

CLOSE = 1.5
"""Metres per pixel below which single houses and trees are seen, so that other words fit."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A class of ground.

    Attributes:
        name: of the class.
        colour: it is drawn in.
        close: prompts for it where single trees and houses are seen.
        wide: prompts for it from farther away.
        some: how a sentence names a piece of it.
        plural: whether `some` takes a plural verb.
    """

    name: str
    colour: tuple[int, int, int]
    close: tuple[str, ...]
    wide: tuple[str, ...]
    some: str = ""
    plural: bool = False

    def prompts(self, gsd: float) -> tuple[str, ...]:
        """Prompts that fit a GSD in metres per pixel."""
        return self.close if gsd < CLOSE else self.wide


def _table(*grounds: Ground) -> dict[str, Ground]:
    return {ground.name: ground for ground in grounds}


SCENES: dict[str, Ground] = _table(
    Ground("forest", (30, 98, 48), ("dense forest", "coniferous forest"), ("dense forest", "forest")),
    Ground(
        "meadow", (152, 190, 98), ("meadow", "alpine meadow", "grass field"), ("pasture", "meadow", "green pasture")
    ),
    Ground(
        "farmland", (206, 180, 92), ("farmland with fields", "ploughed field"), ("farmland with fields", "crop fields")
    ),
    Ground("orchard", (120, 150, 60), ("palm plantation", "farm with palm trees"), ("vineyard", "orchard")),
    Ground("bare ground", (204, 176, 130), ("bare ground", "dry sandy ground"), ("barren land", "dry hills")),
    Ground("desert", (230, 206, 140), ("desert", "desert with shrubs"), ("sand desert", "desert")),
    Ground("rock", (150, 140, 130), ("rock", "scree"), ("rocky desert", "rocky mountains")),
    Ground(
        "residential",
        (214, 120, 100),
        ("suburb with streets and houses", "houses along streets"),
        ("residential area", "suburb"),
    ),
    Ground(
        "industrial", (150, 90, 140), ("industrial area", "warehouses"), ("industrial area", "factories and warehouses")
    ),
    Ground("water", (40, 104, 178), ("water", "sea"), ("open sea", "water")),
)
"""Classes of whole tiles."""

COVER: dict[str, Ground] = _table(
    Ground(
        "low vegetation",
        (0, 128, 0),
        ("meadow", "grass field", "green fields", "alpine meadow", "lawn"),
        ("green pasture", "meadow", "crop fields", "farmland with fields", "natural grassland"),
        "grassland",
    ),
    Ground(
        "bare ground",
        (128, 128, 128),
        ("bare ground", "bare soil", "dry sandy ground", "ploughed field", "scree"),
        ("bare fields", "barren land", "desert", "ploughed fields", "sand desert"),
        "bare ground",
    ),
    Ground(
        "tree",
        (0, 255, 0),
        ("dense forest", "coniferous forest", "forest", "woodland"),
        ("dense forest", "forest", "coniferous forest", "rain forest"),
        "forest",
    ),
    Ground("water", (0, 0, 255), ("water", "sea", "river"), ("lake", "water", "open sea"), "water"),
    Ground(
        "building",
        (128, 0, 0),
        ("town with streets and houses", "industrial area", "houses along streets", "dense houses", "warehouses"),
        ("residential area", "industrial area", "city", "suburb", "town"),
        "buildings",
        plural=True,
    ),
)
"""Classes of pixels of worlds that are edited, in the order of their codes from 1 on; colours are those of SECOND."""

COVER_NAMES = tuple(COVER)


def cover_code(name: str | None) -> int:
    """The code of a class of pixels; 0 if nobody knows."""
    return 0 if name is None else 1 + COVER_NAMES.index(name)

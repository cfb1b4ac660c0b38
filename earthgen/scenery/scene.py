"""A prompt as a scene: what is there, and in which colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from earthgen.scenery.meaning import THINGS, Vocabulary
from earthgen.scenery.palette import Colour, Palette

SEAS = frozenset({"sea", "coast", "beach", "islands", "delta", "harbour"})
WATERS = SEAS | {"lake", "river"}
_ON_LAND = {"mountains", "hills", "road", "runway"}
_GROUND: dict[str, tuple[str, ...]] = {
    "lake": ("forest", "meadow"),
    "river": ("farmland", "forest"),
    "coast": ("meadow", "rock"),
    "beach": ("scrub",),
    "islands": ("forest",),
    "delta": ("scrub", "forest"),
    "harbour": ("industry", "city"),
    "mountains": ("rock", "meadow"),
    "hills": ("meadow", "forest"),
    "road": ("farmland",),
    "runway": ("meadow",),
    "village": ("farmland",),
}
"""Covers of layouts that are named without any, and of a cover that is nowhere alone."""
_WHOLE = 0.5
"""How much the whole prompt tints what one of its words names."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What a prompt names, with its colours.

    Attributes:
        covers: names and colours; at least one.
        layouts: names.
        water, sand, rock, snow: colours.
    """

    covers: tuple[tuple[str, Colour], ...]
    layouts: frozenset[str]
    water: Colour
    sand: Colour
    rock: Colour
    snow: Colour


def scene_of(vocabulary: Vocabulary, palette: Palette, prompt: str, negative: str = "") -> Scene:
    """The scene of a prompt; things that `negative` names are not in it."""
    refused = {named.thing for named in vocabulary.named(negative)}
    found = {named.thing: named.words for named in vocabulary.named(prompt) if named.thing not in refused}

    def colour(thing: str) -> Colour:
        text = vocabulary.encode(found.get(thing, thing)) + _WHOLE * vocabulary.encode(prompt)
        return palette.colour(text / np.linalg.norm(text), THINGS[thing].nouns)

    layouts = {name for name in found if THINGS[name].role == "layout"}
    covers = [name for name in found if THINGS[name].role == "cover"]
    if "sea" in layouts and (covers or layouts & _ON_LAND):
        layouts.add("coast")
    if not covers or covers == ["village"]:
        covers += [cover for name in found for cover in _GROUND.get(name, ()) if cover not in refused]
    waters = [name for name in found if name in WATERS]
    return Scene(
        tuple((name, colour(name)) for name in dict.fromkeys(covers or ["meadow"])),
        frozenset(layouts),
        colour(waters[0] if waters else "sea"),
        colour("sand"),
        colour("rock"),
        colour("snow"),
    )

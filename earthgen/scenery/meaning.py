"""What a prompt names: things that a scene is made of.

The words are cut greedily into the longest runs that a thing of the vocabulary is near to, by the cosine of their
text vectors, so that "a fjord between snowy summits" has a coast, snow and mountains and says none of these words.
A prompt in which nothing is found is taken as a whole for the thing that it is nearest to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from earthgen.conditioning import TextEncoder, text_encoder

Role = Literal["cover", "layout"]
Vectors = npt.NDArray[np.float32]

_LONGEST = 5
"""Words that are read together."""
_NEAR = 0.72
"""Cosine from which on several words are a thing of the vocabulary."""
_NEAR_WORD = 0.6
"""The same of a single word, which has fewer neighbours that it could be mistaken for."""
_SAME = 0.98
"""The same of words that join two things, such as "with": they are read together only as the vocabulary has them."""
_LINKS = frozenset(
    {"along", "and", "around", "at", "beside", "between", "by", "from", "in", "into", "near", "next", "on", "or"}
    | {"over", "through", "to", "with"}
)
_CARRIES_NOTHING = _LINKS | {"a", "an", "its", "of", "some", "the"}
_WORDS = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that words can name.

    Attributes:
        role: a cover fills ground; a layout says where ground and water are, or which forms they have.
        words: names of it, the commonest first.
        nouns: of the palette, whose colours it has; the more a prompt is like one of them, the more that one counts.
    """

    role: Role
    words: tuple[str, ...]
    nouns: tuple[str, ...] = ()


def _cover(words: str, nouns: str) -> Thing:
    return Thing("cover", tuple(words.split(", ")), tuple(nouns.split(", ")))


def _layout(words: str, nouns: str = "") -> Thing:
    return Thing("layout", tuple(words.split(", ")), tuple(nouns.split(", ")) if nouns else ())


_SEA = "open sea, sea, water, turquoise sea, tropical sea, open ocean, coral reef"
_FRESH = "lake, large lake, river through the countryside, wide brown river, canal, water, jungle with a river"
THINGS: Mapping[str, Thing] = {
    # Covers.
    "forest": _cover(
        "forest, dense forest, woodland, trees, woods, wooded, broadleaf forest, autumn forest",
        "dense forest, forest, woodland, forested mountains, forested hills, green land",
    ),
    "conifers": _cover(
        "coniferous forest, pine trees, boreal forest, taiga, spruce forest, mountain forest",
        "coniferous forest, boreal forest, mountain forest, taiga",
    ),
    "rain forest": _cover(
        "rain forest, jungle, tropical forest, mangroves", "rain forest, tropical forest, jungle, dense forest"
    ),
    "meadow": _cover(
        "meadow, pasture, grassland, grass field, lawn, park, golf course, prairie, cattle, green hills",
        "meadow, grass field, meadows, pasture, alpine meadow, mountain pasture, green fields, natural grassland",
    ),
    "farmland": _cover(
        "farmland, farmland with fields, patchwork of fields, fields, crop fields, farm, wheat, countryside,"
        " ploughed field, plain, agriculture, rice paddies",
        "farmland with fields, farmland, patchwork of fields, fields, annual crops, ploughed fields, dry farmland,"
        " green farmland, large fields",
    ),
    "orchard": _cover(
        "orchard, vineyard, olive grove, plantation, palm trees, permanent crops", "orchard, vineyard, palm plantation"
    ),
    "scrub": _cover(
        "scrubland, savanna, bush, heath, steppe, shrubs, tundra, dry grassland, herbaceous vegetation, marsh",
        "scrubland, savanna, bush, heath, steppe, tundra, dry grassland, savanna woodland, shrubland on dry hills",
    ),
    "desert": _cover("desert, arid land, barren land, dry land", "desert, arid land, barren land, rocky desert"),
    "sand": _cover("sand dunes, sand desert, dunes, sand, sandy", "sand dunes, sand desert"),
    "rock": _cover(
        "rock, bare rock, scree, gravel, bare ground, quarry, cliff, bare soil, volcano, lava, canyon",
        "desert mountains, dry mountains, barren land, bare ground, rocky desert, dry plateau",
    ),
    "snow": _cover(
        "snow, snow-covered land, winter, ice, glacier, ice sheet, snowy, icebergs",
        "snow, snowfield, ice sheet, snow and ice",
    ),
    "village": _cover(
        "village, small town, hamlet, farm buildings, villages", "houses among trees, residential area, town"
    ),
    "suburb": _cover(
        "suburb, suburb with streets and houses, residential area, houses, houses with gardens, suburbia, town,"
        " mobile homes",
        "suburb with streets and houses, residential area, town, houses with gardens, wooded suburb",
    ),
    "city": _cover(
        "city, dense city, city with a street grid, urban area, metropolis, downtown, streets, skyscrapers, old town,"
        " flat roofs, slum",
        "dense city, city, urban area, old town, large city and its surroundings, street grid",
    ),
    "industry": _cover(
        "industrial area, warehouses, factory, industrial buildings, commercial area, shopping centre, containers",
        "industrial area, warehouses, factories and warehouses, commercial area",
    ),
    "parking": _cover("car park, parking lot, parked cars", "car park, parking lot"),
    # Layouts. Water first.
    "sea": _layout("open sea, sea, ocean, open ocean, water, waves", _SEA),
    "lake": _layout("lake, reservoir, pond, lagoon, dam, oasis", _FRESH),
    "river": _layout("river, stream, creek, river through the countryside, river bank, canal", _FRESH),
    "coast": _layout("coast, shore, coastline, rocky coast, bay, fjord, seaside", _SEA),
    "beach": _layout("beach, sandy beach", _SEA),
    "islands": _layout("islands, island, archipelago, atoll, coral reef, wooded islands", _SEA),
    "delta": _layout("river mouth, river delta, estuary, delta, braided river", f"{_SEA}, {_FRESH}"),
    "harbour": _layout("harbour, port, docks, marina, harbour with piers, ships", f"{_SEA}, harbour water with ships"),
    # Forms and lines.
    "mountains": _layout("mountains, mountain ridges, mountain peaks, alps, mountain slope"),
    "hills": _layout("hills, hilly land, valley"),
    "road": _layout("road, highway, motorway, railway, highway through the countryside"),
    "runway": _layout("airport runway, airport, runway, parked aircraft"),
}
"""All that a scene can be made of, by name."""


@dataclass(frozen=True, slots=True)
class Named:
    """A thing and the words of the prompt that name it; the whole prompt where none does by itself."""

    thing: str
    words: str


class Vocabulary:
    """The things, beside the vectors of their words.

    Args:
        encoder: of texts; every word of THINGS is encoded once.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        pairs = [(name, words) for name, thing in THINGS.items() for words in thing.words]
        self._encoder = encoder
        self._names = [name for name, _ in pairs]
        self._vectors = encoder.encode_batch([words for _, words in pairs])

    def named(self, prompt: str) -> tuple[Named, ...]:
        """What a prompt names, in the order of its words; nothing twice.

        Args:
            prompt: any text; "" names nothing.
        """
        words = _WORDS.findall(prompt.lower())
        if not words:
            return ()
        found: dict[str, Named] = {}
        start = 0
        while start < len(words):
            for length in range(min(_LONGEST, len(words) - start), 0, -1):
                run = words[start : start + length]
                if run[0] in _CARRIES_NOTHING or run[-1] in _CARRIES_NOTHING:
                    continue
                thing, cosine = self._nearest(" ".join(run))
                # "Mountains with snow" are two things, unless the vocabulary has the very words.
                least = _NEAR_WORD if length == 1 else _SAME if _LINKS & set(run) else _NEAR
                if cosine >= least:
                    found.setdefault(thing, Named(thing, " ".join(run)))
                    start += length - 1
                    break
            start += 1
        return tuple(found.values()) or (Named(self._nearest(prompt)[0], prompt),)

    def encode(self, text: str) -> Vectors:
        """The vector of a text, unit (width,)."""
        return self._encoder.encode(text)

    def _nearest(self, text: str) -> tuple[str, float]:
        cosines = self._vectors @ self._encoder.encode(text)
        best = int(cosines.argmax())
        return self._names[best], float(cosines[best])


@cache
def vocabulary() -> Vocabulary:
    """The vocabulary of the default text encoder, which is loaded on the first call."""
    return Vocabulary(text_encoder())

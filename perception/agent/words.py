"""The words that the planner of rules and the reconciliation know: classes, units, numbers, places, small words.

A detector may have any class names. A word means one of its classes if it is that class's name, or if both belong to
one of the groups below: "woods" means "tree" to a detector that looks for trees and "forest" to one for forests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from perception.agent.ground import Place
from perception.agent.selection import Unit

GROUPS: tuple[tuple[str, ...], ...] = (
    (
        "building", "buildings", "house", "houses", "housing", "roof", "roofs", "rooftop", "rooftops", "home", "homes",
        "villa", "villas", "structure", "structures", "built-up", "built-up area", "built-up areas", "settlement",
        "settlements", "residential area", "residential areas", "shed", "sheds", "warehouse", "warehouses", "factory",
        "factories",
    ),
    (
        "road", "roads", "street", "streets", "highway", "highways", "lane", "lanes", "motorway", "motorways", "track",
        "tracks", "pavement", "roadway", "roadways",
    ),
    (
        "tree", "trees", "forest", "forests", "wood", "woods", "woodland", "woodlands", "wooded area", "wooded areas",
        "tree cover", "forest cover", "jungle",
    ),
    (
        "water", "waters", "lake", "lakes", "river", "rivers", "pond", "ponds", "sea", "stream", "streams", "reservoir",
        "reservoirs", "flood water", "open water", "water bodies", "water body",
    ),
    (
        "low vegetation", "grass", "grassland", "grasslands", "meadow", "meadows", "lawn", "lawns", "pasture",
        "pastures", "crop", "crops", "cropland", "field", "fields", "farmland", "low plants", "vegetation", "green",
        "greenery",
    ),
    (
        "bare ground", "bare soil", "bareland", "bare land", "bare earth", "soil", "sand", "barren land", "dirt",
        "bare area", "bare areas", "bare",
    ),
)  # fmt: skip
"""Words of one meaning; a class of a detector belongs to the group that holds its name."""

EVENTS: Mapping[str, tuple[str, str]] = {
    "deforestation": ("forest", "went"), "deforested": ("forest", "went"), "logging": ("forest", "went"),
    "logged": ("forest", "went"), "reforestation": ("forest", "came"), "afforestation": ("forest", "came"),
    "reforested": ("forest", "came"), "construction": ("building", "came"), "constructions": ("building", "came"),
    "development": ("building", "came"), "urbanisation": ("building", "came"), "urbanization": ("building", "came"),
    "demolition": ("building", "went"), "demolitions": ("building", "went"), "flooding": ("water", "came"),
    "flooded": ("water", "came"), "flood": ("water", "came"),
}  # fmt: skip
"""What happened in one word: a class, and whether it came or went."""

_CAME = (
    r"new|newly|built|constructed|erected|appear(?:s|ed|ing)?|gain(?:s|ed)?|added|emerged?|came|arose|grew|planted"
    r"|paved"
    r"|created"
)
_WENT = (
    r"lost|lose|losses|loss|losing|gone|disappear(?:s|ed|ing)?|vanish(?:ed|es)?|removed?|demolished|destroyed|cleared"
    r"|cut|felled|razed|torn|went|missing|shrank|shrunk"
)
CAME = re.compile(rf"\b(?:{_CAME})\b")
WENT = re.compile(rf"\b(?:{_WENT})\b")

_COUNTED = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
NUMBERS: Mapping[str, int] = {word: number for number, word in enumerate(_COUNTED)}

_MEASURES: tuple[tuple[str, Unit, float], ...] = (
    (r"sq(?:uare)?\.? ?(?:km|kilomet(?:re|er)s?)|km ?(?:2|²|\^2)|kilomet(?:re|er)s? squared", "km2", 1e6),
    (r"hectares?|ha", "ha", 1e4),
    (r"sq(?:uare)?\.? ?m(?:et(?:re|er)s?)?|m ?(?:2|²|\^2)|sqm|met(?:re|er)s? squared", "m2", 1.0),
    (r"per ?cent(?:age)?|%|fraction|share|proportion", "percent", 0.0),
    (r"pixels?|px", "pixels", 0.0),
)
UNITS = tuple((re.compile(rf"(?:{pattern})(?![\w²])"), unit, factor) for pattern, unit, factor in _MEASURES)
"""Pattern, unit, square metres of one (0: it is no measure of ground)."""

_NORTH_SOUTH = {"top": "top", "upper": "top", "north": "top", "northern": "top"} | {
    "bottom": "bottom", "lower": "bottom", "south": "bottom", "southern": "bottom"
}  # fmt: skip
_EAST_WEST = {"left": "left", "west": "left", "western": "left", "left-hand": "left"} | {
    "right": "right", "east": "right", "eastern": "right", "right-hand": "right"
}  # fmt: skip
_CENTER = r"(?:cent(?:re|er)|central|middle|mid)"
_VERTICAL = rf"(?P<v>{'|'.join(sorted(_NORTH_SOUTH, key=len, reverse=True))})"
_SIDEWAYS = rf"(?P<h>{'|'.join(sorted(_EAST_WEST, key=len, reverse=True))})"
_REST = r"(?:\b[- ]?(?:corner|part|third|side|edge|quadrant|area|section|region|most))?"
_PLACE_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (rf"\b{_VERTICAL}(?:[- ]|most )?(?:hand )?{_SIDEWAYS}\b{_REST}", "corner"),
        (rf"\b{_VERTICAL}[- ]half\b", "half"),
        (rf"\b{_SIDEWAYS}[- ]half\b", "half"),
        (rf"\b{_VERTICAL}[- ]{_CENTER}\b{_REST}", "vertical middle"),
        (rf"\b{_CENTER} (?:of the |of )?{_VERTICAL}\b{_REST}", "vertical middle"),
        (rf"\b{_CENTER}[- ]{_SIDEWAYS}\b{_REST}", "sideways middle"),
        (rf"\b{_SIDEWAYS}[- ]{_CENTER}\b{_REST}", "sideways middle"),
        (rf"\b{_CENTER} of the {_SIDEWAYS}\b{_REST}", "sideways middle"),
        (rf"\b(?:in|at|on|to|of) the {_CENTER}\b{_REST}", "center"),
        (rf"\b{_CENTER} (?:cell|part|of the (?:picture|image|scene|map|area))\b", "center"),
        (rf"\b(?:in|at|on|to|from|near|along) (?:the )?{_VERTICAL}\b{_REST}", "vertical"),
        (rf"\b(?:in|at|on|to|from|near|along) (?:the )?{_SIDEWAYS}\b{_REST}", "sideways"),
    )
)

GENERIC = re.compile(
    r"\b(?:chang(?:e|es|ed|ing)|differ(?:s|ent|ence|ences)|areas?|regions?|patch(?:es)?|spots?|polygons?|anything"
    r"|something|everything|happened|happens|things?|objects?|places?|alterations?|transformations?|picture"
    r"|pictures|image|images|scene|land|surface|ground|it all)\b"
)
"""Words for whatever changed."""
PRONOUN = re.compile(r"\b(?:those|them|these|they|it|that|this|ones|same|their|its|which ones)\b")

_LITTLE = (
    "corner corners side sides quadrant quadrants half use uses break down mostly mainly largely only "
    "a an the and or but so then also too as at by for from in into inside within on onto of off out over to up "
    "with per than between among around about near here there this that these those it its they them their he she "
    "we us our you your i me my mine one ones all any each every both either no not only just even still already "
    "now before after later earlier previous previously date dates day days time times year years today current "
    "currently past old former is are was were be been being am do does did done has have had having can could "
    "would should will shall may might must please kindly thanks thank hello hi hey ok okay well good sir agent "
    "tell give show find list get see look looking want need like know let make made say says said put draw mark "
    "highlight outline display point count counting number numbers many much how what where when which who why "
    "whether whose total totals altogether overall sum whole entire full complete exactly precisely approximately "
    "roughly nearly really actually quite very rather some few several more less most least lot lots bigger "
    "smaller larger greater big small large huge tiny largest smallest biggest top first second third last next "
    "other another others area areas size sizes extent surface land cover ground region regions patch patches "
    "spot spots part parts place places picture pictures image images photo photos scene scenes map maps view "
    "mask masks raster polygon polygons geojson geotiff tif tiff png json file files format vector layer export "
    "save download write store pair change changes changed changing difference differences different differ "
    "anything something everything nothing thing things object objects happened happen happens going occur "
    "occurred took take taken turn turned turning converted convert replaced replace replacing became become "
    "becoming instead gave way used covers covered measure measured compute calculate estimate estimated "
    "determine identify detect detected detects detection segment segmentation classify describe description "
    "caption captions sentence words word summarise summarize summary report compare compared comparison versus "
    "vs increase increased decrease decreased grow grown growth shrink net balance gain gains statistics stats "
    "breakdown table class classes type types kind kinds category categories located location locations position "
    "positions coordinates coordinate coords latitude longitude lat lon lie lies situated standing stand stands "
    "visible seen ever since new-built again back same exceeding exceed above below under minimum maximum min max "
    "equal per-class group grouped sorted order model models agree agreement sure certain confident confidence "
    "trust reliable other's others' and/or question answer result results "
)
LITTLE = frozenset(_LITTLE.split())
"""Words that say nothing about what is asked for."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A class that a text names.

    Attributes:
        name: the class of the detector, or the word itself if it has no such class.
        known: whether it has.
        start, end: where in the text.
        event: "came" or "went" if the word says so by itself, as "deforestation" does.
    """

    name: str
    known: bool
    start: int
    end: int
    event: str = ""


class ClassWords:
    """Finds a detector's classes in texts.

    Args:
        classes: its classes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._meanings: dict[str, tuple[str, bool]] = {}
        own = {name.lower(): name for name in classes}
        for group in GROUPS:
            meant = next((own[word] for word in group if word in own), None)
            for word in group:
                self._meanings[word] = (meant, True) if meant else (group[0], False)
        for lower, name in own.items():
            for form in _forms(lower):
                self._meanings.setdefault(form, (name, True))
            self._meanings[lower] = (name, True)
        self._events = {
            word: (*self._meanings[group], kind) for word, (group, kind) in EVENTS.items() if word not in own
        }
        words = sorted({*self._meanings, *self._events}, key=len, reverse=True)
        self._pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(re.escape(word) for word in words)})(?![\w-])")

    def mentions(self, text: str) -> list[Mention]:
        """Classes that a text names, in its order."""
        found = []
        for match in self._pattern.finditer(text):
            word = match.group()
            if word in self._events:
                name, known, kind = self._events[word]
                found.append(Mention(name, known, match.start(), match.end(), kind))
            else:
                name, known = self._meanings[word]
                found.append(Mention(name, known, match.start(), match.end()))
        return found


def _forms(name: str) -> Iterable[str]:
    yield name
    yield name[:-1] if name.endswith("s") else f"{name}s"


def place_in(text: str) -> tuple[Place, tuple[int, int]] | None:
    """The place of the picture that a text names, and where it does; north is the top, as maps have it."""
    for pattern, kind in _PLACE_PATTERNS:
        match = pattern.search(text)
        if match is None:
            continue
        groups = match.groupdict()
        vertical = _NORTH_SOUTH.get(groups.get("v") or "", "")
        sideways = _EAST_WEST.get(groups.get("h") or "", "")
        names = {
            "corner": f"{vertical} {sideways}",
            "half": f"{ {'top': 'upper', 'bottom': 'lower'}[vertical] } half" if vertical else f"{sideways} half",
            "vertical middle": f"{vertical} center",
            "sideways middle": f"center {sideways}",
            "center": "center",
            "vertical": vertical,
            "sideways": sideways,
        }
        place: Place = names[kind].strip()  # type: ignore[assignment]
        return place, match.span()
    return None

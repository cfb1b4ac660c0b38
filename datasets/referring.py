"""Phrases that name one thing, or some, in a labelled picture, each with its mask.

A `Scene` is a picture with the class of its ground. Its connected areas are instances: roofs where a set labels single
roofs, otherwise meadows, lakes or built-up areas. A grammar makes phrases about class, colour, size, place and relation
("the largest building left of the road"). A phrase is kept only if it is true and unambiguous: every condition is
judged for every instance of the class as true, false or unclear, with margins, and nothing may be unclear; a phrase in
the singular must leave one instance. Where labels say nothing (`known`), a mask says nothing either.

    scene = Scene(...)
    for phrase in phrases_of(scene, np.random.default_rng(0), most=8):
        phrase.text, phrase.mask
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from trainingsets.changes import CLASSES

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Verdicts = npt.NDArray[np.int8]
"""For each instance of a class 1 (true), 0 (false) or -1 (unclear)."""

KINDS = (*CLASSES, "vegetation")
"""What ground may be; code 0 is none of them, code 1 the first. Vegetation may be low or trees."""
Sort = Literal["class", "size", "place", "colour", "relation", "several", "absent"]
"""What a phrase is about beside its class; "several" is about two things."""
SORTS: tuple[Sort, ...] = ("class", "size", "place", "colour", "relation", "several", "absent")

LEAST_SHARE = 0.0012
"""Share of the picture from which on a connected area is an instance; smaller ones are crumbs."""
CRUMBS = 0.04
"""Share of a class up to which crumbs are passed over where single instances are named."""
LARGER = 1.3
"""How many times as large the largest is as the next."""
APART = 0.07
"""Share of the side by which the leftmost lies left of the next, between centres."""
NEAR, FAR = 0.03, 0.10
"""Shares of the side up to which things are next to each other, and from which on they are not."""
LEAST_MASK = 0.003
"""Share of the picture of the smallest mask, but for what is absent."""
KNOWN = 0.96
"""Share of the picture that must be known where anything but the class is said."""


@dataclass(frozen=True, slots=True)
class Noun:
    """Words for a kind: for its ground, for one area of it, for some."""

    ground: tuple[str, ...]
    one: tuple[str, ...]
    some: tuple[str, ...]


NOUNS: Mapping[str, Noun] = {
    "low vegetation": Noun(
        ("low vegetation", "grass", "grassland", "farmland"),
        ("meadow", "field", "grass field", "green field", "lawn"),
        ("meadows", "fields", "grass fields", "green fields"),
    ),
    "bare ground": Noun(
        ("bare ground", "bare soil", "bare earth", "barren land"),
        ("bare field", "patch of bare ground", "area of bare soil"),
        ("bare fields", "patches of bare ground", "areas of bare soil"),
    ),
    "tree": Noun(
        ("forest", "trees", "woodland", "tree cover"),
        ("forest", "wood", "group of trees"),
        ("forests", "woods", "groups of trees"),
    ),
    "water": Noun(("water", "open water"), ("body of water", "water area"), ("water areas", "bodies of water")),
    "building": Noun(
        ("built-up area", "buildings", "houses", "town"),
        ("built-up area", "settlement", "group of houses"),
        ("built-up areas", "settlements", "groups of houses"),
    ),
    "road": Noun(("road", "roads", "streets"), ("road", "street"), ("roads", "streets")),
    "vegetation": Noun(
        ("vegetation", "greenery", "plants"),
        ("patch of vegetation", "green area"),
        ("patches of vegetation", "green areas"),
    ),
}
SINGLE = Noun(("buildings", "houses", "roofs"), ("building", "house", "roof"), ("buildings", "houses", "roofs"))
"""Words for buildings where a connected area is one of them."""
LAKES = Noun((), ("lake", "pond"), ("lakes", "ponds"))
RIVERS = Noun((), ("river", "stream"), ("rivers", "streams"))

PLACES: Mapping[str, tuple[slice, slice]] = {
    "top left": (slice(0, 4), slice(0, 4)),
    "top": (slice(0, 4), slice(0, 12)),
    "top right": (slice(0, 4), slice(8, 12)),
    "left": (slice(0, 12), slice(0, 4)),
    "center": (slice(4, 8), slice(4, 8)),
    "right": (slice(0, 12), slice(8, 12)),
    "bottom left": (slice(8, 12), slice(0, 4)),
    "bottom": (slice(8, 12), slice(0, 12)),
    "bottom right": (slice(8, 12), slice(8, 12)),
    "upper half": (slice(0, 6), slice(0, 12)),
    "lower half": (slice(6, 12), slice(0, 12)),
    "left half": (slice(0, 12), slice(0, 6)),
    "right half": (slice(0, 12), slice(6, 12)),
}
"""Rows and columns of each place, in twelfths of the picture."""
_SIDES = ("top", "bottom", "left", "right")
WHERE: Mapping[str, tuple[str, ...]] = (
    {name: (f"in the {name}",) if "half" in name else (f"in the {name} corner", f"at the {name}") for name in PLACES}
    | {name: (f"at the {name}", f"on the {name}") for name in _SIDES}
    | {"center": ("in the center", "in the middle")}
)

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "white": (232, 230, 226),
    "grey": (140, 140, 140),
    "dark": (45, 48, 48),
    "red": (165, 70, 58),
    "brown": (118, 92, 68),
    "beige": (205, 185, 150),
    "green": (88, 118, 62),
    "blue": (70, 110, 160),
}
"""What a colour's name means most of all."""
SURE, UNLIKE = 26.0, 14.0
"""Distances in CIELAB: to its name at most, and how much nearer its own name must be than one that it does not bear."""


def lab_of(rgb: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Colours (..., 3) of sRGB, 0 to 255, in CIELAB of D65 (CIE 15:2004)."""
    values = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


_ANCHORS = lab_of(list(COLOURS.values()))


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and the class of its ground.

    Attributes:
        source: which set it is from.
        name: unique within the set.
        place: scenes of one place are never split between training and test.
        pixels: uint8 (h, w, 3), square.
        codes: uint8 (h, w), 0 or 1 + index in KINDS.
        known: bool (h, w), where the code is known.
        kinds: that the set labels wherever they are.
        single: whether a connected area of building is one building.
        roofs: uint16 (h, w), 0 or the number of a building, where buildings that touch are told apart; or None.
        asked: what an edit by prompt asked for, for classes all of whose ground is of one prompt.
    """

    source: str
    name: str
    place: str
    pixels: Bytes
    codes: Bytes
    known: Mask
    kinds: tuple[str, ...]
    single: bool = False
    roofs: npt.NDArray[np.uint16] | None = None
    asked: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def things(self) -> dict[str, Things]:
        """The instances of each kind that is there."""
        found = {}
        for code, kind in enumerate(KINDS, start=1):
            ground = (self.codes == code) & self.known
            if kind in self.kinds and ground.any():
                roofs = self.roofs if kind == "building" else None
                found[kind] = things_in(ground, kind, self.pixels, self.single, roofs)
        return found


@dataclass(frozen=True, eq=False)
class Things:
    """The instances of one kind.

    Attributes:
        kind: of KINDS.
        ground: bool (h, w), all of it.
        numbers: (h, w), 0 or the instance's number, from 1.
        sizes: pixels of each.
        centres: (n, 2), row and column in shares of the sides.
        lab: (n, 3), median colour in CIELAB.
        long: (n,), length by breadth.
        crumbs: bool (h, w), what is too small to be an instance.
        single: whether an instance is one object.
    """

    kind: str
    ground: Mask
    numbers: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int64]
    centres: npt.NDArray[np.float64]
    lab: npt.NDArray[np.float64]
    long: npt.NDArray[np.float64]
    crumbs: Mask
    single: bool

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def countable(self) -> bool:
        """Whether instances can be named one by one."""
        return len(self) > 0 and self.crumbs.sum() <= CRUMBS * self.ground.sum()

    def mask(self, chosen: Mask) -> Mask:
        """The instances of which `chosen` (n,) is true."""
        table = np.concatenate([[False], chosen])
        mask: Mask = table[self.numbers]
        return mask

    @cached_property
    def noun(self) -> Noun:
        """Words for it; lakes and rivers only where all are of one shape."""
        if self.kind == "building" and self.single:
            return SINGLE
        base = NOUNS[self.kind]
        if self.kind == "water" and len(self):
            shaped = LAKES if (self.long < 2.5).all() else RIVERS if (self.long > 4).all() else None
            if shaped is not None:
                ground = (*base.ground, *(shaped.one if len(self) == 1 else shaped.some))
                return Noun(ground, (*base.one, *shaped.one), (*base.some, *shaped.some))
        return base


@dataclass(frozen=True, eq=False)
class Phrase:
    """What is said, and of what.

    Attributes:
        text: the phrase.
        sort: what it is about.
        kind: the class that it names.
        mask: bool (h, w).
        known: bool (h, w), where the mask is known.
    """

    text: str
    sort: Sort
    kind: str
    mask: Mask
    known: Mask


@dataclass(frozen=True, slots=True)
class Condition:
    """Words before or after a noun, and of which instances they are true."""

    sort: Sort
    before: str
    after: str
    holds: Verdicts


def things_in(
    ground: Mask, kind: str, pixels: Bytes, single: bool, roofs: npt.NDArray[np.uint16] | None = None
) -> Things:
    """The connected areas (eight neighbours) of some ground, or its parts by number."""
    if roofs is None:
        labels, count = ndimage.label(ground, structure=np.ones((3, 3), dtype=bool))
    else:
        present, labels = np.unique(np.where(ground, roofs, 0), return_inverse=True)
        labels = labels.reshape(ground.shape) + (0 if present[0] == 0 else 1)
        count = int(labels.max())
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    kept = np.flatnonzero(sizes[1:] >= LEAST_SHARE * ground.size) + 1
    table = np.zeros(count + 1, dtype=np.int32)
    table[kept] = np.arange(1, len(kept) + 1)
    numbers = table[labels]
    height, width = ground.shape
    centres, lab, long = np.zeros((len(kept), 2)), np.zeros((len(kept), 3)), np.ones(len(kept))
    for index in range(len(kept)):
        rows, columns = np.nonzero(numbers == index + 1)
        centres[index] = (rows.mean() + 0.5) / height, (columns.mean() + 0.5) / width
        lab[index] = lab_of(np.median(pixels[rows, columns], axis=0))
        spread = np.linalg.eigvalsh(np.cov(np.stack([rows, columns])) + 0.1 * np.eye(2))
        long[index] = np.sqrt(spread[1] / spread[0])
    crumbs = ground & (numbers == 0)
    return Things(kind, ground, numbers, sizes[kept], centres, lab, long, crumbs, single)


# --- Conditions ---


def conditions_of(scene: Scene, kind: str, random: np.random.Generator) -> list[Condition]:
    """Everything but superlatives that can be said of instances of a kind, and that tells some of them apart."""
    things = scene.things[kind]
    found = [*_places(things, random), *_colours(things), *_relations(scene, things, random)]
    return [one for one in found if (one.holds == 1).any() and not (one.holds == -1).any()]


def superlatives(things: Things, among: Mask, random: np.random.Generator) -> Iterator[tuple[Sort, str, int]]:
    """What is largest, smallest or outermost among some instances: sort, word, index."""
    chosen = np.flatnonzero(among)
    if len(chosen) < 2:
        return
    largest, smallest = (random.choice(words) for words in (("largest", "biggest"), ("smallest", "tiniest")))
    order = chosen[np.argsort(things.sizes[chosen])]
    if things.sizes[order[-1]] >= LARGER * things.sizes[order[-2]]:
        yield "size", str(largest), int(order[-1])
    if things.sizes[order[1]] >= LARGER * things.sizes[order[0]] and not things.crumbs.any():
        yield "size", str(smallest), int(order[0])
    for axis, first, last in ((0, "topmost", "lowest"), (1, "leftmost", "rightmost")):
        order = chosen[np.argsort(things.centres[chosen, axis])]
        places = things.centres[order, axis]
        if places[1] - places[0] >= APART:
            yield "place", first, int(order[0])
        if places[-1] - places[-2] >= APART:
            yield "place", last, int(order[-1])


def _places(things: Things, random: np.random.Generator) -> Iterator[Condition]:
    height, width = things.ground.shape
    for name, (rows, columns) in PLACES.items():
        part = np.zeros(things.ground.shape, dtype=bool)
        part[
            rows.start * height // 12 : rows.stop * height // 12,
            columns.start * width // 12 : columns.stop * width // 12,
        ] = True
        inside = np.bincount(things.numbers[part], minlength=len(things) + 1)[1:] / things.sizes
        holds = np.full(len(things), -1, dtype=np.int8)
        holds[inside >= 0.8], holds[inside <= 0.2] = 1, 0
        if not ((things.crumbs & part).sum() > CRUMBS * max(1, (things.ground & part).sum())):
            yield Condition("place", "", " " + str(random.choice(WHERE[name])), holds)


def colour_verdicts(lab: npt.NDArray[np.float64], name: str) -> Verdicts:
    """Whether colours (n, 3) in CIELAB bear a name."""
    distances = np.linalg.norm(lab[:, None] - _ANCHORS[None], axis=2)
    own = distances[:, list(COLOURS).index(name)]
    nearest = distances.min(axis=1)
    others = np.delete(distances, list(COLOURS).index(name), axis=1).min(axis=1)
    holds = np.full(len(lab), -1, dtype=np.int8)
    holds[(own <= SURE) & (others - own >= 6)] = 1
    holds[own - nearest >= UNLIKE] = 0
    return holds


def _colours(things: Things) -> Iterator[Condition]:
    for name in COLOURS:
        yield Condition("colour", f"{name} ", "", colour_verdicts(things.lab, name))


def _relations(scene: Scene, things: Things, random: np.random.Generator) -> Iterator[Condition]:
    for kind, others in scene.things.items():
        if kind == things.kind or len(others) != 1 or not others.countable:
            continue
        word = str(random.choice(others.noun.one))
        mask = others.numbers > 0
        for relation, words in (
            ("left", ("left of", "to the left of")),
            ("right", ("right of", "to the right of")),
            ("above", ("above",)),
            ("below", ("below",)),
        ):
            holds = np.array(
                [_beyond(things.numbers == index + 1, mask, relation) for index in range(len(things))], dtype=np.int8
            )
            yield Condition("relation", "", f" {random.choice(words)} the {word}", holds)
        away = ndimage.distance_transform_edt(~mask) / len(mask)
        nearest = np.asarray(ndimage.minimum(away, things.numbers, np.arange(1, len(things) + 1)))
        holds = np.full(len(things), -1, dtype=np.int8)
        holds[nearest <= NEAR], holds[nearest >= FAR] = 1, 0
        yield Condition("relation", "", f" {random.choice(('next to', 'beside'))} the {word}", holds)


def _beyond(one: Mask, other: Mask, side: str) -> int:
    """Whether a thing lies to one side of another: where they share rows (or columns), else as a whole."""
    if side in ("above", "below"):
        one, other = one.T, other.T
    if side in ("right", "below"):
        one, other = one[:, ::-1], other[:, ::-1]
    rows, columns = np.nonzero(one)
    band = other[rows.min() : rows.max() + 1]
    places = np.nonzero(band if band.any() else other)[1]
    slack = 0.01 * one.shape[1]
    if np.percentile(columns, 95) <= np.percentile(places, 5) + slack:
        return 1
    return 0 if np.median(columns) >= np.median(places) else -1


# --- Phrases ---


def phrases_of(scene: Scene, random: np.random.Generator, most: int, sorts: Sequence[Sort] = SORTS) -> list[Phrase]:
    """Some of the phrases that hold, as many sorts of them as there are, no mask and sort twice."""
    made = [
        phrase
        for phrase in all_phrases(scene, random)
        if phrase.sort in sorts and (phrase.sort == "absent" or phrase.mask.mean() >= LEAST_MASK)
    ]
    by_sort: dict[Sort, list[Phrase]] = {}
    for index in random.permutation(len(made)):
        by_sort.setdefault(made[index].sort, []).append(made[index])
    chosen: list[Phrase] = []
    seen: set[tuple[str, bytes]] = set()
    while by_sort and len(chosen) < most:
        for sort in list(by_sort):
            phrase = by_sort[sort].pop()
            key = (phrase.sort, phrase.mask.tobytes()) if phrase.sort != "absent" else (phrase.text, b"")
            if key not in seen and len(chosen) < most:
                seen.add(key)
                chosen.append(phrase)
            # One thing that is not there is enough for a picture.
            if not by_sort[sort] or sort == "absent":
                del by_sort[sort]
    return chosen


def all_phrases(scene: Scene, random: np.random.Generator) -> Iterator[Phrase]:
    """Every phrase of the grammar that holds, with words drawn at random."""
    for kind, things in scene.things.items():
        words = (*things.noun.ground, *((scene.asked[kind],) * 3 if kind in scene.asked else ()))
        # Where the class of some ground is unknown, so is whether it belongs to the mask.
        yield Phrase(_article(str(random.choice(words)), random), "class", kind, things.ground, scene.known)
        if things.countable and scene.known.mean() >= KNOWN:
            yield from _named(scene, things, random)
    yield from _absent(scene, random)


def _named(scene: Scene, things: Things, random: np.random.Generator) -> Iterator[Phrase]:
    noun = things.noun
    known = scene.known & ~things.crumbs

    def phrase(sort: Sort, before: str, after: str, chosen: Mask, plural: bool) -> Phrase:
        words = [word for word in (noun.some if plural else noun.one) if word.split()[0] not in before.split()]
        word = str(random.choice(words))
        return Phrase(f"the {before}{word}{after}", sort, things.kind, things.mask(chosen), known)

    everything = np.ones(len(things), dtype=bool)
    for sort, word, index in superlatives(things, everything, random):
        yield phrase(sort, f"{word} ", "", np.arange(len(things)) == index, False)
    conditions = conditions_of(scene, things.kind, random)
    for one in conditions:
        chosen = one.holds == 1
        # Of a single thing what is said of it is true but tells nothing apart; some of that is good to know.
        if len(things) > 1 or random.random() < 0.3:
            yield phrase(one.sort, one.before, one.after, chosen, bool(chosen.sum() > 1))
        for _, word, index in superlatives(things, chosen, random):
            if one.sort != "place" or word in ("largest", "biggest", "smallest", "tiniest"):
                yield phrase("several", f"{word} {one.before}", one.after, np.arange(len(things)) == index, False)
    order = random.permutation(len(conditions))
    for first, second in pairwise(conditions[index] for index in order):
        both = (first.holds == 1) & (second.holds == 1)
        fewer = both.sum() < min((first.holds == 1).sum(), (second.holds == 1).sum())
        if first.sort != second.sort and both.any() and fewer and not (first.before and second.before):
            before, after = first.before + second.before, first.after + second.after
            yield phrase("several", before, after, both, bool(both.sum() > 1))


def _absent(scene: Scene, random: np.random.Generator) -> Iterator[Phrase]:
    """Kinds of which there is nothing, where all ground is known."""
    if scene.known.mean() < 0.995:
        return
    present = {KINDS[code - 1] for code in np.unique(scene.codes) if code}
    for kind in scene.kinds:
        noun = SINGLE if kind == "building" and scene.single else NOUNS[kind]
        if kind not in present:
            word = str(random.choice((*noun.ground, *noun.one)))
            yield Phrase(f"the {word}", "absent", kind, np.zeros(scene.codes.shape, dtype=bool), scene.known)


def _article(word: str, random: np.random.Generator) -> str:
    form: Callable[[str], str] = (str, "the {}".format, "the {}".format, "all {}".format)[int(random.integers(4))]
    if form("x") == "all x" and not word.endswith("s"):
        return f"all the {word}"
    return form(word)

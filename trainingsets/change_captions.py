"""Sentences about a pair that are true because of what is known of it.

A `ChangeRecord` is taken from a sample's masks, so it holds for engine pairs and labelled real ones, and after turning,
swapping or cropping. A grammar makes sentences of it: what came and went, how many areas, how large, where in a grid of
three by three, beside or within what, which lies left of or above the other, or that nothing changed. Each sentence
comes with its claims, which the tests verify against the masks. What the masks do not say is not said: where the
ground before is unknown nothing "appears", areas that fall to pieces are not counted, and a sample with doubtful areas
has no sentences at all.

Words are chosen after LEVIR-CC's (`benchmarks/captions.py` compares them); none of its sentences is copied.

    record = record_of(sample)
    sentences = [] if record is None else describe(record, np.random.default_rng(0))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from trainingsets.changes import CLASSES, Bytes, ChangeSample, Mask

SENTENCES = 5
"""Sentences a pair, as LEVIR-CC has."""
SINGLE: dict[str, tuple[str, ...]] = {"joplin": ("building",), "kampala": ("building",)}
"""Sources in which an area of a class is one object, such as a roof; elsewhere it is ground with many of them."""

Place = Literal[
    "top left", "top center", "top right", "center left", "center", "center right", "bottom left", "bottom center",
    "bottom right", "top", "bottom", "left", "right", "upper half", "lower half", "left half", "right half", "most",
]  # fmt: skip
"""A cell of the grid, a row or column of cells at an edge, a half, or the larger part of the picture."""
Kind = Literal[
    "nothing", "changed", "came", "went", "vanished", "became", "grew", "where", "size", "within", "beside", "left of",
    "above",
]  # fmt: skip

IN_PLACE, IN_HALF, IN_MOST = 0.7, 0.95, 0.6
"""Shares of the changed pixels in a cell or row, and in a half, and of the picture, from which on a place is named."""
LARGE, SMALL = 0.12, 0.02
"""Shares of the picture from which on and up to which an area is called large or small."""
WITHIN, BESIDE = 0.85, 0.1
"""Shares of an area's surroundings from which on it lies within or beside something."""
FROM = 0.9
"""Share of the areas of a class that was one other class, from which on it is said to have been that."""
SURROUNDINGS = 8
"""Pixels around an area that are its surroundings."""
SEEN = 0.7
"""Share of an area's surroundings that must be known and unchanged before anything is said of them."""
FADE = 28
"""Pixels around what changed where an edit may fade in; what is unknown farther away is doubtful."""
_EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that a sentence says.

    Attributes:
        kind: "nothing" changed; `number` areas "changed" in all; `subject` "came" as `number` areas, "went" somewhere
            or "vanished" altogether, "became" `other`, or "grew" beside what there was of it; what came of `subject`
            (or changed at all, if that is empty) is "where" `place` says, is of "size" `other`, lies "within" or
            "beside" ground of `other`, lies "left of" or "above" what came of `other`.
        subject: a class, or "".
        other: a class, or a size.
        number: of areas, or None where only that there are some is said.
        place: where.
    """

    kind: Kind
    subject: str = ""
    other: str = ""
    number: int | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence and what it says."""

    text: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True, eq=False)
class Arrival:
    """What came of a class: all of its areas.

    Attributes:
        name: the class that is there now.
        mask: bool (h, w), where it came.
        areas: connected ones (eight neighbours), or None where pieces are too small to be counted.
        origins: classes that were there, with their shares of the areas; empty where that is unknown.
        around: classes of the unchanged ground around the areas, with their shares.
        grows: whether every area touches unchanged ground of the same class.
        joins: whether any does.
        inland: whether no area touches the edge of the picture.
        single: whether an area is one object.
    """

    name: str
    mask: Mask
    areas: int | None
    origins: dict[str, float]
    around: dict[str, float]
    grows: bool
    joins: bool
    inland: bool
    single: bool

    @property
    def share(self) -> float:
        """Part of the picture, 0 to 1."""
        return float(self.mask.mean())

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Where it lies, the narrowest place first."""
        return places_of(self.mask)

    @property
    def origin(self) -> str | None:
        """The class that nearly all of it was."""
        return next((name for name, share in self.origins.items() if share >= FROM), None)


@dataclass(frozen=True, eq=False)
class ChangeRecord:
    """What is known of a pair.

    Attributes:
        sample: the pair.
        change: bool (h, w), what changed for certain.
        arrivals: by class; empty if nothing changed.
        areas: connected ones in all, or None where that is not sure.
    """

    sample: ChangeSample
    change: Mask
    arrivals: tuple[Arrival, ...]
    areas: int | None

    def is_all(self, name: str, mask: Mask) -> bool:
        """Whether a mask holds all that there was of a class before, for certain."""
        outside = self.sample.cover_before[self.sample.known & ~mask]
        return not bool(np.isin(outside, (0, 1 + CLASSES.index(name))).any())


def record_of(sample: ChangeSample) -> ChangeRecord | None:
    """What is known of a sample, or None if that is too little for a sentence.

    It is too little where something may have changed far from what did, and where a class is unknown that is there now.
    """
    change = sample.change & sample.known
    unsure = ~sample.known
    if unsure.any() and (not change.any() or bool((_distance(change) > FADE)[unsure].any())):
        return None
    if _apart(unsure, change):
        return None
    if bool((sample.cover_after[change] == 0).any()):
        return None
    still = sample.known & ~change
    arrivals = tuple(_arrival(sample, change, still, int(code)) for code in np.unique(sample.cover_after[change]))
    return ChangeRecord(sample, change, arrivals, _counted(change, sample.change))


def _apart(unsure: Mask, change: Mask) -> bool:
    """Whether an area that is unknown does not touch anything that changed."""
    numbers, count = ndimage.label(unsure, _EIGHT)
    touching = np.unique(numbers[ndimage.binary_dilation(change, _EIGHT)])
    return bool(np.count_nonzero(touching) < count)


def _distance(mask: Mask) -> npt.NDArray[np.float64]:
    """Pixels from each pixel to the nearest of a mask; infinite where the mask is empty."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    found: npt.NDArray[np.float64] = ndimage.distance_transform_edt(~mask)
    return found


def _arrival(sample: ChangeSample, change: Mask, still: Mask, code: int) -> Arrival:
    mask = change & (sample.cover_after == code)
    name = CLASSES[code - 1]
    before = sample.cover_before[mask]
    origins = {} if bool((before == 0).any()) else _shares(before)
    distance = _distance(mask)
    # An edit fades in between an area and the nearest ground that is known.
    gap = float(distance[still].min()) if still.any() else 0.0
    reach = gap + SURROUNDINGS
    shell = ~mask & (distance >= gap) & (distance <= reach)
    ground = sample.cover_after[shell & still]
    enough = len(ground) >= SEEN * max(1, int(shell.sum())) and bool((ground > 0).all())
    around = _shares(ground) if enough else {}
    numbers, count = ndimage.label(mask, _EIGHT)
    near_own = mask & (_distance(still & (sample.cover_after == code)) <= reach)
    joined = len(np.unique(numbers[near_own]))
    # Ground that nobody knows may be of the same class.
    unsure = bool((sample.cover_after[still & (distance <= reach)] == 0).any())
    edge = bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
    single = name in SINGLE.get(sample.source, ())
    areas = _counted(mask, sample.change & (sample.cover_after == code))
    return Arrival(name, mask, areas, origins, around, joined == count, joined > 0 or unsure, not edge, single)


def _shares(codes: Bytes) -> dict[str, float]:
    found, counts = np.unique(codes, return_counts=True)
    return {CLASSES[code - 1]: float(count / len(codes)) for code, count in zip(found, counts, strict=True)}


def _counted(mask: Mask, whole: Mask) -> int | None:
    """Connected areas of a mask, or None where that is not sure.

    It is not where an area is smaller than a thousandth of the picture and so no area worth the name, or where there
    are more or fewer with the borders that are not known for certain.
    """
    numbers, count = ndimage.label(mask, _EIGHT)
    sizes = np.bincount(numbers.ravel())[1:]
    if count == 0 or int(sizes.min()) < mask.size / 1000 or int(ndimage.label(whole, _EIGHT)[1]) != count:
        return None
    return int(count)


def places_of(mask: Mask) -> tuple[Place, ...]:
    """Names of the places that a mask lies in, the narrowest first; none where it lies everywhere."""
    found: list[Place] = []
    for place, least in _LEAST.items():
        share = float(mask.mean()) if place == "most" else float(mask[within(place, mask.shape)].sum() / mask.sum())
        if share >= least:
            found.append(place)
    return tuple(found)


def within(place: Place, shape: tuple[int, ...]) -> Mask:
    """The pixels of a place, bool (h, w)."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    row, column = 3 * rows // height, 3 * columns // width
    words = place.split()
    inside: Mask = np.ones((height, width), dtype=bool)
    if place == "most":
        return inside
    if words[-1] == "half":
        lower, right = 2 * rows >= height, 2 * columns >= width
        halves: dict[str, Mask] = {"upper": ~lower, "lower": lower, "left": ~right, "right": right}
        return halves[words[0]]
    if words[0] in ("top", "bottom"):
        inside &= row == (0 if words[0] == "top" else 2)
    elif words[0] == "center":
        inside &= row == 1
    if words[-1] in ("left", "right"):
        inside &= column == (0 if words[-1] == "left" else 2)
    elif words[-1] == "center":
        inside &= column == 1
    return inside


_PLACES: dict[Place, tuple[str, ...]] = {
    "top left": ("in the top left corner", "in the upper-left part of the scene", "in the upper left"),
    "top right": ("in the top right corner", "in the upper-right part of the scene", "in the upper right"),
    "bottom left": ("in the bottom left corner", "in the lower-left part of the scene", "in the lower left"),
    "bottom right": ("in the bottom right corner", "in the lower-right part of the scene", "in the lower right"),
    "top center": ("in the middle of the top", "at the top center"),
    "bottom center": ("in the middle of the bottom", "at the bottom center"),
    "center left": ("in the middle of the left side", "at the left center"),
    "center right": ("in the middle of the right side", "at the right center"),
    "center": ("in the middle", "in the center of the scene", "in the middle of the scene"),
    "top": ("at the top", "at the top of the scene"),
    "bottom": ("at the bottom", "at the bottom of the scene"),
    "left": ("on the left", "on the left side of the scene"),
    "right": ("on the right", "on the right side of the scene"),
    "upper half": ("in the upper half", "in the upper half of the scene"),
    "lower half": ("in the lower half", "in the lower half of the scene"),
    "left half": ("in the left half", "in the left half of the scene"),
    "right half": ("in the right half", "in the right half of the scene"),
    "most": ("on most of the scene", "across most of the scene"),
}
_LEAST: dict[Place, float] = {
    place: IN_MOST if place == "most" else IN_HALF if place.endswith("half") else IN_PLACE for place in _PLACES
}

# --- Words ---


@dataclass(frozen=True, slots=True)
class _Noun:
    """A noun with its verb's form."""

    text: str
    plural: bool = False

    def verb(self, singular: str, plural: str) -> str:
        """The noun and the verb that goes with it."""
        return f"{self.text} {plural if self.plural else singular}"


_AREAS: dict[str, tuple[tuple[str, str], ...]] = {
    "low vegetation": (
        ("area of low vegetation", "areas of low vegetation"),
        ("area of low plants", "areas of low plants"),
    ),
    "bare ground": (("area of bareland", "areas of bareland"), ("bare area", "bare areas")),
    "tree": (("group of trees", "groups of trees"), ("area of trees", "areas of trees"), ("forest", "forests")),
    "water": (("water area", "water areas"), ("area of water", "areas of water")),
    "building": (("group of buildings", "groups of buildings"), ("built-up area", "built-up areas")),
    "road": (("road area", "road areas"), ("piece of road", "pieces of road")),
}
"""An area of a class, one and more."""
_SINGLE: dict[str, tuple[tuple[str, str], ...]] = {"building": (("building", "buildings"),)}
"""One object and more, where an area is one."""
_GROUND: dict[str, tuple[_Noun, ...]] = {
    "low vegetation": (_Noun("low vegetation"), _Noun("low plants", True)),
    "bare ground": (_Noun("bareland"), _Noun("bare ground"), _Noun("bare soil")),
    "tree": (_Noun("trees", True), _Noun("forest"), _Noun("woods", True)),
    "water": (_Noun("water"), _Noun("open water")),
    "building": (_Noun("buildings", True),),
    "road": (_Noun("roads", True),),
}
"""Ground of a class, however much of it."""
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
_CAME = (("appears", "appear"), ("has appeared", "have appeared"), ("shows up", "show up"))
_BUILT = (
    ("is built", "are built"),
    ("has been built", "have been built"),
    ("is constructed", "are constructed"),
    ("appears", "appear"),
)
_WENT = (("disappears", "disappear"), ("has disappeared", "have disappeared"))
_REMOVED = (("is removed", "are removed"), ("has been removed", "have been removed"))
_REPLACED = (("is replaced by", "are replaced by"), ("has been replaced by", "have been replaced by"))
_BECAME = (("becomes", "become"), ("turns into", "turn into"))
NOTHING = (
    "nothing has changed",
    "there is no change",
    "no change has taken place",
    "no area has changed",
    "the land cover is the same as before",
    "there is no change in the scene",
    "the ground is the same on both dates",
)
"""Sentences that say so."""
_Made = tuple[str, tuple[Claim, ...]]
T = TypeVar("T")


def describe(record: ChangeRecord, random: np.random.Generator, count: int = SENTENCES) -> tuple[Sentence, ...]:
    """Different sentences about a pair.

    Sentences of different kinds come first, so that five of them say more than one thing.

    Args:
        record: of the pair.
        random: source of chance.
        count: how many; fewer come back only if the record has not so many.
    """
    if not record.arrivals:
        chosen = random.permutation(len(NOTHING))[:count]
        return tuple(Sentence(NOTHING[number], (Claim("nothing"),)) for number in chosen)
    pick = _Picker(random)
    kinds: list[list[_Made]] = [list(kind(record, pick)) for kind in _KINDS]
    kinds = [_shuffled(kind, random) for kind in kinds]
    ordered = [kinds[number] for number in random.permutation(len(kinds))]
    # What says least comes last.
    ordered.append(list(_that_something_changed(record, pick)))
    found: dict[str, Sentence] = {}
    while len(found) < count and any(ordered):
        for kind in ordered[:-1] if any(ordered[:-1]) else ordered:
            if kind and len(found) < count:
                text, claims = kind.pop()
                found.setdefault(text, Sentence(text, claims))
    return tuple(found.values())


def _shuffled(sentences: list[_Made], random: np.random.Generator) -> list[_Made]:
    """In random order; what is taken from the end is long more often than short, since that says more."""
    weights = np.array([len(text.split()) ** 2 for text, _ in sentences], dtype=np.float64)
    order = np.argsort(random.random(len(sentences)) ** (1 / weights))
    return [sentences[number] for number in order]


class _Picker:
    """Draws words."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def __call__(self, choices: Sequence[T]) -> T:
        return choices[int(self._random.integers(len(choices)))]


def _where(arrival: Arrival, pick: _Picker) -> Iterator[tuple[str, Claim]]:
    """Places of what came of a class."""
    for place in arrival.places[:3]:
        yield pick(_PLACES[place]), Claim("where", arrival.name, place=place)


def _some(arrival: Arrival, pick: _Picker) -> Iterator[tuple[_Noun, tuple[Claim, ...]]]:
    """What came, as nouns: counted, measured, or only named."""
    name, areas = arrival.name, arrival.areas
    came = Claim("came", name)
    one, more = pick((_SINGLE if arrival.single and name in _SINGLE else _AREAS)[name])
    if areas is not None:
        exact = Claim("came", name, number=areas)
        if areas == 1:
            size = _size(arrival)
            yield _Noun(f"{_article(one)} {one}"), (exact,)
            if size:
                yield _Noun(f"a {size} {one}"), (exact, Claim("size", name, size))
        elif areas < len(_NUMBERS):
            yield _Noun(f"{_NUMBERS[areas]} {more}", True), (exact,)
        if areas >= 3:
            yield _Noun(f"several {more}", True), (came,)
        if areas >= 5:
            yield _Noun(f"many {more}", True), (came,)
    if not arrival.single:
        ground = pick(_GROUND[name])
        yield _Noun(f"some {ground.text}", ground.plural) if ground.plural else ground, (came,)
    elif areas is None or areas > 1:
        yield _Noun(f"some {more}", True), (came,)


def _size(arrival: Arrival) -> str:
    if arrival.share >= LARGE:
        return "large"
    return "small" if arrival.share <= SMALL else ""


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def _verbs(name: str) -> tuple[tuple[str, str], ...]:
    return _BUILT if name in ("building", "road") else _CAME


def _new(record: ChangeRecord) -> Iterator[Arrival]:
    """What can be said to have appeared: what was there before is known, and it is no part of what was there."""
    return (arrival for arrival in record.arrivals if arrival.origins and not arrival.joins)


def _old(record: ChangeRecord, name: str, mask: Mask, pick: _Picker) -> tuple[_Noun, tuple[Claim, ...]]:
    """Ground that was there: all of it, or a part."""
    ground = pick(_GROUND[name])
    if record.is_all(name, mask):
        return _Noun(f"the {ground.text}", ground.plural), (Claim("vanished", name),)
    return (_Noun(f"some {ground.text}", True) if ground.plural else _Noun(f"an area of {ground.text}")), ()


# --- Kinds of sentences; each yields what it can say of a record ---


def _what_came(record: ChangeRecord, pick: _Picker) -> Iterator[_Made]:
    for arrival in _new(record):
        for noun, claims in _some(arrival, pick):
            yield noun.verb(*pick(_verbs(arrival.name))), claims


def _what_came_where(record: ChangeRecord, pick: _Picker) -> Iterator[_Made]:
    for arrival in _new(record):
        for noun, claims in _some(arrival, pick):
            for words, place in _where(arrival, pick):
                yield f"{noun.verb(*pick(_verbs(arrival.name)))} {words}", (*claims, place)


def _what_became(record: ChangeRecord, pick: _Picker) -> Iterator[_Made]:
    for arrival in record.arrivals:
        if arrival.origin is None:
            continue
        became = Claim("became", arrival.origin, arrival.name)
        new = pick(_GROUND[arrival.name])
        # A house does not turn into a lake, it makes room for one.
        natural = {arrival.name, arrival.origin} <= {"low vegetation", "bare ground", "tree"}
        for verb in (pick(_REPLACED), pick(_BECAME if natural else _REPLACED)):
            old, all_of_it = _old(record, arrival.origin, arrival.mask, pick)
            text = f"{old.verb(*verb)} {new.text}"
            yield text, (became, *all_of_it)
            for words, place in _where(arrival, pick):
                yield f"{text} {words}", (became, *all_of_it, place)


def _what_went(record: ChangeRecord, pick: _Picker) -> Iterator[_Made]:
    gone = {name for arrival in record.arrivals for name in arrival.origins}
    for name in sorted(gone):
        went = Claim("went", name)
        removable = name in ("building", "road", "tree", "low vegetation")
        old, all_of_it = _old(record, name, record.change, pick)
        text = old.verb(*pick((*_WENT, *_REMOVED) if removable else _WENT))
        yield text, (went, *all_of_it)
        for arrival in _new(record):
            if arrival.origin == name:
                for noun, claims in _some(arrival, pick):
                    yield f"{text} and {noun.verb(*pick(_verbs(arrival.name)))}", (went, *all_of_it, *claims)


def _beside_what(record: ChangeRecord, pick: _Picker) -> Iterator[_Made]:
    for arrival in _new(record):
        for other, share in arrival.around.items():
            words = _relation(arrival, other, share, pick)
            if words is None:
                continue
            kind: Kind = "within" if share >= WITHIN else "beside"
            claim = Claim(kind, arrival.name, other)
            for noun, claims in _some(arrival, pick):
                text = f"{noun.verb(*pick(_verbs(arrival.name)))} {words}"
                yield text, (*claims, claim)
                for at, place in _where(arrival, pick):
                    yield f"{text} {at}", (*claims, claim, place)


def _relation(arrival: Arrival, other: str, share: float, pick: _Picker) -> str | None:
    if other == arrival.name or share < BESIDE:
        return None
    ground = pick(_GROUND[other]).text
    if share < WITHIN:
        return f"{pick(('beside', 'next to', 'near'))} the {ground}"
    return f"{pick(('amid', 'surrounded by'))} {ground}" if arrival.inland else None


def _what_grew(record: ChangeRecord, pick: _Picker) -> Iterator[_Made]:
    for arrival in record.arrivals:
        if not (arrival.grows and arrival.origins):
            continue
        grew = Claim("grew", arrival.name)
        ground = pick(_GROUND[arrival.name]).text
        texts = (f"the area of {ground} becomes larger", f"the area of {ground} has become larger")
        more = f"more {ground} {'appear' if ground.endswith('s') else 'appears'}"
        for text in (*texts, more):
            yield text, (grew,)
            for words, place in _where(arrival, pick):
                yield f"{text} {words}", (grew, place)


def _several_things(record: ChangeRecord, pick: _Picker) -> Iterator[_Made]:
    for one, other in combinations(list(_new(record)), 2):
        for first, second in ((one, other), (other, one)):
            nouns = [pick(list(_some(arrival, pick))) for arrival in (first, second)]
            clauses = [
                noun.verb(*pick(_verbs(arrival.name)))
                for (noun, _), arrival in zip(nouns, (first, second), strict=True)
            ]
            yield " and ".join(clauses), (*nouns[0][1], *nouns[1][1])
            wheres = [list(_where(arrival, pick)) for arrival in (first, second)]
            if all(wheres):
                (at, place), (other_at, other_place) = wheres[0][0], wheres[1][0]
                yield (
                    f"{clauses[0]} {at} and {clauses[1]} {other_at}",
                    (*nouns[0][1], place, *nouns[1][1], other_place),
                )


def _how_things_lie(record: ChangeRecord, pick: _Picker) -> Iterator[_Made]:
    for first in _new(record):
        for second in _new(record):
            if first is second:
                continue
            ways: tuple[tuple[int, Kind, str], ...] = ((0, "left of", "on the left of"), (1, "above", "above"))
            for axis, kind, words in ways:
                ends, begins = (np.flatnonzero(arrival.mask.any(axis=axis)) for arrival in (first, second))
                if ends.max() >= begins.min():
                    continue
                claims = (Claim("came", first.name), Claim("came", second.name), Claim(kind, first.name, second.name))
                one, other = (pick(_GROUND[arrival.name]) for arrival in (first, second))
                yield f"the new {one.verb('is', 'are')} {words} the new {other.text}", claims


def _that_something_changed(record: ChangeRecord, pick: _Picker) -> Iterator[_Made]:
    """True of any record with change, also where nobody knows what the ground was."""
    changed, areas = Claim("changed"), record.areas
    texts: list[_Made] = [
        ("the ground has changed", (changed,)),
        ("there is a change in the scene", (changed,)),
        ("a part of the scene has changed", (changed,)),
        ("the land cover has changed", (changed,)),
        ("the scene is not the same as before", (changed,)),
    ]
    if areas is not None and areas < len(_NUMBERS):
        exact = Claim("changed", number=areas)
        texts.append((f"{_NUMBERS[areas]} {'area has' if areas == 1 else 'areas have'} changed", (exact,)))
    if bool(record.change.all()):
        texts = [made for made in texts if "part" not in made[0]]
    yield from texts
    for place in places_of(record.change)[:3]:
        words, claim = pick(_PLACES[place]), Claim("where", place=place)
        for text, claims in texts[:1] + texts[5:]:
            yield f"{text} {words}", (*claims, claim)


_KINDS: tuple[Callable[[ChangeRecord, _Picker], Iterable[_Made]], ...] = (
    _what_came,
    _what_came_where,
    _what_became,
    _what_went,
    _beside_what,
    _what_grew,
    _several_things,
    _how_things_lie,
)


_JOINTS = (
    "a an the and some several many more large small new is are on of left above beside next to near amid surrounded by"
    " area areas becomes has become larger appear appears ground changed there change in scene part land cover not same"
    " as before have"
)
"""Words that sentences are joined with, beside those of the tables above."""


def words() -> tuple[str, ...]:
    """Every word that a sentence can hold, in alphabetical order."""
    verbs = (*_CAME, *_BUILT, *_WENT, *_REMOVED, *_REPLACED, *_BECAME)
    texts = [_JOINTS, *NOTHING, *_NUMBERS[1:]]
    texts += [text for both in verbs for text in both]
    texts += [phrase for phrases in _PLACES.values() for phrase in phrases]
    texts += [noun for table in (_AREAS, _SINGLE) for both in table.values() for nouns in both for noun in nouns]
    texts += [noun.text for nouns in _GROUND.values() for noun in nouns]
    return tuple(sorted({word for text in texts for word in text.split()}))


def captions_of(sample: ChangeSample, random: np.random.Generator, count: int = SENTENCES) -> tuple[str, ...]:
    """Sentences about a sample; none if too little is known of it."""
    record = record_of(sample)
    return () if record is None else tuple(sentence.text for sentence in describe(record, random, count))

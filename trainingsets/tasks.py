"""The tasks of a dump: what an item holds, and how its labels are known.

A task is a pure function from (engine, item) to a sample. Labels come from what the engine was asked for: the prompt of
a world, the edits between two dates, the zoom of a picture. Only segmentation reads masks off the pictures, by
the networks of `earthgen.bands`, where nothing was drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy.ndimage import label

from earthgen.bands import BUILDINGS, LAND_COVER, BandClass
from earthgen.pyramid import EQUATOR_GSD, MAX_ZOOM, Box, ground_sampling_distance, row_latitudes
from earthgen.world import Action, Edit, Root, World
from trainingsets.areas import MAX_AREAS, Area, around, draw_areas, is_seen, share_of
from trainingsets.errors import DumpSpecError
from trainingsets.grounds import COVER, COVER_NAMES, SCENES, Ground, cover_code
from trainingsets.making import Maker
from trainingsets.places import Scene, check_places, class_of, low_gsd_of, scene_number, scene_of, tile_box
from trainingsets.posed_views import LABELS, labels_role, posed_views, view_names
from trainingsets.resampling import area_mean
from trainingsets.sample import Bytes, Legend, Mask, Question, Sample, Thing, View
from trainingsets.spec import DumpSpec, generator
from trainingsets.words import SENTENCES, Event, captions, dialogue, phrase, place_name, questions

_ATTEMPTS = 3
"""Draws of edits before those that cannot be seen are left out."""
_SAME = 1 / 6
"""Share of pairs in which nothing changes."""
_BUILDING = next(part.code for part in LAND_COVER if part.name == "building")
_LEAST_PIECE = 64
"""Pixels of the smallest piece of land cover that is a thing of its own."""
_LEAST_LOW = 8
"""Pixels along a side of the smallest low picture."""
BEFORE, AFTER = "2021-06-15", "2025-06-15"
"""Dates of the pictures of a pair; of a single picture the second."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item before it is made.

    Attributes:
        spec: of its dump.
        index: its address.
        scene: what it is cut from.
        box: its pixels.
    """

    spec: DumpSpec
    index: int
    scene: Scene
    box: Box

    @property
    def key(self) -> str:
        """Its name in files."""
        return f"{self.scene.split}_{self.index:08d}"

    @property
    def metres(self) -> float:
        """True metres per pixel in the middle."""
        latitude = float(row_latitudes(self.box.zoom, self.box.row + self.box.height // 2, 1)[0])
        metres = ground_sampling_distance(self.box.zoom, latitude)
        # Pictures of any GSD have other pixels than the level that they are made from.
        return round(metres * self.box.width / self.spec.size if self.spec.low_gsds else metres, 4)

    def random(self, *key: int) -> np.random.Generator:
        """Chance of its own."""
        return generator(9, self.spec.seed, self.index, *key)

    def ground(self, table: dict[str, Ground]) -> str | None:
        """The class that its world shows; None for worlds without a prompt."""
        return class_of(tuple(table), self.spec, self.scene.number) if self.scene.root == "prompt" else None

    def world(self, table: dict[str, Ground], edits: tuple[Edit, ...] = ()) -> World:
        """Its world."""
        scene = self.scene
        if scene.root != "prompt":
            return World(scene.root, scene.seed, edits=edits, quality=self.spec.quality)
        ground = self.ground(table)
        assert ground is not None
        prompts = table[ground].prompts(scene.gsd)
        # One prompt a scene, so that its tiles share what they are made from.
        prompt = prompts[int(generator(10, self.spec.seed, scene.number).integers(len(prompts)))]
        return World("prompt", scene.seed, prompt, edits, gsd=scene.gsd, quality=self.spec.quality)


def item_of(spec: DumpSpec, index: int) -> Item:
    """An item by its index."""
    scene = scene_of(spec, scene_number(spec, index))
    return Item(spec, index, scene, tile_box(spec, scene, index))


@dataclass(frozen=True, slots=True)
class Task:
    """A task.

    Attributes:
        name: in commands.
        title: for people.
        labels: how labels are known, as a sentence.
        make: makes an item.
        masks: legends by role.
        classes: names of labels of whole pictures.
        categories: of things.
        roots: where its worlds may start.
        bands: those that it reads.
        gsds: metres per pixel if nobody says.
        paired: whether its pictures are "before" and "after".
        formats: those that hold it; None for all that do not say otherwise.
        needs: packages that it is made with, and the extra of earthgen that brings them.
    """

    name: str
    title: str
    labels: str
    make: Callable[[Maker, Item], Sample]
    masks: dict[str, Legend]
    classes: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    roots: tuple[Root, ...] = ("prompt", "earth", "planet")
    bands: tuple[str, ...] = ()
    gsds: tuple[float, ...] = (0.6, 2.4, 9.6)
    paired: bool = False
    formats: tuple[str, ...] | None = None
    needs: tuple[tuple[str, ...], str] = ((), "")

    def check(self, spec: DumpSpec) -> None:
        """Raise DumpSpecError if it cannot make such a dump."""
        packages, extra = self.needs
        absent = [name for name in packages if find_spec(name) is None]
        if absent:
            raise DumpSpecError(
                f'task {self.name} needs {", ".join(absent)}; install it: pip install "earthgen[{extra}]"'
            )
        foreign = sorted(set(spec.roots) - set(self.roots))
        if foreign:
            raise DumpSpecError(
                f"task {self.name} has no labels for worlds of root {', '.join(foreign)};"
                f" allowed: {', '.join(self.roots)}"
            )
        if spec.low_gsds and self.name != "super-resolution":
            raise DumpSpecError(f"task {self.name} has no low GSD; super-resolution has")
        if self.name == "super-resolution":
            _check_zooms(spec)
        if self.name == "multi-view":
            _check_views(spec)
        check_places(spec)


def _check_zooms(spec: DumpSpec) -> None:
    if not spec.low_gsds and spec.size // spec.scale < _LEAST_LOW:
        raise DumpSpecError(f"pictures of {spec.size} pixels are too small for scale {spec.scale}")
    for gsd in spec.gsds if spec.low_gsds else ():
        low = max(spec.low_gsds)
        if low_side(spec, gsd, low) < _LEAST_LOW:
            raise DumpSpecError(
                f"{spec.size} pixels of {gsd:g} m are {spec.size * gsd / low:.1f} of {low:g} m;"
                f" at least {_LEAST_LOW} are needed: raise the size"
            )


def _check_views(spec: DumpSpec) -> None:
    from perception.multiview.cameras import MAX_SIZE

    if spec.size > MAX_SIZE:
        raise DumpSpecError(f"views have at most {MAX_SIZE} pixels along a side; size is {spec.size}")
    coarse = [gsd for gsd in spec.gsds if spec.ground(gsd)[0] < MAX_ZOOM]
    if coarse:
        raise DumpSpecError(
            f"GSD of multi-view is {coarse[0]:g} m; single houses have to be seen, so 0.6 alone is allowed"
        )


# --- One picture ---


def _classification(maker: Maker, item: Item) -> Sample:
    world = item.world(SCENES)
    view = View(maker.engine.pixels(world, item.box), world, item.box, AFTER)
    return Sample({"image": view}, label=item.ground(SCENES), about={"prompt": world.prompt})


def _segmentation(maker: Maker, item: Item) -> Sample:
    world = item.world(SCENES)
    view = View(maker.engine.pixels(world, item.box), world, item.box, AFTER)
    cover = maker.band("landcover", world, item.box)
    # Building footprints exist at zooms where single ones are seen.
    close = item.box.zoom >= 16
    buildings = maker.band("buildings", world, item.box) if close else np.zeros_like(cover)
    # What the cascade has drawn is known, whatever a network reads there.
    drawn = maker.drawn(world, item.box)
    cover = np.where(drawn > 0, drawn, cover)
    if close:
        buildings = np.where(drawn > 0, drawn == _BUILDING, buildings).astype(np.uint8)
    things = [Thing(part.name, piece) for part in LAND_COVER for piece in _pieces(cover == part.code)]
    about = {"buildings_known": close, "by_construction": round(float((drawn > 0).mean()), 4)}
    return Sample({"image": view}, {"landcover": cover, "buildings": buildings}, tuple(things), about=about)


def _super_resolution(maker: Maker, item: Item) -> Sample:
    world = item.world(SCENES)
    if item.spec.low_gsds:
        return _any_zooms(maker, item, world)
    scale, box = item.spec.scale, item.box
    coarse = Box(
        box.zoom - scale.bit_length() + 1,
        box.row // scale,
        box.column // scale,
        box.height // scale,
        box.width // scale,
    )
    views = {
        "low": View(maker.engine.pixels(world, coarse), world, coarse, AFTER),
        "high": View(maker.engine.pixels(world, box), world, box, AFTER),
    }
    return Sample(views, about={"scale": scale, "low_metres": round(item.metres * scale, 4)})


def low_side(spec: DumpSpec, gsd: float, low_gsd: float) -> int:
    """Pixels along a side of the low picture: as many as bring it nearest to its GSD over the ground of the high one.

    Args:
        spec: the dump.
        gsd: of the high picture.
        low_gsd: of the low one.
    """
    zoom, side = spec.ground(gsd)
    return round(side * EQUATOR_GSD / 2.0**zoom / low_gsd)


def _any_zooms(maker: Maker, item: Item, world: World) -> Sample:
    """Both pictures are area means of the same pixels of a level that is at least as fine as the high one."""
    box, size, low_gsd = item.box, item.spec.size, low_gsd_of(item.spec, item.scene.number)
    fine = maker.engine.pixels(world, box)
    low = low_side(item.spec, item.scene.gsd, low_gsd)
    views = {
        "low": View(area_mean(fine, low), world, box, AFTER),
        "high": View(area_mean(fine, size), world, box, AFTER),
    }
    return Sample(
        views,
        about={
            "scale": round(size / low, 6),
            "low_metres": round(item.metres * size / low, 4),
            "low_gsd": low_gsd,
            "high_gsd": item.scene.gsd,
        },
    )


def _multi_view(maker: Maker, item: Item) -> Sample:
    return posed_views(maker, item, AFTER)


def _referring(maker: Maker, item: Item) -> Sample:
    ground = item.ground(COVER)
    plain = item.world(COVER)
    areas = draw_areas(item.box, ground, item.scene.gsd, MAX_AREAS, item.random(0), presets=False)
    world = item.world(COVER, tuple(area.edit for area in areas))
    before, after = (maker.engine.pixels(each, item.box) for each in (plain, world))
    cover = np.full(after.shape[:2], cover_code(ground), dtype=np.uint8)
    things: list[Thing] = []
    events: list[Event] = []
    for number, area in enumerate(areas):
        mask = share_of(world, number, item.box) > 0.5
        if is_seen(before, after, mask):
            events.append(Event(area.before, area.after, area.verb, mask))
            cover[mask] = cover_code(area.after)
        elif mask.any():
            cover[mask] = 0  # Asked for and not to be seen: nobody knows what it is.
    phrases = [phrase(event) for event in events]
    for event, words in zip(events, phrases, strict=True):
        things.append(Thing(event.after, event.mask, words if phrases.count(words) == 1 else "", event.before or ""))
    return Sample({"image": View(after, world, item.box, AFTER)}, {"cover": cover}, tuple(things))


# --- Two dates ---


@dataclass(frozen=True, slots=True, eq=False)
class _Change:
    """A pair of dates, what can be seen to have happened between them, and where edits neither begin nor end."""

    before: View
    after: View
    events: tuple[Event, ...]
    known: Mask


def _change(maker: Maker, item: Item) -> _Change:
    """The first draw whose edits can all be seen; after some draws, without those that cannot."""
    ground = item.ground(COVER)
    # Said once for all attempts, or pairs without change would become rarer with every draw.
    count = int(item.random(1).integers(1, MAX_AREAS + 1)) if item.random(2).random() >= _SAME else 0
    areas: tuple[Area, ...] = ()
    still: tuple[tuple[Edit, ...], tuple[Edit, ...]] = ((), ())
    seen: list[Area] = []
    for attempt in range(_ATTEMPTS):
        random = item.random(3, attempt)
        areas = draw_areas(item.box, ground, item.scene.gsd, count + 1, random)
        areas, spare = areas[:count], areas[count:]
        still = _still(spare, ground, random)
        change, seen = _looked_at(maker, item, areas, still)
        if len(seen) == len(areas):
            return change
    return _looked_at(maker, item, tuple(seen), still)[0]


def _still(
    spare: tuple[Area, ...], ground: str | None, random: np.random.Generator
) -> tuple[tuple[Edit, ...], tuple[Edit, ...]]:
    """Edits of the first and the second date that change no class: the same kind of ground, generated anew.

    So an area that was synthesised apart from its surroundings is no evidence of change. Houses would stand elsewhere:
    that would be change.
    """
    if not spare or ground in (None, "building") or random.random() < 0.4:
        return (), ()
    edit = Edit(spare[0].edit.polygon, action="reseed", seed=int(random.integers(2**31)))
    return ((edit,), ()) if random.random() < 0.5 else ((), (edit,))


def _looked_at(
    maker: Maker, item: Item, areas: tuple[Area, ...], still: tuple[tuple[Edit, ...], tuple[Edit, ...]]
) -> tuple[_Change, list[Area]]:
    """The pair, and those areas whose change can be seen."""
    worlds = item.world(COVER, still[0]), item.world(COVER, (*(area.edit for area in areas), *still[1]))
    before, after = (
        View(maker.engine.pixels(world, item.box), world, item.box, day)
        for world, day in zip(worlds, (BEFORE, AFTER), strict=True)
    )
    events, seen = [], []
    known = np.ones(after.pixels.shape[:2], dtype=np.bool_)
    for number, area in enumerate(areas):
        share = share_of(after.world, number, item.box)
        mask = share > 0.5
        known &= (share == 0) | (share == 1)
        if is_seen(before.pixels, after.pixels, mask):
            events.append(Event(area.before, area.after, area.verb, mask))
            seen.append(area)
    return _Change(before, after, tuple(events), known), seen


def _dated(item: Item, views: dict[str, View]) -> dict[str, View]:
    """The views as taken on different days by different sensors, if the dump is to have that; nothing else changes."""
    if not item.spec.date_effects:
        return views
    from trainingsets.changes import date_effects

    return {
        role: replace(view, pixels=date_effects(view.pixels, item.random(6, number)))
        for number, (role, view) in enumerate(views.items())
    }


def _pair(
    maker: Maker,
    item: Item,
    with_captions: bool = False,
    ask: Callable[[tuple[Event, ...]], tuple[Question, ...]] = questions,
) -> Sample:
    """A pair with all that is known of it, sentences if they are asked for."""
    change = _change(maker, item)
    masks = {role: np.zeros(change.after.pixels.shape[:2], dtype=np.uint8) for role in _CHANGE | _COVERS}
    for event in change.events:
        masks["change"][event.mask] = 1
        masks["cover_before"][event.mask] = cover_code(event.before)
        masks["cover_after"][event.mask] = cover_code(event.after)
    phrases = [phrase(event) for event in change.events]
    things = tuple(
        Thing(event.after, event.mask, words if phrases.count(words) == 1 else "", event.before or "")
        for event, words in zip(change.events, phrases, strict=True)
    )
    return Sample(
        _dated(item, {"before": change.before, "after": change.after}),
        masks,
        things,
        captions=_sentences(item, change, masks) if with_captions else (),
        questions=ask(change.events),
        about={"ground": item.ground(COVER), "changes": [_told(event) for event in change.events]},
    )


def _sentences(item: Item, change: _Change, masks: dict[str, Bytes]) -> tuple[str, ...]:
    """Five sentences by the grammar of `trainingsets.change_captions`, or simpler ones where it has none.

    That grammar knows what came and went, not how: of fires and floods, and of ground that nobody knows, only the edits
    tell.
    """
    from trainingsets.change_captions import captions_of
    from trainingsets.changes import ChangeSample

    simple = captions(change.events, item.random(4))
    ground = item.ground(COVER)
    if ground is None or any(event.verb != "replaced" for event in change.events):
        return simple
    still = np.where(masks["change"] == 1, 0, cover_code(ground)).astype(np.uint8)
    sample = ChangeSample(
        "engine",
        item.key,
        item.key,
        change.before.pixels,
        change.after.pixels,
        masks["change"] == 1,
        change.known,
        still + masks["cover_before"],
        still + masks["cover_after"],
    )
    found = captions_of(sample, item.random(7))
    return tuple(f"{sentence} ." for sentence in found) if len(found) == SENTENCES else simple


def _change_detection(maker: Maker, item: Item) -> Sample:
    pair = _pair(maker, item)
    return replace(pair, masks={"change": pair.masks["change"]}, questions=())


def _semantic_change(maker: Maker, item: Item) -> Sample:
    return replace(_pair(maker, item), questions=())


def _change_caption(maker: Maker, item: Item) -> Sample:
    pair = _pair(maker, item, with_captions=True)
    return replace(pair, masks={"change": pair.masks["change"]}, questions=())


def _vqa(maker: Maker, item: Item) -> Sample:
    pair = _pair(maker, item)
    return replace(pair, masks={"change": pair.masks["change"]})


def _change_dialogue(maker: Maker, item: Item) -> Sample:
    pair = _pair(maker, item, ask=dialogue)
    return replace(pair, masks={"change": pair.masks["change"]})


def _told(event: Event) -> dict[str, Any]:
    return {"before": event.before, "after": event.after, "how": event.verb, "where": place_name(event.mask)}


# --- Many dates ---


def dates(spec: DumpSpec) -> tuple[str, ...]:
    """The days of a time series: four a year, from 2021 on."""
    return tuple(date(2021 + step // 4, 2 + 3 * (step % 4), 15).isoformat() for step in range(spec.steps))


def _time_series(maker: Maker, item: Item) -> Sample:
    spec, ground, random = item.spec, item.ground(COVER), item.random(5)
    days = dates(spec)
    areas = draw_areas(item.box, ground, item.scene.gsd, int(random.integers(1, MAX_AREAS + 1)), random)
    whole = item.world(COVER, tuple(area.edit for area in areas))
    masks = [share_of(whole, number, item.box) > 0.5 for number in range(len(areas))]
    plain_pixels, whole_pixels = (maker.engine.pixels(world, item.box) for world in (item.world(COVER), whole))
    cover = [np.full(plain_pixels.shape[:2], cover_code(ground), dtype=np.uint8) for _ in days]
    edits: list[Edit] = []
    told: list[dict[str, Any]] = []
    for area, mask in zip(areas, masks, strict=True):
        start = int(random.integers(1, len(days)))
        end = int(random.integers(start + 1, len(days) + 1)) if random.random() < 0.4 else len(days)
        if not is_seen(plain_pixels, whole_pixels, mask):
            continue
        until = days[end] if end < len(days) else None
        edits.append(replace(area.edit, valid_from=days[start], valid_until=until))
        for step in range(start, end):
            cover[step][mask] = cover_code(area.after)
        event = Event(area.before, area.after, area.verb, mask)
        told.append(_told(event) | {"from": days[start], "until": until})
    autumn: Action = "autumn"
    for day in days:
        # Leaves turn, which changes the picture and no class. Water that was generated dull would turn, too.
        if day[5:7] == "11" and ground != "water":
            edits.append(Edit(around(item.box), action=autumn, valid_from=day, valid_until=f"{day[:4]}-12-31"))
    world = item.world(COVER, tuple(edits))
    views = {
        f"t{step}": View(maker.engine.pixels(then, item.box), then, item.box, day)
        for step, (day, then) in enumerate((day, world.at(day)) for day in days)
    }
    return Sample(
        _dated(item, views),
        {f"cover_t{step}": codes for step, codes in enumerate(cover)},
        about={"ground": ground, "dates": list(days), "changes": told},
    )


# --- The table ---


def _pieces(mask: Mask) -> list[Mask]:
    """Connected parts of a mask that are large enough to be things."""
    if not mask.any():
        return []
    numbers, count = label(mask)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    return [numbers == number for number in range(1, count + 1) if sizes[number] >= _LEAST_PIECE]


_CHANGE: dict[str, Legend] = {"change": (BandClass(0, "no change", (0, 0, 0)), BandClass(1, "change", (255, 255, 255)))}
_COVER_LEGEND: Legend = (
    BandClass(0, "unchanged or unknown", (255, 255, 255)),
    *(BandClass(cover_code(name), name, COVER[name].colour) for name in COVER_NAMES),
)
_COVERS: dict[str, Legend] = {"cover_before": _COVER_LEGEND, "cover_after": _COVER_LEGEND}
_EDITED = "Areas are edits of the world between two dates: polygon and class are what the engine was asked for"

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "classification",
            "Scene classification",
            "The class is that of the world's prompt; nobody looked at the picture.",
            _classification,
            {},
            classes=tuple(SCENES),
            roots=("prompt",),
        ),
        Task(
            "segmentation",
            "Land cover and buildings",
            "Roads, buildings and trees that the cascade drew are known by construction, a share that is named as"
            " `by_construction`; the rest of the masks is read off the pictures by the land-cover and building networks"
            " (earthgen.bands), whose errors it has.",
            _segmentation,
            {"landcover": LAND_COVER, "buildings": BUILDINGS},
            categories=tuple(part.name for part in LAND_COVER),
            bands=("landcover", "buildings"),
            gsds=(0.6, 2.4),
        ),
        Task(
            "change-detection",
            "Binary change",
            f"{_EDITED}, kept only where the pixels show them. Ground generated anew without a change of class is no"
            " change.",
            _change_detection,
            _CHANGE,
            categories=COVER_NAMES,
            paired=True,
        ),
        Task(
            "semantic-change",
            "Semantic change",
            f"{_EDITED}; the class before is that of the world's prompt.",
            _semantic_change,
            _CHANGE | _COVERS,
            categories=COVER_NAMES,
            roots=("prompt",),
            paired=True,
        ),
        Task(
            "change-caption",
            "Change captions",
            f"{_EDITED}; sentences are made from them, and say nothing that the edits do not say.",
            _change_caption,
            _CHANGE,
            categories=COVER_NAMES,
            paired=True,
        ),
        Task(
            "vqa",
            "Questions about change",
            f"{_EDITED}; questions and answers are made from them.",
            _vqa,
            _CHANGE,
            categories=COVER_NAMES,
            paired=True,
        ),
        Task(
            "change-dialogue",
            "Conversations about change",
            f"{_EDITED}; questions and answers are made from them, in an order in which later ones need earlier ones.",
            _change_dialogue,
            _CHANGE,
            categories=COVER_NAMES,
            paired=True,
        ),
        Task(
            "referring",
            "Referring segmentation",
            "Areas are edits of the world; a phrase names the class that was asked for and the part of the picture it"
            " is in, and is given only if it fits one area.",
            _referring,
            {"cover": _COVER_LEGEND},
            categories=COVER_NAMES,
            roots=("prompt",),
        ),
        Task(
            "super-resolution",
            "Super-resolution",
            "Both pictures are of one world's ground: pixels of either are means of the same finer pixels, rounded.",
            _super_resolution,
            {},
        ),
        Task(
            "multi-view",
            "Posed views",
            "Classes are those of the plan that the world was painted from; depth and class of a pixel are what its ray"
            " meets first. Heights are drawn by address.",
            _multi_view,
            {},
            roots=("prompt",),
            gsds=(0.6,),
            formats=("nerf", "webdataset"),
            needs=(("embreex",), "views"),
        ),
        Task(
            "time-series",
            "Time series",
            "Areas are edits with dates; the class of the rest is that of the world's prompt. Autumn changes no class.",
            _time_series,
            {},
            categories=COVER_NAMES,
            roots=("prompt",),
        ),
    )
}
"""Every task by name."""


def task_of(name: str) -> Task:
    """A task by name.

    Raises:
        DumpSpecError: there is none of that name.
    """
    if name not in TASKS:
        raise DumpSpecError(f"task is {name!r}; allowed: {', '.join(TASKS)}")
    return TASKS[name]


def legends(spec: DumpSpec) -> dict[str, Legend]:
    """The legends of a dump's masks by role."""
    if spec.task == "time-series":
        return {f"cover_t{step}": _COVER_LEGEND for step in range(spec.steps)}
    if spec.task == "multi-view":
        return {labels_role(name): LABELS for name in view_names(spec)}
    return task_of(spec.task).masks


def kind_of(role: str) -> str:
    """What masks are counted as: those of all posed views together, others each on its own."""
    return "labels" if role.startswith("labels_v") else role


def view_roles(spec: DumpSpec) -> tuple[str, ...]:
    """The roles of a dump's pictures, in order."""
    if spec.task == "time-series":
        return tuple(f"t{step}" for step in range(spec.steps))
    if spec.task == "multi-view":
        return view_names(spec)
    if spec.task == "super-resolution":
        return ("low", "high")
    return ("before", "after") if task_of(spec.task).paired else ("image",)

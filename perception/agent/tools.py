"""The tools of the agent: a closed list. Each takes typed, checked arguments and computes its answer from a scene.

Whoever plans, by rules or by a language model, can only name tools of this list with arguments that these classes
accept. No tool runs code, reads files or opens connections.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from perception.agent.ground import Place, cell_of, inside
from perception.agent.reconciling import disagreements
from perception.agent.scene import LEAST_PIXELS, Found, Region, Scene
from perception.agent.selection import Selection, Unit, format_area, format_percent, place_words
from perception.detection import mask_geotiff
from perception.errors import AgentError, PlannerError

MOST_LISTED = 5
"""Areas that a sentence tells of one by one."""
GEOJSON, GEOTIFF = "application/geo+json", "image/tiff"


class Arguments(BaseModel):
    """Arguments of a tool; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class OfSelection(Arguments):
    """Which areas."""

    selection: Selection = Selection()


class CountArguments(OfSelection):
    """Which areas, and whether the answer begins with yes or no."""

    whether: bool = Field(default=False, description="The question is whether there are any.")


class AreaArguments(OfSelection):
    """Which areas, and in what unit."""

    unit: Unit = "auto"


class SegmentArguments(Arguments):
    """Of which date, and where."""

    when: Literal["before", "after"] = "after"
    place: Place | None = None
    unit: Unit = "auto"


class CompareArguments(Arguments):
    """What is compared: both dates class by class, the detector with another, or the captions with the mask."""

    what: Literal["dates", "models", "captions"] = "dates"
    subject: str | None = Field(default=None, max_length=100, description="Of dates: only this class.")
    unit: Unit = "auto"


class PlaceArguments(OfSelection):
    """Which areas, and whether in degrees rather than in the grid of three by three."""

    coordinates: bool = False


class ExportArguments(OfSelection):
    """Which areas, as polygons or as pixels."""

    format: Literal["geojson", "mask"] = "geojson"


class NoArguments(Arguments):
    """None."""


@dataclass(frozen=True, slots=True, eq=False)
class File:
    """A file that a tool made, in memory."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a tool says.

    Attributes:
        said: sentences for people.
        value: the same for programs, JSON types.
        drawn: areas to be shown on a map.
        files: what it made.
        notes: what one should know with it.
    """

    said: str
    value: dict[str, Any]
    drawn: Found | None = None
    files: tuple[File, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of the list.

    Attributes:
        name: in calls.
        about: what it does, for people and language models.
        arguments: what it takes.
        run: from a scene and arguments to a result; raises AgentError for what it cannot do.
    """

    name: str
    about: str
    arguments: type[Arguments]
    run: Callable[[Scene, Any], Result]

    def schema(self) -> dict[str, Any]:
        """JSON schema of the arguments."""
        return self.arguments.model_json_schema()


@dataclass(frozen=True, slots=True)
class Call:
    """A tool with its arguments."""

    tool: str
    arguments: Arguments = field(default_factory=NoArguments)

    def as_json(self) -> dict[str, Any]:
        """As JSON, without what is as by default."""
        return {"tool": self.tool, "arguments": self.arguments.model_dump(mode="json", exclude_defaults=True)}


def checked_call(name: object, arguments: object) -> Call:
    """A call of the list from what somebody asked for.

    Args:
        name: of the tool.
        arguments: an object of JSON, or its text.

    Raises:
        PlannerError: no such tool, or arguments that it does not take.
    """
    tool = TOOLS.get(name) if isinstance(name, str) else None
    if tool is None:
        raise PlannerError(f"there is no tool {str(name)[:60]!r}; there are {', '.join(TOOLS)}")
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
        return Call(tool.name, tool.arguments.model_validate(value or {}))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "arguments"
        raise PlannerError(f"tool {tool.name} does not take these arguments: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise PlannerError(f"the arguments of tool {tool.name} are no JSON") from error


def run(call: Call, scene: Scene) -> Result:
    """Run a call.

    Raises:
        AgentError: the tool cannot do this with this scene.
    """
    return TOOLS[call.tool].run(scene, call.arguments)


# --- Areas ---


def _detect(scene: Scene, asked: OfSelection) -> Result:
    found = scene.find(asked.selection)
    said = f"{_counted(found)}.".capitalize()
    if found.regions:
        said = f"{_counted(found).capitalize()}, {_size(scene, found, 'auto')}."
        listed = [_told(scene, region) for region in found.regions[:MOST_LISTED]]
        more = len(found.regions) - len(listed)
        rest = f"; and {more} smaller" if more and asked.selection.rank != "smallest" else ""
        if len(found.regions) > 1 or asked.selection.rank:
            said += (
                f" The {'smallest' if asked.selection.rank == 'smallest' else 'largest'}: {'; '.join(listed)}{rest}."
            )
        else:
            said = f"{said[:-1]}: {listed[0]}."
    return Result(said, _summary(scene, found), found, notes=_speckle(found))


def _count(scene: Scene, asked: CountArguments) -> Result:
    found = scene.find(asked.selection)
    said = f"{_counted(found)}."
    if asked.whether:
        said = f"{'Yes' if found.regions else 'No'}: {said}"
    if found.regions:
        said = f"{said[:-1]}, {_size(scene, found, 'auto')}."
    notes = _speckle(found)
    if asked.selection.subject is not None and len(found.regions) > 0:
        notes += ("Areas that touch count as one.",)
    return Result(_begun(said), _summary(scene, found), found, notes=notes)


def _area(scene: Scene, asked: AreaArguments) -> Result:
    found = scene.find(asked.selection)
    if not found.regions:
        return Result(_begun(f"{_counted(found)}."), _summary(scene, found), found, notes=_speckle(found))
    size, value = _size(scene, found, asked.unit), _summary(scene, found)
    share = _share_of_class(scene, found) if asked.unit == "percent" else None
    if share is not None:
        value["share_of_class"] = round(share, 6)
        date = "earlier" if asked.selection.kind == "went" else "later"
        size += f", or {format_percent(share)} of the {asked.selection.subject} in the {date} picture,"
    return Result(f"{_begun(size)} in {_counted(found)}.", value, found, notes=_speckle(found))


def _share_of_class(scene: Scene, found: Found) -> float | None:
    """How much of a class went, of what there was, or came, of what there is; None if that is not what is asked."""
    selection, evidence = found.selection, scene.evidence()
    codes = evidence.before if selection.kind == "went" else evidence.after
    if codes is None or selection.subject is None or selection.kind == "any":
        return None
    there = codes == evidence.classes.index(selection.subject) + 1
    if selection.place is not None:
        there &= inside(selection.place, scene.shape)
    return found.pixels / max(1, int(there.sum()))


def _areas_by_class(scene: Scene, asked: AreaArguments) -> Result:
    selection = asked.selection
    found = scene.find(selection)
    evidence = scene.evidence()
    if not evidence.classes:
        raise AgentError(f"{evidence.model} finds that something changed, not what")
    if not found.regions:
        return Result(_begun(f"{_counted(found)}."), {"classes": []} | _summary(scene, found), found)
    rows = []
    if evidence.before is None or evidence.after is None:
        assert evidence.kinds is not None
        kinds = [(name, evidence.kinds == code) for code, name in enumerate(evidence.classes, start=1)]
        pairs = [({"class": name}, name, mask & found.mask) for name, mask in kinds]
    else:
        codes = evidence.before.astype(np.int32) * 256 + evidence.after
        pairs = []
        for code in np.unique(codes[found.mask]):
            # Codes are 0 only where there is no data, and there nothing changed.
            before, after = (evidence.classes[part - 1] for part in divmod(int(code), 256))
            words = f"{before} became {after}" if before != after else f"{before} changed and is {after} still"
            pairs.append(({"before": before, "after": after}, words, found.mask & (codes == code)))
    for key, words, mask in pairs:
        pixels = int(mask.sum())
        if pixels >= LEAST_PIXELS:
            rows.append((pixels, words, key | _measured(scene, mask)))
    rows.sort(key=lambda row: -row[0])
    parts = [f"{words}, {_measure(scene, row, asked.unit)}" for _, words, row in rows]
    shown = "; ".join(parts[:8]) + (f"; and {len(parts) - 8} more" if len(parts) > 8 else "")
    said = f"{_begun(_counted(found))}: {shown}." if rows else f"{_begun(_counted(found))}."
    return Result(said, {"classes": [row for *_, row in rows]} | _summary(scene, found), found, notes=_speckle(found))


def _segment(scene: Scene, asked: SegmentArguments) -> Result:
    table = _classes_of(scene, asked.when, asked.place)
    date = "earlier" if asked.when == "before" else "later"
    parts = [f"{row['class']} {_measure(scene, row, asked.unit)}" for row in table if row["pixels"]]
    where = "" if asked.place is None else f", {place_words(asked.place)}"
    value = {"when": asked.when, "place": asked.place, "classes": table}
    return Result(f"In the {date} picture{where}: {', '.join(parts)}.", value)


def _classes_of(scene: Scene, when: Literal["before", "after"], place: Place | None = None) -> list[dict[str, Any]]:
    """How much there is of each class on a date, the most first."""
    evidence = scene.evidence()
    codes = evidence.before if when == "before" else evidence.after
    if codes is None:
        raise AgentError(f"{evidence.model} looks for changes only; it does not say what is there on one date")
    if place is not None:
        codes = codes * inside(place, scene.shape)
    rows = [{"class": name} | _measured(scene, codes == code) for code, name in enumerate(evidence.classes, start=1)]
    return sorted(rows, key=lambda row: -row["pixels"])


# --- Comparing ---


def _compare(scene: Scene, asked: CompareArguments) -> Result:
    if asked.what == "models":
        return _compare_models(scene)
    if asked.what == "captions":
        return _caption(scene, NoArguments())
    if asked.subject is not None and scene.any_classes:
        scene.add_class(asked.subject)
    before = {row["class"]: row for row in _classes_of(scene, "before")}
    after = {row["class"]: row for row in _classes_of(scene, "after")}
    if asked.subject is not None and asked.subject not in before:
        raise AgentError(f"{scene.detector.name} does not look for {asked.subject!r}; it knows {', '.join(before)}")
    names = [asked.subject] if asked.subject is not None else list(before)
    rows = []
    for name in names:
        change = after[name]["pixels"] - before[name]["pixels"]
        row: dict[str, Any] = {"class": name, "before": before[name], "after": after[name], "pixels": change}
        if "area_m2" in before[name]:
            row["area_m2"] = round(after[name]["area_m2"] - before[name]["area_m2"], 2)
        rows.append(row)
    rows.sort(key=lambda row: -abs(row["pixels"]))
    parts = []
    for row in rows:
        first, second = (_measure(scene, row[when], asked.unit) for when in ("before", "after"))
        verb = "increased" if row["pixels"] > 0 else "decreased" if row["pixels"] < 0 else "stayed the same"
        parts.append(f"{row['class']} {verb} from {first} to {second}" if row["pixels"] else f"{row['class']} {verb}")
    note = "These are all pixels that look like a class on each date, so errors of the model count as change, too."
    return Result(f"{_begun('; '.join(parts))}.", {"classes": rows}, notes=(note,))


def _compare_models(scene: Scene) -> Result:
    own = scene.evidence()
    value: dict[str, Any] = {"models": [own.model], "pixels": [int(own.change.sum())]}
    if scene.second is None:
        said = "No other detector has weights here, so there is no second opinion."
    else:
        other = scene.second_opinion()
        both = int((own.change & other.change).sum())
        union = int((own.change | other.change).sum())
        value["models"].append(other.model)
        value["pixels"].append(int(other.change.sum()))
        value |= {"both": both, "iou": round(both / union, 4) if union else 1.0}
        said = f"{own.model} and {other.model} agree that nothing changed."
        if union:
            said = (
                f"{own.model} sees change in {format_percent(float(own.change.mean()))} of the picture, {other.model}"
                f" in {format_percent(float(other.change.mean()))}; of what either sees, both see"
                f" {format_percent(both / union)}."
            )
    certain = own.probability[own.change]
    if len(certain):
        mean = float(certain.mean()) / 255
        value["mean_probability"] = round(mean, 4)
        said += f" {own.model} gives what it marks a probability of {format_percent(mean)} on average."
    note = "Neither agreement nor a probability is the truth: a model may be sure and wrong."
    return Result(_begun(said), value, scene.find(Selection()), notes=(note,))


def _caption(scene: Scene, asked: NoArguments) -> Result:
    captions = scene.captions()
    found, evidence = scene.find(Selection()), scene.evidence()
    doubts = [sentence for caption in captions for sentence in disagreements(caption, found, evidence)]
    said = " ".join(f"{caption.model}: “{caption.text}”." for caption in captions)
    said += (
        f" Caption and mask disagree: {' '.join(doubts)}"
        if doubts
        else " Caption and mask do not contradict each other."
    )
    value = {
        "captions": [{"model": caption.model, "text": caption.text, "ended": caption.ended} for caption in captions],
        "disagreements": doubts,
    }
    return Result(said, value, found)


# --- Causes and places ---


def _cause(scene: Scene, asked: OfSelection) -> Result:
    found = scene.find(asked.selection)
    evidence = scene.evidence()
    if not found.regions:
        seen = _begun(f"{_counted(found)}.")
    elif evidence.before is not None:
        seen = _areas_by_class(scene, AreaArguments(selection=asked.selection)).said
    else:
        seen = _detect(scene, asked).said
    said = (
        f"Two pictures show what changed, not why. What can be seen: {seen[0].lower()}{seen[1:]} What cannot be known"
        " from them: who or what did it, on which day, and whether it was meant."
    )
    return Result(said, {"cause": None} | _summary(scene, found), found, notes=_speckle(found))


def _place(scene: Scene, asked: PlaceArguments) -> Result:
    found = scene.find(asked.selection)
    places = []
    for region in found.regions:
        position = scene.position(region)
        cell = cell_of(region.row, region.column, scene.shape)
        place: dict[str, Any] = {"cell": cell, "row": round(region.row, 1), "column": round(region.column, 1)}
        if position is not None:
            place |= {"longitude": round(position[0], 6), "latitude": round(position[1], 6)}
        places.append(place | {"pixels": region.pixels})
    said = _begun(f"{_counted(found)}.")
    if places:
        if asked.coordinates and scene.crs is None:
            raise AgentError("the pictures have no reference system, so places have no longitude and latitude")
        parts = [_located(place, asked.coordinates) for place in places[:MOST_LISTED]]
        if not asked.coordinates:
            cells = dict.fromkeys(place["cell"] for place in places)
            parts = [
                f"{sum(place['cell'] == cell for place in places)} {place_words(cell)}"
                if len(places) > 1
                else place_words(cell)
                for cell in cells
            ]
        elif len(places) > MOST_LISTED:
            parts.append(f"and {len(places) - MOST_LISTED} smaller ones")
        said = f"{_begun(_counted(found))}: {'; '.join(parts)}."
    value = {"places": places[:1000], "grid": sorted({place["cell"] for place in places})} | _summary(scene, found)
    return Result(said, value, found, notes=_speckle(found))


def _located(place: dict[str, Any], degrees: bool) -> str:
    if not degrees:
        return place_words(place["cell"])
    north, east = place["latitude"], place["longitude"]
    return f"{abs(north):.5f}° {'S' if north < 0 else 'N'} {abs(east):.5f}° {'W' if east < 0 else 'E'}"


# --- Files ---


def _export(scene: Scene, asked: ExportArguments) -> Result:
    found = scene.find(asked.selection)
    name = asked.selection.file_name
    if asked.format == "geojson":
        content = json.dumps(scene.geojson(found)).encode()
        file = File(f"{name}.geojson", GEOJSON, content)
        said = f"{file.name} holds {_counted(found)} as polygons."
    else:
        tags = {"EARTHGEN_MODEL": scene.detector.name, "EARTHGEN_SELECTION": asked.selection.words()}
        file = File(f"{name}.tif", GEOTIFF, mask_geotiff(found.mask, scene.transform, scene.crs, tags))
        said = f"{file.name} holds {_counted(found)} as a mask: 1 inside, 0 outside, {found.pixels:,} pixels are 1."
    value = _summary(scene, found) | {"file": file.name, "format": asked.format}
    return Result(said, value, found, (file,), _speckle(found))


# --- Words and numbers ---


def _counted(found: Found) -> str:
    count = len(found.regions)
    return f"{count if count else 'no'} {found.selection.words(count)}"


def _begun(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _size(scene: Scene, found: Found, unit: Unit) -> str:
    return _measure(scene, _measured(scene, found.mask), unit)


def _measured(scene: Scene, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
    """How large a mask is, as JSON."""
    measured: dict[str, Any] = {"pixels": int(mask.sum()), "share": round(float(mask.mean()), 6)}
    metres = scene.square_metres(mask)
    return measured if metres is None else measured | {"area_m2": round(metres, 2)}


def _measure(scene: Scene, measured: dict[str, Any], unit: Unit) -> str:
    """The same in words."""
    if unit == "percent":
        return f"{format_percent(measured['share'])} of the picture"
    if unit == "pixels":
        return f"{measured['pixels']:,} pixels"
    if "area_m2" in measured:
        return format_area(measured["area_m2"], unit)
    if unit != "auto":
        raise AgentError(
            f"the pictures have no reference system and nobody said how large a pixel is, so {measured['pixels']:,}"
            " pixels cannot be told in square metres; give metres per pixel, or ask in pixels or per cent"
        )
    return f"{measured['pixels']:,} pixels"


def _summary(scene: Scene, found: Found) -> dict[str, Any]:
    return {"count": len(found.regions)} | _measured(scene, found.mask)


def _told(scene: Scene, region: Region) -> str:
    """One area in words."""
    size = format_area(region.square_metres) if region.square_metres is not None else f"{region.pixels:,} pixels"
    classes = f", {region.before} to {region.after}" if region.before and region.after else ""
    return f"{size} {place_words(cell_of(region.row, region.column, scene.shape))}{classes}"


def _speckle(found: Found) -> tuple[str, ...]:
    if not found.speckle:
        return ()
    pixels = "1 pixel" if found.speckle == 1 else f"{found.speckle:,} pixels"
    return (f"{pixels} in areas of fewer than {LEAST_PIXELS} pixels left out.",)


# --- The list ---

TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            "detect", "Show areas: how many, how large, the largest one by one; they are drawn.", OfSelection, _detect
        ),
        Tool("segment", "How much there is of each class on one date.", SegmentArguments, _segment),
        Tool("caption", "A sentence about the pair, checked against the change mask.", NoArguments, _caption),
        Tool("count", "How many areas, or whether there are any.", CountArguments, _count),
        Tool("area", "How large areas are together.", AreaArguments, _area),
        Tool("areas_by_class", "What became what, and how much of it.", AreaArguments, _areas_by_class),
        Tool(
            "compare", "Both dates class by class; or two detectors; or captions and mask.", CompareArguments, _compare
        ),
        Tool("cause", "What can be seen of a change, and what cannot be known.", OfSelection, _cause),
        Tool("place", "Where areas lie: in a grid of three by three, or in degrees.", PlaceArguments, _place),
        Tool("export", "Areas as a file: GeoJSON polygons, or a GeoTIFF mask.", ExportArguments, _export),
    )
}

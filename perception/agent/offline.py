"""The planner that needs no network: rules for English, the same plan for the same question every time.

A question is cut into clauses. Of each, sizes, places, units and classes are read first; then the first rule that
fits says which tool is meant. What a clause leaves open is taken from the last call, so that "and the roads?" and
"export them" mean something. A clause that asks for an object that nobody knows is refused, never answered about
something else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from perception.agent.grammar import (
    ALL,
    AS_GEOJSON,
    AS_MASK,
    BECAME,
    BUILT,
    CAME_OF,
    CANNOT_KNOW,
    CHANGED,
    CONTINUES,
    CUTS,
    FOREIGN,
    IN_DEGREES,
    INSTEAD,
    INTENTS,
    INTO,
    NOT_ALLOWED,
    NOW,
    OF_PICTURE,
    OUT_OF,
    POINTS_BACK,
    QUOTED,
    RANK,
    SIZE,
    THEN,
    TOKEN,
    WHEN,
    Intent,
)
from perception.agent.ground import Place
from perception.agent.planning import MOST_CALLS, Abilities, Memory, Plan, Refusal
from perception.agent.selection import Selection, Unit
from perception.agent.tools import (
    AreaArguments,
    Arguments,
    Call,
    CompareArguments,
    CountArguments,
    ExportArguments,
    NoArguments,
    OfSelection,
    PlaceArguments,
    SegmentArguments,
)
from perception.agent.words import CAME, GENERIC, LITTLE, NUMBERS, UNITS, WENT, ClassWords, Mention, place_in

EXAMPLES = (
    "what changed here?", "count the new buildings", "how many hectares of forest were lost?",
    "show me the changed roads as a mask", "where is the largest change?", "export them as GeoJSON",
)  # fmt: skip


_LARGEST = 1e15


@dataclass(frozen=True, slots=True)
class _Clause:
    """What was read in a clause.

    Attributes:
        text: small letters, as it was.
        rest: without sizes, places and quotes.
        mentions: classes.
        place, unit, sizes, rank, first: what it says of them.
        leftover: words that say something nobody knows.
    """

    text: str
    rest: str
    mentions: tuple[Mention, ...]
    place: Place | None
    unit: Unit | None
    sizes: dict[str, Any]
    rank: Literal["largest", "smallest"] | None
    first: int
    leftover: tuple[str, ...]

    @property
    def has_features(self) -> bool:
        """Whether it says anything that a selection can hold."""
        return bool(self.mentions or self.place or self.sizes or self.rank)


class OfflinePlanner:
    """Rules; see the module."""

    def plan(self, question: str, abilities: Abilities, memory: Memory) -> Plan:
        """See `Planner.plan`; never fails."""
        text = question.lower().replace("’", "'")
        if FOREIGN.search(text):
            return Plan((Refusal(NOT_ALLOWED, "not allowed"),))
        steps: list[Call | Refusal] = []
        notes: list[str] = []
        for part in _clauses(text):
            clause = _read(part, abilities)
            found, ignored = _planned(clause, abilities, memory)
            steps += found
            notes += ignored
            calls = [step for step in found if isinstance(step, Call)]
            if calls:
                memory = Memory.of(calls[-1])
        if not steps:
            steps.append(_not_understood())
        if len(steps) > MOST_CALLS:
            notes.append(f"Only the first {MOST_CALLS} of {len(steps)} instructions were done.")
        return Plan(tuple(steps[:MOST_CALLS]), tuple(dict.fromkeys(notes)))


# --- Reading ---


def _clauses(text: str) -> list[str]:
    """The parts of a question; one that asks nothing belongs to the next."""
    parts = [part.strip(" ,.:-") for part in CUTS.split(text)]
    parts = [part for part in parts if any(letter.isalnum() for letter in part)]
    joined: list[str] = []
    for part in reversed(parts):
        if joined and not CONTINUES.search(part) and not any(pattern.search(part) for _, pattern in INTENTS):
            joined[-1] = f"{part}, {joined[-1]}"
        else:
            joined.append(part)
    return joined[::-1]


def _read(text: str, abilities: Abilities) -> _Clause:
    rest = text
    sizes: dict[str, Any] = {}
    for match in SIZE.finditer(text):
        bound = "least" if match["least"] else "most"
        number = _number(match["number"])
        unit, factor = next((unit, factor) for pattern, unit, factor in UNITS if pattern.fullmatch(match["unit"]))
        if unit == "pixels":
            sizes[f"{bound}_pixels"] = int(number)
        else:
            sizes[f"{bound}_m2"] = number * factor
    rest = SIZE.sub(" ", rest)
    rank: Literal["largest", "smallest"] | None = None
    first = 1
    if ranked := RANK.search(rest):
        rank = "smallest" if ranked["rank"] in ("smallest", "tiniest") else "largest"
        first = int(_number(ranked["a"] or ranked["b"] or ranked["c"] or "1")) or 1
        rest = rest[: ranked.start()] + " " + rest[ranked.end() :]
    words = ClassWords(abilities.classes)
    quoted: list[Mention] = []
    for match in QUOTED.finditer(rest):
        said = " ".join(match[1].split())
        if not any(letter.isalnum() for letter in said):
            continue
        known = next((mention for mention in words.mentions(said) if mention.end - mention.start == len(said)), None)
        name = known.name if known else said
        quoted.append(Mention(name, known is not None and known.known, match.start(), match.end()))
    blank = QUOTED.sub(lambda match: " " * len(match.group()), rest)
    place = place_in(blank)
    if place is not None:
        start, end = place[1]
        blank = blank[:start] + " " * (end - start) + blank[end:]
    unit_found: Unit | None = next(
        (unit for pattern, unit, _ in UNITS if re.search(rf"(?<![\w])(?:{pattern.pattern})", blank)), None
    )
    mentions = sorted([*quoted, *words.mentions(blank)], key=lambda mention: mention.start)
    left = blank
    for mention in mentions:
        left = left[: mention.start] + " " * (mention.end - mention.start) + left[mention.end :]
    for pattern, *_ in UNITS:
        left = re.sub(rf"(?<![\w])(?:{pattern.pattern})", " ", left)
    for pattern in (GENERIC, CAME, WENT, NOW, THEN, BECAME, INSTEAD):
        left = pattern.sub(" ", left)
    leftover = tuple(word for word in TOKEN.findall(left) if not _says_little(word))
    return _Clause(
        text, blank, tuple(mentions), place[0] if place else None, unit_found, sizes, rank, min(first, 1000), leftover
    )


def _says_little(word: str) -> bool:
    bare = word.removesuffix("'s").strip("'-")
    return len(bare) < 2 or bare in LITTLE or bare in NUMBERS or bare.rstrip("s") in LITTLE


def _number(text: str) -> float:
    if text.startswith("half"):
        return 0.5
    if text in ("a", "an"):
        return 1.0
    # No picture is as large, and more digits might be infinite.
    return float(NUMBERS[text]) if text in NUMBERS else min(float(text.replace(",", "")), _LARGEST)


# --- Planning ---


def _planned(clause: _Clause, abilities: Abilities, memory: Memory) -> tuple[list[Call | Refusal], list[str]]:
    """Calls for a clause, or why there are none; and notes."""
    text = clause.text
    intent = next((intent for intent, pattern in INTENTS if pattern.search(clause.rest)), None)
    if intent == "help":
        return [Refusal(_help(abilities), "help")], []
    if intent != "cause":
        for pattern, sentence in CANNOT_KNOW:
            if pattern.search(text):
                return [Refusal(sentence, "cannot know")], []
        if WHEN.search(text):
            return [Refusal(_when(abilities), "cannot know")], []
    points_back = bool(POINTS_BACK.search(text))
    generic = bool(GENERIC.search(clause.rest))
    if clause.leftover and not clause.mentions and not (points_back and not clause.leftover):
        # What is asked for is something that nobody here knows, or nothing that anybody understands.
        if intent is None and not clause.has_features:
            return [_not_understood()], []
        if intent not in ("cause", "trust"):
            return [_unknown(clause.leftover, abilities)], []
    if clause.leftover and intent == "whether":
        # "Is the new building a school?": yes or no would answer another question.
        return [_unknown(clause.leftover, abilities)], []
    if intent is None and clause.unit is not None:
        intent = "area"
    notes = [f"Not taken into account: {', '.join(clause.leftover)}."] if clause.leftover else []
    says = clause.has_features or generic or any(pattern.search(text) for pattern, *_ in BUILT)
    if intent in (None, "whether") and memory.call is None and not says:
        return [_not_understood()], []
    calls = _calls(intent, clause, abilities, memory, points_back=points_back, generic=generic)
    return list(calls), notes


def _calls(
    intent: Intent | None, clause: _Clause, abilities: Abilities, memory: Memory, *, points_back: bool, generic: bool
) -> Sequence[Call]:
    """The calls of a clause that asks for something known."""
    last = memory.call
    continues = bool(CONTINUES.search(clause.text)) and last is not None
    if intent is None or (continues and intent == "whether" and clause.mentions):
        # "and the roads?": the same again, of something else.
        intent = None
    selections = _selections(clause, memory, intent, continues=continues, points_back=points_back, generic=generic)
    if intent is None and last is not None:
        return [_again(last, selection, clause) for selection in selections]
    return [call for selection in selections for call in _call(intent or "show", clause, selection, abilities, memory)]


def _call(
    intent: Intent, clause: _Clause, selection: Selection, abilities: Abilities, memory: Memory
) -> Sequence[Call]:
    text = clause.text
    unit: Unit = clause.unit or ("percent" if OF_PICTURE.search(text) else "auto")
    if intent == "cause":
        return [Call("cause", OfSelection(selection=selection))]
    if intent == "trust":
        with_captions = "caption" in text or (abilities.captions and not abilities.second)
        return [Call("compare", CompareArguments(what="captions" if with_captions else "models"))]
    if intent == "export":
        mask = bool(AS_MASK.search(text)) and not AS_GEOJSON.search(text)
        return [Call("export", ExportArguments(selection=selection, format="mask" if mask else "geojson"))]
    if intent == "becoming":
        asks_ground = selection == Selection() and memory.call is None
        if asks_ground and re.search(r"\bwhat (?:was|were)\b", text) and not CHANGED.search(text):
            return [Call("segment", SegmentArguments(when="before", unit=unit))]
        if selection.subject is not None and selection.other is None:
            # "What did the forest become?" is about forest that went, "what was there before the roads?" about roads
            # that came, whatever else is said of dates.
            came = CAME_OF.search(text) or (OUT_OF.search(text) and not INTO.search(text))
            kind = "came" if came else "went" if INTO.search(text) else selection.kind
            selection = _valid(selection.model_dump() | {"when": "change", "kind": kind})
        return [Call("areas_by_class", AreaArguments(selection=selection, unit=unit))]
    if intent == "count":
        if clause.unit is not None and re.search(r"\bhow many\b", text):
            return [Call("area", AreaArguments(selection=selection, unit=clause.unit))]
        return [Call("count", CountArguments(selection=selection))]
    if intent == "whether":
        return [Call("count", CountArguments(selection=selection, whether=True))]
    if intent == "compare":
        return [Call("compare", CompareArguments(subject=selection.subject, unit=unit))]
    if intent == "area":
        return [Call("area", AreaArguments(selection=selection, unit=unit))]
    if intent == "place":
        return [Call("place", PlaceArguments(selection=selection, coordinates=bool(IN_DEGREES.search(text))))]
    seen = memory.selection if memory.tool != "segment" and not clause.mentions else None
    if intent == "segment" and seen is not None and seen.when == "change" and re.search(r"\bthere\b", text):
        # After talk of changed areas, "there" is where they are.
        return [Call("areas_by_class", AreaArguments(selection=seen, unit=unit))]
    if intent == "segment":
        past = re.search(r"\bwas\b|\bwere\b", text) or THEN.search(text)
        when: Literal["before", "after"] = "before" if past and not NOW.search(text) else "after"
        return [Call("segment", SegmentArguments(when=when, unit=unit, place=selection.place))]
    if intent == "show":
        calls = [Call("detect", OfSelection(selection=selection))]
        if AS_MASK.search(text):
            calls.append(Call("export", ExportArguments(selection=selection, format="mask")))
        return calls
    # To describe: what the mask says, and what captioners say.
    calls = []
    if not re.search(r"\bcaptions?\b", text) or not abilities.captions:
        tool = "areas_by_class" if abilities.classes else "detect"
        arguments: Arguments = (
            AreaArguments(selection=selection, unit=unit) if abilities.classes else OfSelection(selection=selection)
        )
        calls.append(Call(tool, arguments))
    if abilities.captions and selection == Selection():
        calls.append(Call("caption", NoArguments()))
    return calls


def _again(last: Call, selection: Selection, clause: _Clause) -> Call:
    """The last call with another selection."""
    arguments = last.arguments
    if isinstance(arguments, CompareArguments) and clause.mentions:
        return Call(last.tool, arguments.model_copy(update={"subject": selection.subject}))
    if isinstance(arguments, SegmentArguments):
        past = THEN.search(clause.text)
        now = NOW.search(clause.text)
        when = "before" if past else "after" if now else arguments.when
        return Call(last.tool, arguments.model_copy(update={"when": when, "place": selection.place}))
    if isinstance(arguments, ExportArguments) and AS_MASK.search(clause.text):
        return Call(last.tool, arguments.model_copy(update={"selection": selection, "format": "mask"}))
    if isinstance(arguments, OfSelection):
        update: dict[str, Any] = {"selection": selection}
        if isinstance(arguments, AreaArguments) and clause.unit is not None:
            update["unit"] = clause.unit
        return Call(last.tool, arguments.model_copy(update=update))
    return Call("detect", OfSelection(selection=selection))


# --- What is selected ---


def _selections(
    clause: _Clause,
    memory: Memory,
    intent: Intent | None,
    *,
    continues: bool,
    points_back: bool,
    generic: bool,
) -> list[Selection]:
    """What a clause is about: one selection for each class that it names."""
    base = memory.selection or Selection()
    kind = _kind(clause)
    own: dict[str, Any] = {"place": clause.place} if clause.place else {}
    own |= clause.sizes
    if clause.rank:
        own |= {"rank": clause.rank, "first": clause.first}
    became = _became(clause)
    if became is not None:
        came, went = became
        kept = base.model_dump(include={"place"}) if continues else {}
        return [Selection(**(kept | own | {"subject": came, "kind": "came", "other": went}))]
    if clause.mentions:
        names = list(dict.fromkeys(mention.name for mention in clause.mentions))
        events = {mention.name: mention.event for mention in clause.mentions if mention.event}
        found = []
        for name in names:
            fields: dict[str, Any] = {"subject": name, "kind": events.get(name) or kind}
            if continues or points_back:
                # "and the roads?" asks the same of roads.
                fields["kind"] = events.get(name) or (kind if kind != "any" else base.kind)
                kept = base.model_dump(exclude={"subject", "kind", "other"})
                if fields["kind"] != "any" or CHANGED.search(clause.text):
                    kept["when"] = "change"
                found.append(_valid(kept | own | fields))
                continue
            if fields["kind"] == "any" and not CHANGED.search(clause.text) and intent not in ("cause", "becoming"):
                # No word of change: what is there on a date, and now unless it says otherwise.
                past = THEN.search(clause.text) or re.search(r"\b(?:was|were)\b", clause.text)
                fields["when"] = "before" if past and not NOW.search(clause.text) else "after"
            found.append(_valid(own | fields))
        return found
    if intent in (None, "show", "describe", "count", "area", "place", "export", "whether", "cause", "becoming"):
        for pattern, group, verb_kind in BUILT:
            if pattern.search(clause.text) and not points_back and not continues:
                return [_valid(own | {"subject": group, "kind": verb_kind})]
    fresh = memory.call is None or (generic and not points_back and not continues)
    fresh = fresh or (bool(ALL.search(clause.text)) and not points_back and not continues)
    if fresh:
        return [Selection(**own)]
    inherited = base.model_dump() | own
    if kind != "any" and base.subject is not None and base.when == "change":
        inherited |= {"kind": kind, "other": None}
    return [_valid(inherited)]


def _valid(fields: dict[str, Any]) -> Selection:
    if fields.get("when", "change") != "change":
        fields = {**fields, "kind": "any", "other": None}
    return Selection(**fields)


def _kind(clause: _Clause) -> Literal["any", "came", "went"]:
    # "became" and "replaced" join two classes and say nothing of one.
    text = clause.rest
    came, went = bool(CAME.search(text)), bool(WENT.search(text))
    if came == went:
        return "any"
    return "came" if came else "went"


def _became(clause: _Clause) -> tuple[str, str] | None:
    """Of a clause such as "forest that became buildings": what came and what went."""
    plain = [mention for mention in clause.mentions if not mention.event]
    for first, second in pairwise(plain):
        if first.name == second.name:
            continue
        between = clause.rest[first.end : second.start]
        if BECAME.search(between):
            return second.name, first.name
        if INSTEAD.search(between):
            return first.name, second.name
    return None


# --- Sentences ---


def _unknown(words: Sequence[str], abilities: Abilities) -> Refusal:
    shown = " ".join(words)[:80]
    if abilities.classes:
        known = f"I can look for {', '.join(abilities.classes)}, or for whatever changed."
    else:
        known = "This detector finds that something changed, not what."
    quotes = ' To have something else looked for, put it in quotes, as in: count the new "solar panels".'
    return Refusal(
        f"I do not know what “{shown}” means here, so I do not answer. {known}"
        f"{quotes if abilities.any_classes else ''}",
        "unknown object",
    )


def _not_understood() -> Refusal:
    return Refusal(
        "I did not understand that. I answer questions about what changed between two pictures, such as:"
        f" {'; '.join(EXAMPLES)}.",
        "not understood",
    )


def _help(abilities: Abilities) -> str:
    classes = f" Classes: {', '.join(abilities.classes)}." if abilities.classes else ""
    return (
        "I look at two pictures of one place and can detect, segment, caption, count, measure, compare, place and"
        " export what"
        f" changed.{classes} Ask for instance: {'; '.join(EXAMPLES)}."
    )


def _when(abilities: Abilities) -> str:
    if abilities.before and abilities.after:
        return (
            f"Between {abilities.before} and {abilities.after}, the days of the two pictures. When exactly, or how"
            " fast, cannot be known from two pictures."
        )
    return "Between the two pictures. When exactly, or how fast, cannot be known from them."

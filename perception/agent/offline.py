"""The planner that needs no network: rules for English, the same plan for the same question every time.

A question is cut into clauses. Of each, sizes, places, units and classes are read first; then the first rule that
fits says which tool is meant. What a clause leaves open is taken from the last call, so that "and the roads?" and "export
them" mean something. A clause that asks for an object that nobody knows is refused, never answered about something else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
from perception.agent.words import CAME, GENERIC, LITTLE, NUMBERS, PRONOUN, UNITS, WENT, ClassWords, Mention, place_in

EXAMPLES = (
    "what changed here?", "count the new buildings", "how many hectares of forest were lost?",
    "show me the changed roads as a mask", "where is the largest change?", "export them as GeoJSON",
)  # fmt: skip

Intent = Literal[
    "help", "cause", "trust", "export", "becoming", "count", "compare", "area", "place", "segment", "whether", "show",
    "describe",
]  # fmt: skip

_FOREIGN = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass|overrule|drop)\b.{0,40}\b(?:tools?|instructions?|rules?|prompts?"
    r"|restrictions?|registry|limits?|above|previous|guidelines?)\b"
    r"|\b(?:system|developer) (?:prompt|message)\b|\byou are now\b|\bpretend\b|\bjailbreak\b|\broleplay\b"
    r"|\b(?:run|execute|eval|exec|invoke|launch)\b(?!\s+(?:the )?(?:detect|compar|segment|caption|count))"
    r"|\b(?:rm -rf|sudo|curl|wget|bash|powershell|cmd\.exe|os\.system|subprocess|__import__|import os|/etc/passwd"
    r"|drop table|api[ _-]?keys?|passwords?|secrets?|credentials?|environment variables?)\b"
    r"|\b(?:delete|overwrite|erase|format)\b.{0,30}\b(?:files?|disk|folder|drive|database|world|everything)\b"
    r"|<script|\$\(|`"
)
_NOT_ALLOWED = (
    "I have a closed list of tools that look at these two pictures, and do nothing else: I run no commands, take no other"
    " rules, and reach no files or keys. Nothing was done."
)

_CANNOT_KNOW: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), sentence)
    for pattern, sentence in (
        (
            r"\bwill\b|\bfutures?\b|\bpredict\w*|\bforecast\w*|\bnext (?:year|month|week|decade|time)\b|\btomorrow\b"
            r"|\bgoing to\b|\bexpect\w*",
            "Two pictures say nothing of the future, so that cannot be known. What changed between them can be asked for.",
        ),
        (
            r"\bwho\b|\bwhose\b|\bowners?\b|\bowns?\b|\bowned\b|\bresponsible\b|\blegal\w*|\billegal\w*|\bpermits?\b"
            r"|\bpermission\b|\bblame\b",
            "Pictures do not show who owns, did or allowed something, so that cannot be known.",
        ),
        (
            r"\bcosts?\b|\bprices?\b|\bworth\b|\bvalues?\b|\bmoney\b|\beuros?\b|\bdollars?\b|\bcheap\b|\bexpensive\b",
            "Pictures do not show what something costs, so that cannot be known.",
        ),
        (
            r"\bpeople\b|\bpopulation\b|\binhabitants?\b|\bpersons?\b|\bresidents\b|\bfamilies\b",
            "Pictures from above do not show how many people there are, so that cannot be known.",
        ),
        (
            r"\btall\w*|\bheights?\b|\bhow high\b|\bdeep\w*|\bdepths?\b|\bvolumes?\b|\bstor(?:e?y|eys|ies)\b"
            r"|\bfloors?\b|\belevations?\b",
            "Pictures straight from above show no heights or depths, so that cannot be known; areas can be asked for.",
        ),
        (
            r"\bimpacts?\b|\beffects? on\b|\bconsequences?\b|\bgood or bad\b|\brecommend\w*|\bshould (?:we|i|they)\b"
            r"|\bharmful\b|\bdangerous\b",
            "What a change means for others cannot be known from two pictures; what changed, and how much, can.",
        ),
        (
            r"\bcolou?rs?\b|\bmaterials?\b|\bspecies\b|\bmade of\b|\bbrands?\b|\bnames?\b(?! of the class)|\baddress(?:es)?\b",
            "Colours, materials, species and names are not among what the models look for, so that cannot be known here.",
        ),
    )
)
_WHEN = re.compile(
    r"^(?:and )?when\b|\b(?:on|at|in) (?:which|what) (?:day|date|month|year|time)\b|\bwhat (?:day|time)\b|\bhow (?:fast|quickly)\b"
    r"|\brate of\b|\bsince when\b|\bper (?:year|month|day)\b"
)

_INTENTS: tuple[tuple[Intent, re.Pattern[str]], ...] = tuple(
    (intent, re.compile(pattern))
    for intent, pattern in (
        (
            "help",
            r"^(?:help|what can (?:you|i)\b|what do you (?:know|understand)|how do(?:es)? (?:this|you|it) work|who are you"
            r"|what are you\b|what (?:are )?your tools|which tools)",
        ),
        ("cause", r"\bwhy\b|\bcaus\w+|\breasons?\b|\bhow come\b|\bexplain\w*|\bwhat led to\b|\bwhat made\b"),
        (
            "trust",
            r"\bagree\w*|\bdisagree\w*|\bhow (?:sure|certain|confident|reliable|accurate)\b|\bare you (?:sure|certain)\b"
            r"|\bsecond opinion\b|\bother (?:model|detector)\b|\b(?:models|detectors)\b|\btrust\b|\bconfidence\b"
            r"|\bcontradict\w*|\bcaption and (?:the )?mask\b|\bmask and (?:the )?caption\b",
        ),
        (
            "export",
            r"\bexport\w*|\bdownload\w*|\bsave\b|\bgeo-?json\b|\bwrite\b.*\b(?:files?|geo-?tiff?|tiff?|disk)\b"
            r"|\b(?:as|into|to) an? (?:file|geo-?tiff?|tiff?|json)\b|\bas (?:geo-?tiff?|tiff?|json)\b|\bgive me (?:a|the) files?\b",
        ),
        (
            "becoming",
            r"\bwhat (?:did|has|have|had|do|does)\b.*\b(?:becom\w+|became|turn\w* (?:in)?to|chang\w+ (?:in)?to|replaced?)\b"
            r"|\bwhat (?:became|happened|has become|has happened|happens|was done) (?:of|to|with)\b"
            r"|\bwhat (?:has |have )?replaced\b|\bwhat (?:was|were|is|are|got) (?:\w+ )*replaced\b"
            r"|\bwhat (?:was|were|stood|used to be)\b.*\b(?:before|there|where|instead)\b|\binto what\b|\bto what\b"
            r"|\b(?:per|by|each|every) (?:class|type|category|kind)\b|\bbreak ?down\b|\bstatistics\b|\bstats\b"
            r"|\b(?:which|what) (?:\w+ )?(?:class|classes|types?|kinds?|categor\w+)\b|\btransitions?\b|\bmatrix\b|\btable\b"
            r"|\bwhat became what\b|\bwhat turned into what\b",
        ),
        (
            "count",
            r"\bhow many\b|\bcount\w*|\bnumbers? of\b|\bquantity\b|\bhow often\b",
        ),
        (
            "compare",
            r"\bcompar\w+|\bincreas\w+|\bdecreas\w+|\bgrow\w*\b|\bgrew\b|\bshr(?:ink|ank|unk)\w*|\bnet\b|\bbalance\b"
            r"|\b(?:more|less|fewer)\b.*\bthan (?:before|earlier|then)\b|\bversus\b|\bvs\b|\bexpand\w*|\bdeclin\w+",
        ),
        (
            "area",
            r"\bhow (?:much|large|big|extensive|wide)\b|\bsizes?\b|\bextent\b|\bmeasure\w*|\btotal area\b|\bsurface area\b"
            r"|\bwhat (?:is the )?(?:total |whole )?area\b|\b(?:the )?area of\b|\bhow many (?:ha|m2|km2)\b",
        ),
        (
            "place",
            r"\bwhere\b|\b(?:which|what) (?:parts?|corners?|sides?|cells?|quadrants?|hal(?:f|ves)|thirds?)\b|\blocat\w+"
            r"|\bcoordinates?\b|\bcoords\b|\bpositions?\b|\blatitudes?\b|\blongitudes?\b",
        ),
        (
            "segment",
            r"\bland[ -]?(?:cover|use)\b|\bclassif\w+|\bsegment\w*|\bwhat (?:is|was|were|are) (?:there|here|on the ground)\b"
            r"|\bwhat (?:is|was) in the (?:first|second|earlier|later|before|after|old|new) (?:picture|image)\b"
            r"|\bwhat (?:does|do|did) the (?:first|second|earlier|later|before|after|old|new) (?:picture|image) show\b",
        ),
        (
            "describe",
            r"\bdescri\w+|\bcaptions?\b|\bsummar\w+|\boverview\b|\bin (?:a|one) sentence\b|\bwhat do you see\b"
            r"|\bwhat(?:'s| is| has| have|s| was)?(?: all| been| been| the)? ?(?:chang\w*|differ\w*|new|happen\w*|going on)\b"
            r"|\bwhat'?s? (?:been )?(?:chang|differ|happen)\w*|\btell me (?:about|what)\b|\breport\b",
        ),
        (
            "show",
            r"\bshow\b|\bdraw\b|\bhighlight\b|\bmark\b|\bdisplay\b|\boutline\b|\bvisuali[sz]e\b|\bsee\b|\bmasks?\b|\blist\b"
            r"|\bfind\b|\bdetect\w*|\bidentify\b|\bmap\b|\bwhich (?:areas?|places?|regions?|ones?)\b|\bwhat was built\b",
        ),
        (
            "whether",
            r"^(?:and )?(?:is|are|was|were|did|does|do|has|have|had|any)\b|\bany\b|\bwhether\b|\bcan you see\b",
        ),
    )
)
_AS_MASK = re.compile(r"\bmasks?\b|\bgeo-?tiff?\b|\btiff?\b|\braster\b|\bpng\b")
_AS_GEOJSON = re.compile(r"\bgeo-?json\b|\bpolygons?\b|\bvectors?\b|\bjson\b|\bshapes?\b")
_IN_DEGREES = re.compile(
    r"\bcoordinates?\b|\bcoords\b|\blatitudes?\b|\blongitudes?\b|\bdegrees\b|\bexact(?:ly)? where\b"
)
_OF_PICTURE = re.compile(r"\bof the (?:whole |entire )?(?:picture|image|scene|area|map|view|land|pair)\b")
_NOW = re.compile(
    r"\bnow\b|\btoday\b|\bcurrent(?:ly)?\b|\bat present\b|\b(?:later|second|after|newer) (?:picture|image|date|one)\b|\bafterwards?\b"
)
_THEN = re.compile(
    r"\bbefore\b|\boriginally\b|\bpreviously\b|\binitially\b|\bused to\b|\b(?:earlier|first|before|older) (?:picture|image|date|one)\b"
    r"|\bat first\b"
)
_CHANGED = re.compile(r"\bchang\w*|\bdiffer\w*|\btransform\w*|\bconvert\w*|\balter\w*|\breplac\w*")
_CONTINUES = re.compile(
    r"^(?:and|or|also|only|just|but|now|what about|how about|same for|the same for|as for|then|no|ok(?:ay)?|of those|of these)\b"
)
_POINTS_BACK = re.compile(r"\b(?:those|them|these|they|their|its?|which ones|the same|that one|this one)\b")
_ALL = re.compile(r"\b(?:all|every|everything|any)\b(?! of (?:those|them|these))")
_RANK = re.compile(
    r"\b(?:(?P<a>\d+|two|three|four|five|six|seven|eight|nine|ten) )?(?P<rank>largest|biggest|greatest|main|smallest|tiniest)"
    r"(?: (?P<b>\d+|two|three|four|five|six|seven|eight|nine|ten))?\b"
    r"|\btop (?P<c>\d+|two|three|four|five|six|seven|eight|nine|ten)\b|\bmost important\b"
)
_NUMBER = r"(?P<number>\d[\d,]*(?:\.\d+)?|\.\d+|half an?|an?|one|two|three|four|five|six|seven|eight|nine|ten)"
_SIZE = re.compile(
    r"(?:(?P<least>larger than|bigger than|greater than|more than|over|above|at least|exceeding|no less than|not less than"
    r"|minimum(?: of)?|min|>=|>|from)"
    r"|(?P<most>smaller than|less than|under|below|at most|no more than|not more than|up to|maximum(?: of)?|max|<=|<))"
    rf" ?{_NUMBER} ?(?P<unit>sq(?:uare)?\.? ?(?:km|kilomet(?:re|er)s?)|km ?(?:2|²|\^2)|hectares?|ha"
    r"|sq(?:uare)?\.? ?m(?:et(?:re|er)s?)?|m ?(?:2|²|\^2)|sqm|pixels?|px)(?![\w²])"
)
_BECAME = re.compile(
    r"\b(?:became|becomes?|becoming|turn(?:ed|s|ing)? (?:in)?to|chang(?:ed|es|ing)? (?:in)?to|convert(?:ed|s)? (?:in)?to"
    r"|replaced (?:by|with)|gave way to|made way for|(?:lost|cleared|cut|cut down|removed|felled|gone) (?:to|for)|into|to"
    r"|(?:is|are) now)\b|→|->"
)
_INSTEAD = re.compile(
    r"\b(?:replac(?:ed|ing|es|e)|in place of|instead of|where (?:there )?(?:was|were|used to be|had been)|on(?: former| what was)?"
    r"|over|at the expense of|from|out of)\b"
)
_BUILT: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"\b(?:built|constructed|erected)\b"), "building", "came"),
    (re.compile(r"\b(?:demolished|torn down|razed)\b"), "building", "went"),
    (re.compile(r"\b(?:felled|cut down|chopped)\b"), "tree", "went"),
    (re.compile(r"\bplanted\b"), "tree", "came"),
    (re.compile(r"\bpaved\b"), "road", "came"),
)
"""Verbs that say by themselves what came or went."""
_INTO = re.compile(
    r"\b(?:becom\w+|became)\b|\bwhat (?:has |have )?replaced\b|\breplaced (?:by|with) what\b|\bturn\w* into\b|\bchang\w+ (?:in)?to\b"
    r"|\bhappen\w*\b|\b(?:in)?to what\b|\binstead\b|\bwhere\b.*\b(?:was|were)\b.*\bnow\b"
)
"""What an object became is asked for."""
_OUT_OF = re.compile(r"\bbefore\b|\breplac\w+\b|\bwhere\b|\bearlier\b|\bpreviously\b")
"""What was there before an object came is asked for."""
_QUOTED = re.compile(r"(?<![\w])[\"“”'‘’]([^\"“”'‘’]{1,100})[\"“”'‘’](?![\w])")
_BEGINS = (
    r"(?:please )?(?:count|show|export|save|download|how|where|what|which|why|list|describe|compare|draw|mark|highlight|tell|give"
    r"|measure|find|is|are|did|was|were|summari[sz]e)\b"
)
_CUTS = re.compile(rf"[;?!]+|(?<=[a-z])\.(?=\s|$)|,?\s+(?:and )?then\b|,?\s+and (?={_BEGINS})|,\s+(?={_BEGINS})")
_TOKEN = re.compile(r"[^\W\d_][\w'-]*")


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
        if _FOREIGN.search(text):
            return Plan((Refusal(_NOT_ALLOWED, "not allowed"),))
        steps: list[Call | Refusal] = []
        notes: list[str] = []
        for part in _CUTS.split(text):
            part = part.strip(" ,.:-")
            if not part or not any(letter.isalnum() for letter in part):
                continue
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


def _read(text: str, abilities: Abilities) -> _Clause:
    rest, sizes = text, {}
    for match in _SIZE.finditer(text):
        bound = "least" if match["least"] else "most"
        number = _number(match["number"])
        unit, factor = next((unit, factor) for pattern, unit, factor in UNITS if pattern.fullmatch(match["unit"]))
        if unit == "pixels":
            sizes[f"{bound}_pixels"] = int(number)
        else:
            sizes[f"{bound}_m2"] = number * factor
    rest = _SIZE.sub(" ", rest)
    rank: Literal["largest", "smallest"] | None = None
    first = 1
    if match := _RANK.search(rest):
        rank = "smallest" if match["rank"] in ("smallest", "tiniest") else "largest"
        first = int(_number(match["a"] or match["b"] or match["c"] or "1")) or 1
        rest = rest[: match.start()] + " " + rest[match.end() :]
    words = ClassWords(abilities.classes)
    quoted: list[Mention] = []
    for match in _QUOTED.finditer(rest):
        own = words.mentions(match[1].strip())
        known = next((m for m in own if m.end - m.start == len(match[1].strip())), None)
        name = known.name if known else match[1].strip()
        quoted.append(Mention(name, known is not None and known.known, match.start(), match.end()))
    blank = _QUOTED.sub(lambda match: " " * len(match.group()), rest)
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
    for pattern in (GENERIC, CAME, WENT, _NOW, _THEN, _BECAME, _INSTEAD):
        left = pattern.sub(" ", left)
    leftover = tuple(word for word in _TOKEN.findall(left) if not _says_little(word))
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
    return float(NUMBERS[text]) if text in NUMBERS else float(text.replace(",", ""))


# --- Planning ---


def _planned(clause: _Clause, abilities: Abilities, memory: Memory) -> tuple[list[Call | Refusal], list[str]]:
    """Calls for a clause, or why there are none; and notes."""
    text = clause.text
    intent = next((intent for intent, pattern in _INTENTS if pattern.search(clause.rest)), None)
    if intent == "help":
        return [Refusal(_help(abilities), "help")], []
    if intent != "cause":
        for pattern, sentence in _CANNOT_KNOW:
            if pattern.search(text):
                return [Refusal(sentence, "cannot know")], []
        if _WHEN.search(text):
            return [Refusal(_when(abilities), "cannot know")], []
    points_back = bool(_POINTS_BACK.search(text))
    generic = bool(GENERIC.search(clause.rest))
    if clause.leftover and not clause.mentions and not (points_back and not clause.leftover):
        # What is asked for is something that nobody here knows, or nothing that anybody understands.
        if intent is None and not clause.has_features:
            return [_not_understood()], []
        if intent not in ("cause", "trust"):
            return [_unknown(clause.leftover, abilities)], []
    if intent is None and clause.unit is not None:
        intent = "area"
    notes = [f"Not taken into account: {', '.join(clause.leftover)}."] if clause.leftover else []
    if intent in (None, "whether") and memory.call is None and not clause.has_features and not generic:
        return [_not_understood()], []
    calls = _calls(intent, clause, abilities, memory, points_back=points_back, generic=generic)
    return list(calls), notes


def _calls(
    intent: Intent | None, clause: _Clause, abilities: Abilities, memory: Memory, *, points_back: bool, generic: bool
) -> Sequence[Call]:
    """The calls of a clause that asks for something known."""
    last = memory.call
    continues = bool(_CONTINUES.search(clause.text)) and last is not None
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
    unit: Unit = clause.unit or ("percent" if _OF_PICTURE.search(text) else "auto")
    if intent == "cause":
        return [Call("cause", OfSelection(selection=selection))]
    if intent == "trust":
        with_captions = "caption" in text or not abilities.second
        return [Call("compare", CompareArguments(what="captions" if with_captions else "models"))]
    if intent == "export":
        mask = bool(_AS_MASK.search(text)) and not _AS_GEOJSON.search(text)
        return [Call("export", ExportArguments(selection=selection, format="mask" if mask else "geojson"))]
    if intent == "becoming":
        asks_ground = selection.when == "change" and selection.subject is None and memory.call is None
        if asks_ground and re.search(r"\bwhat (?:was|were)\b", text) and not _CHANGED.search(text):
            return [Call("segment", SegmentArguments(when="before", unit=unit))]
        if selection.subject is not None and selection.other is None:
            # "What did the forest become?" is about forest that went, "what was there before the roads?" about roads
            # that came, whatever else is said of dates.
            kind = "went" if _INTO.search(text) else "came" if _OUT_OF.search(text) else selection.kind
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
        return [Call("place", PlaceArguments(selection=selection, coordinates=bool(_IN_DEGREES.search(text))))]
    if intent == "segment":
        past = re.search(r"\bwas\b|\bwere\b", text) or _THEN.search(text)
        when: Literal["before", "after"] = "before" if past and not _NOW.search(text) else "after"
        return [Call("segment", SegmentArguments(when=when, unit=unit, place=selection.place))]
    if intent == "show":
        calls = [Call("detect", OfSelection(selection=selection))]
        if _AS_MASK.search(text):
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
        past = _THEN.search(clause.text)
        now = _NOW.search(clause.text)
        when = "before" if past else "after" if now else arguments.when
        return Call(last.tool, arguments.model_copy(update={"when": when, "place": selection.place}))
    if isinstance(arguments, ExportArguments) and _AS_MASK.search(clause.text):
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
            fields = {"subject": name, "kind": events.get(name) or kind}
            if continues or points_back:
                # "and the roads?" asks the same of roads.
                fields["kind"] = events.get(name) or (kind if kind != "any" else base.kind)
                kept = base.model_dump(exclude={"subject", "kind", "other"})
                if fields["kind"] != "any" or _CHANGED.search(clause.text):
                    kept["when"] = "change"
                found.append(_valid(kept | own | fields))
                continue
            if fields["kind"] == "any" and not _CHANGED.search(clause.text) and intent not in ("cause", "becoming"):
                # No word of change: what is there on a date, and now unless it says otherwise.
                past = _THEN.search(clause.text) or re.search(r"\b(?:was|were)\b", clause.text)
                fields["when"] = "before" if past and not _NOW.search(clause.text) else "after"
            found.append(_valid(own | fields))
        return found
    if intent in (None, "show", "describe", "count", "area", "place", "export", "whether", "cause", "becoming"):
        for pattern, group, verb_kind in _BUILT:
            if pattern.search(clause.text) and not points_back and not continues:
                return [_valid(own | {"subject": group, "kind": verb_kind})]
    fresh = memory.call is None or (generic and not points_back and not continues)
    fresh = fresh or (bool(_ALL.search(clause.text)) and not points_back and not continues)
    if fresh:
        return [Selection(**own)]
    fields = base.model_dump() | own
    if kind != "any" and base.subject is not None and base.when == "change":
        fields |= {"kind": kind, "other": None}
    return [_valid(fields)]


def _valid(fields: dict[str, Any]) -> Selection:
    if fields.get("when", "change") != "change":
        fields = fields | {"kind": "any", "other": None}
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
    for first, second in zip(plain, plain[1:], strict=False):
        if first.name == second.name:
            continue
        between = clause.rest[first.end : second.start]
        if _BECAME.search(between):
            return second.name, first.name
        if _INSTEAD.search(between):
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
        f"I do not know what “{shown}” means here, so I do not answer. {known}{quotes if abilities.any_classes else ''}",
        "unknown object",
    )


def _not_understood() -> Refusal:
    return Refusal(
        f"I did not understand that. I answer questions about what changed between two pictures, such as: {'; '.join(EXAMPLES)}.",
        "not understood",
    )


def _help(abilities: Abilities) -> str:
    classes = f" Classes: {', '.join(abilities.classes)}." if abilities.classes else ""
    return (
        "I look at two pictures of one place and can detect, segment, caption, count, measure, compare, place and export what"
        f" changed.{classes} Ask for instance: {'; '.join(EXAMPLES)}."
    )


def _when(abilities: Abilities) -> str:
    if abilities.before and abilities.after:
        return (
            f"Between {abilities.before} and {abilities.after}, the days of the two pictures. When exactly, or how fast,"
            " cannot be known from two pictures."
        )
    return "Between the two pictures. When exactly, or how fast, cannot be known from them."

"""The patterns that the offline planner reads English by: what is refused, which tool is meant, sizes, ranks, dates.

Order matters where it is a tuple: the first that fits wins.
"""

from __future__ import annotations

import re
from typing import Literal

Intent = Literal[
    "help", "cause", "trust", "export", "becoming", "count", "compare", "area", "place", "segment", "whether", "show",
    "describe",
]  # fmt: skip

FOREIGN = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass|overrule|drop)\b.{0,40}\b(?:tools?|instructions?|rules?|prompts?"
    r"|restrictions?|registry|limits?|above|previous|guidelines?)\b"
    r"|\b(?:system|developer) (?:prompt|message)\b|\byou are now\b|\bpretend\b|\bjailbreak\b|\broleplay\b"
    r"|\b(?:run|execute|eval|exec|invoke|launch)\b(?!\s+(?:the )?(?:detect|compar|segment|caption|count))"
    r"|\b(?:rm -rf|sudo|curl|wget|bash|powershell|cmd\.exe|os\.system|subprocess|__import__|import os|/etc/passwd"
    r"|drop table|api[ _-]?keys?|passwords?|secrets?|credentials?|environment variables?)\b"
    r"|\b(?:delete|overwrite|erase|format)\b.{0,30}\b(?:files?|disk|folder|drive|database|world|everything)\b"
    r"|<script|\$\(|`"
)
NOT_ALLOWED = (
    "I have a closed list of tools that look at these two pictures, and do nothing else: I run no commands, take no"
    " other"
    " rules, and reach no files or keys. Nothing was done."
)

CANNOT_KNOW: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), sentence)
    for pattern, sentence in (
        (
            r"\bwill\b|\bfutures?\b|\bpredict\w*|\bforecast\w*|\bnext (?:year|month|week|decade|time)\b|\btomorrow\b"
            r"|\bgoing to\b|\bexpect\w*",
            "Two pictures say nothing of the future, so that cannot be known. What changed between them can be asked"
            " for.",
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
            r"\bhow old\b|\bages?\b|\bcolou?rs?\b|\bmaterials?\b|\bspecies\b|\bmade of\b|\bbrands?\b"
            r"|\bnames?\b(?! of the class)"
            r"|\baddress(?:es)?\b",
            "Colours, materials, species, ages and names are not among what the models look for, so that cannot be"
            " known"
            " here.",
        ),
    )
)
WHEN = re.compile(
    r"^(?:and )?when\b|\b(?:on|at|in) (?:which|what) (?:day|date|month|year|time)\b|\bwhat (?:day|time)\b"
    r"|\bhow (?:fast|quickly)\b"
    r"|\brate of\b|\bsince when\b|\bper (?:year|month|day)\b"
)

_INTENT_PATTERNS: tuple[tuple[Intent, str], ...] = (
    (
        "help",
        r"^(?:help|what can (?:you|i)\b|what do you (?:know|understand)|how do(?:es)? (?:this|you|it) work"
        r"|who are you"
        r"|what are you\b|what (?:are )?your tools|which tools)",
    ),
    ("cause", r"\bwhy\b|\bcaus\w+|\breasons?\b|\bhow come\b|\bexplain\w*|\bwhat led to\b|\bwhat made\b"),
    (
        "trust",
        r"\bagree\w*|\bdisagree\w*|\bhow (?:sure|certain|confident|reliable|accurate)\b|\bare you (?:sure"
        r"|certain)\b"
        r"|\bsecond opinion\b|\bother (?:model|detector)\b|\b(?:models|detectors)\b|\btrust\b|\bconfidence\b"
        r"|\bcontradict\w*|\bcaption and (?:the )?mask\b|\bmask and (?:the )?caption\b",
    ),
    (
        "export",
        r"\bexport\w*|\bdownload\w*|\bsave\b|\bgeo-?json\b|\bwrite\b.*\b(?:files?|geo-?tiff?|tiff?|disk)\b"
        r"|\b(?:as|into|to) an? (?:file|geo-?tiff?|tiff?|json)\b|\bas (?:geo-?tiff?|tiff?|json)\b|\bgive me (?:a"
        r"|the) files?\b",
    ),
    (
        "becoming",
        r"\bwhat (?:did|has|have|had|do|does)\b.*\b(?:becom\w+|became|turn\w* (?:in)?to|chang\w+ (?:in)?to"
        r"|replaced?)\b"
        r"|\bwhat (?:became|happened|has become|has happened|happens|was done) (?:of|to|with)\b"
        r"|\bwhat (?:has |have )?replaced\b|\bwhat (?:has |have )?(?:become|became|turned into|changed into|is now"
        r"|are now) |\bwhat (?:was|were|is|are|got) (?:\w+ )*replaced\b"
        r"|\bwhat (?:was|were|stood|used to be)\b.*\b(?:before|there|where|instead)\b|\binto what\b|\bto what\b"
        r"|\b(?:per|by|each|every) (?:class|type|category|kind)\b|\bbreak ?down\b|\bstatistics\b|\bstats\b"
        r"|\b(?:which|what) (?:\w+ )?(?:class|classes|types?|kinds?|categor\w+)\b|\btransitions?\b|\bmatrix\b"
        r"|\btable\b"
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
        r"\bhow (?:much|large|big|extensive|wide)\b|\bsizes?\b|\bextent\b|\bmeasure\w*|\b(?:total|whole) (?:area"
        r"|surface|size)\b|\bsurface of\b"
        r"|\bsurface area\b"
        r"|\bwhat (?:is the )?(?:total |whole )?area\b|\b(?:the )?area of\b|\bhow many (?:ha|m2|km2)\b",
    ),
    (
        "place",
        r"(?<!areas )(?<!area )(?<!places )(?<!regions )(?<!changes )\bwhere\b|\b(?:which|what) (?:parts?|corners?"
        r"|sides?|cells?|quadrants?|hal(?:f|ves)|thirds?)\b|\blocat\w+"
        r"|\bcoordinates?\b|\bcoords\b|\bpositions?\b|\blatitudes?\b|\blongitudes?\b",
    ),
    (
        "segment",
        r"\bland[ -]?(?:cover|use)\b|\bclassif\w+|\bsegment\w*|\bwhat (?:is|was|were|are) (?:there|here"
        r"|on the ground)\b"
        r"|\bwhat (?:is|was) in the (?:first|second|earlier|later|before|after|old|new) (?:picture|image)\b"
        r"|\bwhat (?:does|do|did) the (?:first|second|earlier|later|before|after|old|new) (?:picture|image) show\b",
    ),
    (
        "describe",
        r"\bdescri\w+|\bcaptions?\b|\bsummar\w+|\boverview\b|\bin (?:a|one) sentence\b|\bwhat do you see\b"
        r"|\bwhat(?:'s| is| has| have|s| was)?(?: all| been| been| the)? ?(?:chang\w*|differ\w*|new|happen\w*"
        r"|going on)\b"
        r"|\bwhat'?s? (?:been )?(?:chang|differ|happen)\w*|\btell me (?:about|what)\b|\breport\b",
    ),
    (
        "show",
        r"\bshow\b|\bdraw\b|\bhighlight\b|\bmark\b|\bdisplay\b|\boutline\b|\bvisuali[sz]e\b|\bsee\b|\bmasks?\b"
        r"|\blist\b"
        r"|\bfind\b|\bdetect\w*|\bidentify\b|\bmap\b|\bwhich (?:areas?|places?|regions?|ones?)\b"
        r"|\bwhat was built\b",
    ),
    (
        "whether",
        r"^(?:and )?(?:is|are|was|were|did|does|do|has|have|had|any|anything|something)\b|\bany\b|\bwhether\b"
        r"|\bcan you see\b",
    ),
)
INTENTS = tuple((intent, re.compile(pattern)) for intent, pattern in _INTENT_PATTERNS)
AS_MASK = re.compile(r"\bmasks?\b|\bgeo-?tiff?\b|\btiff?\b|\braster\b|\bpng\b")
AS_GEOJSON = re.compile(r"\bgeo-?json\b|\bpolygons?\b|\bvectors?\b|\bjson\b|\bshapes?\b")
IN_DEGREES = re.compile(
    r"\bcoordinates?\b|\bcoords\b|\blatitudes?\b|\blongitudes?\b|\bdegrees\b|\bexact(?:ly)? where\b"
)
OF_PICTURE = re.compile(r"\bof the (?:whole |entire )?(?:picture|image|scene|area|map|view|land|pair)\b")
NOW = re.compile(
    r"\bnow\b|\btoday\b|\bcurrent(?:ly)?\b|\bat present\b|\b(?:later|second|after|newer) (?:picture|image|date"
    r"|one)\b|\bafterwards?\b"
)
THEN = re.compile(
    r"\bbefore\b|\boriginally\b|\bpreviously\b|\binitially\b|\bused to\b|\b(?:earlier|first|before|older) (?:picture"
    r"|image|date|one)\b"
    r"|\bat first\b"
)
CHANGED = re.compile(r"\bchang\w*|\bdiffer\w*|\btransform\w*|\bconvert\w*|\balter\w*|\breplac\w*")
CONTINUES = re.compile(
    r"^(?:and|or|also|only|just|but|now|what about|how about|same for|the same for|as for|then|no|ok(?:ay)?|of those"
    r"|of these)\b"
)
POINTS_BACK = re.compile(r"\b(?:those|them|these|they|their|its?|which ones|the same|that one|this one)\b")
ALL = re.compile(r"\b(?:all|every|everything|any)\b(?! of (?:those|them|these))")
RANK = re.compile(
    r"\b(?:(?P<a>\d+|two|three|four|five|six|seven|eight|nine|ten) )?(?P<rank>largest|biggest|greatest|main|smallest"
    r"|tiniest)"
    r"(?: (?P<b>\d+|two|three|four|five|six|seven|eight|nine|ten))?\b"
    r"|\btop (?P<c>\d+|two|three|four|five|six|seven|eight|nine|ten)\b|\bmost important\b"
)
NUMBER = r"(?P<number>\d[\d,]*(?:\.\d+)?|\.\d+|half an?|an?|one|two|three|four|five|six|seven|eight|nine|ten)"
SIZE = re.compile(
    r"(?:(?P<least>larger than|bigger than|greater than|more than|over|above|at least|exceeding|no less than"
    r"|not less than"
    r"|minimum(?: of)?|min|>=|>|from)"
    r"|(?P<most>smaller than|less than|under|below|at most|no more than|not more than|up to|maximum(?: of)?|max|<=|<))"
    rf" ?{NUMBER} ?(?P<unit>sq(?:uare)?\.? ?(?:km|kilomet(?:re|er)s?)|km ?(?:2|²|\^2)|hectares?|ha"
    r"|sq(?:uare)?\.? ?m(?:et(?:re|er)s?)?|m ?(?:2|²|\^2)|sqm|pixels?|px)(?![\w²])"
)
BECAME = re.compile(
    r"\b(?:became|becomes?|becoming|turn(?:ed|s|ing)? (?:in)?to|chang(?:ed|es|ing)? (?:in)?to|convert(?:ed"
    r"|s)? (?:in)?to"
    r"|replaced (?:by|with)|gave way to|made way for|(?:lost|cleared|cut|cut down|removed|felled|gone) (?:to|for)"
    r"|into|to"
    r"|(?:is|are) now)\b|→|->"
)
INSTEAD = re.compile(
    r"\b(?:replac(?:ed|ing|es|e)|in place of|instead of|where (?:there )?(?:was|were|used to be|had been)"
    r"|on(?: former| what was)?"
    r"|over|at the expense of|from|out of)\b"
)
BUILT: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"\b(?:built|constructed|erected)\b"), "building", "came"),
    (re.compile(r"\b(?:demolished|torn down|razed)\b"), "building", "went"),
    (re.compile(r"\b(?:felled|cut down|chopped)\b"), "tree", "went"),
    (re.compile(r"\bplanted\b"), "tree", "came"),
    (re.compile(r"\bpaved\b"), "road", "came"),
)
"""Verbs that say by themselves what came or went."""
INTO = re.compile(
    r"\b(?:becom\w+|became)\b|\bwhat (?:has |have )?replaced\b|\breplaced (?:by|with) what\b|\bturn\w* into\b"
    r"|\bchang\w+ (?:in)?to\b"
    r"|\bhappen\w*\b|\b(?:in)?to what\b|\binstead\b|\bwhere\b.*\b(?:was|were)\b.*\bnow\b"
)
"""What an object became is asked for."""
OUT_OF = re.compile(r"\bbefore\b|\breplac\w+\b|\bwhere\b|\bearlier\b|\bpreviously\b")
"""What was there before an object came is asked for."""
CAME_OF = re.compile(
    r"\bwhat (?:has |have )?(?:become|became|turned into|changed into|is now|are now) (?!of\b|to\b|with\b)"
)
"""What became an object is asked for."""
QUOTED = re.compile(r"(?<![\w])[\"“”'‘’]([^\"“”'‘’]{1,100})[\"“”'‘’](?![\w])")
BEGINS = (
    r"(?:please )?(?:count|show|export|save|download|how|where|what|which|why|list|describe|compare|draw|mark"
    r"|highlight|tell|give"
    r"|measure|find|is|are|did|was|were|when|who|will|has|have|does|summari[sz]e)\b"
)
CUTS = re.compile(rf"[;?!]+|(?<=[a-z])\.(?=\s|$)|,?\s+(?:and )?then\b|,?\s+and (?={BEGINS})|,\s+(?={BEGINS})")
TOKEN = re.compile(r"[^\W\d_][\w'-]*")

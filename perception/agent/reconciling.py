"""Does a caption agree with a mask?

Two models look at one pair, and each may be wrong; the answer says where they part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from perception.agent.scene import Evidence, Found
from perception.agent.selection import format_percent
from perception.agent.words import CAME, WENT, ClassWords
from perception.captioner import Caption

NOTHING = re.compile(
    r"\b(?:no|not any|without) (?:\w+ ){0,2}(?:chang\w*|differen\w*|area has changed)\b|\bnothing\b|\bunchanged\b"
    r"|\b(?:same|identical)\b"
)
"""How captions of the field say that nothing changed."""
_SEEN = 0.01
"""Share of what changed from which on a class counts as seen in the mask."""
_MOST = 0.5
"""Share of what changed from which on a caption that names other classes should have named a class."""
_CLAUSE = re.compile(r"\band\b|[,;.]")


def disagreements(caption: Caption, found: Found, evidence: Evidence) -> tuple[str, ...]:
    """Sentences about where a caption and a mask contradict each other; none if they do not.

    Args:
        caption: what a captioner says.
        found: everything that changed, without speckle.
        evidence: of the detector.
    """
    silent = bool(NOTHING.search(caption.text.lower()))
    share = found.mask.mean()
    if silent and found.regions:
        count = len(found.regions)
        areas = "area" if count == 1 else "areas"
        return (f"{caption.model} says that nothing changed; the mask has {count} {areas}, {format_percent(share)}.",)
    if not silent and not found.regions:
        return (f"{caption.model} says that something changed; the mask of {evidence.model} is empty.",)
    if silent or not evidence.classes:
        return ()
    return tuple(_about_classes(caption, found, evidence))


def _about_classes(caption: Caption, found: Found, evidence: Evidence) -> Sequence[str]:
    said: list[str] = []
    shares = class_shares(found, evidence)
    text = caption.text.lower()
    words = ClassWords(evidence.classes)
    named = {mention.name for mention in words.mentions(text) if mention.known}
    for name in sorted(named):
        if max(shares[name].values()) < _SEEN:
            said.append(f"{caption.model} speaks of {name}; the mask shows no change of it.")
    for clause in _CLAUSE.split(text):
        mentions = [mention for mention in words.mentions(clause) if mention.known]
        came, went = bool(CAME.search(clause)), bool(WENT.search(clause))
        # Of two classes in one clause nobody can tell here which one came.
        if len(mentions) != 1 or came == went or evidence.kinds is not None:
            continue
        name = mentions[0].name
        claimed, opposite = ("came", "went") if came else ("went", "came")
        if shares[name][claimed] < _SEEN <= shares[name][opposite]:
            verbs = {"came": "appeared", "went": "was lost"}
            said.append(f"{caption.model} says that {name} {verbs[claimed]}; in the mask it only {verbs[opposite]}.")
    for name, share in shares.items():
        if named and name not in named and max(share.values()) >= _MOST:
            said.append(f"Most of the mask is {name}, which {caption.model} does not mention.")
    return said


def class_shares(found: Found, evidence: Evidence) -> dict[str, dict[str, float]]:
    """Of each class, the shares of the changed pixels in which it "came" and "went"."""
    total = max(1, int(found.mask.sum()))
    shares: dict[str, dict[str, float]] = {}
    for index, name in enumerate(evidence.classes, start=1):
        if evidence.before is None or evidence.after is None:
            assert evidence.kinds is not None
            share = float((evidence.kinds[found.mask] == index).sum()) / total
            shares[name] = {"came": share, "went": share}
            continue
        before, after = evidence.before[found.mask] == index, evidence.after[found.mask] == index
        shares[name] = {
            "came": float((after & ~before).sum()) / total,
            "went": float((before & ~after).sum()) / total,
        }
    return shares

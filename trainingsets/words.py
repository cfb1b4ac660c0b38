"""Captions, phrases and questions: simple sentences that are true because of what was changed.

Every sentence says what an edit did, where its visible part lies (a three by three grid) or how large it is. Nothing is
said that the edits do not say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainingsets.grounds import COVER
from trainingsets.sample import Mask, Question

SENTENCES = 5
"""Sentences a pair, as LEVIR-CC has."""

_ROWS, _COLUMNS = ("upper", "", "lower"), ("left", "", "right")
_NOTHING = (
    "nothing has changed .",
    "the two pictures show the same scene .",
    "there is no change between the two dates .",
    "the scene is the same as before .",
    "no area has changed .",
)


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """What happened to an area.

    Attributes:
        before: class of the ground; None if nobody knows.
        after: the class that is there now.
        verb: "replaced", "burned" or "flooded".
        mask: bool (h, w), where.
    """

    before: str | None
    after: str
    verb: str
    mask: Mask

    @property
    def place(self) -> str:
        """Where in the picture: "in the upper left"."""
        return f"in the {place_name(self.mask)}"


def place_name(mask: Mask) -> str:
    """The part of the picture, of three by three, that the middle of a mask lies in."""
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    down = _ROWS[min(2, int(3 * rows.mean() / height))]
    right = _COLUMNS[min(2, int(3 * columns.mean() / width))]
    if down and right:
        return f"{down} {right}"
    return {"upper": "upper part", "lower": "lower part"}.get(down, "") or (f"{right} part" if right else "centre")


def captions(events: Sequence[Event], random: np.random.Generator) -> tuple[str, ...]:
    """Five sentences about a pair, words apart by blanks as the field's vocabularies expect."""
    if not events:
        return tuple(_NOTHING[number] for number in random.permutation(len(_NOTHING)))
    sentences = []
    for number in range(SENTENCES):
        clauses = [_clause(event, (number + int(random.integers(2))) % 4) for event in events]
        order = random.permutation(len(clauses))
        sentences.append(" and ".join(clauses[at] for at in order) + " .")
    return tuple(sentences)


def phrase(event: Event) -> str:
    """What refers to an area by what is there and where: "the water in the upper left"."""
    return f"the {_now(event)} {event.place}"


def questions(events: Sequence[Event]) -> tuple[Question, ...]:
    """Questions about a pair, as CDVQA has them, that what happened answers."""
    changed = "yes" if events else "no"
    asked = [
        Question("change or not", "has anything changed?", changed),
        Question("count", "how many areas have changed?", str(len(events))),
    ]
    appeared = {_now(event) for event in events}
    # After a fire ground is bare, and a flood is water: whether these are new "bare ground" or "water" is unclear.
    unclear = {event.after for event in events if event.verb != "replaced"}
    for name, ground in COVER.items():
        if name not in unclear:
            answer = "yes" if ground.some in appeared else "no"
            asked.append(Question("increase or not", f"is there new {ground.some}?", answer))
    whole = np.mean(np.any([event.mask for event in events], axis=0)) if events else 0.0
    low = int(10 * float(whole)) * 10
    asked.append(
        Question("change ratio", "how much of the picture has changed?", f"{low} to {low + 10} %" if events else "0 %")
    )
    if len(events) == 1:
        (event,) = events
        asked.append(Question("change to what", f"what is now {event.place}?", _now(event)))
        asked.append(Question("where", "where is the change?", event.place))
        if event.before:
            asked.append(Question("change from what", f"what was {event.place} before?", _noun(event.before)))
    if len(events) > 1:
        areas = [int(event.mask.sum()) for event in events]
        order = np.argsort(areas)
        if areas[order[-1]] > 1.2 * areas[order[-2]]:
            largest = events[int(order[-1])]
            asked.append(Question("largest change", "what is now where the largest change is?", _now(largest)))
    return tuple(asked)


def dialogue(events: Sequence[Event]) -> tuple[Question, ...]:
    """A conversation about a pair that what happened answers: later questions mean nothing without the ones before.

    Kinds are "turn 1: change or not" and so on. Questions whose answer is unclear are left out, so conversations are of
    one to six turns.
    """
    turns = [("change or not", "has anything changed?", "yes" if events else "no")]
    if events:
        areas = [int(event.mask.sum()) for event in events]
        order = np.argsort(areas)
        largest = events[int(order[-1])]
        turns.append(("count", "how many areas?", str(len(events))))
        if len(events) == 1 or areas[order[-1]] > 1.2 * areas[order[-2]]:
            turns.append(("where", "where is the largest?", largest.place))
            turns.append(("change to what", "what is there now?", _now(largest)))
            if largest.before:
                turns.append(("change from what", "and what was there before?", _noun(largest.before)))
        low = int(10 * float(np.mean(np.any([event.mask for event in events], axis=0)))) * 10
        turns.append(("change ratio", "how much of the picture has changed in all?", f"{low} to {low + 10} %"))
    return tuple(
        Question(f"turn {number}: {kind}", question, answer)
        for number, (kind, question, answer) in enumerate(turns, start=1)
    )


def _clause(event: Event, kind: int) -> str:
    """One thing that happened, in one of four ways."""
    was = _noun(event.before) if event.before else ""
    is_or_are = "are" if COVER[event.after].plural and event.verb == "replaced" else "is"
    was_or_were = "were" if event.before and COVER[event.before].plural else "was"
    new = _now(event)
    if event.verb == "burned":
        ways = (
            f"a fire has burned an area {event.place}",
            f"the {was or 'area'} {event.place} has burned",
            f"burned ground {event.place} is new",
            f"an area {event.place} has burned down",
        )
    elif event.verb == "flooded":
        ways = (
            f"a flood has covered an area {event.place}",
            f"the {was or 'area'} {event.place} is flooded",
            f"water has flooded an area {event.place}",
            f"an area {event.place} is under water now",
        )
    elif was:
        ways = (
            f"{new} {'have' if is_or_are == 'are' else 'has'} replaced {was} {event.place}",
            f"{was} {event.place} {was_or_were} changed into {new}",
            f"there {is_or_are} {new} {event.place} where {was} {was_or_were} before",
            f"new {new} {'have' if is_or_are == 'are' else 'has'} appeared {event.place}",
        )
    else:
        ways = (
            f"there {is_or_are} new {new} {event.place}",
            f"{new} {'have' if is_or_are == 'are' else 'has'} appeared {event.place}",
            f"an area {event.place} was changed into {new}",
            f"there {is_or_are} {new} {event.place} now",
        )
    return ways[kind]


def _noun(name: str) -> str:
    return COVER[name].some


def _now(event: Event) -> str:
    return {"burned": "burned ground", "flooded": "flood water"}.get(event.verb, _noun(event.after))

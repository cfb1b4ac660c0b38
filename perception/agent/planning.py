"""From an instruction to calls of tools: what a planner is, what it is told, what it remembers, what it gives back."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from perception.agent.scene import Scene
from perception.agent.selection import Selection, Unit
from perception.agent.tools import Call, checked_call
from perception.errors import PlannerError, QuestionError

MAX_QUESTION_CHARACTERS = 500
MOST_CALLS = 6
"""Calls of one plan."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is not done, and why: a sentence for people and a word for programs.

    Attributes:
        said: the sentence.
        code: "cannot know", "unknown object", "not understood", "not allowed" or "cannot do".
    """

    said: str
    code: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, in order.

    Attributes:
        steps: calls, and refusals of parts of the instruction.
        notes: what one should know with the answer.
        planner: who made it.
    """

    steps: tuple[Call | Refusal, ...]
    notes: tuple[str, ...] = ()
    planner: str = "offline"


class Memory(BaseModel):
    """What is left of a conversation: the last call, which "those" and "and the roads?" are about.

    It goes out with every answer and comes back with the next question, so nothing is kept between the two. What comes
    back is checked as any other input.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: str | None = Field(default=None, max_length=40)
    arguments: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, call: Call) -> Memory:
        """Remember a call."""
        return cls(tool=call.tool, arguments=call.arguments.model_dump(mode="json", exclude_defaults=True))

    @property
    def call(self) -> Call | None:
        """The last call, or None at the beginning.

        Raises:
            QuestionError: somebody has made it up.
        """
        if self.tool is None:
            return None
        try:
            return checked_call(self.tool, self.arguments)
        except PlannerError as error:
            raise QuestionError(f"this memory is none of ours: {error}") from error

    @property
    def selection(self) -> Selection | None:
        """What it was about."""
        return getattr(self.call, "arguments", None) and getattr(self.call.arguments, "selection", None)  # type: ignore[union-attr]

    @property
    def unit(self) -> Unit:
        """In what unit sizes were asked for."""
        unit: Unit = getattr(getattr(self.call, "arguments", None), "unit", "auto")
        return unit


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a scene can be asked for.

    Attributes:
        classes: that its detector looks for.
        any_classes: whether it takes others.
        captions: whether anybody describes changes.
        second: whether there is a second detector.
        before, after: days of the pictures, if known.
    """

    classes: tuple[str, ...]
    any_classes: bool = False
    captions: bool = False
    second: bool = False
    before: date | None = None
    after: date | None = None

    @classmethod
    def of(cls, scene: Scene) -> Abilities:
        """Of a scene."""
        pair = scene.pair
        return cls(
            scene.classes,
            scene.any_classes,
            bool(scene.captioners),
            scene.second is not None,
            pair.before_date,
            pair.after_date,
        )


class Planner(Protocol):
    """Makes plans."""

    def plan(self, question: str, abilities: Abilities, memory: Memory) -> Plan:
        """What to do about an instruction that `read_question` has read.

        Raises:
            PlannerError: no plan can be had, though another planner might have one.
        """


def read_question(text: str) -> str:
    """An instruction as one line of printable characters.

    Raises:
        QuestionError: it is empty or too long.
    """
    # Counted before anything is done with it: enormous inputs cost nothing.
    if len(text) > 20 * MAX_QUESTION_CHARACTERS:
        raise QuestionError(f"the question has {len(text)} characters; at most {MAX_QUESTION_CHARACTERS} are allowed")
    composed = unicodedata.normalize("NFKC", text)
    plain = "".join(" " if unicodedata.category(letter)[0] == "C" else letter for letter in composed)
    line = " ".join(plain.split())
    if len(line) > MAX_QUESTION_CHARACTERS:
        raise QuestionError(f"the question has {len(line)} characters; at most {MAX_QUESTION_CHARACTERS} are allowed")
    if not line:
        raise QuestionError("the question is empty; ask for instance: what changed here?")
    return line

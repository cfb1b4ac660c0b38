"""The agent: a scene, a planner, and the conversation between them and a person, one question at a time."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from perception.agent.offline import OfflinePlanner
from perception.agent.planning import Abilities, Memory, Plan, Planner, Refusal, read_question
from perception.agent.scene import Scene
from perception.agent.tools import Call, File, run
from perception.errors import AgentError, PlannerError

MOST_DRAWN = 500
"""Areas that an answer has as polygons; the smaller ones are left out and counted."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What was done for a part of a question.

    Attributes:
        call: of a tool; None if the part was refused.
        said: its sentences.
        value: its answer for programs; empty if it was refused.
        refused: why not, in a word; "" if it was done.
    """

    call: Call | None
    said: str
    value: dict[str, Any] = field(default_factory=dict)
    refused: str = ""

    def as_json(self) -> dict[str, Any]:
        """As JSON."""
        asked = {"tool": None, "arguments": {}} if self.call is None else self.call.as_json()
        return asked | {"said": self.said, "value": self.value, "refused": self.refused}


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The answer to a question.

    Attributes:
        question: as it was read.
        text: for people.
        steps: what was done.
        notes: what one should know with it.
        areas: GeoJSON of what the answer is about, or None: there is nothing to draw, or no reference system.
        files: what was exported.
        memory: goes with the next question.
        planner: who made the plan.
        model: the detector.
    """

    question: str
    text: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...]
    areas: dict[str, Any] | None
    files: tuple[File, ...]
    memory: Memory
    planner: str
    model: str

    @property
    def refused(self) -> bool:
        """Whether a part of the question was not answered."""
        return any(step.refused for step in self.steps)

    def as_json(self, *, with_files: bool = True) -> dict[str, Any]:
        """As JSON.

        Args:
            with_files: whether files come along, in base64, or by name and size only.
        """
        files = []
        for file in self.files:
            described: dict[str, Any] = {"name": file.name, "media_type": file.media_type, "bytes": len(file.content)}
            if with_files:
                described["base64"] = base64.b64encode(file.content).decode()
            files.append(described)
        return {
            "question": self.question,
            "text": self.text,
            "refused": self.refused,
            "steps": [step.as_json() for step in self.steps],
            "notes": list(self.notes),
            "areas": self.areas,
            "files": files,
            "memory": self.memory.model_dump(mode="json"),
            "planner": self.planner,
            "model": self.model,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """What happens while a question is answered.

    Attributes:
        kind: "plan" once, "step" as each step begins, "done" as it ends, "answer" last.
        data: JSON; of "answer" empty.
        answer: of "answer".
    """

    kind: Literal["plan", "step", "done", "answer"]
    data: dict[str, Any]
    answer: Answer | None = None


class Agent:
    """Answers questions about a scene.

    Args:
        scene: what they are about.
        planner: turns them into calls of tools; None for the rules that need no network. If it fails, the rules take
            its place and the answer says so.
    """

    def __init__(self, scene: Scene, planner: Planner | None = None) -> None:
        self.scene = scene
        self._rules = OfflinePlanner()
        self._planner: Planner = planner or self._rules

    def ask(self, question: str, memory: Memory | None = None) -> Answer:
        """Answer a question.

        Args:
            question: an instruction in plain words.
            memory: of the answer before; None begins a conversation.

        Raises:
            QuestionError: the question is empty or too long, or the memory is made up.
        """
        for event in self.steps(question, memory):
            if event.answer is not None:
                return event.answer
        raise AssertionError("the last event is the answer")

    def steps(self, question: str, memory: Memory | None = None) -> Iterator[Event]:
        """The same, telling what happens on the way; the last event is the answer.

        Raises:
            QuestionError: see `ask`; before the first event.
        """
        line, known = read_question(question), memory or Memory()
        # Checked before anything is done with it.
        _ = known.call
        return self._steps(line, known)

    def _steps(self, question: str, memory: Memory) -> Iterator[Event]:
        plan = self._plan(question, memory)
        calls = [step.as_json() if isinstance(step, Call) else {"refused": step.code} for step in plan.steps]
        yield Event("plan", {"planner": plan.planner, "steps": calls})
        steps: list[Step] = []
        notes = list(plan.notes)
        files: list[File] = []
        drawn = None
        for planned in plan.steps:
            if isinstance(planned, Refusal):
                steps.append(Step(None, planned.said, refused=planned.code))
                continue
            yield Event("step", planned.as_json())
            try:
                result = run(planned, self.scene)
            except AgentError as error:
                said = str(error)
                steps.append(Step(planned, f"{said[:1].upper()}{said[1:]}.", refused="cannot do"))
            else:
                steps.append(Step(planned, result.said, result.value))
                notes += result.notes
                files += _renamed(result.files, files)
                drawn = result.drawn or drawn
                memory = Memory.of(planned)
            yield Event("done", steps[-1].as_json())
        areas = None
        if drawn is not None and self.scene.crs is not None:
            areas = self.scene.geojson(drawn, MOST_DRAWN)
        answer = Answer(
            question,
            " ".join(dict.fromkeys(step.said for step in steps)),
            tuple(steps),
            tuple(dict.fromkeys(notes)),
            areas,
            tuple(files),
            memory,
            plan.planner,
            self.scene.detector.name,
        )
        yield Event("answer", {}, answer)

    def _plan(self, question: str, memory: Memory) -> Plan:
        abilities = Abilities.of(self.scene)
        try:
            return self._planner.plan(question, abilities, memory)
        except PlannerError as error:
            plan = self._rules.plan(question, abilities, memory)
            note = f"The language model was of no use ({error}); the rules that need none made the plan."
            return Plan(plan.steps, (*plan.notes, note), plan.planner)


def _renamed(new: tuple[File, ...], old: list[File]) -> list[File]:
    """Files under names that no other file of the answer has."""
    taken = {file.name for file in old}
    renamed = []
    for file in new:
        name, number = file.name, 2
        stem, _, ending = file.name.rpartition(".")
        while name in taken:
            name, number = f"{stem}-{number}.{ending}", number + 1
        taken.add(name)
        renamed.append(File(name, file.media_type, file.content))
    return renamed

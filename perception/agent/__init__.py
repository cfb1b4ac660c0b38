"""The Change-Agent: questions in plain words about what changed between two pictures, answered by tools.

    from perception.agent import Agent, Scene

    scene = Scene(perception.read_pair("before.tif", "after.tif"), perception.load("semantic-cd"))
    answer = Agent(scene).ask("how many hectares of forest were lost?")
    print(answer.text)
    print(Agent(scene).ask("and the roads?", answer.memory).text)

After Liu et al., "Change-Agent", IEEE TGRS 62 (2024), arXiv 2403.19646, with two differences: its language model writes
Python that is executed, ours names tools of a closed list with checked arguments, and none is needed; and every number
of an answer is computed from what detectors found, never by a language model.

Names are loaded on first use, so that the command line costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perception.agent.answering import Agent, Answer, Event, Step
    from perception.agent.opening import open_scene
    from perception.agent.planning import Memory, Plan, Planner
    from perception.agent.scene import Scene
    from perception.agent.selection import Selection
    from perception.agent.tools import TOOLS, Call

__all__ = [
    "TOOLS",
    "Agent",
    "Answer",
    "Call",
    "Event",
    "Memory",
    "Plan",
    "Planner",
    "Scene",
    "Selection",
    "Step",
    "open_scene",
]

_HOMES = {
    "TOOLS": "tools",
    "Agent": "answering",
    "Answer": "answering",
    "Call": "tools",
    "Event": "answering",
    "Memory": "planning",
    "Plan": "planning",
    "Planner": "planning",
    "Scene": "scene",
    "Selection": "selection",
    "Step": "answering",
    "open_scene": "opening",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'perception.agent' has no attribute {name!r}")
    value = getattr(import_module(f"perception.agent.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

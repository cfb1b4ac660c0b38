"""Which items of a dump are kept: conditions on scores, written as `anomaly<0.9 and clipped<=0.01`.

The text is read, never run: names of a closed list, an operator, a number, joined by `and`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trainingsets.errors import DumpSpecError

SCORES: dict[str, str] = {
    "anomaly": "distance to real imagery of the picture's GSD; 1 is what 95 % of held-out real crops stay below",
    "mahalanobis": "distance to the mean of real imagery of the picture's GSD, as a share of the same",
    "slope": "of the power spectrum, standard deviations from real imagery, without its sign",
    "clipped": "part of the values that are 0 or 255",
    "saturation": "mean saturation of the colours, 0 to 1",
    "class_p": "rank of the world's prompt among others, seen by the image tower; small is good",
    "change_f1": "of a change detector (cdmamba) against the change mask; 1 where it rightly finds nothing",
}
"""Scores by name. Of several pictures the worst counts: the highest, of change_f1 there is one."""
MAX_CONDITIONS = 16
MAX_CHARACTERS = 1000
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(
    r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Condition:
    """A score, how it is compared, and with what."""

    name: str
    operator: str
    number: float

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{self.number!r}".removesuffix(".0")

    def holds(self, scores: Mapping[str, float | None]) -> bool:
        """Whether it holds; a score that is none fulfils nothing."""
        value = scores[self.name]
        return value is not None and _OPERATORS[self.operator](value, self.number)


def parse(text: str) -> tuple[Condition, ...]:
    """Read conditions; "" has none.

    Raises:
        DumpSpecError: the text is something else, or names a score that there is not.
    """
    if not text.strip():
        return ()
    # Checked first: a long run of digits would keep the pattern busy for ever.
    if len(text) > MAX_CHARACTERS:
        raise DumpSpecError(f"keep-if has {len(text)} characters; at most {MAX_CHARACTERS} are allowed")
    parts = re.split(r"\band\b", text)
    if len(parts) > MAX_CONDITIONS:
        raise DumpSpecError(f"keep-if has {len(parts)} conditions; at most {MAX_CONDITIONS} are allowed")
    return tuple(_condition(part) for part in parts)


def spelled(conditions: tuple[Condition, ...]) -> str:
    """The one spelling of conditions."""
    return " and ".join(map(str, conditions))


def _condition(text: str) -> Condition:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise DumpSpecError(
            f"keep-if has the part {text.strip()[:80]!r}; NAME < NUMBER, with <, <=, > or >= and parts joined by 'and',"
            f" is allowed; names: {', '.join(SCORES)}"
        )
    name, sign, number = found.groups()
    if name not in SCORES:
        raise DumpSpecError(f"keep-if names the score {name!r}; allowed: {', '.join(SCORES)}")
    value = float(number)
    if not math.isfinite(value):
        raise DumpSpecError(f"keep-if compares {name} with {number}; a finite number is allowed")
    return Condition(name, sign, value)

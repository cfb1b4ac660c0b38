"""What validators find: checks with verdicts, numbers and pictures, and the report that they make up."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from earthgen.cli_options import write_whole

Pixels = npt.NDArray[np.uint8]
Verdict = Literal["pass", "warn", "fail", "not applicable"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Value = float | int | str | None


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A picture: uint8 (h, w, 3), and what one sees."""

    pixels: Pixels
    caption: str


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """One question and its answer.

    Attributes:
        name: in commands and JSON.
        title: for people.
        asks: what is asked, a sentence.
        verdict: the answer.
        found: what was seen, a sentence; of "not applicable" the reason.
        passes: from where to where it passes, warns and fails, a sentence.
        origin: where these thresholds come from, a sentence.
        rows: numbers, one row for each place, date or edit that was looked at; equal keys in all of them.
        figures: pictures.
    """

    name: str
    title: str
    asks: str
    verdict: Verdict
    found: str
    passes: str
    origin: str
    rows: tuple[dict[str, Value], ...] = ()
    figures: tuple[Figure, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All but the pictures, as JSON types; numbers that are none become null."""
        return {
            **{item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "figures"},
            "rows": [{name: _plain(value) for name, value in row.items()} for row in self.rows],
        }


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """All checks of a region.

    Attributes:
        world: its value as JSON types.
        about: what was looked at and by what: world id, bounds, zooms, dates, ids of weights; plain values by name.
        checks: in order.
        figures: the region itself.
    """

    world: dict[str, Any]
    about: dict[str, Value]
    checks: tuple[Check, ...]
    figures: tuple[Figure, ...] = field(default=())

    @property
    def verdict(self) -> Verdict:
        """The worst of the checks."""
        return worst(check.verdict for check in self.checks)

    @property
    def passed(self) -> bool:
        """Whether no check fails; warnings are no failures."""
        return all(check.verdict != "fail" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """All but the pictures, as JSON types."""
        return {
            "verdict": self.verdict,
            "about": {name: _plain(value) for name, value in self.about.items()},
            "world": self.world,
            "checks": [check.to_dict() for check in self.checks],
        }

    def write_json(self, path: str | Path) -> None:
        """Write `to_dict` whole or not at all."""
        content = json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        write_whole(Path(path), lambda file: file.write(content.encode()))

    def write_html(self, path: str | Path) -> None:
        """Write one HTML file with everything in it, whole or not at all."""
        from perception.validation.html import render

        content = render(self)
        write_whole(Path(path), lambda file: file.write(content.encode()))


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Fail before warn before pass; "not applicable" only if nothing else is there."""
    found = set(verdicts)
    for verdict in ("fail", "warn", "pass"):
        if verdict in found:
            return verdict
    return "not applicable"


def at_most(value: float, passes: float, fails: float) -> Verdict:
    """Pass up to `passes`, fail above `fails`, warn between; what is no number fails."""
    if value <= passes:
        return "pass"
    return "warn" if value <= fails else "fail"


def at_least(value: float, passes: float, fails: float) -> Verdict:
    """Pass from `passes` on, fail below `fails`, warn between; what is no number fails."""
    if value >= passes:
        return "pass"
    return "warn" if value >= fails else "fail"


def _plain(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value

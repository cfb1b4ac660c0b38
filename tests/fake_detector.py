"""A change detector without a network: what differs has changed, and into what its colour says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import perception.registry
from perception.checkpoint import FILE
from perception.detection import Detection
from perception.pair import Pair

CLASSES = ("dark", "bright")


@dataclass
class DifferenceDetector:
    """Counts what it is asked for; `gate`, while cleared, holds it back between two tiles."""

    name: str
    classes: tuple[str, ...] = ()
    gate: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[Pair, Sequence[str] | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def detect(
        self,
        pair: Pair,
        *,
        classes: Sequence[str] | None = None,
        tile: int = 256,
        overlap: int = 64,
        progress: Callable[[int, int], None] | None = None,
    ) -> Detection:
        self.asked.append((pair, classes))
        while not self.gate.wait(0.01):
            if progress is not None:
                progress(1, 2)
        mask = (pair.before != pair.after).any(axis=-1)
        logits = np.stack([np.zeros(mask.shape), np.where(mask, 3.0, -3.0)]).astype(np.float32)
        names = tuple(classes or self.classes)
        semantics = None
        if names:
            bright = np.stack([image.mean(axis=-1) > 100 for image in (pair.before, pair.after)])
            others = np.full((2, len(names) - 2, *mask.shape), -1.0)
            semantics = np.concatenate([np.stack([~bright, bright], axis=1), others], axis=1).astype(np.float32)
        return Detection(mask, logits, names, pair.transform, pair.crs, semantics, self.name)


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, DifferenceDetector]:
    """Let the registry load stand-ins, and make a folder in which their weights seem to be; no others ship."""
    detectors = {"cdmamba": DifferenceDetector("cdmamba"), "semantic-cd": DifferenceDetector("semantic-cd", CLASSES)}
    for name in detectors:
        (folder / name).mkdir(parents=True)
        (folder / name / FILE).write_bytes(name.encode())

    def load(name: str, *_: Any, **__: Any) -> DifferenceDetector:
        try:
            return detectors[name]
        except KeyError:
            raise perception.UnknownModelError(f"no model is called {name!r}") from None

    monkeypatch.setattr(perception.registry, "load", load)
    monkeypatch.setattr(perception.registry, "_WEIGHTS", folder / "none")
    monkeypatch.setattr(
        perception.registry, "own_classes", lambda source: CLASSES if source.name == "semantic-cd" else ()
    )
    return detectors

"""A segmenter without a network: bright ground is what every phrase names, a click finds its own colour."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import perception.registry
from perception.checkpoint import FILE
from perception.phrase_encoders import checked_phrase
from perception.segmentation import Segmentation

BRIGHT = 200
"""Mean of the colours from which on ground is bright."""


@dataclass
class BrightSegmenter:
    """Remembers what it is asked for; `gate`, while cleared, holds it back."""

    asked: list[tuple[str, Any]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def segment(self, image: Any, phrase: str) -> Segmentation:
        self.asked.append(("phrase", checked_phrase(phrase)))
        mask = np.asarray(image.pixels.mean(axis=-1) >= BRIGHT)
        return self._found(image, np.zeros_like(mask) if phrase == "the desert" else mask, phrase, None)

    def segment_click(self, image: Any, points: Any, labels: Any) -> Segmentation:
        self.asked.append(("click", (list(points), list(labels))))
        column, row = (int(value) for value in points[0])
        return self._found(image, (image.pixels == image.pixels[row, column]).all(axis=-1), "click", 0.75)

    def segment_box(self, image: Any, box: Any) -> Segmentation:
        self.asked.append(("box", tuple(box)))
        left, top, right, bottom = (int(value) for value in box)
        mask = np.zeros(image.pixels.shape[:2], dtype=bool)
        mask[top:bottom, left:right] = True
        return self._found(image, mask, "box", 0.5)

    def _found(self, image: Any, mask: np.ndarray[Any, Any], asked: str, quality: float | None) -> Segmentation:
        self.gate.wait(30)
        probability = np.where(mask, 0.9, 0.1).astype(np.float32)
        return Segmentation(mask, probability, asked, quality, image.transform, image.crs, "rsrefseg")


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> BrightSegmenter:
    """Let the registry load a stand-in, and make a folder in which its weights seem to be."""
    segmenter = BrightSegmenter()
    (folder / "rsrefseg").mkdir(parents=True)
    (folder / "rsrefseg" / FILE).write_bytes(b"rsrefseg")
    monkeypatch.setattr(perception.registry, "load_segmenter", lambda *_, **__: segmenter)
    monkeypatch.setattr(perception.registry, "own_classes", lambda source: ())
    return segmenter

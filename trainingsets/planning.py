"""What a dump will take: a few items are made, measured and thrown away."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from trainingsets.folder import DROPPED, DumpFolder
from trainingsets.formats import format_of
from trainingsets.making import Maker
from trainingsets.places import scene_number
from trainingsets.records import made_item
from trainingsets.spec import DumpSpec
from trainingsets.tasks import item_of

SAMPLES = 3
"""Scenes of which an item or two is made."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the rest of a dump will take, judged by a few items.

    Attributes:
        items: that are to be made.
        seconds_first: for the first item of a scene, the mean.
        seconds_next: for a further one.
        seconds: of one worker for all items.
        bytes: of all items' files.
        measured: items that this rests on.
        kept: how many of them were kept.
    """

    items: int
    seconds_first: float
    seconds_next: float
    seconds: float
    bytes: int
    measured: int
    kept: int

    def core_hours(self) -> float:
        """Hours of one worker."""
        return self.seconds / 3600


def estimate(spec: DumpSpec, maker: Maker, made_by: dict[str, str], todo: list[int]) -> Estimate:
    """Make some items, write nothing, and reckon.

    Args:
        spec: the dump.
        maker: an open one; what it remembers afterwards does no harm.
        made_by: what its bytes depend on.
        todo: indices of the items to be made, not empty.
    """
    folder, form = DumpFolder(Path(), spec, made_by), format_of(spec.format)
    first: list[float] = []
    further: list[float] = []
    sizes: list[int] = []
    kept = 0
    step = max(1, len(todo) // SAMPLES)
    for start in todo[::step][:SAMPLES]:
        for index in (start, start + 1):
            if index >= spec.count or scene_number(spec, index) != scene_number(spec, start):
                continue
            begun = time.perf_counter()
            item = item_of(spec, index)
            record, files = made_item(maker, folder, form, item)
            (first if index == start else further).append(time.perf_counter() - begun)
            sizes.append(sum(map(len, files.values())))
            kept += not record.get(DROPPED, False)
    seconds_first = statistics.fmean(first)
    seconds_next = statistics.fmean(further) if further else seconds_first
    scenes = len({scene_number(spec, index) for index in todo})
    seconds = scenes * seconds_first + (len(todo) - scenes) * seconds_next
    return Estimate(
        len(todo),
        seconds_first,
        seconds_next,
        seconds,
        round(statistics.fmean(sizes) * len(todo)),
        len(sizes),
        kept,
    )

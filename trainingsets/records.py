"""From a sample to files and the record that says what they are.

A record, as JSON types: `index`, `key`, `split`, `scene`, `metres` (a pixel, in the middle), `label`, `views` and
`masks` by role with their `file`, `things` (class, box, polygons, run lengths, phrase), `captions`, `questions`,
`about`, `worlds` by id, and `files` with their SHA-256. Views say which `world`, which `box` (zoom, row, column,
height, width), which `bounds` (degrees) and which `date`; of pictures of any GSD and of posed views the box is their
ground, in pixels of its level. Records of a dump that keeps by scores have `scores`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from earthgen.pyramid import box_bounds
from trainingsets.folder import DROPPED, HIDDEN, DumpFolder, Record, digest
from trainingsets.sample import Sample, bbox_of, polygons_of, run_lengths
from trainingsets.sheet import PREVIEWS, preview
from trainingsets.tasks import Item, legends, task_of

if TYPE_CHECKING:
    from trainingsets.formats.base import Format
    from trainingsets.making import Maker


def make_item(maker: Maker, folder: DumpFolder, form: Format, item: Item) -> int:
    """Make an item and write it; returns the bytes of its files."""
    return folder.write_item(*made_item(maker, folder, form, item))


def made_item(maker: Maker, folder: DumpFolder, form: Format, item: Item) -> tuple[Record, dict[str, bytes]]:
    """The record of an item and its files by name; an item that is not kept has a short record and no files."""
    sample = task_of(item.spec.task).make(maker, item)
    if not item.spec.keep_if:
        return item_files(folder, form, item, sample)
    from trainingsets.scoring import is_kept, scores_of

    scores = scores_of(item, sample)
    if is_kept(item.spec, scores):
        record, files = item_files(folder, form, item, sample)
        return record | {"scores": scores}, files
    about = {"index": item.index, "key": item.key, "split": item.scene.split, "scene": item.scene.number}
    return about | {DROPPED: True, "scores": scores}, {}


def item_files(folder: DumpFolder, form: Format, item: Item, sample: Sample) -> tuple[Record, dict[str, bytes]]:
    """The record of an item and its files by name."""
    record = record_of(form, item, sample)
    known = legends(item.spec)
    files = form.files(item, record, sample, known)
    record["files"] = {name: digest(content) for name, content in sorted(files.items())}
    if form.packed:
        files = {folder.part_name(item.index): form.pack(files)}
    if item.index < PREVIEWS:
        files[f"{HIDDEN}/previews/{item.index:08d}.png"] = preview(sample, known)
    return record, files


def record_of(form: Format, item: Item, sample: Sample) -> Record:
    """What is known of an item, but for its files' digests."""
    known = legends(item.spec)
    views = {
        role: {
            "file": form.view_file(item, role, view.date),
            "world": view.world.id,
            "box": [view.box.zoom, view.box.row, view.box.column, view.box.height, view.box.width],
            "bounds": [round(value, 9) for value in box_bounds(view.box)],
            "date": view.date,
        }
        for role, view in sample.views.items()
    }
    last = list(sample.views.values())[-1]
    masks: dict[str, Any] = {}
    for role, codes in sample.masks.items():
        name = form.mask_file(item, role, last.date)
        if name is not None:
            counts = np.bincount(codes.ravel(), minlength=256)
            pixels = {part.name: int(counts[part.code]) for part in known[role]}
            masks[role] = {"file": name, "pixels": pixels}
    return {
        "index": item.index,
        "key": item.key,
        "split": item.scene.split,
        "scene": item.scene.number,
        "metres": item.metres,
        "label": sample.label,
        "views": views,
        "masks": masks,
        "things": [_thing(thing.category, thing.mask, thing.phrase, thing.before) for thing in sample.things],
        "captions": list(sample.captions),
        "questions": [
            {"kind": asked.kind, "question": asked.question, "answer": asked.answer} for asked in sample.questions
        ],
        "about": sample.about,
        "worlds": {view.world.id: view.world.to_dict() for view in sample.views.values()},
    }


def _thing(category: str, mask: Any, phrase: str, before: str) -> dict[str, Any]:
    return {
        "category": category,
        "bbox": bbox_of(mask),
        "area": int(mask.sum()),
        "polygons": polygons_of(mask),
        "rle": run_lengths(mask),
        "phrase": phrase,
        "before": before,
    }

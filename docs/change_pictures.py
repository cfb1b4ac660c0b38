"""Make docs/pictures/change-*.jpg: pairs, what changed, and what the shipped detectors find.

    python docs/change_pictures.py --pairs runs/pairs --data DIR

One sheet of real pairs and one of generated ones, all held out. A row is a pair: before, after, the truth, CDMamba,
after Semantic-CD and its classes. In maps white is found and there, red is found and not there, blue is there and
not found, grey is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image, ImageDraw, ImageFont

import perception
from datasets.changes_engine import read_engine_pairs
from datasets.changes_real import WITH_DATES, read_real_pairs
from datasets.packs import imagery_folder
from perception.registry import load_detector
from training.change import pair_of
from trainingsets.changes import CLASSES, Bytes, ChangeSample, dated, generator

CELL, GAP, HEADER = 224, 6, 24
COLUMNS = ("before", "after", "truth", "CDMamba", "after Semantic-CD", "classes after")
# Low vegetation, bare ground, tree, water, building, road.
COLOURS = np.array(
    [(20, 20, 20), (150, 210, 100), (205, 170, 115), (30, 110, 50), (60, 110, 220), (225, 70, 60), (150, 150, 150)],
    dtype=np.uint8,
)
FOUND, ALARM, MISSED, NOTHING, UNKNOWN = (255, 255, 255), (220, 60, 50), (60, 110, 230), (20, 20, 20), (90, 90, 90)


def change_map(mask: npt.NDArray[np.bool_], sample: ChangeSample) -> Bytes:
    """A detector's mask against the truth, as colours (h, w, 3)."""
    shown = np.empty((*mask.shape, 3), dtype=np.uint8)
    shown[:] = NOTHING
    shown[mask & sample.change] = FOUND
    shown[mask & ~sample.change] = ALARM
    shown[~mask & sample.change] = MISSED
    shown[~sample.known] = UNKNOWN
    return shown


def sheet(samples: Sequence[ChangeSample], detectors: Sequence[perception.ChangeDetector]) -> Image.Image:
    """Rows of pairs and maps under a header, a legend of classes below."""
    width = len(COLUMNS) * (CELL + GAP) - GAP
    out = Image.new("RGB", (width, HEADER + len(samples) * (CELL + GAP) + HEADER), "white")
    draw, font = ImageDraw.Draw(out), ImageFont.load_default(14)
    for column, title in enumerate(COLUMNS):
        draw.text((column * (CELL + GAP) + 4, 4), title, fill="black", font=font)
    for row, sample in enumerate(samples):
        found = [detector.detect(pair_of(sample)) for detector in detectors]
        labels = found[-1].labels
        assert labels is not None
        cells = [
            sample.before,
            sample.after,
            change_map(sample.change, sample),
            *(change_map(one.mask, sample) for one in found),
            COLOURS[labels[1]],
        ]
        for column, pixels in enumerate(cells):
            photograph = column < 2
            how = Image.Resampling.LANCZOS if photograph else Image.Resampling.NEAREST
            cell = Image.fromarray(pixels).resize((CELL, CELL), how)
            out.paste(cell, (column * (CELL + GAP), HEADER + row * (CELL + GAP)))
    x, y = 4, out.height - HEADER + 4
    for name, colour in zip(("unchanged", *CLASSES), COLOURS.tolist(), strict=True):
        draw.rectangle((x, y, x + 14, y + 14), fill=tuple(colour))
        draw.text((x + 20, y - 1), name, fill="black", font=font)
        x += 32 + int(draw.textlength(name, font=font))
    return out


def main(
    pairs: Annotated[Path, typer.Option(metavar="DIR", help="the engine's pairs")],
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="holds labels/; default $EARTHGEN_DATA")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR")] = Path(__file__).parent / "pictures",
    rows: Annotated[int, typer.Option(min=1)] = 4,
) -> None:
    """Make the sheets. Example: python docs/change_pictures.py --pairs runs/pairs."""
    labels = imagery_folder(data).parent / "labels"
    detectors = [load_detector("cdmamba"), load_detector("semantic-cd")]
    # As they come, but with enough change to see something.
    real = [one for one in read_real_pairs(labels, "val", composed=8) if 0.02 < one.change.mean() < 0.5]
    chosen = [one for one in real if one.source == "joplin"][:: max(1, 25 // (rows - 1))][: rows - 1]
    chosen += [one for one in real if one.source == "dubai"][:1]
    engine = [one for one in read_engine_pairs(pairs, "val") if one.change.mean() > 0.03][:rows]
    for name, samples in (("change-real", chosen), ("change-generated", engine)):
        shown = [
            one if one.source in WITH_DATES else dated(one, generator(7, index)) for index, one in enumerate(samples)
        ]
        sheet(shown, detectors).save(out / f"{name}.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    typer.run(main)

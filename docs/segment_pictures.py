"""Make docs/pictures/segment.jpg: held-out pictures, phrases about them, and what the shipped RSRefSeg finds.

    python docs/segment_pictures.py --pairs runs/pairs --data DIR

Scenes and phrases are drawn from a seed, spread over the sets, and not chosen by what comes out.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from datasets.packs import imagery_folder
from datasets.referring import Phrase, Scene, phrases_of
from datasets.referring_sets import held_out_scenes, read_grounds
from perception.registry import load_segmenter
from perception.segmentation import COLOUR
from trainingsets.changes import generator

CELL, GAP, TEXT = 232, 6, 34
ASKED = (255, 220, 40)
ROWS = ("engine", "engine", "dubai", "kampala", "chesapeake")
COLUMNS = 4
_SEED = 20260401


def scenes_of(source: str, pairs: Path, labels: Path, skip: int) -> list[tuple[Scene, list[Phrase]]]:
    """Scenes with two or more phrases, spread over a set."""
    grounds = (ground for ground in read_grounds("val", pairs, labels) if ground.source == source)
    found = []
    for number, scene in enumerate(held_out_scenes(grounds)):
        phrases = [one for one in phrases_of(scene, generator(_SEED, number), 8) if one.sort != "absent"]
        if len(phrases) >= 2:
            found.append((scene, phrases))
    every = max(1, len(found) // (2 * COLUMNS))
    return found[skip * COLUMNS * every :: every][:COLUMNS]


def shown(pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> Image.Image:
    """A picture with what was found and the outline of the truth."""
    out = pixels.astype(np.float64)
    out[mask] = 0.45 * out[mask] + 0.55 * np.array(COLOUR)
    out[ndimage.binary_dilation(true) ^ ndimage.binary_erosion(true)] = ASKED
    return Image.fromarray(out.astype(np.uint8)).resize((CELL, CELL), Image.Resampling.LANCZOS)


def main(
    pairs: Annotated[Path, typer.Option(metavar="DIR", help="the engine's pairs")],
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="holds labels/; default $EARTHGEN_DATA")] = None,
    weights: Annotated[Path | None, typer.Option(metavar="DIR", help="default: the ones that ship")] = None,
    out: Annotated[Path, typer.Option(metavar="FILE")] = Path("docs/pictures/segment.jpg"),
) -> None:
    """Draw the sheet. Example: python docs/segment_pictures.py --pairs runs/pairs."""
    segmenter = load_segmenter("rsrefseg", weights)
    labels = imagery_folder(data).parent / "labels"
    height = CELL + TEXT
    sheet = Image.new("RGB", (COLUMNS * (CELL + GAP) - GAP, len(ROWS) * (height + GAP) - GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, source in enumerate(ROWS):
        for column, (scene, phrases) in enumerate(scenes_of(source, pairs, labels, ROWS[:row].count(source))):
            phrase = phrases[column % 2]
            mask = segmenter.segment(scene.pixels, phrase.text).mask
            iou = (mask & phrase.mask & phrase.known).sum() / max(1, ((mask | phrase.mask) & phrase.known).sum())
            left, top = column * (CELL + GAP), row * (height + GAP)
            sheet.paste(shown(scene.pixels, mask, phrase.mask), (left, top))
            text = textwrap.fill(f"{phrase.text} ({100 * iou:.0f} %)", 34, max_lines=2)
            pen.text((left + 2, top + CELL + 1), text, fill="black", font=font, spacing=1)
    sheet.save(out, quality=85)


if __name__ == "__main__":
    typer.run(main)
